"""What is measured is part of a trial's identity: what changes runs anew, and no cell holds two things."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uv
from commands import Sweep
from made_up import keep, samples
from plugged import PLUGINS, runner
from test_environments import _wheel

from sweep import catalog, measured, reproduction, resume
from sweep import grid as grids
from sweep.analysis.run import Run
from sweep.grid import Trial
from sweep.node import hosts, worker

BEFORE = Path(__file__).with_name("runs") / "before"
FRAMEWORK = """\
# /// script
# dependencies = []
#
# [tool.sweep]
# package = ""
# module = "json"
# ///
"""
WORKLOAD = """\
from mine import model

PARAMETERS = {"samples": 2, "threads": 1, "process": "fork", "data": "dots"}

def run(framework, settings, data, reference, report):
    return {"step_s": [0.01] * settings["samples"]}
"""
ENTRIES = """\
[sweep.frameworks]
quick = mine.quick

[sweep.workloads]
discs = mine.discs

[sweep.datasets]
dots = mine.dots
"""
DATA = """\
from sweep.datasets import DataSet
from sweep.datasets.synthetic import Figures
from mine.drawn import COUNT
DATASET = DataSet("dots", "figures", lambda: Figures(COUNT, 9), generated=True)
"""
GRID = """\
name: mine
axes:
  framework: [quick==here, reference]
  workload: discs
  batch_exponent: [0, 1]
  seed: {range: [0, 2]}
