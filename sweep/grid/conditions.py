"""Conditions on the axes of a cell: in `exclude`, `when`, a claim's `where`, and after `--where`.

All four are read by `wanted` and decided by `Conditions.holds`, so a condition means the same in
each. A grid file gives YAML values. The command line gives text, which `parsed` splits at commas:
without quotes, YAML cannot read `>3`, `!=5` or `torch>=1,<2`. A wanted text also matches a value
that is no text, if the text means that value without quotes: `"1e-4"` and `1e-4` both match 0.0001.
Therefore the command line keeps `2.10` as it was typed, which is right for versions and for
numbers.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sweep import versions
from sweep.axes import BATCH_SIZE, batch_size
from sweep.errors import SweepError, nearest
from sweep.grid.quantities import (
    ANY_SCALAR,
    Range,
    Scalar,
    Steps,
    numbers,
    problem,
    values_schema,
    written,
)
from sweep.grid.source import Source, scalar
from sweep.selection import VERSION, framework_version, shown
from sweep.texts import printable

Alternatives = Sequence[Scalar | Range]  # a value must match one of them

_SIGN = r"(?:<=?|>=?|!=|~=)"
_BOUND = rf"{_SIGN}\s*[\w.+*!-]+"
_BOUNDS = re.compile(rf"(?P<name>[\w.-]*)\s*(?P<bounds>{_BOUND}(?:\s*,\s*{_BOUND})*)")
_BOUNDS_BEGIN = re.compile(rf"[\w.-]*\s*{_SIGN}")
_LIMIT = re.compile(rf"({_SIGN})\s*([^\s,]+)")
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}
_BOUNDS_HINT = "write bounds as '>3', '>=2.1' for versions, 'torch>=1,<2' for a framework"

# A part of `--where`: in quotes or braces as YAML writes it, else all up to the next comma.
_QUOTED = r"""\"(?:[^"\\]|\\.)*\"|'(?:[^']|'')*'|\{[^{}]*\}"""
_BARE = r"""(?!["'{])(?!\[[^\]]*,)[^,]*?"""
_PART = re.compile(rf"\s*({_QUOTED}|{_BARE})\s*,")
_HINT = (
    "write key=value1,value2, key={range: [0, 4]} or 'key=>=3';"
    " put a value that has a comma in quotes"
)

# None is a value that a cell may have.
_ABSENT = object()


class Unmet(NamedTuple):
    """An alternative of a condition that no value matches.

    `is_all` is true if none of the axis's alternatives is matched.
    """

    axis: str
    wanted: Scalar | Range
    is_all: bool
    hint: str

    def __str__(self) -> str:
        wanted = written_alternative(self.wanted)
        quoted = repr(wanted) if isinstance(self.wanted, str) else wanted
        return f"{self.axis} {quoted}"


