"""Summaries: what the records say of each cell."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweep.analysis import origins, statistics
from sweep.analysis.contents import (
    CellContent,
    differ,
    meets_content_conditions,
    split_where,
    with_content_axes,
)
from sweep.analysis.samples import Floats, Ints, Samples, counts, metric_metadata, one_per, take
from sweep.analysis.statistics import Interval
from sweep.axes import CONTENT_AXES, ordered
from sweep.errors import SweepError, nearest
from sweep.grid.conditions import Conditions
from sweep.records.columns import METRICS, ColumnMetadata
from sweep.records.results import Results
from sweep.records.stated import NEVER, Per
from sweep.selection import Axes, Where, check_axes, natural, split
from sweep.status import Status, failed_of_their_own
from sweep.texts import counted

USUAL_METRICS = ("step_s", "epoch_s", "forward_s", "wall_s")
FACTS = (  # of each trial, beside the settings of its cell
    "cell_id",
    "seed",
    "status",
    "block",
    "position",
    "started_at",
    "wall_s",
    "node",
    "host_id",
    "device_name",
    "cpu_model",
    "blas",
    "threads",
    "python",
    "numpy",
    "framework_build",
    "environment_id",
    "code_version",
    "content",
    "steal_ratio",
    "contention_ratio",
    "involuntary_switches",
    "result",
)

_IDENTITIES = frozenset({"cell_id", "status"})
_NOT_AXES = frozenset({"seed", "data_path"})
_PER_TRIAL: tuple[Per, ...] = ("sample", "trial")
_UNITS: Mapping[Per, str] = {
    "host": "host_id",
    "environment": "environment_id",
    "node": "node",
}  # and their columns
_QUANTILES = (0.0, 0.05, 0.5, 0.95)


class _Texts(NamedTuple):
    """A column of text, each different one held once: `texts[codes[i]]` is that of row i. The last is None."""

    codes: NDArray[np.int32]
    texts: Sequence[str | None]

    def at(self, rows: slice | Ints) -> list[str | None]:
        return [self.texts[code] for code in self.codes[rows].tolist()]


@dataclass(frozen=True, eq=False)
class _Figures:
    """Figures of summaries made together, an entry of each array for each; trials `bounds[i]:bounds[i + 1]` are i's."""

    metric: str
    metadata: ColumnMetadata
    samples: Samples
    facts: pa.Table
    bounds: Ints
    cells: Ints
    means: Floats
    variances: Floats
    statuses: Mapping[str, Ints]
    left_out: Mapping[str, Ints]
    units: Sequence[str]  # the unit of replication of each row, empty for one per trial

    @functools.cached_property
    def columns(self) -> Mapping[str, _Texts | pa.Array]:
        """The facts in one piece each: a cell's are then quick to take out."""
        return {name: _in_one_piece(self.facts[name]) for name in self.facts.column_names}


