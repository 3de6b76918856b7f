"""The trials of a bisection and its false changes, in simulated searches whose truth is known.

Each search is over 60 versions at a margin of 5 %. A trial is the mean of 50 samples with one of
the kinds of noise of *coverage*. The variance between processes equals that of samples, and a
block shares a drift of 1 %. The alternative measures every version in complete blocks, until each
pair of neighbours is tested at 5 % for all pairs together, with a power of 90 % for a change of
15 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage import NOISES, SAMPLE_SD, SAMPLES
from benchmarks.figures import OURS, Figure, target
from sweep import bisection
from sweep.analysis import statistics
from sweep.bisection import Found, Observed, Step

VERSIONS = 60
MARGIN = 0.05
CHANGE = 1.15
CANNOT_BE_BUILT = frozenset({7, 21, 22, 30, 31, 44})
DRIFT_SD = 0.01


def levels(**changes: float) -> list[float]:
    """Return the logarithms of all versions' times, which change by these factors.

    `at_20=1.15` is a change at version 20.
    """
    found = np.zeros(VERSIONS)
    for place, factor in changes.items():
        found[int(place.removeprefix("at_")) :] += math.log(factor)
    return list(found)


TRUTHS = {
    "no change": levels(),
    "a change of the margin": levels(at_20=1 + MARGIN),
    "one change": levels(at_20=CHANGE),
    "four changes": levels(at_5=1.3, at_20=CHANGE, at_37=0.7, at_52=1.2),
    "a drift over all": list(np.linspace(0, 0.3, VERSIONS)),
}


@dataclass(frozen=True)
class Outcome:
    """The result of one search."""

    trials: int
    is_false: bool
    is_complete: bool


def figures(quick: bool) -> Iterator[Figure]:
    searches = 20 if quick else 100
    for noise in NOISES:
        for truth, times in TRUTHS.items():
            found = [search(times, noise, seed) for seed in range(searches)]
            where = f"{truth}, noise {noise}"
            what = f"searches that name a false change: {where}"
            yield Figure(what, OURS, float(np.mean([each.is_false for each in found])), "share")
            yield target(what, bisection.LEVEL, "share")
            if truth == "one change":
                yield from trials(found, where, noise)
            if "change" in truth and "margin" not in truth and truth != "no change":
                what = f"searches that miss a change: {where}"
                missed = float(np.mean([not each.is_complete for each in found]))
                yield Figure(what, OURS, missed, "share")


def trials(found: Sequence[Outcome], where: str, noise: str) -> Iterator[Figure]:
    what = f"trials of a search: {where}"
    yield Figure(what, OURS, float(np.mean([each.trials for each in found])), "")
    every = VERSIONS * blocks_of_all(noise)
    yield Figure(what, "every version, as surely", every, "")
    yield target(what, every / 3, "")


def search(times: Sequence[float], noise: str, seed: int) -> Outcome:
    """Run one search; versions that cannot be built give no figures."""
    random = np.random.default_rng(seed)
    observed = [Observed() for _ in times]
    drifts: dict[int, float] = {}
    count = 0
    while isinstance(step := bisection.advance(observed, MARGIN), Step):
        for version in step.values:
            for block in step.seeds:
                known = observed[version]
                if block in known.ended:
                    continue
                count += 1
                figures = dict(known.figures)
                if version not in CANNOT_BE_BUILT:
                    drift = drifts.setdefault(block, random.normal(0, DRIFT_SD))
                    figures[block] = math.exp(times[version] + drift) * process_mean(random, noise)
                observed[version] = Observed(figures, {*known.ended, block})
    assert isinstance(step, Found)
    named = {(change.before, change.after) for change in step.changes}
    apart = [abs(times[after] - times[before]) for before, after in named]
    return Outcome(
        trials=count,
        is_false=any(each <= math.log1p(MARGIN) + 1e-9 for each in apart),
        is_complete=true_changes(times) <= named,
    )


def true_changes(times: Sequence[float]) -> set[tuple[int, int]]:
    """Return the neighbours that can be measured and differ by more than the margin."""
    there = [version for version in range(len(times)) if version not in CANNOT_BE_BUILT]
    pairs = itertools.pairwise(there)
    return {(a, b) for a, b in pairs if abs(times[b] - times[a]) > math.log1p(MARGIN) + 1e-9}


def process_mean(random: np.random.Generator, noise: str) -> float:
    """Return the mean of the samples of one trial, about 1."""
    kind = "white" if noise == "drift" else noise
    samples = NOISES[kind](random, (SAMPLES,)) + random.normal(0, SAMPLE_SD)
    return float(np.exp(samples).mean())


def blocks_of_all(noise: str) -> int:
    """Return the blocks in which all versions must be measured to be as sure of every pair."""
    random = np.random.default_rng(0)
    pairs = [
        math.log(process_mean(random, noise) / process_mean(random, noise)) for _ in range(2000)
    ]
    level = 1 - bisection.LEVEL / (VERSIONS - 1)
    same = statistics.equivalence_range(MARGIN)
    effect, spread = math.log(CHANGE), float(np.std(pairs))

    def is_enough(blocks: int) -> bool:
        return statistics.power(effect, spread, blocks, same, level=level) >= 0.9

    return next(blocks for blocks in range(3, 200) if is_enough(blocks))
