"""Whether verdicts are right as often as they claim, in simulated sweeps whose truth is known.

Every simulated sweep measures cells in blocks, as `sweep run` does: one process of each cell per
block, in random order. The variance between processes is a multiple of the variance of samples,
whose noise is of several kinds. The figures are:

- how often 95 % intervals miss the truth;
- how often any of ten comparisons of identical cells is called faster or slower, by sweep and by
  other methods, which pool the samples or compare minima with the same margin;
- how often a true difference of 5 % is not found, and how often `statistics.power` predicts that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.figures import OURS, Figure, target
from sweep.analysis import statistics

Floats = NDArray[np.float64]

SAMPLE_SD = 0.02
SAMPLES = 50
FAMILY = 10
MARGIN = statistics.MARGIN
TRUE_DIFFERENCE = 0.05


@dataclass(frozen=True)
class Scenario:
    """A machine: its variance between processes over that of samples, its noise, its processes."""

    between: float
    noise: str
    processes: int

    def __str__(self) -> str:
        return f"{self.noise}, between {self.between:g}×, {self.processes} processes"


@dataclass(frozen=True)
class Findings:
    """The results of one scenario; every figure is a share."""

    scenario: Scenario
    cell_coverage: float
    ratio_coverage: float
    false_families: float
    false_families_without_margin: float
    power: float
    predicted_power: float
    pooled_t: float
    mann_whitney: float
    minimum: float


def figures(quick: bool) -> Iterator[Figure]:
    found = [explore(scenario, 100 if quick else 1000) for scenario in scenarios()]
    for each in found:
        what = f"intervals of a ratio that miss the truth: {each.scenario}"
        yield Figure(what, OURS, 1 - each.ratio_coverage, "share")
        yield target(what, 0.05, "share")
    for each in found:
        what = f"identical cells called different: {each.scenario}"
        yield Figure(what, OURS, each.false_families, "share")
        yield target(what, 0.05, "share")
        yield Figure(what, "t-test, samples pooled", each.pooled_t, "share")
        yield Figure(what, "Mann–Whitney, samples pooled", each.mann_whitney, "share")
        yield Figure(what, "minima", each.minimum, "share")
    for each in found:
        what = f"5 % that are not found: {each.scenario}"
        yield Figure(what, OURS, 1 - each.power, "share")
        yield Figure(what, "as predicted", 1 - each.predicted_power, "share")


def scenarios() -> Iterator[Scenario]:
    for noise in NOISES:
        for between in (0.0, 0.2, 1.0, 5.0):
            yield Scenario(between, noise, 5)


def white(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return random.normal(0, SAMPLE_SD, shape)


def autocorrelated(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return first-order autoregressive noise with correlation 0.7."""
    noise = random.normal(0, SAMPLE_SD * math.sqrt(1 - 0.7**2), shape)
    noise[..., 0] = random.normal(0, SAMPLE_SD, shape[:-1])
    for sample in range(1, shape[-1]):
        noise[..., sample] += 0.7 * noise[..., sample - 1]
    return noise


def outliers(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return noise in which 2 % of the samples take 1.5 to 3 times as long."""
    hit = random.random(shape) < 0.02
    return white(random, shape) + hit * np.log(random.uniform(1.5, 3, shape))


def bimodal(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return noise in which 30 % of the samples are 10 % slower."""
    return white(random, shape) + 0.1 * (random.random(shape) < 0.3)


NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "white": white,
    "autocorrelated": autocorrelated,
    "drift": white,
    "outliers": outliers,
    "bimodal": bimodal,
}


def measured(
    random: np.random.Generator, scenario: Scenario, cells: int, repetitions: int
) -> Floats:
    """Return times (repetitions, cells, processes, samples) of identical cells.

    Process p of each cell belongs to block p.
    """
    shape = (repetitions, cells, scenario.processes, SAMPLES)
    logs = NOISES[scenario.noise](random, shape)
    logs += random.normal(0, SAMPLE_SD * math.sqrt(scenario.between), shape[:-1])[..., np.newaxis]
    if scenario.noise == "drift":  # five percent from the first trial to the last
        when = np.arange(scenario.processes) + random.random(shape[:-1])
        logs += (0.05 * when / scenario.processes)[..., np.newaxis]
    return np.exp(logs)


def truth(random: np.random.Generator, scenario: Scenario) -> float:
    """Return the mean of very many process means."""
    return float(measured(random, scenario, 1, 200_000 // scenario.processes).mean())


def explore(scenario: Scenario, repetitions: int, seed: int = 0) -> Findings:
    random = np.random.default_rng(seed)
    cells = measured(random, scenario, FAMILY + 1, repetitions)
    means = cells.mean(axis=-1)
    expected = truth(random, scenario)
    intervals = [statistics.interval(cell) for cell in means[:, 0]]
    families = [
        [statistics.paired_ratio(cell, family[0]) for cell in family[1:]] for family in means
    ]
    slowed = [
        statistics.paired_ratio(family[1] * (1 + TRUE_DIFFERENCE), family[0]) for family in means
    ]
    return Findings(
        scenario,
        cell_coverage=_share(i.low <= expected <= i.high for i in intervals if i),
        ratio_coverage=_share(
            i.low <= 1 <= i.high for family in families for r in family if (i := r.interval())
        ),
        false_families=_share(differs(family, MARGIN) for family in families),
        false_families_without_margin=_share(differs(family, 0.0) for family in families),
        power=_share(statistics.verdict(ratio, MARGIN) == "slower" for ratio in slowed),
        predicted_power=_predicted_power(families, scenario.processes),
        pooled_t=_family_share(cells, lambda a, b: stats.ttest_ind(a, b, axis=-1).pvalue < 0.05),
        mann_whitney=_family_share(
            cells, lambda a, b: stats.mannwhitneyu(a, b, axis=-1).pvalue < 0.05
        ),
        minimum=_family_share(
            cells, lambda a, b: np.abs(np.log(a.min(-1) / b.min(-1))) > math.log1p(MARGIN)
        ),
    )


def differs(family: list[statistics.Ratio], margin: float) -> bool:
    """Whether any comparison of a family of identical cells is called faster or slower."""
    p = statistics.adjusted(
        [statistics.p_value(ratio, statistics.equivalence_range(margin)) for ratio in family]
    )
    found = {statistics.verdict(ratio, margin, each) for ratio, each in zip(family, p, strict=True)}
    return bool(found & {"faster", "slower"})


def _predicted_power(families: list[list[statistics.Ratio]], pairs: int) -> float:
    """Return the result of `statistics.power` for the true spread of a pair's ratio."""
    spread = math.sqrt(float(np.mean([ratio.spread**2 for family in families for ratio in family])))
    return statistics.power(
        math.log1p(TRUE_DIFFERENCE), spread, pairs, statistics.equivalence_range(MARGIN)
    )


def _family_share(cells: Floats, differ: Callable[[Floats, Floats], NDArray[np.bool_]]) -> float:
    """Return how often a method that pools samples finds a difference among identical cells."""
    pooled = cells[:200].reshape(len(cells[:200]), cells.shape[1], -1)
    return float(
        np.mean(
            np.any(
                [differ(pooled[:, cell], pooled[:, 0]) for cell in range(1, cells.shape[1])], axis=0
            )
        )
    )


def _share(claims: Iterator[bool]) -> float:
    return float(np.mean(list(claims)))
