"""Trials that are added to a plan: what a bisection makes of a run's records, and what changed beside a version."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import keep, record

from sweep.additions import Bisection
from sweep.analysis import packages, statistics
from sweep.bisection import Found, Pair, Step
from sweep.cli.changes import Changes
from sweep.cli.tables import Format
from sweep.errors import SweepError
from sweep.grid import Cell, Resources, Trial
from sweep.records.results import Record

VERSIONS = [f"torch=={version}" for version in ("1.13.1", "2.0.1", "2.1.2", "2.2.2")]


def made(framework: str, seed: int, **changes: object) -> Record:
    mean_s = 0.1 if framework < "torch==2.1" else 0.13
    return record(seed, framework=framework, mean_s=mean_s, **changes)


def search(**more: object) -> Bisection:
    """A search over VERSIONS, as records of `made` are of their cells."""
    models = []
    for framework in VERSIONS:
        of = made(framework, 0)
        axes = {"framework": framework}
        cell = Cell(of["cell_id"], of["cell_name"], axes, of["settings"])
        models.append(Trial(of["trial_id"], cell, 0, Resources()))
    return Bisection(models, 0.05, **more)  # type: ignore[arg-type]


def test_a_run_without_records_begins_with_the_ends_in_blocks() -> None:
    planned = search().planned(None)

    assert [trial.cell.axes["framework"] for trial in planned] == [VERSIONS[0], VERSIONS[-1]] * 3
    assert [trial.seed for trial in planned] == [0, 0, 1, 1, 2, 2]


def test_the_next_step_follows_from_the_records_of_the_run(tmp_path: Path) -> None:
    kept = [made(end, seed) for end in (VERSIONS[0], VERSIONS[-1]) for seed in range(6)]
    results = keep(tmp_path / "run", kept)

    step = search().state(results)
    added = search().following(results, lambda _: None)

    assert isinstance(step, Step)
    assert step.values == (2,)
    assert [trial.cell.axes["framework"] for trial in added.trials] == [VERSIONS[2]]
    assert len(added.before) == len(kept)
    assert added.trials[0].position == len(kept)


def test_a_search_whose_trials_all_have_records_has_found_the_change(tmp_path: Path) -> None:
    kept = [made(framework, seed) for framework in VERSIONS for seed in range(40)]
    others = [made("chainer==7.8.1", seed, status="crashed") for seed in range(3)]
    results = keep(tmp_path / "run", [*kept, *others])

    found = search().state(results)

    assert isinstance(found, Found)
    assert [(change.before, change.after) for change in found.changes] == [(1, 2)]
    assert search().following(results, lambda _: None).trials == []


def test_a_version_whose_trials_fail_is_stepped_around(tmp_path: Path) -> None:
    kept = [
        made(framework, seed, status="env_failed" if framework == VERSIONS[2] else "ok")
        for framework in VERSIONS
        for seed in range(40)
    ]
    found = search().state(keep(tmp_path / "run", kept))

    assert isinstance(found, Found)
    assert found.fruitless == (2,)
    assert [(change.before, change.after) for change in found.changes] == [(1, 3)]


def test_blocks_whose_trials_ran_on_different_machines_are_measured_again(tmp_path: Path) -> None:
    cpus = {VERSIONS[0]: "Old CPU", VERSIONS[-1]: "New CPU"}
    kept = [made(end, seed, cpu_model=cpu) for end, cpu in cpus.items() for seed in range(3)]

    step = search().state(keep(tmp_path / "run", kept))

    assert step == Step((0, 3), tuple(range(7)))


def test_a_metric_that_several_trials_share_cannot_be_searched(tmp_path: Path) -> None:
    kept = [made(VERSIONS[0], seed, import_s=0.5, host_id="h") for seed in range(3)]
    results = keep(tmp_path / "run", kept)

    with pytest.raises(SweepError, match="cannot go by import_s") as raised:
        search(metric="import_s").state(results)
    assert "step_s" in raised.value.hint


def test_packages_that_changed_are_told_with_both_versions() -> None:
    before = "numpy==1.26.4\nsix==1.17.0\nsame==1.0\ntiny @ file:///a.whl\n"
    after = "NumPy==2.0.2\nsame==1.0\neinops==0.8.0\ntiny @ file:///b.whl\n"

    changed = packages.changed(before, after)

    assert [packages.change_text(name, *both) for name, both in changed.items()] == [
        "einops 0.8.0 added",
        "numpy 1.26.4 → 2.0.2",
        "six 1.17.0 removed",
        "tiny file:///a.whl → file:///b.whl",
    ]


def test_ends_that_are_not_decided_are_said_to_be_with_what_would_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = keep(tmp_path / "run", [made(VERSIONS[0], 0), made(VERSIONS[-1], 0)])
    ratio = statistics.paired_ratio([1.0, 1.3, 0.9], [1.0, 1.0, 1.0])
    changes = Changes(search(), results, Found(Pair(0, 3, ratio, "open")), "framework")

    changes.write(None)

    said = capsys.readouterr().out
    assert said.startswith("torch 2.2.2 against torch 1.13.1: 1.054× [0.")
    assert "the time (3 blocks); not decided: try a greater --max-seeds or --margin" in said
    assert changes.code == 3


@pytest.mark.parametrize(("form", "start"), [(Format.JSON, "["), (Format.CSV, "what,before")])
def test_findings_are_rows_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: Format, start: str
) -> None:
    kept = [made(framework, seed) for framework in VERSIONS for seed in range(40)]
    results = keep(tmp_path / "run", kept)
    found = search().state(results)
    assert isinstance(found, Found)
    changes = Changes(search(), results, found, "framework")

    changes.write(form)

    said = capsys.readouterr().out
    assert said.startswith(start)
    assert "torch==2.0.1" in said
    assert changes.code == 0
