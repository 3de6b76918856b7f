"""What of a run is shown: its metrics, cells, summaries and comparisons."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sweep.analysis.comparisons import Comparison
from sweep.analysis.run import Run
from sweep.analysis.summary import Summary
from sweep.errors import SweepError
from sweep.report import figures
from sweep.report.figures import Cells, Metric

MOST_COMPARISONS = 6000


class Measured(NamedTuple):
    """All that is drawn: metrics with their summaries, cells, comparisons by metric and axis."""

    metrics: Sequence[Metric]
    summaries: Mapping[str, Sequence[Summary]]
    cells: Cells
    comparisons: Mapping[tuple[str, str], Sequence[Comparison]]

    @property
    def usual(self) -> Sequence[Summary]:
        return self.summaries[self.metrics[0].name]

    @property
    def overs(self) -> list[str]:
        """The axes over which there are comparisons, the usual one first."""
        axes = [axis for metric, axis in self.comparisons if metric == self.metrics[0].name]
        return sorted(axes, key=lambda axis: axis != figures.usual_over(self.cells.axes))


def measure(run: Run) -> Measured:
    names = dict.fromkeys([run.summary()[0].metric, *figures.metrics_of(run)])
    summaries = {each: run.summary(metric=each) for each in names}
    usual = next(iter(summaries.values()))
    cells, metrics = Cells.of(usual), [figures.metric_of(found) for found in summaries.values()]
    return Measured(metrics, summaries, cells, _comparisons(run, cells, metrics))


def _comparisons(
    run: Run, cells: Cells, metrics: Sequence[Metric]
) -> dict[tuple[str, str], Sequence[Comparison]]:
    """Of every time and rate over every axis; of the usual one alone where that would be too many."""
    speeds = [m.name for m in metrics if _is_speed(m) and (m.name != "wall_s" or m is metrics[0])]
    many = len(speeds) * len(cells.axes) * len(cells.rows) > MOST_COMPARISONS
    found = {}
    for metric in speeds[:1] if many else speeds:
        for axis in cells.axes:
            with contextlib.suppress(
                SweepError
            ):  # each cell has a value of its own: nothing to compare
                found[metric, axis] = run.compare(axis, metric=metric)
    return {key: each for key, each in found.items() if each}


def _is_speed(metric: Metric) -> bool:
    return metric.metadata.unit == "s" or metric.metadata.direction == "more"