@dataclass(frozen=True, eq=False)
class Summary:
    """One cell, or several where it was asked to look at fewer axes: what it is, and how its trials went.

    Figures are in the metric's unit, NaN where there is nothing to compute them from, and taken out of those of all
    summaries when they are asked for: there may be very many cells. `machine` is the kind of machine where summaries
    are apart by it, the model of the CPU or GPU that computed; None where it is not known, too.
    """

    axes: Axes
    _of: _Figures
    _place: int
    machine: str | None = None

    def __repr__(self) -> str:
        told = f"{self.metric} {self.mean:.4g} {self.unit}".rstrip()
        return f"<Summary of {dict(self.axes)}: {told}, {self.processes} processes>"

    @property
    def metric(self) -> str:
        return self._of.metric

    @property
    def metadata(self) -> ColumnMetadata:
        """What is known of the metric: its unit and meaning, which way is better, what it is one per."""
        return self._of.metadata

    @property
    def unit(self) -> str:
        return self.metadata.unit

    @property
    def cells(self) -> int:
        return int(self._of.cells[self._place])

    @functools.cached_property
    def statuses(self) -> Mapping[str, int]:
        """How many trials ended with each status that any did."""
        return {
            status: n
            for status, counts in self._of.statuses.items()
            if (n := int(counts[self._place]))
        }

    @functools.cached_property
    def left_out(self) -> Mapping[str, int]:
        """What does not count: `impossible` and `without` in trials, `disturbed` in samples.

        `unit unknown` are trials that do count, but whose unit of replication is not recorded.
        """
        return {why: int(counts[self._place]) for why, counts in self._of.left_out.items()}

    @property
    def mean(self) -> float:
        """Mean of the processes' means."""
        return float(self._of.means[self._place])

    @property
    def variance(self) -> float:
        """Sample variance of all samples together, as the quantiles are those of all."""
        return float(self._of.variances[self._place])

    @property
    def trials(self) -> int:
        """Trials that went well or failed for a reason of their own; the rest was kept from it by others."""
        return self.statuses.get(Status.OK, 0) + self._failed

    @property
    def never(self) -> int:
        """Trials that never got to the metric, for a reason of their own: they failed, or did not reach it."""
        return self._failed + (self.left_out["without"] if self.metadata.absent == NEVER else 0)

    @property
    def _failed(self) -> int:
        return sum(failed_of_their_own(self.statuses).values())

    @property
    def asked_for(self) -> bool:
        """Whether the trials were to give the metric: a training without `target_loss` has no time to reach it."""
        return self.metadata.absent == NEVER and self.axes.get("target_loss", True) is not None

    @property
    def processes(self) -> int:
        """Trials that count: ended `ok` and with the metric. Where it is one per host, say: hosts that have one."""
        return int(self._of.bounds[self._place + 1]) - self._first

    @property
    def process_means(self) -> Floats:
        """The mean of each trial that counts."""
        return self._of.samples.means[self._first : self._first + self.processes]

    @functools.cached_property
    def samples(self) -> Floats:
        """All samples that count, process by process."""
        begin = int(self._of.samples.starts[self._first]) if self.processes else 0
        return self._of.samples.values[begin : begin + int(self._sizes.sum())]

    @property
    def sd(self) -> float:
        return float(np.sqrt(self.variance))

    @property
    def min(self) -> float:
        return self._quantiles[0]

    @property
    def p5(self) -> float:
        return self._quantiles[1]

    @property
    def median(self) -> float:
        return self._quantiles[2]

    @property
    def p95(self) -> float:
        return self._quantiles[3]

    @functools.cached_property
    def mad(self) -> float:
        """Median absolute deviation from the median, unscaled."""
        return float(np.median(np.abs(self.samples - self.median))) if len(self.samples) else np.nan

    @functools.cached_property
    def interval(self) -> Interval | None:
        """95 % interval of the mean over processes; None with fewer than three."""
        return statistics.interval(self.process_means, centre=self.mean)

    @functools.cached_property
    def variances(self) -> statistics.Variances | None:
        """Variance between processes and between the samples of one."""
        return statistics.variances(self.by_process())

    def by_process(self) -> list[Floats]:
        """The samples of each trial that counts."""
        return np.split(self.samples, np.cumsum(self._sizes)[:-1]) if self.processes else []

    def units(self) -> list[str]:
        """The unit of replication of each value; empty where that is the trial."""
        rows = self._of.samples.rows[self._first : self._first + self.processes]
        return [self._of.units[row] for row in rows] if self._of.units else []

    def column(self, name: str) -> list[Any]:
        """One of FACTS, for each trial that counts; empty where the records have no such column.

        Or the cell's `settings`, which are those of its first trial: they hold its seed.
        """
        column, end = self._of.columns.get(name), self._first + self.processes
        if isinstance(column, _Texts):
            return column.at(slice(self._first, end))
        return [] if column is None else list(column[self._first : end].to_pylist())

    @property
    def _first(self) -> int:
        return int(self._of.bounds[self._place])

    @property
    def _sizes(self) -> Ints:
        return self._of.samples.sizes[self._first : self._first + self.processes]

    @functools.cached_property
    def _quantiles(self) -> tuple[float, ...]:
        if not len(self.samples):
            return (np.nan,) * len(_QUANTILES)
        return tuple(float(q) for q in np.quantile(self.samples, _QUANTILES))


def records_for(results: Results, metric: str | None) -> pa.Table:
    """Of the records, what a summary is made of."""
    metrics = [metric] if metric else USUAL_METRICS
    columns = ["trial_id", "settings", *FACTS, "valid", *metrics]
    return results.records(columns, null_if_true=["valid"], each=_texts_once)


