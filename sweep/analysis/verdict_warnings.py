"""Warnings: what comes with a verdict. What makes either side doubtful, and what else differs between the sides.

A verdict names the one thing that two cells are meant to differ in. Times also depend on the Python, the NumPy and the
BLAS beneath, on the machine and on the version of sweep: where these differ as well, the ratio is that of all together.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sweep.analysis import result_checks
from sweep.analysis.comparisons import Comparison
from sweep.analysis.summary import Summary
from sweep.analysis.warning_signs import WarningSign, drift_warnings, warnings_of
from sweep.analysis.wording import circumstances, value_phrase, varied_axes

_SAID_BY_THE_VERDICT = frozenset({"few processes"})
_OF_ANY = {"python": "Python", "numpy": "NumPy", "blas": "BLAS"}
_OF_ONE_FRAMEWORK = {
    "framework_build": "the build of the framework"
}  # of two frameworks it tells nothing
_OF_THE_SAME = {
    "environment_id": "packages of the environment"
}  # where nothing that is told above differs
_OF_MACHINES = {"cpu_model": "CPU", "device_name": "device", "code_version": "version of sweep"}
_OF_CONTENT = {  # the words of a record's content
    "workload": "the files of the workload",
    "framework": "the files of the framework",
    "environment": "what the environment holds",
    "network": "the file of the network",
}
_SHORT = 6  # digits of a hash
_WHOLE_TEXT = 40  # characters; of longer texts the words that differ are told
_MOST_WORDS = 6
_ALIKE_TOLD = 2  # verdict_warnings of one kind that are told one by one


class _Cell(NamedTuple):
    """Whose summary a side is: the run where there are two, the metric, the axes, the kind of machine."""

    run: str
    metric: str
    axes: str
    machine: str | None


WarningCache = dict[_Cell, list[WarningSign]]


class WarningLine(NamedTuple):
    """A line of text about some comparisons, and its kind."""

    kind: str
    text: str


class _Side(NamedTuple):
    """One side of a comparison, as it is named: its value, and where it holds."""

    cell: _Cell
    summary: Summary
    value: str
    where: str


def verdict_warnings(
    found: Sequence[Comparison], known: WarningCache | None = None
) -> list[list[WarningSign]]:
    """For each comparison its verdict_warnings, those of either side first.

    `known` keeps what is doubtful about cells, for further comparisons of the same run.
    """
    known = {} if known is None else known
    drifts = _drifts(found)
    return [
        [
            *_of_results(comparison),
            *_of_machines(comparison),
            *_of_sides([(side.value, _warnings(side, known)) for side in _sides(comparison)]),
            *_of_runs(comparison, drifts),
            *_of_both(comparison),
        ]
        for comparison in found
    ]


def warning_lines(found: Sequence[Comparison]) -> list[WarningLine]:
    """The verdict_warnings of comparisons that are shown together: each once, with what it is of, few of each kind."""
    of_pairs = (_told_of_pairs(found, signs_of) for signs_of in (_of_machines, _of_both))
    results = _told_of_pairs(found, _of_results)
    lines: dict[str, list[str]] = {}
    others = itertools.chain(_told_of_cells(found), _told_of_runs(found), *of_pairs)
    for warning, whose in itertools.chain(results, others):
        lines.setdefault(warning.kind, []).append(f"{whose}: {warning}" if whose else str(warning))
    return [each for kind, texts in lines.items() for each in _few(kind, texts)]


def _few(kind: str, texts: Sequence[str]) -> Iterator[WarningLine]:
    """The first lines of a kind, and how many more there are."""
    for text in texts[:_ALIKE_TOLD]:
        yield WarningLine(kind, text)
    if len(texts) > _ALIKE_TOLD:
        yield WarningLine(
            kind,
            f"{len(texts) - _ALIKE_TOLD} more of this kind ({kind}): --format json has them all",
        )


def _told_of_cells(found: Sequence[Comparison]) -> Iterator[tuple[WarningSign, str]]:
    """What is doubtful about cells, each with those that it is of: a cell is a side of many comparisons."""
    varied = varied_axes(found)
    sides = {side.cell: side for comparison in found for side in _sides(comparison, varied)}
    known: WarningCache = {}
    named = [
        (side, warning)
        for side in sides.values()
        for warning in dict.fromkeys(_warnings(side, known))
    ]
    of: dict[WarningSign, list[_Side]] = {}
    for side, warning in named:
        of.setdefault(warning, []).append(side)
    for warning, members in of.items():
        yield warning, _whose(members, list(sides.values()))


def _whose(members: Sequence[_Side], sides: Sequence[_Side]) -> str:
    """Some of the sides in few words."""
    if len(members) == len(sides):
        return "both sides" if len(sides) > 1 else members[0].value
    if len(members) == 1:
        return f"{members[0].value}{members[0].where}"
    values = dict.fromkeys(side.value for side in members)
    if len(values) == 1 and len(members) == sum(side.value in values for side in sides):
        return members[0].value
    return f"{len(members)} of {len(sides)} cells"


def _told_of_runs(found: Sequence[Comparison]) -> Iterator[tuple[WarningSign, str]]:
    drifts = _drifts(found)
    for warning in dict.fromkeys(
        each for comparison in found for each in _of_runs(comparison, drifts)
    ):
        yield warning, ""


def _told_of_pairs(
    found: Sequence[Comparison], signs_of: Callable[[Comparison], Iterable[WarningSign]]
) -> Iterator[tuple[WarningSign, str]]:
    """What is said of both sides together, with the comparisons that it is of unless it is of all of the two values."""
    varied = varied_axes(found)
    pairs = [(comparison.subject_value, comparison.baseline_value) for comparison in found]
    of: dict[WarningSign, list[int]] = {}
    for place, comparison in enumerate(found):
        for warning in signs_of(comparison):
            of.setdefault(warning, []).append(place)
    for warning, places in of.items():
        alike = {pairs[place] for place in places}
        if len(places) == sum(pair in alike for pair in pairs):
            yield warning, ""
        elif len(places) == 1:
            yield warning, circumstances(found[places[0]].axes, varied).strip()
        else:
            yield warning, f"in {len(places)} of {len(found)} comparisons"


def _sides(comparison: Comparison, varied: Sequence[str] = ()) -> list[_Side]:
    """The sides that there are."""
    values = (comparison.subject_value, comparison.baseline_value)
    runs = values if comparison.over == "run" else ("", "")
    where = circumstances(comparison.axes, varied)
    return [
        _Side(
            _Cell(run, side.metric, repr(side.axes), side.machine),
            side,
            value_phrase(comparison.over, value),
            where,
        )
        for run, value, side in zip(
            runs, values, (comparison.subject, comparison.baseline), strict=True
        )
        if side
    ]


def _warnings(side: _Side, known: WarningCache) -> list[WarningSign]:
    """What is doubtful about a cell, looked for once."""
    if side.cell not in known:
        known[side.cell] = [
            warning
            for warning in warnings_of(side.summary)
            if warning.kind not in _SAID_BY_THE_VERDICT
        ]
    return known[side.cell]


def _of_sides(sides: Sequence[tuple[str, Sequence[WarningSign]]]) -> Iterator[WarningSign]:
    """What is doubtful about either side; what is doubtful about both, once."""
    of: dict[WarningSign, list[str]] = {}
    for value, found in sides:
        for warning in dict.fromkeys(found):
            of.setdefault(warning, []).append(value)
    for warning, values in of.items():
        whose = values[0] if len(values) == 1 else "both sides"
        yield WarningSign(warning.kind, f"{whose}: {warning.text}", warning.fix)


def _drifts(found: Sequence[Comparison]) -> dict[str, list[WarningSign]]:
    """What is doubtful about the cells of each run together, where that bears on any of these comparisons."""
    of_run: dict[str, dict[_Cell, Summary]] = {}
    for comparison in found if any(_bears_no_drift(each) for each in found) else ():
        for side in _sides(comparison):
            of_run.setdefault(side.cell.run, {})[side.cell] = side.summary
    return {run: drift_warnings(list(summaries.values())) for run, summaries in of_run.items()}


def _bears_no_drift(comparison: Comparison) -> bool:
    """Whether what drifts with the machine does not cancel within pairs."""
    return comparison.ratio is not None and not comparison.ratio.paired


def _of_runs(
    comparison: Comparison, drifts: Mapping[str, Sequence[WarningSign]]
) -> Iterator[WarningSign]:
    """What is doubtful about either run, where pairs within blocks do not bear it."""
    if _bears_no_drift(comparison):
        for run in dict.fromkeys(side.cell.run for side in _sides(comparison)):
            for warning in drifts[run]:
                yield WarningSign(
                    warning.kind, f"{run}: {warning.text}" if run else warning.text, warning.fix
                )


def _of_results(comparison: Comparison) -> Iterator[WarningSign]:
    """Whether the sides computed the same, of steps of one's own."""
    results = result_checks.check(comparison.subject, comparison.baseline)
    if results and results.text:
        yield WarningSign(result_checks.KIND, results.text, results.fix)


