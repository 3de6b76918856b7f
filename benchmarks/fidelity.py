"""Whether sweep times what a hand-written loop times: the ratio of their times, per framework and batch size.

Loops and steps by hand are in `benchmarks/plain`. *In turns*, what a trial calls, a loop by hand around the same step,
and one around a step by hand take a few steps each in one process, round by round in an order that changes: what others
do on this machine hits all alike. The first two tell what timing adds or leaves out; the third has arrays of its own,
and how they come to lie in memory is worth some per cent. For all a step ends when its gradients are there, before its
graph is let go, which takes half a per cent of it. There the C library keeps the memory that it is given back: taking
it anew from the kernel makes single steps up to a quarter slower, by luck. *Whole*: a trial, and a script with the
loop, each in a fresh process of the same environment, on the same cores, with as many threads, in an order that
changes. Every process gives one ratio, the median of its rounds; intervals (95 %) are over processes.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import HOUSE, as_a_trial, framework_python
from sweep import catalog, datasets, grid
from sweep.analysis.statistics import Interval, paired_ratio
from sweep.grid import Trial
from sweep.node import machine
from sweep.node.worker import RunTrial

FRAMEWORKS = ("torch==2.13.0", "chainer==7.8.1")
IN_TURNS = {0: (8, 6, 3), 3: (6, 5, 2), 5: (4, 4, 1)}  # batch exponent: processes, rounds in each, samples in each
WHOLE = {0: (6, 20)}  # batch exponent: processes of each, samples
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}  # of glibc
PLAIN = Path(__file__).with_name("plain")
GRID = """
name: fidelity
axes: {{framework: [{framework}], device: [cpu], batch_exponent: [{exponent}], seed: [0]}}
parameters: {{samples: {samples}, warmup: 3, threads: {cores}}}
resources: {{cpu: {cores}}}
"""

Processes = list[list[float]]  # of each process, of each of its rounds: the median of its samples in seconds


def figures(quick: bool) -> Iterator[Figure]:
    for framework in FRAMEWORKS:
        for exponent, (processes, rounds, samples) in list(IN_TURNS.items())[: 2 if quick else None]:
            found = in_turns(framework, exponent, (3, 3, samples) if quick else (processes, rounds, samples))
            what = f"{step(framework, exponent)}, in turns"
            others = {"a loop by hand around it": found["loop"], "loop and step by hand": found["by hand"]}
            yield from compared(what, found["sweep"], others)
            yield from apart(f"{what}: how far apart they may be", found["sweep"], found["loop"])
        for exponent, (processes, samples) in WHOLE.items():
            trials, scripts = whole(framework, exponent, 3 if quick else processes, samples)
            yield from compared(f"{step(framework, exponent)}, whole", trials, {"a script with such a loop": scripts})


def step(framework: str, exponent: int) -> str:
    return f"a step of {2**exponent} images, {framework.replace('==', ' ')}"


def compared(what: str, ours: Processes, others: dict[str, Processes]) -> Iterator[Figure]:
    """The medians of each over all processes, and each one's ratio to ours."""
    yield Figure(what, OURS, middle(ours), note=f"{len(ours)} processes, {sum(map(len, ours))} rounds")
    for who, theirs in others.items():
        ratio = _ratio(ours, theirs)
        told = f"{ratio.estimate:.4f} × [{ratio.low:.4f}, {ratio.high:.4f}]"
        yield Figure(what, who, middle(theirs), note=told)


def apart(what: str, ours: Processes, theirs: Processes) -> Iterator[Figure]:
    """By the end of the ratio's interval that is further from 1."""
    ratio = _ratio(ours, theirs)
    yield Figure(what, OURS, max(abs(ratio.low - 1), abs(ratio.high - 1)), "share")
    yield target(what, 0.01, "share")


def _ratio(ours: Processes, theirs: Processes) -> Interval:
    """Of theirs to ours: of every process, or pair of them, the median over its rounds."""
    pairs = zip(theirs, ours, strict=True)
    ratios = [statistics.median(a / b for a, b in zip(one, other, strict=True)) for one, other in pairs]
    found = paired_ratio(ratios, [1.0] * len(ratios)).interval()
    assert found is not None, "an interval takes three processes"
    return found


def middle(processes: Processes) -> float:
    """The median over processes of the median over each one's rounds."""
    return statistics.median(statistics.median(rounds) for rounds in processes)


def in_turns(framework: str, exponent: int, effort: tuple[int, int, int], timer: bool = False) -> dict[str, Processes]:
    """What `plain/turns.py` found: of `sweep`, of the `loop`, and of torch's `timer` where it takes part.

    `effort` is how many processes, rounds in each, and samples in each of those.
    """
    processes, rounds, samples = effort
    asked = {"house": str(HOUSE), "data": str(datasets.prepare("synthetic").folder), "timer": timer}
    asked |= {"framework": framework.partition("==")[0], "batch_exponent": exponent, "threads": _cores()}
    found: dict[str, Processes] = {}
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "asked.json")
        listed.write_text(json.dumps(asked | {"rounds": rounds, "samples": samples}))
        command: Sequence[str | Path] = [framework_python(framework), "-I", "-B", PLAIN / "turns.py", listed]
        for _ in range(processes):
            for who, times in json.loads(as_a_trial(command, more=KEPT)).items():
                found.setdefault(who, []).append(list(map(statistics.median, times)))
    return found


def whole(framework: str, exponent: int, processes: int, samples: int) -> tuple[Processes, Processes]:
    """Of trials, and of scripts, which take turns."""
    trial = the_trial(framework, exponent, samples)
    return alternately(processes, lambda: by_sweep(trial), lambda: by_hand(framework, exponent, samples))


def alternately(
    processes: int, ours: Callable[[], list[float]], theirs: Callable[[], list[float]]
) -> tuple[Processes, Processes]:
    """The medians of two that run in processes of their own, in an order that changes."""
    ways = (ours, theirs)
    found: tuple[Processes, Processes] = ([], [])
    for _ in range(processes):
        for which in random.sample((0, 1), 2):
            found[which].append([statistics.median(ways[which]())])
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
