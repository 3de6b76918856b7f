"""Logs: what a training says step by step, in lists of its record that belong together.

A plug-in may leave lists out, end them early, or put into them what is no number. A list of another
length than its steps cannot be told apart by step, so that nothing of it can be used; of the rest
each point stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Log(NamedTuple):
    """One quantity after another at each of the `steps`, ascending; how many points are left out."""

    steps: Floats
    values: Mapping[str, Floats]
    left_out: int


def log_of(
    record: Mapping[str, Any], step: str, needed: Sequence[str], others: Sequence[str] = ()
) -> Log:
    """The points at which the step and all that is `needed` are finite numbers, each step once.

    What is not finite of `others`, or of another length than the steps, is NaN.
    """
    lists = {name: _numbers(record.get(name)) for name in (step, *needed, *others)}
    count = max((len(lists[name]) for name in (step, *needed)), default=0)
    if any(len(lists[name]) != count for name in (step, *needed)):
        return Log(np.zeros(0), dict.fromkeys((*needed, *others), np.zeros(0)), count)
    usable = np.logical_and.reduce([np.isfinite(lists[name]) for name in (step, *needed)])
    steps, last = np.unique(lists[step][usable][::-1], return_index=True)
    kept = np.flatnonzero(usable)[::-1][last]
    values = {name: _at(lists[name], kept, count) for name in (*needed, *others)}
    return Log(steps, values, count - len(kept))


def left_out_note(left_out: int) -> str:
    """What is to be said of points that are left out; empty where there are none."""
    if not left_out:
        return ""
    told = "1 logged point is" if left_out == 1 else f"{left_out} logged points are"
    return f"{told} left out: lists of unequal length, steps that repeat, or no finite numbers"


def _numbers(values: Iterable[Any] | None) -> Floats:
    return np.array([] if values is None else list(values), dtype=float)  # None is NaN


def _at(values: Floats, places: NDArray[np.intp], count: int) -> Floats:
    if len(values) != count:
        return np.full(len(places), np.nan)
    chosen: Floats = np.where(np.isfinite(values[places]), values[places], np.nan)
    return chosen
