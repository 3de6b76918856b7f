"""The samples of a metric, taken out of the records, and what is to be known of each trial's.

They are looked at part by part, as they lie in memory: joining them takes as much again, and is done where somebody
wants to see them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweep.errors import SweepError
from sweep.records.columns import METRICS, ColumnMetadata, metadata, metadata_of
from sweep.status import Status

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_AT_ONCE = 2**16  # samples, so that what is computed of them stays in the cache


class _Part(NamedTuple):
    """Some records: the samples that count, one record after the other, and figures of each record."""

    values: Floats
    sizes: Ints
    means: Floats
    squares: Floats
    disturbed: Ints
    impossible: NDArray[np.bool_]
    without: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Samples:
    """The trials that count, as `rows` of the table, each with its number of samples, their mean and the sum of their
    squared deviations from it; `starts` says where the samples of each begin in `values`.

    Trials count that ended `ok` and hold the metric. The last three have an entry for every row of the table: samples
    set aside as disturbed, whether the trial is left out for times that cannot be, whether it holds no such metric.
    """

    rows: Ints
    sizes: Ints
    means: Floats
    squares: Floats
    disturbed: Ints
    impossible: NDArray[np.bool_]
    without: NDArray[np.bool_]
    _parts: Sequence[_Part]

    @functools.cached_property
    def starts(self) -> Ints:
        starts: Ints = np.cumsum(self.sizes) - self.sizes
        return starts

    @functools.cached_property
    def values(self) -> Floats:
        """All samples, trial by trial."""
        values = np.concatenate([part.values for part in self._parts])
        if np.all(
            self.rows[1:] > self.rows[:-1]
        ):  # already in order: whatever is left out has no values
            return values
        sizes = np.concatenate([part.sizes for part in self._parts])
        begins = (np.cumsum(sizes) - sizes)[self.rows]
        return values[
            np.repeat(begins - self.starts, self.sizes) + np.arange(int(self.sizes.sum()))
        ]


def about(table: pa.Table, metric: str) -> ColumnMetadata:
    """What is known of a metric, as the records themselves say it."""
    return (
        metadata_of(table.schema.field(metric))
        if metric in table.column_names
        else metadata(metric)
    )


def take(table: pa.Table, metric: str, order: Ints) -> Samples:
    """The samples of the metric, trials in ascending `order` (a number for each row; negative ones are left out)."""
    is_time = about(table, metric).unit == "s"
    counted = pc.fill_null(pc.equal(table["status"], Status.OK), False).to_numpy() & (order >= 0)
    batches = table.select(
        [name for name in (metric, "valid", "status") if name in table.column_names]
    ).to_batches()
    of_batches = np.split(counted, np.cumsum([len(batch) for batch in batches])[:-1])
    parts = [
        _part(batch, metric, own, is_time) for batch, own in zip(batches, of_batches, strict=True)
    ]
    _, *figures = zip(*parts, strict=True)
    sizes, means, squares, disturbed, impossible, without = map(np.concatenate, figures)
    rows = np.flatnonzero(sizes)
    rows = rows[np.argsort(order[rows], kind="stable")]
    return Samples(
        rows, sizes[rows], means[rows], squares[rows], disturbed, impossible, without, parts
    )


def one_per(samples: Samples, order: Ints, units: Ints) -> Samples:
    """One value for each unit of replication of each group: the mean of its trials', in the row of the first of them.

    `order` is the group of each row of the table, as `take` was given it, and `units` the unit of each row.
    """
    keys = order[samples.rows] * (int(units.max(initial=0)) + 1) + units[samples.rows]
    _, first, unit_of = np.unique(keys, return_index=True, return_inverse=True)
    rows = samples.rows[first]
    means = np.bincount(unit_of, samples.means, len(rows)) / np.bincount(
        unit_of, minlength=len(rows)
    )
    ones, zeros = np.ones(len(rows), dtype=np.int64), np.zeros(len(rows))
    sizes = np.zeros(len(order), dtype=np.int64)
    sizes[rows] = 1
    left_out = (samples.disturbed, samples.impossible, samples.without)
    part = _Part(
        means[np.argsort(rows)], sizes, np.zeros(len(order)), np.zeros(len(order)), *left_out
    )
    return Samples(rows, ones, means, zeros, *left_out, [part])


def counts(column: pa.ChunkedArray | pa.Array) -> Ints:
    """How many values each record has of a column."""
    known = (
        pc.fill_null(pc.list_value_length(column), 0)
        if pa.types.is_list(column.type)
        else pc.is_valid(column)
    )
    return known.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _part(batch: pa.RecordBatch, metric: str, counted: NDArray[np.bool_], is_time: bool) -> _Part:
    values, lengths = _flat(batch, metric)
    moments = _moments(values, lengths)
    set_aside, broken = _disturbed(batch, lengths), _impossible(values, moments[0], is_time)
    disturbed = _by_record(set_aside, lengths) * counted
    impossible = (_by_record(broken, lengths) > 0) & counted
    counting = counted & ~impossible & (lengths > disturbed)
    sizes = (lengths - disturbed) * counting
    if not np.array_equal(sizes, lengths):
        kept = np.repeat(counting, lengths)
        kept[set_aside] = False
        values = values[kept]
        moments = _moments(values, sizes)
    return _Part(values, sizes, *moments, disturbed, impossible, (lengths == 0) & counted)


def _flat(batch: pa.RecordBatch, metric: str) -> tuple[Floats, Ints]:
    """All values of a column one after the other, and how many each record has."""
    if metric not in batch.schema.names or pa.types.is_null(batch[metric].type):
        return np.zeros(0), np.zeros(len(batch), dtype=np.int64)
    column = batch[metric]
    if pa.types.is_list(column.type):
        values = column.flatten()
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.drop_null()
    else:
        raise SweepError(f"{metric} holds no numbers", f"metrics are {', '.join(METRICS)}")
    if values.null_count:
        values = pc.fill_null(values.cast(pa.float64()), np.nan)
    return values.to_numpy().astype(np.float64, copy=False), counts(column)


def _disturbed(batch: pa.RecordBatch, lengths: Ints) -> Ints:
    """Where samples are that the records themselves call disturbed; none of metrics that are not per sample."""
    nowhere = np.zeros(0, dtype=np.int64)
    if "valid" not in batch.schema.names or batch["valid"].null_count == len(batch):
        return nowhere
    flags = pc.fill_null(batch["valid"].flatten(), True).to_numpy(zero_copy_only=False)
    if flags.all():
        return nowhere
    own = counts(batch["valid"])
    alike = own == lengths
    valid = np.ones(int(lengths.sum()), dtype=bool)
    valid[np.repeat(alike, lengths)] = flags[np.repeat(alike, own)]
    return np.flatnonzero(~valid)


def _impossible(values: Floats, means: Floats, is_time: bool) -> Ints:
    """Where values are that the metric cannot have: not finite, or times that are not positive."""
    if len(values) and values.min() > 0 and np.isfinite(means).all():  # NaN fails the comparison
        return np.zeros(0, dtype=np.int64)
    possible = np.isfinite(values) & (values > 0) if is_time else np.isfinite(values)
    return np.flatnonzero(~possible)


def _by_record(places: Ints, lengths: Ints) -> Ints:
    """How many of these places among all values are of each record."""
    records = np.searchsorted(np.cumsum(lengths), places, side="right")
    return np.bincount(records, minlength=len(lengths)).astype(np.int64)


def _moments(values: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Mean of each record's values and the sum of squared deviations from it; 0 for a record without any."""
    held = sizes > 0
    found = np.zeros((2, len(sizes)))
    found[:, held] = _moments_of_all(values, sizes[held])
    return found[0], found[1]


