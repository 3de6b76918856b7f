"""Quantities of a grid: lists and ranges of values, shares, durations, amounts of memory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from sweep.grid import ranges
from sweep.grid.source import scalar
from sweep.selection import shown

Scalar = str | int | float | bool | None


class Steps(tuple[float, ...]):
    """A range of fractions, expanded to its values."""

    __slots__ = ()


Range = range | Steps  # of integers, or of fractions

MOST_VALUES = 1_000_000  # of one axis
# A range with more steps is refused before they are counted: the count is useless to a reader.
_UNCOUNTED = 1e15
_MOST_LETTERS = 100
# Guards against the rounding of (high - low) / step just below an integer.
_EPSILON = 1e-9
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_PERCENT = re.compile(r"\s*([^\s%]+)\s*%\s*")
_SHARE_HINT = "write 5% or 0.05"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", re.IGNORECASE)
_RANGE_HINT = "write {range: [0, 4]}, both ends included, with step: 2 beside it if wanted"


def problem(message: str, hint: str = "", at: str = "") -> PydanticCustomError:
    """Return the error that a validator raises; `at` is a key below the validated value."""
    return PydanticCustomError("grid", "{message}", {"message": message, "hint": hint, "at": at})


def values(given: Any) -> Sequence[Scalar]:
    """Return the values of an axis, each once: from a value, a list, or a range.

    A range of integers remains a `range`: it may have a million values.
    """
    if isinstance(given, Mapping):
        return _range(given)
    if given is None:
        raise problem("no values", "give at least one, or leave the key out")
    listed = given if isinstance(given, list | tuple) else [given]
    if not listed:
        raise problem("no values", "give at least one, or leave the key out")
    parts = [_range(each) if isinstance(each, Mapping) else [_scalar(each)] for each in listed]
    if len(parts) == 1:
        return parts[0]
    _check_count(sum(len(part) for part in parts))
    return tuple({(type(value), value): value for part in parts for value in part}.values())


def _range(given: Mapping[str, Any]) -> Sequence[Scalar]:
    """Return the numbers of a range, or a range of versions as its text."""
    if not isinstance(given.get("range"), str):
        return numbers(given)
    try:
        return [ranges.stated(given)]
    except ranges.RangeError as error:
        raise problem(str(error), ranges.HINT) from None


def numbers(given: Mapping[str, Any]) -> Range:
    """Return the numbers of `{range: [0, 4], step: 2}`, both ends included.

    A range of integers remains a `range`.
    """
    ends, step = given.get("range"), given.get("step", 1)
    if set(given) - {"range", "step"} or not isinstance(ends, list | tuple) or len(ends) != 2:
        raise problem(f"{written(given)} is no range", _RANGE_HINT)
    low, high = ends
    if not all(_is_number(each) for each in (low, high, step)) or step <= 0:
        raise problem(f"{written(given)} is no range of numbers", _RANGE_HINT)
    if high < low:
        raise problem(f"the range from {low} to {high} is empty", "write the smaller number first")
    if high - low > step * _UNCOUNTED:
        raise problem(
            f"{written(given)} has far too many values", f"an axis can have {MOST_VALUES:,}"
        )
    count = math.floor((high - low) / step + _EPSILON) + 1
    _check_count(count)
    if all(isinstance(each, int) for each in (low, high, step)):
        return range(low, high + 1, step)
    # Rounding makes 3 * 0.1 equal to 0.3, which a condition may name.
    return Steps(round(low + step * i, 12) for i in range(count))


def written(value: Any) -> str:
    """Return a value as a grid file has it, texts in quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    return repr(value) if isinstance(value, str) else shown(value)


def duration_s(given: Any) -> float:
    """Return the seconds of `90`, `"90s"`, `"30m"` or `"1h 30m"`."""
    text = str(given).strip()
    pieces = _DURATION.findall(text)
    if _is_number(given):
        seconds = float(given)
    elif pieces and not _DURATION.sub("", text):
        seconds = sum(float(amount) * _SECONDS[unit.lower()] for amount, unit in pieces)
    else:
        raise problem(f"{written(given)} is no duration", "write seconds, or 30m, 1h 30m, 2d")
    if not 0 < seconds < math.inf:
        raise problem(
            f"{written(given)} is no time at all",
            "write more than zero seconds, or 30m, 1h 30m, 2d",
        )
    return seconds


def memory_bytes(given: Any) -> int:
    """Return the bytes of `4000000000`, `"4GB"` (powers of ten) or `"4GiB"` (powers of two)."""
    match = _MEMORY.fullmatch(str(given).strip())
    if match is None or isinstance(given, bool) or not float(match[1]):
        raise problem(f"{written(given)} is no amount of memory", "write bytes, or 4GB, 512MiB")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def share(given: Any) -> float:
    """Return a share of a whole, from 0 to below 1: `0.05` or `"5%"`.

    `5` is refused: it may mean 5 % or five times as much.
    """
    fraction, is_percent = _number_or_percent(given)
    if fraction >= 1 and is_percent:
        raise problem(f"{written(given)} is all of it, or more", _SHARE_HINT)
    return fraction


