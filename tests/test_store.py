"""A whole sweep into an object store, from the first trial to the report: S3's own protocol, served on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import HOUSE, Sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def sweep(s3_query: str) -> Iterator[Sweep]:
    """Its results go to a bucket of this test's own."""
    made = Sweep(3, out=f"s3://lab/results?{s3_query}")
    yield made
    made.remove()


def said(sweep: Sweep, *words: str) -> tuple[int, str]:
    """What another command of ours says, and its exit code."""
    command = [sys.executable, "-m", "sweep", *words]
    done = subprocess.run(
        command, env=sweep.environment, cwd=HOUSE, capture_output=True, text=True, timeout=100
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_sweep_into_an_object_store_is_resumed_and_read_from_there(
    sweep: Sweep, tmp_path: Path
) -> None:
    assert sweep.run("--only", "*/s0")[0] == 0
    assert sweep.kept == 4
    code, told = sweep.run()
    assert code == 0, told
    assert "4/12 trials" in told
    assert sweep.complete()

    before = sweep.records.storage.files("records")
    assert sweep.run()[0] == 0
    assert sweep.records.storage.files("records") == before

    run = str(sweep.out).replace("/results?", "/results/tiny?")
    assert "12 ok" in said(sweep, "status", run)[1]
    assert "tiny" in said(sweep, "ls", sweep.out)[1]
    code, table = said(sweep, "summarize", run, "--format", "csv")
    assert (code, table.count("reference")) == (0, 4), table
    code, compared = said(
        sweep, "compare", run, "--over", "letter", "--baseline", "a", "--format", "csv"
    )
    assert code in (0, 1, 3), compared
    page = tmp_path / "report.html"
    assert said(sweep, "report", run, "-o", str(page))[0] == 0
    assert "tiny" in page.read_text()
    assert not sweep.leavings()
    assert not list(Path(HOUSE).glob("s3:*"))