environments:
  quick==here: {interpreter: venv}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of a user's plug-ins, as installed."""
    package, info = tmp_path / "plugins" / "mine", tmp_path / "plugins" / "mine-1.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "quick.py").write_text(FRAMEWORK)
    (package / "discs.py").write_text(WORKLOAD)
    (package / "model.py").write_text("WIDTH = 16\n")
    (package / "dots.py").write_text(DATA)
    (package / "drawn.py").write_text("COUNT = 2\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(package.parent))
    measured._framework.cache_clear()
    yield package
    measured._framework.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    hosts.close_all()


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment of the user's own, beside the grid."""
    folder = tmp_path / "venv"
    subprocess.run(
        [uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder], check=True
    )
    install(folder, tmp_path, "1.0")
    (tmp_path / "grid.yaml").write_text(GRID)
    return folder


def install(venv: Path, folder: Path, version: str) -> None:
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--python", venv]
    subprocess.run([*command, str(_wheel(folder, "six", version))], check=True)


def trials() -> list[Trial]:
    """What the grid here plans now."""
    grid = grids.load("grid.yaml")
    workloads = catalog.workloads()
    content = measured.contents_of(workloads, grid.environments)
    return list(grids.expand(grid, catalog.frameworks(), workloads, content=content).trials)


def recorded(trial: Trial, mean_s: float = 0.1, day: int = 1, **changes: Any) -> dict[str, Any]:
    """The record of a trial that took so long."""
    known = {
        "run": "mine",
        "status": "ok",
        "step_s": samples(trial.seed, mean_s),
        "code_version": "0",
    }
    known |= {"started_at": f"2026-11-{day:02d}T12:00:00+00:00", "cpu_model": "CPU", "wall_s": 1.0}
    return worker.identity(trial) | known | changes


def edit(file: Path, text: str) -> None:
    file.write_text(text)


CHANGES: dict[str, tuple[Callable[[Path, Path], None], str, int]] = {
    "the workload's file": (
        lambda mine, _: edit(mine / "discs.py", WORKLOAD.replace("0.01", "0.02")), "workload discs has changed", 12
    ),
    "a module that it imports": (
        lambda mine, _: edit(mine / "model.py", "WIDTH = 4\n"), "workload discs has changed", 12
    ),
    "a module of the data set": (
        lambda mine, _: edit(mine / "drawn.py", "COUNT = 3\n"), "data set dots has changed", 12
    ),
    "the framework's file": (
        lambda mine, _: edit(mine / "quick.py", f"{FRAMEWORK}THREADS = 2\n"), "framework quick has changed", 6
    ),
    "a package of an interpreter": (
        lambda mine, venv: install(venv, venv.parent, "2.0"), "the environment of quick==here has changed", 6
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_is_said_and_runs_anew(
    sweep: Sweep, mine: Path, venv: Path, what: str
) -> None:
    keep("results/mine", [recorded(trial) for trial in trials()], GRID)
    assert "12 done, 0 to run" in sweep("plan", "grid.yaml").err
    change, said, count = CHANGES[what]

    change(mine, venv)
    ended = sweep("plan", "grid.yaml")

    assert (
        f"{said} since {count} trials ran: they stay in the run as they were, {count} run anew"
        in ended.err
    )
    assert len(json.loads(sweep("plan", "grid.yaml", "--format", "json").out)) == count


def test_what_changes_nothing_runs_nothing_anew(sweep: Sweep, mine: Path, venv: Path) -> None:
    keep("results/mine", [recorded(trial) for trial in trials()], GRID)

    (mine / "unused.py").write_text("WIDTH = 1\n")
    (mine / "discs.py").write_text(WORKLOAD)
    ended = sweep("plan", "grid.yaml")

    assert "12 done, 0 to run" in ended.err
    assert "changed" not in ended.err


def test_more_seeds_of_what_has_changed_share_no_cell_with_those_of_before(
    sweep: Sweep, mine: Path, venv: Path
) -> None:
    keep("results/mine", [recorded(trial, 0.1) for trial in trials()], GRID)
    edit(mine / "model.py", "WIDTH = 4\n")
    keep(
        "results/mine", [recorded(trial, 0.3, day=2) for trial in trials() if trial.seed < 2], GRID
    )

    rows = json.loads(sweep("summarize", "mine", "--format", "json").out)
    table = sweep("summarize", "mine").out

    assert {
        (row["workload_content"][:14], row["trials" if "trials" in row else "processes"])
        for row in rows
    } == {
        ("1 (2026-11-01 ", 3),
        ("2 (2026-11-02 ", 2),
    }
    assert all((row["mean"] > 0.2) == row["workload_content"].startswith("2") for row in rows)
    assert "workload_content" in table
    assert "framework_content" not in table


def test_contents_are_told_apart_by_whatever_axes_rows_are_asked_for(
    sweep: Sweep, mine: Path, venv: Path
) -> None:
    keep("results/mine", [recorded(trial, 0.1) for trial in trials()], GRID)
    edit(mine / "model.py", "WIDTH = 4\n")
    keep("results/mine", [recorded(trial, 0.3, day=2) for trial in trials()], GRID)

    rows = json.loads(sweep("summarize", "mine", "--by", "batch_exponent", "--format", "json").out)
    chosen = sweep("summarize", "mine", "--where", "workload_content=2*", "--format", "json").out

    assert len(rows) == 4
    assert {round(row["mean"], 1) for row in rows} == {0.1, 0.3}
    assert {round(row["mean"], 1) for row in json.loads(chosen)} == {0.3}


def test_a_comparison_is_of_what_is_there_now_and_names_what_it_leaves_out(
    sweep: Sweep, mine: Path, venv: Path
) -> None:
    mean_s = {"quick==here": 0.1, "reference": 0.2}
    keep("results/mine", [recorded(t, mean_s[t.settings["framework"]]) for t in trials()], GRID)
    edit(mine / "quick.py", f"{FRAMEWORK}THREADS = 2\n")
    again = [trial for trial in trials() if trial.settings["framework"] == "quick==here"]
    keep("results/mine", [recorded(trial, 0.4, day=2) for trial in again], GRID)

    ended = sweep(
        "compare", "mine", "--over", "framework", "--baseline", "reference", "--format", "json"
    )
    changed = sweep("compare", "mine", "--over", "framework_content", "--format", "json")

    assert [(row["subject"], row["verdict"]) for row in json.loads(ended.out)] == [
        ("quick==here", "slower")
    ] * 2
    assert (
        "mine has cells of an earlier framework_content, which are not compared: 1 (2026-11-01"
        in ended.err
    )
    assert [round(row["ratio"]) for row in json.loads(changed.out)] == [4, 4]


def test_two_runs_are_compared_by_what_each_measured_last(
    sweep: Sweep, mine: Path, venv: Path
) -> None:
    keep("results/before", [recorded(trial, 0.1) for trial in trials()], GRID)
    keep("results/after", [recorded(trial, 0.1) for trial in trials()], GRID)
    edit(mine / "model.py", "WIDTH = 4\n")
    keep("results/after", [recorded(trial, 0.2, day=2) for trial in trials()], GRID)

    ended = sweep("compare", "before", "after", "--format", "json")
    older = sweep(
        "compare", "before", "after", "--where", "workload_content=1*", "--format", "json"
    )

    assert [round(row["ratio"]) for row in json.loads(ended.out)] == [2] * 4
    assert [round(row["ratio"]) for row in json.loads(older.out)] == [1] * 4


def test_a_claim_is_judged_by_what_is_there_now(
    tmp_path: Path, mine: Path, venv: Path, sweep: Sweep
) -> None:
    claim = (
        "claims: [{name: slow, compare: {framework: [quick, reference]}, expect: {slower: 0.5}}]\n"
    )
    keep("results/mine", [recorded(trial, 0.1) for trial in trials()], GRID + claim)
    edit(mine / "quick.py", f"{FRAMEWORK}THREADS = 2\n")
    again = [trial for trial in trials() if trial.settings["framework"] == "quick==here"]
    keep("results/mine", [recorded(trial, 0.4, day=2) for trial in again], GRID + claim)

    (judgement,) = Run("results/mine").verify()

    assert judgement.outcome == "supported"
    assert len(judgement.evidence) == 2


def test_whoever_has_a_record_can_compute_its_id(mine: Path, venv: Path, sweep: Sweep) -> None:
    for trial in trials():
        record = recorded(trial)
        content = json.loads(record["content"])
        assert set(content) - {"framework", "environment"} == {"workload", "data"}
        assert ({"framework", "environment"} <= set(content)) == ("quick" in trial.name)
        assert grids.identify(json.loads(record["settings"]), content) == record["trial_id"]


def test_a_trial_that_is_run_again_says_what_has_changed_since(
    mine: Path, venv: Path, sweep: Sweep
) -> None:
    keep(
        "results/mine",
        [recorded(trial) for trial in trials()],
        GRID,
        grid_path=str(Path("grid.yaml").absolute()),
    )
    run = Run("results/mine")
    record = next(row for row in run.records.to_pylist() if "quick" in row["trial_name"])
    first = reproduction.changed(run.facts, record)
    edit(mine / "model.py", "WIDTH = 4\n")

    assert first == []
    assert reproduction.changed(run.facts, record) == ["workload discs"]


def test_a_node_that_holds_something_else_than_was_planned_times_nothing(
    mine: Path, venv: Path, sweep: Sweep
) -> None:
    trial = next(trial for trial in trials() if "quick" in trial.name)
    trial = dataclasses.replace(
        trial, resources=dataclasses.replace(trial.resources, exclusive=False)
    )
    overrides = grids.load("grid.yaml").environments
    edit(mine / "model.py", "WIDTH = 4\n")

    record = runner(overrides=overrides)(trial)

    assert record["status"] == "failed"
    assert "workload discs is not what was planned" in record["error"]


# a run of the version before


@pytest.fixture
def before(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the version before, whose records say nothing of what they measured, with its grid."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    shutil.copytree(BEFORE, "results/before")
    Path("grid.yaml").write_text(
        Run("results/before").facts.grid.replace("gate_examples", "parity_examples")
    )
    return Path("results/before")


def test_a_run_of_the_version_before_goes_on_where_it_was_of_sweep_s_own(
    sweep: Sweep, before: Path
) -> None:
    ended = sweep("plan", "grid.yaml", "--format", "json")

    assert "4 trials in 2 blocks, 2 done, 2 to run" in ended.err
    assert {row["name"].split("/")[1] for row in json.loads(ended.out)} == {"trouble"}
    assert "2 trials of workload trouble do not say what they measured" in ended.err


def test_a_run_of_the_version_before_is_read_as_it_was_written(sweep: Sweep, before: Path) -> None:
    ended = sweep("summarize", "before", "--format", "json")

    assert {row["workload"] for row in json.loads(ended.out)} == {"core", "trouble"}
    assert "workload_content" not in ended.out
    shown = sweep("show", "before", "reference==2.2.6/trouble/cpu/autograd/b0/s0")
    assert (shown.code, "cc85dcb9a564" in shown.out) == (0, True)
    assert "4 of 4 planned trials have a record: 4 ok" in sweep("status", "before").out


def test_former_names_are_read_as_those_of_now(sweep: Sweep, before: Path) -> None:
    files = pa.concat_tables(pq.read_table(part) for part in before.glob("records/*.parquet"))
    assert {"foreign_ratio", "contention_ratio"} & {*files.column_names} == {"foreign_ratio"}
    assert any("gate_examples" in text for text in files["settings"].to_pylist())

    records = Run(before).results.records()
    taken = dict(
        zip(files["trial_id"].to_pylist(), files["foreign_ratio"].to_pylist(), strict=True)
    )
    assert taken == dict(
        zip(records["trial_id"].to_pylist(), records["contention_ratio"].to_pylist(), strict=True)
    )
    assert "foreign_ratio" not in records.column_names
    settings = [json.loads(text) for text in records["settings"].to_pylist()]
    assert {each.get("parity_examples") for each in settings if each["workload"] == "core"} == {1}
    assert not {"gate_examples", "tolerance"} & {name for each in settings for name in each}
    some = Run(before).results.records(["contention_ratio"])
    assert some["contention_ratio"].null_count == files["foreign_ratio"].null_count
    names = ("trial_id", "settings", "content")
    for trial_id, text, content in zip(*(records[name].to_pylist() for name in names), strict=True):
        assert grids.identify(json.loads(text), json.loads(content or "{}")) == trial_id


def test_new_trials_share_no_cell_with_those_of_the_version_before(
    sweep: Sweep, before: Path
) -> None:
    again = [trial for trial in trials() if "trouble" in trial.name]
    keep(before, [recorded(trial, 0.3, day=29) for trial in again], Path("grid.yaml").read_text())

    rows = [
        r
        for r in json.loads(sweep("summarize", "before", "--format", "json").out)
        if r["workload"] == "trouble"
    ]

    assert [row["workload_content"][:12] for row in rows] == ["1 (2026-11-2", "2 (2026-11-2"]
    assert [round(row["mean"], 1) for row in rows] == [0.0, 0.3]


def test_nothing_is_said_of_records_of_other_settings(mine: Path, venv: Path, sweep: Sweep) -> None:
    planned = trials()
    records: dict[str, list[Any]] = {
        n: [recorded(trial)[n] for trial in planned] for n in resume.COLUMNS
    }
    records["started_at"] = [None] * 12
    others = {
        **records,
        "trial_id": ["other"] * 12,
        "settings": ['{"framework": "torch==2.13.0"}'] * 12,
    }

    assert resume.changes(planned, planned, others) == []
