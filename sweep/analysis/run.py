"""A run, loaded for analysis: `sweep.load("results/core-time")`."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep import grid as grids
from sweep.analysis import (
    claims,
    comparisons,
    contents,
    curves,
    logs,
    matching,
    origins,
    published,
    statistics,
)
from sweep.analysis.comparisons import Comparison
from sweep.analysis.curves import Curve
from sweep.analysis.origins import ORIGINS
from sweep.analysis.published import Agreement, Published
from sweep.analysis.samples import counts
from sweep.analysis.summary import Summary, cells_of, check_metric, records_for, summarize
from sweep.axes import CONTENT_AXES
from sweep.errors import MISSING, SweepError
from sweep.grid.conditions import Conditions
from sweep.records.columns import METRICS, holds_numbers, metadata
from sweep.records.driver import Driver, Liveness
from sweep.records.facts import RunFacts
from sweep.records.layout import RUN_FILE
from sweep.records.results import Damage, Results
from sweep.records.storage import Storage
from sweep.selection import VERSION, check_axes, framework_version


class NoRecords(SweepError):  # noqa: N818  a state of the world, said as users say it
    """There is nothing to analyse, or not what was asked for."""

    exit_code = MISSING


class Run:
    """The records of one run and what follows from them; nothing in it is ever changed.

    `records` is a PyArrow table with one row per trial, its columns in `docs/results.md`. With `where` it is as if only
    trials that meet these conditions had been recorded.
    """

    def __init__(self, place: str | Path | Storage, where: Mapping[str, Any] | None = None) -> None:
        self.results = Results(place)
        self._where = where or {}
        self._read: pa.Table | None = None
        self.unmet: list[str] = []  # what the last `where` named and no cell has
        if not self.results.exists():
            raise SweepError(
                f"{self.results} holds no run",
                "name a folder that sweep run has written, see sweep ls",
            )

    def __repr__(self) -> str:
        return f"sweep.load({str(self.results)!r})"

    @property
    def name(self) -> str:
        return self.results.storage.name

    @functools.cached_property
    def records(self) -> pa.Table:
        return self._narrowed(self.results.records())

    @functools.cached_property
    def facts(self) -> RunFacts:
        """What `run.yaml` says; of a folder that holds records alone, only its name."""
        if not self.results.storage.exists(RUN_FILE):
            return RunFacts(name=self.name, grid="")
        return self.results.facts()

    @property
    def running(self) -> Driver | None:
        """The driver of the sweep that writes to this run now; None where none does or none is heard of."""
        driver = self.results.driver()
        return driver if driver and driver.liveness(time.time()) is Liveness.RUNNING else None

    @property
    def damaged(self) -> list[Damage]:
        """Parts that could not be read the last time that records were."""
        return self.results.damaged

    @functools.cached_property
    def grid(self) -> grids.Grid | None:
        """The grid with the options that were laid over it, not expanded; None where it is not known.

        SweepError where it says what a grid cannot say any more.
        """
        facts = self.facts
        if not facts.grid:
            return None
        return grids.parse(facts.grid, facts.overrides, facts.grid_path, facts.versions)

    @property
    def states_claims(self) -> bool:
        """Whether the grid states claims, which `verify` judges as a family of their own."""
        return bool(grids.document(self.facts.grid, self.facts.overrides).get("claims"))

    @property
    def margin(self) -> float:
        """Differences below it count as none: 1 %, or the machine's own noise floor where that was measured greater."""
        return max(statistics.MARGIN, self.facts.noise_floor)

    @functools.cached_property
    def missing(self) -> list[str]:
        """Names of the planned trials that have no record."""
        return self.without_record(
            self._read if self._read is not None else self.results.records(["trial_id"])
        )

    def without_record(self, known: pa.Table) -> list[str]:
        """Names of the planned trials that are not in this table of records.

        Counts of one table and these add up to the plan, also while trials end: whoever reads records twice counts
        what ends in between neither as recorded nor as missing.
        """
        planned = self.planned
        absent = planned.filter(
            pc.invert(pc.is_in(planned["trial_id"], known["trial_id"].combine_chunks()))
        )
        return list(absent["trial_name"].to_pylist())

    @functools.cached_property
    def planned(self) -> pa.Table:
        """The planned trials, by id and name; empty where no plan is known."""
        plan = self.results.plan()
        return plan.filter(pc.is_valid(plan["trial_id"]))

    @functools.cached_property
    def exclusions(self) -> list[tuple[str, str]]:
        """What the plan leaves out, as names and reasons."""
        plan = self.results.plan()
        left_out = plan.filter(pc.is_valid(plan["excluded"]))
        return list(
            zip(left_out["trial_name"].to_pylist(), left_out["excluded"].to_pylist(), strict=True)
        )

    def summary(
        self,
        by: Sequence[str] | None = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        by_machine: bool = False,
    ) -> list[Summary]:
        """One summary per cell, or per combination of the axes in `by`. Raises SweepError where there is nothing.

        Without `metric` each workload is told in its own usual one, `step_s` or `epoch_s` say. `by_machine` tells
        trials of one cell apart by the kind of machine.
        """
        found = self._summaries(by, metric, where, by_machine)
        if not any(s.processes for s in found) and any(s.left_out["without"] for s in found):
            hint = f"choose another with --metric: {', '.join(self._held())}"
            raise NoRecords(f"no trial of {self.results} holds {found[0].metric}", hint)
        return found

    def curves(self, where: Mapping[str, Any] | None = None) -> list[Curve]:
        """The learning curve of every cell. Raises SweepError where nothing was trained."""
        table = self._narrowed(self.results.records([*curves.COLUMNS, *ORIGINS]))
        table, of_axes = self._chosen(table, where)
        found = curves.curves(table, of_axes)
        if not found:
            raise NoRecords(
                f"no trial of {self.results} was trained",
                "curves are of workload train, see sweep ls",
            )
        if not any(curve.points for curve in found):
            reason = logs.left_out_note(sum(curve.left_out for curve in found))
            hint = "see what one trial recorded with sweep show"
            raise NoRecords(
                f"no trial of {self.results} was validated{reason and ': '}{reason}", hint
            )
        return found

    def compare(
        self,
        over: str,
        baseline: Any = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        margin: float | None = None,
        across_machines: bool = False,
    ) -> list[Comparison]:
        """Every value of an axis against a baseline value, cell by cell; `margin` is the run's own unless given.

        Cells are compared within a kind of machine, unless `across_machines`.
        `over` may name several axes, as `framework,backend`, and `baseline` then gives the value of each.
        """
        summaries = self._to_compare(over, metric, where, not across_machines)
        order = {axis: self._values_of(axis) for axis in matching.axes_of(over)}
        wide = self.margin if margin is None else margin
        return comparisons.over_axis(summaries, over, baseline, order, wide, bool(self.missing))

    def uncompared(
        self,
        found: Sequence[Comparison],
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Summary]:
        """The cells that comparisons of `compare` leave out, since none differs from them in these axes alone."""
        return comparisons.uncompared(self._to_compare(found[0].over, metric, where), found)

    def compare_with(
        self,
        baseline: Run,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        margin: float | None = None,
        ignore: Iterable[str] = (),
        across_machines: bool = False,
        rename: Mapping[str, str] | None = None,
    ) -> list[Comparison]:
        """Each cell of this run against the same cell of another.

        `ignore` names axes that cells may differ in; `rename` axes that have another name in the other run.
        """
        apart = not across_machines
        both = (run.summary(None, metric, where, by_machine=apart) for run in (self, baseline))
        mine, theirs = map(contents.latest, both)
        names = _names(str(self.results), str(baseline.results))
        wide = max(self.margin, baseline.margin) if margin is None else margin
        return comparisons.between_runs(mine, theirs, names, ignore, wide, rename)

    def outdated(
        self, over: str, metric: str | None = None, where: Mapping[str, Any] | None = None
    ) -> list[Summary]:
        """The cells that `compare` leaves out, since their workload, framework or environment has changed since."""
        every = self.summary(None, metric, where)
        last = {id(summary) for summary in contents.latest(every)}
        asked = set(matching.axes_of(over)) & {*CONTENT_AXES.values()}
        return [summary for summary in every if id(summary) not in last and not asked]

    def verify(self) -> list[claims.Judgement]:
        """The grid's claims, held against the records."""
        stated = [claims.parsed(claim) for claim in self.grid.claims] if self.grid else []
        summaries = {claim.metric: self._last(claim.metric) for claim in stated}
        return claims.judge(stated, summaries)

    def published(self) -> list[tuple[Published, list[tuple[Comparison, Agreement]]]]:
        """The figures that the grid has from elsewhere, each with the comparisons here that it speaks of."""
        stated = (
            [published.parsed(entry) for entry in self.grid.file.published] if self.grid else []
        )
        summaries = {each.metric: self._last(each.metric) for each in stated}
        return [
            (each, published.compare_published(each, summaries[each.metric])) for each in stated
        ]

    def _last(self, metric: str) -> list[Summary]:
        """Of what is there now, for what the grid states."""
        return contents.latest(self._summaries(metric=metric, by_machine=True))

    def _summaries(
        self,
        by: Sequence[str] | None = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        by_machine: bool = False,
    ) -> list[Summary]:
        """As `summary`, and also where no trial holds the metric."""
        table, of_axes = self._chosen(self._table(metric), where)
        if metric and (metric not in table.column_names or pa.types.is_null(table[metric].type)):
            check_metric(metric)
        elif metric and not holds_numbers(table.schema.field(metric)):
            raise SweepError(f"{metric} holds no numbers", f"metrics are {', '.join(METRICS)}")
        found = summarize(table, by, metric, of_axes, by_machine)
        if not found:
            raise NoRecords(
                f"no trial of {self.results} is one of those", "leave out some of --where"
            )
        return found

    def _chosen(
        self, table: pa.Table, where: Mapping[str, Any] | None
    ) -> tuple[pa.Table, Mapping[str, Any]]:
        """The records whose origins meet the conditions, and the conditions that are left for axes.

        Raises SweepError where no value of an axis is meant; what else is named in vain is kept in `unmet`.
        """
        if not where:
            return table, {}
        cells = cells_of(table)[0]
        of_axes, of_origins = origins.divided(where, cells)
        named = contents.applicable(where, cells)
        check_axes(named, [*cells, dict.fromkeys(ORIGINS)])
        unmet = Conditions(named).unmet([*cells, *origins.values(table, of_origins)])
        for each in unmet:
            if each.is_all:
                raise NoRecords(f"no cell of {self.results} has {each}", each.hint)
        self.unmet = [f"no cell of {self.results} has {each}; {each.hint}" for each in unmet]
        return origins.narrowed(table, of_origins), of_axes

    def _narrowed(self, table: pa.Table) -> pa.Table:
        """The records that meet the conditions of the run itself."""
        table, of_axes = self._chosen(table, self._where)
        if not of_axes:
            return table
        cells, of_cell = cells_of(table)
        given, of_contents = contents.split_where(of_axes)
        conditions = Conditions(given)
        kept = np.array(
            [
                conditions.holds(cell) and contents.meets_content_conditions(cell, of_contents)
                for cell in cells
            ],
            dtype=bool,
        )
        return table.filter(pa.array(kept[of_cell]))

    def _table(self, metric: str | None) -> pa.Table:
        """The columns that a summary needs, read anew unless all are at hand."""
        table = self.__dict__.get("records")
        if table is None:
            table = records_for(self.results, metric)
            self._read = table.select(["trial_id"])
            table = self._narrowed(table)
        if not len(table):
            if self.damaged:
                part, reason = self.damaged[0]
                raise NoRecords(
                    f"{self.results} holds no records that can be read: {part} is {reason}"
                )
            raise NoRecords(f"{self.results} holds no records yet", "start it with sweep run")
        return table

    def _held(self) -> list[str]:
        """The metrics that some trial holds and of which one way is better."""
        table = self.results.records(
            [name for name in METRICS if metadata(name).direction != "none"]
        )
        return [name for name in table.column_names if counts(table[name]).any()]

    def _to_compare(
        self,
        over: str,
        metric: str | None,
        where: Mapping[str, Any] | None,
        by_machine: bool = False,
    ) -> list[Summary]:
        by = self._axes_with_version_apart(metric) if "version" in matching.axes_of(over) else None
        summaries = self.summary(by, metric, where, by_machine)
        asked = [name for name in matching.axes_of(over) if name in CONTENT_AXES.values()]
        if not asked:
            return contents.latest(summaries)
        return [
            summary
            for summary in summaries
            if all(summary.axes.get(name) is not None for name in asked)
        ]

    def _axes_with_version_apart(self, metric: str | None) -> list[str]:
        names = dict.fromkeys(
            name for summary in self.summary(metric=metric) for name in summary.axes
        )
        return ["framework", "version", *(name for name in names if name != "framework")]

    def _values_of(self, axis: str) -> list[Any]:
        """The values of an axis in the order of the grid."""
        if axis == VERSION:
            return [framework_version(framework) for framework in self._values_of("framework")]
        facts = self.facts
        known = grids.axes(facts.grid, facts.overrides, facts.versions) if facts.grid else {}
        return list(known.get(axis, ()))


def _names(one: str, other: str) -> tuple[str, str]:
    """Short names of two runs that still tell them apart."""
    short = (one.rstrip("/").rpartition("/")[2], other.rstrip("/").rpartition("/")[2])
    return short if short[0] != short[1] else (one, other)
