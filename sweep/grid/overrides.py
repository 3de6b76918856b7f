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
from sweep.texts import printable

_HINT = "write --set batch_exponent=0,1 for an axis, --set samples=5 for a parameter, --set resources.cpu=2 for a key"
_QUOTED_OR_BOUND = re.compile(r"""("[^"]*"|'[^']*')|,\s*([<>=!~][^,'"\[\]{}]*)""")
_DEEP = ("axes", "parameters", "resources")
_WHOLE = ("name", "description", "timeout", "order")  # keys of a grid that hold one value


def overridden(source: Source, sets: Iterable[str]) -> dict[str, Any]:
    """The document with each of `sets` in it; `source` learns of them, so that errors name the option."""
    document = copy.deepcopy(dict(source.values or {}))
    for option in sets:
        name, equal, text = option.partition("=")
        if not equal or not name.strip() or not text.strip():
            raise SweepError(f"--set {printable(option)} sets nothing", _HINT)
        label = f"--set {printable(option)}"
        values = _versions(text, label) if name.strip() == "framework" else _typed(text, label)
        place = _put(document, name.strip(), values, label)
        source.replaced[place] = label
    return document


def _typed(text: str, label: str) -> list[Any]:
    """`0,1` as the list [0, 1], `{range: [0, 4]}` as a list of one range, each as YAML means it."""
    try:
        values = Source(f"[{text}]", label).values
    except SweepError as error:
        raise SweepError(f"{label} is not YAML", error.hint) from None
    if not isinstance(values, list) or not values:
        raise SweepError(f"{label} sets nothing", _HINT)
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _versions(text: str, label: str) -> list[Any]:
    """As `_typed`; bounds after a comma belong to the range before it: `torch>=2.0,<=2.13`."""
    quoted = _QUOTED_OR_BOUND.sub(_with_quotes, text)  # YAML has other uses for `>` and `!`
    return ranges.joined(_typed(quoted, label))


def _with_quotes(found: re.Match[str]) -> str:
    """A bound in quotes; what has quotes already stays as it is."""
    return found[0] if found[1] else f",'{found[2]}'"


def _put(document: dict[str, Any], name: str, values: list[Any], label: str) -> tuple[str, ...]:
    """Put values where the name says; returns that place."""
    if name.partition(".")[0] in _DEEP and "." in name:
        return _put_deep(document, name.split("."), values, label)
    if name in _WHOLE:
        document[name] = _only(values, label)
        return (name,)
    if name == "workload":
        document.pop("workload", None)
    if not values:
        raise SweepError(f"{label} sets no values", _HINT)
    if (
        name in AXES
        or name in _table(document, "axes")
        or len(values) > 1
        or isinstance(values[0], dict)
    ):
        _table(document, "parameters").pop(name, None)
        _table(document, "axes")[name] = values
        return ("axes", name)
    if name.partition(".")[0] in GridFile.model_fields:
        raise SweepError(f"{label}: {name} is for the file, or set key by key", _HINT)
    _table(document, "parameters")[name] = (
        _absolute(values[0]) if name == "data_path" else values[0]
    )
    return ("parameters", name)


def _put_deep(
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
    """A table of the document; a throw-away one where something else is there, which validation will tell."""
    table: Any = document.setdefault(key, {})
    return table if isinstance(table, dict) else {}


def _absolute(path: Any) -> Any:
    """Paths on the command line are relative to where it is typed."""
    return os.path.abspath(os.path.expanduser(path)) if isinstance(path, str) else path  # noqa: PTH100, PTH111
