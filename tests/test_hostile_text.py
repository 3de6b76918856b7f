"""Text from elsewhere in every format that is written, read back by a parser of that format."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from made_up import Planned, keep, record
from markdown_it import MarkdownIt
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import (
    LatexEnvironmentNode,
    LatexMacroNode,
    LatexNode,
    LatexSpecialsNode,
    LatexWalker,
)
from pylatexenc.latexwalker import get_default_latex_context_db as walker_db
from pylatexenc.macrospec import MacroSpec
from rich.cells import cell_len

from sweep.analysis import run as analysis
from sweep.cli import output, tables
from sweep.cli.display import LiveDisplay
from sweep.cli.tables import Column
from sweep.grid import Exclusion
from sweep.report import figures, plots, report
from sweep.texts import printable

PIECES = [
    *"\n\r\t\x00\x1b\x7f\x85\x9b\u2028\u202e\u3000 |[]<>&%_$#@{}~^*`'\"\\=+-,;:!?/()",
    *("a", "B", "0", "é", "→", "中", "²", "…"),
    *(
        "](http://x)",
        "[a](b)",
        "![a](b)",
        "<script>alert(1)</script>",
        "</script>",
        "<!--",
        "&amp;",
        "&#10;",
        "a_b_c",
    ),
    *(
        "__a__",
        "**a**",
        "~~a~~",
        "```",
        "$x$",
        "\\\\",
        "\\input{x}",
        "\\\\[1cm]",
        "%%",
        "--",
        "''",
        "``",
        "!`",
        "\x1b[31m",
    ),
    *(
        "[bold]a[/bold]",
        "[/red]",
        "=1+1",
        "@SUM(A1)",
        "http://a.b/c?d=e&f",
        "a@b.de",
        "{{x}}",
        "${x}",
        "$name",
        "\u200d",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)
UNHURRIED = settings(deadline=None)
WORST = [(first, second) for first, second in zip(PIECES, reversed(PIECES), strict=True)]


def columns(rows: Sequence[tuple[str, str]]) -> list[Column]:
    one, other = zip(*rows, strict=True)
    return [Column("[na|me", one, is_text=True), Column("*val<ue", other)]


def expected(rows: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Titles and rows as people are to read them: an escape stands for what cannot be printed."""
    return [[printable(text) for text in row] for row in [("[na|me", "*val<ue"), *rows]]


@UNHURRIED
@given(ROWS)
@example(WORST)
def test_markdown(rows: list[tuple[str, str]]) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])  # as GitHub's
    tokens = parser.parse("before\n\n" + tables.as_markdown(columns(rows)) + "\n\nafter")
    assert [token.type for token in tokens].count("table_open") == 1
    cells = [text_of(token.children or []) for token in tokens if token.type == "inline"][1:-1]
    assert [cells[i : i + 2] for i in range(0, len(cells), 2)] == expected(rows)


def text_of(children: Sequence[Any]) -> str:
    assert {child.type for child in children} <= {"text", "text_special"}
    return "".join(child.content for child in children)


@UNHURRIED
@given(ROWS)
@example(WORST)
def test_raw_csv(rows: list[tuple[str, str]]) -> None:
    read = csv_rows(
        tables.as_csv(
            [{"[na|me": one, "a\nb": other, "list": [one, 1]} for one, other in rows], raw=True
        )
    )
    assert read == [{"[na|me": one, "a\nb": other, "list": f"{one}; 1"} for one, other in rows]


@UNHURRIED
@given(ROWS)
@example(WORST)
@example(
    [
        ("=1+1", "@SUM(A1)"),
        ("+1+1", "-1+1"),
        ("\t=1", "\r=1"),
        ("-1.5e-3", "'"),
        ("-", "－1"),
        ("", "a=1"),
    ]
)
def test_csv(rows: list[tuple[str, str]]) -> None:
    read = csv_rows(
        tables.as_csv([{"[na|me": one, "a\nb": other, "=list": [one, 1]} for one, other in rows])
    )
    cells = [[row["[na|me"], row["a\nb"], row["'=list"]] for row in read]
    texts = [[one, other, f"{one}; 1"] for one, other in rows]
    for cell, text in zip(itertools.chain(*cells), itertools.chain(*texts), strict=True):
        assert cell in (text, f"'{text}")
        assert not re.match("[=@\t\r\n＝＋－＠]", cell)
        if cell.startswith(("+", "-")):
            float(cell)


def test_numbers_of_csv_are_numbers() -> None:
    assert tables.as_csv([{"a": -1.5, "b": "-2", "c": 3}]) == "a,b,c\n-1.5,-2,3\n"


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@UNHURRIED
@given(
    st.lists(
        st.dictionaries(TEXTS, TEXTS | st.floats() | st.lists(TEXTS, max_size=2), max_size=3),
        max_size=3,
    )
)
def test_json(rows: list[dict[str, Any]]) -> None:
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", written)
        tables.emit(tables.Format.JSON, [], rows)
    assert json.loads(written.getvalue()) == [tables.plain(row) for row in rows]


@UNHURRIED
@given(ROWS)
@example(WORST)
def test_latex(rows: list[tuple[str, str]]) -> None:
    read = latex_rows(tables.as_latex(columns(rows)))
    assert read == [[spaced(text) for text in row] for row in expected(rows)]


def spaced(text: str) -> str:
    """LaTeX reads any number of spaces as one, and none at the edges of a cell."""
    return re.sub(" +", " ", text).strip()


