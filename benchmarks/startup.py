"""The time until help, a plan and the first trial appear, and the share of Ray's start.

If one trial at a time on one machine is enough, a plain loop would do. The last table shows what
it would save: the start and end of Ray, once for a sweep. Ray is always used, since sweeps last
minutes, and a second way to run trials would be a second way to interrupt, resume and place them.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import HOUSE, environment, version
from benchmarks.trials import GRID
from sweep import catalog, grid
from sweep.node.worker import RunTrial
from sweep.records.results import Results

RAY = "import ray; ray.init({}); ray.shutdown()"
LEAN = "num_cpus=2, include_dashboard=False, log_to_driver=False"
COUNT = 12


def figures(quick: bool) -> Iterator[Figure]:
    times = 2 if quick else 5
    yield from _help(times)
    said = "sweep plan of the default grid"
    yield Figure(said, OURS, _least(times, [sys.executable, "-m", "sweep", "plan", "grid.yaml"]))
    yield target(said, 1.0)
    yield from _first_trial(1 if quick else 3)


def _help(times: int) -> Iterator[Figure]:
    said = "printing the help"
    hydra = "import hydra\nhydra.main(version_base=None, config_path=None)(lambda settings: None)()"
    yield Figure(said, OURS, _least(times, [sys.executable, "-m", "sweep", "--help"]))
    for package, also, command in (
        ("asv", (), ["-m", "asv"]),
        ("nox", (), ["-m", "nox"]),
        ("hydra-core", ("hydra-joblib-launcher",), ["-c", hydra]),
    ):
        python = environment(package, *also)
        yield Figure(said, version(python, package), _least(times, [python, *command, "--help"]))
    yield target(said, 0.3)


def _first_trial(times: int) -> Iterator[Figure]:
    said = f"{COUNT} trials that do nothing, one at a time, from the command to the prompt"
    runs = [_swept() for _ in range(times)]
    yield Figure("from the command to the first trial", OURS, min(first for first, _ in runs))
    yield target("from the command to the first trial", 15.0)
    ray = environment("ray[tune]==2.60.0")
    for how, given in (
        ("ray.init() and ray.shutdown() alone", ""),
        ("the same without dashboard", LEAN),
    ):
        alone = _least(times, [ray, "-c", RAY.format(given)])
        yield Figure(
            "from the command to the first trial",
            f"{version(ray, 'ray')}, {how}",
            alone,
            note="no trial yet",
        )
    yield Figure(said, OURS, min(whole for _, whole in runs))
    yield Figure(
        said,
        f"{OURS}, its worker in a plain loop, without Ray",
        _without_ray(),
        note="imports left out",
    )


def _swept() -> tuple[float, float]:
    """Return the seconds until the first trial starts, and until the sweep ends."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "grid.yaml")
        file.write_text(GRID.format(framework="reference", count=COUNT, exclusive="true"))
        started = dt.datetime.now(dt.UTC)
        ran = peers.sweep("run", file, "--max-contention", "any", folder=Path(folder))
        first = min(
            Results(Path(folder, "results", "trials"))
            .records(["started_at"])["started_at"]
            .to_pylist()
        )
        return (first - started).total_seconds(), ran.seconds


def _without_ray() -> float:
    sys.path.insert(0, str(peers.PLUGINS))
    text = GRID.format(framework="reference", count=COUNT, exclusive="true")
    trials = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials
    start = time.perf_counter()
    for record in map(RunTrial(max_contention=None), trials):
        if record["status"] != "ok":
            raise RuntimeError(record["error"])
    return time.perf_counter() - start


def _least(times: int, command: list[str | Path]) -> float:
    return min(peers.run(command, HOUSE).seconds for _ in range(times))
