"""Influence: single samples or trials that a cell's mean hangs on.

Among few numbers each moves the mean by more than the margin, if they are noisy: the interval says
so already. So a number must move the mean *and* lie far out of its like. How far out is judged
robustly, for one number in a thousand times its size makes any standard deviation large.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sweep.analysis.statistics import MARGIN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MAD_TO_SD = 1.4826
_FAR = 6.0  # standard deviations that samples lie apart from those of their trial
_APART = math.log(1.5)  # what trials are not apart by noise alone
_UNLIKELY = 0.01  # to be the outermost of so many normal logarithms


class Influence(NamedTuple):
    """What a mean hangs on: the places of it, and by which share it makes the mean greater."""

    places: Ints
    share: float


NONE = Influence(np.zeros(0, dtype=np.int64), 0.0)


def of_samples(samples: Floats, sizes: Ints, margin: float = MARGIN) -> Influence:
    """The samples, trial by trial, each of which moves the mean of the trials' means by itself."""
    starts = np.cumsum(sizes) - sizes
    means = np.add.reduceat(samples, starts) / sizes
    ends = [reduce(samples, starts) for reduce in (np.minimum.reduceat, np.maximum.reduceat)]
    if not any(np.any(np.abs(_shares(each, means, sizes)) > margin) for each in ends):
        return NONE
    own = np.repeat(np.arange(len(sizes)), sizes)
    moving = np.abs(_shares(samples, means, sizes, own)) > margin
    places = np.flatnonzero(moving & _far_out(samples, sizes, starts))
    without = without_samples(samples, sizes, places)
    return Influence(places, float(means.mean() / without.mean()) - 1) if len(places) else NONE


def without_samples(samples: Floats, sizes: Ints, places: Ints) -> Floats:
    """The trials' means without the samples at these places; with them where a trial has no others."""
    trials = np.repeat(np.arange(len(sizes)), sizes)
    kept = np.ones(len(samples), dtype=bool)
    kept[places] = False
    left = np.bincount(trials[kept], minlength=len(sizes))
    kept |= (left == 0)[trials]
    sums = np.bincount(trials[kept], samples[kept], len(sizes))
    means: Floats = sums / np.bincount(trials[kept], minlength=len(sizes))
    return means


def of_trials(means: Floats, margin: float = MARGIN) -> Influence:
    """The trials that lie far out of the others and move their mean; none where means are not all positive.

    Those, fewer than half, that are apart from the median by half as much again, or else the
    outermost one, by the test of Grubbs (Technometrics 11, 1969) on logarithms.
    """
    if len(means) < 2 or np.any(means <= 0):
        return NONE
    logs = np.log(means)
    middle = np.median(logs) if len(means) > 2 else logs.min()
    places = np.flatnonzero(np.abs(logs - middle) > _APART)
    if not 0 < len(places) < len(means) / 2 and len(means) > 2:
        places = _outermost(logs)
    share = float(means.mean() / np.delete(means, places).mean()) - 1
    return Influence(places, share) if abs(share) > margin else NONE


def _shares(
    values: Floats, means: Floats, sizes: Ints, trials: Ints | slice = slice(None)
) -> Floats:
    """By which share each value, a sample of one of the trials, makes the mean of the means greater."""
    others = np.maximum(sizes[trials] - 1, 1)
    moved = (values - means[trials]) / others / len(means)
    shares: Floats = np.where(sizes[trials] > 1, moved / (means.mean() - moved), 0.0)
    return shares


def _far_out(samples: Floats, sizes: Ints, starts: Ints) -> NDArray[np.bool_]:
    medians = np.array([np.median(each) for each in np.split(samples, starts[1:])])
    apart = np.abs(samples / np.repeat(medians, sizes) - 1)
    far: NDArray[np.bool_] = apart > _FAR * _MAD_TO_SD * np.median(apart)
    return far


def _outermost(logs: Floats) -> Ints:
    """The place of the outermost of three or more, where that is unlikely to be noise."""
    place = int(np.argmax(np.abs(logs - logs.mean())))
    others = np.delete(logs, place)
    error = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others)) if len(others) > 1 else 0.0
    if error == 0:
        return (
            np.array([place]) if np.any(others != logs[place]) and len(others) > 1 else NONE.places
        )
    t = abs(float(logs[place] - others.mean())) / error
    unlikely = 2 * len(logs) * float(special.stdtr(len(others) - 1, -t)) < _UNLIKELY
    return np.array([place]) if unlikely else NONE.places
