"""Summaries: what the records say of each cell."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweep.analysis import statistics
from sweep.analysis.samples import Floats, Ints, Samples, counts, take
from sweep.analysis.statistics import Interval
from sweep.errors import SweepError, nearest
from sweep.records.columns import METRICS, unit
from sweep.selection import Axes, Where, check_axes, matches, natural, ordered, split

USUAL_METRICS = ("step_s", "epoch_s", "forward_s", "wall_s")
FACTS = (
    "cell_id",
    "trial_id",
    "trial_name",
    "settings",
    "seed",
    "status",
    "block",
    "position",
    "started_at",
    "wall_s",
    "node",
    "device_name",
    "cpu_model",
    "blas",
    "cores",
    "threads",
    "environment_id",
    "python",
    "code_version",
    "load_before",
    "steal_ratio",
    "foreign_ratio",
    "involuntary_switches",
)

_NOT_AXES = frozenset({"seed", "data_path"})
_QUANTILES = (0.0, 0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class Summary:
    """One cell, or several where it was asked to look at fewer axes: what it is, and how its trials went.

    Figures are in the metric's unit, NaN where there is nothing to compute them from. `mean` weighs processes alike;
    `variance` and the quantiles are those of all samples together. `trials` are those that count, ended `ok` and with
    the metric, and `process_means` has one entry for each; `left_out` counts what does not: `impossible` and `without`
    in trials, `disturbed` in samples.
    """

    axes: Axes
    metric: str
    unit: str
    cells: int
    statuses: Mapping[str, int]
    left_out: Mapping[str, int]
    mean: float
    variance: float
    process_means: Floats = field(repr=False)
    _samples: Samples = field(repr=False)
    _facts: pa.Table = field(repr=False)
    _first: int

    @functools.cached_property
    def trials(self) -> pa.Table:
        """The facts about each trial that counts."""
        return self._facts.slice(self._first, self.processes)

    @functools.cached_property
    def samples(self) -> Floats:
        """All samples that count, process by process."""
        return self._samples.values[self._begin : self._begin + int(self._sizes.sum())]

    @property
    def processes(self) -> int:
        return len(self.process_means)

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
        return statistics.interval(self.process_means)

    @functools.cached_property
    def variances(self) -> statistics.Variances | None:
        """Variance between processes and between the samples of one."""
        return statistics.variances(self.by_process())

    def by_process(self) -> list[Floats]:
        """The samples of each trial that counts."""
        return np.split(self.samples, np.cumsum(self._sizes)[:-1]) if self.processes else []

    def column(self, name: str) -> list[Any]:
        """A fact of each trial that counts; empty where the records have no such column."""
        return list(self.trials[name].to_pylist()) if name in self.trials.column_names else []

    @property
    def _sizes(self) -> Ints:
        return self._samples.sizes[self._first : self._first + self.processes]

    @property
    def _begin(self) -> int:
        return int(self._samples.starts[self._first]) if self.processes else 0

    @functools.cached_property
    def _quantiles(self) -> tuple[float, ...]:
        if not len(self.samples):
            return (np.nan,) * len(_QUANTILES)
        return tuple(float(q) for q in np.quantile(self.samples, _QUANTILES))


def columns_for(metric: str | None) -> list[str]:
    """The columns that a summary is made of."""
    return [*FACTS, "valid", *([metric] if metric else USUAL_METRICS)]


def known_metric(metric: str) -> str:
    """The metric itself; raises SweepError with the nearest word."""
    if metric not in METRICS:
        raise SweepError(f"there is no metric {metric!r}", nearest(metric, METRICS))
    return metric


def summarize(
    table: pa.Table, by: Sequence[str] | None = None, metric: str | None = None, where: Where | None = None
) -> list[Summary]:
    """One summary for each cell, in the order of the axes' values; trials that failed are counted in it.

    `by` names the axes that tell summaries apart (`version` splits it from `framework`), by default all of them;
    `where` keeps cells with these values, see `selection.matches`. Without `metric` each workload is told in the first
    of the usual metrics that its trials hold.
    """
    cells, of_cell = cells_of(table)
    check_axes([*(by or []), *(where or {})], cells)
    groups, of_group = _grouped(cells, by, where or {})
    if not groups:
        return []
    cells_in = np.bincount(of_group[of_group >= 0]).tolist()
    of_row = of_group[of_cell]
    summaries = []
    for name, wanted in _metrics(table, metric, groups, of_row).items():
        own = of_row if len(wanted) == len(groups) else np.where(np.isin(of_row, wanted), of_row, -1)
        found = _summaries(table, name, groups, cells_in, own)
        summaries += [found[group] for group in wanted]
    return sorted(summaries, key=lambda summary: [natural(value) for value in summary.axes.values()])


def _metrics(table: pa.Table, metric: str | None, groups: Sequence[Axes], of_row: Ints) -> dict[str, list[int]]:
    """What to look at, and in which groups."""
    if metric:
        return {metric: list(range(len(groups)))}
    of_workload: dict[Any, list[int]] = {}
    for group, axes in enumerate(groups):
        of_workload.setdefault(axes.get("workload"), []).append(group)
    found: dict[str, list[int]] = {}
    for wanted in of_workload.values():
        found.setdefault(_usual_metric(table, np.isin(of_row, wanted)), []).extend(wanted)
    return found


def _usual_metric(table: pa.Table, rows: NDArray[np.bool_]) -> str:
    """The first of the usual metrics that any of these trials holds."""
    held = (name for name in USUAL_METRICS if name in table.column_names and (counts(table[name])[rows] > 0).any())
    return next(held, USUAL_METRICS[0])


def _summaries(
    table: pa.Table, metric: str, groups: Sequence[Axes], cells_in: Sequence[int], of_row: Ints
) -> list[Summary]:
    """A summary of each group; `of_row` is the group of each record, -1 for none."""
    samples = take(table, metric, of_row)
    trials = np.searchsorted(of_row[samples.rows], np.arange(len(groups) + 1))
    statuses, left_out = _statuses(table, of_row, len(groups)), _left_out(samples, of_row, len(groups))
    means, spread = _means(samples, trials), _variances(samples, trials)
    sign, facts, bounds = unit(metric), _facts_of(table, samples.rows), trials.tolist()
    return [
        Summary(
            axes=axes,
            metric=metric,
            unit=sign,
            cells=cells_in[i],
            statuses=statuses[i],
            left_out=left_out[i],
            mean=means[i],
            variance=spread[i],
            process_means=samples.means[bounds[i] : bounds[i + 1]],
            _samples=samples,
            _facts=facts,
            _first=bounds[i],
        )
        for i, axes in enumerate(groups)
    ]


def cells_of(table: pa.Table) -> tuple[list[dict[str, Any]], Ints]:
    """The axes and parameters of each different cell, and for each record the number of its cell."""
    if not len(table):
        return [], np.zeros(0, dtype=np.int64)
    cells = table["cell_id"].combine_chunks().dictionary_encode(null_encoding="encode")
    codes = cells.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))  # codes are given in order of appearance
    texts = table["settings"].take(pa.array(first)).to_pylist()
    settings = [json.loads(text or "{}") for text in texts]
    return [ordered({k: v for k, v in each.items() if k not in _NOT_AXES}) for each in settings], codes


def _grouped(
    cells: Sequence[dict[str, Any]], by: Sequence[str] | None, where: Where
) -> tuple[list[dict[str, Any]], Ints]:
    """The axes of each group, and for each cell the number of its group, -1 for those that are not wanted."""
    if by is None and not where:
        return list(cells), np.arange(len(cells))
    numbers: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    of_group = np.full(len(cells), -1, dtype=np.int64)
    for cell, settings in enumerate(cells):
        apart = split(settings)
        if matches({**apart, "framework": settings.get("framework")}, where):
            seen = apart if by and "version" in by else settings
            axes = seen if by is None else {name: seen.get(name) for name in by}
            key = json.dumps(axes)
            if key not in numbers:
                numbers[key] = len(groups)
                groups.append(axes)
            of_group[cell] = numbers[key]
    return groups, of_group


def _facts_of(table: pa.Table, rows: Ints) -> pa.Table:
    facts = table.select([name for name in table.column_names if name in FACTS])
    untouched = len(rows) == len(table) and bool(np.all(rows[1:] > rows[:-1]))
    return facts if untouched else facts.take(pa.array(rows))


def _sums(values: Floats | Ints, bounds: Ints) -> Floats:
    """The sum of each stretch of values between two bounds, 0 of an empty one."""
    held = np.flatnonzero(np.diff(bounds))
    sums = np.zeros(len(bounds) - 1)
    sums[held] = np.add.reduceat(values, bounds[held]) if len(held) else 0
    return sums


def _means(samples: Samples, trials: Ints) -> list[float]:
    """The mean over the processes of each group; NaN where there is none."""
    with np.errstate(invalid="ignore"):
        means: list[float] = (_sums(samples.means, trials) / np.diff(trials)).tolist()
    return means


def _variances(samples: Samples, trials: Ints) -> list[float]:
    """Sample variance of all samples of each group; NaN where there are fewer than two."""
    counts = _sums(samples.sizes, trials)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = _sums(samples.means * samples.sizes, trials) / counts
        between = (samples.means - np.repeat(means, np.diff(trials))) ** 2 * samples.sizes
        squares = _sums(samples.squares + between, trials)
        spread: list[float] = np.where(counts > 1, squares / (counts - 1), np.nan).tolist()
    return spread


def _statuses(table: pa.Table, order: Ints, groups: int) -> list[dict[str, int]]:
    """How many trials of each group ended with each status."""
    counts: list[dict[str, int]] = [{} for _ in range(groups)]
    statuses = pc.fill_null(table["status"], "failed").to_numpy()
    for status in pc.unique(table["status"].fill_null("failed")).to_pylist():
        wanted = order[(statuses == status) & (order >= 0)]
        found = np.bincount(wanted, minlength=groups)
        for group in np.flatnonzero(found).tolist():
            counts[group][status] = int(found[group])
    return counts


def _left_out(samples: Samples, order: Ints, groups: int) -> list[dict[str, int]]:
    """By group: samples that are disturbed, trials whose times cannot be, trials without the metric."""
    weights = {name: getattr(samples, name) for name in ("disturbed", "impossible", "without")}
    inside = order >= 0
    sums = [np.bincount(order[inside], each[inside], groups).astype(int).tolist() for each in weights.values()]
    return [dict(zip(weights, each, strict=True)) for each in zip(*sums, strict=True)]
