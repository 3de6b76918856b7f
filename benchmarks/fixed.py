"""What a trial of AlexNet costs above its own samples, and where that goes.

*A trial* is its wall time without all its samples, warm-up included. Environment, host, weights,
reference values and the parity check are there, as in all trials of a grid but the first of a seed.
*Parts* are the same calls in a process forked from one that has the framework. The parts leave out
the clearing of gradients between samples, fork and end of the process, leases and messages. *Once*
is what the first trial of a seed pays in addition.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import HOUSE, as_a_trial, framework_python
from sweep import catalog, datasets, grid, homes
from sweep.grid import Trial
from sweep.node import machine
from sweep.node.worker import RunTrial

MOST_S = {"torch==2.13.0": 0.25, "chainer==7.8.1": 0.4}
PARTS = Path(__file__).with_name("plain") / "parts.py"
GRID = """
name: fixed
axes: {{framework: [{framework}], device: [cpu], batch_exponent: [0], seed: [0]}}
parameters: {{samples: 3, warmup: 1, threads: {cores}}}
"""


def figures(quick: bool) -> Iterator[Figure]:
    for framework, most_s in MOST_S.items():
        yield from measured(framework, most_s, 3 if quick else 15)


def measured(framework: str, most_s: float, count: int) -> Iterator[Figure]:
    text = GRID.format(framework=framework, cores=len(machine.usable_cores()))
    (trial,) = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials
    fixed_s(trial)  # environments, hosts, weights and the proof of parity
    each = [fixed_s(trial) for _ in range(count)]
    what = f"a trial of one image, {framework.replace('==', ' ')}, above its samples"
    note = f"least {min(each) * 1e3:.0f} ms of {count}"
    yield Figure(what, OURS, statistics.median(each), note=note)
    yield target(what, most_s)
    for part, seconds in parts(framework, trial, count).items():
        yield Figure(f"{what}: {part}", OURS, statistics.median(seconds))


def fixed_s(trial: Trial) -> float:
    """Wall time of a trial less that of its samples, and less what it waited for its cores."""
    record = RunTrial(max_contention=None, steal_most=None)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    samples_s = sum(record["warmup_s"]) + sum(record["step_s"])
    return float(record["wall_s"] - record["waited_s"] - samples_s)


def parts(framework: str, trial: Trial, count: int) -> dict[str, list[float]]:
    """Seconds of each part, in `count` processes."""
    asked: dict[str, Any] = {
        "house": str(HOUSE),
        "data": str(datasets.prepare("synthetic").folder),
        "weights": str(homes.cache("weights")),
        "framework": framework.partition("==")[0],
        "settings": dict(trial.settings),
        "count": count,
    }
    command = [framework_python(framework), PARTS, json.dumps(asked)]
    found: dict[str, list[float]] = json.loads(as_a_trial(command))
    return found
