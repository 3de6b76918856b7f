"""The JSON that the report's script works with: rows, axes, columns and plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweep.analysis.failures import failures
from sweep.analysis.quantities import OwnScale, least, scales_of
from sweep.analysis.run import Run
from sweep.analysis.verdict_warnings import WarningCache
from sweep.report import figures, plots
from sweep.report.figures import Row
from sweep.report.measured import Measured
from sweep.report.plots import Channel

MOST_PROCESSES = 20_000
MOST_MISSING = 1000
# Limits on what the page shows at once.
_MOST = {"cells": 20, "points": 2000, "panels": 12, "rows": 200}


class Column(NamedTuple):
    """A column of a table.

    `power` is the exponent of the chosen metric's unit: 1 for a mean, 2 for a variance, 0 for a
    column without that unit. The title names the unit if `has_room`.
    """

    key: str
    title: str
    numeric: bool = True
    power: int = 0
    has_room: bool = False


_SPREAD = {"median": "median", "sd": "sd", "mad": "MAD", "min": "min", "p5": "p5", "p95": "p95"}
_COLUMNS = {
    "cells": [
        Column("axes", ""),
        Column("processes", "processes"),
        Column("failed", "failed"),
        Column("mean", "mean", power=1, has_room=True),
        Column("interval", "95 % interval", power=1),
        Column("variance", "variance", power=2, has_room=True),
        *(Column(name, title, power=1) for name, title in _SPREAD.items()),
    ],
    "ratios": [
        Column("axes", ""),
        Column("baseline", "baseline", numeric=False),
        Column("speedup", "times as fast"),
        Column("interval", "95 % interval"),
        Column("verdict", "verdict", numeric=False),
        Column("basis", "rests on", numeric=False),
        Column("warnings", "warnings", numeric=False),
    ],
    "causes": [
        Column("status", "status", numeric=False),
        Column("trials", "trials"),
        Column("cause", "cause", numeric=False),
        Column("first", "first of them", numeric=False),
    ],
    "exclusions": [
        Column("name", "left out", numeric=False),
        Column("reason", "reason", numeric=False),
    ],
    "missing": [Column("name", "trial without a record", numeric=False)],
}


def content(run: Run, measured: Measured) -> dict[str, Any]:
    """Return all that the script needs, as values that JSON can hold."""
    axes = measured.cells.axes
    view = plots.View(elapsed=f"elapsed time ({figures.elapsed_scale(run).sign})")
    return {
        "name": run.name,
        "axes": [_axis(each, channel) for each, channel in axes.items()],
        "across": _across(axes),
        "nothing": {"encodings": plots.encodings(plots.NOTHING)},
        "metrics": [
            {"name": m.name, "title": m.title, "sign": m.scale.sign, "scales": _scales(m)}
            for m in measured.metrics
        ],
        "overs": [(axis, axes[axis].title) for axis in measured.overs],
        "chosen": _chosen(measured),
        "most": _MOST,
        "absent": _absent(measured),
        "theme": plots.theme(),
        "plots": {name: _plot(name, kind, view) for name, kind in plots.KINDS.items()},
        "rows": {table: _columnwise(rows) for table, rows in _rows(run, measured).items()},
        "columns": {
            table: [column._asdict() for column in columns] for table, columns in _COLUMNS.items()
        },
    }


def _across(axes: Mapping[str, Channel]) -> dict[str, str]:
    """Return the field along x of a map, for each axis that may be compared over."""
    if len(axes) < 2:
        return {}
    return {axis: figures.across(axes, axis).field for axis in axes}


def _plot(name: str, kind: plots.Kind, view: plots.View) -> dict[str, Any]:
    """Return a plot along placeholders, with what the script needs to replace them."""
    over_time = kind.rows in figures.COURSES
    return {
        "rows": kind.rows,
        "along": kind.along,
        "over_time": over_time,
        "spec": plots.spec(name, view),
    }


def _axis(axis: str, channel: Channel) -> dict[str, Any]:
    return {
        "name": axis,
        "field": channel.field,
        "title": channel.title,
        "numeric": channel.numeric,
        "values": channel.values,
        "labels": channel.labels,
        "encodings": plots.encodings(channel),
    }


def _scales(metric: figures.Metric) -> list[dict[str, Any]]:
    """Return each unit with the least value that uses it; empty if all cells share one unit."""
    if not isinstance(metric.scale, OwnScale):
        return []
    return [{"least": least(each), **each._asdict()} for each in scales_of(metric.scale.unit)]


def _chosen(measured: Measured) -> dict[str, str]:
    """Return the choices that the page starts with."""
    roles = {
        role: channel.field for role, channel in figures.usual_roles(measured.cells.axes).items()
    }
    over = measured.overs[0] if measured.overs else "none"
    return {"metric": measured.metrics[0].name, **roles, "over": over, "when": "position"}


def _rows(run: Run, measured: Measured) -> dict[str, list[Row]]:
    """Return the rows of each table and plot."""
    by_metric = measured.summaries
    with_processes = set(_metrics_with_processes(measured))
    summaries: list[Row] = []
    processes: list[Row] = []
    for metric in measured.metrics:
        own = {"metric": metric.name}
        summaries += [own | row for row in figures.cells(by_metric[metric.name], metric)]
        if metric.name in with_processes:
            processes += [own | row for row in figures.processes(by_metric[metric.name], metric)]
    has_parts = "forward_s" in by_metric and "backward_s" in by_metric
    parts = figures.parts(by_metric["forward_s"], by_metric["backward_s"]) if has_parts else []
    # Even the usual metric alone may have too many processes: then every nth is embedded.
    step = max(1, math.ceil(len(processes) / MOST_PROCESSES))
    return {
        "cells": list(measured.cells.rows),
        "summaries": summaries,
        "processes": processes[::step],
        "parts": parts,
        "ratios": _ratios(measured),
        "curves": [row for row in figures.curves(run, measured.cells) if figures.drawable(row)],
        "causes": [failure._asdict() for failure in failures(run.records)],
        "exclusions": [{"name": left_out, "reason": reason} for left_out, reason in run.exclusions],
        "missing": [{"name": trial} for trial in run.missing[:MOST_MISSING]],
    }


def _ratios(measured: Measured) -> list[Row]:
    """Return the rows of all comparisons, with the kinds of their warnings."""
    cache: WarningCache = {}
    return [
        row
        for comparisons in measured.comparisons.values()
        for row in figures.ratios(comparisons, measured.cells, cache)
    ]


def _metrics_with_processes(measured: Measured) -> list[str]:
    """Return the metrics whose processes are embedded: the usual one, and others while they fit."""
    processes = sum(summary.processes for summary in measured.usual)
    count = max(1, MOST_PROCESSES // max(1, processes))
    return [metric.name for metric in measured.metrics[:count]]


def _absent(measured: Measured) -> dict[str, str]:
    """Return a note for each metric whose processes are not embedded."""
    embedded = _metrics_with_processes(measured)
    reason = "There are too many processes to embed those of every metric"
    note = f"{reason}: here they are of {', '.join(embedded)}."
    return {metric.name: note for metric in measured.metrics if metric.name not in embedded}


def _columnwise(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the rows as columns, which hold each name only once."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in names}
