"""Whether the same step of AlexNet takes as long when `torch.utils.benchmark`, pyperf and sweep measure it.

In the same environment, on the same cores, with as many threads, each in fresh processes that take turns in an order
that changes from round to round. A ratio of 1 is agreement; its 95 % interval is over rounds.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.fidelity import by_sweep, the_trial
from benchmarks.figures import OURS, Figure
from benchmarks.peers import as_a_trial, environment, framework_python, version
from sweep.analysis.statistics import paired_ratio
from sweep.node import hosts, machine

FRAMEWORK, EXPONENT, SAMPLES = "torch==2.13.0", 3, 10
TOOLS = peers.HERE / "tools"
CLOCK = """
import statistics, time
gaps = []
for _ in range(100000):
    start = time.perf_counter()
    gaps.append(time.perf_counter() - start)
print(statistics.median(gaps))
"""


def figures(quick: bool) -> Iterator[Figure]:
    rounds = 3 if quick else 8
    ways = _ways()
    medians: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who in random.sample(sorted(ways), len(ways)):
            medians[who].append(statistics.median(ways[who]()))
    what = f"a step of {2**EXPONENT} images, {FRAMEWORK.replace('==', ' ')}"
    ours = medians[OURS]
    yield Figure(what, OURS, statistics.median(ours), note=f"{rounds} rounds of {SAMPLES} samples")
    for who, theirs in medians.items():
        ratio = paired_ratio(theirs, ours).interval()
        if who != OURS and ratio:
            told = f"{ratio.estimate:.3f} × [{ratio.low:.3f}, {ratio.high:.3f}]"
            yield Figure(what, who, statistics.median(theirs), note=told)
    clock_s = float(peers.run([framework_python(FRAMEWORK), "-I", "-c", CLOCK]).output)
    what = "reading the clock twice, as around each half of a step"
    yield Figure(what, OURS, clock_s, note="part of each time, and not taken off")
    yield Figure(what, "the step itself", statistics.median(ours))


def _ways() -> dict[str, Callable[[], list[float]]]:
    """Who measures, and how: seconds of each sample."""
    trial, python = the_trial(FRAMEWORK, EXPONENT, SAMPLES), framework_python(FRAMEWORK)
    runner = environment("pyperf", beside=python)
    return {
        OURS: lambda: by_sweep(trial),
        "torch.utils.benchmark, its Timer": lambda: _by_torch(python),
        f"{version(runner, 'pyperf')}, its runner": lambda: _by_pyperf(runner),
    }


def _by_torch(python: Path) -> list[float]:
    cores = len(machine.usable_cores())
    script = TOOLS / "torch_benchmark.py"
    said = as_a_trial([python, script, str(2**EXPONENT), str(SAMPLES), str(cores)])
    return list(json.loads(said.splitlines()[-1]))


def _by_pyperf(python: Path) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "step.json")
        given = ["--batch", str(2**EXPONENT), "--values", str(SAMPLES), "--quiet", "--inherit-environ"]
        variables = ",".join(hosts.variables(len(machine.usable_cores())))
        as_a_trial([python, TOOLS / "pyperf_step.py", *given, variables, "-o", file])
        (benchmark,) = json.loads(file.read_text())["benchmarks"]
    return [value for run in benchmark["runs"] for value in run.get("values", [])]
