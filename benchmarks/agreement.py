"""Whether the same step of AlexNet takes as long when `torch.utils.benchmark`, pyperf and sweep measure it.

Steps, turns, ratios and their intervals are those of *fidelity*. torch.utils.benchmark, a plain loop and what a trial
calls take turns in one process, with the same step; pyperf, which starts its own, has a step by hand and takes turns
with whole trials, in the same environment, on the same cores, with as many threads. A ratio of 1 is agreement.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.fidelity import alternately, by_sweep, compared, in_turns, middle, step, the_trial
from benchmarks.figures import OURS, Figure
from benchmarks.peers import as_a_trial, environment, framework_python, version
from sweep.node import hosts, machine

FRAMEWORK, EXPONENT = "torch==2.13.0", 3
IN_TURNS = (8, 5, 2)
PROCESSES, SAMPLES = 10, 10
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
    what = step(FRAMEWORK, EXPONENT)
    found = in_turns(FRAMEWORK, EXPONENT, (3, 3, 2) if quick else IN_TURNS, timer=True)
    names = {"timer": "torch.utils.benchmark, its Timer", "loop": "a loop by hand"}
    yield from compared(f"{what}, in turns", found["sweep"], {who: found[key] for key, who in names.items()})
    runner = environment("pyperf", beside=framework_python(FRAMEWORK))
    trial = the_trial(FRAMEWORK, EXPONENT, SAMPLES)
    trials, runs = alternately(3 if quick else PROCESSES, lambda: by_sweep(trial), lambda: _by_pyperf(runner))
    yield from compared(f"{what}, whole", trials, {f"{version(runner, 'pyperf')}, its runner": runs})
    clock_s = float(peers.run([framework_python(FRAMEWORK), "-I", "-c", CLOCK]).output)
    what = "reading the clock twice, as around each half of a step"
    yield Figure(what, OURS, clock_s, note="part of each time, and not taken off")
    yield Figure(what, "the step itself", middle(trials))


def _by_pyperf(python: Path) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "step.json")
        given = ["--batch", str(2**EXPONENT), "--values", str(SAMPLES), "--quiet", "--inherit-environ"]
        variables = ",".join(hosts.variables(len(machine.usable_cores())))
        as_a_trial([python, TOOLS / "pyperf_step.py", *given, variables, "-o", file])
        (benchmark,) = json.loads(file.read_text())["benchmarks"]
    return [value for run in benchmark["runs"] for value in run.get("values", [])]
