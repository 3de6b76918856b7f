"""The command `sweep doctor`: whether timings on this machine can be trusted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import output, paths, runs
from sweep.cli.tables import Column, Format, emit
from sweep.errors import UNAVAILABLE
from sweep.texts import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sweep.doctor import Finding, Grade

_MARKS: dict[Grade, str] = {"error": "✗", "warning": "!", "note": "·", "ok": "✓"}


def doctor(
    form: Annotated[
        Format, typer.Option("--format", help="How to write the findings.")
    ] = Format.TABLE,
    out: Annotated[
        Path,
        typer.Option(
            parser=paths.path, metavar="DIR", help="Where runs are written, for the room there."
        ),
    ] = Path(runs.RESULTS),
) -> int:
    """Look at this machine and show what affects timings, with the commands that fix it.

    Changes nothing. Ends with 5 if trials could not run or their records could not be kept, else
    with 0.

    Example: `sweep doctor --format md`
    """
    from sweep.doctor import findings, worst
    from sweep.node import snapshot

    found = findings(snapshot.take(out))
    if form is Format.TABLE:
        output.emit("\n".join(_lines(found)))
        output.say(_totals(found))
    else:
        emit(form, _columns(found), [dataclasses.asdict(finding) for finding in found])
    return UNAVAILABLE if worst(found) == "error" else 0


def _lines(found: Sequence[Finding]) -> list[str]:
    """Return one line for a finding that is ok, three for any other."""
    width = max(len(finding.subject) for finding in found)
    indent = " " * (width + 4)
    lines = []
    for finding in found:
        lines.append(f"{_MARKS[finding.grade]} {finding.subject.ljust(width)}  {finding.found}")
        if finding.grade != "ok":
            lines += [f"{indent}effect: {finding.effect}", f"{indent}fix: {finding.fix}"]
    return lines


def _totals(found: Sequence[Finding]) -> str:
    counts = Counter(finding.grade for finding in found)
    grades = [counted(counts[grade], grade) for grade in _MARKS if counts[grade] and grade != "ok"]
    totals = ", ".join(grades) or "all is well"
    return f"{len(found)} things looked at: {totals}; nothing was changed"


def _columns(found: Sequence[Finding]) -> list[Column]:
    names = ("grade", "subject", "found", "effect", "fix")
    return [
        Column(name, [getattr(finding, name) for finding in found], is_text=True) for name in names
    ]
