"""Adaptive sampling: where further seeds go once the planned ones have run; decided by widths, never by verdicts.

Cells that differ in framework, backend or backward alone are a group: they are compared, so they get their seeds
together, and what must be narrow are the intervals of their ratios, block by block. A cell with no such kin goes by the
interval of its own mean.
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
from sweep.analysis.statistics import FEWEST_PROCESSES, Interval
from sweep.analysis.summary import Summary
from sweep.axes import COMPARED
from sweep.grid import Cell, Trial, identify

MOST_SEEDS = 30  # of a cell, where `until` names no number
_WIDENED = 1.25  # what a width counts for: to stop as soon as an interval is narrow is to stop at lucky ones


class Until(Protocol):
    """What is needed of the grid's `until`."""

    @property
    def interval(self) -> float: ...
    @property
    def max_seeds(self) -> int | None: ...
    @property
    def max_time(self) -> float | None: ...


@dataclass(frozen=True)
class SamplingState:
    """How a cell stands: the mean of each seed that gave times, all seeds that have a record, and a trial's cost."""

    cell: Cell
    means: Mapping[int, float]
    seeds: frozenset[int]
    seconds: float = 0.0

    @property
    def without_times(self) -> bool:
        """Whether its trials end without times: more of them would, too."""
        return len(self.seeds) >= FEWEST_PROCESSES and not self.means


@dataclass(frozen=True)
class Decision:
    """Seeds to add, by the id of their cell, and why each other cell gets none, by its name."""

    seeds: Mapping[str, Sequence[int]]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Cells that are compared with each other."""

    members: tuple[SamplingState, ...]

    @functools.cached_property
    def measured(self) -> list[SamplingState]:
        return [each for each in self.members if not each.without_times]

    @functools.cached_property
    def width(self) -> float:
        """Half the width of its widest interval, as a share; infinite where one has too few processes."""
        pairs = [pair for pair in itertools.combinations(self.measured, 2) if _in_one_thing(*pair)]
        found = [_ratio(*pair) for pair in pairs]
        found += (
            []
            if pairs
            else [statistics.interval(list(each.means.values())) for each in self.measured]
        )
        return max((each.relative_width if each else math.inf for each in found), default=0.0)

    @property
    def cost_s(self) -> float:
        """What one more seed takes."""
        return sum(each.seconds for each in self.measured)

    def next_seeds(self, until: Until) -> list[int]:
        """Its next seeds: half of those that it is likely to take, one at least; none where it is narrow or has all."""
        have = max((len(each.seeds) for each in self.measured), default=0)
        room = (until.max_seeds or MOST_SEEDS) - have
        if self.is_narrow(until) or room <= 0:
            return []
        times_too_wide = (
            _WIDENED * self.width / until.interval
        )  # and intervals shrink with the root of the seeds
        needed = (
            FEWEST_PROCESSES
            if math.isinf(self.width)
            else math.ceil(have * (times_too_wide**2 - 1))
        )
        first = max((seed for each in self.members for seed in each.seeds), default=-1) + 1
        return list(range(first, first + min(room, max(1, math.ceil(needed / 2)))))

    def affordable_seeds(self, until: Until, left_s: float) -> list[int]:
        """As many of its next seeds as there is time for."""
        next_seeds = self.next_seeds(until)
        if left_s <= 0 or self.cost_s * len(next_seeds) <= left_s:
            return next_seeds if left_s > 0 else []
        return next_seeds[: int(left_s / self.cost_s)]

    def is_narrow(self, until: Until) -> bool:
        return _WIDENED * self.width <= until.interval


def decide(
    sampling_states: Iterable[SamplingState], until: Until, left_s: float = math.inf
) -> Decision:
    """Where further seeds go within the `left_s` seconds that remain: to the widest groups first."""
    seeds: dict[str, Sequence[int]] = {}
    reasons: dict[str, str] = {}
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
    """How cells stand: by the seeds of all their records, and by the summaries of those that count."""
    seeds: dict[str, set[int]] = defaultdict(set)
    for cell_id, seed in zip(
        records["cell_id"].to_pylist(), records["seed"].to_pylist(), strict=True
    ):
        seeds[cell_id].add(seed)
    means = {
        cell_id: dict(zip(summary.column("seed"), summary.process_means.tolist(), strict=True))
        for summary in summaries
        for cell_id in summary.column("cell_id")[:1]
    }
    return [
        SamplingState(c, means.get(c.id, {}), frozenset(seeds[c.id]), seconds(c) or 0.0)
        for c in cells
    ]


def added_trials(decision: Decision, planned: Iterable[Trial]) -> list[Trial]:
    """The trials of a decision, made like the planned ones of their cells."""
    models = {trial.cell.id: trial for trial in planned}
    return [
        _seeded(models[cell_id], seed)
        for cell_id, seeds in decision.seeds.items()
        for seed in seeds
    ]


def added_before(sampling_states: Iterable[SamplingState], planned: Iterable[Trial]) -> list[Trial]:
    """The trials that have a record and are not among the planned ones: seeds that were added before."""
    models: dict[str, Trial] = {}
    seeds: dict[str, set[int]] = defaultdict(set)
    for trial in planned:
        models[trial.cell.id] = trial
        seeds[trial.cell.id].add(trial.seed)
    return [
        _seeded(models[s.cell.id], seed)
        for s in sampling_states
        for seed in sorted(s.seeds - seeds[s.cell.id])
    ]


def _seeded(model: Trial, seed: int) -> Trial:
    """A trial of the same cell with another seed; the id is what the grid would give it."""
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


def _in_one_thing(one: SamplingState, other: SamplingState) -> bool:
    """Whether they differ in one of the compared axes alone."""
    mine, theirs = one.cell.settings, other.cell.settings
    return len([axis for axis in COMPARED if mine.get(axis) != theirs.get(axis)]) == 1


def _ratio(one: SamplingState, other: SamplingState) -> Interval | None:
    common = sorted(one.means.keys() & other.means.keys())
    if len(common) < FEWEST_PROCESSES or min(*one.means.values(), *other.means.values()) <= 0:
        return None
    return statistics.paired_ratio(
        [one.means[s] for s in common], [other.means[s] for s in common]
    ).interval()


def _reason(state: SamplingState, group: Group, until: Until) -> str:
    """Why a cell gets no more seeds."""
    if state.without_times:
        return "its trials end without times"
    if group.is_narrow(until):
        return f"narrow enough: ±{group.width:.2%}"
    if group.next_seeds(until):
        return f"no time is left of max_time: ±{group.width:.2%}"
    return f"it has max_seeds: ±{group.width:.2%}"
