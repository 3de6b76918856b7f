"""Adaptive sampling: which cells get further seeds after the planned ones.

Decisions depend on the widths of intervals, never on verdicts, since sampling until a verdict
appears makes false verdicts likely. Cells that differ only in framework, backend or backward form
a group. They are compared with each other, so they get the same seeds, and the intervals of their
ratios, paired by block, must become narrow. A cell without such a group is judged by the interval
of its own mean.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from sweep.analysis import statistics
from sweep.analysis.statistics import FEWEST_TRIALS, Interval
from sweep.analysis.summary import Summary
from sweep.axes import COMPARED
from sweep.grid import Cell, Trial, identify

# Seeds of a cell where `until` has no `max_seeds`.
MOST_SEEDS = 30
# Widths are inflated by 25 %: stopping at the first narrow interval favours runs whose variance
# was low by chance.
_INFLATION = 1.25


class Until(Protocol):
    """The part of a grid's `until` that decisions need."""

    @property
    def interval(self) -> float:
        """The target of half an interval's width, as a share of the estimate."""

    @property
    def max_seeds(self) -> int | None:
        """The largest number of seeds of a cell."""

    @property
    def max_time(self) -> float | None:
        """The time that further seeds may take, in seconds."""


@dataclass(frozen=True)
class SamplingState:
    """The state of a cell's sampling.

    `means` has the mean of each seed with times, `seeds` are all seeds with a record, and
    `seconds` is the expected time of one trial.
    """

    cell: Cell
    means: Mapping[int, float]
    seeds: frozenset[int]
    seconds: float = 0.0

    @property
    def without_times(self) -> bool:
        """Whether no trial has times after as many trials as an interval needs.

        Further trials would probably end in the same way.
        """
        return len(self.seeds) >= FEWEST_TRIALS and not self.means