def _moments_of_all(values: Floats, sizes: Ints) -> Floats:
    """The same of records that all have values: first row means, second row sums of squares."""
    found = np.empty((2, len(sizes)))
    room = np.empty(
        max(_AT_ONCE, int(sizes.max(initial=0)))
    )  # fresh memory for each stretch would take longer to get
    ends = np.cumsum(sizes)
    first = begin = 0
    while first < len(sizes):
        last = max(first + 1, int(np.searchsorted(ends, begin + _AT_ONCE, side="right")))
        end = int(ends[last - 1])
        found[:, first:last] = _moments_of_few(
            values[begin:end], sizes[first:last], room[: end - begin]
        )
        first, begin = last, end
    return found


def _moments_of_few(values: Floats, sizes: Ints, deviations: Floats) -> tuple[Floats, Floats]:
    """The same of some of them; `deviations` is where those of each value from its mean are put."""
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # of values that cannot be, which are yet to be found
        if np.all(sizes == sizes[0]):
            rows, apart = (each.reshape(len(sizes), -1) for each in (values, deviations))
            means = rows.mean(axis=1)
            np.subtract(rows, means[:, np.newaxis], out=apart)
            return means, np.einsum("ij,ij->i", apart, apart)
        starts = np.cumsum(sizes) - sizes
        means = np.add.reduceat(values, starts) / sizes
        np.subtract(values, np.repeat(means, sizes), out=deviations)
        return means, np.add.reduceat(deviations * deviations, starts)
