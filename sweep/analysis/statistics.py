"""Statistics of nested times: samples in processes, processes in cells, cells compared.

Replicates are processes: the samples of one process share its memory layout, its cores and its luck, so that more of
them say nothing about the next process. Whatever has an interval here is computed from one number per process.

Sources, named where they are used:

- Georges, Buytaert, Eeckhout: Statistically rigorous Java performance evaluation. OOPSLA 2007
- Kalibera, Jones: Rigorous benchmarking in reasonable time. ISMM 2013
- Kalibera, Jones: Quantifying performance changes with effect size confidence intervals. arXiv:2007.10899, 2020
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
    from sweep.records.stated import Direction

Floats = NDArray[np.float64]
Verdict = Literal["faster", "slower", "equivalent", "inconclusive", "missing"]

LEVEL = 0.95
MARGIN = 0.01
POWER = 0.8
FEWEST_PROCESSES = FEWEST_SEEDS
MOST_SEEDS = 1000

_FEWEST_FOR_MODES = 10
_APART = 0.02  # that modes lie apart at the least, as a share of the lower one
_FEWEST_DEGREES = (
    3  # of freedom, for drift over a run: five trials of one cell, or three of two cells
)
_MAD_TO_SD = 1.4826  # of a normal distribution
_SMALLER_MODE = 0.1
_TWO_MODES = 0.85  # of the variance explained by two groups: 0.64 for a normal, 0.75 for a uniform distribution


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Half the width, as a share of the estimate."""
        return (self.high - self.low) / 2 / abs(self.estimate) if self.estimate else math.inf


def interval(
    process_means: ArrayLike, level: float = LEVEL, centre: float | None = None
) -> Interval | None:
    """Arithmetic mean of a cell over its trials, or None with fewer than three of them.

    Student's t on the trials' means (Georges et al. 2007). Where all are positive, it is taken on
    the log scale by the delta method: mean × exp(± t · error / mean). The interval then stays
    positive and reaches further up than down, as skewed times ask for. It always holds the mean,
    which is `centre` where the caller has summed it already, perhaps with another rounding.
    """
    # Costs add up, so their mean is arithmetic: those of forward and backward sum to that of the
    # step (Hoefler and Belli, rule 3). Student's t on logarithms would be the interval of the
    # geometric mean, which lies below the figure that stands beside it.
    means = np.asarray(process_means, dtype=float)
    if len(means) < FEWEST_PROCESSES:
        return None
    mean, half = _mean_and_half_width(means, level)
    centre = mean if centre is None else centre
    if np.all(means > 0):
        reach = math.exp(half / centre)
        return Interval(centre, centre / reach, centre * reach)
    return Interval(centre, centre - half, centre + half)


@dataclass(frozen=True)
class Ratio:
    """How two cells compare, as the ratio of their figures; on the log scale where it says so.

    `spread` is the standard deviation of one pair's log ratio, `degrees` the degrees of freedom, `pairs` the number of
    blocks in which both were measured; without common blocks, the smaller number of processes.

    `open_above` and `open_below`: trials that count as never are left out, with which the ratio would be greater, or
    less. Nothing is then said that such a ratio would contradict.
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
        """One over the ratio: the other cell against this one."""
        ends = {"open_below": self.open_above, "open_above": self.open_below}
        return replace(self, log_ratio=-self.log_ratio, **ends)

    def speedup(self, direction: Direction) -> Self:
        """How many times better the first cell is: above 1 is better, whichever way the figures go."""
        return self if direction == "more" else self.inverse()

    @property
    def is_open(self) -> bool:
        return self.open_below or self.open_above

    def closed(self) -> Self:
        """The same as if no trial were left out."""
        return replace(self, open_below=False, open_above=False)

    @property
    def estimate(self) -> float:
        return math.exp(self.log_ratio)

    def interval(self, level: float = LEVEL) -> Interval | None:
        """The ratio with its interval, or None where either cell has fewer than three processes."""
        if self.pairs < FEWEST_PROCESSES:
            return None
        half = _quantile(self.degrees, level) * self.standard_error
        return Interval(
            self.estimate, math.exp(self.log_ratio - half), math.exp(self.log_ratio + half)
        )


def paired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """Ratio of process means measured pairwise, one pair for each block.

    Student's t on the logarithms of the pairs' ratios: what both members of a pair suffer alike, such as the drift of
    the machine, cancels out (duet benchmarking, Bulej et al. 2020).
    """
    logs = np.log(np.asarray(numerators, dtype=float)) - np.log(
        np.asarray(denominators, dtype=float)
    )
    pairs = len(logs)
    spread = float(np.std(logs, ddof=1)) if pairs > 1 else math.nan
    return Ratio(
        float(np.mean(logs)), spread, pairs - 1, spread / math.sqrt(pairs), pairs, paired=True
    )


def unpaired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """Ratio of process means that have no blocks in common, as those of two runs.

    Welch's t with Satterthwaite's degrees of freedom, on the log scale (Kalibera and Jones 2020 compare means of
    processes likewise).
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
    degrees = sum(errors) ** 2 / squares if squares > 0 else len(upper) + len(lower) - 2
    spread = math.sqrt(float(np.var(upper, ddof=1)) + float(np.var(lower, ddof=1)))
    return Ratio(effect, spread, degrees, math.sqrt(sum(errors)), fewest, paired=False)