def _texts_once(table: pa.Table) -> pa.Table:
    """The same records, each different text held once; of settings, those of the first trial of its cell."""
    for place, field in enumerate(table.schema):
        if field.name == "settings" and "cell_id" in table.column_names:
            table = table.set_column(place, "settings", _of_cells(*_settings(table)))
        elif (
            field.name in FACTS and field.name not in _IDENTITIES and pa.types.is_string(field.type)
        ):
            table = table.set_column(place, field.name, table[field.name].dictionary_encode())
    return table


def _of_cells(texts: Sequence[str | None], of_cell: Ints) -> pa.DictionaryArray:
    """For each record what its cell has."""
    return pa.DictionaryArray.from_arrays(
        pa.array(of_cell, pa.int32()), pa.array(texts, pa.string())
    )


def more_units(per: Per, missing: int) -> str:
    """What to do where an interval takes so many more units of replication."""
    if is_per_trial(per):
        return f"use --add-seeds {missing} or more"
    return f"it takes {counted(missing, f'more {per}')}; {_MORE_OF[per]}"


def is_per_trial(per: Per) -> bool:
    """Whether trials are the units of replication, so that more seeds make more of them."""
    return per in _PER_TRIAL


_MORE_OF: Mapping[Per, str] = {
    "host": "more seeds share the import, but with --set process=spawn each trial imports for itself",
    "environment": "more seeds share the environment",
    "node": "more seeds share the node",
}


def check_metric(metric: str) -> str:
    """The metric itself; raises SweepError with the nearest word."""
    if metric not in METRICS:
        raise SweepError(f"there is no metric {metric!r}", nearest(metric, METRICS))
    return metric


def summarize(
    table: pa.Table,
    by: Sequence[str] | None = None,
    metric: str | None = None,
    where: Where | None = None,
    by_machine: bool = False,
) -> list[Summary]:
    """One summary for each cell, in the order of the axes' values; trials that failed are counted in it.

    `by` names the axes that tell summaries apart (`version` splits it from `framework`), by default all of them;
    `where` keeps cells that meet these conditions, see `sweep.grid.conditions`. Without `metric` each workload is told
    in the first of the usual metrics that its trials hold. With `by_machine` there is one for each kind of machine that
    a cell was measured on.
    """
    texts, of_cell = _settings(table)
    cells = _cells(table, texts, of_cell)
    check_axes(
        [name for name in [*(by or []), *(where or {})] if name not in CONTENT_AXES.values()], cells
    )
    groups, of_group = _grouped(cells, by, where or {})
    if not groups:
        return []
    cells_in = np.bincount(of_group[of_group >= 0])
    of_row = of_group[of_cell]
    names: Sequence[str | None] = [None] * len(groups)
    settings = [cells[cell] for cell in _first_of_each(of_group)]
    if by_machine:
        parents, names, of_row = origins.by_machine(table, groups, of_row)
        groups, cells_in = [groups[parent] for parent in parents.tolist()], cells_in[parents]
        settings = [settings[parent] for parent in parents.tolist()]
    facts = table.select([name for name in FACTS if name in table.column_names])
    facts = facts.append_column("settings", _of_cells(texts, of_cell))
    summaries = []
    for name, wanted in _metrics(table, metric, groups, of_row, settings).items():
        own = (
            of_row if len(wanted) == len(groups) else np.where(np.isin(of_row, wanted), of_row, -1)
        )
        of = _figures(table, facts, name, cells_in, own)
        summaries += [Summary(groups[group], of, group, names[group]) for group in wanted]
    return sorted(
        summaries, key=lambda summary: [natural(value) for value in summary.axes.values()]
    )


def _metrics(
    table: pa.Table,
    metric: str | None,
    groups: Sequence[Axes],
    of_row: Ints,
    settings: Sequence[Axes],
) -> dict[str, list[int]]:
    """What to look at, and in which groups."""
    if metric:
        return {metric: list(range(len(groups)))}
    of_workload: dict[Any, list[int]] = {}
    for group, axes in enumerate(groups):
        of_workload.setdefault(axes.get("workload"), []).append(group)
    ok = pc.fill_null(pc.equal(table["status"], Status.OK), False).to_numpy()
    found: dict[str, list[int]] = {}
    for wanted in of_workload.values():
        usual = _usual_metric(table, ok & np.isin(of_row, wanted), settings[wanted[0]])
        found.setdefault(usual, []).extend(wanted)
    return found


