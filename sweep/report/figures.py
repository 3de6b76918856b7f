"""Figures: the rows that plots are drawn from, and single plots of a run.

Rows hold numbers in the unit that is shown, and texts for people. The fields of axes are named
`a0`, `a1` and so on, since an axis may have any name, and Vega-Lite reads dots and brackets in
the name of a field as a path.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep import axes as built_in
from sweep.analysis.comparisons import Comparison
from sweep.analysis.logs import Log, left_out_note, log_of
from sweep.analysis.matching import axes_of, comparable_axes, nothing_to_compare
from sweep.analysis.origins import MACHINES
from sweep.analysis.quantities import NOTHING, OwnScale, Scale, column_scale, factor, quantity
from sweep.analysis.run import NoRecords, Run
from sweep.analysis.samples import Ints, counts
from sweep.analysis.summary import Summary, cells_of
from sweep.analysis.verdict_warnings import WarningCache, verdict_warnings
from sweep.analysis.wording import basis
from sweep.errors import SweepError, nearest
from sweep.records.columns import METRICS, ColumnMetadata, is_declared, is_measured, unit
from sweep.report import plots
from sweep.report.plots import Channel
from sweep.selection import Axes, natural, shown, varying
from sweep.status import Status, without_times

Row = dict[str, Any]

ROLES = ("x", "colour", "shape", "panels")
_USUAL = ("step_s", "forward_s", "backward_s", "device_s", "data_s", "epoch_s")
_NOT_SHOWN = frozenset({"warmup_s", "elapsed_s", "user_s", "system_s", "import_s"})
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_POINTS_OF_A_CURVE = 120
_MOST_LETTERS = 5
_NO_MAP = "draw speedup instead"
COURSES = {
    "loss": ("iteration", "elapsed_s"),
    "validation_loss": ("validation_epoch", "validation_elapsed_s"),
    "validation_pck": ("validation_epoch", "validation_elapsed_s"),
}


class Metric(NamedTuple):
    """A metric, with the unit in which it is shown."""

    name: str
    scale: Scale | OwnScale
    metadata: ColumnMetadata

    @property
    def better(self) -> str:
        """The words between a speed-up and its baseline: `2.3 times as fast as torch`."""
        if self.metadata.unit == "s" or self.metadata.unit.endswith("/s"):
            return "times as fast as"
        return f"times {self.metadata.direction} {self.name} than"

    @property
    def sign(self) -> str:
        """The unit of the numbers that are drawn."""
        return self.scale.unit if isinstance(self.scale, OwnScale) else self.scale.sign

    @property
    def title(self) -> str:
        """The heading of the metric, with its unit."""
        sign = f" ({self.sign})" if self.sign else ""
        return f"{self.name.removesuffix('_s').removesuffix('_bytes').replace('_', ' ')}{sign}"


@dataclass(frozen=True)
class Cells:
    """The cells of a run in their order, and the axes that distinguish them."""

    axes: Mapping[str, Channel]
    rows: Sequence[Row] = field(repr=False)
    _indices: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, summaries: Sequence[Summary]) -> Cells:
        """Return the cells of these summaries."""
        every = [summary.axes for summary in summaries]
        axes = {
            name: channel(i, name, [each.get(name) for each in every])
            for i, name in enumerate(varying(every))
        }
        rows = [fields(each, axes) | {"label": label(each, axes)} for each in every]
        return cls(axes, rows, {_key(each): i for i, each in enumerate(every)})

    def index(self, axes: Axes) -> int | None:
        """Return the index of the cell with these axes; None if there is none."""
        return self._indices.get(_key(axes))


@dataclass(frozen=True)
class Choice:
    """What a single plot shows; what is not given has its usual value.

    `roles` maps ROLES to names of axes.
    """

    metric: str | None = None
    where: Mapping[str, Any] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    over: str | None = None
    baseline: str | None = None


def picture(run: Run, kind: str, choice: Choice) -> dict[str, Any]:
    """Return a plot of the run with its rows, as a Vega-Lite specification.

    Raises SweepError where there is nothing to draw.
    """
    wanted = plots.kind_named(kind).rows
    chosen = choice.metric or run.summary(where=choice.where)[0].metric
    summaries = run.summary(metric=chosen, where=choice.where)
    cells, metric = Cells.of(summaries), metric_of(summaries)
    if wanted == "ratios" and not choice.over and not comparable_axes(cells.axes):
        raise nothing_to_compare(list(cells.axes))
    over = choice.over or usual_over(cells.axes)
    roles = _roles(kind, cells.axes, choice.roles, over)
    if wanted == "ratios":
        comparisons = run.compare(over, choice.baseline, chosen, choice.where)
        # A map has a square even where there is no speed-up.
        rows = [row for row in ratios(comparisons, cells) if row["speedup"] or kind == "heatmap"]
    elif wanted in COURSES:
        rows = [row for row in curves(run, cells) if row["of"] == wanted and drawable(row)]
    else:
        rows = _rows_of(run, wanted, summaries, metric, choice)
    if not rows:
        raise NoRecords(
            f"{run.results} holds nothing that plot {kind} could show",
            "see sweep plot --help for others",
        )
    view = _view(run, roles, metric, rows)
    left = _left(plots.kind_named(kind).along, roles["x"], over, cells.axes)
    return plots.spec(kind, view, [_drawable(row, cells, left) for row in rows])


def over_time(roles: Mapping[str, Channel]) -> dict[str, Channel]:
    """Return the roles of a plot over elapsed time, whose x axis shows no axis of the grid.

    The axis of x is shown by dashes instead, unless it has another role or dashes are taken.
    """
    taken = {roles[role].field for role in ("colour", "panels")} | {plots.NOTHING.field}
    free = roles["shape"].field == plots.NOTHING.field and roles["x"].field not in taken
    return {**roles, "shape": roles["x"]} if free else dict(roles)


def across(axes: Mapping[str, Channel], over: str, x: Channel | None = None) -> Channel:
    """Return the axis along x of a map: the given one, or the usual one among the others.

    Raises SweepError where it would be the axis that is compared over.
    """
    others = {name: channel for name, channel in axes.items() if name not in axes_of(over)}
    if not others:
        raise SweepError(
            f"a map needs a second axis beside {over}, and no other tells cells apart", _NO_MAP
        )
    if x is None:
        return usual_roles(others)["x"]
    if x not in others.values():
        raise SweepError(f"a map over {over} needs another axis along x", nearest("", others))
    return x


def distinction(row: Row, axes: Iterable[Channel], left: Collection[str]) -> str:
    """Return the text that identifies the line, band or panel of a row.

    It names the values of all axes except those whose fields are in `left`.
    """
    texts = [
        dict(zip(axis.values, axis.labels, strict=True)).get(row.get(axis.field))
        for axis in axes
        if axis.field not in left
    ]
    return " · ".join(text for text in texts if text not in (None, NOTHING))


def channel(place: int, name: str, values: Iterable[Any]) -> Channel:
    """Return the channel of an axis; `batch_exponent` is drawn by its batch size."""
    distinct = sorted({repr(v): v for v in values}.values(), key=natural)
    present = [v for v in distinct if v is not None]
    numeric = bool(present) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in present
    )
    labels = {plotted_value(name, v, numeric): value_label(name, v) for v in distinct}
    # A missing value has no position on a numeric scale.
    labels.pop(None, None)
    return Channel(f"a{place}", built_in.title(name), list(labels), numeric, list(labels.values()))


def fields(axes: Axes, channels: Mapping[str, Channel]) -> Row:
    """Return the axes of a cell as fields of a row."""
    return {
        channel.field: plotted_value(name, axes.get(name), channel.numeric)
        for name, channel in channels.items()
    }


def label(axes: Axes, names: Iterable[str]) -> str:
    """Return a short text for a cell, by the axes named: `torch==2.13.0 · batch 32`."""
    labels = [value_label(name, axes[name]) for name in names if axes.get(name) is not None]
    return " · ".join(labels) or "all"


def plotted_value(name: str, value: Any, numeric: bool) -> Any:
    """Return the value of an axis as rows hold it."""
    if numeric:
        return built_in.number(name, value)
    return NOTHING if value is None else shown(value)


def value_label(name: str, value: Any) -> str:
    """Return a text for the value of an axis that is clear without the axis: `batch 32`."""
    return NOTHING if value is None else built_in.labelled(name, value)


def usual_roles(
    axes: Mapping[str, Channel], given: Mapping[str, Channel] | None = None
) -> dict[str, Channel]:
    """Return the channel of each role: those `given`, else the batch size along x and so on.

    Frameworks have colours, and devices and workloads have panels.
    """
    roles = dict(given or {})
    taken = {channel.field for channel in roles.values()}
    left = {name: channel for name, channel in axes.items() if channel.field not in taken}
    numeric = [name for name, channel in left.items() if channel.numeric]
    preferred = {
        "x": ["batch_exponent", *numeric, "framework", *left],
        "colour": ["framework", "version", *left],
        "panels": ["device", "workload"],
        "shape": list(left),
    }
    for role, names in preferred.items():
        if role not in roles:
            name = next((name for name in names if name in left), "")
            roles[role] = left.pop(name, plots.NOTHING)
    # An axis without a role would make points of several cells coincide.
    if roles["panels"] is plots.NOTHING and "panels" not in (given or {}):
        roles["panels"] = next(iter(left.values()), plots.NOTHING)
    return roles


def usual_over(axes: Mapping[str, Channel]) -> str:
    """Return the axis that is compared over by default."""
    comparable = comparable_axes(axes)
    if "framework" in comparable or not axes:
        return "framework"
    return next(iter(comparable or axes))


def metrics_of(run: Run) -> list[str]:
    """Return the times, sizes and rates that some trial holds, the usual ones first.

    The column of a plug-in is among them if the plug-in's file states its better direction.
    """
    table = run.records.filter(pc.equal(run.records["status"], Status.OK))
    ours = [
        name for name in METRICS if unit(name) in ("s", "B", "images/s") and name not in _NOT_SHOWN
    ]
    others = [field.name for field in table.schema if is_declared(field) and is_measured(field)]
    candidates = dict.fromkeys([*_USUAL, *ours, *others])
    return [name for name in candidates if name in table.column_names and counts(table[name]).any()]


def metric_of(summaries: Sequence[Summary]) -> Metric:
    """Return the metric of these summaries, in a unit that suits all of them."""
    first = summaries[0]
    return Metric(
        first.metric, column_scale(first.unit, [s.mean for s in summaries]), first.metadata
    )


def cells(summaries: Sequence[Summary], metric: Metric) -> list[Row]:
    """Return a row with the figures of each cell."""
    return [
        {"cell": index, "processes": s.processes, "samples": len(s.samples), "failed": failed(s)}
        | _figures(s, metric)
        for index, s in enumerate(summaries)
    ]


def failed(summary: Summary) -> int:
    """Return the number of trials that ended without times."""
    return without_times(summary.statuses)


def processes(summaries: Sequence[Summary], metric: Metric) -> list[Row]:
    """Return a row for each trial: its distribution, its start, and its mean over its cell's."""
    starts = [start for summary in summaries for start in summary.column("started_at") if start]
    first = min(starts, default=None)
    return [
        row
        for index, each in enumerate(summaries)
        for row in _processes(index, each, metric, first)
    ]


