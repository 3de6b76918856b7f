"""Overrides: `--set axis=v1,v2` on the command line, laid over the values of the file."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable
from typing import Any

from sweep.axes import AXES
from sweep.errors import SweepError
from sweep.grid import ranges
from sweep.grid.language import GridFile
from sweep.grid.source import Source
from sweep.steps import is_step
from sweep.texts import printable

_HINT = (
    "write --set batch_exponent=0,1 for an axis, --set samples=5 for a parameter,"
    " --set resources.cpu=2 for a key"
)
_QUOTED_OR_BOUND = re.compile(r"""("[^"]*"|'[^']*')|,\s*([<>=!~][^,'"\[\]{}]*)""")
# Keys of a grid below which a dotted name may set a value, and keys that hold one value.
_NESTED = ("axes", "parameters", "resources")
_SINGLE = ("name", "description", "timeout", "order")


def overridden(source: Source, sets: Iterable[str]) -> dict[str, Any]:
    """Return the document with each of `sets` in it.

    Each option is noted in `source.replaced`, so that errors name the option and not a line.
    """
    # The source keeps the file's own values, to which errors refer.
    document = copy.deepcopy(dict(source.values or {}))
    for option in sets:
        name, equal, text = option.partition("=")
        if not equal or not name.strip() or not text.strip():
            raise SweepError(f"--set {printable(option)} sets nothing", _HINT)
        label = f"--set {printable(option)}"
        values = _versions(text, label) if name.strip() == "framework" else _typed(text, label)
        keys = _put(document, name.strip(), values, label)
        source.replaced[keys] = label
    return document


def _typed(text: str, label: str) -> list[Any]:
    """Return the values of a text as YAML reads them: `0,1` is [0, 1]."""
    try:
        values = Source(f"[{text}]", label).values
    except SweepError as error:
        raise SweepError(f"{label} is not YAML", error.hint) from None
    if not isinstance(values, list) or not values:
        raise SweepError(f"{label} sets nothing", _HINT)
    is_list = len(values) == 1 and isinstance(values[0], list)
    return values[0] if is_list else values


def _versions(text: str, label: str) -> list[Any]:
    """Return frameworks; bounds after a comma belong to the range before: `torch>=2.0,<=2.13`."""
    # In YAML, a text that begins with `>` or `!` means something else.
    quoted = _QUOTED_OR_BOUND.sub(_with_quotes, text)
    return ranges.joined(_typed(quoted, label))


def _with_quotes(match: re.Match[str]) -> str:
    """Return a bound in quotes; quoted text is returned unchanged."""
    return match[0] if match[1] else f",'{match[2]}'"


def _put(document: dict[str, Any], name: str, values: list[Any], label: str) -> tuple[str, ...]:
    """Put values under the key that `name` stands for; return the path of keys."""
    if name.partition(".")[0] in _NESTED and "." in name:
        return _put_nested(document, name.split("."), values, label)
    if name in _SINGLE:
        document[name] = _only(values, label)
        return (name,)
    if name == "workload":
        # A workload at the top and one under axes would contradict each other.
        document.pop("workload", None)
        values = [_absolute(value) if is_step(value) else value for value in values]
    if not values:
        raise SweepError(f"{label} sets no values", _HINT)
    is_axis = name in AXES or name in _table(document, "axes")
    if is_axis or len(values) > 1 or isinstance(values[0], dict):
        _table(document, "parameters").pop(name, None)
        _table(document, "axes")[name] = values
        return ("axes", name)
    if name.partition(".")[0] in GridFile.model_fields:
        raise SweepError(f"{label}: {name} is for the file, or set key by key", _HINT)
    value = _absolute(values[0]) if name == "data_path" else values[0]
    _table(document, "parameters")[name] = value
    return ("parameters", name)


def _put_nested(
    document: dict[str, Any], keys: list[str], values: list[Any], label: str
) -> tuple[str, ...]:
    table: Any = document
    for key in keys[:-1]:
        table = table.setdefault(key, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict) or not all(keys):
        raise SweepError(f"{label}: there are no keys within {'.'.join(keys[:-1])}", _HINT)
    table[keys[-1]] = values if keys[0] == "axes" else _only(values, label)
    return tuple(keys)


def _only(values: list[Any], label: str) -> Any:
    if len(values) != 1:
        raise SweepError(f"{label} gives {len(values)} values where one is wanted", _HINT)
    return values[0]


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table of the document.

    If something else is there, return a table of no effect: validation reports the mistake.
    """
    table: Any = document.setdefault(key, {})
    return table if isinstance(table, dict) else {}


def _absolute(path: Any) -> Any:
    """Return a path of the command line as absolute: it is relative to the current folder."""
    if not isinstance(path, str):
        return path
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
