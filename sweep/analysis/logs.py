"""Logs: the quantities that a training records step by step, as parallel lists of its record.

A plug-in may omit lists, end them early, or fill them with values that are no numbers. A list
whose length differs from that of its steps cannot be aligned, so it is not used. In the other
lists each point is judged on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Log(NamedTuple):
    """The values of each quantity at ascending `steps`, and the number of points left out."""

    steps: Floats
    values: Mapping[str, Floats]
    left_out: int


def log_of(
    record: Mapping[str, Any], step: str, needed: Sequence[str], others: Sequence[str] = ()
) -> Log:
    """Return the points at which the step and all `needed` quantities are finite numbers.

    A step that is recorded twice counts with its last values. Values of `others` are NaN where
    they are not finite, or where their list has another length than the steps.
    """
    lists = {name: _numbers(record.get(name)) for name in (step, *needed, *others)}
    count = max((len(lists[name]) for name in (step, *needed)), default=0)
    if any(len(lists[name]) != count for name in (step, *needed)):
        return Log(np.zeros(0), dict.fromkeys((*needed, *others), np.zeros(0)), count)
    usable = np.logical_and.reduce([np.isfinite(lists[name]) for name in (step, *needed)])
    # In the reversed list the first occurrence of a step is its last one.
    steps, last = np.unique(lists[step][usable][::-1], return_index=True)
    kept = np.flatnonzero(usable)[::-1][last]
    values = {name: _at(lists[name], kept, count) for name in (*needed, *others)}
    return Log(steps, values, count - len(kept))


def left_out_note(left_out: int) -> str:
    """Return a note on points that are left out; empty where there are none."""
    if not left_out:
        return ""
    subject = "1 logged point is" if left_out == 1 else f"{left_out} logged points are"
    return f"{subject} left out: lists of unequal length, steps that repeat, or no finite numbers"


def _numbers(values: Iterable[Any] | None) -> Floats:
    # NumPy converts None to NaN.
    return np.array([] if values is None else list(values), dtype=float)


def _at(values: Floats, indices: NDArray[np.intp], count: int) -> Floats:
    """Return the finite values at these indices, else NaN; all NaN unless there are `count`."""
    if len(values) != count:
        return np.full(len(indices), np.nan)
    chosen: Floats = np.where(np.isfinite(values[indices]), values[indices], np.nan)
    return chosen