class Conditions:
    """Conditions on several axes, all of which must hold; SweepError for one that is invalid.

    Answers are cached per value: a grid may have a million cells.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.wanted = {axis: _read_alternatives(axis, each) for axis, each in given.items()}
        self._answers: dict[str, dict[Any, bool]] = {axis: {} for axis in self.wanted}

    def __str__(self) -> str:
        return ", ".join(
            f"{axis}: {_written(alternatives)}" for axis, alternatives in self.wanted.items()
        )

    def holds(self, axes: Mapping[str, Any]) -> bool:
        """Return whether all conditions hold; none holds for an axis that the cell lacks."""
        return all(self._answer(axis, _value(axes, axis)) for axis in self.wanted)

    def unmet(self, cells: Iterable[Mapping[str, Any]]) -> list[Unmet]:
        """Return the alternatives that no cell matches, each condition taken by itself."""
        values: dict[str, dict[str, Any]] = {axis: {} for axis in self.wanted}
        for cell in cells:
            for axis, distinct in values.items():
                value = _value(cell, axis)
                if value is not _ABSENT:
                    distinct.setdefault(repr(value), value)
        return [
            unmet
            for axis, distinct in values.items()
            for unmet in self.unmet_by(axis, list(distinct.values()))
        ]

    def unmet_by(self, axis: str, values: Sequence[Any]) -> list[Unmet]:
        """Return the alternatives of one axis that none of these values matches."""
        wanted = self.wanted[axis]
        unmet = [each for each in wanted if not any(is_value(value, each) for value in values)]
        is_all = len(unmet) == len(wanted)
        return [Unmet(axis, each, is_all, nearest_value(each, values)) for each in unmet]

    def _answer(self, axis: str, value: Any) -> bool:
        if value is _ABSENT:
            return False
        # 1, 1.0 and True are equal: the type makes them three keys.
        key = (type(value), value if value.__hash__ else repr(value))
        answers = self._answers[axis]
        if key not in answers:
            answers[key] = any(is_value(value, each) for each in self.wanted[axis])
        return answers[key]


def is_value(value: Any, wanted: Scalar | Range) -> bool:
    """Return whether a value matches one alternative of a condition.

    It matches if it is equal, is in a range, or fits a glob. A framework's name alone matches each
    of its versions. Bounds match what lies within: `torch>=1,<2`, `>=2.1` for versions, `>3` for
    numbers.
    """
    if isinstance(wanted, range | Steps):
        return _is_number(value) and value in wanted
    if isinstance(wanted, str):
        return _matches_text(value, wanted)
    return _same(value, wanted) or (isinstance(value, str) and value == shown(wanted))


def wanted(given: Any) -> Alternatives:
    """Return the alternatives of a condition: a value, a list, a range, or a list with ranges."""
    is_list = isinstance(given, list | tuple) and not isinstance(given, Steps)
    listed = list(given) if is_list else [given]
    if not listed:
        raise problem("no values", "give at least one, or leave the key out")
    return tuple(_alternative(each) for each in listed)


def parsed(texts: Iterable[str]) -> dict[str, Alternatives]:
    """Return the conditions after `--where` by axis.

    Examples: `device=cpu`, `batch_exponent=0,{range: [2, 3]}`, `framework=torch>=1,<2`.
    """
    conditions: dict[str, Alternatives] = {}
    for text in texts:
        key, equal, rest = (part.strip() for part in text.partition("="))
        label = f"--where {printable(text)}"
        if not equal or not key or not rest or key[-1] in "<>!~":
            raise SweepError(f"{label} is no condition", _HINT)
        if key in conditions:
            raise SweepError(
                f"{label}: {key} has a condition already", f"write one: --where {key}=value1,value2"
            )
        try:
            conditions[key] = wanted(_parts(rest, label))
        except PydanticCustomError as error:
            raise SweepError(f"{label}: {error.message()}", (error.context or {})["hint"]) from None
    return conditions


def why_no_version(axis: str, alternatives: Alternatives) -> tuple[str, str] | None:
    """Return an error and a hint if a version is not written as text, else None."""
    if axis != VERSION:
        return None
    for each in alternatives:
        if not isinstance(each, str):
            return (
                f"{written_alternative(each)} is not text",
                "put it in quotes: without them 2.10 is the number 2.1",
            )
    return None


def nearest_value(missed: Scalar | Range, values: Iterable[Any]) -> str:
    """Return a hint: the nearest of the existing values; frameworks count also without version."""
    known = {word for value in values for word in (shown(value), shown(value).partition("==")[0])}
    return nearest(written_alternative(missed), known)


def written_alternative(alternative: Scalar | Range) -> str:
    """Return an alternative as a grid file has it, without quotes."""
    if isinstance(alternative, range | Steps):
        low, high = shown(alternative[0]), shown(alternative[-1])
        return low if len(alternative) == 1 else f"{low} … {high}"
    return shown(alternative)


def _read_alternatives(axis: str, given: Any) -> Alternatives:
    try:
        alternatives = wanted(given)
    except PydanticCustomError as error:
        raise SweepError(f"{axis}: {error.message()}", (error.context or {})["hint"]) from None
    if reason := why_no_version(axis, alternatives):
        raise SweepError(f"{axis}: {reason[0]}", reason[1])
    return alternatives


def _value(axes: Mapping[str, Any], axis: str) -> Any:
    """Return a cell's value of an axis.

    The axis "version" is derived from its framework, the batch size from its exponent.
    """
    if axis == VERSION and VERSION not in axes and "framework" in axes:
        return framework_version(axes["framework"])
    if axis == BATCH_SIZE and BATCH_SIZE not in axes:
        return batch_size(axes) or _ABSENT
    if axis == "batch_exponent" and axis not in axes and (size := batch_size(axes)):
        return size.bit_length() - 1 if size & (size - 1) == 0 else _ABSENT
    return axes.get(axis, _ABSENT)


def _matches_text(value: Any, wanted: str) -> bool:
    """Return whether a value matches a text: its name, a glob, a number, a version or bounds."""
    text = shown(value)
    if text == wanted or text.partition("==")[0] == wanted or fnmatch.fnmatchcase(text, wanted):
        return True
    if isinstance(value, str):
        if versions.same(text, wanted):
            return True
    elif _same(value, scalar(wanted)):
        return True
    elif not _is_number(value):
        return False
    bounds = _BOUNDS.fullmatch(wanted)
    return bounds is not None and _within(value, bounds["name"], bounds["bounds"])


def _same(value: Any, wanted: Any) -> bool:
    """Return whether two values are equal; True and 1 are not."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _within(value: Any, name: str, bounds: str) -> bool:
    """Return whether a number, a version, or a framework called `name` is within all bounds."""
    limits = _LIMIT.findall(bounds)
    if not isinstance(value, str):
        return not name and all(_keeps(value, sign, scalar(limit)) for sign, limit in limits)
    framework, _, version = value.rpartition("==")
    if framework != name:
        return False
    try:
        return SpecifierSet(bounds).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        # The version of a build from source may be any text.
        return False


