"""Parity is proven once for what it depends on, in its own process; each trial looks again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugged import PLUGINS, runner, trial

from sweep import homes
from sweep.node import hosts


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv(homes.VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    hosts.close_all()


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


def run(note: Path, trouble: str = "none", seed: int = 0, **settings: Any) -> dict[str, Any]:
    each = trial(trouble, workload="proven", note=str(note), **settings)
    return runner()(dataclasses.replace(each, seed=seed))


def proven(note: Path) -> int:
    return len(note.read_text().splitlines()) if note.exists() else 0


def test_a_trial_is_given_the_proof_of_another_process(note: Path) -> None:
    record = run(note)

    assert (record["status"], record["error"]) == ("ok", "")
    assert record["proof"]["loss_check"] == 1e-7
    assert record["proof"]["parity_pid"] != record["trial_pid"]


def test_parity_is_proven_once_for_each_setting_that_it_depends_on(note: Path) -> None:
    for samples, exponent, seed in ((1, 0, 0), (2, 0, 0), (1, 3, 0), (1, 0, 1), (2, 3, 1)):
        record = run(note, seed=seed, samples=samples, batch_exponent=exponent)
        assert record["status"] == "ok"
    assert proven(note) == 2
    assert "samples" not in note.read_text()

    run(note, threads=2)
    assert proven(note) == 3


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_framework_that_computes_something_else_is_not_timed(note: Path, process: str) -> None:
    for expected in (1, 2):  # nothing is kept of a check that was not passed
        record = run(note, "differs", process=process)

        assert record["status"] == "not_comparable"
        assert record["error"] == "loss is 3, the reference's 2"
        assert record.get("step_s") is None
        assert record["python"]
        assert proven(note) == expected


def test_a_process_that_dies_while_it_proves_parity_is_the_trial_s_end(note: Path) -> None:
    record = run(note, "crashes")

    assert record["status"] == "crashed"
    assert "SIGSEGV" in record["error"]
    assert "in parity" in record["log"]  # where the crash was
