"""Steadiness: how the samples of one process change over time, in steps or by a trend.

Three things look alike: a trend, a step from one level to another, and autocorrelated noise. An
estimate of the noise from the distances between samples mistakes a steep trend for noise, and
misses it the more the steeper it is. This module therefore also estimates the noise from the
*curvature* (second differences) of neighbouring samples, of which a trend has little. The
curvature bounds how large autocorrelated noise can be; a steeper change is a trend.

- Barrett, Bolz-Tereick, Killick, Mount, Tratt: Virtual machine warmup blows hot and cold.
  OOPSLA 2017
- Jackson et al.: An algorithm for optimal partitioning of data on an interval. IEEE Signal Proc.
  Letters 12, 2005
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

# A relative change below it counts as none.
TOLERANCE = 0.01
# Quantile of the standard normal distribution: 1 in 1,000, two-sided.
SURE = 3.29

# With fewer samples nothing can be said about the steady state.
_FEWEST_SAMPLES = 10
_FEWEST_FOR_TREND = 4
# The penalty of a change point is this times log n times the long-run variance.
_PENALTY = 8.0
# The search for change points takes time in the square of the number of bins.
_MOST_BINS = 500
# A trend compares all pairs of samples.
_MOST_FOR_PAIRS = 100
# Upper bound of the correlation of neighbours that is estimated from few samples.
_GREATEST_CORRELATION = 0.95
# The correlation that is assumed where noise is bounded by its curvature.
_ASSUMED_CORRELATION = 0.9
# Upper bound of the correlation of ranks.
_GREATEST_RANK_CORRELATION = 0.8
# Standard errors of a certain slope: more than SURE, since few samples estimate the noise.
_SURE_OF_SLOPE = 4.5
# Standard errors of a slope above which screening asks for the full analysis.
_SCREENED = 2.5
# Stands for an infinite number of standard errors where there is no noise.
_NO_NOISE = 1e9
_MAD_TO_SD = 1.4826
# Samples further than this many standard deviations are outliers.
_OUTLIER = 3.0
_TWO_LEVELS = 2


@dataclass(frozen=True)
class SteadyState:
    """The class of a process, and the index of its first steady sample."""

    kind: Steadiness
    start: int


def steady_state(samples: ArrayLike, tolerance: float = TOLERANCE) -> SteadyState:
    """Classify a process, after Barrett et al. 2017.

    The samples are cut at change points. The steady state consists of the last segment and of the
    segments directly before it that differ from it by less than `tolerance`. The classes are:

    - `flat`: all samples are in the steady state;
    - `warm-up`: all other samples are slower;
    - `slowdown`: some earlier samples are faster;
    - `none`: the steady state has less than a quarter of the samples;
    - `unknown`: there are too few samples.

    A `flat` process, or one without a steady state, is `slowdown` or `warm-up` where its `trend`
    is significant.
    """
    x = np.asarray(samples, dtype=float)
    if len(x) < _FEWEST_SAMPLES:
        return SteadyState("unknown", 0)
    cuts = [0, *change_points(x), len(x)]
    levels = np.array([np.median(x[a:b]) for a, b in itertools.pairwise(cuts)])
    state = _classified_by_levels(cuts, levels, tolerance)
    if state.kind not in ("flat", "none"):
        return state
    overall = trend(x)
    if not overall.is_sure(tolerance) or _is_step(x, state.start, len(levels), overall):
        return state
    kind: Steadiness = "slowdown" if overall.change > 0 else "warm-up"
    return SteadyState(kind, state.start or len(x))


def _is_step(x: Floats, cut: int, levels: int, overall: Trend) -> bool:
    """Whether an apparent trend is one change of level at `cut`, without a trend before it."""
    if levels != _TWO_LEVELS:
        return False
    return trend(x[:cut]).z * math.copysign(1, overall.z) < _SCREENED


def _classified_by_levels(cuts: Sequence[int], levels: Floats, tolerance: float) -> SteadyState:
    """Classify a process by the median level of each segment alone."""
    count = cuts[-1]
    differences = (levels - levels[-1]) / (abs(levels[-1]) or 1.0)
    differing = np.flatnonzero(np.abs(differences) > tolerance)
    if not len(differing):
        return SteadyState("flat", 0)
    start = cuts[int(differing[-1]) + 1]
    if count - start < count / 4:
        return SteadyState("none", start)
    is_slowdown = np.any(differences[differing] < 0)
    return SteadyState("slowdown" if is_slowdown else "warm-up", start)


class Trend(NamedTuple):
    """The relative change from the first to the last sample, and its significance.

    `z` has the sign of the change, and is standard normal where there is no trend.
    """

    z: float
    change: float

    def is_sure(self, tolerance: float = TOLERANCE) -> bool:
        """Whether the change is significant and larger than the tolerance."""
        return abs(self.z) > SURE and abs(self.change) > tolerance


def trend(samples: ArrayLike) -> Trend:
    """Test for a monotonic trend of any shape, by the test of Mann and Kendall.

    The test compares the order of all pairs of samples, so the distribution of the noise does not
    matter. Two corrections for autocorrelation are computed, and the more significant result
    counts. The correction of Hamed and Rao, from detrended ranks, is powerful, but mistakes a
    curved trend for correlation. The second compares Sen's slope with the largest noise that the
    curvature of neighbours allows. It is less powerful, but tolerates curved trends.
    """
    x = _binned(np.asarray(samples, dtype=float)[np.newaxis], _MOST_FOR_PAIRS)[0]
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
    from_slope = min(z, _slope_z(x, slope) * SURE / _SURE_OF_SLOPE)
    significance = max(corrected, from_slope)
    level = abs(float(np.median(x))) or 1.0
    return Trend(math.copysign(significance, kendall), slope * (n - 1) / level)


def trend_of_all(processes: Sequence[ArrayLike]) -> Trend:
    """Return the common trend of several processes, by Stouffer's method.

    It finds trends that no process shows significantly on its own.
    """
    trends = [trend(samples) for samples in processes]
    if not trends:
        return Trend(0.0, 0.0)
    z = sum(each.z for each in trends) / math.sqrt(len(trends))
    return Trend(z, float(np.median([each.change for each in trends])))


def change_points(samples: ArrayLike) -> list[int]:
    """Return the indices at which the level of the samples changes: the first of each new level.

    The partition minimizes the squared error plus a penalty for each change, and is exact
    (optimal partitioning, Jackson et al. 2005). Barrett et al. use a penalty of 15 log n for
    independent samples. Here it is 8 log n times the long-run variance, so that autocorrelation
    is not mistaken for changes. Outliers are clipped first. More than 500 samples are binned.
    """
    x = np.asarray(samples, dtype=float)
    width = math.ceil(len(x) / _MOST_BINS)
    x = _binned(x[np.newaxis], _MOST_BINS)[0]
    n = len(x)
    noise = _noise(x)
    if n < _FEWEST_SAMPLES or noise == 0:
        return []
    x = _with_clipped_outliers(x, noise)
    penalty = _PENALTY * math.log(n) * noise**2
    return [cut * width for cut in _partition(x, penalty)]


class Screening(NamedTuple):
    """Which processes need `steady_state`, and whether all together need `trend_of_all`."""

    uneven: NDArray[np.bool_]
    together: bool


def screen(processes: Sequence[Floats]) -> Screening:
    """Screen processes by the best single change point (CUSUM) and by the slope of a line.

    The screening is fast and lenient. The noise is estimated without autocorrelation, which
    passes more processes on, and outliers, which could hide a change, are clipped.
    """
    if not len(processes):
        return Screening(np.zeros(0, dtype=bool), together=False)
    are_equally_long = len({len(row) for row in processes}) == 1
    stacks = [np.stack(processes)] if are_equally_long else [row[np.newaxis] for row in processes]
    results = [_screened_rows(stack) for stack in stacks]
    uneven = np.concatenate([result[0] for result in results])
    slopes = np.concatenate([result[1] for result in results])
    return Screening(uneven, bool(abs(slopes.sum()) > _SCREENED * math.sqrt(len(slopes))))


def _screened_rows(rows: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Return, for each row, whether it is uneven, and its slope in standard errors."""
    rows = _binned(rows, _MOST_BINS)
    n = rows.shape[1]
    if n < _FEWEST_FOR_TREND:
        return np.zeros(len(rows), dtype=bool), np.zeros(len(rows))
    rows, noise = _clipped_rows(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = np.nan_to_num(_slopes(rows) / noise, posinf=_NO_NOISE, neginf=-_NO_NOISE)
    sums = np.cumsum(rows - rows.mean(axis=1, keepdims=True), axis=1)[:, :-1]
    counts = np.arange(1, n)
    gain = np.max(sums**2 * (n / (counts * (n - counts))), axis=1)
    steps = gain > _PENALTY / 2 * math.log(n) * noise**2
    return steps | (np.abs(slopes) > _SCREENED), slopes


def _slopes(rows: Floats) -> Floats:
    """Return the slope of a line through each row, in standard errors for noise of 1."""
    along = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    slopes: Floats = rows @ along / math.sqrt(float(along @ along))
    return slopes


def _clipped_rows(rows: Floats) -> tuple[Floats, Floats]:
    """Return rows with clipped outliers, and each row's noise, assuming independent samples."""
    differences = np.diff(rows, axis=1)
    noise = np.median(np.abs(differences), axis=1) * _MAD_TO_SD / math.sqrt(2)
    # Where most neighbours are equal, the median is 0 and the mean square serves instead.
    discrete = noise == 0
    if discrete.any():
        noise[discrete] = np.sqrt(np.mean(differences[discrete] ** 2, axis=1) / 2)
    middle = np.median(rows, axis=1, keepdims=True)
    reach = _OUTLIER * noise[:, np.newaxis]
    return np.clip(rows, middle - reach, middle + reach), noise


def _binned(rows: Floats, most: int) -> Floats:
    """Return means of neighbouring samples, at most `most` per row; a remainder is dropped."""
    width = math.ceil(rows.shape[1] / most)
    if width <= 1:
        return rows
    whole = rows[:, : rows.shape[1] // width * width]
    binned: Floats = whole.reshape(len(rows), -1, width).mean(axis=2)
    return binned


def _noise(x: Floats) -> float:
    """Return the long-run standard deviation of samples around a changing level.

    The model is a first-order autoregressive process with correlation r and variance s².
    Differences of first neighbours have the variance 2 s² (1 - r), and those of second neighbours
    1 + r times as much. A curved trend makes r look too large. Curvatures, of variance
    2 s² (1 - r) (3 - r), bound the noise. Medians make all three robust to outliers and steps.
    """
    first, second = (_spread(x[lag:] - x[:-lag]) for lag in (1, 2))
    curvatures = x[:-2] - 2 * x[1:-1] + x[2:]
    curvature = _spread(curvatures)
    if first == 0 or curvature == 0:
        return float(np.sqrt(np.mean(curvatures**2) / 6))
    ratio = min(2.0, second / first)
    r = min(_GREATEST_CORRELATION, max(0.0, ratio**2 - 1))
    estimated = first / math.sqrt(2 * (1 - r)) * _long_run(r)
    assumed = _ASSUMED_CORRELATION
    bound = curvature / math.sqrt(2 * (1 - assumed) * (3 - assumed)) * _long_run(assumed)
    return min(estimated, bound)


def _long_run(correlation: float) -> float:
    """Return the ratio of the long-run standard deviation to that of one sample."""
    return math.sqrt((1 + correlation) / (1 - correlation))


def _spread(values: Floats) -> float:
    """Return the robust standard deviation around the median, which a linear trend only shifts."""
    return float(np.median(np.abs(values - np.median(values)))) * _MAD_TO_SD


def _slope_z(x: Floats, slope: float) -> float:
    """Return a slope in multiples of its standard error."""
    noise = _noise(x)
    if noise == 0:
        return math.inf if slope else 0.0
    return abs(slope) / (noise * math.sqrt(12 / len(x) ** 3))


def _correlation_of_ranks(x: Floats) -> float:
    """Return the correlation of neighbouring ranks after removal of a parabola, at least 0.

    The ranks of a noiseless monotonic series lie on a line. Removing the parabola biases the
    correlation by its three parameters; the result is corrected for this bias.
    """
    n, parameters = len(x), 3
    ranks = stats.rankdata(x)
    parabola = np.polynomial.legendre.legvander(np.linspace(-1, 1, n), parameters - 1)
    rest = ranks - parabola @ np.linalg.lstsq(parabola, ranks, rcond=None)[0]
    squares = float(rest @ rest)
    # The rest is rounding error where the ranks lie on the parabola.
    if squares < 1e-9 * n or n <= 2 * parameters + 2:
        return 0.0
    biased = float(rest[1:] @ rest[:-1]) / squares * n / (n - 1)
    corrected = (n * biased + parameters) / (n - 2 * parameters)
    return min(_GREATEST_RANK_CORRELATION, max(0.0, corrected))


def _with_clipped_outliers(x: Floats, noise: float) -> Floats:
    """Return samples with single outliers moved to their neighbours; changes of level remain."""
    # The median of five neighbours ignores up to two outliers, and follows a change of level.
    padded = np.pad(x, 2, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    return np.clip(x, around - _OUTLIER * noise, around + _OUTLIER * noise)


def _partition(x: Floats, penalty: float) -> list[int]:
    """Return the cuts of the partition with the least squared error plus penalties.

    Dynamic programming over the end of the last segment: `cost[end]` is that of the best
    partition of the samples before `end`, and `previous[end]` the start of its last segment.
    """
    n = len(x)
    centred = x - x.mean()
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (centred, centred**2))
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
