"""Tables: rows written for people, papers and programs."""

from __future__ import annotations

import csv
import enum
import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len

from sweep.cli import output
from sweep.texts import printable

_GAP = "  "
_WIDTH_OF_A_FILE = 120
# What CommonMark and GitHub's tables read otherwise: of brackets those that end the text of a link, of underscores
# those within no word, `#` and `@` where GitHub makes links of them.
_MARKDOWN = re.compile(r"[\\`*<>&~|$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|(?<!\w)[#@](?=\w)")
_EDGES = re.compile(r"^\s+|\s+$")
_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "×": r"$\times$",
    "–": "--",
    "µ": r"\textmu{}",
    "²": r"\textsuperscript{2}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
}
_LIGATURES = re.compile(
    r"(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=,)(?=,)|(?<=[!?])(?=`)"
)  # signs that LaTeX would join

# what spreadsheets take for the start of a formula; tab and carriage return are left out before they look
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class Format(enum.StrEnum):
    """How rows are written; in csv no cell starts as a formula, in csv-raw each is as it is."""

    TABLE = "table"
    MARKDOWN = "md"
    CSV = "csv"
    CSV_RAW = "csv-raw"
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
        return max(cell_len(printable(text)) for text in (self.title, *self.cells))


def emit(
    form: Format, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str = ""
) -> None:
    """Write `columns` for people (table, md, latex) or `rows` for programs (the others), on stdout."""
    if form is Format.JSON:
        output.emit(json.dumps([plain(row) for row in rows], indent=1, ensure_ascii=False))
    elif form is Format.CSV:
        output.emit(as_csv(rows))
    elif form is Format.CSV_RAW:
        output.emit(as_csv(rows, raw=True))
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
    clashing = own.keys() & axes.keys()
    if not clashing:
        return {**axes, **own}
    taken = {*own, *axes}
    found: dict[str, Any] = {}
    for axis, value in axes.items():
        name = _apart(f"axis_{axis}", taken) if axis in clashing else axis
        taken.add(name)
        found[name] = value
    return {**found, **own}


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
    titles, *lines = _lines(columns, markdown)
    return "\n".join("| " + " | ".join(line) + " |" for line in (titles, marks, *lines))


def as_latex(columns: Sequence[Column]) -> str:
    """A `tabular` for the package booktabs."""
    kinds = "".join("l" if column.is_text else "r" for column in columns)
    lines = [_shielded(" & ".join(line)) + r" \\" for line in _lines(columns, latex)]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def as_csv(rows: Sequence[Mapping[str, Any]], raw: bool = False) -> str:
    """Rows under their names; text that a spreadsheet would run starts with an apostrophe, unless `raw`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    if not raw:
        lines = [[_no_formula(cell) for cell in line] for line in lines]
    return "".join(f"{_csv_line(line)}\n" for line in lines)


def _no_formula(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(
        cells
    )  # else a carriage return would not be quoted
    return text.getvalue().removesuffix("\r\n")


def markdown(text: str) -> str:
    """Text as it is read in a table of GitHub's Markdown."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", printable(text))
    return _EDGES.sub(lambda match: "&#32;" * len(match[0]), escaped)


def latex(text: str) -> str:
    spaced = _LIGATURES.split(printable(text))
    return "{}".join(
        "".join(_LATEX.get(character, character) for character in part) for part in spaced
    )


def plain(value: Any) -> Any:
    """The value as JSON can hold it: no NaN, no infinity."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(columns: Sequence[Column], write: Callable[[str], str]) -> list[list[str]]:
    """The titles, and the cells of each row."""
    rows = zip(*(column.cells for column in columns), strict=True)
    return [
        [write(text) for text in line] for line in [[column.title for column in columns], *rows]
    ]


def _shielded(line: str) -> str:
    """A row that the command before it does not take for its argument: `\\\\` and `\\midrule` read on for a bracket."""
    return f"{{}}{line}" if line.lstrip().startswith(("[", "*")) else line


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "; ".join(str(each) for each in value)
    return plain(value)


def _aligned(column: Column) -> list[str]:
    """Title, rule and cells, all of one width."""
    width = column.width
    texts = [printable(column.title), "─" * width, *map(printable, column.cells)]
    return [_padded(text, width, column.is_text) for text in texts]


def _padded(text: str, width: int, is_text: bool) -> str:
    """The text in so many columns of a terminal, of which a Chinese sign takes two."""
    space = " " * (width - cell_len(text))
    return text + space if is_text else space + text


def _line_width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)
