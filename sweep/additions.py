"""Additions: trials beyond the planned ones, decided from the records so far.

The grid's `until` adds seeds, a bisection its next step. Nothing here runs a trial or writes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sweep import adaptive, bisection, schedule
from sweep.adaptive import Until
from sweep.analysis.summary import Summary, is_per_trial, records_for, summarize
from sweep.bisection import Found, Observed, Step
from sweep.errors import SweepError
from sweep.grid import Cell, Trial
from sweep.records.results import Results

Seconds = Callable[[Cell], float | None]  # what a trial of a cell is expected to take


@dataclass(frozen=True)
class Added:
    """Trials to run next, none where all is done, and all that were planned before.

    `stopped` says why cells get no more seeds, by name.
    """

    trials: Sequence[Trial]
    before: Sequence[Trial]
    stopped: Mapping[str, str] = field(default_factory=dict)


class Additions(Protocol):
    """What decides which trials are added."""

    @property
    def cells(self) -> Sequence[Cell]:
        """Every cell that a trial may be of."""
        ...

    def following(self, results: Results, seconds: Seconds) -> Added | None:
        """What is added now, without trials where all is done; None where nothing ever is."""
        ...


class NoAdditions:
    """Nothing runs beyond the plan."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells

    def following(self, _results: Results, _seconds: Seconds) -> None:
        return None


class MoreSeeds:
    """More seeds where intervals are still too wide, as the grid's `until` wants them."""

    def __init__(
        self, cells: Sequence[Cell], planned: Sequence[Trial], until: Until, order: int = 0
    ) -> None:
        self.cells, self._planned, self._until, self._order = cells, planned, until, order
        self._since = time.monotonic()

    def following(self, results: Results, seconds: Seconds) -> Added:
        until = self._until
        left_s = until.max_time - (time.monotonic() - self._since) if until.max_time else math.inf
        records = records_for(results, None)
        sampling_states = adaptive.sampling_states(self.cells, records, summarize(records), seconds)
        decision = adaptive.decide(sampling_states, until, left_s)
        before = [*self._planned, *adaptive.added_before(sampling_states, self._planned)]
        more = adaptive.added_trials(decision, self._planned)
        return Added(_placed(more, before, self._order), before, decision.reasons)


@dataclass(frozen=True)
class Bisection:
    """The trials of a search over the values of one axis.

    `models` holds one trial of each value, in the order of the axis: others differ from it in the
    seed. Figures are those of `metric`, or of the workload's usual one.
    """

    models: Sequence[Trial]
    margin: float
    metric: str | None = None
    most_blocks: int = bisection.MOST_BLOCKS
    order: int = 0

    @property
    def cells(self) -> Sequence[Cell]:
        return [model.cell for model in self.models]

    def state(self, results: Results | None) -> Step | Found:
        """How far the search is: its next step, or what it has found."""
        return bisection.advance(self.observed(results), self.margin, self.most_blocks)

    def planned(self, results: Results | None) -> list[Trial]:
        """The trials of the search that have a record, and those of its next step."""
        step = self.state(results)
        asked = self._trials(step) if isinstance(step, Step) else []
        return list({trial.id: trial for trial in [*self._recorded(results), *asked]}.values())

    def following(self, results: Results, _seconds: Seconds) -> Added:
        step = self.state(results)
        before = self._recorded(results)
        known = {trial.id for trial in before}
        asked = self._trials(step) if isinstance(step, Step) else []
        return Added(
            _placed([each for each in asked if each.id not in known], before, self.order), before
        )

    def observed(self, results: Results | None) -> list[Observed]:
        """What the records say of each value."""
        if results is None:
            return [Observed() for _ in self.models]
        records, summaries = self._summarized(results)
        for summary in summaries:
            if not is_per_trial(summary.metadata.per):
                hint = "name a metric of which every trial has its own, as step_s"
                raise SweepError(
                    f"a search cannot go by {summary.metric}, of which several trials share one",
                    hint,
                )
        states = adaptive.sampling_states(self.cells, records, summaries, lambda _: None)
        machines = {
            summary.column("cell_id")[0]: _machines(summary)
            for summary in summaries
            if summary.processes
        }
        return [
            Observed(_positive(state.means), state.seeds, machines.get(state.cell.id, {}))
            for state in states
        ]

    def summaries(self, results: Results) -> list[Summary | None]:
        """What is known of each value; None of one without records."""
        _, summaries = self._summarized(results)
        of = {cell_id: each for each in summaries for cell_id in each.column("cell_id")[:1]}
        return [of.get(cell.id) for cell in self.cells]

    def _summarized(self, results: Results) -> tuple[pa.Table, list[Summary]]:
        """The records of the run, and the summaries of the cells that are searched."""
        records = records_for(results, self.metric)
        wanted = pa.array([cell.id for cell in self.cells], pa.string())
        records = records.filter(pc.is_in(records["cell_id"].cast(pa.string()), value_set=wanted))
        return records, summarize(records, metric=self.metric) if len(records) else []

    def _recorded(self, results: Results | None) -> list[Trial]:
        observed = self.observed(results)
        return [
            adaptive.seeded(model, seed)
            for model, known in zip(self.models, observed, strict=True)
            for seed in sorted(known.ended)
        ]

    def _trials(self, step: Step) -> list[Trial]:
        return [
            adaptive.seeded(self.models[value], seed)
            for seed in step.seeds
            for value in step.values
        ]


def _machines(summary: Summary) -> dict[int, str]:
    """The kind of machine that each seed ran on: its CPU, and its GPU if it has one."""
    columns = (summary.column(name) for name in ("seed", "cpu_model", "device_name"))
    return {seed: f"{cpu} {device}" for seed, cpu, device in zip(*columns, strict=False)}


def _positive(means: Mapping[int, float]) -> dict[int, float]:
    """Figures that have a logarithm."""
    return {seed: mean for seed, mean in means.items() if mean > 0}


def _placed(more: Sequence[Trial], before: Sequence[Trial], order: int) -> list[Trial]:
    """New trials in blocks, in random order within each, after those that were planned before."""
    planned = schedule.plan(more, order=order)
    return [
        dataclasses.replace(trial, position=len(before) + place)
        for place, trial in enumerate(planned)
    ]