def parts(forward: Sequence[Summary], backward: Sequence[Summary]) -> list[Row]:
    """Return rows for forward and backward of each cell that has both, with their shares."""
    rows = []
    for index, pair in enumerate(zip(forward, backward, strict=True)):
        whole = sum(summary.mean for summary in pair)
        if not math.isfinite(whole) or not whole:
            continue
        for rank, summary in enumerate(pair):
            texts = {"part": summary.metric.removesuffix("_s"), "time": quantity(summary.mean, "s")}
            figures = _rounded({"mean": summary.mean, "share": summary.mean / whole})
            rows.append({"cell": index, "rank": rank} | texts | figures)
    return rows


def ratios(
    comparisons: Sequence[Comparison], all_cells: Cells, cache: WarningCache | None = None
) -> list[Row]:
    """Return a row with the speed-up of each comparison and the kinds of its warnings.

    `cache` keeps the warnings about cells for the next call.
    """
    warnings = [
        ", ".join(dict.fromkeys(warning.kind for warning in each))
        for each in verdict_warnings(comparisons, cache)
    ]
    rows = [_ratio(comparison, all_cells) for comparison in comparisons]
    return [row | {"warnings": kinds} for row, kinds in zip(rows, warnings, strict=True)]


def curves(run: Run, all_cells: Cells) -> list[Row]:
    """Return rows of the losses and accuracies of each cell over elapsed time.

    They have the mean and the extremes over seeds, at a limited number of points.
    """
    trained = run.records.filter(pc.equal(run.records["status"], Status.OK))
    axes, cell_of_row = cells_of(trained)
    indices = [all_cells.index(each) for each in axes]
    unit_s, rows = elapsed_scale(run).factor, []
    for measured in COURSES:
        for cell, logs in _logs(trained, cell_of_row, measured).items():
            own = {"cell": indices[cell], "of": measured}
            rows += [own | row for row in _course(logs, measured, unit_s)]
    return [row for row in rows if row["cell"] is not None]