@dataclass(frozen=True)
class Decision:
    """The seeds to add, by the id of the cell, and by its name why each other cell gets none."""

    seeds: Mapping[str, Sequence[int]]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Cells that are compared with each other."""

    members: tuple[SamplingState, ...]

    @functools.cached_property
    def measured(self) -> list[SamplingState]:
        """The members whose trials have times, or may still get some."""
        return [each for each in self.members if not each.without_times]

    @functools.cached_property
    def width(self) -> float:
        """Half the width of the widest interval, as a share; infinite with too few trials."""
        pairs = [
            pair for pair in itertools.combinations(self.measured, 2) if _differ_in_one_axis(*pair)
        ]
        if pairs:
            intervals = [_ratio(*pair) for pair in pairs]
        else:
            intervals = [statistics.interval(list(each.means.values())) for each in self.measured]
        return max((each.relative_width if each else math.inf for each in intervals), default=0.0)

    @property
    def cost_s(self) -> float:
        """The time of one more seed of all members, in seconds."""
        return sum(each.seconds for each in self.measured)

    def next_seeds(self, until: Until) -> list[int]:
        """Return the next seeds; none where the intervals are narrow or `max_seeds` is reached.

        They are half of the seeds that the group is expected to need, and at least one. The other
        half is decided again with the intervals that these seeds give.
        """
        have = max((len(each.seeds) for each in self.measured), default=0)
        allowed = (until.max_seeds or MOST_SEEDS) - have
        if self.is_narrow(until) or allowed <= 0:
            return []
        if math.isinf(self.width):
            needed = FEWEST_TRIALS
        else:
            # The width of an interval is proportional to 1 / sqrt(seeds).
            excess = _INFLATION * self.width / until.interval
            needed = math.ceil(have * (excess**2 - 1))
        first = max((seed for each in self.members for seed in each.seeds), default=-1) + 1
        count = min(allowed, max(1, math.ceil(needed / 2)))
        return list(range(first, first + count))

    def affordable_seeds(self, until: Until, left_s: float) -> list[int]:
        """Return as many of the next seeds as fit into the time left."""
        if left_s <= 0:
            return []
        next_seeds = self.next_seeds(until)
        if self.cost_s * len(next_seeds) <= left_s:
            return next_seeds
        return next_seeds[: int(left_s / self.cost_s)]

    def is_narrow(self, until: Until) -> bool:
        """Whether the inflated width meets the target."""
        return _INFLATION * self.width <= until.interval


def decide(
    sampling_states: Iterable[SamplingState], until: Until, left_s: float = math.inf
) -> Decision:
    """Distribute further seeds within the `left_s` seconds that remain, widest groups first."""
    seeds: dict[str, Sequence[int]] = {}
    reasons: dict[str, str] = {}
    # If the time does not suffice for all, the groups that are farthest from the target get it.
    for group in sorted(_groups(sampling_states), key=lambda group: -group.width):
        affordable = group.affordable_seeds(until, left_s)
        left_s -= group.cost_s * len(affordable)
        for each in group.members:
            if affordable and not each.without_times:
                seeds[each.cell.id] = affordable
            else:
                reasons[each.cell.name] = _reason(each, group, until)
    return Decision(seeds, reasons)


def sampling_states(
    cells: Iterable[Cell],
    records: pa.Table,
    summaries: Iterable[Summary],
    seconds: Callable[[Cell], float | None],
) -> list[SamplingState]:
    """Return the sampling state of each cell, from its records and its summary.

    `seconds` returns the expected time of one trial of a cell, None where it is unknown.
    """
    seeds: dict[str, set[int]] = defaultdict(set)
    for cell_id, seed in zip(
        records["cell_id"].to_pylist(), records["seed"].to_pylist(), strict=True
    ):
        seeds[cell_id].add(seed)
    means = {
        cell_id: dict(zip(summary.column("seed"), summary.trial_means.tolist(), strict=True))
        for summary in summaries
        for cell_id in summary.column("cell_id")[:1]
    }
    return [
        SamplingState(c, means.get(c.id, {}), frozenset(seeds[c.id]), seconds(c) or 0.0)
        for c in cells
    ]


def added_trials(decision: Decision, planned: Iterable[Trial]) -> list[Trial]:
    """Return the trials of a decision, with the resources of the planned ones of their cells."""
    models = {trial.cell.id: trial for trial in planned}
    return [
        seeded(models[cell_id], seed) for cell_id, seeds in decision.seeds.items() for seed in seeds
    ]


def added_before(sampling_states: Iterable[SamplingState], planned: Iterable[Trial]) -> list[Trial]:
    """Return the trials that have a record but are not planned: seeds that were added before."""
    models: dict[str, Trial] = {}
    seeds: dict[str, set[int]] = defaultdict(set)
    for trial in planned:
        models[trial.cell.id] = trial
        seeds[trial.cell.id].add(trial.seed)
    return [
        seeded(models[s.cell.id], seed)
        for s in sampling_states
        for seed in sorted(s.seeds - seeds[s.cell.id])
    ]


def seeded(model: Trial, seed: int) -> Trial:
    """Return a trial of the same cell with another seed and the id that a grid would give it."""
    return Trial(
        identify({**model.cell.settings, "seed": seed}, model.cell.content),
        model.cell,
        seed,
        model.resources,
    )


def _groups(sampling_states: Iterable[SamplingState]) -> Iterator[Group]:
    groups: dict[str, list[SamplingState]] = defaultdict(list)
    for each in sampling_states:
        shared = {name: value for name, value in each.cell.settings.items() if name not in COMPARED}
        groups[json.dumps(shared, sort_keys=True, default=str)].append(each)
    return (Group(tuple(members)) for members in groups.values())


def _differ_in_one_axis(one: SamplingState, other: SamplingState) -> bool:
    """Whether two cells differ in exactly one of the compared axes."""
    mine, theirs = one.cell.settings, other.cell.settings
    return len([axis for axis in COMPARED if mine.get(axis) != theirs.get(axis)]) == 1


def _ratio(one: SamplingState, other: SamplingState) -> Interval | None:
    """Return the ratio of two cells, paired by seed; None with too few pairs."""
    common = sorted(one.means.keys() & other.means.keys())
    # Means that are not positive have no logarithm, and therefore no ratio.
    if len(common) < FEWEST_TRIALS or min(*one.means.values(), *other.means.values()) <= 0:
        return None
    numerators = [one.means[seed] for seed in common]
    denominators = [other.means[seed] for seed in common]
    return statistics.paired_ratio(numerators, denominators).interval()


def _reason(state: SamplingState, group: Group, until: Until) -> str:
    """Return why a cell gets no more seeds."""
    if state.without_times:
        return "its trials end without times"
    if group.is_narrow(until):
        return f"narrow enough: ±{group.width:.2%}"
    if group.next_seeds(until):
        return f"no time is left of max_time: ±{group.width:.2%}"
    return f"it has max_seeds: ±{group.width:.2%}"
