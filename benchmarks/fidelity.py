"""Whether sweep times what a hand-written loop times: the ratio of their medians, per framework and batch size.

    python benchmarks/fidelity.py [--rounds 5] [--samples 10] [--exponents 0 3 5]

The loops are in `benchmarks/plain`. Trial and loop run in the same environment, on the same cores, with as many
threads, each in a fresh process, one after the other, in an order that changes from round to round: what others do on
this machine hits both alike. On a quiet machine the ratio of the medians should be within 2 % of 1; on a busy one
that of the least is the better witness.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from pathlib import Path

from sweep import catalog, environments, grid, process
from sweep.grid import Trial
from sweep.node import hosts, machine, slots
from sweep.node.worker import RunTrial, specification

PLAIN = Path(__file__).with_name("plain")
GRID = """
name: fidelity
axes: {{framework: [{framework}], device: [cpu], batch_exponent: {exponents}, seed: [0]}}
parameters: {{samples: {samples}, warmup: 3, threads: {cores}}}
resources: {{cpu: {cores}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frameworks", nargs="+", default=["torch==2.13.0", "chainer==7.8.1"])
    parser.add_argument("--exponents", nargs="+", type=int, default=[0, 3, 5])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10)
    options = parser.parse_args()
    print("framework         batch   trial s    loop s   ratio of medians, of the least   of each round's medians")
    for framework in options.frameworks:
        for trial in trials(framework, options.exponents, options.samples):
            print(compared(framework, trial, options.rounds, options.samples), flush=True)


def trials(framework: str, exponents: list[int], samples: int) -> list[Trial]:
    text = GRID.format(framework=framework, exponents=exponents, samples=samples, cores=len(machine.usable_cores()))
    return list(grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials)


def compared(framework: str, trial: Trial, rounds: int, samples: int) -> str:
    batch = 2 ** trial.settings["batch_exponent"]
    arms = {"trial": lambda: by_sweep(trial), "loop": lambda: by_hand(framework, batch, samples)}
    found: dict[str, list[list[float]]] = {"trial": [], "loop": []}
    for _ in range(rounds):
        for name in random.sample(sorted(arms), 2):
            found[name].append(arms[name]())
    medians = {name: [statistics.median(times) for times in rounds] for name, rounds in found.items()}
    trial_s, loop_s = (statistics.median(medians[name]) for name in ("trial", "loop"))
    least = min(map(min, found["trial"])) / min(map(min, found["loop"]))
    each = zip(medians["trial"], medians["loop"], strict=True)
    told = " ".join(f"{one / other:.3f}" for one, other in each)
    return f"{framework:17} {batch:5} {trial_s:9.4f} {loop_s:9.4f}   {trial_s / loop_s:16.3f} {least:14.3f}   {told}"


def by_sweep(trial: Trial) -> list[float]:
    record = RunTrial(foreign_most=None, steal_most=None)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    return list(record["step_s"])


def by_hand(framework: str, batch: int, samples: int) -> list[float]:
    """The loop's times, with the variables that a trial gets."""
    environment = environments.prepare(specification(framework, "cpu", "default", {}))
    script = PLAIN / f"{framework.partition('==')[0]}_loop.py"
    cores = len(machine.usable_cores())
    with slots.lease(cores, exclusive=True):
        command = [str(environment.python), "-I", str(script), str(batch), str(samples)]
        ended = process.run(command, hosts.variables(cores), cwd=Path(os.sep))
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return list(json.loads(ended.stdout))


if __name__ == "__main__":
    main()
