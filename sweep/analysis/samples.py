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
from sweep.records.columns import METRICS, unit

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
        if np.all(self.rows[1:] > self.rows[:-1]):  # already in order: whatever is left out has no values
            return values
        sizes = np.concatenate([part.sizes for part in self._parts])
        begins = (np.cumsum(sizes) - sizes)[self.rows]
        return values[np.repeat(begins - self.starts, self.sizes) + np.arange(int(self.sizes.sum()))]


def take(table: pa.Table, metric: str, order: Ints) -> Samples:
    """The samples of the metric, trials in ascending `order` (a number for each row; negative ones are left out)."""
    counted = pc.fill_null(pc.equal(table["status"], "ok"), False).to_numpy() & (order >= 0)
    batches = table.select([name for name in (metric, "valid", "status") if name in table.column_names]).to_batches()
    of_batches = np.split(counted, np.cumsum([len(batch) for batch in batches])[:-1])
    parts = [_part(batch, metric, own) for batch, own in zip(batches, of_batches, strict=True)]
    _, *figures = zip(*parts, strict=True)
    sizes, means, squares, disturbed, impossible, without = map(np.concatenate, figures)
    rows = np.flatnonzero(sizes)
    rows = rows[np.argsort(order[rows], kind="stable")]
    return Samples(rows, sizes[rows], means[rows], squares[rows], disturbed, impossible, without, parts)


def counts(column: pa.ChunkedArray | pa.Array) -> Ints:
    """How many values each record has of a column."""
    known = pc.fill_null(pc.list_value_length(column), 0) if pa.types.is_list(column.type) else pc.is_valid(column)
    return known.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _part(batch: pa.RecordBatch, metric: str, counted: NDArray[np.bool_]) -> _Part:
    values, lengths = _flat(batch, metric)
    valid, possible = _valid(batch, lengths), _possible(values, metric)
    none = np.zeros(len(batch), dtype=np.int64)
    if valid.all() and possible.all():
        disturbed, impossible = none, none > 0
    else:
        trials = np.repeat(np.arange(len(batch)), lengths)
        disturbed = np.bincount(trials[~valid], minlength=len(batch)) * counted
        impossible = (np.bincount(trials[~possible], minlength=len(batch)) > 0) & counted
    counting = counted & ~impossible & (lengths > disturbed)
    if not counting.all() or disturbed.any():
        values = values[valid & np.repeat(counting, lengths)]
    sizes = (lengths - disturbed) * counting
    return _Part(values, sizes, *_moments(values, sizes), disturbed, impossible, (lengths == 0) & counted)


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


def _valid(batch: pa.RecordBatch, lengths: Ints) -> NDArray[np.bool_]:
    """For each value, whether its sample is good; those of metrics that are not per sample are."""
    valid = np.ones(int(lengths.sum()), dtype=bool)
    if "valid" not in batch.schema.names:
        return valid
    own = counts(batch["valid"])
    flags = pc.fill_null(batch["valid"].flatten(), True).to_numpy(zero_copy_only=False)
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


def _moments(values: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Mean of each record's values and the sum of squared deviations from it; 0 for a record without any."""
    found = np.zeros((2, len(sizes)))
    held = np.flatnonzero(sizes)
    ends = np.cumsum(sizes[held])
    first = begin = 0
    while first < len(held):
        last = max(first + 1, int(np.searchsorted(ends, begin + _AT_ONCE)))
        end = int(ends[last - 1])
        found[:, held[first:last]] = _moments_of_few(values[begin:end], sizes[held[first:last]])
        first, begin = last, end
    return found[0], found[1]


def _moments_of_few(values: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    if np.all(sizes == sizes[0]):
        rows = values.reshape(len(sizes), -1)
        means = rows.mean(axis=1)
        deviations = rows - means[:, np.newaxis]
        return means, np.einsum("ij,ij->i", deviations, deviations)
    starts = np.cumsum(sizes) - sizes
    means = np.add.reduceat(values, starts) / sizes
    deviations = values - np.repeat(means, sizes)
    return means, np.add.reduceat(deviations * deviations, starts)