class Range(NamedTuple):
    """Ratios between two bounds."""

    low: float
    high: float


def within(margin: float) -> Range:
    """Ratios that count as no difference."""
    return Range(1 / (1 + margin), 1 + margin)


def p_value(ratio: Ratio, expected: Range) -> float:
    """How likely so extreme a ratio would be if the true one lay in a range; 1 where it does itself.

    Two-sided against the nearer bound, so that it is below 0.05 exactly where the 95 % interval lies beyond that bound.
    """
    if ratio.pairs < FEWEST_PROCESSES:
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
    """p-values adjusted for the family they belong to: calling those below q differences lets the expected share of
    false ones among them stay below q.

    Benjamini and Hochberg: Controlling the false discovery rate. J. R. Statist. Soc. B 57, 1995.
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
    """For each p-value, the level of the interval that decides within its family.

    Benjamini and Hochberg's procedure rejects a p-value exactly where it is at most 5 % times the number that are
    rejected when it is 0 itself, divided by the size of the family. The others are taken as they are.
    """
    p = np.asarray(p_values, dtype=float)
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    size, q = len(p), 1 - LEVEL
    ranks = np.arange(1, size + 1)
    # One p-value that falls to 0 goes first: those before its place get the next rank, those behind it keep theirs.
    before = np.where(p[order] <= q * (ranks + 1) / size, ranks + 1, 1)
    behind = np.where(p[order] <= q * ranks / size, ranks, 1)
    best_before = np.maximum.accumulate(np.concatenate([[1], before[:-1]]))
    best_behind = np.maximum.accumulate(np.concatenate([[1], behind[:0:-1]]))[::-1]
    levels = np.empty(size)
    levels[order] = 1 - q * np.minimum(size, np.maximum(best_before, best_behind)) / size
    return [float(level) for level in levels]


class Member(NamedTuple):
    """A p-value within its family; None where there is none, `level` then as if it joined the others."""

    p_adjusted: float | None
    level: float


class Family(NamedTuple):
    """p-values that are adjusted together: `size` of the members have one."""

    size: int
    members: Sequence[Member]


def family(p_values: Sequence[float | None]) -> Family:
    """The family of these p-values. Members without one take no part: they make the others no less sure."""
    known = [p for p in p_values if p is not None]
    found = iter(zip(adjusted(known), deciding_levels(known), strict=True))
    absent = Member(None, deciding_levels([*known, 1.0])[-1])
    return Family(len(known), [absent if p is None else Member(*next(found)) for p in p_values])


def verdict(
    ratio: Ratio | None,
    margin: float = MARGIN,
    p_adjusted: float | None = None,
    direction: Direction = "less",
) -> Verdict:
    """What the ratio of two figures says: `faster` where the numerator is better by more than the margin.

    The 95 % interval must lie wholly beyond the margin for a difference, wholly within it for equivalence (two
    one-sided tests, Schuirmann 1987, at the stricter level of 2.5 %); anything else is inconclusive. `p_adjusted` is
    the comparison's p-value after correction for its family, which must agree before a difference is called one.
    """
    if ratio is None:
        return "missing"
    found = ratio.interval()
    if found is None:
        return "inconclusive"
    same = within(margin)
    if lies_within(ratio, same):
        return "equivalent"
    p = p_value(ratio, same) if p_adjusted is None else p_adjusted
    if p > 1 - LEVEL:
        return "inconclusive"
    return "faster" if ratio.speedup(direction).log_ratio > 0 else "slower"


def lies_within(ratio: Ratio, expected: Range) -> bool:
    """Whether the 95 % interval lies wholly within a range, and trials that are left out could not move it out."""
    found = ratio.interval()
    if found is None or found.low < expected.low or expected.high < found.high:
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
    """Probability that the interval comes to lie wholly inside or wholly outside of a range.

    For a true effect and a true spread, see `Ratio`. From the noncentral t distribution; for the inside by the
    Bonferroni bound over its two sides. `level` is that of the interval that must lie outside: a family asks for more
    than 95 % (`deciding_levels`). Inside it is 95 % always.
    """
    degrees = (pairs - 1) * (1 if paired else 2)
    if pairs < FEWEST_PROCESSES:
        return 0.0
    low, high = _logs(expected)
    inside = min(log_effect - low, high - log_effect)
    if spread <= 0:
        return float(inside != 0)
    precision = math.sqrt(pairs) / spread
    if inside < 0:
        return _clear(-inside * precision, degrees, level)
    sides = (
        _clear(distance * precision, degrees, LEVEL)
        for distance in (log_effect - low, high - log_effect)
    )
    return max(0.0, sum(sides) - 1)


def seeds_needed(ratio: Ratio, expected: Range, level: float = LEVEL) -> int | None:
    """Further seeds after which the interval is likely (80 %) to decide, or None if over a thousand.

    `level` is that of the interval that must lie outside of the range, see `deciding_levels`. Takes the effect and
    spread seen so far for true, as Kalibera and Jones (2013) do when they dimension experiments: near a bound, or after
    few processes, it is a rough guess.
    """
    have = ratio.pairs
    if _never_decided(ratio, expected):
        return None
    if not math.isfinite(ratio.spread):
        return FEWEST_PROCESSES - have

    def enough(pairs: int) -> bool:
        return power(ratio.log_ratio, ratio.spread, pairs, expected, ratio.paired, level) >= POWER

    few, many = max(have, FEWEST_PROCESSES - 1), have + MOST_SEEDS
    if not enough(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many - have


def _never_decided(ratio: Ratio, expected: Range) -> bool:
    """Whether trials that are left out keep any number of further ones from deciding."""
    low, high = _logs(expected)
    effect = ratio.log_ratio
    decided_above = effect > high or (math.isinf(high) and effect > low)
    decided_below = effect < low or (math.isinf(low) and effect < high)
    return (ratio.open_above and not decided_above) or (ratio.open_below and not decided_below)


def detectable(spread: float, pairs: int, margin: float = 0.0) -> float:
    """The least true difference, as a share, that so many pairs find with 80 % probability; infinite below three."""
    same = within(margin)
    low, high = math.log(same.high), 10.0
    if power(high, spread, pairs, same) < POWER:
        return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, spread, pairs, same) >= POWER else (middle, high)
    return math.expm1(high)


@dataclass(frozen=True)
class Variances:
    """Variance at each level: between processes, and between the samples of one."""

    process: float
    sample: float

    def samples_worth_taking(self, process_cost_s: float, sample_cost_s: float) -> int:
        """Samples for each process that give the narrowest interval for the time spent (Kalibera and Jones 2013)."""
        if self.process <= 0 or sample_cost_s <= 0:
            return 1000
        best = math.sqrt(process_cost_s / sample_cost_s * self.sample / self.process)
        return min(1000, max(1, math.ceil(best)))


def variances(processes: Sequence[ArrayLike]) -> Variances | None:
    """Variance components of samples nested in processes, or None with fewer than two processes.

    Analysis of variance (Searle, Casella, McCulloch: Variance components, 1992), where a process counts as many samples
    as it effectively has: autocorrelated ones tell less. A negative estimate between processes is zero.
    """
    rows = [np.asarray(samples, dtype=float) for samples in processes if len(np.asarray(samples))]
    if len(rows) < 2:
        return None
    alike = [
        np.stack([row for row in rows if len(row) == count])
        for count in sorted({len(row) for row in rows})
    ]
    squares = sum(float(np.sum(together.var(axis=1))) * together.shape[1] for together in alike)
    degrees = sum(len(row) - 1 for row in rows)
    sample = squares / degrees if degrees else 0.0
    worth = np.concatenate([_effective(together) for together in alike])
    between = float(np.var(np.concatenate([together.mean(axis=1) for together in alike]), ddof=1))
    return Variances(max(0.0, between - float(np.mean(sample / worth))), sample)


def effective_sample_size(samples: ArrayLike) -> float:
    """How many independent samples these are worth, between 1 and their number.

    Autocovariances are summed in pairs up to the first that is not positive (initial positive sequence, Geyer:
    Practical Markov chain Monte Carlo. Statistical Science 7, 1992).
    """
    return float(_effective(np.asarray(samples, dtype=float)[np.newaxis])[0])


def _effective(rows: Floats) -> Floats:
    """`effective_sample_size` of each row."""
    n = rows.shape[1]
    x = rows - rows.mean(axis=1, keepdims=True)
    variance = np.mean(x**2, axis=1, keepdims=True)
    if n < 4:
        return np.full(len(rows), float(n))
    spectrum = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    covariances = np.fft.irfft(spectrum, 2 * n)[:, : n - n % 2] / n
    pairs = (
        (covariances / np.where(variance > 0, variance, 1)).reshape(len(rows), -1, 2).sum(axis=2)
    )
    kept = np.where(np.logical_and.accumulate(pairs > 0, axis=1), pairs, 0).sum(axis=1)
    worth: Floats = np.clip(n / np.maximum(2 * kept - 1, 1.0), 1.0, n)
    return worth


def two_modes(samples: ArrayLike) -> tuple[float, float] | None:
    """The centres of two groups that the samples fall into, or None where they are one.

    The best cut into two groups, each with at least a tenth of the samples (Otsu 1979), explains nearly all variance.
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
    apart = high - low > _APART * abs(low)
    return (low, high) if explained[best] > _TWO_MODES and apart else None