def unusable(run: Run) -> str:
    """Return a note on logged losses that cannot be drawn; empty where there are none."""
    trained = run.records.filter(pc.equal(run.records["status"], Status.OK))
    every = [
        _logs(trained, np.zeros(len(trained), dtype=np.int64), loss)
        for loss in ("loss", "validation_loss")
    ]
    return left_out_note(sum(log.left_out for logs in every for log in logs[0]))


def drawable(row: Row) -> bool:
    """Whether a point has a position on its scale, which is logarithmic for losses."""
    return bool(row["of"] == "validation_pck" or (row["low"] or 0) > 0)


def elapsed_scale(run: Run) -> Scale:
    """Return the unit for the elapsed time of the run's trainings."""
    elapsed = pc.list_flatten(run.records["elapsed_s"])
    longest = pc.max(elapsed.filter(pc.is_finite(elapsed))).as_py() or 0.0
    if longest < 300:
        return Scale(1.0, "s")
    return Scale(60.0, "min") if longest < 7200 else Scale(3600.0, "h")


def number(value: float | None, digits: int = 5) -> float | None:
    """Return a number, rounded to what a plot can show; None where it is not finite."""
    # JSON has no NaN and no infinity. Fewer digits make the report smaller.
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _rows_of(
    run: Run, wanted: str, summaries: Sequence[Summary], metric: Metric, choice: Choice
) -> list[Row]:
    """Return the rows of a plot that shows neither comparisons nor courses."""
    if wanted == "parts":
        halves = (
            run.summary(metric=half, where=choice.where) for half in ("forward_s", "backward_s")
        )
        return parts(*halves)
    if wanted == "processes":
        return processes(summaries, metric)
    return [row for row in cells(summaries, metric) if row["mean"]]


