"""What docs/report.md promises: its commands run, and it names the plots there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from commands import Sweep
from made_up import keep
from test_report import GRID, core_time

from sweep.report import plots

DOCUMENT = Path(__file__).parent.parent / "docs" / "report.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
COMMANDS = [
    line.partition(" #")[0].strip()
    for line in TEXT.splitlines()
    if line.strip().startswith("sweep ")
]


def test_it_holds_commands() -> None:
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(sweep: Sweep, command: str) -> None:
    keep("results/core-time", core_time(), GRID)
    said = sweep(*shlex.split(command)[1:])
    assert (said.code, said.err) == (0, "")
    assert Path(said.out.strip()).stat().st_size > 1000


def test_its_notebook_runs(sweep: Sweep) -> None:
    keep("results/core-time", core_time(), GRID)
    [cell] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, bytes] = {}
    exec(cell, names)
    assert names["picture"].startswith(b"\x89PNG")


def test_it_names_every_plot() -> None:
    named = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE)
    assert re.findall(r"\w+", " ".join(named)) == list(plots.KINDS)
