"""Warnings about verdicts: those about either side, and what else differs between the sides.

A verdict names the one axis in which two cells should differ. Times also depend on the versions
of Python, NumPy and BLAS, on the machine and on the version of sweep. If these differ as well,
the ratio is that of all differences together.
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

# The sentence of a verdict includes these warnings already.
_SAID_BY_THE_VERDICT = frozenset({"few processes"})
# Columns that should agree between any two cells.
_ANY_CELLS = {"python": "Python", "numpy": "NumPy", "blas": "BLAS"}
# Columns that should agree between cells of one framework.
_SAME_FRAMEWORK = {"framework_build": "the build of the framework"}
# Columns of the environment that a framework runs in.
_ENVIRONMENT = {**_ANY_CELLS, **_SAME_FRAMEWORK, "threads": "threads"}
# Named only where none of the columns above differs: it changes with each of them.
_SAME_PACKAGES = {"environment_id": "packages of the environment"}
_MACHINES = {"cpu_model": "CPU", "device_name": "device", "code_version": "version of sweep"}
# The keys of a record's content.
_CONTENTS = {
    "workload": "the files of the workload",
    "framework": "the files of the framework",
    "environment": "what the environment holds",
    "network": "the file of the network",
}
# Digits of a digest that are shown.
_SHORT = 6
# Longer texts, in characters, are reduced to the words that differ.
_WHOLE_TEXT = 40
_MOST_WORDS = 6
# Warnings of one kind that are shown in full.
_MOST_OF_A_KIND = 2


class _Cell(NamedTuple):
    """The identity of a side: its run if there are two, its metric, axes and kind of machine."""

    run: str
    metric: str
    axes: str
    machine: str | None


WarningCache = dict[_Cell, list[WarningSign]]


class WarningLine(NamedTuple):
    """A line about one or more comparisons, and the kind of its warning."""

    kind: str
    text: str


class _Side(NamedTuple):
    """One side of a comparison, with the texts of its value and of its circumstances."""

    cell: _Cell
    summary: Summary
    value: str
    where: str


def verdict_warnings(
    comparisons: Sequence[Comparison], cache: WarningCache | None = None
) -> list[list[WarningSign]]:
    """Return the warnings about each comparison.

    `cache` keeps the warnings about cells for further comparisons of the same run.
    """
    cache = {} if cache is None else cache
    drifts = _drifts(comparisons)
    return [
        [
            *_results(comparison),
            *_unmatched_machines(comparison),
            *_of_sides([(side.value, _warnings(side, cache)) for side in _sides(comparison)]),
            *_of_runs(comparison, drifts),
            *_differences(comparison),
        ]
        for comparison in comparisons
    ]


def warning_lines(comparisons: Sequence[Comparison]) -> list[WarningLine]:
    """Return the warnings about comparisons that are shown together.

    Each warning appears once, with the cells or comparisons that it is about. Of each kind only
    the first ones appear.
    """
    with_subjects = itertools.chain(
        _pair_warnings(comparisons, _results),
        _cell_warnings(comparisons),
        _run_warnings(comparisons),
        _pair_warnings(comparisons, _unmatched_machines),
        _pair_warnings(comparisons, _differences),
    )
    by_kind: dict[str, list[str]] = {}
    for warning, subject in with_subjects:
        text = f"{subject}: {warning}" if subject else str(warning)
        by_kind.setdefault(warning.kind, []).append(text)
    return [line for kind, texts in by_kind.items() for line in _first_lines(kind, texts)]


def _first_lines(kind: str, texts: Sequence[str]) -> Iterator[WarningLine]:
    """Yield the first lines of a kind, and the number of further ones."""
    for text in texts[:_MOST_OF_A_KIND]:
        yield WarningLine(kind, text)
    more = len(texts) - _MOST_OF_A_KIND
    if more > 0:
        yield WarningLine(kind, f"{more} more of this kind ({kind}): --format json has them all")


def _cell_warnings(comparisons: Sequence[Comparison]) -> Iterator[tuple[WarningSign, str]]:
    """Yield the warnings about cells once, although a cell may be a side of many comparisons."""
    varied = varied_axes(comparisons)
    sides = {side.cell: side for comparison in comparisons for side in _sides(comparison, varied)}
    cache: WarningCache = {}
    sides_of: dict[WarningSign, list[_Side]] = {}
    for side in sides.values():
        for warning in dict.fromkeys(_warnings(side, cache)):
            sides_of.setdefault(warning, []).append(side)
    for warning, members in sides_of.items():
        yield warning, _sides_text(members, list(sides.values()))


def _sides_text(members: Sequence[_Side], sides: Sequence[_Side]) -> str:
    """Return a short text for some of the sides."""
    if len(members) == len(sides):
        return "both sides" if len(sides) > 1 else members[0].value
    if len(members) == 1:
        return f"{members[0].value}{members[0].where}"
    values = dict.fromkeys(side.value for side in members)
    if len(values) == 1 and len(members) == sum(side.value in values for side in sides):
        return members[0].value
    return f"{len(members)} of {len(sides)} cells"


def _run_warnings(comparisons: Sequence[Comparison]) -> Iterator[tuple[WarningSign, str]]:
    drifts = _drifts(comparisons)
    warnings = (each for comparison in comparisons for each in _of_runs(comparison, drifts))
    for warning in dict.fromkeys(warnings):
        yield warning, ""


def _pair_warnings(
    comparisons: Sequence[Comparison], sign: Callable[[Comparison], Iterable[WarningSign]]
) -> Iterator[tuple[WarningSign, str]]:
    """Yield the warnings about pairs of cells, with the comparisons that they are about.

    The comparisons are not named where the warning holds for all of them that have these values.
    """
    varied = varied_axes(comparisons)
    pairs = [(comparison.subject_value, comparison.baseline_value) for comparison in comparisons]
    indices_of: dict[WarningSign, list[int]] = {}
    for index, comparison in enumerate(comparisons):
        for warning in sign(comparison):
            indices_of.setdefault(warning, []).append(index)
    for warning, indices in indices_of.items():
        own_pairs = {pairs[index] for index in indices}
        if len(indices) == sum(pair in own_pairs for pair in pairs):
            yield warning, ""
        elif len(indices) == 1:
            yield warning, circumstances(comparisons[indices[0]].axes, varied).strip()
        else:
            yield warning, f"in {len(indices)} of {len(comparisons)} comparisons"


def _sides(comparison: Comparison, varied: Sequence[str] = ()) -> list[_Side]:
    """Return the sides of a comparison that have records."""
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


def _warnings(side: _Side, cache: WarningCache) -> list[WarningSign]:
    """Return the warnings about a cell, which are computed once."""
    if side.cell not in cache:
        cache[side.cell] = [
            warning
            for warning in warnings_of(side.summary)
            if warning.kind not in _SAID_BY_THE_VERDICT
        ]
    return cache[side.cell]


def _of_sides(sides: Sequence[tuple[str, Sequence[WarningSign]]]) -> Iterator[WarningSign]:
    """Yield the warnings about either side, and those about both sides once."""
    values_of: dict[WarningSign, list[str]] = {}
    for value, warnings in sides:
        for warning in dict.fromkeys(warnings):
            values_of.setdefault(warning, []).append(value)
    for warning, values in values_of.items():
        subject = values[0] if len(values) == 1 else "both sides"
        yield WarningSign(warning.kind, f"{subject}: {warning.text}", warning.fix)


def _drifts(comparisons: Sequence[Comparison]) -> dict[str, list[WarningSign]]:
    """Return the warnings about drift of each run; none where drift affects no comparison."""
    if not any(_is_sensitive_to_drift(comparison) for comparison in comparisons):
        return {}
    summaries: dict[str, dict[_Cell, Summary]] = {}
    for comparison in comparisons:
        for side in _sides(comparison):
            summaries.setdefault(side.cell.run, {})[side.cell] = side.summary
    return {run: drift_warnings(list(by_cell.values())) for run, by_cell in summaries.items()}


def _is_sensitive_to_drift(comparison: Comparison) -> bool:
    """Whether drift does not cancel out within pairs, since the trials are not paired."""
    return comparison.ratio is not None and not comparison.ratio.paired


def _of_runs(
    comparison: Comparison, drifts: Mapping[str, Sequence[WarningSign]]
) -> Iterator[WarningSign]:
    """Yield the drift of either run, where it affects the comparison."""
    if _is_sensitive_to_drift(comparison):
        for run in dict.fromkeys(side.cell.run for side in _sides(comparison)):
            for warning in drifts[run]:
                text = f"{run}: {warning.text}" if run else warning.text
                yield WarningSign(warning.kind, text, warning.fix)


def _results(comparison: Comparison) -> Iterator[WarningSign]:
    """Warn of steps whose results differ between the sides, or cannot be compared."""
    results = result_checks.check(comparison.subject, comparison.baseline)
    if results and results.text:
        yield WarningSign(result_checks.KIND, results.text, results.fix)


def _unmatched_machines(comparison: Comparison) -> Iterator[WarningSign]:
    """Warn of trials that are left out because the other side has none on their machine."""
    if comparison.unmatched:
        left_out = " and ".join(comparison.unmatched)
        fix = "run both on the same kinds of machine, or pool them with --across-machines"
        yield WarningSign("machines", f"left out: {left_out}, where the other side has none", fix)


def _differences(comparison: Comparison) -> Iterator[WarningSign]:
    """Warn of differences between the sides other than the axis that is compared."""
    if comparison.ratio is None or not comparison.subject or not comparison.baseline:
        return
    sides = (comparison.subject, comparison.baseline)
    in_environment = _differing(_ANY_CELLS, *sides)
    if _framework(sides[0]) == _framework(sides[1]):
        in_environment = in_environment or _differing(_SAME_FRAMEWORK, *sides)
        in_environment = in_environment or _differing(_SAME_PACKAGES, *sides)
    in_contents, in_machines = _differing_contents(*sides), _differing(_MACHINES, *sides)
    differences = dict.fromkeys([*in_contents, *in_environment, *in_machines])
    if differences:
        values = (comparison.subject_value, comparison.baseline_value)
        pair = " and ".join(value_phrase(comparison.over, value) for value in values)
        text = f"{pair} differ in more: {', '.join(differences)}"
        advice = "docs/environments.md says how to give both the same"
        yield WarningSign("differs", text, f"the ratio is that of all together; {advice}")


def _differing_contents(one: Summary, other: Summary) -> list[str]:
    """Return what changed in the files or the environment that both sides share.

    A plug-in that was edited between two runs is an example.
    """
    contents = [_content(side) for side in (one, other)]
    same_workload = one.axes.get("workload") == other.axes.get("workload")
    same_framework = _framework(one) == _framework(other)
    is_shared = {
        "workload": same_workload,
        "framework": same_framework,
        "environment": same_framework,
        "network": one.axes.get("network") == other.axes.get("network"),
    }
    differences = []
    for key, what in _CONTENTS.items():
        mine, theirs = (content.get(key, "–")[:_SHORT] for content in contents)
        if is_shared[key] and mine != theirs:
            differences.append(f"{what} ({mine}, {theirs})")
    return differences


def _content(side: Summary) -> dict[str, str]:
    """Return the content of a cell's trials, which all have the same."""
    recorded = [content for content in side.column("content") if content]
    content: dict[str, str] = json.loads(recorded[0]) if recorded else {}
    return content