def _roles(
    kind: str, axes: Mapping[str, Channel], chosen: Mapping[str, str], over: str
) -> dict[str, Channel]:
    """Return the channel of each role in a plot of this kind.

    Raises SweepError for a map of an axis against itself.
    """
    given = {role: _axis(name, axes) for role, name in chosen.items()}
    if kind == "heatmap":
        given["x"] = across(axes, over, given.get("x"))
    # Several axes that are compared over together have no channel: rows hold their values.
    combined = Channel("subject", built_in.title(over))
    roles = {**usual_roles(axes, given), "over": axes.get(over, combined)}
    return over_time(roles) if plots.kind_named(kind).rows in COURSES else roles


def _left(along: Sequence[str], x: Channel, over: str, axes: Mapping[str, Channel]) -> set[str]:
    """Return the fields of the axes that run along a plot."""
    left = set()
    if "x" in along:
        left.add(x.field)
    if "over" in along:
        left |= {axes[name].field for name in axes_of(over) if name in axes}
    return left


def _view(
    run: Run, roles: Mapping[str, Channel], metric: Metric, rows: Sequence[Row]
) -> plots.View:
    return plots.View(
        x=roles["x"],
        over=roles["over"],
        colour=roles["colour"],
        shape=roles["shape"],
        dash=roles["shape"],
        panels=roles["panels"],
        metric=metric.title,
        better=metric.better,
        baseline=str(rows[0].get("baseline", "")),
        elapsed=f"elapsed time ({elapsed_scale(run).sign})",
        when="place in the order of execution",
        reach=max([plots.LEAST_REACH, *(abs(row.get("log_speedup") or 0.0) for row in rows)]),
    )