class Drift(NamedTuple):
    """Change over a run, as a share of the first, and how likely so much is where there is none."""

    change: float
    p: float


def drift(means: ArrayLike, order: ArrayLike, groups: ArrayLike) -> Drift:
    """How the times of a run change with the `order` in which its trials started.

    `groups` says of each trial which others it is like: its cell on its node. Linear regression on
    the log scale with a level for each group, so that three trials a cell suffice where there are
    several cells. The error is the larger of the usual one and White's (1980), for cells are not
    equally noisy; single wild trials are reined in first.
    """
    y, x = np.log(np.asarray(means, dtype=float)), np.asarray(order, dtype=float)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    degrees = len(y) - count - 1
    if degrees < _FEWEST_DEGREES:
        return Drift(0.0, 1.0)
    reach = float(np.ptp(x))
    x = _centred(x, group, count)
    y = _centred(_calmed(y - _group_medians(y, group)), group, count)
    if not np.any(x):
        return Drift(0.0, 1.0)
    slope = float(x @ y / (x @ x))
    squares = (y - slope * x) ** 2
    variance = max(
        float(squares.sum() / degrees * (x @ x)), float(x**2 @ squares) * len(y) / degrees
    )
    change = math.expm1(slope * reach)
    if variance == 0:
        return Drift(change, float(slope == 0))
    return Drift(
        change, 2 * float(special.stdtr(degrees, -abs(slope) * float(x @ x) / math.sqrt(variance)))
    )


