"""The command `sweep curves`: learning curves, cell by cell and epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.axes import FEWEST_SEEDS
from sweep.cli import answers, output, runs
from sweep.cli.tables import Column, Format, beside, emit, row

if TYPE_CHECKING:
    from sweep.analysis.curves import Curve, Point
    from sweep.analysis.quantities import Scale


def curves(
    run: runs.NewestUnlessNamed = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Only such cells, as framework=torch."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.TABLE,
) -> int:
    """Show learning curves: validation loss, PCK, PCP and elapsed time, by cell and epoch.

    Losses are means over trials, with their minimum and maximum and, from three trials on, a 95 %
    interval. Time is that of training alone. Ends with 4 if planned trials have no record.

    Example: sweep curves training --where framework=torch --format csv
    """
    from sweep.analysis import logs
    from sweep.grid.conditions import parsed

    loaded = runs.load(run)
    learning = loaded.curves(parsed(where or []))
    runs.warn_state(loaded)
    points = [(curve, point) for curve in learning for point in curve.points]
    emit(form, _columns(points), [_row(curve, point) for curve, point in points])
    few = {point.trials for _, point in points if point.interval is None}
    if few and form in (Format.TABLE, Format.MARKDOWN, Format.LATEX):
        more = FEWEST_SEEDS - max(few)
        output.warn(
            f"an interval takes three trials or more and there are {max(few)};"
            f" use --add-seeds {more}"
        )
    if left_out := logs.left_out_note(sum(curve.left_out for curve in learning)):
        output.warn(f"{left_out}; see what one trial recorded with sweep show")
    return answers.missing_code(loaded)


def _columns(points: Sequence[tuple[Curve, Point]]) -> list[Column]:
    from sweep.analysis.quantities import number, scale

    # One unit for the column: that of the longest time.
    time = scale("s", [max((point.elapsed_s or 0.0 for _, point in points), default=0.0)])
    plain = scale("", [1.0])
    columns = [
        Column("epoch", [str(point.epoch) for _, point in points]),
        Column("n", [str(point.trials) for _, point in points]),
        Column("validation loss", [number(point.loss) for _, point in points]),
        Column("over seeds", [_range(point) for _, point in points]),
        Column("95 % interval", [plain.interval(point.interval) for _, point in points]),
        Column("PCK", [_percent(point.pck) for _, point in points]),
        Column("PCP", [_percent(point.pcp) for _, point in points], rank=1),
        Column(f"elapsed {time.sign}", [_time(point, time) for _, point in points]),
    ]
    return beside(answers.axis_columns([curve.axes for curve, _ in points]), columns)


def _percent(share: float | None) -> str:
    from sweep.analysis.quantities import NOTHING

    return NOTHING if share is None else f"{share:.1%}"


def _time(point: Point, time: Scale) -> str:
    from sweep.analysis.quantities import NOTHING

    return NOTHING if point.elapsed_s is None else time.text(point.elapsed_s)


def _range(point: Point) -> str:
    from sweep.analysis.quantities import NOTHING, number

    return f"{number(point.least)} … {number(point.greatest)}" if point.trials > 1 else NOTHING


def _row(curve: Curve, point: Point) -> dict[str, Any]:
    own = {
        "epoch": point.epoch,
        "trials": point.trials,
        "validation_loss": point.loss,
        "least": point.least,
        "greatest": point.greatest,
        "low": point.interval.low if point.interval else None,
        "high": point.interval.high if point.interval else None,
        "validation_pck": point.pck,
        "validation_pcp": point.pcp,
        "elapsed_s": point.elapsed_s,
    }
    return row(curve.axes, own)