def _keeps(value: float, sign: str, limit: Any) -> bool:
    return sign in _COMPARED and _is_number(limit) and _COMPARED[sign](value, limit)


def _alternative(given: Any) -> Scalar | Range:
    if isinstance(given, range | Steps):
        return given
    if isinstance(given, Mapping):
        return numbers(given)
    if isinstance(given, list | tuple):
        raise problem(f"{written(given)} is a list within a list", "write one list of values")
    if not isinstance(given, Scalar):
        raise problem(f"{given!r} is no value", _BOUNDS_HINT)
    if isinstance(given, str):
        _check_bounds(given)
    return given


def _check_bounds(text: str) -> None:
    """Refuse a text that begins like bounds and is none: it would match nothing, silently."""
    if not text.strip():
        raise problem("an empty text is no value", "write one, or null")
    if not _BOUNDS_BEGIN.match(text):
        return
    bounds = _BOUNDS.fullmatch(text.strip())
    limits = _LIMIT.findall(bounds["bounds"]) if bounds else []
    if not limits or not all(_is_limit(sign, limit) for sign, limit in limits):
        raise problem(f"{written(text)} has bounds that cannot be read", _BOUNDS_HINT)


def _is_limit(sign: str, limit: str) -> bool:
    try:
        return _is_number(scalar(limit)) or bool(SpecifierSet(f"{sign}{limit}"))
    except InvalidSpecifier:
        return False


def _parts(text: str, label: str) -> list[Any]:
    """Return the parts between commas; bounds after a comma belong to the part before."""
    if text.startswith("[") and text.endswith("]"):
        return list(_read(text, label))
    parts: list[Any] = []
    after_bounds = False  # whether the part before is bounds without quotes
    for part in _split(text, label):
        if part[:1] in ("'", '"', "{"):
            parts.append(_read(part, label))
            after_bounds = False
            continue
        bounds = _BOUNDS.fullmatch(part)
        if after_bounds and bounds and not bounds["name"]:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
        after_bounds = bounds is not None
    return parts


def _split(text: str, label: str) -> Iterator[str]:
    rest = f"{text},"
    while rest:
        match = _PART.match(rest)
        if match is None:
            raise SweepError(f"{label}: {rest[:-1].strip()!r} cannot be read", _HINT)
        if not match[1]:
            raise SweepError(f"{label}: a value is missing between commas", _HINT)
        yield match[1]
        rest = rest[match.end() :]


def _read(text: str, label: str) -> Any:
    try:
        return Source(text, label).values
    except SweepError as error:
        raise SweepError(f"{label}: {text!r} cannot be read", _HINT) from error


def _written(alternatives: Alternatives) -> str:
    listed = ", ".join(map(written_alternative, alternatives))
    return listed if len(alternatives) == 1 else f"[{listed}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Wanted = Annotated[Alternatives, PlainValidator(wanted), WithJsonSchema(values_schema(ANY_SCALAR))]
