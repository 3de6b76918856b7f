"""Proven: a workload whose parity is checked in a process of its own, which is noted each time."""

import ctypes
import os

from workloads.runtime.refusals import NotComparable

PARAMETERS = {"note": "", "trouble": "none", "samples": 1, "process": "fork", "threads": None}

PARITY_IGNORES = ("samples", "batch_exponent")


def run(framework, settings, data, reference, report):
    """Returns what it was given."""
    return {"step_s": [0.01], "proof": report.parity, "trial_pid": os.getpid()}


def parity(framework, settings, data, reference):
    """Goes wrong as it is asked to."""
    with open(settings["note"], "a") as file:
        file.write("{}\n".format(sorted(settings)))
    if settings["trouble"] == "differs":
        raise NotComparable("loss is 3, the reference's 2")
    if settings["trouble"] == "crashes":
        ctypes.string_at(0)
    return {"loss_check": 1e-7, "parity_pid": os.getpid()}
