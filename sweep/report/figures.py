"""Figures: a run as rows to draw, and single pictures drawn from them.

Rows are plain: numbers in the unit that is shown, texts for people. Axes are fields named `a0`, `a1` …, since an axis
may be called anything.
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
    """A metric in the unit in which it is shown."""

    name: str
    scale: Scale | OwnScale
    metadata: ColumnMetadata

    @property
    def better(self) -> str:
        """How a speed-up is said that a number and a baseline surround: `2.3 times as fast as torch`."""
        if self.metadata.unit == "s" or self.metadata.unit.endswith("/s"):
            return "times as fast as"
        return f"times {self.metadata.direction} {self.name} than"

    @property
    def sign(self) -> str:
        """The unit of the numbers that are drawn."""
        return self.scale.unit if isinstance(self.scale, OwnScale) else self.scale.sign

    @property
    def title(self) -> str:
        sign = f" ({self.sign})" if self.sign else ""
        return f"{self.name.removesuffix('_s').removesuffix('_bytes').replace('_', ' ')}{sign}"


@dataclass(frozen=True)
class Cells:
    """The cells of a run in their order, and the axes that tell them apart."""

    axes: Mapping[str, Channel]
    rows: Sequence[Row] = field(repr=False)
    _places: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, summaries: Sequence[Summary]) -> Cells:
        every = [summary.axes for summary in summaries]
        axes = {
            name: channel(i, name, [each.get(name) for each in every])
            for i, name in enumerate(varying(every))
        }
        rows = [fields(each, axes) | {"label": label(each, axes)} for each in every]
        return cls(axes, rows, {_key(each): i for i, each in enumerate(every)})

    def place(self, axes: Axes) -> int | None:
        """Its number in the list."""
        return self._places.get(_key(axes))


@dataclass(frozen=True)
class Choice:
    """What a single picture is to show: axes by their names, the usual ones unless given."""

    metric: str | None = None
    where: Mapping[str, Any] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    over: str | None = None
    baseline: str | None = None


def picture(run: Run, kind: str, choice: Choice) -> dict[str, Any]:
    """A plot of the run with its rows, as Vega-Lite. Raises SweepError where there is nothing to draw."""
    wanted = plots.kind_named(kind).rows
    chosen = choice.metric or run.summary(where=choice.where)[0].metric
    summaries = run.summary(metric=chosen, where=choice.where)
    cells, metric = Cells.of(summaries), metric_of(summaries)
    if wanted == "ratios" and not choice.over and not comparable_axes(cells.axes):
        raise nothing_to_compare(list(cells.axes))
    over = choice.over or usual_over(cells.axes)
    roles = _roles(kind, cells.axes, choice.roles, over)
    if wanted == "ratios":
        found = run.compare(over, choice.baseline, chosen, choice.where)
        rows = [row for row in ratios(found, cells) if row["speedup"] or kind == "heatmap"]
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
    """Where time runs along x, the axis that stands there elsewhere is told by dashes, unless something else is."""
    taken = {roles[role].field for role in ("colour", "panels")} | {plots.NOTHING.field}
    free = roles["shape"].field == plots.NOTHING.field and roles["x"].field not in taken
    return {**roles, "shape": roles["x"]} if free else dict(roles)


def across(axes: Mapping[str, Channel], over: str, x: Channel | None = None) -> Channel:
    """The axis along x of a map: the one given, or the usual one beside the axis that is compared over.

    Raises SweepError where it would be the same axis twice.
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


def apart(row: Row, axes: Iterable[Channel], left: Collection[str]) -> str:
    """What tells the line, band or panel of a row from others: its axes but for the fields that are left out."""
    texts = [
        dict(zip(axis.values, axis.said, strict=True)).get(row.get(axis.field))
        for axis in axes
        if axis.field not in left
    ]
    return " · ".join(text for text in texts if text not in (None, NOTHING))


def channel(place: int, name: str, values: Iterable[Any]) -> Channel:
    """An axis as a plot draws it; `batch_exponent` by the batch size that it stands for."""
    found = sorted({repr(v): v for v in values}.values(), key=natural)
    numbers = [v for v in found if v is not None]
    numeric = bool(numbers) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in numbers
    )
    drawn = {plotted_value(name, v, numeric): value_label(name, v) for v in found}
    drawn.pop(None, None)
    return Channel(f"a{place}", built_in.title(name), list(drawn), numeric, list(drawn.values()))


