"""Identity: the names of cells, and the content hashes that tie records to their trials.

An id is the first 12 hex digits of a SHA-256. The hashed text is the settings as JSON with sorted
keys and no blanks, without those in NOT_AXES. Renamed settings keep their former names. A setting
that was added later is left out if it has the value that trials had before (`sweep.former`). If a
trial has a content (`sweep.measured`), a line break and the content follow, as JSON of the same
form. An id can thus be computed from a record's settings and content.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweep.axes import CELL_AXES, NOT_AXES, SEED, name_part
from sweep.former import ADDED, IN_IDS

_LENGTH = 12  # hex digits
_NAME_ORDER = ("framework", "workload", "device", "backend", "backward", "batch_exponent")
# JSON text never contains this character.
_SEED_PLACEHOLDER = "\0"


def identify(settings: Mapping[str, Any], content: Mapping[str, str] | None = None) -> str:
    """Return the id of a trial with these settings and content.

    Without a seed among the settings, it is the id of a cell.
    """
    counted = {_in_ids(name): value for name, value in settings.items() if _counts(name, value)}
    return _digest(_json(counted) + _appended(content or {}))


class Identity(NamedTuple):
    """A cell's id, and the texts before and after the seed from which ids of trials are made."""

    cell_id: str
    head: str
    tail: str

    def trial_id(self, seed: int) -> str:
        """Return the id of the trial with this seed."""
        return _digest(f"{self.head}{seed}{self.tail}")


class Shape:
    """Ids of cells that have the same axes and the same other parameters.

    A grid may have a million trials: the JSON of what they share is written once.
    """

    def __init__(self, common: Mapping[str, Any], axes: Sequence[str]) -> None:
        self.common = common
        self._added = [name for name in axes if name in ADDED]
        self._without = functools.cache(
            lambda left_out: Shape(common, [name for name in axes if name not in left_out])
        )
        self._varying = sorted(axes, key=_in_ids)
        # The text becomes a format string, in which % must be doubled.
        fixed = {
            _in_ids(name): _json(value).replace("%", "%%")
            for name, value in common.items()
            if _counts(name, value)
        }
        parts = fixed | dict.fromkeys(map(_in_ids, axes), "%s")
        self._cell = _object(parts)
        self._trial = _object(parts | {SEED: _SEED_PLACEHOLDER})

    def identity(
        self, axes: Mapping[str, Any], content: Mapping[str, str] | None = None
    ) -> Identity:
        """Return the identity of the cell with these values of the axes."""
        left_out = tuple(name for name in self._added if not _counts(name, axes[name]))
        if left_out:
            return self._without(left_out).identity(axes, content)
        values = tuple([_scalar_json(axes[name]) for name in self._varying])
        appended = _appended(content or {})
        head, _, tail = (self._trial % values).partition(_SEED_PLACEHOLDER)
        return Identity(_digest(self._cell % values + appended), head, tail + appended)


def cell_name(axes: Mapping[str, Any]) -> str:
    """Return a cell's name, such as `torch==2.13.0/core/cpu/native/autograd/b5/threads=2`.

    A default backend is left out.
    """
    built_in = [axis for axis in _NAME_ORDER if axis in axes]
    names = [*built_in, *(axis for axis in axes if axis not in CELL_AXES)]
    return "/".join(filter(None, (name_part(name, axes[name]) for name in names)))


def _counts(name: str, value: Any) -> bool:
    return name not in NOT_AXES and not (name in ADDED and value == ADDED[name])


def _in_ids(name: str) -> str:
    return IN_IDS.get(name, name)


def _object(parts: Mapping[str, str]) -> str:
    members = (f"{_json(key).replace('%', '%%')}:{parts[key]}" for key in sorted(parts))
    return "{" + ",".join(members) + "}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _appended(content: Mapping[str, str]) -> str:
    return f"\n{_json(dict(content))}" if content else ""


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@functools.lru_cache(maxsize=100_000, typed=True)
def _scalar_json(value: Any) -> str:
    """Return a value as JSON; `typed`, since 1, 1.0 and True are equal but written differently."""
    return _json(value)