def _of_machines(comparison: Comparison) -> Iterator[WarningSign]:
    """What is left out, since the other side has nothing from such a machine."""
    if comparison.unmatched:
        left_out = " and ".join(comparison.unmatched)
        fix = "run both on the same kinds of machine, or pool them with --across-machines"
        yield WarningSign("machines", f"left out: {left_out}, where the other side has none", fix)


def _of_both(comparison: Comparison) -> Iterator[WarningSign]:
    """What else differs between the sides."""
    if comparison.ratio is None or not comparison.subject or not comparison.baseline:
        return
    sides = (comparison.subject, comparison.baseline)
    found = _differing(_OF_ANY, *sides)
    if _framework(sides[0]) == _framework(sides[1]):
        found = found or _differing(_OF_ONE_FRAMEWORK, *sides)
        found = found or _differing(_OF_THE_SAME, *sides)
    found = list(
        dict.fromkeys([*_contents_apart(*sides), *found, *_differing(_OF_MACHINES, *sides)])
    )
    if found:
        pair = (
            value_phrase(comparison.over, value)
            for value in (comparison.subject_value, comparison.baseline_value)
        )
        text = f"{' and '.join(pair)} differ in more: {', '.join(found)}"
        fix = (
            "the ratio is that of all together; docs/environments.md says how to give both the same"
        )
        yield WarningSign("differs", text, fix)


