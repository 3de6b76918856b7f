"""Contents: records of a run whose workload, framework or environment has changed since, told apart by axes of theirs.

An axis is there only where some workload, or some framework, has several contents in a run. Its values are numbered by
when they were first measured, as `2 (2026-11-28 a1b2c3)`; cells of what has but one content have none.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sweep import digests
from sweep.axes import CONTENT_AXES
from sweep.grid.conditions import Conditions
from sweep.selection import Axes, Where, natural

# of a content, by the axis that they are of
_WORDS = {
    "workload": ("workload",),
    "framework": ("framework", "environment"),
    "data": ("data",),
    "network": ("network",),
}
_SHORT = 6


class CellContent(NamedTuple):
    """The content of a cell's trials, as its records hold it, and when the first of them started."""

    content: str | None
    since: dt.datetime | None


class _HasAxes(Protocol):
    @property
    def axes(self) -> Axes: ...


_Some = TypeVar("_Some", bound=_HasAxes)


def differ(contents: Sequence[str | None]) -> bool:
    return len({content or "" for content in contents}) > 1


def with_content_axes(
    cells: Sequence[dict[str, Any]], seen: Sequence[CellContent]
) -> list[dict[str, Any]]:
    """The cells with an axis more for each of workload, framework and data set that has changed in this run."""
    told = [dict(axes) for axes in cells]
    for axis, name in CONTENT_AXES.items():
        words = [_word(each.content, _WORDS[axis]) for each in seen]
        since: dict[Any, dict[str, dt.datetime | None]] = {}
        for axes, word, each in zip(cells, words, seen, strict=True):
            first = since.setdefault(axes.get(axis), {})
            first[word] = min(filter(None, (first.get(word), each.since)), default=None)
        if any(len(first) > 1 for first in since.values()):
            labels = {value: _labels(first) for value, first in since.items()}
            for axes, word in zip(told, words, strict=True):
                axes[name] = labels[axes.get(axis)].get(word)
    return told


def split_where(where: Where) -> tuple[dict[str, Any], dict[str, Conditions]]:
    """Conditions on axes, and those on contents."""
    of_contents = {
        name: Conditions({name: where[name]}) for name in CONTENT_AXES.values() if name in where
    }
    return {name: value for name, value in where.items() if name not in of_contents}, of_contents


def applicable(where: Where, cells: Sequence[Axes]) -> dict[str, Any]:
    """The conditions that these cells can meet or not: one on contents says nothing where none has several."""
    known = {name for axes in cells for name in axes}
    return {
        name: value
        for name, value in where.items()
        if name in known or name not in CONTENT_AXES.values()
    }


def meets_content_conditions(axes: Axes, of_contents: Mapping[str, Conditions]) -> bool:
    """Whether conditions on contents hold, which say nothing of a cell that has but one."""
    return all(
        axes.get(name) is None or condition.holds(axes) for name, condition in of_contents.items()
    )


def latest(summaries: Sequence[_Some]) -> list[_Some]:
    """Those of what each workload and framework was when it was last measured."""
    last: dict[tuple[Any, ...], Any] = {}
    for summary in summaries:
        for key, value in _contents(summary.axes).items():
            last[key] = max(last.get(key), value, key=natural)
    return [
        s for s in summaries if all(last[key] == value for key, value in _contents(s.axes).items())
    ]


def _contents(axes: Axes) -> dict[tuple[Any, ...], Any]:
    """The contents of a cell by what they are of; a framework may have its version apart."""
    of = {
        axis: (axes.get(axis), axes.get("version") if axis == "framework" else None)
        for axis in CONTENT_AXES
    }
    return {
        (name, *of[axis]): axes[name]
        for axis, name in CONTENT_AXES.items()
        if axes.get(name) is not None
    }


def _word(content: str | None, words: Sequence[str]) -> str:
    told: Mapping[str, Any] = json.loads(content) if content else {}
    return ", ".join(str(told[word]) for word in words if word in told)  # others may write anything


def _labels(since: Mapping[str, dt.datetime | None]) -> dict[str, str]:
    """A name for each content of one workload or framework; none where it has only one."""
    if len(since) < 2:
        return {}
    ordered = sorted(
        since, key=lambda word: (since[word] or dt.datetime.min.replace(tzinfo=dt.UTC), word)
    )
    return {
        word: f"{number} ({_about(word, since[word])})"
        for number, word in enumerate(ordered, start=1)
    }


def _about(word: str, since: dt.datetime | None) -> str:
    short = word if len(word) == digests.LENGTH or not word else digests.of_values(word)
    return " ".join(filter(None, [f"{since:%Y-%m-%d}" if since else "", short[:_SHORT]]))
