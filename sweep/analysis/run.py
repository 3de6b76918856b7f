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


class NoRecords(SweepError):  # noqa: N818  the name says what is missing, as the message does
    """There are no records to analyse, or none that meet the conditions."""

    exit_code = MISSING


class Run:
    """The records of one run, and the summaries and comparisons computed from them; read-only.

    `records` is a PyArrow table with one row per trial; `docs/results.md` describes its columns.
    `where` restricts all results to the trials that meet these conditions.
    """

    def __init__(self, place: str | Path | Storage, where: Mapping[str, Any] | None = None) -> None:
        self.results = Results(place)
        self._where = where or {}
        # The ids of all records that were read last, before `where` narrowed them down.
        self._read: pa.Table | None = None
        # Notes on the conditions of the last `where` that no cell meets.
        self.unmet: list[str] = []
        if not self.results.exists():
            raise SweepError(
                f"{self.results} holds no run",
                "name a folder that sweep run has written, see sweep ls",
            )

    def __repr__(self) -> str:
        return f"sweep.load({str(self.results)!r})"

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.results.storage.name

    @functools.cached_property
    def records(self) -> pa.Table:
        """All records that meet the conditions of the run, with all columns."""
        return self._narrowed(self.results.records())

    @functools.cached_property
    def facts(self) -> RunFacts:
        """The contents of `run.yaml`; only the name where the folder holds no such file."""
        if not self.results.storage.exists(RUN_FILE):
            return RunFacts(name=self.name, grid="")
        return self.results.facts()

    @property
    def running(self) -> Driver | None:
        """The driver of the sweep that writes to this run now; None where none is known to run."""
        driver = self.results.driver()
        return driver if driver and driver.liveness(time.time()) is Liveness.RUNNING else None

    @property
    def damaged(self) -> list[Damage]:
        """The parts of the results that could not be read when records were read last."""
        return self.results.damaged

    @functools.cached_property
    def grid(self) -> grids.Grid | None:
        """The grid with its overrides, not expanded; None where the run does not hold it.

        Raises SweepError where the grid is not valid for this version of sweep.
        """
        facts = self.facts
        if not facts.grid:
            return None
        return grids.parse(facts.grid, facts.overrides, facts.grid_path, facts.versions)

    @property
    def states_claims(self) -> bool:
        """Whether the grid states claims for `verify` to judge."""
        return bool(grids.document(self.facts.grid, self.facts.overrides).get("claims"))

    @property
    def margin(self) -> float:
        """The margin below which differences count as none, as a share.

        It is 1 %, or the noise floor of the machine if a larger one was measured.
        """
        return max(statistics.MARGIN, self.facts.noise_floor)

    @functools.cached_property
    def missing(self) -> list[str]:
        """The names of the planned trials that have no record."""
        recorded = self._read
        if recorded is None:
            recorded = self.results.records(["trial_id"])
        return self.without_record(recorded)

    def without_record(self, recorded: pa.Table) -> list[str]:
        """Return the names of the planned trials that are not in this table of records.

        While a sweep runs, pass the table from which recorded trials are counted. A second
        reading could contain trials that ended in between, and the counts would not add up.
        """
        planned = self.planned
        absent = planned.filter(
            pc.invert(pc.is_in(planned["trial_id"], recorded["trial_id"].combine_chunks()))
        )
        return list(absent["trial_name"].to_pylist())

    @functools.cached_property
    def planned(self) -> pa.Table:
        """The ids and names of the planned trials; empty where the run holds no plan."""
        plan = self.results.plan()
        return plan.filter(pc.is_valid(plan["trial_id"]))

    @functools.cached_property
    def exclusions(self) -> list[tuple[str, str]]:
        """The names of what the plan leaves out, each with its reason."""
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
        """Return one summary per cell, or per combination of the axes in `by`.

        Without `metric` each workload has its usual one, such as `step_s` or `epoch_s`.
        `by_machine` splits each cell by the kind of machine. Raises SweepError where no trial
        holds the metric.
        """
        summaries = self._summaries(by, metric, where, by_machine)
        has_values = any(summary.processes for summary in summaries)
        if not has_values and any(summary.left_out["without"] for summary in summaries):
            hint = f"choose another with --metric: {', '.join(self._recorded_metrics())}"
            raise NoRecords(f"no trial of {self.results} holds {summaries[0].metric}", hint)
        return summaries

    def curves(self, where: Mapping[str, Any] | None = None) -> list[Curve]:
        """Return the learning curve of every cell. Raises SweepError where nothing was trained."""
        table = self._narrowed(self.results.records([*curves.COLUMNS, *ORIGINS]))
        table, of_axes = self._chosen(table, where)
        all_curves = curves.curves(table, of_axes)
        if not all_curves:
            raise NoRecords(
                f"no trial of {self.results} was trained",
                "curves are of workload train, see sweep ls",
            )
        if not any(curve.points for curve in all_curves):
            reason = logs.left_out_note(sum(curve.left_out for curve in all_curves))
            hint = "see what one trial recorded with sweep show"
            raise NoRecords(
                f"no trial of {self.results} was validated{reason and ': '}{reason}", hint
            )
        return all_curves

    def compare(
        self,
        over: str,
        baseline: Any = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        margin: float | None = None,
        across_machines: bool = False,
    ) -> list[Comparison]:
        """Compare every value of an axis with a baseline value, cell by cell.

        `over` may name several axes, as in `framework,backend`; `baseline` then has a value for
        each. `margin` is a share, by default that of the run. Cells are compared within one kind
        of machine, unless `across_machines`. Raises SweepError where nothing can be compared.
        """
        summaries = self._to_compare(over, metric, where, not across_machines)
        order = {axis: self._values_of(axis) for axis in matching.axes_of(over)}
        chosen = self.margin if margin is None else margin
        # A cell whose trials are still missing is a missing comparison; one that the grid leaves
        # out is none.
        return comparisons.over_axis(summaries, over, baseline, order, chosen, bool(self.missing))

    def uncompared(
        self,
        compared: Sequence[Comparison],
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Summary]:
        """Return the cells without a comparison, since no cell differs from them in `over` alone.

        `compared` are the comparisons that `compare` returned.
        """
        summaries = self._to_compare(compared[0].over, metric, where)
        return comparisons.uncompared(summaries, compared)

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
        """Compare each cell of this run with the same cell of another.

        `ignore` names axes in which cells may differ. `rename` maps the name of an axis in either
        run to its name in the other. `margin` is by default the larger one of both runs.
        """
        by_machine = not across_machines
        mine, theirs = (
            contents.latest(run.summary(None, metric, where, by_machine))
            for run in (self, baseline)
        )
        names = _short_names(str(self.results), str(baseline.results))
        chosen = max(self.margin, baseline.margin) if margin is None else margin
        return comparisons.between_runs(mine, theirs, names, ignore, chosen, rename)

    def outdated(
        self, over: str, metric: str | None = None, where: Mapping[str, Any] | None = None
    ) -> list[Summary]:
        """Return the cells that `compare` leaves out because a later content replaced theirs."""
        if set(matching.axes_of(over)) & {*CONTENT_AXES.values()}:
            return []
        every = self.summary(None, metric, where)
        latest = {id(summary) for summary in contents.latest(every)}
        return [summary for summary in every if id(summary) not in latest]

    def verify(self) -> list[claims.Judgement]:
        """Judge the claims of the grid by the records."""
        stated = [claims.parsed(claim) for claim in self.grid.claims] if self.grid else []
        summaries = {claim.metric: self._latest(claim.metric) for claim in stated}
        return claims.judge(stated, summaries)

    def published(self) -> list[tuple[Published, list[tuple[Comparison, Agreement]]]]:
        """Return the published figures of the grid, each with this run's comparisons."""
        stated = (
            [published.parsed(entry) for entry in self.grid.file.published] if self.grid else []
        )
        summaries = {each.metric: self._latest(each.metric) for each in stated}
        return [
            (each, published.compare_published(each, summaries[each.metric])) for each in stated
        ]

    def _latest(self, metric: str) -> list[Summary]:
        """Return the summaries of the latest contents, which the grid's statements are about."""
        return contents.latest(self._summaries(metric=metric, by_machine=True))

    def _summaries(
        self,
        by: Sequence[str] | None = None,
        metric: str | None = None,
        where: Mapping[str, Any] | None = None,
        by_machine: bool = False,
    ) -> list[Summary]:
        """Return summaries as `summary` does, even where no trial holds the metric."""
        table, of_axes = self._chosen(self._table(metric), where)
        if metric and (metric not in table.column_names or pa.types.is_null(table[metric].type)):
            check_metric(metric)
        elif metric and not holds_numbers(table.schema.field(metric)):
            raise SweepError(f"{metric} holds no numbers", f"metrics are {', '.join(METRICS)}")
        summaries = summarize(table, by, metric, of_axes, by_machine)
        if not summaries:
            raise NoRecords(
                f"no trial of {self.results} is one of those", "leave out some of --where"
            )
        return summaries

    def _chosen(
        self, table: pa.Table, where: Mapping[str, Any] | None
    ) -> tuple[pa.Table, Mapping[str, Any]]:
        """Return the records whose origins meet the conditions, and the conditions on axes.

        Raises SweepError where a condition matches no value at all. Conditions of which only
        some values match nothing are noted in `unmet`.
        """
        if not where:
            return table, {}
        cells = cells_of(table)[0]
        of_axes, of_origins = origins.divided(where, cells)
        named = contents.applicable(where, cells)
        check_axes(named, [*cells, dict.fromkeys(ORIGINS)])
        # A condition without any match is probably a typing error. One value of several that
        # matches nothing may be intended, since grids of different runs differ.
        unmet = Conditions(named).unmet([*cells, *origins.values(table, of_origins)])
        for each in unmet:
            if each.is_all:
                raise NoRecords(f"no cell of {self.results} has {each}", each.hint)
        self.unmet = [f"no cell of {self.results} has {each}; {each.hint}" for each in unmet]
        return origins.narrowed(table, of_origins), of_axes

    def _narrowed(self, table: pa.Table) -> pa.Table:
        """Return the records that meet the conditions of the run itself."""
        table, of_axes = self._chosen(table, self._where)
        if not of_axes:
            return table
        cells, cell_of_row = cells_of(table)
        on_axes, on_contents = contents.split_where(of_axes)
        conditions = Conditions(on_axes)
        is_kept = [
            conditions.holds(cell) and contents.meets_content_conditions(cell, on_contents)
            for cell in cells
        ]
        return table.filter(pa.array(np.array(is_kept, dtype=bool)[cell_of_row]))

    def _table(self, metric: str | None) -> pa.Table:
        """Return the columns that a summary needs. Raises SweepError where there are no records.

        The columns are read anew, so that a run that is still growing is up to date, unless all
        columns are in memory already.
        """
        # cached_property keeps its value under its own name.
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

    def _recorded_metrics(self) -> list[str]:
        """Return the metrics that some trial holds and that have a better direction."""
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
        """Return the summaries to compare over these axes: the latest contents, or all of them.

        Contents are compared if `over` names a content axis.
        """
        axes = matching.axes_of(over)
        by = self._axes_with_version_apart(metric) if VERSION in axes else None
        summaries = self.summary(by, metric, where, by_machine)
        content_axes = [name for name in axes if name in CONTENT_AXES.values()]
        if not content_axes:
            return contents.latest(summaries)
        return [
            summary
            for summary in summaries
            if all(summary.axes.get(name) is not None for name in content_axes)
        ]

    def _axes_with_version_apart(self, metric: str | None) -> list[str]:
        """Return the axes of all cells, with framework and version as two axes."""
        names = dict.fromkeys(
            name for summary in self.summary(metric=metric) for name in summary.axes
        )
        return ["framework", "version", *(name for name in names if name != "framework")]

    def _values_of(self, axis: str) -> list[Any]:
        """Return the values of an axis in the order of the grid."""
        if axis == VERSION:
            return [framework_version(framework) for framework in self._values_of("framework")]
        facts = self.facts
        known = grids.axes(facts.grid, facts.overrides, facts.versions) if facts.grid else {}
        return list(known.get(axis, ()))


def _short_names(one: str, other: str) -> tuple[str, str]:
    """Return the names of two runs without their folders, if these differ."""
    short = (one.rstrip("/").rpartition("/")[2], other.rstrip("/").rpartition("/")[2])
    return short if short[0] != short[1] else (one, other)
