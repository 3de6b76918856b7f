"""Statistics of nested times: samples within trials, trials within cells, and pairs of cells.

The unit of replication is the trial, which is one process. The samples of one process share its
memory layout, its cores and its state, so more samples say nothing about the next process.
Every interval in this module is therefore computed from one number per trial.

Sources, cited where they are used:

- Georges, Buytaert, Eeckhout: Statistically rigorous Java performance evaluation. OOPSLA 2007
- Kalibera, Jones: Rigorous benchmarking in reasonable time. ISMM 2013
- Kalibera, Jones: Quantifying performance changes with effect size confidence intervals.
  arXiv:2007.10899, 2020
- Bulej, Horký, Tůma et al.: Duet benchmarking. ICPE 2020
- Hoefler, Belli: Scientific benchmarking of parallel computing systems. SC 2015
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sweep.axes import FEWEST_SEEDS

if TYPE_CHECKING:
    from sweep.records.declared import Direction

Floats = NDArray[np.float64]
Verdict = Literal["faster", "slower", "equivalent", "inconclusive", "missing"]

LEVEL = 0.95
MARGIN = 0.01
POWER = 0.8
FEWEST_TRIALS = FEWEST_SEEDS
MOST_SEEDS = 1000

_FEWEST_FOR_MODES = 10
# The smallest distance between two modes, as a share of the lower one.
_MODE_DISTANCE = 0.02
# Degrees of freedom that a test for drift needs: five trials of one cell, or three of two cells.
_FEWEST_DEGREES = 3
# Ratio of the standard deviation to the median absolute deviation of a normal distribution.
_MAD_TO_SD = 1.4826
# The smaller of two modes holds at least this share of the samples.
_SMALLER_MODE = 0.1
# Share of the variance that two groups must explain. A normal distribution reaches 0.64 and a
# uniform one 0.75.
_EXPLAINED_BY_MODES = 0.85
# Above this distance beyond the threshold the noncentral t distribution is numerically
# unreliable, and the probability is 1 to all digits.
_CERTAIN_DISTANCE = 30
# Upper bound of the search for a detectable difference, on the log scale.
_LARGEST_LOG_DIFFERENCE = 10.0


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Half the width as a share of the estimate; infinite where the estimate is 0."""
        return (self.high - self.low) / 2 / abs(self.estimate) if self.estimate else math.inf


