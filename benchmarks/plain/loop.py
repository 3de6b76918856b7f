"""A hand-written loop around a step.

`python loop.py FRAMEWORK BATCH SAMPLES` prints seconds as JSON.
"""

import gc
import importlib
import json
import sys
import time
from pathlib import Path

WARMUP = 3


def times(clear, take, samples, warmup=WARMUP):
    """Return the seconds of steps after a warm-up, with the garbage collector off."""
    found = []
    gc.collect()
    gc.disable()
    for _ in range(warmup + samples):
        clear()
        start = time.perf_counter()
        loss = take()
        found.append(time.perf_counter() - start)
        del loss
    gc.enable()
    return found[warmup:]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    clear, take = importlib.import_module(sys.argv[1] + "_step").step(int(sys.argv[2]))
    print(json.dumps(times(clear, take, int(sys.argv[3]))))
