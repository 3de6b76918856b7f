"""Selection: the axes of cells, their order, and how their values are written and sorted."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.errors import SweepError, nearest

Axes = Mapping[str, Any]
Where = Mapping[str, Any]

VERSION = "version"  # of the framework: no axis, yet conditions may name it


def check_axes(names: Iterable[str], cells: Iterable[Axes]) -> None:
    """Raise SweepError, with the nearest word, for a name that no cell has."""
    known = dict.fromkeys(key for axes in cells for key in axes)
    for name in names:
        is_told_by_another = name == VERSION or (name == "batch_size" and "batch_exponent" in known)
        if known and name not in known and not is_told_by_another:
            raise SweepError(f"no cell has an axis {name!r}", nearest(name, known))


def split(axes: Axes) -> dict[str, Any]:
    """Framework and version apart, the version right after the framework."""
    framework = axes.get("framework", "")
    apart = {"framework": str(framework).partition("==")[0], VERSION: framework_version(framework)}
    return apart | {k: v for k, v in axes.items() if k != "framework"}


def framework_version(framework: Any) -> str:
    """`2.13.0` of `torch==2.13.0`; empty where a framework stands alone."""
    return str(framework).partition("==")[2]


def varying(cells: Sequence[Axes]) -> list[str]:
    """The axes that tell cells apart: those that differ, but for parameters that go with the workload."""
    names = dict.fromkeys(key for axes in cells for key in axes)
    return [
        name
        for name in names
        if _apart(name, cells) and (name == "workload" or not _of_workload(name, cells))
    ]


def _apart(name: str, cells: Sequence[Axes]) -> bool:
    return len({repr(axes.get(name)) for axes in cells}) > 1


def _of_workload(name: str, cells: Sequence[Axes]) -> bool:
    """Whether an axis has one value in each workload: it says nothing that the workload does not."""
    if not any("workload" in axes for axes in cells):
        return False
    values = {(axes.get("workload"), repr(axes.get(name))) for axes in cells}
    return len(values) == len({workload for workload, _ in values})


def shown(value: Any) -> str:
    """A value as a grid file writes it."""
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def natural(value: Any) -> tuple[Any, ...]:
    """A key that sorts as people do: numbers by size, `torch==2.9` before `torch==2.13`, nothing first."""
    if value is None:
        return (0,)
    if isinstance(value, (int, float)):
        return (1, value)
    return (2, _pieces(str(value)))


@functools.lru_cache(maxsize=10_000)
def _pieces(text: str) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", text)
    return [_number(piece) if piece.isdecimal() else (-1, piece) for piece in pieces]


def _number(digits: str) -> tuple[int, str]:
    """A key that sorts whole numbers by size, also those that are too long for `int`."""
    kept = digits.lstrip("0")
    return len(kept), kept
