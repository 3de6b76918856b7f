"""Result checks: whether two cells of a user's own step computed the same.

A step that computes something else may be faster for that reason. A step may therefore return a
number, and the numbers of two cells are compared for the same seed. A difference prevents no
trial, unlike the parity check of sweep's own networks: the author of a step knows better which
difference matters. Both cells are timed, and the difference is stated before the verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweep.analysis.summary import Summary
from sweep.axes import COMPARED, phrase
from sweep.steps import is_step
from sweep.texts import counted

NOT_CHECKED = "results not checked"
KIND = "results"
_FIX = "make both compute the same, or set a tolerance that allows it"
_RETURN_FIX = "return a number or an array from the first phase"
# Axes that should not change what a step computes.
_WITHOUT_EFFECT = frozenset({*COMPARED, "version", "device", "threads", "process"})


@dataclass(frozen=True)
class ResultCheck:
    """The comparison of two cells' results.

    `seeds` is the number of seeds with a result on both sides. `differing` is the number of those
    whose results differ by more than `tolerance`, relative to the larger one. `farthest` is the
    seed whose results differ most, and `pair` has its two results.
    """

    seeds: int
    differing: int
    tolerance: float
    farthest: int | None = None
    pair: tuple[float, float] = (0.0, 0.0)

    @property
    def text(self) -> str:
        """What is wrong with the results; "" where they agree."""
        if not self.seeds:
            return NOT_CHECKED
        if not self.differing:
            return ""
        one, other = (f"{value:.6g}" for value in self.pair)
        share = f"{self.differing} of {counted(self.seeds, 'seed')}"
        return f"results differ: {one} and {other} with seed {self.farthest}, in {share}"

    @property
    def fix(self) -> str:
        """How to make the results agree, or be compared at all."""
        return _FIX if self.seeds else _RETURN_FIX


def check(one: Summary | None, other: Summary | None) -> ResultCheck | None:
    """Compare the results of two cells; None unless both are cells of a step with trials."""
    if not one or not other or not _is_of_step(one) or not _is_of_step(other):
        return None
    results, others = _results(one), _results(other)
    seeds = sorted(results.keys() & others.keys())
    tolerance = max(_tolerance(one), _tolerance(other))
    distances = {seed: distance(results[seed], others[seed]) for seed in seeds}
    differing = [seed for seed in seeds if distances[seed] > tolerance]
    if not differing:
        return ResultCheck(len(seeds), 0, tolerance)
    farthest = max(differing, key=distances.__getitem__)
    pair = (results[farthest], others[farthest])
    return ResultCheck(len(seeds), len(differing), tolerance, farthest, pair)


def of_run(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    """Return what is wrong with the results of cells that should agree, each with its fix."""
    problems = {}
    for one, other in _pairs_that_should_agree(summaries):
        results = check(one, other)
        if results and results.text:
            names = f" ({_distinct_axes(one, other)} and {_distinct_axes(other, one)})"
            problems[results.text + (names if results.seeds else "")] = results.fix
    return list(problems.items())


def _distinct_axes(summary: Summary, other: Summary) -> str:
    """Return the name of a cell by the axes in which it differs from another one."""
    own = {name: value for name, value in summary.axes.items() if value != other.axes.get(name)}
    return ", ".join(phrase(name, value) for name, value in own.items())


def distance(one: float, other: float) -> float:
    """Return the relative difference of two results; infinite where one is not finite."""
    if one == other:
        return 0.0
    larger = max(abs(one), abs(other))
    return abs(one - other) / larger if math.isfinite(larger) else math.inf


def _pairs_that_should_agree(summaries: Sequence[Summary]) -> Iterable[tuple[Summary, Summary]]:
    """Yield each cell of a step after the first one with which it should agree."""
    first: dict[str, Summary] = {}
    for summary in filter(_is_of_step, summaries):
        rest = {name: value for name, value in summary.axes.items() if name not in _WITHOUT_EFFECT}
        reference = first.setdefault(f"{summary.metric} {rest!r}", summary)
        if reference is not summary:
            yield reference, summary


def _is_of_step(summary: Summary) -> bool:
    return is_step(summary.axes.get("workload")) and summary.processes > 0


def _results(summary: Summary) -> dict[int, float]:
    """Return the result of each seed that has one."""
    pairs = zip(summary.column("seed"), summary.column("result"), strict=False)
    return {seed: result for seed, result in pairs if seed is not None and result is not None}


def _tolerance(summary: Summary) -> float:
    settings = next(filter(None, summary.column("settings")), "{}")
    return float(json.loads(settings).get("tolerance", 0.0))
