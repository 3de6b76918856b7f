"""`sweep bisect`: from two versions to the change between them, on wheels that take longer from one version on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import versions
import yaml
from commands import Sweep

from sweep.records.results import Results

HOUSE = Path(__file__).resolve().parent.parent
GRID = """
name: tiny
workload: step
axes: {framework: [%s], batch_exponent: 0}
resources: {cpu: 1, exclusive: false}
"""
ENDS = ("--from", "tiny==1.0", "--to", "tiny==1.11")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `g.yaml`; versions 1.0 to 1.11 of tiny, twice as slow from 1.5 on; 1.6 is broken."""
    for key in [k for k in os.environ if k.startswith(("PIP_", "UV_")) and k != "UV_CACHE_DIR"]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("SWEEP_MAX_CONTENTION", "any")
    versions.plugin(tmp_path / "site")
    steps = {f"1.{n}": None if n == 6 else 0.02 if n < 5 else 0.04 for n in range(12)}
    versions.wheels(tmp_path / "wheels", steps)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "g.yaml").write_text(GRID % "tiny==1.0")
    return tmp_path


def test_a_dry_run_shows_the_versions_and_the_first_step(sweep: Sweep, tiny):
    said = sweep("bisect", "g.yaml", *ENDS, "--dry-run")

    assert said.code == 0, said.err
    assert "tiny>=1.0.0,<=1.11.0 is 12 versions: 1.0.0, 1.1.0" in said.err
    assert said.out.count("tiny==1.0.0/") == said.out.count("tiny==1.11.0/") == 3


def test_values_that_the_grid_lists_between_the_ends_are_searched_in_its_order(sweep: Sweep, tiny):
    Path("g.yaml").write_text(GRID % "tiny==1.3, tiny==1.0, tiny==1.7, tiny==1.2, tiny==1.9")

    said = sweep("bisect", "g.yaml", "--from", "tiny==1.0.0", "--to", "tiny==1.2", "--dry-run")

    assert said.code == 0, said.err
    assert "tiny: 3 cells, 6 trials" in said.err
    assert "tiny==1.2.0/" in said.out


def test_any_axis_may_be_searched_that_the_grid_lists_in_order(sweep: Sweep, tiny):
    sets = ("--set", "samples={range: [1, 9]}")
    said = sweep(
        "bisect", "g.yaml", "--over", "samples", "--from", "2", "--to", "8", *sets, "--dry-run"
    )

    assert said.code == 0, said.err
    assert "tiny: 7 cells, 6 trials" in said.err


@pytest.mark.parametrize(("options", "error", "hint"), [
    (("--from", "tiny==1.5", "--to", "tiny==1.0"), "tiny==1.0.0 is no later version than", "exchange"),
    (("--from", "tiny", "--to", "tiny==1.0"), "tiny names no version", "tiny==VERSION"),
    (("--from", "tiny==1.0", "--to", "tiny==mine"), "Invalid version: 'mine'", "list values of your own"),
    (("--from", "tiny==1.0", "--to", "torch==2.13.0"), "no versions of one framework", "list the values"),
    (("--from", "tinny==1", "--to", "tinny==2"), "there is no framework 'tinny'", "'tiny'"),
    ((*ENDS, "--set", "samples=1,2"), "one cell for each framework", "--set samples=1"),
    ((*ENDS, "--metric", "stap_s"), "there is no metric 'stap_s'", "'step_s'"),
    ((*ENDS, "--over", "bacth"), "lists no values of 'bacth'", "framework, batch_exponent"),
    (("--from", "1", "--to", "2", "--over", "batch_exponent"), "batch_exponent has no value 1", "known: 0"),
    ((*ENDS, "--margin", "5"), "'5' is 500 %", "write 5% or 0.05"),
])  # fmt: skip
def test_what_cannot_be_searched_is_an_error_with_a_hint(sweep: Sweep, tiny, options, error, hint):
    said = sweep("bisect", "g.yaml", *options)

    assert said.code == 2
    assert error in said.err
    assert hint in said.err.partition("hint: ")[2]
    assert not Path("results").exists()


def command(tiny: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep", "bisect", "g.yaml", *ENDS, "--margin", "20%", *options],
        cwd=tiny,
        env={**os.environ, "PYTHONPATH": f"{HOUSE}:{tiny / 'site'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.ray
@pytest.mark.slow
def test_the_version_that_brought_a_change_is_found_by_a_search_that_was_killed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tiny / "results" / "tiny")
    with command(tiny) as first:
        until = time.monotonic() + 200
        while len(results.statuses()) < 8 and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGKILL)
    before = results.statuses()

    with command(tiny) as second:
        out, err = second.communicate(timeout=280)

    assert second.returncode == 0, err
    assert "tiny 1.11.0 is " in out.splitlines()[0]
    (change,) = [line for line in out.splitlines() if line.startswith("change: ")]
    assert "slower than tiny 1.4.0" in change
    assert change.startswith("change: tiny 1.5.0 is ")
    assert "with it: helper 1.0 → 2.0\n" in out
    assert "not measured: tiny 1.6.0: 3 env_failed: tiny==1.6.0 cannot be imported" in out
    statuses = results.statuses()
    assert all(statuses[trial] == status for trial, status in before.items())
    assert len(results.attempts()) == len(statuses), "a trial ran twice"
    assert {row["trial_id"] for row in results.plan().to_pylist()} == statuses.keys()
    facts = yaml.safe_load((tiny / "results" / "tiny" / "run.yaml").read_text())
    assert len(facts["versions"]["tiny>=1.0.0,<=1.11.0"]) == 12

    monkeypatch.setenv(
        "PIP_FIND_LINKS", "/nowhere"
    )  # all is known: nothing is looked up, built or run
    with command(tiny, "--format", "json") as third:
        out, err = third.communicate(timeout=100)
    assert third.returncode == 0, err
    rows = json.loads(out)
    assert [(row["before"], row["after"]) for row in rows if row["what"] == "change"] == [
        ("tiny==1.4.0", "tiny==1.5.0")
    ]
    assert results.statuses() == statuses
