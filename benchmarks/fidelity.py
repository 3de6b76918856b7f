"""Whether sweep times what a hand-written loop times: the ratio of their medians, per framework and batch size.

The loops are in `benchmarks/plain`. Trial and loop run in the same environment, on the same cores, with as many
threads, each in a fresh process, one after the other, in an order that changes from round to round: what others do on
this machine hits both alike. The ratio is that of the rounds' medians, with its interval over rounds.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import OURS, Figure
from benchmarks.peers import as_a_trial
from sweep import catalog, environments, grid
from sweep.analysis.statistics import paired_ratio
from sweep.grid import Trial
from sweep.node import machine
from sweep.node.worker import RunTrial, specification

FRAMEWORKS = ("torch==2.13.0", "chainer==7.8.1")
SIZES = {0: (15, 20), 3: (8, 10), 5: (4, 5)}  # batch exponent: rounds, samples in each
PLAIN = Path(__file__).with_name("plain")
GRID = """
name: fidelity
axes: {{framework: [{framework}], device: [cpu], batch_exponent: [{exponent}], seed: [0]}}
parameters: {{samples: {samples}, warmup: 3, threads: {cores}}}
resources: {{cpu: {cores}}}
"""


def figures(quick: bool) -> Iterator[Figure]:
    for framework in FRAMEWORKS:
        for exponent, (rounds, samples) in list(SIZES.items())[: 2 if quick else None]:
            yield from compared(framework, exponent, 3 if quick else rounds, samples)


def compared(framework: str, exponent: int, rounds: int, samples: int) -> Iterator[Figure]:
    """The medians of both over all rounds, and what the rounds say of their ratio."""
    trial = the_trial(framework, exponent, samples)
    arms = {"trial": lambda: by_sweep(trial), "loop": lambda: by_hand(framework, 2**exponent, samples)}
    medians: dict[str, list[float]] = {"trial": [], "loop": []}
    for _ in range(rounds):
        for name in random.sample(sorted(arms), 2):
            medians[name].append(statistics.median(arms[name]()))
    what = f"a step of {2**exponent} images, {framework.replace('==', ' ')}"
    ratio = paired_ratio(medians["loop"], medians["trial"]).interval()
    assert ratio is not None, "an interval takes three rounds"
    found = f"{ratio.estimate:.3f} × [{ratio.low:.3f}, {ratio.high:.3f}] over {rounds} rounds"
    yield Figure(what, OURS, statistics.median(medians["trial"]))
    yield Figure(what, "a loop by hand", statistics.median(medians["loop"]), note=found)


def the_trial(framework: str, exponent: int, samples: int) -> Trial:
    cores = len(machine.usable_cores())
    text = GRID.format(framework=framework, exponent=exponent, samples=samples, cores=cores)
    return grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials[0]


def by_sweep(trial: Trial) -> list[float]:
    record = RunTrial(foreign_most=None, steal_most=None)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    return list(record["step_s"])


def by_hand(framework: str, batch: int, samples: int) -> list[float]:
    """The loop's times, with the variables that a trial gets."""
    environment = environments.prepare(specification(framework, "cpu", "default", {}))
    script = PLAIN / f"{framework.partition('==')[0]}_loop.py"
    return list(json.loads(as_a_trial([environment.python, "-I", script, str(batch), str(samples)])))
