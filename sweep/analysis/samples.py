"""The samples of a metric, extracted from the records, with moments and exclusions per trial.

Records are processed batch by batch, in the chunks in which they lie in memory. Joining all
samples doubles the memory, so this happens only when `Samples.values` is read.
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

# Samples that are processed together, few enough to stay in the processor's cache.
_CHUNK = 2**16


class _Part(NamedTuple):
    """One batch of records: the valid samples, record by record, and figures for each record."""

    values: Floats
    sizes: Ints
    means: Floats
    squares: Floats
    disturbed: Ints
    impossible: NDArray[np.bool_]
    without: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Samples:
    """The valid trials of a table: those that ended `ok` and hold the metric.

    `rows` are their rows of the table. `sizes`, `means` and `squares` have an entry per valid
    trial: the number of samples, their mean, and the sum of squared deviations from it. The
    other arrays have an entry per row of the table: `disturbed` counts the samples that are
    excluded, `impossible` marks trials that are excluded for impossible values, and `without`
    marks trials that lack the metric.
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
        """The index in `values` of each valid trial's first sample."""
        starts: Ints = np.cumsum(self.sizes) - self.sizes
        return starts

    @functools.cached_property
    def values(self) -> Floats:
        """All valid samples, trial by trial."""
        values = np.concatenate([part.values for part in self._parts])
        # Excluded rows hold no values, so ascending rows are in order already.
        if np.all(self.rows[1:] > self.rows[:-1]):
            return values
        sizes = np.concatenate([part.sizes for part in self._parts])
        begins = (np.cumsum(sizes) - sizes)[self.rows]
        return values[
            np.repeat(begins - self.starts, self.sizes) + np.arange(int(self.sizes.sum()))
        ]


def metric_metadata(table: pa.Table, metric: str) -> ColumnMetadata:
    """Return the metadata of a metric: that of the records where they hold it."""
    if metric in table.column_names:
        return metadata_of(table.schema.field(metric))
    return metadata(metric)


def take(table: pa.Table, metric: str, order: Ints) -> Samples:
    """Return the samples of a metric, sorted by `order`.

    `order` has a number for each row of the table; rows with a negative number are left out.
    """
    is_time = metric_metadata(table, metric).unit == "s"
    selected = pc.fill_null(pc.equal(table["status"], Status.OK), False).to_numpy() & (order >= 0)
    names = [name for name in (metric, "valid", "status") if name in table.column_names]
    batches = table.select(names).to_batches()
    selected_in = np.split(selected, np.cumsum([len(batch) for batch in batches])[:-1])
    parts = [
        _part(batch, metric, own, is_time) for batch, own in zip(batches, selected_in, strict=True)
    ]
    _, *figures = zip(*parts, strict=True)
    sizes, means, squares, disturbed, impossible, without = map(np.concatenate, figures)
    rows = np.flatnonzero(sizes)
    rows = rows[np.argsort(order[rows], kind="stable")]
    return Samples(
        rows, sizes[rows], means[rows], squares[rows], disturbed, impossible, without, parts
    )


def one_per(samples: Samples, order: Ints, units: Ints) -> Samples:
    """Return one value per unit of replication and group: the mean of its trials' means.

    The value stands in the row of the unit's first trial. `order` is the group of each row of the
    table, as passed to `take`, and `units` the unit of each row.
    """
    keys = order[samples.rows] * (int(units.max(initial=0)) + 1) + units[samples.rows]
    _, first, unit_of = np.unique(keys, return_index=True, return_inverse=True)
    rows = samples.rows[first]
    trials = np.bincount(unit_of, minlength=len(rows))
    means = np.bincount(unit_of, samples.means, len(rows)) / trials
    ones, zeros = np.ones(len(rows), dtype=np.int64), np.zeros(len(rows))
    sizes = np.zeros(len(order), dtype=np.int64)
    sizes[rows] = 1
    left_out = (samples.disturbed, samples.impossible, samples.without)
    unused = np.zeros(len(order))
    part = _Part(means[np.argsort(rows)], sizes, unused, unused, *left_out)
    return Samples(rows, ones, means, zeros, *left_out, [part])


