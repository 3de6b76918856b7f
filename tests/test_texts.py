"""Counts in words, on the command line and in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import Sweep
from made_up import Planned, keep, record

from sweep.texts import counted, having

SOURCES = Path(__file__).parent.parent / "sweep"


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "trial", "0 trials"),
        (1, "more seed", "1 more seed"),
        (2, "process", "2 processes"),
        (1, "process", "1 process"),
        (1234, "cell", "1,234 cells"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
    assert having(count, noun) == f"{text} {'has' if count == 1 else 'have'}"


def test_one_of_anything_is_singular_in_commands_and_the_report(sweep: Sweep) -> None:
    keep("results/one", [record(threads=1)], trials=[Planned("gone", "torch==3/core/b0/s0")])
    said = [sweep(command, "one") for command in ("summarize", "report", "status")]
    assert "1 planned trial has no record yet" in said[0].err
    page = Path("results/one/report.html").read_text().partition("<main")[0].rpartition("<body>")[2]
    assert "1 trial in 1 cell" in page
    texts = " ".join([*(each.out + each.err for each in said), page])
    assert not re.findall(
        r"(?<![\d.,])1 (?:more |other |planned )?(?:trials|cells|processes|seeds|threads)\b", texts
    )


def test_plurals_are_made_in_one_place() -> None:
    own = re.compile(r"""['"]e?s['"] if |['"]['"] if \w+ == 1 else ['"]e?s['"]""")
    files = [file for file in SOURCES.rglob("*.py") if own.search(file.read_text(encoding="utf-8"))]
    assert [file.name for file in files] == []
