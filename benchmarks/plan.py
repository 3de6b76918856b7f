"""Processor time that it takes to read and expand a grid of a hundred thousand trials, and to put them in order.

The others give the same combinations as dictionaries: without names, ids, rules or an order, and from no file.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import environment, version
from sweep import catalog, grid, schedule

AXES = {
    "framework": ["torch==2.13.0", "torch==1.0.1", "chainer==7.8.1", "chainer==1.24.0"],
    "backward": ["autograd", "explicit"],
    "batch_exponent": list(range(10)),
    "samples": list(range(1, 26)),
    "seed": list(range(5)),
}
RULES = "exclude: [{framework: torch, batch_exponent: 9}, {threads: 3, samples: 7}]"


def figures(quick: bool) -> Iterator[Figure]:
    axes = AXES | {"threads": list(range(1, 2 if quick else 11))}
    frameworks, workloads = catalog.frameworks(), catalog.workloads()
    text = f"name: large\naxes: {json.dumps(axes)}\n{RULES}\n"
    before, clock = peers.peak_rss_bytes(), time.process_time()
    expansion = grid.expand(grid.parse(text), frameworks, workloads)
    planned = schedule.plan(expansion.trials)
    seconds, held = time.process_time() - clock, peers.peak_rss_bytes() - before
    what = "reading, expanding and ordering a large grid"
    yield Figure(what, OURS, seconds, note=f"{len(planned):,} trials, {len(expansion.exclusions):,} rules' exclusions")
    yield target(what, 5.0)
    clock = time.process_time()
    count = sum(1 for values in itertools.product(*axes.values()) if dict(zip(axes, values, strict=True)))
    yield Figure(what, "itertools.product", time.process_time() - clock, note=f"{count:,} combinations")
    tune, hydra = environment("ray[tune]==2.60.0"), environment("hydra-core", "hydra-joblib-launcher")
    for python, package, script, said in (
        (tune, "ray", "tune_variants", "Tune, the variants of a grid search"),
        (hydra, "hydra-core", "hydra_product", "the jobs of a multirun"),
    ):
        found = json.loads(peers.run([python, f"{peers.HERE}/tools/{script}.py", json.dumps(axes)]).output)
        yield Figure(what, f"{version(python, package)}, {said}", found["seconds"], note=f"{found['count']:,} of them")
    yield Figure("memory for it", OURS, held, "B")
    yield target("memory for it", 300 * 2**20, "B")