def fields(axes: Axes, channels: Mapping[str, Channel]) -> Row:
    """The axes of a cell as fields of a row."""
    return {
        drawn.field: plotted_value(name, axes.get(name), drawn.numeric)
        for name, drawn in channels.items()
    }


def label(axes: Axes, names: Iterable[str]) -> str:
    """A cell in few words, by the axes named: `torch==2.13.0 · batch 32`."""
    return (
        " · ".join(value_label(name, axes[name]) for name in names if axes.get(name) is not None)
        or "all"
    )


def plotted_value(name: str, value: Any, numeric: bool) -> Any:
    """A value of an axis as a plot places it."""
    if numeric:
        return built_in.number(name, value)
    return NOTHING if value is None else shown(value)


def value_label(name: str, value: Any) -> str:
    """A value of an axis that says by itself what it is of."""
    return NOTHING if value is None else built_in.labelled(name, value)


def usual_roles(
    axes: Mapping[str, Channel], given: Mapping[str, Channel] | None = None
) -> dict[str, Channel]:
    """What is drawn along which axis: what is `given`, and of the rest batch size along x, frameworks by colour."""
    roles = dict(given or {})
    taken = {drawn.field for drawn in roles.values()}
    left = {name: drawn for name, drawn in axes.items() if drawn.field not in taken}
    numeric = [name for name, drawn in left.items() if drawn.numeric]
    preferred = {
        "x": ["batch_exponent", *numeric, "framework", *left],
        "colour": ["framework", "version", *left],
        "panels": ["device", "workload"],
        "shape": list(left),
    }
    for role, names in preferred.items():
        if role not in roles:
            roles[role] = left.pop(
                next((name for name in names if name in left), ""), plots.NOTHING
            )
    if roles["panels"] is plots.NOTHING and "panels" not in (given or {}):
        roles["panels"] = next(iter(left.values()), plots.NOTHING)
    return roles


def usual_over(axes: Mapping[str, Channel]) -> str:
    """The axis that is compared over unless another is chosen."""
    asked = comparable_axes(axes)
    if "framework" in asked or not axes:
        return "framework"
    return next(iter(asked or axes))


def metrics_of(run: Run) -> list[str]:
    """The times, sizes and rates that some trial that went well holds, the usual ones first.

    A column of a plug-in is one of them where its file says which way is better.
    """
    table = run.records.filter(pc.equal(run.records["status"], Status.OK))
    ours = [
        name for name in METRICS if unit(name) in ("s", "B", "images/s") and name not in _NOT_SHOWN
    ]
    others = [field.name for field in table.schema if is_declared(field) and is_measured(field)]
    candidates = dict.fromkeys([*_USUAL, *ours, *others])
    return [name for name in candidates if name in table.column_names and counts(table[name]).any()]


def metric_of(summaries: Sequence[Summary]) -> Metric:
    first = summaries[0]
    return Metric(
        first.metric, column_scale(first.unit, [s.mean for s in summaries]), first.metadata
    )


def cells(summaries: Sequence[Summary], metric: Metric) -> list[Row]:
    """Each cell's figures."""
    return [
        {"cell": place, "processes": s.processes, "samples": len(s.samples), "failed": failed(s)}
        | _figures(s, metric)
        for place, s in enumerate(summaries)
    ]


def failed(summary: Summary) -> int:
    return without_times(summary.statuses)


def processes(summaries: Sequence[Summary], metric: Metric) -> list[Row]:
    """Each process's distribution, when it ran, and how its mean compares with that of its cell."""
    moments = [moment for summary in summaries for moment in summary.column("started_at") if moment]
    first = min(moments, default=None)
    return [
        row
        for place, each in enumerate(summaries)
        for row in _processes(place, each, metric, first)
    ]


def parts(forward: Sequence[Summary], backward: Sequence[Summary]) -> list[Row]:
    """Forward and backward of each cell that has both, with their shares."""
    rows = []
    for place, pair in enumerate(zip(forward, backward, strict=True)):
        whole = sum(summary.mean for summary in pair)
        for rank, summary in enumerate(pair if math.isfinite(whole) and whole else ()):
            told = {"part": summary.metric.removesuffix("_s"), "time": quantity(summary.mean, "s")}
            figures = _rounded({"mean": summary.mean, "share": summary.mean / whole})
            rows.append({"cell": place, "rank": rank} | told | figures)
    return rows


