"""Plots: the specifications of all plots in Vega-Lite.

A plot is drawn from rows (`figures.py`) along channels: the axes of the grid that the reader has
chosen. The report holds each plot once, with placeholders such as `@x` for the channels. The
page's script replaces them by the reader's choices.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import altair as alt
import vl_convert

from sweep.errors import SweepError, nearest
from sweep.texts import printable

# The declared return type of alt.layer.
_Layered = alt.LayerChart | alt.FacetChart

FORMATS = ("png", "svg", "pdf")
_VEGA_LITE = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
_DOTS_PER_INCH = 200
_DECADE = 10
_LONGEST_LEGEND = 24
_COLOURS = [
    "#3b82c4",
    "#e07b39",
    "#2f9e6e",
    "#c65b8f",
    "#8a6fd1",
    "#a8861c",
    "#3f9fae",
    "#d05353",
    "#7d8a98",
    "#8f9c2b",
]
_SLOWER_EVEN_FASTER = ["#b6480f", "#e9a06a", "#f2f1ee", "#7fb0da", "#1d63a3"]
_PARTS = ["#3b82c4", "#e07b39"]
# The least end of a map's colour scale, as log2 of a speed-up: a difference of a tenth or less
# never has a strong colour.
LEAST_REACH = 0.14
_RELATIVE = "relative to the mean of the cell"
_CONNECTED, _REACH = "connected", "reach"


@dataclass(frozen=True)
class Channel:
    """An axis of the grid that a plot may be drawn along: a field of the rows.

    `values` are its values in order, and `labels` the same values as texts that are clear without
    the axis, such as `batch 32`.
    """

    field: str
    title: str
    values: Sequence[Any] = ()
    numeric: bool = False
    labels: Sequence[str] = ()

    @property
    def base(self) -> int:
        """The base of the logarithmic scale that suits the values; 0 for a linear scale."""
        numbers = [v for v in self.values if v is not None] if self.numeric else []
        if len(numbers) < 2 or min(numbers) <= 0 or max(numbers) < 8 * min(numbers):
            return 0
        return 2 if all(math.log2(number).is_integer() for number in numbers) else _DECADE


NOTHING = Channel("none", "")
_PANEL = Channel("apart", "")
PLACEHOLDERS = {
    role: Channel(f"@{role}", "") for role in ("x", "over", "colour", "shape", "dash", "panels")
}


@dataclass(frozen=True)
class View:
    """The channels of a plot, and the titles of its quantities."""

    x: Channel = PLACEHOLDERS["x"]
    over: Channel = PLACEHOLDERS["over"]
    colour: Channel = PLACEHOLDERS["colour"]
    shape: Channel = PLACEHOLDERS["shape"]
    # The same axis as `shape`, for lines.
    dash: Channel = PLACEHOLDERS["dash"]
    panels: Channel = PLACEHOLDERS["panels"]
    metric: str = "@metric"
    better: str = "times as fast as"
    baseline: str = "@baseline"
    elapsed: str = "elapsed time (s)"
    when: str = "@when"
    reach: float = 1.0
    width: int = 460
    height: int = 300


class Kind(NamedTuple):
    """A kind of plot: its title, what it shows, its rows, and the function that draws it.

    `along` are the roles whose axes run along the plot. The other axes separate lines, bands and
    panels: no line or band joins rows that differ in them. The page's script reads the same
    table.
    """

    title: str
    shows: str
    rows: Literal[
        "cells", "parts", "ratios", "processes", "loss", "validation_loss", "validation_pck"
    ]
    draw: Callable[[View], alt.FacetChart]
    along: Sequence[Literal["x", "over"]] = ()


def spec(kind: str, view: View, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the plot as Vega-Lite; without rows its data is named `rows` and given later."""
    specification: dict[str, Any] = kind_named(kind).draw(view).to_dict()
    if rows is not None:
        specification["data"] = {"values": list(rows)}
    return specification


def kind_named(kind: str) -> Kind:
    """Return the kind of plot with this name. Raises SweepError with the nearest name."""
    if kind not in KINDS:
        raise SweepError(f"there is no plot {kind!r}", nearest(kind, KINDS))
    return KINDS[kind]


