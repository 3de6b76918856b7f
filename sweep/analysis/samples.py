"""The samples of a metric, taken out of the records: one long array, and which trial each part of it is of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweep.errors import SweepError
from sweep.records.columns import METRICS, unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Samples(NamedTuple):
    """The trials that count, as `rows` of the table, with their samples one after the other from `starts` on.

    Trials count that ended `ok` and hold the metric. The last three have an entry for every row of the table: samples
    set aside as disturbed, whether the trial is left out for times that cannot be, whether it holds no such metric.
    """

    rows: Ints
    values: Floats
    starts: Ints
    means: Floats
    disturbed: Ints
    impossible: NDArray[np.bool_]
    without: NDArray[np.bool_]


def take(table: pa.Table, metric: str, order: Ints) -> Samples:
    """The samples of the metric, trials in ascending `order` (a number for each row; negative ones are left out)."""
    counted = pc.fill_null(pc.equal(table["status"], "ok"), False).to_numpy() & (order >= 0)
    values, lengths = _flat(table, metric)
    valid, possible = _valid(table, lengths), _possible(values, metric)
    none = np.zeros(len(table), dtype=np.int64)
    if valid.all() and possible.all():
        disturbed, impossible = none, none > 0
    else:
        trials = np.repeat(np.arange(len(table)), lengths)
        disturbed = np.bincount(trials[~valid], minlength=len(table)) * counted
        impossible = (np.bincount(trials[~possible], minlength=len(table)) > 0) & counted
    counting = counted & ~impossible & (lengths > disturbed)
    if not counting.all() or disturbed.any():
        values = values[valid & np.repeat(counting, lengths)]
    left = (lengths - disturbed) * counting
    rows = np.flatnonzero(left)
    rows = rows[np.argsort(order[rows], kind="stable")]
    samples, starts = _gathered(values, left, rows)
    means = np.add.reduceat(samples, starts) / left[rows] if len(rows) else np.zeros(0)
    return Samples(rows, samples, starts, means, disturbed, impossible, (lengths == 0) & counted)


def counts(column: pa.ChunkedArray) -> Ints:
    """How many values each record has of a column."""
    if pa.types.is_list(column.type):
        return pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)  # type: ignore[no-any-return]
    return pc.is_valid(column).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _flat(table: pa.Table, metric: str) -> tuple[Floats, Ints]:
    """All values of a column one after the other, and how many each record has."""
    if metric not in table.column_names or pa.types.is_null(table[metric].type):
        return np.zeros(0), np.zeros(len(table), dtype=np.int64)
    column = table[metric]
    if pa.types.is_list(column.type):
        values, lengths = _elements(column), counts(column)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values, lengths = column.drop_null(), counts(column)
    else:
        raise SweepError(f"{metric} holds no numbers", f"metrics are {', '.join(METRICS)}")
    if values.null_count:
        values = pc.fill_null(values.cast(pa.float64()), np.nan)
    return values.to_numpy().astype(np.float64, copy=False), lengths


def _elements(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)


def _valid(table: pa.Table, lengths: Ints) -> NDArray[np.bool_]:
    """For each value, whether its sample is good; those of metrics that are not per sample are."""
    valid = np.ones(int(lengths.sum()), dtype=bool)
    if "valid" not in table.column_names:
        return valid
    own = counts(table["valid"])
    flags = pc.fill_null(_elements(table["valid"]), True).to_numpy()
    alike = own == lengths
    if alike.all():
        return np.asarray(flags, dtype=bool)
    valid[np.repeat(alike, lengths)] = flags[np.repeat(alike, own)]
    return valid


def _possible(values: Floats, metric: str) -> NDArray[np.bool_]:
    """Whether each value can be one of the metric: finite, and positive if it is a time."""
    if len(values) and values.min() > 0 and values.max() < np.inf:  # NaN fails the comparison
        return np.ones(len(values), dtype=bool)
    return np.isfinite(values) & (values > 0) if unit(metric) == "s" else np.isfinite(values)


def _gathered(values: Floats, counts: Ints, rows: Ints) -> tuple[Floats, Ints]:
    """The values of some rows, in their order, and where each row's begin."""
    lengths = counts[rows]
    starts = np.cumsum(lengths) - lengths
    if np.all(rows[1:] > rows[:-1]):  # already in order: whatever is left out has no values
        return values, starts
    begins = (np.cumsum(counts) - counts)[rows]
    return values[np.repeat(begins - starts, lengths) + np.arange(int(lengths.sum()))], starts
