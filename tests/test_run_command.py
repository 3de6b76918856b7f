"""`sweep run` from a grid to its records, for real: a local Ray, an environment with NumPy, the reference framework."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

import sweep

pytestmark = [pytest.mark.ray, pytest.mark.framework]

GRID = """\
name: tiny
axes:
  framework: [reference]
  backward: [autograd, explicit]
  batch_exponent: [0]
  seed: {range: [0, 1]}
parameters: {samples: 2, warmup: 1, threads: 1, parity_examples: 1}
"""
MINE = "environments: {torch==mine: {interpreter: bare/bin/python}}\n"  # a Python without torch

_FOLDER = "SWEEP_TESTED_FOLDER"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, with a space in its name, that holds the grid."""
    place = tmp_path / "a sweep"
    place.mkdir()
    (place / "grid.yaml").write_text(GRID)
    return place


@pytest.fixture
def command(folder: Path) -> Iterator[Command]:
    """`sweep` in a process of its own; afterwards nothing of it may be left."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            invocation(*arguments),
            cwd=folder,
            env=environment(**{_FOLDER: str(folder)}),
            capture_output=True,
            text=True,
            timeout=280,
        )

    yield call
    assert left_behind(folder) == []


def invocation(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweep", *arguments]


def environment(**more: str) -> dict[str, str]:
    house = str(Path(sweep.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [house, os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "SWEEP_MAX_CONTENTION": "any",
        "PYTHONPATH": path,
        "COLUMNS": "120",
        **more,
    }


def left_behind(folder: Path) -> list[str]:
    """Processes that still work for a sweep of this folder, given a moment to end.

    Ray's daemons work in a folder of their own, and are known by a variable. Ray's own agents do no
    work any more; where the driver was killed they notice only after a minute.
    """
    alive: list[str] = []
    for _ in range(100):
        found = psutil.process_iter(["cmdline", "cwd", "environ"])
        alive = [
            " ".join(p.info["cmdline"] or [])
            for p in found
            if p.info["cwd"] == str(folder) or (p.info["environ"] or {}).get(_FOLDER) == str(folder)
        ]
        alive = [command for command in alive if "Agent" not in command]
        if not alive:
            break
        time.sleep(0.1)
    return alive


def records(folder: Path, run: str = "tiny") -> list[dict[str, Any]]:
    """All rows of all parts, superseded ones too, as anyone's DuckDB reads them."""
    query = f"SELECT * FROM read_parquet('{folder}/results/{run}/records/*.parquet', union_by_name = true)"
    return duckdb.sql(query).to_arrow_table().to_pylist()


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        invocation(*arguments),
        cwd=folder,
        env=environment(**{_FOLDER: str(folder)}),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_records(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    for _ in range(2000):
        if len(list((folder / "results/tiny/records").glob("[0-9]*.parquet"))) >= count:
            return
        if process.poll() is not None:
            raise AssertionError(
                f"ended before {count} records were there: {process.communicate()}"
            )
        time.sleep(0.05)
    raise AssertionError("no records in time")


def test_a_sweep_ends_with_a_summary_and_a_second_one_runs_nothing_twice(
    command: Command, folder: Path
) -> None:
    first = command("run", "grid.yaml")
    assert first.returncode == 0, first.stderr
    assert "mean" in first.stdout
    assert "variance" in first.stdout
    assert "4/4 trials" in first.stderr
    rows = records(folder)
    assert len({row["trial_id"] for row in rows}) == len(rows) == 4
    for row in rows:
        assert row["status"] == "ok", row["error"]
        assert len(row["step_s"]) == 2
        assert row["loss_check"] < 1e-4
        assert row["threads"] == 1
        assert len(row["cores"]) == 1
    second = command("run", "grid.yaml")
    assert second.returncode == 0
    assert records(folder) == rows
    third = command("run", "grid.yaml", "--set", "backward=explicit", "--add-seeds", "1")
    assert third.returncode == 0, third.stderr
    new = [row for row in records(folder) if row["trial_id"] not in {r["trial_id"] for r in rows}]
    assert [(row["backward"], row["seed"]) for row in new] == [("explicit", 2)]


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_goes_on_where_it_was(command: Command, folder: Path) -> None:
    killed = started(folder, "run", "grid.yaml")
    wait_for_records(folder, 1, killed)
    killed.kill()
    killed.communicate()
    assert left_behind(folder) == []
    before = {row["trial_id"]: row["started_at"] for row in records(folder)}
    assert 1 <= len(before) < 4
    again = command("run", "grid.yaml")
    assert again.returncode == 0, again.stderr
    after = {row["trial_id"]: row["started_at"] for row in records(folder)}
    assert len(after) == 4
    assert before.items() <= after.items()


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_there_and_ends_with_130(command: Command, folder: Path) -> None:
    running = started(folder, "run", "grid.yaml", "--set", "samples=30")
    wait_for_records(folder, 1, running)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "are safe" in said
    assert "Traceback" not in said
    assert records(folder)


@pytest.mark.slow
def test_what_cannot_run_is_recorded_and_the_rest_runs(command: Command, folder: Path) -> None:
    (folder / "grid.yaml").write_text(
        "name: tiny\n"
        "axes:\n"
        "  framework: [reference, torch==99.0.0, 'torch==mine']\n"
        "  device: [cpu, gpu]\n"
        "  seed: [0]\n"
        "  batch_exponent: [0]\n"
        "parameters: {samples: 1, warmup: 0, threads: 1, parity_examples: 1}\n" + MINE
    )
    venv.create(folder / "bare")
    ended = command("run", "grid.yaml")
    assert ended.returncode == 1, ended.stderr
    found = {
        (row["framework"], row["version"] or "", row["device"]): row for row in records(folder)
    }
    statuses = {key: row["status"] for key, row in found.items()}
    assert statuses == {
        ("reference", "", "cpu"): "ok",
        ("torch", "99.0.0", "cpu"): "env_failed",
        ("torch", "mine", "cpu"): "env_failed",
        ("torch", "99.0.0", "gpu"): "unsupported",
        ("torch", "mine", "gpu"): "unsupported",
    }
    assert "99.0.0" in found["torch", "99.0.0", "cpu"]["error"]
    assert "GPU" in found["torch", "mine", "gpu"]["error"]
    assert "No module named 'torch'" in found["torch", "mine", "cpu"]["error"]


def test_settings_that_do_not_fit_the_data_are_one_error_before_any_trial(
    command: Command, folder: Path
) -> None:
    training = {
        "backward: [autograd, explicit]": "backward: [autograd]",
        "[0]\n": "[2]\n",
        "samples: 2, warmup: 1": "examples: 3",
    }
    text = f"workload: train\n{GRID}"
    for old, new in training.items():
        text = text.replace(old, new)
    (folder / "grid.yaml").write_text(text)
    ended = command("run", "grid.yaml")
    assert ended.returncode == 2
    assert (
        ended.stderr.count("has 3 examples to train on and a batch takes 4: lower batch_exponent")
        == 1
    )
    assert "Traceback" not in ended.stderr
    assert not list(folder.glob("results/tiny/records/*"))


def test_a_sweep_stops_at_max_failures(command: Command, folder: Path) -> None:
    venv.create(folder / "bare")
    (folder / "grid.yaml").write_text(GRID.replace("[reference]", "['torch==mine']") + MINE)
    ended = command("run", "grid.yaml", "--max-failures", "2")
    assert ended.returncode == 1
    assert "error: 2 trials have failed" in ended.stderr
    assert len(records(folder)) == 2


@pytest.mark.slow
def test_a_trial_is_reproduced_beside_its_record(command: Command, folder: Path) -> None:
    assert command("run", "grid.yaml", "--only", "*/explicit/*/s0").returncode == 0
    again = command("reproduce", "tiny", "*explicit*s0")
    assert again.returncode == 0, again.stderr
    assert "loss" in again.stdout
    assert len(records(folder)) == 1
