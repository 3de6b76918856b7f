"""Whether sweep times what a hand-written loop times: the ratio of their medians, per framework and batch size.

Loop and steps by hand are in `benchmarks/plain`. *In one process*, what a trial calls and the loop take a few steps
each, round by round in an order that changes: what others do on this machine hits both alike, and neither memory nor
cores differ. *Whole*: a trial, and a script with the loop, each in a fresh process of the same environment, on the same
cores, with as many threads, round by round in an order that changes; processes differ more than what is asked for
here. Told is the median over rounds of their ratio; its 95 % interval comes from drawing rounds with replacement,
since now and then others take the cores for a whole round.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import OURS, Figure, median_ratio, target
from benchmarks.peers import HOUSE, as_a_trial, framework_python
from sweep import catalog, datasets, grid
from sweep.grid import Trial
from sweep.node import machine
from sweep.node.worker import RunTrial

FRAMEWORKS = ("torch==2.13.0", "chainer==7.8.1")
IN_ONE = {0: (80, 3), 3: (60, 2), 5: (12, 1)}  # batch exponent: rounds, samples in each
WHOLE = {0: (8, 20), 3: (6, 10)}
PLAIN = Path(__file__).with_name("plain")
GRID = """
name: fidelity
axes: {{framework: [{framework}], device: [cpu], batch_exponent: [{exponent}], seed: [0]}}
parameters: {{samples: {samples}, warmup: 3, threads: {cores}}}
resources: {{cpu: {cores}}}
"""

Rounds = list[list[float]]  # seconds of each sample


def figures(quick: bool) -> Iterator[Figure]:
    for framework in FRAMEWORKS:
        for exponent, (rounds, samples) in list(IN_ONE.items())[: 2 if quick else None]:
            what, by_hand = f"{step(framework, exponent)}, in one process", "a loop by hand"
            found = in_turns(framework, exponent, 6 if quick else rounds, samples)
            yield from compared(what, found["sweep"], {by_hand: found["loop"]})
            yield from apart(f"{what}: how far apart they may be", found["sweep"], found["loop"])
        for exponent, (rounds, samples) in WHOLE.items():
            trials, scripts = whole(framework, exponent, 3 if quick else rounds, samples)
            yield from compared(f"{step(framework, exponent)}, whole", trials, {"a script with such a loop": scripts})


def step(framework: str, exponent: int) -> str:
    return f"a step of {2**exponent} images, {framework.replace('==', ' ')}"


def compared(what: str, ours: Rounds, others: dict[str, Rounds]) -> Iterator[Figure]:
    """The medians of each over all rounds, and what the rounds say of each one's ratio to ours."""
    yield Figure(what, OURS, _median(ours), note=f"{len(ours)} rounds of {len(ours[0])}")
    for who, theirs in others.items():
        ratio = median_ratio(_medians(theirs), _medians(ours))
        told = f"{ratio.estimate:.4f} × [{ratio.low:.4f}, {ratio.high:.4f}]"
        yield Figure(what, who, _median(theirs), note=told)


def apart(what: str, ours: Rounds, theirs: Rounds) -> Iterator[Figure]:
    """By the end of the ratio's interval that is further from 1."""
    ratio = median_ratio(_medians(theirs), _medians(ours))
    yield Figure(what, OURS, max(abs(ratio.low - 1), abs(ratio.high - 1)), "share")
    yield target(what, 0.01, "share")


def _medians(rounds: Rounds) -> list[float]:
    return [statistics.median(times) for times in rounds]


def _median(rounds: Rounds) -> float:
    return statistics.median(_medians(rounds))


def in_turns(framework: str, exponent: int, rounds: int, samples: int, timer: bool = False) -> dict[str, Rounds]:
    """What `plain/turns.py` found: of `sweep`, of the `loop`, and of torch's `timer` where it takes part."""
    asked = {"house": str(HOUSE), "data": str(datasets.prepare("synthetic").folder), "timer": timer}
    asked |= {"framework": framework.partition("==")[0], "batch_exponent": exponent, "threads": _cores()}
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "asked.json")
        listed.write_text(json.dumps(asked | {"rounds": rounds, "samples": samples}))
        return dict(json.loads(as_a_trial([framework_python(framework), "-I", "-B", PLAIN / "turns.py", listed])))


def whole(framework: str, exponent: int, rounds: int, samples: int) -> tuple[Rounds, Rounds]:
    """Of trials, and of scripts, which take turns."""
    trial = the_trial(framework, exponent, samples)
    found: tuple[Rounds, Rounds] = ([], [])
    for _ in range(rounds):
        for which in random.sample((0, 1), 2):
            found[which].append(by_hand(framework, exponent, samples) if which else by_sweep(trial))
    return found


def the_trial(framework: str, exponent: int, samples: int) -> Trial:
    text = GRID.format(framework=framework, exponent=exponent, samples=samples, cores=_cores())
    return grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials[0]


def by_sweep(trial: Trial) -> list[float]:
    record = RunTrial(foreign_most=None, steal_most=None)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    return list(record["step_s"])


def by_hand(framework: str, exponent: int, samples: int) -> list[float]:
    """The loop's times, with the variables that a trial gets."""
    name = framework.partition("==")[0]
    command: Sequence[str | Path] = [framework_python(framework), "-I", "-B", PLAIN / "loop.py", name]
    return list(json.loads(as_a_trial([*command, str(2**exponent), str(samples)])))


def _cores() -> int:
    return len(machine.usable_cores())
