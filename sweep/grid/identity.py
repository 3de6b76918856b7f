"""Identity: what a cell is called, and the content hashes by which records find their trial again.

An id is the first 12 hex digits of the SHA-256 of the settings as JSON, keys sorted, no blanks, without those of
NOT_AXES; settings that were renamed stand under their former names, and those that were added later are left out where
they have the value that trials had before (`sweep.former`). Where a trial has a content
(`sweep.measured`), a line break and the content follow, as JSON of the same form. Whoever has a record's settings and
content can compute it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweep.axes import CELL_AXES, NOT_AXES, SEED, name_part
from sweep.former import ADDED, IN_IDS

_LENGTH = 12
_NAME_ORDER = ("framework", "workload", "device", "backend", "backward", "batch_exponent")
_SEED_HERE = "\0"  # JSON never holds it


def identify(settings: Mapping[str, Any], content: Mapping[str, str] | None = None) -> str:
    """The id of a trial with these settings and content, or of a cell where the settings hold no seed."""
    counted = {_in_ids(name): value for name, value in settings.items() if _counts(name, value)}
    return _digest(_json(counted) + _appended(content or {}))


class Identity(NamedTuple):
    """A cell's id, and the text around its trials' seed from which theirs are made."""

    cell_id: str
    head: str
    tail: str

    def trial_id(self, seed: int) -> str:
        return _digest(f"{self.head}{seed}{self.tail}")


class Shape:
    """Ids of cells that have the same axes and the same other parameters, made quickly: only what varies is written."""

    def __init__(self, common: Mapping[str, Any], axes: Sequence[str]) -> None:
        self.common = common
        self._added = [name for name in axes if name in ADDED]
        self._without = functools.cache(
            lambda left_out: Shape(common, [name for name in axes if name not in left_out])
        )
        self._varying = sorted(axes, key=_in_ids)
        fixed = {
            _in_ids(name): _json(value).replace("%", "%%")
            for name, value in common.items()
            if _counts(name, value)
        }
        parts = fixed | dict.fromkeys(map(_in_ids, axes), "%s")
        self._cell = _object(parts)
        self._trial = _object(parts | {SEED: _SEED_HERE})

    def identity(
        self, axes: Mapping[str, Any], content: Mapping[str, str] | None = None
    ) -> Identity:
        left_out = tuple(name for name in self._added if not _counts(name, axes[name]))
        if left_out:
            return self._without(left_out).identity(axes, content)
        values, appended = (
            tuple([_scalar_json(axes[name]) for name in self._varying]),
            _appended(content or {}),
        )
        head, _, tail = (self._trial % values).partition(_SEED_HERE)
        return Identity(_digest(self._cell % values + appended), head, tail + appended)


def cell_name(axes: Mapping[str, Any]) -> str:
    """A cell's name, as `torch==2.13.0/core/cpu/native/autograd/b5/threads=2`; a default backend is left out."""
    names = [*_NAME_ORDER, *(axis for axis in axes if axis not in CELL_AXES)]
    return "/".join(filter(None, (name_part(name, axes[name]) for name in names)))


def _counts(name: str, value: Any) -> bool:
    return name not in NOT_AXES and not (name in ADDED and value == ADDED[name])


def _in_ids(name: str) -> str:
    return IN_IDS.get(name, name)


def _object(parts: Mapping[str, str]) -> str:
    return (
        "{"
        + ",".join(f"{_json(key).replace('%', '%%')}:{parts[key]}" for key in sorted(parts))
        + "}"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _appended(content: Mapping[str, str]) -> str:
    return f"\n{_json(dict(content))}" if content else ""


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@functools.lru_cache(maxsize=100_000, typed=True)
def _scalar_json(value: Any) -> str:
    """1, 1.0 and true are equal and yet not the same: hence `typed`."""
    return _json(value)
