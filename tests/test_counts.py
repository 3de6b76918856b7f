"""Counts that do not depend on the machine: what makes commands and trials quick, held so that it stays."""

from __future__ import annotations

import collections
import cProfile
import pstats
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import keep, record
from plugged import PLUGINS, runner, trial

from sweep import catalog, grid, schedule
from sweep.analysis.run import Run
from sweep.analysis.summary import records_for
from sweep.cli.answers import summary_row
from sweep.node import hosts
from sweep.records.facts import RunFacts
from sweep.records.results import Results
from workloads.runtime import protocol

HOUSE = Path(__file__).resolve().parent.parent
SLOW = ("ray", "pyarrow", "scipy", "altair", "pandas")
# about half as much again as it takes now: what makes a trial dearer shows, a little more of
# something does not
FILES_OPENED, CALLS_PER_TRIAL, CALLS_PER_PLANNED_TRIAL = 30, 2000, 48
BYTES_PER_SUMMARISED_RECORD = 250
BYTES_PER_PLANNED_TRIAL, CALLS_PER_SUMMARY, CALLS_PER_SUMMARY_TOLD = 650, 50, 1600
WORKLOAD = "import os\nPARAMETERS = {}\ndef run(framework, *_):\n    return {'host': framework.HOST, 'own': os.getpid()}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["schema"]])
def test_commands_that_only_tell_something_import_nothing_slow(arguments: list[str]) -> None:
    assert _imported_by(arguments) & set(SLOW) == set()


def test_a_plan_imports_no_ray(tmp_path: Path) -> None:
    imported = _imported_by(["plan", str(HOUSE / "grid.yaml"), "--out", str(tmp_path)])

    assert imported & {"ray", "scipy", "altair", "pandas"} == set()


