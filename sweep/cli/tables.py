"""Tables: rows written for people, papers and programs."""

from __future__ import annotations

import csv
import enum
import io
import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sweep.cli import output

_GAP = "  "
_WIDTH_OF_A_FILE = 120
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "×": r"$\times$",
    "–": "--",
    "µ": r"\textmu{}",
    "²": r"\textsuperscript{2}",
}


class Format(enum.StrEnum):
    """How rows are written."""

    TABLE = "table"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"
    LATEX = "latex"


class Column(NamedTuple):
    """A column as people see it; `rank` says how gladly it is left out where there is no room, 0 never."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    is_text: bool = False

    @property
    def width(self) -> int:
        return max(len(self.title), *(len(cell) for cell in self.cells)) if self.cells else len(self.title)


def emit(form: Format, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Write `columns` for people (table, md, latex) or `rows` for programs (csv, json), on stdout."""
    if form is Format.JSON:
        output.emit(json.dumps([plain(row) for row in rows], indent=1, ensure_ascii=False))
    elif form is Format.CSV:
        output.emit(as_csv(rows))
    elif form is Format.MARKDOWN:
        output.emit(as_markdown(columns))
    elif form is Format.LATEX:
        output.emit(as_latex(columns))
    else:
        output.emit("\n".join(filter(None, [title, as_text(columns, room())])))


def row(axes: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A row for programs: the axes and parameters of a cell, and what is found of it.

    Those columns are always called the same. An axis may be called anything: one that is called as one of them is
    `axis_samples`, say.
    """
    names: dict[str, str] = {}
    for axis in axes:
        taken = {*own, *names.values(), *(name for name in axes if name != axis)}
        names[axis] = _apart(axis, taken)
    return {names[axis]: value for axis, value in axes.items()} | dict(own)


def beside(axes: Sequence[Column], own: Sequence[Column]) -> list[Column]:
    """Columns for people, those of axes first; no two have one title, see `row`."""
    found: list[Column] = []
    for column in axes:
        taken = {each.title for each in [*own, *found]}
        found.append(column._replace(title=_apart(column.title, taken)))
    return [*found, *own]


def _apart(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name = f"axis_{name}"
    return name


def room() -> int:
    """Characters in a line: the terminal's, or as many as a file reads well with."""
    if output.stdout.is_terminal or "COLUMNS" in os.environ:
        return shutil.get_terminal_size((_WIDTH_OF_A_FILE, 24)).columns
    return _WIDTH_OF_A_FILE


def as_text(columns: Sequence[Column], width: int) -> str:
    """Aligned columns under a rule; those of the highest rank are left out until the rest fits."""
    kept = list(columns)
    while _line_width(kept) > width and any(column.rank for column in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    aligned = [_aligned(column) for column in kept]
    titles, rule, *lines = (_GAP.join(line).rstrip() for line in zip(*aligned, strict=True))
    return "\n".join([titles, rule, *lines])


def as_markdown(columns: Sequence[Column]) -> str:
    marks = ["---" if column.is_text else "---:" for column in columns]
    lines = [[column.title for column in columns], marks, *zip(*(column.cells for column in columns), strict=True)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def as_latex(columns: Sequence[Column]) -> str:
    """A `tabular` for the package booktabs."""
    kinds = "".join("l" if column.is_text else "r" for column in columns)
    lines = [
        " & ".join(latex(cell) for cell in line) + r" \\"
        for line in [[column.title for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    ]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: no NaN, no infinity."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "; ".join(str(each) for each in value)
    return plain(value)


def _aligned(column: Column) -> list[str]:
    """Title, rule and cells, all of one width."""
    width = column.width
    texts = [column.title, "─" * width, *column.cells]
    return [text.ljust(width) if column.is_text else text.rjust(width) for text in texts]


def _line_width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)
