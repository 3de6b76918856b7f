"""Summaries: the figures of each cell, computed from the records.

A run may have very many cells. The figures of all cells are therefore computed together, by
NumPy on whole columns, and a `Summary` is a view of one cell: an index into these arrays.
Independent objects with copies of their samples would take more time and twice the memory.
"""

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
from sweep.records.declared import NEVER, Per
from sweep.records.results import Results
from sweep.selection import Axes, Where, check_axes, natural, split
from sweep.status import Status, failed_of_their_own
from sweep.texts import counted

USUAL_METRICS = ("step_s", "epoch_s", "forward_s", "wall_s")
# The columns that describe each trial, besides the settings of its cell.
FACTS = (
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
# The columns that identify units of replication other than trials.
_UNITS: Mapping[Per, str] = {
    "host": "host_id",
    "environment": "environment_id",
    "node": "node",
}
_QUANTILES = (0.0, 0.05, 0.5, 0.95)


class _TextColumn(NamedTuple):
    """A dictionary-encoded column: `texts[codes[i]]` is the text of row i.

    The last text is None, so that the code -1 stands for a missing text.
    """

    codes: NDArray[np.int32]
    texts: Sequence[str | None]

    def at(self, rows: slice | Ints) -> list[str | None]:
        """Return the texts of some rows."""
        return [self.texts[code] for code in self.codes[rows].tolist()]


@dataclass(frozen=True, eq=False)
class _Figures:
    """The figures of all summaries of one metric; each array has an entry for each summary.

    The trials of summary i are `bounds[i]:bounds[i + 1]` of `samples` and `facts`. `units` has
    the unit of replication of each row, and is empty if that is the trial.
    """

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
    units: Sequence[str]

    @functools.cached_property
    def columns(self) -> Mapping[str, _TextColumn | pa.Array]:
        """The facts as contiguous columns, from which a cell's rows are quickly sliced."""
        return {name: _combined(self.facts[name]) for name in self.facts.column_names}


@dataclass(frozen=True, eq=False)
class Summary:
    """The figures of one cell, or of several cells that are pooled by naming fewer axes.

    Figures are in the unit of the metric, and NaN where there is no value. `machine` is the model
    of the CPU or GPU that computed, if summaries are split by machine; it is None otherwise, and
    where the model is unknown.
    """

    axes: Axes
    _figures: _Figures
    _index: int
    machine: str | None = None

    def __repr__(self) -> str:
        figure = f"{self.metric} {self.mean:.4g} {self.unit}".rstrip()
        return f"<Summary of {dict(self.axes)}: {figure}, {self.processes} processes>"

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self._figures.metric

    @property
    def metadata(self) -> ColumnMetadata:
        """The metric's unit, meaning, better direction, and unit of replication."""
        return self._figures.metadata

    @property
    def unit(self) -> str:
        """The unit of the metric; "" for a plain number."""
        return self.metadata.unit

    @property
    def cells(self) -> int:
        """The number of cells that are pooled."""
        return int(self._figures.cells[self._index])

    @functools.cached_property
    def statuses(self) -> Mapping[str, int]:
        """The number of trials by the status that they ended with."""
        counts = {
            status: int(by_summary[self._index])
            for status, by_summary in self._figures.statuses.items()
        }
        return {status: count for status, count in counts.items() if count}

    @functools.cached_property
    def left_out(self) -> Mapping[str, int]:
        """The numbers of trials and samples that do not count, by reason.

        `impossible` are trials with impossible values, `without` trials without the metric, and
        `disturbed` single samples. `unit unknown` are trials that count although their unit of
        replication was not recorded.
        """
        return {why: int(counts[self._index]) for why, counts in self._figures.left_out.items()}

    @property
    def mean(self) -> float:
        """The mean of the trials' means, so that each trial has the same weight."""
        return float(self._figures.means[self._index])

    @property
    def variance(self) -> float:
        """The sample variance of all samples pooled, as are the quantiles."""
        return float(self._figures.variances[self._index])

    @property
    def trials(self) -> int:
        """The trials that ended `ok` or failed for a reason of their own.

        Trials that something else prevented, such as a node that died, are not counted.
        """
        return self.statuses.get(Status.OK, 0) + self._failed

    @property
    def never_reached(self) -> int:
        """The trials that failed for a reason of their own, or never reached the target."""
        return self._failed + (self.left_out["without"] if self.metadata.absent == NEVER else 0)

    @property
    def _failed(self) -> int:
        return sum(failed_of_their_own(self.statuses).values())

    @property
    def is_expected(self) -> bool:
        """Whether the trials should reach the metric: `target_loss` must be set for a training."""
        return self.metadata.absent == NEVER and self.axes.get("target_loss", True) is not None

    @property
    def processes(self) -> int:
        """The number of valid trials, or of other units of replication such as hosts."""
        return int(self._figures.bounds[self._index + 1]) - self._first

    @property
    def trial_means(self) -> Floats:
        """The mean of each valid trial."""
        return self._figures.samples.means[self._first : self._first + self.processes]

    @functools.cached_property
    def samples(self) -> Floats:
        """All valid samples, trial by trial."""
        begin = int(self._figures.samples.starts[self._first]) if self.processes else 0
        return self._figures.samples.values[begin : begin + int(self._sample_counts.sum())]

    @property
    def sd(self) -> float:
        """The standard deviation of all samples pooled."""
        return float(np.sqrt(self.variance))

    @property
    def min(self) -> float:
        """The smallest sample."""
        return self._quantiles[0]

    @property
    def p5(self) -> float:
        """The 5th percentile of all samples pooled."""
        return self._quantiles[1]

    @property
    def median(self) -> float:
        """The median of all samples pooled."""
        return self._quantiles[2]

    @property
    def p95(self) -> float:
        """The 95th percentile of all samples pooled."""
        return self._quantiles[3]

    @functools.cached_property
    def mad(self) -> float:
        """The median absolute deviation from the median, unscaled."""
        return float(np.median(np.abs(self.samples - self.median))) if len(self.samples) else np.nan

    @functools.cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean over trials; None with fewer than three."""
        return statistics.interval(self.trial_means, centre=self.mean)

    @functools.cached_property
    def variances(self) -> statistics.Variances | None:
        """The variances between trials and within a trial; None with fewer than two trials."""
        return statistics.variances(self.by_trial())

    def by_trial(self) -> list[Floats]:
        """Return the samples of each valid trial."""
        return np.split(self.samples, np.cumsum(self._sample_counts)[:-1]) if self.processes else []

    def units(self) -> list[str]:
        """Return the unit of replication of each value; empty if that is the trial."""
        rows = self._figures.samples.rows[self._first : self._first + self.processes]
        return [self._figures.units[row] for row in rows] if self._figures.units else []

    def column(self, name: str) -> list[Any]:
        """Return the values of one of FACTS, or of `settings`, for each valid trial.

        The list is empty where the records have no such column. The settings are those of the
        cell's first trial, whose seed they hold.
        """
        column, end = self._figures.columns.get(name), self._first + self.processes
        if isinstance(column, _TextColumn):
            return column.at(slice(self._first, end))
        return [] if column is None else list(column[self._first : end].to_pylist())

    @property
    def _first(self) -> int:
        return int(self._figures.bounds[self._index])

    @property
    def _sample_counts(self) -> Ints:
        return self._figures.samples.sizes[self._first : self._first + self.processes]

    @functools.cached_property
    def _quantiles(self) -> tuple[float, ...]:
        if not len(self.samples):
            return (np.nan,) * len(_QUANTILES)
        return tuple(float(q) for q in np.quantile(self.samples, _QUANTILES))


def records_for(results: Results, metric: str | None) -> pa.Table:
    """Return the columns of the records that summaries of a metric need."""
    metrics = [metric] if metric else USUAL_METRICS
    columns = ["trial_id", "settings", *FACTS, "valid", *metrics]
    return results.records(columns, null_if_true=["valid"], each=_dictionary_encoded)


def _dictionary_encoded(table: pa.Table) -> pa.Table:
    """Return records whose columns of text hold each distinct text once, to save memory.

    The settings become those of the first trial of the cell: they differ only in the seed.
    """
    repeated = set(FACTS) - _IDENTITIES
    for index, field in enumerate(table.schema):
        if field.name == "settings" and "cell_id" in table.column_names:
            table = table.set_column(index, "settings", _settings_column(*_settings(table)))
        elif field.name in repeated and pa.types.is_string(field.type):
            table = table.set_column(index, field.name, table[field.name].dictionary_encode())
    return table


def _settings_column(texts: Sequence[str | None], cell_of_row: Ints) -> pa.DictionaryArray:
    """Return the settings of each record's cell as a column."""
    return pa.DictionaryArray.from_arrays(
        pa.array(cell_of_row, pa.int32()), pa.array(texts, pa.string())
    )


def more_units(per: Per, missing: int) -> str:
    """Return the advice for an interval that needs this many more units of replication."""
    if is_per_trial(per):
        return f"use --add-seeds {missing} or more"
    return f"it takes {counted(missing, f'more {per}')}; {_MORE_OF[per]}"


def is_per_trial(per: Per) -> bool:
    """Whether trials are the units of replication, so that more seeds make more of them."""
    return per in _PER_TRIAL


_MORE_OF: Mapping[Per, str] = {
    "host": (
        "more seeds share the import, but with --set process=spawn each trial imports for itself"
    ),
    "environment": "more seeds share the environment",
    "node": "more seeds share the node",
}


def check_metric(metric: str) -> None:
    """Raise SweepError, with the nearest name, for a metric that does not exist."""
    if metric not in METRICS:
        raise SweepError(f"there is no metric {metric!r}", nearest(metric, METRICS))


class _Groups(NamedTuple):
    """Groups of records, each of which becomes a summary.

    For each group there are its axes, its machine, the number of its cells and the settings of
    its first cell. `group_of_row` has the group of each record, -1 for none.
    """

    axes: Sequence[Axes]
    machines: Sequence[str | None]
    cells: Ints
    settings: Sequence[Axes]
    group_of_row: Ints


def summarize(
    table: pa.Table,
    by: Sequence[str] | None = None,
    metric: str | None = None,
    where: Where | None = None,
    by_machine: bool = False,
) -> list[Summary]:
    """Return one summary for each cell, sorted by the values of the axes.

    `by` names the axes that separate summaries, by default all; `version` splits it from
    `framework`. `where` keeps the cells that meet these conditions, see `sweep.grid.conditions`.
    Without `metric`, each workload has the first of the usual metrics that its trials hold. With
    `by_machine` there is a summary for each kind of machine that a cell was measured on. Raises
    SweepError for an axis that no cell has.
    """
    texts, cell_of_row = _settings(table)
    cells = _cells(table, texts, cell_of_row)
    named = [*(by or []), *(where or {})]
    check_axes([name for name in named if name not in CONTENT_AXES.values()], cells)
    axes, group_of_cell = _grouped(cells, by, where or {})
    if not axes:
        return []
    groups = _Groups(
        axes,
        machines=[None] * len(axes),
        cells=np.bincount(group_of_cell[group_of_cell >= 0]),
        settings=[cells[cell] for cell in _first_cells(group_of_cell)],
        group_of_row=group_of_cell[cell_of_row],
    )
    if by_machine:
        groups = _split_by_machine(table, groups)
    facts = table.select([name for name in FACTS if name in table.column_names])
    facts = facts.append_column("settings", _settings_column(texts, cell_of_row))
    summaries = _summaries(table, facts, metric, groups)
    return sorted(
        summaries, key=lambda summary: [natural(value) for value in summary.axes.values()]
    )


def _summaries(
    table: pa.Table, facts: pa.Table, metric: str | None, groups: _Groups
) -> list[Summary]:
    """Return a summary of each group, of one metric or of the usual one of its workload."""
    summaries = []
    for name, members in _metrics(table, metric, groups).items():
        figures = _measured(table, facts, name, groups.cells, _rows_of(groups, members))
        summaries += [
            Summary(groups.axes[group], figures, group, groups.machines[group]) for group in members
        ]
    return summaries


def _split_by_machine(table: pa.Table, groups: _Groups) -> _Groups:
    """Return the groups, each split by the kind of machine of its records."""
    split_groups = origins.by_machine(table, groups.axes, groups.group_of_row)
    parents = split_groups.parents.tolist()
    return _Groups(
        axes=[groups.axes[parent] for parent in parents],
        machines=split_groups.names,
        cells=groups.cells[split_groups.parents],
        settings=[groups.settings[parent] for parent in parents],
        group_of_row=split_groups.of_row,
    )


def _rows_of(groups: _Groups, members: Sequence[int]) -> Ints:
    """Return the group of each record, -1 for records of other groups than `members`."""
    if len(members) == len(groups.axes):
        return groups.group_of_row
    return np.where(np.isin(groups.group_of_row, members), groups.group_of_row, -1)


def _metrics(table: pa.Table, metric: str | None, groups: _Groups) -> dict[str, list[int]]:
    """Return the metrics to summarize, each with the groups that it is used for."""
    if metric:
        return {metric: list(range(len(groups.axes)))}
    by_workload: dict[Any, list[int]] = {}
    for group, axes in enumerate(groups.axes):
        by_workload.setdefault(axes.get("workload"), []).append(group)
    ok = pc.fill_null(pc.equal(table["status"], Status.OK), False).to_numpy()
    by_metric: dict[str, list[int]] = {}
    for members in by_workload.values():
        rows = ok & np.isin(groups.group_of_row, members)
        usual = _usual_metric(table, rows, groups.settings[members[0]])
        by_metric.setdefault(usual, []).extend(members)
    return by_metric


def _first_cells(group_of_cell: Ints) -> list[int]:
    """Return the first cell of each group."""
    groups, first = np.unique(group_of_cell, return_index=True)
    chosen: list[int] = first[groups >= 0].tolist()
    return chosen


def _usual_metric(table: pa.Table, rows: NDArray[np.bool_], settings: Axes) -> str:
    """Return the first of the usual metrics that any of these trials holds.

    Where none holds one, it is the metric that trials with these settings should give.
    """
    held = (
        name
        for name in USUAL_METRICS
        if name in table.column_names and (counts(table[name])[rows] > 0).any()
    )
    intended = "epoch_s" if "epochs" in settings and "samples" not in settings else USUAL_METRICS[0]
    return next(held, intended)


def _measured(
    table: pa.Table, facts: pa.Table, metric: str, cells: Ints, group_of_row: Ints
) -> _Figures:
    """Return the figures of all groups; `group_of_row` has the group of each record, -1 for none.

    `cells` has the number of cells of each group.
    """
    samples, metadata = take(table, metric, group_of_row), metric_metadata(table, metric)
    units, is_unknown = _units(facts, metadata.per)
    left_out = _left_out(samples, group_of_row, len(cells))
    if units:
        _, codes = np.unique(units, return_inverse=True)
        left_out["unit unknown"] = _sums_by_group(
            is_unknown[samples.rows], group_of_row[samples.rows], len(cells)
        )
        samples = one_per(samples, group_of_row, codes)
    # The samples are sorted by group, so the bounds of each group are found by bisection.
    bounds = np.searchsorted(group_of_row[samples.rows], np.arange(len(cells) + 1))
    return _Figures(
        metric,
        metadata,
        samples,
        facts=_taken(facts, samples.rows),
        bounds=bounds,
        cells=cells,
        means=_means(samples, bounds),
        variances=_variances(samples, bounds),
        statuses=_statuses(table, group_of_row, len(cells)),
        left_out=left_out,
        units=units,
    )


def _units(facts: pa.Table, per: Per) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the unit of replication of each record, and which of them were not recorded.

    Both are empty if the unit is the trial. Earlier versions did not record hosts. Their records
    have the environment and the node as their unit, which then counts once.
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
    """Return the axes and parameters of each distinct cell, and the cell's index by record."""
    texts, cell_of_row = _settings(table)
    return _cells(table, texts, cell_of_row), cell_of_row


def _cells(table: pa.Table, texts: Sequence[str | None], cell_of_row: Ints) -> list[dict[str, Any]]:
    """Return the axes and parameters of each cell, with content axes if contents differ."""
    cells = _axes(texts)
    contents = (
        _first_texts(table["content"], cell_of_row) if "content" in table.column_names else []
    )
    if not differ(contents):
        return cells
    seen = map(CellContent, contents, _first_started(table, cell_of_row, len(cells)))
    return [ordered(axes) for axes in with_content_axes(cells, list(seen))]


def _first_started(table: pa.Table, cell_of_row: Ints, cells: int) -> list[dt.datetime | None]:
    """Return the start of the first trial of each cell, None where it was not recorded."""
    if "started_at" not in table.column_names:
        return [None] * cells
    first: list[dt.datetime | None] = [None] * cells
    for cell, started in zip(cell_of_row.tolist(), table["started_at"].to_pylist(), strict=True):
        first[cell] = min(filter(None, (first[cell], started)), default=None)
    return first


def _settings(table: pa.Table) -> tuple[list[str | None], Ints]:
    """Return the settings of the first trial of each cell as JSON, and each record's cell."""
    if not len(table):
        return [], np.zeros(0, dtype=np.int64)
    cells = table["cell_id"].combine_chunks().dictionary_encode(null_encoding="encode")
    codes = cells.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return _first_texts(table["settings"], codes), codes


def _first_texts(column: pa.ChunkedArray, cell_of_row: Ints) -> list[str | None]:
    """Return the text of the first record of each cell."""
    # Cells are numbered in the order in which they appear.
    first = np.flatnonzero(np.diff(np.maximum.accumulate(cell_of_row), prepend=-1))
    if pa.types.is_dictionary(column.type):
        # PyArrow's take would unify the dictionaries of all chunks for every row.
        texts = _combined(column)
        return texts.at(first)
    return column.take(pa.array(first)).to_pylist()  # type: ignore[no-any-return]


def _axes(texts: Sequence[str | None]) -> list[dict[str, Any]]:
    # Parsing one array is faster than parsing many short texts.
    return [
        ordered(each, _NOT_AXES)
        for each in json.loads(f"[{','.join(text or '{}' for text in texts)}]")
    ]


def _grouped(
    cells: Sequence[dict[str, Any]], by: Sequence[str] | None, where: Where
) -> tuple[list[dict[str, Any]], Ints]:
    """Return the axes of each group, and the group of each cell, -1 for cells that are excluded."""
    if by is None and not where:
        return list(cells), np.arange(len(cells))
    numbers: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    group_of_cell = np.full(len(cells), -1, dtype=np.int64)
    on_axes, on_contents = split_where(where)
    conditions = Conditions(on_axes)
    has_version = by is not None and "version" in by
    # Different contents are never pooled, whatever axes are named.
    content_axes = [name for name in CONTENT_AXES.values() if name in cells[0]]
    for cell, settings in enumerate(cells):
        if conditions.holds(settings) and meets_content_conditions(settings, on_contents):
            axes = split(settings) if has_version else settings
            if by is not None:
                axes = {name: axes.get(name) for name in [*by, *content_axes]}
            key = json.dumps(axes)
            if key not in numbers:
                numbers[key] = len(groups)
                groups.append(axes)
            group_of_cell[cell] = numbers[key]
    return groups, group_of_cell


def _taken(facts: pa.Table, rows: Ints) -> pa.Table:
    """Return the facts of these rows, without a copy where that is all of them in order."""
    is_identity = len(rows) == len(facts) and bool(np.all(rows[1:] > rows[:-1]))
    return facts if is_identity else facts.take(pa.array(rows))


def _combined(column: pa.ChunkedArray) -> _TextColumn | pa.Array:
    """Return a column in one contiguous piece; texts are dictionary-encoded."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    piece = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        return piece
    return _TextColumn(
        pc.fill_null(piece.indices, -1).to_numpy(), [*piece.dictionary.to_pylist(), None]
    )


def _sums(values: Floats | Ints, bounds: Ints) -> Floats:
    """Return the sum of the values between each two bounds, 0 where there are none."""
    # `reduceat` returns a value for an empty segment, so these are left out.
    filled = np.flatnonzero(np.diff(bounds))
    sums = np.zeros(len(bounds) - 1)
    sums[filled] = np.add.reduceat(values, bounds[filled]) if len(filled) else 0
    return sums


def _means(samples: Samples, bounds: Ints) -> Floats:
    """Return the mean over the trials of each group; NaN where there is none."""
    with np.errstate(invalid="ignore"):
        return _sums(samples.means, bounds) / np.diff(bounds)


def _variances(samples: Samples, bounds: Ints) -> Floats:
    """Return the sample variance of all samples of each group; NaN with fewer than two.

    The sum of squares consists of the squares within each trial and those of the trials' means
    around the mean of all samples.
    """
    counts = _sums(samples.sizes, bounds)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = _sums(samples.means * samples.sizes, bounds) / counts
        between = (samples.means - np.repeat(means, np.diff(bounds))) ** 2 * samples.sizes
        squares = _sums(samples.squares + between, bounds)
        return np.where(counts > 1, squares / (counts - 1), np.nan)


def _statuses(table: pa.Table, group_of_row: Ints, groups: int) -> dict[str, Ints]:
    """Return the number of trials of each group, by the status that they ended with."""
    encoded = pc.fill_null(table["status"], Status.FAILED).combine_chunks().dictionary_encode()
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    inside = group_of_row >= 0
    # Group and status are combined into one number, which np.bincount can count.
    pairs = group_of_row[inside] + groups * codes[inside].astype(np.int64)
    counts = np.bincount(pairs, minlength=groups * len(names))
    return dict(zip(names, counts.reshape(len(names), groups), strict=True))


def _left_out(samples: Samples, group_of_row: Ints, groups: int) -> dict[str, Ints]:
    """Return the counts by group of what `Summary.left_out` names, by reason."""
    by_row = {
        "disturbed": samples.disturbed,
        "impossible": samples.impossible,
        "without": samples.without,
    }
    left_out = {name: _sums_by_group(each, group_of_row, groups) for name, each in by_row.items()}
    return left_out | {"unit unknown": np.zeros(groups, dtype=np.int64)}


def _sums_by_group(weights: NDArray[Any], group_of_row: Ints, groups: int) -> Ints:
    """Return the sum of the weights of each group's rows."""
    inside = group_of_row >= 0
    return np.bincount(group_of_row[inside], weights[inside], groups).astype(np.int64)