def ratios(
    found: Sequence[Comparison], known: Cells, cache: WarningCache | None = None
) -> list[Row]:
    """Comparisons as speed-ups: the baseline's time by the subject's; `cache` is kept from one call to the next."""
    warnings = [
        ", ".join(dict.fromkeys(warning.kind for warning in each))
        for each in verdict_warnings(found, cache)
    ]
    rows = [_ratio(comparison, known) for comparison in found]
    return [row | {"warnings": told} for row, told in zip(rows, warnings, strict=True)]


def curves(run: Run, known: Cells) -> list[Row]:
    """How losses and accuracy of each cell go over elapsed time: mean and extent over seeds, thinned to few points."""
    trained = run.records.filter(pc.equal(run.records["status"], Status.OK))
    axes, of_row = cells_of(trained)
    places = [known.place(each) for each in axes]
    by, rows = elapsed_scale(run).factor, []
    for measured in COURSES:
        for cell, logs in _logs(trained, of_row, measured).items():
            own = {"cell": places[cell], "of": measured}
            rows += [own | row for row in _course(logs, measured, by)]
    return [row for row in rows if row["cell"] is not None]


def unusable(run: Run) -> str:
    """What is to be said of logged losses that cannot be drawn; empty where there are none."""
    trained = run.records.filter(pc.equal(run.records["status"], Status.OK))
    every = [
        _logs(trained, np.zeros(len(trained), dtype=np.int64), loss)
        for loss in ("loss", "validation_loss")
    ]
    return left_out_note(sum(log.left_out for logs in every for log in logs[0]))


def drawable(row: Row) -> bool:
    """Whether a point of a course has a place on its scale: losses are drawn by their logarithm."""
    return bool(row["of"] == "validation_pck" or (row["low"] or 0) > 0)


def elapsed_scale(run: Run) -> Scale:
    """The unit in which the time that the run's trainings took is read well."""
    elapsed = pc.list_flatten(run.records["elapsed_s"])
    longest = pc.max(elapsed.filter(pc.is_finite(elapsed))).as_py() or 0.0
    if longest < 300:
        return Scale(1.0, "s")
    return Scale(60.0, "min") if longest < 7200 else Scale(3600.0, "h")


def number(value: float | None, digits: int = 5) -> float | None:
    """As exact as a plot can show; None where there is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _rows_of(
    run: Run, wanted: str, summaries: Sequence[Summary], metric: Metric, choice: Choice
) -> list[Row]:
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
    """The axis of each role in a plot of this kind. Raises SweepError for a map of an axis against itself."""
    given = {role: _axis(name, axes) for role, name in chosen.items()}
    if kind == "heatmap":
        given["x"] = across(axes, over, given.get("x"))
    several = Channel("subject", built_in.title(over))
    roles = {**usual_roles(axes, given), "over": axes.get(over, several)}
    return over_time(roles) if plots.kind_named(kind).rows in COURSES else roles


def _left(along: Sequence[str], x: Channel, over: str, axes: Mapping[str, Channel]) -> set[str]:
    """The fields of the axes that run along a plot."""
    compared = {axes[name].field for name in axes_of(over) if name in axes}
    return ({x.field} if "x" in along else set()) | (compared if "over" in along else set())


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


def _drawable(row: Row, known: Cells, left: Collection[str]) -> Row:
    """A row with the fields of its cell, and what tells its line, band or panel from others."""
    cell = known.rows[row["cell"]] if row.get("cell") is not None else {}
    whole = {"when": row.get("position"), **cell, **row}
    return {**whole, "apart": apart(whole, known.axes.values(), left)}


def _axis(name: str, axes: Mapping[str, Channel]) -> Channel:
    if name == "none":
        return plots.NOTHING
    if name not in axes:
        raise SweepError(f"no axis {name!r} tells cells apart", nearest(name, [*axes, "none"]))
    return axes[name]


def _figures(summary: Summary, metric: Metric) -> Row:
    by, interval = metric.scale.factor, summary.interval
    names = ("mean", "sd", "median", "mad", "min", "p5", "p95")
    told = {name: getattr(summary, name) / by for name in names} | {
        "variance": summary.variance / by**2
    }
    ends = (interval.low / by, interval.high / by) if interval else (None, None)
    return _rounded(told | dict(zip(("low", "high"), ends, strict=True)))


def _processes(
    place: int, summary: Summary, metric: Metric, first: dt.datetime | None
) -> list[Row]:
    """The processes of one cell; quantiles are relative to the cell's mean."""
    facts = [
        summary.column(name) or [None] * summary.processes
        for name in ("seed", "position", "node", "started_at")
    ]
    rows = []
    for turn, (samples, mean) in enumerate(
        zip(summary.by_process(), summary.process_means, strict=True)
    ):
        seed, position, node, started = (column[turn] for column in facts)
        told: Row = {"cell": place, "turn": turn, "seed": seed, "position": position, "node": node}
        told |= {"of": metric.scale.with_sign(summary.mean), **_moment(started, first)}
        spread = np.quantile(samples, _QUANTILES) / summary.mean
        figures = dict(zip(("p5", "q1", "median", "q3", "p95"), spread, strict=True))
        figures |= {"mean": mean / metric.scale.factor, "relative": mean / summary.mean}
        rows.append(told | _rounded(figures))
    return rows


