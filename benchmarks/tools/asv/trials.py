"""The benchmark for asv: each value of its parameter is a trial, in a process of its own."""

import importlib
import os
from importlib.machinery import SourceFileLoader

TRIAL = SourceFileLoader("trial", os.environ["TRIAL"]).load_module()
MODULE = os.environ["TRIAL_MODULE"]
importlib.import_module(MODULE)  # where asv's fork server does so once


class Trials:
    params = tuple(range(int(os.environ["TRIAL_COUNT"])))
    number, repeat, rounds, warmup_time, min_run_count = 1, 1, 1, 0, 1

    def time_trial(self, _seed):
        TRIAL.work(MODULE)