def _first_of_each(of_group: Ints) -> list[int]:
    """The first cell of each group."""
    found = np.unique(of_group, return_index=True)
    return [
        cell for group, cell in zip(*(each.tolist() for each in found), strict=True) if group >= 0
    ]


def _usual_metric(table: pa.Table, rows: NDArray[np.bool_], settings: Axes) -> str:
    """The first of the usual metrics that any of these trials holds; where none does, the one that they were to."""
    held = (
        name
        for name in USUAL_METRICS
        if name in table.column_names and (counts(table[name])[rows] > 0).any()
    )
    intended = "epoch_s" if "epochs" in settings and "samples" not in settings else USUAL_METRICS[0]
    return next(held, intended)


def _figures(table: pa.Table, facts: pa.Table, metric: str, cells: Ints, of_row: Ints) -> _Figures:
    """The figures of each group; `of_row` is the group of each record, -1 for none."""
    samples, known = take(table, metric, of_row), metric_metadata(table, metric)
    units, unknown = _units(facts, known.per)
    left_out = _left_out(samples, of_row, len(cells))
    if units:
        _, codes = np.unique(units, return_inverse=True)
        left_out["unit unknown"] = _counted(unknown[samples.rows], of_row[samples.rows], len(cells))
        samples = one_per(samples, of_row, codes)
    bounds = np.searchsorted(of_row[samples.rows], np.arange(len(cells) + 1))
    return _Figures(
        metric,
        known,
        samples,
        facts=_in_order(facts, samples.rows),
        bounds=bounds,
        cells=cells,
        means=_means(samples, bounds),
        variances=_variances(samples, bounds),
        statuses=_statuses(table, of_row, len(cells)),
        left_out=left_out,
        units=units,
    )


def _units(facts: pa.Table, per: Per) -> tuple[list[str], NDArray[np.bool_]]:
    """The unit of replication of each record, and where it is not known; none where that is the trial.

    A record of a version before hosts were told apart has no more than its environment and its node: they count once.
    """
    if is_per_trial(per):
        return [], np.zeros(0, dtype=bool)
    names = (_UNITS[per], "environment_id", "node")
    columns = (_texts(facts, name) for name in names)
    rows = list(zip(*columns, strict=True))
    units = [own or f"{environment}@{node}" for own, environment, node in rows]
    return units, np.array([own is None for own, *_ in rows], dtype=bool)


def _texts(facts: pa.Table, name: str) -> list[str | None]:
    return facts[name].to_pylist() if name in facts.column_names else [None] * len(facts)


def cells_of(table: pa.Table) -> tuple[list[dict[str, Any]], Ints]:
    """The axes and parameters of each different cell, and for each record the number of its cell."""
    texts, of_cell = _settings(table)
    return _cells(table, texts, of_cell), of_cell


def _cells(table: pa.Table, texts: Sequence[str | None], of_cell: Ints) -> list[dict[str, Any]]:
    """The axes and parameters of each cell; contents are told apart where there are several."""
    cells = _axes(texts)
    contents = _of_first(table["content"], of_cell) if "content" in table.column_names else []
    if not differ(contents):
        return cells
    seen = map(CellContent, contents, _first_started(table, of_cell, len(cells)))
    return [ordered(axes) for axes in with_content_axes(cells, list(seen))]


def _first_started(table: pa.Table, of_cell: Ints, cells: int) -> list[dt.datetime | None]:
    """When the first trial of each cell started, where the records say so."""
    if "started_at" not in table.column_names:
        return [None] * cells
    first: list[dt.datetime | None] = [None] * cells
    for cell, started in zip(of_cell.tolist(), table["started_at"].to_pylist(), strict=True):
        first[cell] = min(filter(None, (first[cell], started)), default=None)
    return first


def _settings(table: pa.Table) -> tuple[list[str | None], Ints]:
    """The settings of the first trial of each different cell, and for each record the number of its cell."""
    if not len(table):
        return [], np.zeros(0, dtype=np.int64)
    cells = table["cell_id"].combine_chunks().dictionary_encode(null_encoding="encode")
    codes = cells.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return _of_first(table["settings"], codes), codes


