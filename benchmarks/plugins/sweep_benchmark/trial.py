"""Benchmark: the trial that every tool runs: with NumPy nothing at all, with torch one small step.

As a script, `trial.py numpy|torch`, it is what tools run that start an interpreter for every trial.
"""

import importlib
import sys
import time

PARAMETERS = {"threads": 1, "process": "fork"}
WIDTH = 64


def run(_framework, settings, _data, _reference, _report):
    """Times the trial's own work, in the framework that its host has imported."""
    module = "torch" if settings["framework"].startswith("torch") else "numpy"
    return {"step_s": [work(module)]}


def work(module):
    """Import the framework, do what the trial does, and give the seconds that took without the import."""
    framework = importlib.import_module(module)
    start = time.perf_counter()
    if module == "torch":
        weights = framework.ones(WIDTH, WIDTH, requires_grad=True)
        framework.ones(WIDTH, WIDTH).mm(weights).relu().sum().backward()  # (WIDTH, WIDTH) -> ()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(work(sys.argv[1]))
