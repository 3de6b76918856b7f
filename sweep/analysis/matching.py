"""Matching: which cells are set against each other, so that no cell is lost and none takes another's place.

Cells are matched by the axes that they share. Where axes are left out, cells that differ in nothing else would become
one. That is refused with the axis and its values: taking one of them, or the mean of all, hides a difference that shows
at some of the values only.
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

EFFORT = ("samples", "warmup")  # how long one measured, not what
_NO_QUESTION = frozenset({"workload", "batch_exponent", "batch_size", "epochs", *EFFORT})
_MOST_SHOWN = 6

Key = str


def axes_of(over: str) -> tuple[str, ...]:
    """The axes that `framework` or `framework,backend` names."""
    return tuple(name.strip() for name in over.split(","))


def value_of(axes: Axes, over: str) -> Any:
    """The value of an axis; of several axes the tuple of their values."""
    names = axes_of(over)
    return axes[names[0]] if len(names) == 1 else tuple(axes[name] for name in names)


def option_text(value: Any) -> str:
    """A value of one axis or of several, as an option takes it: `torch==1.12.1,default`."""
    return ",".join(map(shown, value)) if isinstance(value, tuple) else shown(value)


def comparable_axes(varying: Iterable[str]) -> list[str]:
    """Of the axes that vary, those whose values someone would choose between: a larger batch only takes longer."""
    return [name for name in varying if name not in _NO_QUESTION]


def nothing_to_compare(varying: Sequence[str]) -> SweepError:
    """What is said where cells differ in nothing that one would choose between."""
    if not varying:
        return SweepError("nothing says what to compare", "name two runs")
    message = f"the cells differ in {', '.join(varying)} alone, which is no choice between two ways to do the same"
    return SweepError(message, f"use --over {varying[0]} if that is the question, or name two runs")


def match_cells(
    summaries: Sequence[Summary], over: str
) -> list[tuple[Axes, dict[Any, list[Summary]]]]:
    """For each combination of the other axes, the summaries by value of the axes to compare over.

    Those of one cell are of several kinds of machine. Summaries without one of these axes are left out.
    """
    names = axes_of(over)
    found: dict[Key, tuple[Axes, dict[Any, list[Summary]]]] = {}
    for summary in summaries:
        if all(name in summary.axes for name in names):
            rest = shared_axes(summary.axes, names)
            value = value_of(summary.axes, over)
            found.setdefault(_key(rest), (rest, {}))[1].setdefault(value, []).append(summary)
    for _, by_value in found.values():
        for members in by_value.values():
            if _coincide(members):
                raise SweepError(
                    f"two cells have the same axes: {_told(members[0].axes)}",
                    "see sweep show for both",
                )
    return list(found.values())


def shared_axes(axes: Axes, over: Collection[str]) -> dict[str, Any]:
    """What cells must share to be compared over some axes. Their contents need not be the same, unless asked about."""
    aside = {*over, *(() if {*over} & {*CONTENT_AXES.values()} else CONTENT_AXES.values())}
    return {name: value for name, value in axes.items() if name not in aside}


def unique_cells(
    summaries: Sequence[Summary], left_out: Collection[str], run: str
) -> dict[Key, list[Summary]]:
    """The cells of a run by their axes, but for those left out. SweepError where two become one.

    The summaries of one cell are of several kinds of machine.
    """
    groups = _groups(summaries, left_out)
    coinciding = next((members for members in groups.values() if _coincide(members)), None)
    if coinciding:
        raise _refusal(coinciding, left_out, run)
    return groups


def version_apart(summaries: Sequence[Summary]) -> list[Summary]:
    """The summaries with the version as an axis of its own."""
    return [replace(summary, axes=split(summary.axes)) for summary in summaries]


def left_out_by_default(runs: Iterable[Sequence[Summary]], ignored: Collection[str]) -> list[str]:
    """Those of EFFORT that tell no two cells of a run apart. One that does is an axis like any other."""
    without = {*EFFORT, *ignored}
    groups = [members for summaries in runs for members in _groups(summaries, without).values()]
    return [
        name for name in EFFORT if not any(len(_values(members, name)) > 1 for members in groups)
    ]


def renamed(summaries: Sequence[Summary], names: Mapping[str, str]) -> list[Summary]:
    """The summaries with axes called by other names. SweepError where a cell has both."""
    return [_renamed(summary, names) for summary in summaries]


def what_differs(subjects: Sequence[Summary], baselines: Sequence[Summary]) -> str:
    """A hint for runs without a common cell: the axes of which they share no value, and what matches their cells."""
    own, others = (
        dict.fromkeys(name for s in summaries for name in s.axes)
        for summaries in (subjects, baselines)
    )
    for new in (name for name in own if name not in others):
        for old in (name for name in others if name not in own):
            if set(_values(subjects, new)) == set(_values(baselines, old)):
                return f"only one has {old}, only the other {new}: if they are the same, --rename {old}={new}"
    apart = [
        name
        for name in own | others
        if not {*_values(subjects, name)} & {*_values(baselines, name)}
    ]
    if not apart:
        return "see sweep summarize for the cells of each"
    told = [
        f"{name} is {_list(subjects, name)} in one and {_list(baselines, name)} in the other"
        for name in apart
    ]
    by_name = [version_apart(side) for side in (subjects, baselines)]
    one, other = ({*_values(side, "framework")} for side in by_name)
    if "framework" in apart and one & other:  # other versions of the same framework
        subjects, baselines = by_name
        apart = ["version" if name == "framework" else name for name in apart]
    return f"{'; '.join(told)}: {_how_to_match(subjects, baselines, apart)}"


def _how_to_match(
    subjects: Sequence[Summary], baselines: Sequence[Summary], apart: Sequence[str]
) -> str:
    ignore = " ".join(f"--ignore {name}" for name in apart)
    without = [*apart, *EFFORT]
    several = [
        m for s in (subjects, baselines) for m in _groups(s, without).values() if _coincide(m)
    ]
    chosen = [name for name in apart if any(len(_values(members, name)) > 1 for members in several)]
    if not chosen:
        return f"leave it out with {ignore}"
    first = [
        f"--where {name}={_first(subjects, name)},{_first(baselines, name)}" for name in chosen
    ]
    return f"choose one value in each, as {' '.join(first)} {ignore}"


def _coincide(members: Sequence[Summary]) -> bool:
    """Whether these are of more than one cell: other axes, or twice the same kind of machine."""
    cells, machines = {_key(each.axes) for each in members}, {each.machine for each in members}
    return len(cells) > 1 or len(machines) < len(members)


def _refusal(members: Sequence[Summary], left_out: Collection[str], run: str) -> SweepError:
    """What is said of cells that only differ in what is left out."""
    cells = list({_key(each.axes): each for each in members}.values())
    apart = [name for name in left_out if len(_values(cells, name)) > 1]
    if not apart:
        return SweepError(
            f"two cells of {run} have the same axes: {_told(cells[0].axes)}",
            "see sweep show for both",
        )
    told = " and ".join(f"{name} ({_list(cells, name)})" for name in apart)
    ignored = " ".join(f"--ignore {name}" for name in apart)
    where = " ".join(f"--where {name}={_first(cells, name)}" for name in apart)
    return SweepError(
        f"{len(cells)} cells of {run} differ only in {told}, which is left out",
        f"match them by it, without {ignored}, or choose one value with {where}; "
        "where the other run calls it otherwise, say so with --rename OLD=NEW",
    )


def _renamed(summary: Summary, names: Mapping[str, str]) -> Summary:
    for old, new in names.items():
        if old in summary.axes and new in summary.axes:
            raise SweepError(
                f"{old} cannot be called {new}: a cell has both",
                "name an axis that only one run has",
            )
    return replace(
        summary, axes={names.get(name, name): value for name, value in summary.axes.items()}
    )


def _groups(summaries: Sequence[Summary], left_out: Collection[str]) -> dict[Key, list[Summary]]:
    groups: dict[Key, list[Summary]] = {}
    for summary in summaries:
        shared = {name: value for name, value in summary.axes.items() if name not in left_out}
        groups.setdefault(_key(shared), []).append(summary)
    return groups


def _key(axes: Axes) -> Key:
    return json.dumps(axes, sort_keys=True)


def _values(summaries: Iterable[Summary], name: str) -> list[str]:
    """The different values of an axis in their order, as text."""
    found = {shown(each.axes.get(name)): each.axes.get(name) for each in summaries}
    return sorted(found, key=lambda text: natural(found[text]))


def _first(summaries: Iterable[Summary], name: str) -> str:
    return _values(summaries, name)[0]


def _list(summaries: Iterable[Summary], name: str) -> str:
    values = _values(summaries, name)
    more = len(values) - _MOST_SHOWN
    return ", ".join(values[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _told(axes: Axes) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in axes.items())
