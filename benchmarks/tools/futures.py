"""`concurrent.futures` with a fresh process for every call."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.machinery import SourceFileLoader


def one(arguments):
    trial, module = arguments
    return SourceFileLoader("trial", trial).load_module().work(module)


if __name__ == "__main__":
    count, module, trial = int(sys.argv[1]), sys.argv[2], sys.argv[4]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as pool:
        assert len(list(pool.map(one, [(trial, module)] * count))) == count
