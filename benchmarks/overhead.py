"""The time that a trial takes beyond its work: its wall time with a workload that does nothing.

A trial is forked from a fork server that has imported the framework. It takes turns with a trial
in an interpreter of its own (`process: spawn`), and with the alternative to both: a script that
imports the framework and ends, started again and again. *CPU* is the processor time of one
forked trial in all processes: orchestrator, fork server and worker. Two cores therefore run at
most 2 s / CPU trials a second.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.figures import OURS, Figure, target
from sweep import catalog, environments, grid, process
from sweep.grid import Trial
from sweep.node import hosts
from sweep.node.worker import RunTrial, specification

PLUGINS = (
    Path(__file__).resolve().parent.parent / "tests" / "plugins"
)  # whose workload `trouble` can do nothing
FRAMEWORKS = ("reference==1.26.4", "torch==2.13.0", "chainer==7.8.1")
GRID = """
name: overhead
workload: trouble
axes: {{framework: [{framework}], device: [cpu], process: [fork, spawn], seed: [0]}}
parameters: {{threads: 1}}
resources: {{cpu: 1, exclusive: false}}
"""
MOST_S = 0.020
MOST_CPU_S = 2 / 100  # a hundred trials a second on two cores


def figures(quick: bool) -> Iterator[Figure]:
    sys.path.insert(0, str(PLUGINS))
    for framework in FRAMEWORKS:
        yield from measured(framework, 5 if quick else 30)


def measured(framework: str, count: int) -> Iterator[Figure]:
    text = GRID.format(framework=framework)
    expansion = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())
    fork, spawn = (
        t for name in ("fork", "spawn") for t in expansion.trials if t.settings["process"] == name
    )
    ways: dict[str, Callable[[], float]] = {
        f"{OURS}, forked": lambda: trial_s(fork),
        f"{OURS}, an interpreter of its own": lambda: trial_s(spawn),
        "a script that imports the framework": lambda: script_s(framework),
    }
    for way in ways.values():  # environments, hosts and files that are read for the first time
        way()
    cpu = cpu_s(fork, count)
    turns = [{name: way() for name, way in ways.items()} for _ in range(count)]
    what = f"a trial that does nothing, {framework.replace('==', ' ')}"
    for name in ways:
        seconds = [turn[name] for turn in turns]
        yield Figure(
            what, name, statistics.median(seconds), note=f"least {min(seconds) * 1e3:.1f} ms"
        )
    yield target(what, MOST_S)
    yield Figure(f"{what}: CPU", f"{OURS}, forked", cpu)
    yield target(f"{what}: CPU", MOST_CPU_S, note="a hundred trials a second on two cores")


def trial_s(trial: Trial) -> float:
    """Return the wall time of a trial that does nothing."""
    record = RunTrial()(trial)
    if record["status"] != "ok":
        raise RuntimeError(f"{trial.name} is {record['status']}: {record['error']}")
    return float(record["wall_s"])


def cpu_s(trial: Trial, count: int) -> float:
    """Return the CPU time of one forked trial in all processes, the mean of `count` trials."""
    host = psutil.Process(hosts.idle()[-1].pid)

    def spent() -> float:
        return time.process_time() + sum(host.cpu_times()[:2])

    before = spent()
    records = [RunTrial()(trial) for _ in range(count)]
    return (spent() - before) / count + statistics.mean(
        each["user_s"] + each["system_s"] for each in records
    )


def script_s(framework: str) -> float:
    """Return the wall time of a script that imports the framework's file as a trial does."""
    spec = specification(framework, "cpu", "default", {})
    environment = environments.prepare(spec)
    with tempfile.TemporaryDirectory() as empty:
        start = time.perf_counter()
        process.run(
            [str(environment.python), "-I", "-c", f"import {spec.module}"],
            hosts.variables(1),
            cwd=Path(empty),
        )
        return time.perf_counter() - start
