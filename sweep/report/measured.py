"""The figures of a run that the report shows: its metrics, cells, summaries and comparisons."""

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
    """The metrics with their summaries, the cells, and the comparisons by metric and axis.

    The first metric is the usual one, which the report shows first.
    """

    metrics: Sequence[Metric]
    summaries: Mapping[str, Sequence[Summary]]
    cells: Cells
    comparisons: Mapping[tuple[str, str], Sequence[Comparison]]

    @property
    def usual(self) -> Sequence[Summary]:
        """The summaries of the usual metric."""
        return self.summaries[self.metrics[0].name]

    @property
    def overs(self) -> list[str]:
        """The axes over which the usual metric is compared, the usual axis first."""
        axes = [axis for metric, axis in self.comparisons if metric == self.metrics[0].name]
        return sorted(axes, key=lambda axis: axis != figures.usual_over(self.cells.axes))


def measure(run: Run) -> Measured:
    """Return the figures of a run. Raises SweepError where it has no records."""
    names = dict.fromkeys([run.summary()[0].metric, *figures.metrics_of(run)])
    summaries = {each: run.summary(metric=each) for each in names}
    usual = next(iter(summaries.values()))
    cells, metrics = Cells.of(usual), [figures.metric_of(each) for each in summaries.values()]
    return Measured(metrics, summaries, cells, _comparisons(run, cells, metrics))


def _comparisons(
    run: Run, cells: Cells, metrics: Sequence[Metric]
) -> dict[tuple[str, str], Sequence[Comparison]]:
    """Compare every time and rate over every axis, or only the usual metric in a large run."""
    # The wall time of a trial contains its start, so it is compared only if it is the usual metric.
    speeds = [m.name for m in metrics if _is_speed(m) and (m.name != "wall_s" or m is metrics[0])]
    many = len(speeds) * len(cells.axes) * len(cells.rows) > MOST_COMPARISONS
    comparisons = {}
    for metric in speeds[:1] if many else speeds:
        for axis in cells.axes:
            # There is nothing to compare where each cell has a value of its own.
            with contextlib.suppress(SweepError):
                comparisons[metric, axis] = run.compare(axis, metric=metric)
    return {key: each for key, each in comparisons.items() if each}


def _is_speed(metric: Metric) -> bool:
    return metric.metadata.unit == "s" or metric.metadata.direction == "more"
