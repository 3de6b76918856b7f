"""Processor time and memory that it takes to read, expand and plan a grid of a hundred thousand trials."""

from __future__ import annotations

import argparse
import resource
import time

from sweep import catalog, grid, schedule

GRID = """
name: large
axes:
  framework: [torch==2.13.0, torch==1.0.1, chainer==7.8.1, chainer==1.24.0]
  backward: [autograd, explicit]
  batch_exponent: {{range: [0, 9]}}
  threads: {{range: [1, {threads}]}}
  samples: {{range: [1, 25]}}
  seed: {{range: [1, {seeds}]}}
exclude: [{{framework: torch, batch_exponent: 9}}, {{threads: 3, samples: 7}}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    frameworks, workloads = catalog.frameworks(), catalog.workloads()
    before, clock = _peak_mb(), time.process_time()
    read = grid.parse(GRID.format(threads=given.threads, seeds=given.seeds))
    expansion = grid.expand(read, frameworks, workloads)
    expanded_s = time.process_time() - clock
    planned = schedule.plan(expansion.trials)
    planned_s = time.process_time() - clock - expanded_s
    print(f"{len(expansion.cells):,} cells, {len(planned):,} trials planned, {len(expansion.exclusions):,} excluded")
    print(f"read and expanded in {expanded_s:.2f} s, planned in {planned_s:.2f} s of processor time")
    print(f"{_peak_mb():.0f} MB at most, {_peak_mb() - before:.0f} MB of it for the grid")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
