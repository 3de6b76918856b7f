"""Whether `torch.utils.benchmark`, pyperf and sweep measure the same time for a step of AlexNet.

Steps, turns, ratios and their intervals are as in *fidelity*. torch.utils.benchmark and the code
that a trial calls take turns in one process, with the same step. pyperf starts its own processes.
It times a hand-written step, and takes turns with whole trials, in the same environment, on the
same cores, with the same number of threads. A ratio of 1 is agreement.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.fidelity import (
    NARROW,
    SAME,
    alternately,
    by_process,
    by_round,
    by_sweep,
    compared,
    in_turns,
    step,
    the_trial,
)
from benchmarks.figures import Figure
from benchmarks.peers import as_a_trial, environment, framework_python, version
from sweep.node import hosts, machine

FRAMEWORK, EXPONENT = "torch==2.13.0", 3
PROCESSES, SAMPLES = 10, 10
TOOLS = peers.HERE / "tools"


def figures(quick: bool) -> Iterator[Figure]:
    what = step(FRAMEWORK, EXPONENT)
    found = in_turns(
        FRAMEWORK, EXPONENT, ["timer"], *((5, 3) if quick else SAME[EXPONENT]), narrow=NARROW
    )
    yield from compared(
        f"{what}, in turns", found, {"timer": "torch.utils.benchmark, its Timer"}, by_round
    )
    runner = environment("pyperf", beside=framework_python(FRAMEWORK))
    trial = the_trial(FRAMEWORK, EXPONENT, SAMPLES)
    trials, runs = alternately(
        3 if quick else PROCESSES, lambda: by_sweep(trial), lambda: _by_pyperf(runner)
    )
    names = {"pyperf": f"{version(runner, 'pyperf')}, its runner"}
    yield from compared(f"{what}, whole", {"sweep": trials, "pyperf": runs}, names, by_process)


def _by_pyperf(python: Path) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "step.json")
        given = [
            "--batch",
            str(2**EXPONENT),
            "--values",
            str(SAMPLES),
            "--quiet",
            "--inherit-environ",
        ]
        variables = ",".join(hosts.variables(len(machine.usable_cores())))
        as_a_trial([python, TOOLS / "pyperf_step.py", *given, variables, "-o", file])
        (benchmark,) = json.loads(file.read_text())["benchmarks"]
    return [value for run in benchmark["runs"] for value in run.get("values", [])]
