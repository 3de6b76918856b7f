"""Whether sweep times what a hand-written loop times: ratios by framework and batch size.

The hand-written loops and steps are in `benchmarks/plain`.

*In turns*: the code that a trial calls and a hand-written loop take one step each in one process,
round by round, in an order that changes, so that other load on the machine affects both alike.
If both share the step with its arrays, the ratio shows what timing adds or leaves out. Then every
round is a pair, and processes are added until the 95 % interval is within half a per cent. A
hand-written step has arrays of its own, whose location in memory changes its time by some per
cent. Then every process is one pair, the median of its rounds. A step ends when its gradients are
ready, before its graph is released, which takes half a per cent of a step. The C library is set
to keep freed memory, since single steps that fetch memory from the kernel are up to a quarter
slower at random.

*Whole*: a trial, and a script with the loop, each in a fresh process of the same environment, on
the same cores, with the same number of threads, in an order that changes. Every process is one
pair.

*The timer*: a sample of a step that does nothing.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.stats import mstats

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import HOUSE, as_a_trial, framework_python
from sweep import catalog, datasets, grid
from sweep.analysis.statistics import Interval, paired_ratio
from sweep.grid import Trial
from sweep.node import machine
from sweep.node.worker import RunTrial

FRAMEWORKS = ("torch==2.13.0", "chainer==7.8.1")
TRIMMED = 0.2  # of the rounds, at either end: those in which others took a core
NARROW = 0.005  # of an interval of the same step, to either side
SAME = {
    0: (120, 10),
    3: (40, 9),
    5: (15, 8),
}  # batch exponent: rounds in a process; at most so many processes
OWN = {0: (20, 6), 3: (10, 5), 5: (4, 4)}  # where the loop has a step by hand: so many processes
WHOLE = {0: (6, 20)}  # batch exponent: processes of each, samples
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}  # of glibc
PLAIN = Path(__file__).with_name("plain")
GRID = """
name: fidelity
axes: {{framework: [{framework}], device: [cpu], batch_exponent: [{exponent}], seed: [0]}}
parameters: {{samples: {samples}, warmup: 3, threads: {cores}}}
resources: {{cpu: {cores}}}
"""

TIMER = """
import statistics, sys
sys.path.insert(0, sys.argv[1])
from workloads.runtime import timing
nothing = lambda *_: None
found = timing.measure(nothing, nothing, nothing, nothing, samples=100000, warmup=1000)
print(statistics.median(found["step_s"]))
"""

Processes = list[list[float]]  # of each process, of each of its rounds: the step in seconds


def figures(quick: bool) -> Iterator[Figure]:
    for framework in FRAMEWORKS:
        shortest = 0.0
        for exponent in list(SAME)[: 2 if quick else None]:
            what = f"{step(framework, exponent)}, in turns"
            same = in_turns(
                framework, exponent, ["loop"], *((5, 3) if quick else SAME[exponent]), narrow=NARROW
            )
            yield from compared(what, same, {"loop": "a loop by hand around it"}, by_round)
            yield from apart(
                f"{what}: how far apart they may be", by_round(same["sweep"], same["loop"])
            )
            own = in_turns(
                framework, exponent, ["loop and step"], *((3, 3) if quick else OWN[exponent])
            )
            yield from compared(
                f"{what} with another", own, {"loop and step": "loop and step by hand"}, by_process
            )
            shortest = shortest or middle(same["sweep"])
        yield from timer(framework, shortest)
        for exponent, (processes, samples) in WHOLE.items():
            trials, scripts = whole(framework, exponent, 3 if quick else processes, samples)
            what, found = (
                f"{step(framework, exponent)}, whole",
                {"sweep": trials, "script": scripts},
            )
            yield from compared(what, found, {"script": "a script with such a loop"}, by_process)


def step(framework: str, exponent: int) -> str:
    return f"a step of {2**exponent} images, {framework.replace('==', ' ')}"


def timer(framework: str, shortest_s: float) -> Iterator[Figure]:
    """Yield what timing a step takes, apart from the step itself."""
    took = float(peers.run([framework_python(framework), "-I", "-c", TIMER, HOUSE]).output)
    what = f"timing a step that does nothing, {framework.replace('==', ' ')}"
    yield Figure(what, OURS, took, note="part of each time, and not taken off")
    yield Figure(what, "a step of 1 images", shortest_s)


def compared(
    what: str,
    found: dict[str, Processes],
    others: dict[str, str],
    of: Callable[[Processes, Processes], Interval],
) -> Iterator[Figure]:
    """Yield the medians over all processes, and the ratio of each of `others` to ours."""
    ours = found["sweep"]
    yield Figure(
        what, OURS, middle(ours), note=f"{len(ours)} processes, {sum(map(len, ours))} rounds"
    )
    for key, who in others.items():
        ratio = of(ours, found[key])
        told = f"{ratio.estimate:.4f} × [{ratio.low:.4f}, {ratio.high:.4f}]"
        yield Figure(what, who, middle(found[key]), note=told)


def apart(what: str, ratio: Interval) -> Iterator[Figure]:
    """Yield the distance of the ratio from 1, by the farther end of its interval."""
    yield Figure(what, OURS, max(abs(ratio.low - 1), abs(ratio.high - 1)), "share")
    yield target(what, 0.01, "share")


def by_round(ours: Processes, theirs: Processes) -> Interval:
    """Return the ratio of theirs to ours with every round as a pair.

    It is the mean of logarithms without a fifth at either end.
    """
    logs = np.log(list(chain.from_iterable(theirs))) - np.log(list(chain.from_iterable(ours)))
    low, high = mstats.trimmed_mean_ci(logs, (TRIMMED, TRIMMED))
    return Interval(*(math.exp(log) for log in (stats.trim_mean(logs, TRIMMED), low, high)))


def by_process(ours: Processes, theirs: Processes) -> Interval:
    """Return the ratio of theirs to ours, from the median over the rounds of each process."""
    pairs = zip(theirs, ours, strict=True)
    ratios = [
        statistics.median(a / b for a, b in zip(one, other, strict=True)) for one, other in pairs
    ]
    found = paired_ratio(ratios, [1.0] * len(ratios)).interval()
    assert found is not None, "an interval takes three processes"
    return found


def middle(processes: Processes) -> float:
    """Return the median over processes of the median over each one's rounds."""
    return statistics.median(statistics.median(rounds) for rounds in processes)


