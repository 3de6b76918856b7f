"""The document of the figures: ratios, absolute values, the machine and the day."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.figures import TARGET, kept
from sweep.analysis.quantities import factor, quantity

FILE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
HEAD = """\
# Performance, beside what one would pick instead
Written by `python -m benchmarks [GROUP …]`, which measures the groups named and keeps the others;
`--quick` measures less of each. The figures are in `results/benchmarks`, one Parquet file per
group.

**Less is better everywhere.** Each line has one figure beside ours for the same task, and its
ratio to ours: above 1 sweep is better, below 1 the other tool. A *target* is set by ourselves, and
met where its ratio is above 1. Tools are timed from outside, each in an environment of its own,
with the framework from the same files.
"""
Row = dict[str, Any]


def write(groups: Sequence[str]) -> None:
    """Write the document of all groups that were measured, in this order."""
    told = [_group(name, rows) for name in groups if (rows := kept(name))]
    FILE.write_text("\n".join([HEAD, *told]), encoding="utf-8")


def _group(name: str, rows: list[Row]) -> str:
    said = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
    title, _, more = said.partition("\n")
    head = [f"## {name.capitalize()}", title, *([more.strip()] if more.strip() else []), ""]
    when = rows[0]["measured_at"].replace("T", " ").replace("+00:00", " UTC")
    measured = (
        f"Measured on {when}{', with `--quick`' if rows[0]['quick'] else ''}: {rows[0]['machine']}."
    )
    whats = [list(same) for _, same in groupby(rows, key=lambda row: row["what"])]
    return "\n".join([*head, measured, "", *_tables(whats)])


def _tables(whats: list[list[Row]]) -> list[str]:
    """Return one table with a line each for several tasks of the same tools, else a table each."""
    tables = []
    for tools, same in groupby(whats, key=lambda rows: [row["who"] for row in rows]):
        together = list(same)
        bare = not any(row["note"] for rows in together for row in rows)
        tables += (
            [_side_by_side(together)]
            if bare and len(together) > len(tools)
            else map(_table, together)
        )
    return tables


def _table(rows: list[Row]) -> str:
    ours = rows[0]
    beside = [row for row in rows if row["who"] != ours["who"]]
    lines = [
        f"| {ours['what']} | its figure | {ours['who']} | ratio | |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {_who(row)} | {_told(row)} | {_told(ours)} | {_ratio(row, ours)} | {row['note']} |"
        for row in beside or rows
    ]
    return "\n".join(
        [*lines, "", *([f"{ours['who']}: {ours['note']}.", ""] if ours["note"] and beside else [])]
    )


def _side_by_side(whats: list[list[Row]]) -> str:
    """Return one table; the text that all tasks share before the colon appears once."""
    tools = [_who(row) for row in whats[0]]
    subjects = {rows[0]["what"].rpartition(": ")[0] for rows in whats}
    subject = subjects.pop() if len(subjects) == 1 else ""
    lines = [f"| {subject} | " + " | ".join(tools) + " |", "|---" + "|---:" * len(tools) + "|"]
    for ours, *others in whats:
        told = [_told(ours), *(f"{_told(row)} ({_ratio(row, ours)})" for row in others)]
        lines.append(f"| {ours['what'].removeprefix(f'{subject}: ')} | " + " | ".join(told) + " |")
    return "\n".join([*lines, ""])


def _who(row: Row) -> str:
    return f"*{TARGET}*" if row["who"] == TARGET else str(row["who"])


def _told(row: Row) -> str:
    return quantity(row["value"], row["unit"]) if row["value"] else "0"


def _ratio(row: Row, ours: Row) -> str:
    if not ours["value"]:
        return "–"
    ratio = row["value"] / ours["value"]
    return f"{factor(ratio) if ratio >= 1 else f'{ratio:.3g}'} ×"