def _drawable(row: Row, all_cells: Cells, left: Collection[str]) -> Row:
    """Return a row with the fields of its cell and the text of its line, band or panel."""
    cell = all_cells.rows[row["cell"]] if row.get("cell") is not None else {}
    whole = {"when": row.get("position"), **cell, **row}
    return {**whole, "apart": distinction(whole, all_cells.axes.values(), left)}


def _axis(name: str, axes: Mapping[str, Channel]) -> Channel:
    if name == "none":
        return plots.NOTHING
    if name not in axes:
        raise SweepError(f"no axis {name!r} tells cells apart", nearest(name, [*axes, "none"]))
    return axes[name]


def _figures(summary: Summary, metric: Metric) -> Row:
    """Return the figures of a cell in the unit of the metric."""
    unit_size, interval = metric.scale.factor, summary.interval
    names = ("mean", "sd", "median", "mad", "min", "p5", "p95")
    figures: dict[str, float | None] = {name: getattr(summary, name) / unit_size for name in names}
    figures["variance"] = summary.variance / unit_size**2
    figures["low"] = interval.low / unit_size if interval else None
    figures["high"] = interval.high / unit_size if interval else None
    return _rounded(figures)


def _processes(
    index: int, summary: Summary, metric: Metric, first: dt.datetime | None
) -> list[Row]:
    """Return a row for each trial of one cell; quantiles are relative to the cell's mean."""
    facts = [
        summary.column(name) or [None] * summary.processes
        for name in ("seed", "position", "node", "started_at")
    ]
    rows = []
    trials = zip(summary.by_trial(), summary.trial_means, strict=True)
    for turn, (samples, mean) in enumerate(trials):
        seed, position, node, started = (column[turn] for column in facts)
        row: Row = {"cell": index, "turn": turn, "seed": seed, "position": position, "node": node}
        row |= {"of": metric.scale.with_sign(summary.mean), **_start(started, first)}
        quantiles = np.quantile(samples, _QUANTILES) / summary.mean
        figures = dict(zip(("p5", "q1", "median", "q3", "p95"), quantiles, strict=True))
        figures |= {"mean": mean / metric.scale.factor, "relative": mean / summary.mean}
        rows.append(row | _rounded(figures))
    return rows


def _start(started: dt.datetime | None, first: dt.datetime | None) -> Row:
    """Return the start of a trial as text, and in minutes since the first one."""
    if started is None or first is None:
        return {"at": None, "started": None}
    minutes = (started - first).total_seconds() / 60
    return {"at": started.isoformat(sep=" ", timespec="seconds"), "started": number(minutes)}