def _moment(started: dt.datetime | None, first: dt.datetime | None) -> Row:
    """When a trial started: as text, and in minutes since the first one."""
    if started is None or first is None:
        return {"at": None, "started": None}
    minutes = (started - first).total_seconds() / 60
    return {"at": started.isoformat(sep=" ", timespec="seconds"), "started": number(minutes)}


def _ratio(comparison: Comparison, known: Cells) -> Row:
    better = comparison.speedup
    speedup, interval = (better.estimate, better.interval()) if better else (None, None)
    ends = (interval.low, interval.high) if interval else (None, None)
    axes = comparison.subject_axes
    machine = [name for name in MACHINES if name in comparison.axes]
    return {
        "cell": known.place(comparison.subject.axes) if comparison.subject else None,
        **fields(axes, known.axes),
        "label": label(axes, [*known.axes, *machine]),
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
    """A value of the axis that is compared over, or of several."""
    values = value if isinstance(value, tuple) else (value,)
    return " · ".join(
        value_label(name, each) for name, each in zip(axes_of(over), values, strict=True)
    )


def _short(comparison: Comparison) -> str:
    """A speed-up in a few characters, with a sign where it is no difference: `=` equivalent, `?` inconclusive."""
    if comparison.speedup is None:
        return NOTHING
    speedup = comparison.speedup.estimate
    told = (
        f"{speedup:.2f}" if 0.1 < speedup < 0.9 else factor(speedup)
    )  # the squares of a map are small
    told = f"{speedup:.0e}" if len(told) > _MOST_LETTERS else told
    return told + {"equivalent": " =", "inconclusive": " ?"}.get(comparison.verdict, "×")


def _logs(trained: pa.Table, of_row: Ints, measured: str) -> dict[int, list[Log]]:
    """What each training has logged of a quantity, by the number of its cell; those that have not are left out."""
    logs: dict[int, list[Log]] = defaultdict(list)
    step, elapsed = COURSES[measured]
    if not {step, elapsed, measured} <= set(trained.column_names):
        return logs
    for cell, row in zip(
        of_row.tolist(), trained.select([step, elapsed, measured]).to_pylist(), strict=True
    ):
        if row[step] and row[measured]:
            logs[cell].append(log_of(row, step, [elapsed, measured]))
    return logs


def _course(logs: Sequence[Log], measured: str, by: float) -> list[Row]:
    """The steps that every seed has logged, evenly spread over the logarithm of their number."""
    step, timed = COURSES[measured]
    usable = [log for log in logs if len(log.steps)]
    if not usable:
        return []
    common = np.array(sorted(set.intersection(*(set(log.steps.tolist()) for log in usable))))
    if not len(common):
        return []
    wanted = common[np.unique(np.geomspace(1, len(common), _POINTS_OF_A_CURVE).astype(int) - 1)]
    places = [np.searchsorted(log.steps, wanted) for log in usable]
    elapsed, values = (
        np.stack([log.values[name][at] for log, at in zip(usable, places, strict=True)])
        for name in (timed, measured)
    )
    elapsed = elapsed.mean(axis=0) / by
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
