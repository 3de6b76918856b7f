"""Steadiness: how the samples of one process change as it runs, step by step or steadily.

Three things look like each other: a trend, a step from one level to another, and noise in which
neighbours are alike. Whatever judges the noise by how far samples lie apart takes a steep trend for
noise, and the steeper it is the less it is seen. So noise is judged here by the *curvature* of
neighbouring samples, which a trend has little of: it bounds how large noise can be that is
correlated between neighbours, and what is steeper than that is a trend.

- Barrett, Bolz-Tereick, Killick, Mount, Tratt: Virtual machine warmup blows hot and cold. OOPSLA 2017
- Jackson et al.: An algorithm for optimal partitioning of data on an interval. IEEE Signal Proc. Letters 12, 2005
- Mann: Nonparametric tests against trend. Econometrica 13, 1945
- Hamed, Rao: A modified Mann-Kendall trend test for autocorrelated data. J. Hydrology 204, 1998
- Sen: Estimates of the regression coefficient based on Kendall's tau. J. Am. Stat. Assoc. 63, 1968
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Steadiness = Literal["flat", "warm-up", "slowdown", "none", "unknown"]

TOLERANCE = 0.01  # a change below it is none
SURE = 3.29  # standard normal: 1 in 1,000, on both sides

_FEWEST_SAMPLES = 10  # below, nothing can be said about how a process settles
_FEWEST_FOR_TREND = 4
_PENALTY = 8.0  # per change point, times log n and the long-run variance
_MOST_BINS = 500  # for change points, whose search takes their square
_MOST_IN_PAIRS = 100  # for trends, which compare each with each
_GREATEST_CORRELATION = 0.95  # between neighbouring samples, that is judged from few of them
_STEEPEST = 0.9  # the correlation for which noise could bend and rise the most
_MOST_CORRELATION = 0.8  # that ranks are allowed to have
_SURE_OF_SLOPE = 4.5  # standard errors; more than SURE, for noise is judged from few samples
_SCREENED = 2.5  # standard errors of a slope that are looked at closely
_NO_NOISE = 1e9  # standard errors, where there is none
_MAD_TO_SD = 1.4826
_OUTLIER = 3.0  # standard deviations
_TWO = 2  # levels, with one change point between them


@dataclass(frozen=True)
class SteadyState:
    """How a process settles, and the sample from which it is steady."""

    kind: Steadiness
    start: int


def steady_state(samples: ArrayLike, tolerance: float = TOLERANCE) -> SteadyState:
    """Classify a process, after Barrett et al. 2017.

    Its samples are cut at change points; the last segment and those before it that differ from it
    by less than `parity_tolerance` are the steady state. `flat`: there is nothing else; `warm-up`: all else
    is slower; `slowdown`: something before was faster; `none`: it lasts for less than a quarter of
    the samples; `unknown`: too few samples. Where it never gets steady and `trend` goes one way, it
    is `slowdown` or `warm-up` too.
    """
    x = np.asarray(samples, dtype=float)
    if len(x) < _FEWEST_SAMPLES:
        return SteadyState("unknown", 0)
    cuts = [0, *change_points(x), len(x)]
    levels = np.array([np.median(x[a:b]) for a, b in itertools.pairwise(cuts)])
    found = _by_levels(cuts, levels, tolerance)
    if found.kind not in ("flat", "none"):
        return found
    direction = trend(x)
    if not direction.is_sure(tolerance) or _is_a_step(x, found.start, len(levels), direction):
        return found
    kind: Steadiness = "slowdown" if direction.change > 0 else "warm-up"
    return SteadyState(kind, found.start or len(x))


def _is_a_step(x: Floats, cut: int, levels: int, direction: Trend) -> bool:
    """Whether what looks like a trend is one change of level, before which nothing changes."""
    if levels != _TWO:
        return False
    return trend(x[:cut]).z * math.copysign(1, direction.z) < _SCREENED


def _by_levels(cuts: Sequence[int], levels: Floats, tolerance: float) -> SteadyState:
    count = cuts[-1]
    apart = (levels - levels[-1]) / (abs(levels[-1]) or 1.0)
    unlike = np.flatnonzero(np.abs(apart) > tolerance)
    if not len(unlike):
        return SteadyState("flat", 0)
    start = cuts[int(unlike[-1]) + 1]
    if count - start < count / 4:
        return SteadyState("none", start)
    return SteadyState("slowdown" if np.any(apart[unlike] < 0) else "warm-up", start)


class Trend(NamedTuple):
    """How samples change from the first to the last, as a share, and how sure that is.

    `z` is standard normal where they do not, and has the sign of the change.
    """

    z: float
    change: float

    def is_sure(self, tolerance: float = TOLERANCE) -> bool:
        return abs(self.z) > SURE and abs(self.change) > tolerance


def trend(samples: ArrayLike) -> Trend:
    """Whether samples rise or fall all along, in whatever form: the test of Mann and Kendall.

    It looks at which of each two samples is greater, and so bears any distribution of noise. Two
    ways correct it for correlation between neighbours, and the surer one counts. That of Hamed and
    Rao, from ranks less their trend, is sharp and takes a bend of the trend for correlation. Sen's
    slope against the greatest noise that the curvature of neighbours allows is blunt and does not.
    """
    x = _binned(np.asarray(samples, dtype=float)[np.newaxis], _MOST_IN_PAIRS)[0]
    n = len(x)
    if n < _FEWEST_FOR_TREND:
        return Trend(0.0, 0.0)
    early, late = np.triu_indices(n, 1)
    rises = x[late] - x[early]
    kendall = float(np.sign(rises).sum())
    z = max(0.0, abs(kendall) - 1) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    slope = float(np.median(rises / (late - early)))
    correlation = _correlation_of_ranks(x)
    corrected = z / _long_run(correlation)
    sure = max(corrected, min(z, _slope_z(x, slope) * SURE / _SURE_OF_SLOPE))
    return Trend(math.copysign(sure, kendall), slope * (n - 1) / (abs(float(np.median(x))) or 1.0))


def trend_of_all(processes: Sequence[ArrayLike]) -> Trend:
    """The trend that processes have in common, which few samples of each may show only together."""
    found = [trend(samples) for samples in processes]
    if not found:
        return Trend(0.0, 0.0)
    z = sum(each.z for each in found) / math.sqrt(len(found))  # Stouffer
    return Trend(z, float(np.median([each.change for each in found])))


def change_points(samples: ArrayLike) -> list[int]:
    """Where the level of the samples changes: the first sample of each new level.

    The partition of least squares with a penalty for each change, found exactly (optimal
    partitioning, Jackson et al. 2005). Barrett et al. take a penalty of 15 log n for independent
    samples; this one is 8 log n times the long-run variance, so that autocorrelation is not taken
    for changes. Outliers are reined in first. Over 500 samples are binned.
    """
    x = np.asarray(samples, dtype=float)
    width = math.ceil(len(x) / _MOST_BINS)
    x = _binned(x[np.newaxis], _MOST_BINS)[0]
    n = len(x)
    noise = _noise(x)
    if n < _FEWEST_SAMPLES or noise == 0:
        return []
    x = _reined_in(x, noise)
    penalty = _PENALTY * math.log(n) * noise**2
    return [cut * width for cut in _partition(x, penalty)]


class Screening(NamedTuple):
    """Which processes `steady_state` is worth asking of, and whether `trend_of_all` is of all."""

    uneven: NDArray[np.bool_]
    together: bool


def screened(processes: Sequence[Floats]) -> Screening:
    """By the best single cut (CUSUM) and by the slope of a line.

    Both are held against the noise without autocorrelation, which lets more through, and with
    outliers reined in, which would hide either.
    """
    if not len(processes):
        return Screening(np.zeros(0, dtype=bool), together=False)
    alike = len({len(row) for row in processes}) == 1
    stacks = [np.stack(processes)] if alike else [row[np.newaxis] for row in processes]
    uneven, slopes = (np.concatenate(each) for each in zip(*map(_screened, stacks), strict=True))
    return Screening(uneven, bool(abs(slopes.sum()) > _SCREENED * math.sqrt(len(slopes))))


def _screened(rows: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Of each row whether it is uneven, and its slope in standard errors."""
    rows = _binned(rows, _MOST_BINS)
    n = rows.shape[1]
    if n < _FEWEST_FOR_TREND:
        return np.zeros(len(rows), dtype=bool), np.zeros(len(rows))
    rows, noise = _calmed(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = np.nan_to_num(_slopes(rows) / noise, posinf=_NO_NOISE, neginf=-_NO_NOISE)
    sums = np.cumsum(rows - rows.mean(axis=1, keepdims=True), axis=1)[:, :-1]
    counts = np.arange(1, n)
    gain = np.max(sums**2 * (n / (counts * (n - counts))), axis=1)
    steps = gain > _PENALTY / 2 * math.log(n) * noise**2
    return steps | (np.abs(slopes) > _SCREENED), slopes


def _slopes(rows: Floats) -> Floats:
    """The slope of a line through each row, in multiples of its error where noise is 1."""
    along = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    slopes: Floats = rows @ along / math.sqrt(float(along @ along))
    return slopes


def _calmed(rows: Floats) -> tuple[Floats, Floats]:
    """Rows whose outliers are brought nearer, and the noise of each, as of independent samples."""
    differences = np.diff(rows, axis=1)
    noise = np.median(np.abs(differences), axis=1) * _MAD_TO_SD / math.sqrt(2)
    discrete = noise == 0  # most neighbours are the same
    if discrete.any():
        noise[discrete] = np.sqrt(np.mean(differences[discrete] ** 2, axis=1) / 2)
    middle = np.median(rows, axis=1, keepdims=True)
    reach = _OUTLIER * noise[:, np.newaxis]
    return np.clip(rows, middle - reach, middle + reach), noise


def _binned(rows: Floats, most: int) -> Floats:
    """Means of as many neighbouring samples as leave at most so many."""
    width = math.ceil(rows.shape[1] / most)
    if width <= 1:
        return rows
    whole = rows[:, : rows.shape[1] // width * width]
    binned: Floats = whole.reshape(len(rows), -1, width).mean(axis=2)
    return binned


def _noise(x: Floats) -> float:
    """Long-run standard deviation of samples around their level, whatever the level does.

    As of a first-order autoregressive process with correlation r: differences of first neighbours
    have the variance 2 s² (1 - r), those of second neighbours 1 + r times as much. A bent trend
    makes r look large; curvatures (second differences), of variance 2 s² (1 - r) (3 - r), bound what
    it can be. Medians bear outliers and steps.
    """
    first, second = (_spread(x[lag:] - x[:-lag]) for lag in (1, 2))
    curvatures = x[:-2] - 2 * x[1:-1] + x[2:]
    curvature = _spread(curvatures)
    if first == 0 or curvature == 0:
        return float(np.sqrt(np.mean(curvatures**2) / 6))
    ratio = min(2.0, second / first)
    r = min(_GREATEST_CORRELATION, max(0.0, ratio**2 - 1))
    judged = first / math.sqrt(2 * (1 - r)) * _long_run(r)
    most = curvature / math.sqrt(2 * (1 - _STEEPEST) * (3 - _STEEPEST)) * _long_run(_STEEPEST)
    return min(judged, most)


def _long_run(correlation: float) -> float:
    """Long-run standard deviation by that of one sample."""
    return math.sqrt((1 + correlation) / (1 - correlation))


def _spread(values: Floats) -> float:
    """Standard deviation around the median, judged robustly: a trend shifts differences alike."""
    return float(np.median(np.abs(values - np.median(values)))) * _MAD_TO_SD


def _slope_z(x: Floats, slope: float) -> float:
    """A slope in multiples of its standard error."""
    noise = _noise(x)
    if noise == 0:
        return math.inf if slope else 0.0
    return abs(slope) / (noise * math.sqrt(12 / len(x) ** 3))


def _correlation_of_ranks(x: Floats) -> float:
    """Correlation of neighbours in ranks that a parabola is taken out of, between 0 and the most.

    Ranks of whatever rises without noise lie on a line. What the parabola takes out biases the
    correlation by its three parameters, which is mended.
    """
    n, taken = len(x), 3
    ranks = stats.rankdata(x)
    parabola = np.polynomial.legendre.legvander(np.linspace(-1, 1, n), taken - 1)
    rest = ranks - parabola @ np.linalg.lstsq(parabola, ranks, rcond=None)[0]
    squares = float(rest @ rest)
    if squares < 1e-9 * n or n <= 2 * taken + 2:
        return 0.0
    found = float(rest[1:] @ rest[:-1]) / squares * n / (n - 1)
    return min(_MOST_CORRELATION, max(0.0, (n * found + taken) / (n - 2 * taken)))


def _reined_in(x: Floats, noise: float) -> Floats:
    """Single outliers brought to the level of their neighbours; a change of level stays as it is."""
    padded = np.pad(x, 2, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    return np.clip(x, around - _OUTLIER * noise, around + _OUTLIER * noise)


def _partition(x: Floats, penalty: float) -> list[int]:
    n = len(x)
    sums, squares = (
        np.concatenate([[0.0], np.cumsum(values)]) for values in (x - x.mean(), (x - x.mean()) ** 2)
    )
    cost = np.full(n + 1, np.inf)
    cost[0] = -penalty
    previous = np.zeros(n + 1, dtype=int)
    for end in range(1, n + 1):
        starts = np.arange(end)
        within = squares[end] - squares[:end] - (sums[end] - sums[:end]) ** 2 / (end - starts)
        total = cost[:end] + within + penalty
        previous[end] = int(np.argmin(total))
        cost[end] = total[previous[end]]
    cuts = []
    while (n := int(previous[n])) > 0:
        cuts.append(n)
    return cuts[::-1]
