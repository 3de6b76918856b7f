"""Benchmark: the trial that every tool runs.

It does nothing with NumPy, and takes one small step with torch. Tools that start an interpreter for
every trial run the script `trial.py numpy|torch`.
"""

import importlib
import sys
import time

PARAMETERS = {"threads": 1, "process": "fork"}
WIDTH = 64


def run(_framework, settings, _data, _reference, _report):
    """Time the trial's own work, in the framework that its host has imported."""
    module = "torch" if settings["framework"].startswith("torch") else "numpy"
    return {"step_s": [work(module)]}


def work(module):
    """Import the framework, do the work, and return the seconds of the work alone."""
    framework = importlib.import_module(module)
    start = time.perf_counter()
    if module == "torch":
        weights = framework.ones(WIDTH, WIDTH, requires_grad=True)
        framework.ones(WIDTH, WIDTH).mm(weights).relu().sum().backward()  # (WIDTH, WIDTH) -> ()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(work(sys.argv[1]))