def interval(
    trial_means: ArrayLike, level: float = LEVEL, centre: float | None = None
) -> Interval | None:
    """Return the arithmetic mean over trials with its interval, or None with fewer than three.

    The interval is Student's t on the trials' means (Georges et al. 2007). Where all means are
    positive, it is computed on the log scale by the delta method: mean × exp(± t · error / mean).
    It is then positive and asymmetric, as the distribution of times is. The interval always
    contains the mean. A caller that has computed the mean already passes it as `centre`, so that
    both numbers are rounded alike.
    """
    # Costs add up, so the mean is arithmetic: forward and backward sum to the step (Hoefler and
    # Belli, rule 3). Student's t on logarithms would give the interval of the geometric mean,
    # which can exclude the arithmetic mean that is printed beside it.
    means = np.asarray(trial_means, dtype=float)
    if len(means) < FEWEST_TRIALS:
        return None
    mean, half = _mean_and_half_width(means, level)
    centre = mean if centre is None else centre
    if np.all(means > 0):
        reach = math.exp(half / centre)
        return Interval(centre, centre / reach, centre * reach)
    return Interval(centre, centre - half, centre + half)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two cells' means, with what its interval and its tests need.

    `log_ratio`, `spread` and `standard_error` are on the log scale. `spread` is the standard
    deviation of one pair's log ratio and `degrees` the degrees of freedom. `pairs` is the number
    of blocks in which both cells were measured; without common blocks it is the smaller number of
    trials.

    Trials that count as never have no value and are left out. `open_above` says that they would
    make the ratio greater, `open_below` that they would make it less. Verdicts that such a change
    could contradict are withheld.
    """

    log_ratio: float
    spread: float
    degrees: float
    standard_error: float
    pairs: int
    paired: bool
    open_below: bool = False
    open_above: bool = False

    def inverse(self) -> Self:
        """Return the reciprocal: the second cell against the first."""
        ends = {"open_below": self.open_above, "open_above": self.open_below}
        return replace(self, log_ratio=-self.log_ratio, **ends)

    def speedup(self, direction: Direction) -> Self:
        """Return how many times better the first cell is; above 1 is better for any metric."""
        return self if direction == "more" else self.inverse()

    @property
    def is_open(self) -> bool:
        """Whether trials that are left out could move the ratio either way."""
        return self.open_below or self.open_above

    def closed(self) -> Self:
        """Return the ratio as if no trial were left out."""
        return replace(self, open_below=False, open_above=False)

    @property
    def estimate(self) -> float:
        """The ratio itself, on the linear scale."""
        return math.exp(self.log_ratio)

    def interval(self, level: float = LEVEL) -> Interval | None:
        """Return the ratio with its interval, or None where a cell has fewer than three trials."""
        if self.pairs < FEWEST_TRIALS:
            return None
        half = _quantile(self.degrees, level) * self.standard_error
        return Interval(
            self.estimate, math.exp(self.log_ratio - half), math.exp(self.log_ratio + half)
        )


def paired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """Return the ratio of trial means that are measured in pairs, one pair per block.

    The test is Student's t on the logarithms of the pairs' ratios. Effects that both members of a
    pair share, such as drift of the machine, cancel out (duet benchmarking, Bulej et al. 2020).
    """
    upper, lower = (np.log(np.asarray(means, dtype=float)) for means in (numerators, denominators))
    logs = upper - lower
    pairs = len(logs)
    spread = float(np.std(logs, ddof=1)) if pairs > 1 else math.nan
    return Ratio(
        float(np.mean(logs)), spread, pairs - 1, spread / math.sqrt(pairs), pairs, paired=True
    )


def unpaired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """Return the ratio of trial means without common blocks, such as those of two runs.

    The test is Welch's t with Satterthwaite's degrees of freedom on the log scale (compare
    Kalibera and Jones 2020).
    """
    upper, lower = (np.log(np.asarray(means, dtype=float)) for means in (numerators, denominators))
    fewest = min(len(upper), len(lower))
    effect = float(np.mean(upper) - np.mean(lower))
    if fewest < 2:
        return Ratio(effect, math.nan, 0, math.nan, fewest, paired=False)
    errors = [float(np.var(logs, ddof=1)) / len(logs) for logs in (upper, lower)]
    squares = sum(
        error**2 / (len(logs) - 1) for error, logs in zip(errors, (upper, lower), strict=True)
    )
    # Without any variance Satterthwaite's formula is 0 / 0; the pooled degrees of freedom serve.
    degrees = sum(errors) ** 2 / squares if squares > 0 else len(upper) + len(lower) - 2
    spread = math.sqrt(float(np.var(upper, ddof=1)) + float(np.var(lower, ddof=1)))
    return Ratio(effect, spread, degrees, math.sqrt(sum(errors)), fewest, paired=False)


class Range(NamedTuple):
    """The closed range of ratios between two bounds."""

    low: float
    high: float


def equivalence_range(margin: float) -> Range:
    """Return the ratios that count as no difference at this margin."""
    return Range(1 / (1 + margin), 1 + margin)


def p_value(ratio: Ratio, expected: Range) -> float:
    """Return the p-value of the hypothesis that the true ratio lies in `expected`.

    It is 1 where the estimate lies in the range. The test is two-sided against the nearer bound,
    so p is below 0.05 exactly where the 95 % interval lies beyond that bound.
    """
    if ratio.pairs < FEWEST_TRIALS:
        return 1.0
    low, high = _logs(expected)
    below = -math.inf if ratio.open_above else low - ratio.log_ratio
    above = -math.inf if ratio.open_below else ratio.log_ratio - high
    beyond = max(below, above)
    if beyond <= 0:
        return 1.0
    if ratio.standard_error == 0:
        return 0.0
    return 2.0 * float(special.stdtr(ratio.degrees, -beyond / ratio.standard_error))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return the p-values, adjusted for the family that they form.

    If adjusted p-values below q count as differences, the expected share of false differences
    among them is below q (Benjamini and Hochberg: Controlling the false discovery rate. J. R.
    Statist. Soc. B 57, 1995).
    """
    p = np.asarray(p_values, dtype=float)
    if not len(p):
        return []
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    result = np.empty_like(p)
    result[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return [float(value) for value in result]


def deciding_levels(p_values: Sequence[float]) -> list[float]:
    """Return, for each p-value, the level of the interval that decides within its family.

    Benjamini and Hochberg's procedure rejects a p-value exactly where it is at most
    5 % × r / family size. Here r is the number of p-values that would be rejected if this one
    were 0 and the others stayed as they are.
    """
    p = np.asarray(p_values, dtype=float)
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    size, q = len(p), 1 - LEVEL
    ranks = np.arange(1, size + 1)
    # A p-value set to 0 moves to the front of the order: those that were before it move up by one
    # rank, those behind it keep their rank.
    before = np.where(p[order] <= q * (ranks + 1) / size, ranks + 1, 1)
    behind = np.where(p[order] <= q * ranks / size, ranks, 1)
    best_before = np.maximum.accumulate(np.concatenate([[1], before[:-1]]))
    best_behind = np.maximum.accumulate(np.concatenate([[1], behind[:0:-1]]))[::-1]
    levels = np.empty(size)
    levels[order] = 1 - q * np.minimum(size, np.maximum(best_before, best_behind)) / size
    return [float(level) for level in levels]


class Member(NamedTuple):
    """An adjusted p-value, and the level of the interval that decides.

    Where the comparison has no p-value, `p_adjusted` is None, and `level` is the one it would get
    if it joined the family.
    """

    p_adjusted: float | None
    level: float


class Family(NamedTuple):
    """p-values that are adjusted together; `size` is the number of members that have one."""

    size: int
    members: Sequence[Member]


def family(p_values: Sequence[float | None]) -> Family:
    """Return the family of these p-values; members without one (None) do not weaken the others."""
    present = [p for p in p_values if p is not None]
    members = iter(zip(adjusted(present), deciding_levels(present), strict=True))
    absent = Member(None, deciding_levels([*present, 1.0])[-1])
    return Family(len(present), [absent if p is None else Member(*next(members)) for p in p_values])


def verdict(
    ratio: Ratio | None,
    margin: float = MARGIN,
    p_adjusted: float | None = None,
    direction: Direction = "less",
) -> Verdict:
    """Return the verdict; `faster` means that the numerator is better by more than the margin.

    The verdict is a difference where the 95 % interval lies wholly beyond the margin, and
    `equivalent` where it lies wholly within the margin (two one-sided tests, Schuirmann 1987, at
    the stricter level of 2.5 %). All else is inconclusive. `p_adjusted` is the comparison's
    p-value after correction for its family; a difference also needs it to be at most 5 %.
    """
    if ratio is None:
        return "missing"
    if ratio.interval() is None:
        return "inconclusive"
    same = equivalence_range(margin)
    if lies_within(ratio, same):
        return "equivalent"
    p = p_value(ratio, same) if p_adjusted is None else p_adjusted
    if p > 1 - LEVEL:
        return "inconclusive"
    return "faster" if ratio.speedup(direction).log_ratio > 0 else "slower"


def lies_within(ratio: Ratio, expected: Range) -> bool:
    """Whether the 95 % interval lies wholly within a range.

    It does not where trials that are left out could move it beyond a bound.
    """
    estimated = ratio.interval()
    if estimated is None or estimated.low < expected.low or expected.high < estimated.high:
        return False
    reaches_below = ratio.open_below and expected.low > 0
    reaches_above = ratio.open_above and expected.high < math.inf
    return not reaches_below and not reaches_above


def power(
    log_effect: float,
    spread: float,
    pairs: int,
    expected: Range,
    paired: bool = True,
    level: float = LEVEL,
) -> float:
    """Return the probability that the interval lies wholly inside or wholly outside of a range.

    `log_effect` and `spread` are the true values of the fields of `Ratio`. The probability comes
    from the noncentral t distribution. For the inside it is the Bonferroni bound over both sides.
    `level` is that of the interval that must lie outside; a family requires more than 95 % (see
    `deciding_levels`). The interval that must lie inside has 95 % always.
    """
    degrees = (pairs - 1) * (1 if paired else 2)
    if pairs < FEWEST_TRIALS:
        return 0.0
    low, high = _logs(expected)
    inside = min(log_effect - low, high - log_effect)
    if spread <= 0:
        return float(inside != 0)
    precision = math.sqrt(pairs) / spread
    if inside < 0:
        return _probability_beyond(-inside * precision, degrees, level)
    sides = (
        _probability_beyond(distance * precision, degrees, LEVEL)
        for distance in (log_effect - low, high - log_effect)
    )
    return max(0.0, sum(sides) - 1)


def seeds_needed(ratio: Ratio, expected: Range, level: float = LEVEL) -> int | None:
    """Return how many further seeds decide with 80 % probability, or None if over a thousand.

    `level` is that of the interval that must lie outside of the range, see `deciding_levels`. The
    effect and the spread seen so far are taken for the true ones, as in Kalibera and Jones
    (2013). Near a bound, or after few trials, the result is a rough guess.
    """
    have = ratio.pairs
    if _never_decided(ratio, expected):
        return None
    if not math.isfinite(ratio.spread):
        return FEWEST_TRIALS - have

    def enough(pairs: int) -> bool:
        return power(ratio.log_ratio, ratio.spread, pairs, expected, ratio.paired, level) >= POWER

    # Bisection: `few` pairs are too few, `many` are enough.
    few, many = max(have, FEWEST_TRIALS - 1), have + MOST_SEEDS
    if not enough(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many - have


def _never_decided(ratio: Ratio, expected: Range) -> bool:
    """Whether no number of further trials can decide, because of the trials that are left out."""
    low, high = _logs(expected)
    effect = ratio.log_ratio
    decided_above = effect > high or (math.isinf(high) and effect > low)
    decided_below = effect < low or (math.isinf(low) and effect < high)
    return (ratio.open_above and not decided_above) or (ratio.open_below and not decided_below)


def detectable(spread: float, pairs: int, margin: float = 0.0) -> float:
    """Return the smallest true difference, as a share, that is found with 80 % probability.

    It is infinite with fewer than three pairs.
    """
    same = equivalence_range(margin)
    low, high = math.log(same.high), _LARGEST_LOG_DIFFERENCE
    if power(high, spread, pairs, same) < POWER:
        return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, spread, pairs, same) >= POWER else (middle, high)
    return math.expm1(high)


@dataclass(frozen=True)
class Variances:
    """Variance components: between trials, and between the samples of one trial."""

    process: float
    sample: float

    def samples_worth_taking(self, process_cost_s: float, sample_cost_s: float) -> int:
        """Return the samples per trial that give the narrowest interval for the time spent.

        The formula is that of Kalibera and Jones (2013). The result is between 1 and 1,000.
        """
        if self.process <= 0 or sample_cost_s <= 0:
            return 1000
        best = math.sqrt(process_cost_s / sample_cost_s * self.sample / self.process)
        return min(1000, max(1, math.ceil(best)))


def variances(processes: Sequence[ArrayLike]) -> Variances | None:
    """Return the variance components of samples nested in trials, or None with fewer than two.

    The method is analysis of variance (Searle, Casella, McCulloch: Variance components, 1992). A
    trial counts with its effective sample size, since autocorrelated samples carry less
    information. A negative estimate between trials is set to zero.
    """
    rows = [np.asarray(samples, dtype=float) for samples in processes if len(np.asarray(samples))]
    if len(rows) < 2:
        return None
    # Trials with equally many samples are stacked, so that NumPy handles them in one call.
    stacks = [
        np.stack([row for row in rows if len(row) == count])
        for count in sorted({len(row) for row in rows})
    ]
    squares = sum(float(np.sum(stack.var(axis=1))) * stack.shape[1] for stack in stacks)
    degrees = sum(len(row) - 1 for row in rows)
    sample = squares / degrees if degrees else 0.0
    sizes = np.concatenate([_effective_sample_sizes(stack) for stack in stacks])
    between = float(np.var(np.concatenate([stack.mean(axis=1) for stack in stacks]), ddof=1))
    return Variances(max(0.0, between - float(np.mean(sample / sizes))), sample)


def effective_sample_size(samples: ArrayLike) -> float:
    """Return the number of independent samples that carry the same information, at least 1.

    Autocovariances are summed in pairs up to the first pair that is not positive (initial
    positive sequence, Geyer: Practical Markov chain Monte Carlo. Statistical Science 7, 1992).
    """
    return float(_effective_sample_sizes(np.asarray(samples, dtype=float)[np.newaxis])[0])


def _effective_sample_sizes(rows: Floats) -> Floats:
    """Return `effective_sample_size` of each row: (trials, samples) -> (trials,)."""
    n = rows.shape[1]
    x = rows - rows.mean(axis=1, keepdims=True)
    variance = np.mean(x**2, axis=1, keepdims=True)
    if n < 4:
        return np.full(len(rows), float(n))
    # The inverse transform of the power spectrum is the autocovariance; zero padding to twice the
    # length keeps it from wrapping around.
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    covariances = np.fft.irfft(spectrum, 2 * n)[:, : n - n % 2] / n
    correlations = covariances / np.where(variance > 0, variance, 1)
    pairs = correlations.reshape(len(rows), -1, 2).sum(axis=2)
    is_initial = np.logical_and.accumulate(pairs > 0, axis=1)
    total = np.where(is_initial, pairs, 0).sum(axis=1)
    sizes: Floats = np.clip(n / np.maximum(2 * total - 1, 1.0), 1.0, n)
    return sizes


def two_modes(samples: ArrayLike) -> tuple[float, float] | None:
    """Return the centres of two groups that the samples form, or None where they form one.

    The samples form two groups where the best cut explains 85 % of their variance (Otsu 1979),
    each group has at least a tenth of the samples, and the centres are at least 2 % apart.
    """
    x = np.sort(np.asarray(samples, dtype=float))
    n = len(x)
    if n < _FEWEST_FOR_MODES or x[0] == x[-1]:
        return None
    counts = np.arange(1, n)
    sums = np.cumsum(x)
    left = sums[:-1] / counts
    right = (sums[-1] - sums[:-1]) / (n - counts)
    explained = counts * (n - counts) / n * (right - left) ** 2 / np.sum((x - x.mean()) ** 2)
    explained[(counts < _SMALLER_MODE * n) | (counts > (1 - _SMALLER_MODE) * n)] = 0
    best = int(np.argmax(explained))
    low, high = float(left[best]), float(right[best])
    are_apart = high - low > _MODE_DISTANCE * abs(low)
    return (low, high) if explained[best] > _EXPLAINED_BY_MODES and are_apart else None


class Drift(NamedTuple):
    """The change over a run as a share of its start, and the p-value of no change."""

    change: float
    p: float


def drift(means: ArrayLike, order: ArrayLike, groups: ArrayLike) -> Drift:
    """Return how the times of a run change with the `order` in which its trials started.

    `groups` names the group of each trial: its cell on its node. The model is a linear regression
    on the log scale with a level for each group, so three trials a cell suffice where there are
    several cells. The standard error is the larger of the ordinary one and White's (1980), since
    cells are not equally noisy. Outliers are clipped first.
    """
    y, x = np.log(np.asarray(means, dtype=float)), np.asarray(order, dtype=float)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    degrees = len(y) - count - 1
    if degrees < _FEWEST_DEGREES:
        return Drift(0.0, 1.0)
    reach = float(np.ptp(x))
    x = _centred(x, group, count)
    y = _centred(_clipped(y - _group_medians(y, group)), group, count)
    if not np.any(x):
        return Drift(0.0, 1.0)
    sum_of_squares = float(x @ x)
    slope = float(x @ y) / sum_of_squares
    residuals = (y - slope * x) ** 2
    ordinary = float(residuals.sum()) / degrees * sum_of_squares
    robust = float(x**2 @ residuals) * len(y) / degrees
    variance = max(ordinary, robust)
    change = math.expm1(slope * reach)
    if variance == 0:
        return Drift(change, float(slope == 0))
    t = abs(slope) * sum_of_squares / math.sqrt(variance)
    return Drift(change, 2 * float(special.stdtr(degrees, -t)))


def _centred(values: Floats, group: NDArray[np.intp], count: int) -> Floats:
    """Return each value less the mean of its group."""
    means = np.bincount(group, values, count) / np.bincount(group, minlength=count)
    centred: Floats = values - means[group]
    return centred


def _group_medians(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return, for each value, the median of its group."""
    order = np.lexsort((values, group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    lower = values[order[first + (sizes - 1) // 2]]
    upper = values[order[first + sizes // 2]]
    medians: Floats = ((lower + upper) / 2)[group]
    return medians


def _clipped(values: Floats) -> Floats:
    """Return values around zero, clipped to four robust standard deviations."""
    spread = float(np.median(np.abs(values[values != 0]))) * _MAD_TO_SD if np.any(values) else 0.0
    return np.clip(values, -4 * spread, 4 * spread)


def _mean_and_half_width(values: Floats, level: float) -> tuple[float, float]:
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), _quantile(len(values) - 1, level) * error


def _quantile(degrees: float, level: float) -> float:
    """Return the two-sided quantile of Student's t at a confidence level."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def _logs(expected: Range) -> tuple[float, float]:
    return (math.log(expected.low) if expected.low > 0 else -math.inf, math.log(expected.high))


def _probability_beyond(shift: float, degrees: float, level: float) -> float:
    """Return the probability that an interval does not reach a bound.

    `shift` is the distance between the bound and the true value, in standard errors.
    """
    threshold = _quantile(degrees, level)
    if shift > threshold + _CERTAIN_DISTANCE:
        return 1.0
    return 1.0 - float(special.nctdtr(degrees, shift, threshold))
