"""Matching: which cells are compared with each other.

Cells are matched by the axes that they share. If axes are left out, cells that differ only in
these axes would coincide. This is an error that names the axis and its values. The alternatives,
to choose one of these cells or to take the mean of all, were rejected: both hide a difference
that exists at some values only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.analysis.summary import Summary
from sweep.axes import CONTENT_AXES
from sweep.errors import SweepError
from sweep.selection import Axes, natural, shown, split

# Axes that say how long a trial measures, not what it measures.
EFFORT = ("samples", "warmup")
# Nobody chooses between the values of these axes: a larger batch only takes longer.
_NOT_COMPARABLE = frozenset({"workload", "batch_exponent", "batch_size", "epochs", *EFFORT})
_MOST_SHOWN = 6

Key = str


def axes_of(over: str) -> tuple[str, ...]:
    """Return the axes that a text such as `framework` or `framework,backend` names."""
    return tuple(name.strip() for name in over.split(","))


def value_of(axes: Axes, over: str) -> Any:
    """Return the value of an axis, or the tuple of values of several axes."""
    names = axes_of(over)
    return axes[names[0]] if len(names) == 1 else tuple(axes[name] for name in names)


def option_text(value: Any) -> str:
    """Return a value as a command-line option takes it: `torch==1.12.1,default`."""
    return ",".join(map(shown, value)) if isinstance(value, tuple) else shown(value)


def comparable_axes(varying: Iterable[str]) -> list[str]:
    """Return the axes whose values somebody would choose between."""
    return [name for name in varying if name not in _NOT_COMPARABLE]


def nothing_to_compare(varying: Sequence[str]) -> SweepError:
    """Return the error for cells that differ in no comparable axis."""
    if not varying:
        return SweepError("nothing says what to compare", "name two runs")
    axes = ", ".join(varying)
    message = (
        f"the cells differ in {axes} alone, which is no choice between two ways to do the same"
    )
    return SweepError(message, f"use --over {varying[0]} if that is the question, or name two runs")


def match_cells(
    summaries: Sequence[Summary], over: str
) -> list[tuple[Axes, dict[Any, list[Summary]]]]:
    """Return, for each combination of the other axes, the summaries by value of the axes `over`.

    A cell has one summary for each kind of machine. Summaries without one of the axes `over` are
    left out. Raises SweepError where two cells coincide.
    """
    names = axes_of(over)
    groups: dict[Key, tuple[Axes, dict[Any, list[Summary]]]] = {}
    for summary in summaries:
        if all(name in summary.axes for name in names):
            rest = shared_axes(summary.axes, names)
            value = value_of(summary.axes, over)
            _, by_value = groups.setdefault(_key(rest), (rest, {}))
            by_value.setdefault(value, []).append(summary)
    for _, by_value in groups.values():
        for members in by_value.values():
            if _coincide(members):
                raise _same_axes_error("two cells have", members[0])
    return list(groups.values())


def shared_axes(axes: Axes, over: Collection[str]) -> dict[str, Any]:
    """Return the axes that cells must share to be compared over some other axes.

    Content axes are not among them, unless one is compared over.
    """
    content_axes = {*CONTENT_AXES.values()}
    left_out = {*over}
    if not left_out & content_axes:
        left_out |= content_axes
    return {name: value for name, value in axes.items() if name not in left_out}


def unique_cells(
    summaries: Sequence[Summary], left_out: Collection[str], run: str
) -> dict[Key, list[Summary]]:
    """Return the cells of a run by their axes without those left out.

    A cell has one summary for each kind of machine. Raises SweepError where two cells coincide.
    """
    groups = _groups(summaries, left_out)
    coinciding = next((members for members in groups.values() if _coincide(members)), None)
    if coinciding:
        raise _coinciding_error(coinciding, left_out, run)
    return groups


def version_apart(summaries: Sequence[Summary]) -> list[Summary]:
    """Return the summaries with the version as an axis of its own."""
    return [replace(summary, axes=split(summary.axes)) for summary in summaries]


def left_out_by_default(runs: Iterable[Sequence[Summary]], ignored: Collection[str]) -> list[str]:
    """Return the axes of EFFORT that distinguish no two cells of a run."""
    # An axis of EFFORT that distinguishes cells is an axis like any other.
    without = {*EFFORT, *ignored}
    groups = [members for summaries in runs for members in _groups(summaries, without).values()]
    return [
        name for name in EFFORT if not any(len(_values(members, name)) > 1 for members in groups)
    ]


def renamed(summaries: Sequence[Summary], names: Mapping[str, str]) -> list[Summary]:
    """Return the summaries with renamed axes. Raises SweepError where a cell has both names."""
    return [_renamed(summary, names) for summary in summaries]


def what_differs(subjects: Sequence[Summary], baselines: Sequence[Summary]) -> str:
    """Return a hint for runs without a common cell.

    It names the axes of which the runs share no value, and the options that match their cells.
    """
    own, others = _axis_names(subjects), _axis_names(baselines)
    # Two axes with different names and equal values are probably one axis that was renamed.
    for new in (name for name in own if name not in others):
        for old in (name for name in others if name not in own):
            if set(_values(subjects, new)) == set(_values(baselines, old)):
                rename = f"--rename {old}={new}"
                return f"only one has {old}, only the other {new}: if they are the same, {rename}"
    differing = [
        name
        for name in own | others
        if not {*_values(subjects, name)} & {*_values(baselines, name)}
    ]
    if not differing:
        return "see sweep summarize for the cells of each"
    differences = [
        f"{name} is {_listed(subjects, name)} in one and {_listed(baselines, name)} in the other"
        for name in differing
    ]
    with_version = [version_apart(side) for side in (subjects, baselines)]
    one, other = ({*_values(side, "framework")} for side in with_version)
    # Other versions of the same framework match without their version.
    if "framework" in differing and one & other:
        subjects, baselines = with_version
        differing = ["version" if name == "framework" else name for name in differing]
    return f"{'; '.join(differences)}: {_how_to_match(subjects, baselines, differing)}"


def _axis_names(summaries: Sequence[Summary]) -> dict[str, None]:
    """Return the names of all axes in their order."""
    return dict.fromkeys(name for summary in summaries for name in summary.axes)


def _how_to_match(
    subjects: Sequence[Summary], baselines: Sequence[Summary], differing: Sequence[str]
) -> str:
    """Return the options with which cells match that differ in the axes `differing`."""
    ignore = " ".join(f"--ignore {name}" for name in differing)
    without = [*differing, *EFFORT]
    coinciding = [
        members
        for side in (subjects, baselines)
        for members in _groups(side, without).values()
        if _coincide(members)
    ]
    chosen = [
        name for name in differing if any(len(_values(each, name)) > 1 for each in coinciding)
    ]
    if not chosen:
        return f"leave it out with {ignore}"
    first = [
        f"--where {name}={_first(subjects, name)},{_first(baselines, name)}" for name in chosen
    ]
    return f"choose one value in each, as {' '.join(first)} {ignore}"


def _coincide(members: Sequence[Summary]) -> bool:
    """Whether these summaries are of several cells: other axes, or the same machine twice."""
    cells, machines = {_key(each.axes) for each in members}, {each.machine for each in members}
    return len(cells) > 1 or len(machines) < len(members)


def _coinciding_error(
    members: Sequence[Summary], left_out: Collection[str], run: str
) -> SweepError:
    """Return the error for cells that differ only in axes that are left out."""
    cells = list({_key(each.axes): each for each in members}.values())
    differing = [name for name in left_out if len(_values(cells, name)) > 1]
    if not differing:
        return _same_axes_error(f"two cells of {run} have", cells[0])
    differences = " and ".join(f"{name} ({_listed(cells, name)})" for name in differing)
    ignored = " ".join(f"--ignore {name}" for name in differing)
    where = " ".join(f"--where {name}={_first(cells, name)}" for name in differing)
    return SweepError(
        f"{len(cells)} cells of {run} differ only in {differences}, which is left out",
        f"match them by it, without {ignored}, or choose one value with {where}; "
        "where the other run calls it otherwise, say so with --rename OLD=NEW",
    )


def _same_axes_error(subject: str, summary: Summary) -> SweepError:
    axes = ", ".join(f"{name} {shown(value)}" for name, value in summary.axes.items())
    return SweepError(f"{subject} the same axes: {axes}", "see sweep show for both")


def _renamed(summary: Summary, names: Mapping[str, str]) -> Summary:
    for old, new in names.items():
        if old in summary.axes and new in summary.axes:
            raise SweepError(
                f"{old} cannot be called {new}: a cell has both",
                "name an axis that only one run has",
            )
    axes = {names.get(name, name): value for name, value in summary.axes.items()}
    return replace(summary, axes=axes)


def _groups(summaries: Sequence[Summary], left_out: Collection[str]) -> dict[Key, list[Summary]]:
    """Return the summaries by their axes without those left out."""
    groups: dict[Key, list[Summary]] = {}
    for summary in summaries:
        shared = {name: value for name, value in summary.axes.items() if name not in left_out}
        groups.setdefault(_key(shared), []).append(summary)
    return groups


def _key(axes: Axes) -> Key:
    # Values may be lists, which are not hashable.
    return json.dumps(axes, sort_keys=True)


def _values(summaries: Iterable[Summary], name: str) -> list[str]:
    """Return the distinct values of an axis as text, in natural order."""
    values = {shown(each.axes.get(name)): each.axes.get(name) for each in summaries}
    return sorted(values, key=lambda text: natural(values[text]))


def _first(summaries: Iterable[Summary], name: str) -> str:
    return _values(summaries, name)[0]


def _listed(summaries: Iterable[Summary], name: str) -> str:
    """Return the values of an axis as a list, shortened where they are many."""
    values = _values(summaries, name)
    more = len(values) - _MOST_SHOWN
    return ", ".join(values[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
