"""What the page's script works with: rows, axes and plots, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
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
_MOST = {"cells": 20, "points": 2000, "panels": 12, "rows": 200}  # that are shown at once


class Column(NamedTuple):
    """A column of a table; `power` is that of the unit of the metric that is chosen, 0 where it has none.

    The title carries the unit where there is room.
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
    axes = measured.cells.axes
    view = plots.View(elapsed=f"elapsed time ({figures.elapsed_scale(run).sign})")
    return {
        "name": run.name,
        "axes": [_axis(each, channel) for each, channel in axes.items()],
        "across": {axis: figures.across(axes, axis).field for axis in axes}
        if len(axes) > 1
        else {},
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


def _plot(name: str, kind: plots.Kind, view: plots.View) -> dict[str, Any]:
    """A plot along placeholders, with what the script must know to fill them."""
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
        "said": channel.said,
        "encodings": plots.encodings(channel),
    }


def _scales(metric: figures.Metric) -> list[dict[str, Any]]:
    """From where on each unit is used, where the cells of a metric lie too far apart for one."""
    if not isinstance(metric.scale, OwnScale):
        return []
    return [{"least": least(each), **each._asdict()} for each in scales_of(metric.scale.unit)]


def _chosen(measured: Measured) -> dict[str, str]:
    """What is looked at at first."""
    roles = {
        role: channel.field for role, channel in figures.usual_roles(measured.cells.axes).items()
    }
    over = measured.overs[0] if measured.overs else "none"
    return {"metric": measured.metrics[0].name, **roles, "over": over, "when": "position"}


def _rows(run: Run, measured: Measured) -> dict[str, list[Row]]:
    found = measured.summaries
    shown_by_process = set(_by_process(measured))
    summaries: list[Row] = []
    processes: list[Row] = []
    for metric in measured.metrics:
        own = {"metric": metric.name}
        summaries += [own | row for row in figures.cells(found[metric.name], metric)]
        if metric.name in shown_by_process:
            processes += [own | row for row in figures.processes(found[metric.name], metric)]
    both = "forward_s" in found and "backward_s" in found
    return {
        "cells": list(measured.cells.rows),
        "summaries": summaries,
        "processes": processes[:: -(-len(processes) // MOST_PROCESSES) or 1],
        "parts": figures.parts(found["forward_s"], found["backward_s"]) if both else [],
        "ratios": _ratios(measured),
        "curves": [row for row in figures.curves(run, measured.cells) if figures.drawable(row)],
        "causes": [failure._asdict() for failure in failures(run.records)],
        "exclusions": [{"name": left_out, "reason": reason} for left_out, reason in run.exclusions],
        "missing": [{"name": trial} for trial in run.missing[:MOST_MISSING]],
    }


def _ratios(measured: Measured) -> list[Row]:
    """Every comparison, with the kinds of its warnings."""
    cache: WarningCache = {}
    found = measured.comparisons.values()
    return [row for each in found for row in figures.ratios(each, measured.cells, cache)]


def _by_process(measured: Measured) -> list[str]:
    """The metrics whose every process is embedded: as many as there is room for, the usual one always."""
    each = sum(summary.processes for summary in measured.usual)
    return [metric.name for metric in measured.metrics[: max(1, MOST_PROCESSES // max(1, each))]]


def _absent(measured: Measured) -> dict[str, str]:
    """What is to be said where processes are not embedded."""
    there = _by_process(measured)
    told = f"There are too many processes to embed those of every metric: here they are of {', '.join(there)}."
    return {metric.name: told for metric in measured.metrics if metric.name not in there}


def _columnwise(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The same as columns, which repeat no names."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in names}