def _contents_apart(one: Summary, other: Summary) -> list[str]:
    """What has changed of the files or the environment that both sides are of: a plug-in edited in between, say."""
    contents = [_content(side) for side in (one, other)]
    same_workload = one.axes.get("workload") == other.axes.get("workload")
    same_framework = _framework(one) == _framework(other)
    of_both = {
        "workload": same_workload,
        "framework": same_framework,
        "environment": same_framework,
        "network": one.axes.get("network") == other.axes.get("network"),
    }
    found = []
    for word, what in _OF_CONTENT.items():
        mine, theirs = (content.get(word, "–")[:_SHORT] for content in contents)
        if of_both[word] and mine != theirs:
            found.append(f"{what} ({mine}, {theirs})")
    return found


def _content(side: Summary) -> dict[str, str]:
    """What the trials of a cell measured, which is the same of all of them."""
    known = [content for content in side.column("content") if content]
    content: dict[str, str] = json.loads(known[0]) if known else {}
    return content


def _framework(side: Summary) -> tuple[object, object]:
    return side.axes.get("framework"), side.axes.get("version")


def _differing(columns: Mapping[str, str], one: Summary, other: Summary) -> list[str]:
    """What the trials of the two sides do not have alike, as `Python (3.12.3, 3.8.20)`; what is not known, neither."""
    found = []
    for column, what in columns.items():
        mine, theirs = (
            {str(value) for value in side.column(column) if value} for side in (one, other)
        )
        if mine and theirs and mine != theirs:
            texts = [" / ".join(sorted(values)) for values in (mine, theirs)]
            found.append(f"{what} ({_apart(*texts)})")
    return found


def _apart(one: str, other: str) -> str:
    """Two texts as few words tell them apart."""
    if max(len(one), len(other)) <= _WHOLE_TEXT:
        return f"{one}, {other}"
    mine, theirs = (re.split(r"[\s;,]+", text) for text in (one, other))
    words = [
        [word for word in words if word not in others]
        for words, others in ((mine, theirs), (theirs, mine))
    ]
    return ", ".join(" ".join(each[:_MOST_WORDS]) or "–" for each in words)
