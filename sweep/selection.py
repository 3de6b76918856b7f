"""Axes of cells: which of them vary, and how their values are written and sorted."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.errors import SweepError, nearest

Axes = Mapping[str, Any]
Where = Mapping[str, Any]

# The version of the framework is not an axis, but conditions may name it.
VERSION = "version"


def check_axes(names: Iterable[str], cells: Iterable[Axes]) -> None:
    """Raise SweepError, with the nearest name, for a name that no cell has."""
    known = dict.fromkeys(key for axes in cells for key in axes)
    for name in names:
        is_told_by_another = name == VERSION or (name == "batch_size" and "batch_exponent" in known)
        if known and name not in known and not is_told_by_another:
            raise SweepError(f"no cell has an axis {name!r}", nearest(name, known))


def split(axes: Axes) -> dict[str, Any]:
    """Return axes with framework and version apart, the version after the framework."""
    framework = axes.get("framework", "")
    apart = {"framework": str(framework).partition("==")[0], VERSION: framework_version(framework)}
    return apart | {k: v for k, v in axes.items() if k != "framework"}


def framework_version(framework: Any) -> str:
    """Return `2.13.0` of `torch==2.13.0`; "" if there is no version."""
    return str(framework).partition("==")[2]


def varying(cells: Sequence[Axes]) -> list[str]:
    """Return the axes that tell cells apart, without those that depend on the workload alone."""
    names = dict.fromkeys(key for axes in cells for key in axes)
    return [
        name
        for name in names
        if _varies(name, cells) and (name == "workload" or not _follows_workload(name, cells))
    ]


def _varies(name: str, cells: Sequence[Axes]) -> bool:
    return len({repr(axes.get(name)) for axes in cells}) > 1


def _follows_workload(name: str, cells: Sequence[Axes]) -> bool:
    """Return whether an axis has one value per workload, and so adds nothing to it."""
    if not any("workload" in axes for axes in cells):
        return False
    values = {(axes.get("workload"), repr(axes.get(name))) for axes in cells}
    return len(values) == len({workload for workload, _ in values})


def shown(value: Any) -> str:
    """Return a value as a grid file writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def natural(value: Any) -> tuple[Any, ...]:
    """Return a key for natural order: None, numbers by size, `torch==2.9` before `torch==2.13`."""
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
    """Return a key that sorts integers by size, also those with more digits than `int` accepts."""
    significant = digits.lstrip("0")
    return len(significant), significant