def image(drawn: Mapping[str, Any], form: str) -> bytes:
    """Return a specification with its rows as PNG, SVG or PDF.

    Drawing uses no network: without allowed addresses, no row can make it load an image.
    """
    themed = _printable({**drawn, "config": _paper()})
    options: dict[str, Any] = {"vl_version": _VEGA_LITE, "allowed_base_urls": []}
    if form == "png":
        options |= {"ppi": _DOTS_PER_INCH}
    made = getattr(vl_convert, f"vegalite_to_{form}")(json.dumps(themed), **options)
    return made.encode() if isinstance(made, str) else bytes(made)


def _printable(node: Any) -> Any:
    """Return a specification with escapes for control characters.

    An SVG cannot hold them, and drawing them aborts the process.
    """
    if isinstance(node, Mapping):
        return {_printable(key): _printable(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_printable(value) for value in node]
    return printable(node) if isinstance(node, str) else node


@functools.lru_cache(maxsize=1)
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which defines `vega` and `vegaEmbed`."""
    bundle: str = vl_convert.javascript_bundle(
        "window.vega = vega; window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE
    )
    return bundle


def encodings(channel: Channel) -> dict[str, Any]:
    """Return the encoding that replaces each placeholder if this channel is chosen for it."""
    drawn = {
        "x": _along(channel),
        "steps": _steps(channel),
        "over": _levels(channel),
        "colour": _colour(channel),
        "shape": _shape(channel),
        "dash": _dash(channel),
        "panels": _panels(channel),
    }
    return {role: each.to_dict() for role, each in drawn.items()}


def theme() -> dict[str, Any]:
    """Return the theme of the page, whose text colour follows a light, dark or printed page."""
    return _themed("currentColor")


def _time(view: View) -> alt.FacetChart:
    """Draw mean and interval of each cell; lines join cells that differ only in x."""
    chart = _chart()
    y, ends = (alt.Y(field, title=view.metric, **_logarithmic()) for field in ("mean:Q", "from:Q"))
    picked = alt.selection_point(name="picked", bind="legend", encodings=["color"])
    common = chart.encode(
        x=_along(view.x),
        color=_colour(view.colour),
        opacity=alt.condition(picked, alt.value(1), alt.value(0.12)),
    )
    line = common.mark_line(strokeWidth=2, strokeOpacity=alt.expr(_CONNECTED)).encode(
        y=y, detail="apart:N", strokeDash=_dash(view.dash)
    )
    interval = common.mark_rule(strokeWidth=1.6).encode(y=ends, y2="to:Q")
    point = common.mark_point(filled=True, size=46, opacity=1).encode(
        y=y, shape=_shape(view.shape), tooltip=_tooltip(*_FIGURES)
    )
    return _in_panels(_with_ends(alt.layer(line.add_params(picked), interval, point), "mean"), view)


def _speedup(view: View) -> alt.FacetChart:
    """Draw the speed-up over the baseline with its interval; at 1 both are equally fast."""
    chart = _chart()
    scaled = _logarithmic()
    y, ends = (
        alt.Y(field, title=_speedup_over(view), **scaled) for field in ("speedup:Q", "from:Q")
    )
    common = chart.encode(x=_along(view.x), color=_colour(view.colour))
    line = common.mark_line(strokeWidth=2, strokeOpacity=alt.expr(_CONNECTED)).encode(
        y=y, detail="apart:N", strokeDash=_dash(view.dash)
    )
    interval = common.mark_rule(strokeWidth=1.6).encode(y=ends, y2="to:Q")
    point = common.mark_point(filled=True, size=46, opacity=1).encode(
        y=y, shape=_shape(view.shape), tooltip=_tooltip(*_COMPARED)
    )
    even = chart.mark_rule(strokeDash=[4, 4], opacity=0.5, color=_ink()).encode(
        y=alt.YDatum(1, scale=scaled["scale"])
    )
    return _in_panels(_with_ends(alt.layer(even, line, interval, point), "speedup"), view)


def _heatmap(view: View) -> alt.FacetChart:
    """Draw speed-ups as a map; a darker square is further from the baseline."""
    reach = alt.param(name=_REACH, value=view.reach)
    domain: list[Any] = [
        alt.expr("-reach"),
        alt.expr("-reach / 2"),
        0,
        alt.expr("reach / 2"),
        alt.expr("reach"),
    ]
    # On the log scale faster and slower by the same factor have colours of equal strength.
    scale = alt.Scale(domain=domain, range=_SLOWER_EVEN_FASTER, clamp=True, interpolate="lab")
    legend = alt.Legend(
        title=_speedup_over(view),
        labelExpr=f"{_short_number('pow(2, datum.value)')} + '×'",
        gradientLength=220,
        orient="top",
    )
    chart = _chart().encode(x=_steps(view.x), y=_levels(view.over))
    square = chart.mark_rect(stroke=_ink(), strokeOpacity=0.15).encode(
        color=alt.Color("log_speedup:Q", scale=scale, legend=legend), tooltip=_tooltip(*_COMPARED)
    )
    # Dark text would be illegible on the strongest colours.
    dark = "isValid(datum.log_speedup) && abs(datum.log_speedup) > 0.7 * reach"
    ink = alt.condition(dark, alt.value("white"), alt.value("#1b1f24"))
    text = chart.mark_text(fontSize=10.5).encode(text="text:N", color=ink)
    stepped = alt.layer(square, text).properties(width=alt.Step(46), height=alt.Step(26))
    drawn: alt.FacetChart = (
        _panelled(stepped, _PANEL).resolve_axis(x="independent").add_params(reach)
    )
    return drawn


def _split(view: View) -> alt.FacetChart:
    """Draw the shares of the step that forward and backward take."""
    parts = alt.Scale(domain=["forward", "backward"], range=_PARTS)
    bar = (
        _chart()
        .mark_bar()
        .encode(
            x=_steps(view.x),
            y=alt.Y(
                "mean:Q", stack="normalize", title="share of the step", axis=alt.Axis(format="%")
            ),
            color=alt.Color("part:N", scale=parts, title="pass", legend=alt.Legend(orient="top")),
            order="rank:Q",
            tooltip=_tooltip(("part", "pass"), ("time", "mean"), ("share", "share of the step")),
        )
        .properties(width=alt.Step(22), height=130)
    )
    drawn: alt.FacetChart = _panelled(bar, _PANEL).resolve_axis(x="independent")
    return drawn


def _processes(view: View) -> alt.FacetChart:
    """Draw a line for each process: 5th to 95th percentile thin, quartiles thick, mean a point."""
    chart = _chart().encode(
        y=alt.Y(
            "named:N",
            title=None,
            sort=alt.SortField("cell"),
            axis=alt.Axis(labelLimit=420, grid=True),
        ),
        yOffset=alt.YOffset("turn:N", sort=alt.SortField("turn")),
        color=_colour(view.colour),
    )
    tooltip = _tooltip(
        ("seed", "seed"), ("mean", "mean"), ("p5", "5 %"), ("median", "median"), ("p95", "95 %")
    )
    thin = chart.mark_rule(strokeWidth=1).encode(x=_relative("p5"), x2="p95:Q")
    thick = chart.mark_rule(strokeWidth=4, opacity=0.5).encode(x=_relative("q1"), x2="q3:Q")
    point = chart.mark_point(filled=True, size=24, opacity=1).encode(
        x=_relative("relative"), tooltip=tooltip
    )
    layered = alt.layer(thin, thick, point).transform_calculate(
        named="datum.label + ' · ' + datum.of"
    )
    sized = layered.properties(width=view.width, height=alt.Step(7, **{"for": "offset"}))
    return _panelled(sized, NOTHING)


def _order(view: View) -> alt.FacetChart:
    """Draw each process's mean over its cell's by the time it ran: a slope is machine drift."""
    y = alt.Y(
        "relative:Q",
        title=_RELATIVE,
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(format=".3~f"),
    )
    scale = alt.Scale(zero=False, nice=False, padding=12)
    x = alt.X("when:Q", title=view.when, scale=scale, axis=alt.Axis(tickMinStep=1))
    chart = _chart().encode(x=x, y=y)
    tooltip = _tooltip(
        ("seed", "seed"),
        ("mean", "mean"),
        ("relative", "of its cell's mean"),
        ("position", "position"),
    )
    tooltip += [alt.Tooltip("at:N", title="started"), alt.Tooltip("node:N", title="node")]
    point = chart.mark_point(filled=True, size=34, opacity=0.75).encode(
        color=_colour(view.colour), tooltip=tooltip
    )
    trend = chart.transform_regression("when", "relative").mark_line(
        strokeDash=[6, 3], color=_ink(), opacity=0.7
    )
    return _panelled(alt.layer(point, trend), NOTHING)


def _curve(view: View) -> alt.FacetChart:
    return _course(view, "loss", _logarithmic())


def _validation(view: View) -> alt.FacetChart:
    return _course(view, "validation loss", _logarithmic())


def _pck(view: View) -> alt.FacetChart:
    return _course(view, "correct keypoints (PCK)", {"scale": alt.Scale(domainMin=0)})


def _course(view: View, title: str, scaled: Mapping[str, Any]) -> alt.FacetChart:
    """Draw a quantity over elapsed time: the mean over seeds, and a band between its extremes."""
    x = alt.X("elapsed:Q", title=view.elapsed, **_logarithmic())
    chart = _chart().encode(x=x, color=_colour(view.colour), detail="apart:N")
    low, y = (alt.Y(field, title=title, **scaled) for field in ("low:Q", "value:Q"))
    band = chart.mark_area(opacity=0.18, line=False).encode(y=low, y2="high:Q")
    line = chart.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(view.shape, in_legend=True))
    tooltip = _tooltip(
        ("value", title), ("low", "least"), ("high", "greatest"), ("at", "at"), ("seeds", "seeds")
    )
    point = chart.mark_point(filled=True, size=14, opacity=1).encode(y=y, tooltip=tooltip)
    return _in_panels(alt.layer(band, line, point), view, connected=False)


KINDS: Mapping[str, Kind] = {
    "time": Kind(
        "Mean", "mean and 95 % interval of each cell, over an axis", "cells", _time, ["x"]
    ),
    "speedup": Kind(
        "Speed-up",
        "times faster than a baseline, with 95 % interval, over an axis",
        "ratios",
        _speedup,
        ["x"],
    ),
    "heatmap": Kind(
        "Speed-up map",
        "the same as a map of one axis against another",
        "ratios",
        _heatmap,
        ["x", "over"],
    ),
    "split": Kind(
        "Forward and backward",
        "shares of the step that go forward and backward",
        "parts",
        _split,
        ["x"],
    ),
    "processes": Kind(
        "Processes", "the distribution in each process of each cell", "processes", _processes
    ),
    "order": Kind(
        "Order of execution",
        "each process by when it ran: drift of the machine",
        "processes",
        _order,
    ),
    "curve": Kind(
        "Learning curves", "training loss over elapsed time with a band over seeds", "loss", _curve
    ),
    "validation": Kind(
        "Validation loss", "the same on the validation set", "validation_loss", _validation
    ),
    "pck": Kind(
        "Correct keypoints",
        "share of keypoints that are right, over elapsed time",
        "validation_pck",
        _pck,
    ),
}

_FIGURES = (
    ("mean", "mean"),
    ("low", "95 % from"),
    ("high", "95 % to"),
    ("median", "median"),
    ("p5", "5 %"),
    ("p95", "95 %"),
    ("processes", "processes"),
)
_COMPARED = (("speedup", "speed-up"), ("low", "95 % from"), ("high", "95 % to"))
# Fields of rows that tooltips show as they are.
_TEXTS = frozenset({"part", "seed", "time", "at"})


def _chart() -> alt.Chart:
    return alt.Chart(alt.NamedData("rows"))


def _in_panels(layered: _Layered, view: View, connected: bool = True) -> alt.FacetChart:
    """Return the chart with a panel for each value of the channel.

    `connected` charts have a parameter that hides their lines unless x is numeric.
    """
    panels = _panelled(layered.properties(width=view.width, height=view.height), view.panels)
    if not connected:
        return panels
    connects: alt.FacetChart = panels.add_params(
        alt.param(name=_CONNECTED, value=int(view.x.numeric))
    )
    return connects


def _with_ends(layered: _Layered, middle: str) -> _Layered:
    """Return the chart with the ends of each interval; they coincide where there is none."""
    return layered.transform_calculate(
        **{"from": f"isValid(datum.low) ? datum.low : datum.{middle}"},
        to=f"isValid(datum.high) ? datum.high : datum.{middle}",
    )


def _panelled(chart: alt.Chart | _Layered, channel: Channel) -> alt.FacetChart:
    faceted: alt.FacetChart = chart.facet(facet=_panels(channel), columns=2)
    # Without this field the tooltip of a mark would show "undefined".
    return faceted.transform_calculate(**{NOTHING.field: "''"})


def _along(channel: Channel) -> alt.X | alt.XDatum:
    """Return a position on a scale for numbers, else on one step per value.

    Without an axis all marks have the same position.
    """
    if channel.field == NOTHING.field:
        return _in_the_middle()
    if not channel.numeric:
        return alt.X(
            field=channel.field, type="nominal", title=channel.title, sort=list(channel.values)
        )
    logarithmic = alt.Scale(type="log", base=channel.base or _DECADE, nice=False, padding=14)
    scale = logarithmic if channel.base else _linear()
    axis = alt.Axis(values=_ticks(channel.values), format="~r" if channel.base else "~g", grid=True)
    return alt.X(
        field=channel.field, type="quantitative", title=channel.title, scale=scale, axis=axis
    )


def _logarithmic() -> dict[str, Any]:
    """Return the scale and axis of a logarithmic position.

    All ticks have labels, except 60, 70, 80 and 90 where Vega leaves out some labels itself.
    """
    # The leading digits of a tick, from 1 to 10; the small term compensates for rounding.
    first = "datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9))"
    shown = f"datum.label || {first} < 5.5 || abs({first} - round({first})) > 0.01"
    axis = alt.Axis(
        labelExpr=f"{shown} ? {_short_number('datum.value')} : ''", labelOverlap="greedy"
    )
    return {"scale": alt.Scale(type="log", nice=False, padding=12), "axis": axis}


def _short_number(value: str) -> str:
    """Return a Vega expression that formats a number, with an exponent where it would be long."""
    return f"format({value}, {value} < 1e-4 || {value} >= 1e7 ? '.3~e' : ',.3~r')"


def _linear() -> alt.Scale:
    return alt.Scale(zero=False, nice=False, padding=14)


def _relative(field: str) -> alt.X:
    return alt.X(
        f"{field}:Q",
        title=_RELATIVE,
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(format=".3~f"),
    )


def _ticks(values: Sequence[Any]) -> list[Any]:
    """Return the values as ticks, at most about twelve of them."""
    numbers = sorted(v for v in values if v is not None)
    return numbers[:: math.ceil(len(numbers) / 12)] if numbers else []


def _in_the_middle() -> alt.XDatum:
    """Return one position for every mark, without a tick."""
    return alt.XDatum(
        "", type="nominal", title="", axis=alt.Axis(labels=False, ticks=False, domain=False)
    )


def _steps(channel: Channel) -> alt.X | alt.XDatum:
    """Return a position along x in steps of equal width."""
    if channel.field == NOTHING.field:
        return _in_the_middle()
    axis = alt.Axis(labelAngle=0 if channel.numeric else -30, labelLimit=160)
    return alt.X(
        field=channel.field,
        type="ordinal",
        title=channel.title or None,
        sort=list(channel.values),
        axis=axis,
    )


def _levels(channel: Channel) -> alt.Y:
    """Return a position along y in equal steps; without values, in the order of the rows."""
    sort = list(channel.values) or None
    return alt.Y(field=channel.field, type="ordinal", title=channel.title or None, sort=sort)


def _colour(channel: Channel) -> alt.Color:
    """Return distinct colours for a few values, ordered shades for numbers and for many values.

    It is a field even without an axis, since the legend of `time` selects by it.
    """
    legend = alt.Legend(
        orient="top", columns=6, labelLimit=260, symbolOpacity=1, symbolType="circle"
    )
    has_legend = channel.field != NOTHING.field and len(channel.values) <= _LONGEST_LEGEND
    shown = legend if has_legend else None
    shades = alt.Scale(scheme=alt.SchemeParams(name="viridis", extent=[0.25, 0.9]))
    if channel.numeric or len(channel.values) > len(_COLOURS):
        sort = list(channel.values)
        return alt.Color(
            field=channel.field,
            type="ordinal",
            title=channel.title,
            scale=shades,
            sort=sort,
            legend=shown,
        )
    # A domain fixes the colour of a value, whichever values a filter leaves.
    domain = list(channel.values) or alt.Undefined
    scale = alt.Scale(domain=domain, range=_COLOURS)
    return alt.Color(
        field=channel.field, type="nominal", title=channel.title, scale=scale, legend=shown
    )


def _shape(channel: Channel) -> alt.Shape | alt.ShapeValue:
    if channel.field == NOTHING.field:
        return alt.ShapeValue("circle")
    return alt.Shape(**_distinguished(channel))


def _dash(channel: Channel, in_legend: bool = False) -> alt.StrokeDash | alt.StrokeDashValue:
    """Return the dashes of lines; the legend of shapes stands for both where points have them."""
    if channel.field == NOTHING.field:
        return alt.StrokeDashValue([1, 0])
    return alt.StrokeDash(**_distinguished(channel, in_legend))


def _distinguished(channel: Channel, in_legend: bool = True) -> dict[str, Any]:
    """Return the properties that shapes and dashes share."""
    ink = _ink()
    legend = alt.Legend(
        orient="top", columns=6, labelLimit=260, symbolFillColor=ink, symbolStrokeColor=ink
    )
    shown = in_legend and len(channel.values) <= _LONGEST_LEGEND
    return {
        "field": channel.field,
        "type": "nominal",
        "title": channel.title,
        "sort": sorted(channel.values) if channel.numeric else list(channel.values),
        "legend": legend if shown else None,
    }


def _panels(channel: Channel) -> alt.Facet:
    header = alt.Header(labelFontSize=12, labelFontWeight="bold", labelLimit=340, title=None)
    if channel.field == NOTHING.field:
        header = alt.Header(labelExpr="''", title=None)
    # The panels of maps and shares are texts that have no order but that of the cells.
    by_cell = alt.EncodingSortField("cell", op="min") if channel is _PANEL else alt.Undefined
    sort = list(channel.values) or by_cell
    return alt.Facet(field=channel.field, type="nominal", sort=sort, header=header)


def _tooltip(*fields: tuple[str, str]) -> list[alt.Tooltip]:
    """Return the tooltip of a mark: its cell, then these fields with their titles."""
    lines = [alt.Tooltip("label:N", title="cell")]
    for field, title in fields:
        if field in _TEXTS:
            lines.append(alt.Tooltip(f"{field}:N", title=title))
        else:
            lines.append(alt.Tooltip(f"{field}:Q", title=title, format=".4~g"))
    return lines


def _speedup_over(view: View) -> str:
    return f"{view.better} {view.baseline}"


def _ink() -> str:
    """Return the colour of text, which the theme of a page or of paper resolves."""
    return "currentColor"


def _paper() -> dict[str, Any]:
    return {**_themed("#1b1f24"), "background": "white"}


def _themed(ink: str) -> dict[str, Any]:
    words = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titleLimit": 420,
    }
    lines = {
        "domainColor": ink,
        "tickColor": ink,
        "gridColor": ink,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
    }
    return {
        "background": "transparent",
        "font": "system-ui, 'Helvetica Neue', Arial, sans-serif",
        "axis": {**words, **lines, "gridOpacity": 0.12},
        "legend": {**words, "symbolStrokeColor": ink},
        "header": {"labelColor": ink, "titleColor": ink},
        "title": {"color": ink},
        "view": {"stroke": ink, "strokeOpacity": 0.15},
    }