def counts(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Return how many values of a column each record holds."""
    is_list = pa.types.is_list(column.type)
    lengths = pc.fill_null(pc.list_value_length(column), 0) if is_list else pc.is_valid(column)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _part(batch: pa.RecordBatch, metric: str, selected: NDArray[np.bool_], is_time: bool) -> _Part:
    """Return the valid samples of a batch; `selected` marks its candidate records."""
    values, lengths = _flat(batch, metric)
    moments = _moments(values, lengths)
    excluded = _disturbed(batch, lengths)
    wrong = _impossible(values, moments[0], is_time)
    disturbed = _counts_by_record(excluded, lengths) * selected
    impossible = (_counts_by_record(wrong, lengths) > 0) & selected
    is_valid = selected & ~impossible & (lengths > disturbed)
    sizes = (lengths - disturbed) * is_valid
    # Most batches hold valid samples only: their moments are those of all values.
    if not np.array_equal(sizes, lengths):
        kept = np.repeat(is_valid, lengths)
        kept[excluded] = False
        values = values[kept]
        moments = _moments(values, sizes)
    return _Part(values, sizes, *moments, disturbed, impossible, (lengths == 0) & selected)


def _flat(batch: pa.RecordBatch, metric: str) -> tuple[Floats, Ints]:
    """Return all values of a column in one array, and how many each record holds."""
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
    """Return the indices of samples that the records mark as disturbed.

    There are none for a metric that is not per sample: its values do not match the marks.
    """
    none = np.zeros(0, dtype=np.int64)
    if "valid" not in batch.schema.names or batch["valid"].null_count == len(batch):
        return none
    flags = pc.fill_null(batch["valid"].flatten(), True).to_numpy(zero_copy_only=False)
    if flags.all():
        return none
    flag_counts = counts(batch["valid"])
    matches = flag_counts == lengths
    valid = np.ones(int(lengths.sum()), dtype=bool)
    valid[np.repeat(matches, lengths)] = flags[np.repeat(matches, flag_counts)]
    return np.flatnonzero(~valid)


def _impossible(values: Floats, means: Floats, is_time: bool) -> Ints:
    """Return the indices of impossible values: not finite, or times that are not positive."""
    # The fast path reads the values once. NaN fails the comparison, infinity makes a mean infinite.
    if len(values) and values.min() > 0 and np.isfinite(means).all():
        return np.zeros(0, dtype=np.int64)
    possible = np.isfinite(values)
    if is_time:
        possible &= values > 0
    return np.flatnonzero(~possible)


def _counts_by_record(indices: Ints, lengths: Ints) -> Ints:
    """Return how many of these indices into all values belong to each record."""
    records = np.searchsorted(np.cumsum(lengths), indices, side="right")
    return np.bincount(records, minlength=len(lengths)).astype(np.int64)


def _moments(values: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Return each record's mean and sum of squared deviations; 0 for a record without values."""
    has_values = sizes > 0
    moments = np.zeros((2, len(sizes)))
    moments[:, has_values] = _moments_of_filled(values, sizes[has_values])
    return moments[0], moments[1]


def _moments_of_filled(values: Floats, sizes: Ints) -> Floats:
    """Return the moments of records that all have values: (2, records), means then squares."""
    moments = np.empty((2, len(sizes)))
    # One buffer serves all chunks: allocating memory for each would take longer.
    buffer = np.empty(max(_CHUNK, int(sizes.max(initial=0))))
    ends = np.cumsum(sizes)
    first = begin = 0
    while first < len(sizes):
        last = max(first + 1, int(np.searchsorted(ends, begin + _CHUNK, side="right")))
        end = int(ends[last - 1])
        moments[:, first:last] = _moments_of_chunk(
            values[begin:end], sizes[first:last], buffer[: end - begin]
        )
        first, begin = last, end
    return moments


def _moments_of_chunk(values: Floats, sizes: Ints, deviations: Floats) -> tuple[Floats, Floats]:
    """Return the moments of some records; `deviations` is a buffer of the length of `values`."""
    # Impossible values are detected later, by these very moments.
    with np.errstate(invalid="ignore", over="ignore"):
        # Records of one size form a matrix, which is faster to reduce than ragged rows.
        if np.all(sizes == sizes[0]):
            rows, differences = (each.reshape(len(sizes), -1) for each in (values, deviations))
            means = rows.mean(axis=1)
            np.subtract(rows, means[:, np.newaxis], out=differences)
            return means, np.einsum("ij,ij->i", differences, differences)
        starts = np.cumsum(sizes) - sizes
        means = np.add.reduceat(values, starts) / sizes
        np.subtract(values, np.repeat(means, sizes), out=deviations)
        return means, np.add.reduceat(deviations * deviations, starts)
