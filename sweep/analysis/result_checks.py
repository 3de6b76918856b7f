"""Result checks: whether two cells of a step of one's own computed the same.

A step that returns a number lets its speed be compared with that of another framework or version at all: what computes
something else may be faster for that. Results are compared for the same seed. They are no gate, as the parity check of
sweep's own network is: a step's author knows better which difference matters, so both cells are timed and the
difference is said before the verdict.
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
# a step computes the same whatever these are
_OF_NO_MATTER = frozenset({*COMPARED, "version", "device", "threads", "process"})


@dataclass(frozen=True)
class ResultCheck:
    """What the results of two cells say of each other.

    `seeds` have a result on both sides, `apart` are those whose results differ by more than `tolerance`, relative to the
    larger one. `farthest` is the seed whose results differ most, `pair` these two results.
    """

    seeds: int
    apart: int
    tolerance: float
    farthest: int | None = None
    pair: tuple[float, float] = (0.0, 0.0)

    @property
    def text(self) -> str:
        """What is wrong, in words; empty where the results agree."""
        if not self.seeds:
            return NOT_CHECKED
        if not self.apart:
            return ""
        one, other = (f"{value:.6g}" for value in self.pair)
        of = f"{self.apart} of {counted(self.seeds, 'seed')}"
        return f"results differ: {one} and {other} with seed {self.farthest}, in {of}"

    @property
    def fix(self) -> str:
        return _FIX if self.seeds else _RETURN_FIX


def check(one: Summary | None, other: Summary | None) -> ResultCheck | None:
    """The results of two cells held against each other; None where they are not both of a step, or have no trials."""
    if not one or not other or not all(map(_is_of_step, (one, other))):
        return None
    results, others = _results(one), _results(other)
    seeds = sorted(results.keys() & others.keys())
    tolerance = max(_tolerance(one), _tolerance(other))
    distances = {seed: distance(results[seed], others[seed]) for seed in seeds}
    apart = [seed for seed in seeds if distances[seed] > tolerance]
    if not apart:
        return ResultCheck(len(seeds), 0, tolerance)
    farthest = max(apart, key=distances.__getitem__)
    return ResultCheck(
        len(seeds), len(apart), tolerance, farthest, (results[farthest], others[farthest])
    )


def of_run(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    """What is wrong with the results of cells that ought to compute the same, each with its fix."""
    found = {}
    for one, other in _alike(summaries):
        results = check(one, other)
        if results and results.text:
            whose = f" ({_named(one, other)} and {_named(other, one)})" if results.seeds else ""
            found[results.text + whose] = results.fix
    return list(found.items())


def _named(summary: Summary, other: Summary) -> str:
    """A cell by what it has otherwise than another one."""
    own = {name: value for name, value in summary.axes.items() if value != other.axes.get(name)}
    return ", ".join(phrase(name, value) for name, value in own.items())


def distance(one: float, other: float) -> float:
    """How far apart two results are, relative to the larger one; infinite where one of them is no number."""
    if one == other:
        return 0.0
    larger = max(abs(one), abs(other))
    return abs(one - other) / larger if math.isfinite(larger) else math.inf


def _alike(summaries: Sequence[Summary]) -> Iterable[tuple[Summary, Summary]]:
    """Each cell of a step with the first that differs from it in nothing that should change its result."""
    first: dict[str, Summary] = {}
    for summary in filter(_is_of_step, summaries):
        rest = {name: value for name, value in summary.axes.items() if name not in _OF_NO_MATTER}
        known = first.setdefault(f"{summary.metric} {rest!r}", summary)
        if known is not summary:
            yield known, summary


def _is_of_step(summary: Summary) -> bool:
    return is_step(summary.axes.get("workload")) and summary.processes > 0


def _results(summary: Summary) -> dict[int, float]:
    """The result of each seed that has one."""
    pairs = zip(summary.column("seed"), summary.column("result"), strict=False)
    return {seed: result for seed, result in pairs if seed is not None and result is not None}


def _tolerance(summary: Summary) -> float:
    settings = next(filter(None, summary.column("settings")), "{}")
    return float(json.loads(settings).get("tolerance", 0.0))
