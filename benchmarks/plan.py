"""Processor time to read, expand and order a grid of a hundred thousand trials.

The other tools produce the same combinations as dictionaries, without names, ids, rules or an
order, and from no file.
"""

from __future__ import annotations

import itertools
import json
import sys
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
    what = "reading, expanding and ordering a large grid"
    script = "import sys; from benchmarks import plan; plan.planned(sys.argv[1])"
    ours = json.loads(
        peers.run([sys.executable, "-c", script, json.dumps(axes)], peers.HOUSE).output
    )
    yield Figure(
        what,
        OURS,
        ours["seconds"],
        note=f"{ours['trials']:,} trials; {ours['exclusions']:,} exclusions",
    )
    yield target(what, 5.0)
    clock = time.process_time()
    count = sum(
        1 for values in itertools.product(*axes.values()) if dict(zip(axes, values, strict=True))
    )
    yield Figure(
        what, "itertools.product", time.process_time() - clock, note=f"{count:,} combinations"
    )
    tune, hydra = (
        environment("ray[tune]==2.60.0"),
        environment("hydra-core", "hydra-joblib-launcher"),
    )
    for python, package, script, said in (
        (tune, "ray", "tune_variants", "Tune, the variants of a grid search"),
        (hydra, "hydra-core", "hydra_product", "the jobs of a multirun"),
    ):
        found = json.loads(
            peers.run([python, f"{peers.HERE}/tools/{script}.py", json.dumps(axes)]).output
        )
        yield Figure(
            what,
            f"{version(python, package)}, {said}",
            found["seconds"],
            note=f"{found['count']:,} of them",
        )
    yield Figure("memory for it", OURS, ours["held_bytes"], "B")
    yield target("memory for it", 300 * 2**20, "B")


def planned(axes: str) -> None:
    """Plan in this process and print the cost as JSON."""
    frameworks, workloads = catalog.frameworks(), catalog.workloads()
    before, clock = peers.peak_rss_bytes(), time.process_time()
    expansion = grid.expand(
        grid.parse(f"name: large\naxes: {axes}\n{RULES}\n"), frameworks, workloads
    )
    trials = len(schedule.plan(expansion.trials))
    cost = {"seconds": time.process_time() - clock, "held_bytes": peers.peak_rss_bytes() - before}
    print(json.dumps(cost | {"trials": trials, "exclusions": len(expansion.exclusions)}))