def _ratio(comparison: Comparison, all_cells: Cells) -> Row:
    """Return the row of a comparison, with its speed-up."""
    speedup = comparison.speedup.estimate if comparison.speedup else None
    interval = comparison.speedup.interval() if comparison.speedup else None
    ends = (interval.low, interval.high) if interval else (None, None)
    axes = comparison.subject_axes
    machine = [name for name in MACHINES if name in comparison.axes]
    return {
        "cell": all_cells.index(comparison.subject.axes) if comparison.subject else None,
        **fields(axes, all_cells.axes),
        "label": label(axes, [*all_cells.axes, *machine]),
        "over": comparison.over,
        "subject": _side(comparison.over, comparison.subject_value),
        "baseline": _side(comparison.over, comparison.baseline_value),
        "metric": comparison.metric,
        **_rounded({"speedup": speedup, "low": ends[0], "high": ends[1]}),
        "log_speedup": number(math.log2(speedup)) if speedup else None,
        "verdict": comparison.verdict,
        "text": _short(comparison),
        "basis": basis(comparison),
    }


def _side(over: str, value: Any) -> str:
    """Return a text for the value of the axis that is compared over, or of several axes."""
    values = value if isinstance(value, tuple) else (value,)
    return " · ".join(
        value_label(name, each) for name, each in zip(axes_of(over), values, strict=True)
    )


def _short(comparison: Comparison) -> str:
    """Return a speed-up in a few characters; ` =` marks equivalent, ` ?` inconclusive.

    The squares of a map have room for no more.
    """
    if comparison.speedup is None:
        return NOTHING
    speedup = comparison.speedup.estimate
    text = f"{speedup:.2f}" if 0.1 < speedup < 0.9 else factor(speedup)
    if len(text) > _MOST_LETTERS:
        text = f"{speedup:.0e}"
    return text + {"equivalent": " =", "inconclusive": " ?"}.get(comparison.verdict, "×")


def _logs(trained: pa.Table, cell_of_row: Ints, measured: str) -> dict[int, list[Log]]:
    """Return the logs of a quantity by the index of the cell, without trainings that lack it."""
    logs: dict[int, list[Log]] = defaultdict(list)
    step, elapsed = COURSES[measured]
    if not {step, elapsed, measured} <= set(trained.column_names):
        return logs
    rows = trained.select([step, elapsed, measured]).to_pylist()
    for cell, row in zip(cell_of_row.tolist(), rows, strict=True):
        if row[step] and row[measured]:
            logs[cell].append(log_of(row, step, [elapsed, measured]))
    return logs


def _course(logs: Sequence[Log], measured: str, unit_s: float) -> list[Row]:
    """Return rows for steps that every seed logged, evenly spaced on a logarithmic scale."""
    step, timed = COURSES[measured]
    usable = [log for log in logs if len(log.steps)]
    if not usable:
        return []
    common = np.array(sorted(set.intersection(*(set(log.steps.tolist()) for log in usable))))
    if not len(common):
        return []
    # Losses change most at the beginning, where the points are therefore closer.
    wanted = common[np.unique(np.geomspace(1, len(common), _POINTS_OF_A_CURVE).astype(int) - 1)]
    indices = [np.searchsorted(log.steps, wanted) for log in usable]
    # (seeds, steps)
    elapsed, values = (
        np.stack([log.values[name][at] for log, at in zip(usable, indices, strict=True)])
        for name in (timed, measured)
    )
    elapsed = elapsed.mean(axis=0) / unit_s
    return [
        {"at": f"{step.removeprefix('validation_')} {wanted[i]:g}", "seeds": len(usable)}
        | _rounded({"elapsed": elapsed[i], "value": values[:, i].mean()})
        | _rounded({"low": values[:, i].min(), "high": values[:, i].max()})
        for i in np.flatnonzero(elapsed > 0)
    ]


def _rounded(figures: Mapping[str, float | None]) -> Row:
    return {name: number(value) for name, value in figures.items()}


def _key(axes: Axes) -> str:
    return repr(sorted((name, repr(value)) for name, value in axes.items()))
