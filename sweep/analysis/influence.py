"""Influence: single samples or trials that determine a cell's mean.

Of a few noisy numbers each moves the mean by more than the margin; the interval shows that
already. An influential number therefore moves the mean *and* is an outlier. Outliers are judged
by robust estimates, since one huge number makes any standard deviation large.
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
# Robust standard deviations between an outlying sample and the median of its trial.
_FAR = 6.0
# Distance from the median on the log scale that noise alone does not explain between trials.
_APART = math.log(1.5)
# Significance level of Grubbs' test.
_UNLIKELY = 0.01


class Influence(NamedTuple):
    """The indices of the outliers that a mean depends on, and the share that they add to it."""

    places: Ints
    share: float


NONE = Influence(np.zeros(0, dtype=np.int64), 0.0)


def of_samples(samples: Floats, sizes: Ints, margin: float = MARGIN) -> Influence:
    """Return the outlying samples that each move the mean of the trials' means by the margin.

    `samples` are those of all trials in order, `sizes` the number of each trial's samples.
    """
    starts = np.cumsum(sizes) - sizes
    means = np.add.reduceat(samples, starts) / sizes
    # If no extreme sample moves the mean enough, no sample does: this is fast and the usual case.
    ends = [reduce(samples, starts) for reduce in (np.minimum.reduceat, np.maximum.reduceat)]
    if not any(np.any(np.abs(_shares(each, means, sizes)) > margin) for each in ends):
        return NONE
    own = np.repeat(np.arange(len(sizes)), sizes)
    moving = np.abs(_shares(samples, means, sizes, own)) > margin
    places = np.flatnonzero(moving & _far_out(samples, sizes, starts))
    without = without_samples(samples, sizes, places)
    return Influence(places, float(means.mean() / without.mean()) - 1) if len(places) else NONE


def without_samples(samples: Floats, sizes: Ints, places: Ints) -> Floats:
    """Return the trials' means without some samples; a trial without others keeps its samples."""
    trials = np.repeat(np.arange(len(sizes)), sizes)
    kept = np.ones(len(samples), dtype=bool)
    kept[places] = False
    left = np.bincount(trials[kept], minlength=len(sizes))
    kept |= (left == 0)[trials]
    sums = np.bincount(trials[kept], samples[kept], len(sizes))
    means: Floats = sums / np.bincount(trials[kept], minlength=len(sizes))
    return means


def of_trials(means: Floats, margin: float = MARGIN) -> Influence:
    """Return the outlying trials that move the mean by the margin; none if a mean is not positive.

    Outliers are the trials, fewer than half, that differ from the median by a factor of 1.5.
    Without such trials it is the most extreme one, if it is significant by Grubbs' test on
    logarithms (Technometrics 11, 1969).
    """
    if len(means) < 2 or np.any(means <= 0):
        return NONE
    logs = np.log(means)
    # The median of two trials lies between them; the greater one counts as the outlier.
    middle = np.median(logs) if len(means) > 2 else logs.min()
    places = np.flatnonzero(np.abs(logs - middle) > _APART)
    if not 0 < len(places) < len(means) / 2 and len(means) > 2:
        places = _outermost(logs)
    share = float(means.mean() / np.delete(means, places).mean()) - 1
    return Influence(places, share) if abs(share) > margin else NONE


def _shares(
    values: Floats, means: Floats, sizes: Ints, trials: Ints | slice = slice(None)
) -> Floats:
    """Return the share that each value, a sample of its trial, adds to the mean of the means."""
    others = np.maximum(sizes[trials] - 1, 1)
    moved = (values - means[trials]) / others / len(means)
    shares: Floats = np.where(sizes[trials] > 1, moved / (means.mean() - moved), 0.0)
    return shares


def _far_out(samples: Floats, sizes: Ints, starts: Ints) -> NDArray[np.bool_]:
    """Return which samples are outliers with respect to the median of their trial."""
    medians = np.array([np.median(each) for each in np.split(samples, starts[1:])])
    distances = np.abs(samples / np.repeat(medians, sizes) - 1)
    far: NDArray[np.bool_] = distances > _FAR * _MAD_TO_SD * np.median(distances)
    return far


def _outermost(logs: Floats) -> Ints:
    """Return the index of the most extreme value where it is significant; needs three values."""
    index = int(np.argmax(np.abs(logs - logs.mean())))
    others = np.delete(logs, index)
    if len(others) < 2:
        return NONE.places
    error = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    if error == 0:
        is_outlier = bool(np.any(others != logs[index]))
    else:
        t = abs(float(logs[index] - others.mean())) / error
        # Twice for both sides, times the number of values that could have been the outlier.
        is_outlier = 2 * len(logs) * float(special.stdtr(len(others) - 1, -t)) < _UNLIKELY
    return np.array([index]) if is_outlier else NONE.places
