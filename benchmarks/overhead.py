"""What a trial costs beyond what it does: its wall time with a workload that does nothing, and where that goes.

    python benchmarks/overhead.py [--trials 30] [--frameworks reference==1.26.4 torch==2.13.0 chainer==7.8.1]

`warm` is a trial forked from a fork server that has the framework, `spawn` one in an interpreter of its own, `script`
what one does without either: a script that imports the framework and ends, started over and over. The three take turns.
`CPU` is what one warm trial takes of the cores in all, orchestrator, fork server and worker: unlike wall time it is
nearly the same on a busy machine, and two cores run at most 2000 / CPU trials a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sweep import catalog, environments, grid, process
from sweep.grid import Trial
from sweep.node import hosts
from sweep.node.worker import RunTrial, specification

PLUGINS = Path(__file__).resolve().parent.parent / "tests" / "plugins"  # whose workload `trouble` can do nothing
GRID = """
name: overhead
workload: trouble
axes: {{framework: [{framework}], device: [cpu], process: [fork, spawn], seed: [0]}}
parameters: {{threads: 1}}
resources: {{cpu: 1, exclusive: false}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frameworks", nargs="+", default=["reference==1.26.4", "torch==2.13.0", "chainer==7.8.1"])
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args()
    sys.path.insert(0, str(PLUGINS))
    print("milliseconds: median (least)")
    print("framework                    warm           spawn          script   script/warm    CPU   of warm")
    for framework in options.frameworks:
        print(measured(framework, options.trials), flush=True)


def measured(framework: str, count: int) -> str:
    text = GRID.format(framework=framework)
    expansion = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())
    fork, spawn = (t for name in ("fork", "spawn") for t in expansion.trials if t.settings["process"] == name)
    parts: dict[str, list[float]] = {}
    ways: dict[str, Callable[[], float]] = {
        "warm": lambda: trial_s(fork, parts),
        "spawn": lambda: trial_s(spawn, {}),
        "script": lambda: script_s(framework),
    }
    for way in ways.values():  # environments, hosts and files that are read for the first time
        way()
    parts.clear()
    found: dict[str, list[float]] = {name: [] for name in ways}
    cpu_ms = cpu_s(fork, count) * 1e3
    for _ in range(count):
        for name, way in ways.items():
            found[name].append(way())
    told = " ".join(f"{statistics.median(s) * 1e3:6.1f} ({min(s) * 1e3:.1f})".rjust(16) for s in found.values())
    where = ", ".join(f"{name} {statistics.median(s) * 1e3:.1f}" for name, s in parts.items())
    times = statistics.median(found["script"]) / statistics.median(found["warm"])
    return f"{framework:17}{told}   {times:9.0f} ×   {cpu_ms:4.1f}   {where}"


def trial_s(trial: Trial, parts: dict[str, list[float]]) -> float:
    """Wall time of a trial that does nothing; in `parts` up to its start, its own, to its end, and all around it."""
    heard = {"asked": time.perf_counter()}

    def hear(_name: str, _facts: Mapping[str, Any]) -> None:
        heard["outcome"] = time.perf_counter()  # the workload reports at once, and then does nothing

    record = RunTrial(progress=hear)(trial)
    if record["status"] != "ok":
        raise SystemExit(f"{trial.name} is {record['status']}: {record['error']}")
    parts.setdefault("until its work", []).append(heard["outcome"] - heard["asked"])
    parts.setdefault("after it", []).append(record["wall_s"] - (heard["outcome"] - heard["asked"]))
    return float(record["wall_s"])


def cpu_s(trial: Trial, count: int) -> float:
    """CPU time of one warm trial in all processes, the mean of `count`."""
    host = psutil.Process(hosts.idle()[-1].pid)

    def spent() -> float:
        return time.process_time() + sum(host.cpu_times()[:2])

    before = spent()
    records = [RunTrial()(trial) for _ in range(count)]
    return (spent() - before) / count + statistics.mean(each["user_s"] + each["system_s"] for each in records)


def script_s(framework: str) -> float:
    """Wall time of a script that imports the framework's file as a trial does, and ends."""
    spec = specification(framework, "cpu", "default", {})
    environment = environments.prepare(spec)
    with tempfile.TemporaryDirectory() as empty:
        start = time.perf_counter()
        process.run([str(environment.python), "-I", "-c", f"import {spec.module}"], hosts.variables(1), cwd=Path(empty))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