def _centred(values: Floats, group: NDArray[np.intp], count: int) -> Floats:
    """Each value less the mean of its group."""
    means = np.bincount(group, values, count) / np.bincount(group, minlength=count)
    centred: Floats = values - means[group]
    return centred


def _group_medians(values: Floats, group: NDArray[np.intp]) -> Floats:
    """For each value the median of its group."""
    order = np.lexsort((values, group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    of_group = (values[order[first + (sizes - 1) // 2]] + values[order[first + sizes // 2]]) / 2
    medians: Floats = of_group[group]
    return medians


def _calmed(values: Floats) -> Floats:
    """Values around zero, none further from it than four standard deviations, judged robustly."""
    spread = float(np.median(np.abs(values[values != 0]))) * _MAD_TO_SD if np.any(values) else 0.0
    return np.clip(values, -4 * spread, 4 * spread)


def _mean_and_half_width(values: Floats, level: float) -> tuple[float, float]:
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), _quantile(len(values) - 1, level) * error


def _quantile(degrees: float, level: float) -> float:
    """Student's t that a share of `level` stays within, on both sides."""
    return float(special.stdtrit(degrees, (1 + level) / 2))


def _logs(expected: Range) -> tuple[float, float]:
    return (math.log(expected.low) if expected.low > 0 else -math.inf, math.log(expected.high))


def _clear(shift: float, degrees: float, level: float) -> float:
    """Probability that an interval keeps clear of a bound that is `shift` standard errors from the true value."""
    threshold = _quantile(degrees, level)
    if shift > threshold + 30:  # certain; and where the noncentral t is not computed well
        return 1.0
    return 1.0 - float(special.nctdtr(degrees, shift, threshold))
