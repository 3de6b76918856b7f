"""torch.utils.benchmark's timer around a step: `torch_benchmark.py BATCH SAMPLES THREADS` prints seconds as JSON."""

import json
import sys
from pathlib import Path

from torch.utils.benchmark import Timer

sys.path.insert(0, str(Path(__file__).parent))
from torch_step import step

batch, samples, threads = map(int, sys.argv[1:])
clear, take = step(batch)
timer = Timer("take()", setup="clear()", globals={"clear": clear, "take": take}, num_threads=threads)
for _ in range(3):
    timer.timeit(1)
print(json.dumps([timer.timeit(1).median for _ in range(samples)]))
