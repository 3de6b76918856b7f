"""Selection: the axes of cells, and which cells `framework=torch` or `{batch_exponent: [0, 1]}` means."""

from __future__ import annotations

import fnmatch
import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sweep import versions
from sweep.errors import SweepError, nearest

Axes = Mapping[str, Any]
Where = Mapping[str, Any]

_BOUNDS = re.compile(
    r"(?P<name>[\w.-]*)\s*(?P<bounds>(<=?|>=?|!=|~=)\s*[\w.+*!-]+(\s*,\s*(<=?|>=?|!=|~=)\s*[\w.+*!-]+)*)"
)
_LIMIT = re.compile(r"(<=|>=|<|>|!=)\s*([-+]?\d+(?:\.\d+)?)")
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}


def matches(axes: Axes, where: Where) -> bool:
    """Whether every condition holds; a condition is a value or a list of them, any of which will do.

    A value is met by an equal one, by a glob, by every version of a framework named alone, and by all within bounds:
    `torch>=1,<2`, `>=2.1` for versions, `>3` for numbers.
    """
    return all(any(is_value(axes.get(key), wanted) for wanted in _listed(value)) for key, value in where.items())


def is_value(value: Any, wanted: Any) -> bool:
    if value == wanted:
        return True
    text, pattern = shown(value), shown(wanted)
    if text == pattern or text.partition("==")[0] == pattern or fnmatch.fnmatchcase(text, pattern):
        return True
    if isinstance(value, str) and versions.same(text, pattern):
        return True
    bounds = _BOUNDS.fullmatch(pattern)
    return bounds is not None and _within(value, bounds["name"], bounds["bounds"])


def parsed(conditions: Iterable[str]) -> dict[str, list[str]]:
    """`["device=cpu", "batch_exponent=0,1"]` as conditions."""
    where: dict[str, list[str]] = {}
    for condition in conditions:
        key, equal, values = condition.partition("=")
        if not equal or not values:
            raise SweepError(f"{condition!r} is no condition", "write key=value, or key=value1,value2")
        where[key.strip()] = [value.strip() for value in values.split(",")]
    return where


def check_axes(names: Iterable[str], cells: Iterable[Axes]) -> None:
    """Raise SweepError, with the nearest word, for a name that no cell has."""
    known = dict.fromkeys(key for axes in cells for key in axes)
    for name in names:
        if known and name not in known and name != "version":
            raise SweepError(f"no cell has an axis {name!r}", nearest(name, known))


def split(axes: Axes) -> dict[str, Any]:
    """Framework and version apart, the version right after the framework."""
    name, _, version = str(axes.get("framework", "")).partition("==")
    return {"framework": name, "version": version} | {k: v for k, v in axes.items() if k != "framework"}


def varying(cells: Sequence[Axes]) -> list[str]:
    """The axes that tell cells apart: those that differ, but for parameters that go with the workload."""
    names = dict.fromkeys(key for axes in cells for key in axes)
    return [name for name in names if _apart(name, cells) and (name == "workload" or not _of_workload(name, cells))]


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
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]


def _within(value: Any, name: str, bounds: str) -> bool:
    """Whether a number, a version, or a framework of that name keeps all of the bounds."""
    if isinstance(value, int | float):
        return not name and all(_COMPARED[sign](value, float(limit)) for sign, limit in _LIMIT.findall(bounds))
    framework, _, version = str(value).rpartition("==")
    try:
        return framework == name and SpecifierSet(bounds).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
