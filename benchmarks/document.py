"""The document that tells the figures: ratios first, absolute ones beside them, the machine and the day above."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import kept
from sweep.analysis.quantities import quantity

FILE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
HEAD = """\
# Performance, beside what one would pick instead
Written by `python -m benchmarks [GROUP …]`, which measures a group anew and keeps the others; `--quick` does less of
each. A ratio says how many times as much it is as in the first line. Tools are timed from outside, each in an
environment of its own, with the framework from the same files. What one more trial costs is the time of many trials
less that of few, divided. asv's fork server is quicker where the framework is small: it leases no cores,
asks no cluster, and does not have each result on disk before it takes the next.
"""


def write() -> None:
    FILE.write_text("\n".join([HEAD, *(_group(group, rows) for group, rows in kept().items())]))


def _group(group: str, rows: list[dict[str, Any]]) -> str:
    measured = f"{rows[0]['measured_at'].replace('T', ' ')}, {rows[0]['machine']}."
    tables = [
        _table(what, [row for row in rows if row["what"] == what]) for what in dict.fromkeys(r["what"] for r in rows)
    ]
    return "\n".join([f"## {group.capitalize()}", measured, "", *tables])


def _table(what: str, rows: list[dict[str, Any]]) -> str:
    lines = [f"| {what} | ratio | figure | |", "|---|---|---|---|"]
    for row in rows:
        told = quantity(row["value"], row["unit"]) if row["unit"] in ("s", "B") else f"{row['value']:.4g} {row['unit']}"
        lines.append(f"| {row['who']} | {row['value'] / rows[0]['value']:.3g} × | {told} | {row['note']} |")
    return "\n".join([*lines, ""])