def _of_first(column: pa.ChunkedArray, of_cell: Ints) -> list[str | None]:
    """The text that the first record of each cell has."""
    first = np.flatnonzero(
        np.diff(np.maximum.accumulate(of_cell), prepend=-1)
    )  # cells are numbered as they appear
    if pa.types.is_dictionary(column.type):
        texts = _in_one_piece(column)  # PyArrow would join dictionaries anew for every row
        return texts.at(first)
    return column.take(pa.array(first)).to_pylist()  # type: ignore[no-any-return]


def _axes(texts: Sequence[str | None]) -> list[dict[str, Any]]:
    return [
        ordered(each, _NOT_AXES)
        for each in json.loads(f"[{','.join(text or '{}' for text in texts)}]")
    ]


def _grouped(
    cells: Sequence[dict[str, Any]], by: Sequence[str] | None, where: Where
) -> tuple[list[dict[str, Any]], Ints]:
    """The axes of each group, and for each cell the number of its group, -1 for those that are not wanted."""
    if by is None and not where:
        return list(cells), np.arange(len(cells))
    numbers: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    of_group = np.full(len(cells), -1, dtype=np.int64)
    given, of_contents = split_where(where)
    conditions = Conditions(given)
    # what was measured in several contents is never pooled, whatever axes are named
    names = (
        None if by is None else [*by, *(name for name in CONTENT_AXES.values() if name in cells[0])]
    )
    for cell, settings in enumerate(cells):
        if conditions.holds(settings) and meets_content_conditions(settings, of_contents):
            seen = split(settings) if by and "version" in by else settings
            axes = seen if names is None else {name: seen.get(name) for name in names}
            key = json.dumps(axes)
            if key not in numbers:
                numbers[key] = len(groups)
                groups.append(axes)
            of_group[cell] = numbers[key]
    return groups, of_group


def _in_order(facts: pa.Table, rows: Ints) -> pa.Table:
    untouched = len(rows) == len(facts) and bool(np.all(rows[1:] > rows[:-1]))
    return facts if untouched else facts.take(pa.array(rows))


def _in_one_piece(column: pa.ChunkedArray) -> _Texts | pa.Array:
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    piece = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        return piece
    return _Texts(pc.fill_null(piece.indices, -1).to_numpy(), [*piece.dictionary.to_pylist(), None])


def _sums(values: Floats | Ints, bounds: Ints) -> Floats:
    """The sum of each stretch of values between two bounds, 0 of an empty one."""
    held = np.flatnonzero(np.diff(bounds))
    sums = np.zeros(len(bounds) - 1)
    sums[held] = np.add.reduceat(values, bounds[held]) if len(held) else 0
    return sums


def _means(samples: Samples, bounds: Ints) -> Floats:
    """The mean over the processes of each group; NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return _sums(samples.means, bounds) / np.diff(bounds)


def _variances(samples: Samples, bounds: Ints) -> Floats:
    """Sample variance of all samples of each group; NaN where there are fewer than two."""
    counts = _sums(samples.sizes, bounds)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = _sums(samples.means * samples.sizes, bounds) / counts
        between = (samples.means - np.repeat(means, np.diff(bounds))) ** 2 * samples.sizes
        squares = _sums(samples.squares + between, bounds)
        return np.where(counts > 1, squares / (counts - 1), np.nan)


def _statuses(table: pa.Table, of_row: Ints, groups: int) -> dict[str, Ints]:
    """How many trials of each group ended with each status."""
    encoded = pc.fill_null(table["status"], Status.FAILED).combine_chunks().dictionary_encode()
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    inside = of_row >= 0
    counts = np.bincount(
        of_row[inside] + groups * codes[inside].astype(np.int64), minlength=groups * len(names)
    )
    return dict(zip(names, counts.reshape(len(names), groups), strict=True))


def _left_out(samples: Samples, of_row: Ints, groups: int) -> dict[str, Ints]:
    """By group: samples that are disturbed, trials whose times cannot be, trials without the metric."""
    names = ("disturbed", "impossible", "without")
    left_out = {name: _counted(getattr(samples, name), of_row, groups) for name in names}
    return left_out | {"unit unknown": np.zeros(groups, dtype=np.int64)}


def _counted(weights: NDArray[Any], of_row: Ints, groups: int) -> Ints:
    """The sum of the weights of each group's rows."""
    inside = of_row >= 0
    return np.bincount(of_row[inside], weights[inside], groups).astype(np.int64)
