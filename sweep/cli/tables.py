"""Tables: rows in formats for people, papers and programs."""

from __future__ import annotations

import csv
import enum
import io
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len

from sweep.cli import output
from sweep.texts import printable

_GAP = "  "
_FILE_WIDTH = 120  # characters
_AT_ONCE = 10_000  # rows that are written together
# What CommonMark and GitHub's tables interpret: brackets that end the text of a link, underscores
# that are not within a word, and `#` and `@` where GitHub makes links of them.
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
# Characters that LaTeX would join.
_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=,)(?=,)|(?<=[!?])(?=`)")

# What spreadsheets read as the start of a formula; they skip tabs and carriage returns before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class Format(enum.StrEnum):
    """How rows are written.

    No cell of csv starts like a formula; those of csv-raw are unchanged.
    """

    TABLE = "table"
    MARKDOWN = "md"
    CSV = "csv"
    CSV_RAW = "csv-raw"
    JSON = "json"
    LATEX = "latex"


class Column(NamedTuple):
    """A column for people.

    `rank` says how early it is left out if there is no room: the highest first, 0 never.
    """

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
    """Write `columns` for people (table, md, latex) or `rows` for programs to stdout."""
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
        output.emit("\n".join(filter(None, [title, as_text(columns, line_width())])))


def emit_one_by_one(form: Format, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows for programs as `emit` does, without holding all; columns are the first row's."""
    if form is Format.JSON:
        _emit_array(rows)
        return
    for number, some in enumerate(_batches(rows)):
        text = as_csv(some, raw=form is Format.CSV_RAW)
        names, _, others = text.partition("\n")
        output.emit(others if number else f"{names}\n{others}")


def _emit_array(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON array, laid out as `json.dumps` lays out the whole of it."""
    batches = _batches(rows)
    some = next(batches, None)
    if some is None:
        output.emit("[]")
        return
    output.emit("[")
    while some is not None:
        following = next(batches, None)
        text = json.dumps([plain(row) for row in some], indent=1, ensure_ascii=False)
        inner = text.removeprefix("[\n").removesuffix("\n]")
        output.emit(f"{inner}," if following else inner)
        some = following
    output.emit("]")


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(rows)
    while some := list(itertools.islice(rest, _AT_ONCE)):
        yield some


def row(axes: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for programs: the axes and parameters of a cell, and its results.

    The names of results are fixed, those of axes are not: an axis with the name of a result, such
    as `samples`, becomes `axis_samples`.
    """
    clashing = own.keys() & axes.keys()
    if not clashing:
        return {**axes, **own}
    taken = {*own, *axes}
    renamed: dict[str, Any] = {}
    for axis, value in axes.items():
        name = _unique(f"axis_{axis}", taken) if axis in clashing else axis
        taken.add(name)
        renamed[name] = value
    return {**renamed, **own}


def beside(axes: Sequence[Column], own: Sequence[Column]) -> list[Column]:
    """Return columns for people, axes first; titles are unique, as names are in `row`."""
    renamed: list[Column] = []
    for column in axes:
        taken = {other.title for other in [*own, *renamed]}
        renamed.append(column._replace(title=_unique(column.title, taken)))
    return [*renamed, *own]


def _unique(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name = f"axis_{name}"
    return name


def line_width() -> int:
    """Return the characters of a line: those of the terminal, or a readable number for a file."""
    if output.stdout.is_terminal or "COLUMNS" in os.environ:
        return shutil.get_terminal_size((_FILE_WIDTH, 24)).columns
    return _FILE_WIDTH


def as_text(columns: Sequence[Column], width: int) -> str:
    """Return aligned columns under a rule; columns are left out by rank until the rest fits."""
    kept = list(columns)
    while _line_width(kept) > width and any(column.rank for column in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    aligned = [_aligned(column) for column in kept]
    titles, rule, *lines = (_GAP.join(line).rstrip() for line in zip(*aligned, strict=True))
    return "\n".join([titles, rule, *lines])


def as_markdown(columns: Sequence[Column]) -> str:
    """Return a table of GitHub's Markdown, numbers aligned to the right."""
    marks = ["---" if column.is_text else "---:" for column in columns]
    titles, *lines = _lines(columns, markdown)
    return "\n".join("| " + " | ".join(line) + " |" for line in (titles, marks, *lines))


def as_latex(columns: Sequence[Column]) -> str:
    """Return a `tabular` for the package booktabs."""
    kinds = "".join("l" if column.is_text else "r" for column in columns)
    lines = [_protected(" & ".join(line)) + r" \\" for line in _lines(columns, latex)]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{kinds}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def as_csv(rows: Sequence[Mapping[str, Any]], raw: bool = False) -> str:
    """Return rows under their names as CSV.

    Text that a spreadsheet would execute gets an apostrophe before it, unless `raw`.
    """
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
    # With another line terminator, a cell with a carriage return would not be quoted.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


def markdown(text: str) -> str:
    """Return text escaped for a table of GitHub's Markdown."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", printable(text))
    return _EDGES.sub(lambda match: "&#32;" * len(match[0]), escaped)


def latex(text: str) -> str:
    """Return text escaped for LaTeX, without ligatures."""
    parts = _LIGATURES.split(printable(text))
    return "{}".join("".join(map(_latex_character, part)) for part in parts)


def _latex_character(character: str) -> str:
    return _LATEX.get(character, character)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(columns: Sequence[Column], write: Callable[[str], str]) -> list[list[str]]:
    """Return the titles, and the cells of each row."""
    titles = [column.title for column in columns]
    rows = zip(*(column.cells for column in columns), strict=True)
    return [[write(text) for text in line] for line in [titles, *rows]]


def _protected(line: str) -> str:
    """Keep LaTeX from reading the start of a row as an argument of the command before it.

    `\\\\` and `\\midrule` take a bracket or star that follows.
    """
    return f"{{}}{line}" if line.lstrip().startswith(("[", "*")) else line


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "; ".join(str(each) for each in value)
    return plain(value)


def _aligned(column: Column) -> list[str]:
    """Return title, rule and cells, all of the same width."""
    width = column.width
    texts = [printable(column.title), "─" * width, *map(printable, column.cells)]
    return [_padded(text, width, column.is_text) for text in texts]


def _padded(text: str, width: int, is_text: bool) -> str:
    """Return the text padded to a width in terminal columns; a Chinese character takes two."""
    space = " " * (width - cell_len(text))
    return text + space if is_text else space + text


def _line_width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)