def test_trials_of_one_environment_share_one_import_and_are_one_process_each(
    tmp_path: Path,
) -> None:
    framework, workload = tmp_path / "framework.py", tmp_path / "workload.py"
    framework.write_text("import os\nHOST = os.getpid()\n")
    workload.write_text(WORKLOAD)
    key = hosts.Key(sys.executable, True, str(framework), tuple(sorted(hosts.variables(1).items())))
    request = protocol.Request("trial", protocol.RUN, str(workload), {}, cores=[])

    found = [hosts.run(key, request, 60).columns for _ in range(10)]

    assert len({columns["host"] for columns in found}) == 1
    assert len({columns["own"] for columns in found}) == 10


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], object]]:
    """A trial that does nothing, whose fork server is there already."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run, nothing = runner(max_contention=None, steal_most=None), trial()
    assert run(nothing)["status"] == "ok"
    yield lambda: run(nothing)
    hosts.close_all()


def test_the_orchestrator_starts_no_process_for_a_further_trial_and_opens_few_files(
    warm: Callable[[], object],
) -> None:
    warm()  # what is read once

    asked = _asked_of_the_system(warm)

    assert {
        event for event in asked if event.startswith(("subprocess", "os.fork", "os.posix_spawn"))
    } == set()
    assert asked["open"] <= FILES_OPENED
    assert asked["import"] == 0


def test_the_orchestrator_makes_few_calls_for_a_further_trial(warm: Callable[[], object]) -> None:
    warm()

    assert _calls(warm) <= CALLS_PER_TRIAL


def test_a_trial_is_planned_with_few_calls_and_with_no_more_in_a_large_grid() -> None:
    few, many = (_calls(lambda cells=cells: _planned(cells)) / (5 * cells) for cells in (200, 2000))

    assert many <= CALLS_PER_PLANNED_TRIAL
    assert many <= 1.05 * few


def test_a_planned_trial_takes_few_bytes() -> None:
    _planned(2000)  # what is made once is made now
    tracemalloc.start()
    try:
        held = _planned(2000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken <= BYTES_PER_PLANNED_TRIAL * len(held[1])


def test_a_further_cell_is_summarised_with_few_calls_and_told_with_its_warnings_with_not_many(
    tmp_path: Path,
) -> None:
    runs = [tmp_path / str(cells) for cells in (20, 40)]
    for run in runs:
        keep(
            run,
            [
                record(seed, batch_exponent=cell)
                for cell in range(int(run.name))
                for seed in range(5)
            ],
        )
    ways: dict[int, Callable[[Path], object]] = {
        CALLS_PER_SUMMARY: lambda run: Run(run).summary(),
        CALLS_PER_SUMMARY_TOLD: lambda run: [
            summary_row(summary) for summary in Run(run).summary()
        ],
    }

    for most, way in ways.items():
        way(runs[0])
        few, many = (_calls(lambda run=run, way=way: way(run)) for run in runs)
        assert many - few <= 20 * most


def test_a_hundred_records_are_a_hundred_parts_and_never_lie_about_as_many(tmp_path: Path) -> None:
    with Results(tmp_path).open(RunFacts("counts", "")) as writer:
        for number in range(100):
            writer.append({"trial_id": f"{number:016x}", "status": "ok"})
        lying = list((tmp_path / "records").iterdir())
    left = list((tmp_path / "records").iterdir())

    assert len(lying) == 1 + (100 - 64)  # the first 64 are folded into one
    assert len(left) == 1


def test_records_that_are_kept_together_are_folded_as_soon_as_those_kept_one_by_one(
    tmp_path: Path,
) -> None:
    with Results(tmp_path).open(RunFacts("counts", "")) as writer:
        for number in range(0, 80, 2):
            writer.append_together(
                [{"trial_id": f"{number + i:016x}", "status": "ok"} for i in range(2)]
            )
        lying = list((tmp_path / "records").iterdir())

    assert len(lying) == 1 + (80 - 64) // 2


def test_a_fold_holds_a_few_megabytes_of_many(tmp_path: Path) -> None:
    seeds = iter(range(40 * 64))
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with Results(tmp_path).open(RunFacts("counts", "")) as writer:
            for _ in range(40):
                writer.append_together(
                    [record(next(seeds), step_s=[0.1] * 1000) for _ in range(64)]
                )
    finally:
        pa.set_memory_pool(usual)
    (part,) = (tmp_path / "records").iterdir()
    rows = pq.read_table(part)

    assert len(rows) == 40 * 64
    assert pool.max_memory() < rows.nbytes / 3


def test_a_summary_holds_few_bytes_of_each_record(tmp_path: Path) -> None:
    texts = {"blas": "openblas " * 10, "cpu_model": "a CPU with a long name", "node": "node"}
    results = keep(tmp_path, [record(seed, step_s=[0.1], **texts) for seed in range(1000)])

    assert records_for(results, "step_s").nbytes < BYTES_PER_SUMMARISED_RECORD * 1000


def _planned(cells: int) -> tuple[grid.Expansion, list[grid.Trial]]:
    """A grid of so many cells with five seeds each: what it comes to, and the plan."""
    axes = (
        f"{{framework: [torch==2.13.0], samples: {{range: [1, {cells}]}}, seed: {{range: [0, 4]}}}}"
    )
    read = grid.parse(f"name: counts\naxes: {axes}\n")
    expansion = grid.expand(read, catalog.frameworks(), catalog.workloads())
    planned = schedule.plan(expansion.trials)
    assert len(planned) == 5 * cells
    return expansion, planned


def _calls(function: Callable[[], object]) -> int:
    """Calls of functions, Python's and built-in ones, in this thread."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def _asked_of_the_system(function: Callable[[], object]) -> collections.Counter[str]:
    """What the interpreter asks of the system meanwhile, by the names of its audit events."""
    asked: collections.Counter[str] = collections.Counter()
    listening = True

    def hear(event: str, _: tuple[Any, ...]) -> None:
        if listening:  # a hook cannot be taken away again
            asked[event] += 1

    sys.addaudithook(hear)
    function()
    listening = False
    return asked


def _imported_by(arguments: list[str]) -> set[str]:
    """The outermost packages that a call of the command line imports."""
    command = [sys.executable, "-X", "importtime", "-m", "sweep", *arguments]
    ended = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    timed = (
        line.rpartition("|")[2].strip()
        for line in ended.stderr.splitlines()
        if line.startswith("import time:")
    )
    return {name.partition(".")[0] for name in timed}