def positive_share(given: Any) -> float:
    """Return a share above 0."""
    fraction = share(given)
    if not fraction:
        raise problem(f"{written(given)} leaves no room at all", _SHARE_HINT)
    return fraction


def excess(given: Any) -> float:
    """Return how much more one is than another: a share, or any percentage, such as `150%`."""
    return _number_or_percent(given, or_more=True)[0]


def _number_or_percent(given: Any, or_more: bool = False) -> tuple[float, bool]:
    """Return the fraction, and whether it was written in percent."""
    match = _PERCENT.fullmatch(given) if isinstance(given, str) else None
    number = given
    if isinstance(given, str):
        number = scalar(match[1] if match else given.strip())
    if not _is_number(number) or not 0 <= number < math.inf:
        raise problem(f"{written(given)} is no share", _SHARE_HINT)
    if match:
        return number / 100, True
    # `5` may mean 5 % or five times as much: the hint shows both.
    if number >= 1:
        hint = f"write {number:g}% or {number / 100:g}" if number < 100 else _SHARE_HINT
        hint += f", or {100 * number:g}%" if or_more else ""
        raise problem(f"{written(given)} is {100 * number:g} %", hint)
    return float(number), False


def _check_count(count: int) -> None:
    if count > MOST_VALUES:
        raise problem(
            f"{count:,} values, more than the {MOST_VALUES:,} that an axis can have", "take fewer"
        )


def _scalar(given: Any) -> Scalar:
    if isinstance(given, list | tuple):
        raise problem(f"{written(given)} is a list within a list", "write one list of values")
    if isinstance(given, str):
        _check_name(given)
    return given  # type: ignore[no-any-return]


def _check_name(text: str) -> None:
    """Check a value of an axis: it becomes part of names and of paths."""
    for wrong, is_there in (
        ("is empty", not text.strip()),
        ("has '/' in it", "/" in text),
        ("has '..' in it", ".." in text),
        ("has signs in it that cannot be printed", not text.isprintable()),
        (f"is longer than {_MOST_LETTERS} letters", len(text) > _MOST_LETTERS),
    ):
        if is_there:
            raise problem(
                f"the value {text[:_MOST_LETTERS]!r} {wrong}",
                "values of axes become names of trials",
            )


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


ANY_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
_RANGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A range of numbers, both ends included",
    "properties": {
        "range": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "step": {"type": "number", "exclusiveMinimum": 0},
    },
    "required": ["range"],
    "additionalProperties": False,
}


VERSIONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A range of versions: of each minor version the newest patch release, or all",
    "properties": {"range": {"type": "string"}, "every": {"enum": list(ranges.STEPS)}},
    "required": ["range"],
    "additionalProperties": False,
}


def values_schema(one: dict[str, Any], *ranges_schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of `Values` whose values have the schema `one`.

    Ranges are ranges of numbers unless `ranges_schemas` are given.
    """
    each = [one, *(ranges_schemas or (_RANGE_SCHEMA,))]
    return {"anyOf": [*each, {"type": "array", "minItems": 1, "items": {"anyOf": each}}]}


Values = Annotated[
    Sequence[Scalar], PlainValidator(values), WithJsonSchema(values_schema(ANY_SCALAR))
]
Seconds = Annotated[
    float,
    BeforeValidator(duration_s),
    WithJsonSchema(
        {"type": ["number", "string"], "description": "Seconds, or text such as 30m or 1h 30m"}
    ),
]
Bytes = Annotated[
    int,
    BeforeValidator(memory_bytes),
    WithJsonSchema(
        {"type": ["integer", "string"], "description": "Bytes, or text such as 4GB or 512MiB"}
    ),
]


def _share_schema(percents: str, **bounds: float) -> dict[str, Any]:
    """Return the schema of a number within bounds, or of text in percent."""
    text = {"type": "string", "pattern": rf"^\s*{percents}\s*%\s*$"}
    return {
        "anyOf": [{"type": "number", "exclusiveMaximum": 1, **bounds}, text],
        "description": "As 0.05 or 5%",
    }


_BELOW_100 = r"\d{1,2}(\.\d+)?"
Share = Annotated[
    float, BeforeValidator(share), WithJsonSchema(_share_schema(_BELOW_100, minimum=0))
]
PositiveShare = Annotated[
    float,
    BeforeValidator(positive_share),
    WithJsonSchema(_share_schema(_BELOW_100, exclusiveMinimum=0)),
]
Excess = Annotated[
    float, BeforeValidator(excess), WithJsonSchema(_share_schema(r"\d+(\.\d+)?", minimum=0))
]