def in_turns(
    framework: str,
    exponent: int,
    others: Sequence[str],
    rounds: int,
    processes: int,
    narrow: float | None = None,
) -> dict[str, Processes]:
    """Return the times of `plain/turns.py` for sweep and the others.

    With `narrow`, processes are added until every ratio by round has an interval that narrow.
    """
    asked = {
        "house": str(HOUSE),
        "data": str(datasets.prepare("synthetic").folder),
        "others": others,
    }
    asked |= {
        "framework": framework.partition("==")[0],
        "batch_exponent": exponent,
        "threads": _cores(),
    }
    found: dict[str, Processes] = {who: [] for who in ("sweep", *others)}
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "asked.json")
        listed.write_text(json.dumps(asked | {"rounds": rounds}))
        command: Sequence[str | Path] = [
            framework_python(framework),
            "-I",
            "-B",
            PLAIN / "turns.py",
            listed,
        ]
        while len(found["sweep"]) < processes:
            for who, times in json.loads(as_a_trial(command, more=KEPT)).items():
                found[who].append(times)
            ratios = [by_round(found["sweep"], found[who]) for who in others]
            if narrow is not None and all(ratio.relative_width <= narrow for ratio in ratios):
                break
    return found


def whole(
    framework: str, exponent: int, processes: int, samples: int
) -> tuple[Processes, Processes]:
    """Return the times of trials and of scripts, which take turns."""
    trial = the_trial(framework, exponent, samples)
    return alternately(
        processes, lambda: by_sweep(trial), lambda: by_hand(framework, exponent, samples)
    )


def alternately(
    processes: int, ours: Callable[[], list[float]], theirs: Callable[[], list[float]]
) -> tuple[Processes, Processes]:
    """Return the medians of two commands that run in processes of their own, in changing order."""
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
    record = RunTrial(max_contention=None, steal_most=None)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    return list(record["step_s"])


def by_hand(framework: str, exponent: int, samples: int) -> list[float]:
    """Return the times of the loop, run with the variables of a trial."""
    name = framework.partition("==")[0]
    command: Sequence[str | Path] = [
        framework_python(framework),
        "-I",
        "-B",
        PLAIN / "loop.py",
        name,
    ]
    return list(json.loads(as_a_trial([*command, str(2**exponent), str(samples)])))


def _cores() -> int:
    return len(machine.usable_cores())
