"""Contents: axes that separate records of different states of a workload, framework or data set.

The content of a record is a digest of the files, the environment and the data that it measured.
If a run holds several contents of one workload, its cells get the axis `workload_content`; the
same holds for frameworks and data sets. The values are numbered by the time of their first
record, as in `2 (2026-11-28 a1b2c3)`. Cells whose workload has a single content have no value.
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

# The keys of a record's content that belong to each axis.
_KEYS = {
    "workload": ("workload",),
    "framework": ("framework", "environment"),
    "data": ("data",),
    "network": ("network",),
}
# Digits of a digest that are shown.
_SHORT = 6


class CellContent(NamedTuple):
    """The content of a cell's trials as JSON, and the start of the first of them."""

    content: str | None
    since: dt.datetime | None


class _HasAxes(Protocol):
    @property
    def axes(self) -> Axes:
        """The cell's values by axis."""


_Some = TypeVar("_Some", bound=_HasAxes)


def differ(contents: Sequence[str | None]) -> bool:
    """Whether there are several contents; a missing one counts as empty."""
    return len({content or "" for content in contents}) > 1


def with_content_axes(
    cells: Sequence[dict[str, Any]], seen: Sequence[CellContent]
) -> list[dict[str, Any]]:
    """Return the cells, with a content axis for each kind of content that changed in this run.

    `seen` has the content of each cell.
    """
    extended = [dict(axes) for axes in cells]
    for axis, name in CONTENT_AXES.items():
        digests_of_cells = [_digest(each.content, _KEYS[axis]) for each in seen]
        # For each value of the axis, the first start of each of its contents.
        first_starts: dict[Any, dict[str, dt.datetime | None]] = {}
        for axes, digest, each in zip(cells, digests_of_cells, seen, strict=True):
            starts = first_starts.setdefault(axes.get(axis), {})
            starts[digest] = min(filter(None, (starts.get(digest), each.since)), default=None)
        if any(len(starts) > 1 for starts in first_starts.values()):
            labels = {value: _labels(starts) for value, starts in first_starts.items()}
            for axes, digest in zip(extended, digests_of_cells, strict=True):
                axes[name] = labels[axes.get(axis)].get(digest)
    return extended


def split_where(where: Where) -> tuple[dict[str, Any], dict[str, Conditions]]:
    """Return the conditions on axes, and separately those on content axes."""
    on_contents = {
        name: Conditions({name: where[name]}) for name in CONTENT_AXES.values() if name in where
    }
    return {name: value for name, value in where.items() if name not in on_contents}, on_contents


def applicable(where: Where, cells: Sequence[Axes]) -> dict[str, Any]:
    """Return the conditions without those on content axes that no cell has."""
    present = {name for axes in cells for name in axes}
    return {
        name: value
        for name, value in where.items()
        if name in present or name not in CONTENT_AXES.values()
    }


def meets_content_conditions(axes: Axes, on_contents: Mapping[str, Conditions]) -> bool:
    """Whether conditions on content axes hold; they do not restrict a cell without the axis."""
    return all(
        axes.get(name) is None or condition.holds(axes) for name, condition in on_contents.items()
    )


def latest(summaries: Sequence[_Some]) -> list[_Some]:
    """Return the summaries of the last content of each workload, framework and data set."""
    last: dict[tuple[Any, ...], Any] = {}
    for summary in summaries:
        for key, value in _content_values(summary.axes).items():
            last[key] = max(last.get(key), value, key=natural)
    return [
        summary
        for summary in summaries
        if all(last[key] == value for key, value in _content_values(summary.axes).items())
    ]


def _content_values(axes: Axes) -> dict[tuple[Any, ...], Any]:
    """Return a cell's values of content axes, each by the axis and what it is the content of."""
    values = {}
    for axis, name in CONTENT_AXES.items():
        if axes.get(name) is not None:
            # The version may be an axis of its own, and then belongs to the framework's name.
            version = axes.get("version") if axis == "framework" else None
            values[name, axes.get(axis), version] = axes[name]
    return values


def _digest(content: str | None, keys: Sequence[str]) -> str:
    """Return what a content holds under these keys, as one text."""
    values: Mapping[str, Any] = json.loads(content) if content else {}
    # A plug-in may record values of any type.
    return ", ".join(str(values[key]) for key in keys if key in values)


def _labels(first_starts: Mapping[str, dt.datetime | None]) -> dict[str, str]:
    """Return a label for each content of one workload or framework; none if it has only one."""
    if len(first_starts) < 2:
        return {}
    earliest = dt.datetime.min.replace(tzinfo=dt.UTC)
    ordered = sorted(first_starts, key=lambda digest: (first_starts[digest] or earliest, digest))
    return {
        digest: f"{number} ({_date_and_digest(digest, first_starts[digest])})"
        for number, digest in enumerate(ordered, start=1)
    }


def _date_and_digest(digest: str, first_start: dt.datetime | None) -> str:
    # Several digests in one text are digested again, so that the short form depends on all.
    is_single = len(digest) == digests.LENGTH or not digest
    short = digest if is_single else digests.of_values(digest)
    date = f"{first_start:%Y-%m-%d}" if first_start else ""
    return " ".join(filter(None, [date, short[:_SHORT]]))