def latex_rows(text: str) -> list[list[str]]:
    rules = [MacroSpec(name, "[") for name in ("toprule", "midrule", "bottomrule")]
    context = walker_db()
    rules.append(MacroSpec("textsuperscript", "{"))
    context.add_context_category("booktabs", macros=rules, prepend=True)
    nodes, *_ = LatexWalker(text, latex_context=context, tolerant_parsing=False).get_latex_nodes()
    assert [type(node) for node in nodes] == [LatexEnvironmentNode]
    rows: list[list[list[LatexNode]]] = [[[]]]
    for node in nodes[0].nodelist:
        if isinstance(node, LatexMacroNode) and node.macroname in (
            "\\",
            "toprule",
            "midrule",
            "bottomrule",
        ):
            assert not any(node.nodeargd.argnlist if node.nodeargd else []), (
                f"{node.macroname} takes text for its own"
            )
            rows += [[[]]] if node.macroname == "\\" else []
        elif isinstance(node, LatexSpecialsNode) and node.specials_chars == "&":
            rows[-1].append([])
        else:
            rows[-1][-1].append(node)
    assert not any(map(str.strip, map(plain_text, rows.pop())))
    return [[spaced(plain_text(cell)) for cell in row] for row in rows]


KERNEL = {
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textperiodcentered": "·",
    "ldots": "…",
} | {
    "textasciicircum": "^",
    "textsuperscript": "²",
}


def plain_text(nodes: Sequence[LatexNode]) -> str:
    context = get_default_latex_context_db()
    context.add_context_category(
        "kernel", macros=[MacroTextSpec(*each) for each in KERNEL.items()], prepend=True
    )
    said = LatexNodes2Text(latex_context=context, strict_latex_spaces=True)
    return str(said.nodelist_to_text(nodes))


@UNHURRIED
@given(ROWS)
@example(WORST)
def test_the_terminal(rows: list[tuple[str, str]]) -> None:
    text = tables.as_text(columns(rows), 10_000)
    lines = text.split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.isprintable() for line in lines)
    width = cell_len(lines[1])
    for line, row in zip([lines[0], *lines[2:]], expected(rows), strict=True):
        assert row[0].rstrip() in line
        assert cell_len(line.rstrip()) <= width
        assert line.rstrip().endswith(row[1].rstrip())


@UNHURRIED
@given(TEXTS)
def test_what_is_said_of_a_text_cannot_steer_a_terminal(text: str) -> None:
    allowed = output.harmless(text)
    assert not {unicodedata.category(sign) for sign in allowed if sign not in "\n\t"} & {"Cc"}
    assert "\u202e" not in allowed


@UNHURRIED
@given(TEXTS.filter(lambda text: len(text) < 20))
def test_a_name_on_the_progress_bar_is_no_markup(name: str) -> None:
    display = LiveDisplay(name)
    with output.stderr.capture() as shown:
        output.stderr.print(display)
    assert " ".join(printable(name).split()) in " ".join(shown.get().split())


class Page(HTMLParser):
    """The text of a page, and the scripts in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def hostile_run(folder: Path, texts: Sequence[str]) -> analysis.Run:
    """A run in which whatever is called anything is called this."""
    records = []
    for place, text in enumerate(texts):
        more = {
            "node": text,
            "cpu_model": text,
            "machine": {text or "x": text},
            "environment_id": f"e{place}",
            "blas": text,
        }
        for seed in range(2):
            each = record(seed, framework=f"f{place}==1", packages=[text], **more)
            each["settings"] = each["settings"] | {"a": f"{text}{place}"}
            records.append(each)
        records.append(
            record(
                9, framework=f"f{place}==1", status="crashed", error=f"{text}\nlast {text}{place}"
            )
        )
    left_out = [Exclusion(text, text) for text in texts]
    keep(
        folder,
        records,
        json.dumps({"name": "x", "axes": {}}),
        exclusions=left_out,
        trials=[Planned("p", texts[0])],
    )
    return analysis.Run(folder)


FEW = settings(
    max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate]
)  # a run each: seconds


@pytest.mark.slow
@FEW
@given(st.lists(TEXTS, min_size=1, max_size=3))
@example(PIECES[::3])
def test_html(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    run = hostile_run(tmp_path_factory.mktemp("run"), texts)
    page = report(run)
    read = Page(page)
    assert read.tags.count("script") == 3
    assert read.tags.count("section") == len(set(re.findall(r'<section id="(\w+)"', page)))
    for text in texts:
        assert printable(text, keep="\n\t").strip() in read.text
    embedded = json.loads(page.partition('id="content">')[2].partition("</script>")[0])
    assert embedded["rows"]["exclusions"]["name"] == texts
    assert set(embedded["rows"]["missing"]["name"]) == {texts[0]}


@pytest.mark.slow
@FEW
@given(st.lists(TEXTS, min_size=2, max_size=3, unique=True))
@example(PIECES[::5])
def test_svg(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    run = hostile_run(tmp_path_factory.mktemp("run"), texts)
    for kind in ("time", "processes"):
        drawn = plots.image(
            figures.picture(run, kind, figures.Choice(roles={"colour": "a"})), "svg"
        )
        root = ET.fromstring(drawn)
        assert root.tag.endswith("svg")
        assert not [node for node in root.iter() if node.tag.endswith("script")]