def _framework(side: Summary) -> tuple[object, object]:
    return side.axes.get("framework"), side.axes.get("version")


def environment_differences(before: Summary, after: Summary) -> list[str]:
    """Return how the environments of two cells differ, as in `Python (3.8.20, 3.12.3)`."""
    return _differing(_ENVIRONMENT, before, after)


def _differing(columns: Mapping[str, str], one: Summary, other: Summary) -> list[str]:
    """Return the columns whose recorded values differ, as in `Python (3.12.3, 3.8.20)`."""
    differences = []
    for column, what in columns.items():
        mine, theirs = (
            {str(value) for value in side.column(column) if value} for side in (one, other)
        )
        if mine and theirs and mine != theirs:
            texts = [" / ".join(sorted(values)) for values in (mine, theirs)]
            differences.append(f"{what} ({_shortened(*texts)})")
    return differences


def _shortened(one: str, other: str) -> str:
    """Return two texts, reduced to the words that differ where they are long."""
    if max(len(one), len(other)) <= _WHOLE_TEXT:
        return f"{one}, {other}"
    mine, theirs = (re.split(r"[\s;,]+", text) for text in (one, other))
    only_mine = [word for word in mine if word not in theirs]
    only_theirs = [word for word in theirs if word not in mine]
    return ", ".join(" ".join(words[:_MOST_WORDS]) or "–" for words in (only_mine, only_theirs))
