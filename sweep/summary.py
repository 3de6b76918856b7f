"""Summaries: what the records say of each cell."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep import statistics
from sweep.columns import METRICS, SCHEMA, unit
from sweep.errors import SweepError, nearest
from sweep.samples import Floats, Ints, take
from sweep.selection import Axes, Where, check_axes, matches, natural, ordered, split
from sweep.statistics import Interval

DEFAULT_METRICS = ("step_s", "epoch_s", "forward_s", "wall_s")
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
    trials: pa.Table = field(repr=False)
    samples: Floats = field(repr=False)
    starts: Ints = field(repr=False)
    process_means: Floats = field(repr=False)

    @property
    def processes(self) -> int:
        return len(self.process_means)

    @property
    def mean(self) -> float:
        return float(self.process_means.mean()) if self.processes else np.nan

    @functools.cached_property
    def variance(self) -> float:
        return float(self.samples.var(ddof=1)) if len(self.samples) > 1 else np.nan

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
        return np.split(self.samples, self.starts[1:]) if self.processes else []

    def column(self, name: str) -> list[Any]:
        """A fact of each trial that counts; empty where the records have no such column."""
        return list(self.trials[name].to_pylist()) if name in self.trials.column_names else []

    @functools.cached_property
    def _quantiles(self) -> tuple[float, ...]:
        if not len(self.samples):
            return (np.nan,) * len(_QUANTILES)
        return tuple(float(q) for q in np.quantile(self.samples, _QUANTILES))


def columns_for(metric: str | None) -> list[str]:
    """The columns that a summary is made of."""
    return [*FACTS, "valid", *([metric] if metric else DEFAULT_METRICS)]


def known_metric(metric: str, columns: Iterable[str] = ()) -> str:
    """The metric itself; raises SweepError with the nearest word. Numbers that a plug-in adds are metrics too."""
    known = [*METRICS, *(name for name in columns if name not in SCHEMA.names)]
    if metric not in known:
        raise SweepError(f"there is no metric {metric!r}", nearest(metric, known))
    return metric


def default_metric(table: pa.Table) -> str:
    """The first of the usual metrics that any trial holds."""
    held = (name for name in DEFAULT_METRICS if name in table.column_names and table[name].null_count < len(table))
    return next(held, DEFAULT_METRICS[0])


def summarize(
    table: pa.Table, by: Sequence[str] | None = None, metric: str | None = None, where: Where | None = None
) -> list[Summary]:
    """One summary for each cell, in the order of the axes' values; trials that failed are counted in it.

    `by` names the axes that tell summaries apart (`version` splits it from `framework`), by default all of them;
    `where` keeps cells with these values, see `selection.matches`.
    """
    name = metric or default_metric(table)
    cells, of_cell = cells_of(table)
    check_axes([*(by or []), *(where or {})], cells)
    groups, of_group = _grouped(cells, by, where or {})
    if not groups:
        return []
    order = of_group[of_cell]
    samples = take(table, name, order)
    facts = table.select([c for c in table.column_names if c in FACTS]).take(pa.array(samples.rows))
    bounds = np.searchsorted(order[samples.rows], np.arange(len(groups) + 1))
    ends = np.append(samples.starts, len(samples.values))[bounds]
    counts = _counts(table, order, len(groups))
    left_out = [np.bincount(order[order >= 0], weights[order >= 0], len(groups)) for weights in samples[4:]]
    members = np.bincount(of_group[of_group >= 0], minlength=len(groups))
    summaries = [
        Summary(
            axes,
            name,
            unit(name),
            cells=int(members[i]),
            statuses=counts[i],
            left_out=dict(zip(samples._fields[4:], (int(w[i]) for w in left_out), strict=True)),
            trials=facts.slice(bounds[i], bounds[i + 1] - bounds[i]),
            samples=samples.values[ends[i] : ends[i + 1]],
            starts=samples.starts[bounds[i] : bounds[i + 1]] - ends[i],
            process_means=samples.means[bounds[i] : bounds[i + 1]],
        )
        for i, axes in enumerate(groups)
    ]
    return sorted(summaries, key=lambda summary: [natural(value) for value in summary.axes.values()])


def cells_of(table: pa.Table) -> tuple[list[dict[str, Any]], Ints]:
    """The axes and parameters of each different cell, and for each record the number of its cell."""
    if not len(table):
        return [], np.zeros(0, dtype=np.int64)
    cells = table["cell_id"].combine_chunks().dictionary_encode(null_encoding="encode")
    codes = cells.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(codes, return_index=True)
    texts = table["settings"].take(pa.array(first)).to_pylist()
    settings = [json.loads(text or "{}") for text in texts]
    return [ordered({k: v for k, v in each.items() if k not in _NOT_AXES}) for each in settings], codes


def _grouped(
    cells: Sequence[dict[str, Any]], by: Sequence[str] | None, where: Where
) -> tuple[list[dict[str, Any]], Ints]:
    """The axes of each group, and for each cell the number of its group, -1 for those that are not wanted."""
    numbers: dict[str, int] = {}
    groups: list[dict[str, Any]] = []
    of_group = np.full(len(cells), -1, dtype=np.int64)
    for cell, settings in enumerate(cells):
        apart = split(settings)
        if matches({**apart, "framework": settings.get("framework")}, where):
            seen = apart if by and "version" in by else settings
            axes = seen if by is None else {name: seen.get(name) for name in by}
            key = json.dumps(axes, sort_keys=True)
            if key not in numbers:
                numbers[key] = len(groups)
                groups.append(axes)
            of_group[cell] = numbers[key]
    return groups, of_group


def _counts(table: pa.Table, order: Ints, groups: int) -> list[dict[str, int]]:
    """How many trials of each group ended with each status."""
    statuses = pc.fill_null(table["status"], "failed").combine_chunks().dictionary_encode()
    names = statuses.dictionary.to_pylist()
    wanted = order >= 0
    pairs = Counter(zip(order[wanted].tolist(), statuses.indices.to_numpy()[wanted].tolist(), strict=True))
    counts: list[dict[str, int]] = [{} for _ in range(groups)]
    for (group, status), count in pairs.items():
        counts[group][names[status]] = count
    return counts
