"""Caveats: what comes with a verdict. What makes either side doubtful, and what else differs between the sides.

A verdict names the one thing that two cells are meant to differ in. Times also depend on the Python, the NumPy and the
BLAS beneath, on the machine and on the version of sweep: where these differ as well, the ratio is that of all together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sweep.analysis.comparisons import Comparison
from sweep.analysis.doubts import Doubt, doubts, together
from sweep.analysis.summary import Summary
from sweep.analysis.wording import circumstances, name, varied_axes

_SAID_BY_THE_VERDICT = frozenset({"few processes"})
_OF_ANY = {"python": "Python", "numpy": "NumPy", "blas": "BLAS"}
_OF_ONE_FRAMEWORK = {"framework_build": "the build of the framework"}  # of two frameworks it tells nothing
_OF_THE_SAME = {"environment_id": "packages of the environment"}  # where nothing that is told above differs
_OF_MACHINES = {"cpu_model": "CPU", "device_name": "device", "code_version": "version of sweep"}
_WHOLE_TEXT = 40  # characters; of longer texts the words that differ are told
_MOST_WORDS = 6
_ALIKE_TOLD = 2  # caveats of one kind that are told one by one


Known = dict[tuple[str, str, str], list[Doubt]]  # by run, metric and axes


class Told(NamedTuple):
    """A line of text about some comparisons, and its kind."""

    kind: str
    text: str


def caveats(found: Sequence[Comparison], known: Known | None = None) -> list[list[Doubt]]:
    """For each comparison its caveats, those of either side first.

    `known` keeps what is doubtful about cells, for further comparisons of the same run.
    """
    known = {} if known is None else known
    return [[*_of_machines(comparison), *_of_sides(comparison, known), *_of_both(comparison)] for comparison in found]


def told(found: Sequence[Comparison]) -> list[Told]:
    """The caveats of comparisons that are shown together: each once, with the cells that it is of, few of each kind."""
    varied = varied_axes(found)
    cells = [circumstances(comparison.axes, varied).strip() or "everywhere" for comparison in found]
    named = [(cell, caveat) for cell, mine in zip(cells, caveats(found), strict=True) for caveat in dict.fromkeys(mine)]
    lines: dict[str, list[str]] = {}
    for caveat, of in together(named):
        lines.setdefault(caveat.kind, []).append(_line(caveat, of, len(found)))
    return [each for kind, texts in lines.items() for each in _few(kind, texts)]


def _line(caveat: Doubt, of: Sequence[str], comparisons: int) -> str:
    if len(of) == comparisons:
        return str(caveat)
    where = of[0] if len(of) == 1 else f"in {len(of)} of {comparisons} comparisons"
    return f"{where}: {caveat}"


def _few(kind: str, texts: Sequence[str]) -> Iterator[Told]:
    """The first lines of a kind, and how many more there are."""
    for text in texts[:_ALIKE_TOLD]:
        yield Told(kind, text)
    if len(texts) > _ALIKE_TOLD:
        yield Told(kind, f"{len(texts) - _ALIKE_TOLD} more of this kind ({kind}): --format json has them all")


def _of_sides(comparison: Comparison, known: Known) -> Iterator[Doubt]:
    """What is doubtful about either side; what is doubtful about both, once."""
    values = (comparison.subject_value, comparison.baseline_value)
    runs = values if comparison.over == "run" else ("", "")
    sides = (comparison.subject, comparison.baseline)
    mine, theirs = (_doubts(run, side, known) for run, side in zip(runs, sides, strict=True))
    for doubt in mine:
        whose = "both sides" if doubt in theirs else name(comparison.over, values[0])
        yield Doubt(doubt.kind, f"{whose}: {doubt.text}", doubt.remedy)
    for doubt in theirs:
        if doubt not in mine:
            yield Doubt(doubt.kind, f"{name(comparison.over, values[1])}: {doubt.text}", doubt.remedy)


def _of_machines(comparison: Comparison) -> Iterator[Doubt]:
    """What is left out, since the other side has nothing from such a machine."""
    if comparison.unmatched:
        left_out = " and ".join(comparison.unmatched)
        fix = "run both on the same kinds of machine, or pool them with --across-machines"
        yield Doubt("machines", f"left out: {left_out}, where the other side has none", fix)


def _doubts(run: str, side: Summary | None, known: Known) -> list[Doubt]:
    """The doubts of a summary, looked for once."""
    if side is None:
        return []
    key = (run, side.metric, repr(side.axes))
    if key not in known:
        known[key] = [doubt for doubt in doubts(side) if doubt.kind not in _SAID_BY_THE_VERDICT]
    return known[key]


def _of_both(comparison: Comparison) -> Iterator[Doubt]:
    """What else differs between the sides."""
    if comparison.ratio is None or not comparison.subject or not comparison.baseline:
        return
    sides = (comparison.subject, comparison.baseline)
    found = _differing(_OF_ANY, *sides)
    if _framework(sides[0]) == _framework(sides[1]):
        found = found or _differing(_OF_ONE_FRAMEWORK, *sides)
        found = found or _differing(_OF_THE_SAME, *sides)
    found = list(dict.fromkeys([*found, *_differing(_OF_MACHINES, *sides)]))
    if found:
        pair = (name(comparison.over, value) for value in (comparison.subject_value, comparison.baseline_value))
        text = f"{' and '.join(pair)} differ in more: {', '.join(found)}"
        fix = "the ratio is that of all together; docs/environments.md says how to give both the same"
        yield Doubt("differs", text, fix)


def _framework(side: Summary) -> tuple[object, object]:
    return side.axes.get("framework"), side.axes.get("version")


def _differing(columns: Mapping[str, str], one: Summary, other: Summary) -> list[str]:
    """What the trials of the two sides do not have alike, as `Python (3.12.3, 3.8.20)`; what is not known, neither."""
    found = []
    for column, what in columns.items():
        mine, theirs = ({str(value) for value in side.column(column) if value} for side in (one, other))
        if mine and theirs and mine != theirs:
            texts = [" / ".join(sorted(values)) for values in (mine, theirs)]
            found.append(f"{what} ({_apart(*texts)})")
    return found


def _apart(one: str, other: str) -> str:
    """Two texts as few words tell them apart."""
    if max(len(one), len(other)) <= _WHOLE_TEXT:
        return f"{one}, {other}"
    mine, theirs = (re.split(r"[\s;,]+", text) for text in (one, other))
    words = [[word for word in words if word not in others] for words, others in ((mine, theirs), (theirs, mine))]
    return ", ".join(" ".join(each[:_MOST_WORDS]) or "–" for each in words)
