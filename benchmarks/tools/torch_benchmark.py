"""torch.utils.benchmark's timer around a step: `torch_benchmark.py BATCH SAMPLES THREADS` prints seconds as JSON."""

import json
import sys
from pathlib import Path

from torch.utils.benchmark import Timer

sys.path.insert(0, str(Path(__file__).parent))
from torch_step import step

batch, samples, threads = map(int, sys.argv[1:])
timer = Timer("take()", globals={"take": step(batch)}, num_threads=threads)
timer.timeit(3)
print(json.dumps([timer.timeit(1).median for _ in range(samples)]))
