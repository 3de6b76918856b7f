"""The commands `sweep summarize`, `compare` and `verify`: from records to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli import answers, output, runs, shares
from sweep.cli.tables import Format
from sweep.errors import SweepError
from sweep.texts import having

if TYPE_CHECKING:
    from sweep.analysis.run import Run

_Metric = Annotated[
    str | None,
    typer.Option(
        help="What to look at: step_s, forward_s, peak_rss_bytes …;"
        " each workload's own if left out."
    ),
]
_Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only such cells, as `framework=torch` or `batch_exponent=0,>3`,"
        " or trials, as `cpu_model=*EPYC*`.",
    ),
]
_Format = Annotated[Format, typer.Option("--format", help="How to write the rows.")]
_Margin = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        parser=shares.of("--margin"),
        help="Differences below it count as none, as 5% or 0.05;"
        " 1% or the machine's noise floor if left out.",
    ),
]
_OtherRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN_B]", help="A second run, to compare with the first cell by cell."),
]
_Over = Annotated[
    str | None,
    typer.Option(
        help="The axis to compare over, as framework or backward; or several, as framework,backend."
    ),
]
_Baseline = Annotated[
    str | None,
    typer.Option(
        help="The value to compare with, of several axes as torch==1.12.1,default;"
        " the grid's first if left out."
    ),
]
_Ignore = Annotated[
    list[str] | None,
    typer.Option(help="With two runs: an axis in which their cells may differ."),
]
_Rename = Annotated[
    list[str] | None,
    typer.Option(help="With two runs: an axis that has another name in the second, as OLD=NEW."),
]
_Across = Annotated[
    bool,
    typer.Option("--across-machines", help="Compare even cells measured on different machines."),
]


def summarize(
    run: runs.NewestUnlessNamed = None,
    by: Annotated[
        str | None, typer.Option(help="Axes that tell rows apart, as framework,batch_exponent.")
    ] = None,
    metric: _Metric = None,
    where: _Where = None,
    form: _Format = Format.TABLE,
) -> int:
    """Show mean, variance and interval of each cell, and what is doubtful about them.

    Times are means over processes with a 95 % interval, which takes at least three of them. Ends
    with 1 if trials failed, with 4 if planned ones have no record.

    Example: `sweep summarize core-time --by framework,batch_exponent --format csv`
    """
    from sweep.grid.conditions import parsed

    loaded = runs.load(run)
    summaries = loaded.summary(by.split(",") if by else None, metric, parsed(where or []))
    runs.warn_state(loaded)
    answers.write_summaries(summaries, form)
    return answers.summary_code(loaded, summaries)


def compare(
    run: runs.NewestUnlessNamed = None,
    other: _OtherRun = None,
    over: _Over = None,
    baseline: _Baseline = None,
    metric: _Metric = None,
    where: _Where = None,
    margin: _Margin = None,
    ignore: _Ignore = None,
    rename: _Rename = None,
    across_machines: _Across = False,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How to write the comparisons; sentences if left out."),
    ] = None,
) -> int:
    """Say which is faster, by how much, and how sure that is.

    Compares over an axis within a run, or the second run with the first. Ends with 1 if something
    is slower than its baseline, with 4 if records are missing, with 3 if nothing can be said yet.

    Example: `sweep compare core-time --over framework --baseline chainer==7.8.1`
    """
    from sweep.grid.conditions import parsed

    first, conditions = runs.load(run), parsed(where or [])
    second = None
    if other is None:
        if ignore or rename:
            raise SweepError(
                "--ignore and --rename are of two runs", "name a second run, or use --over"
            )
        axis = over or _default_axis(first, metric, conditions)
        comparisons = first.compare(axis, baseline, metric, conditions, margin, across_machines)
        answers.warn_uncompared(first.uncompared(comparisons, metric, conditions), axis)
    else:
        if over or baseline:
            raise SweepError(
                "two runs are compared cell by cell, not over an axis",
                "leave out --over, or name one run",
            )
        second = runs.load(other)
        names = dict(_renaming(text) for text in rename or [])
        comparisons = second.compare_with(
            first, metric, conditions, margin, ignore or [], across_machines, names
        )
        runs.warn_state(second)
    # Warnings come after the records are read: reading finds damaged parts.
    runs.warn_state(first)
    for each in [first, second] if second else [first]:
        outdated = each.outdated(comparisons[0].over, metric, conditions)
        answers.warn_outdated(outdated, each.name)
    answers.write_comparisons(comparisons, form)
    answers.note_correction(comparisons, first.states_claims)
    return answers.comparison_code(comparisons)


def verify(
    run: runs.NewestUnlessNamed = None,
    where: _Where = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How to write the claims; sentences if left out."),
    ] = None,
) -> int:
    """Check the grid's claims against the records: supported, refuted or inconclusive.

    Each claim is shown with its evidence. Ends with 1 if a claim is refuted, with 4 if records that
    it needs are missing, with 3 if one is open.

    Example: `sweep verify core-time --format json`
    """
    loaded = runs.load(run, where)
    judgements = loaded.verify()
    if not judgements:
        raise SweepError(
            f"the grid of {loaded.results} states no claims",
            "add claims: to the grid, see sweep schema",
        )
    runs.warn_state(loaded)
    if loaded.missing:
        output.warn(
            f"{having(len(loaded.missing), 'planned trial')} no record yet:"
            " the claims are judged by the records so far"
        )
    answers.write_judgements(judgements, form)
    answers.note_correction_of_claims(judgements)
    return answers.judgement_code(judgements)


def _default_axis(run: Run, metric: str | None, where: Any) -> str:
    """Return the axis to compare over: the framework if it varies, or the only one that varies."""
    from sweep.analysis.matching import comparable_axes, nothing_to_compare
    from sweep.selection import varying

    varied = varying([summary.axes for summary in run.summary(metric=metric, where=where)])
    axes = comparable_axes(varied)
    if "framework" in axes:
        return "framework"
    if len(axes) == 1:
        return axes[0]
    if axes:
        raise SweepError(
            "nothing says what to compare",
            f"use --over with one of {', '.join(axes)}, or name two runs",
        )
    raise nothing_to_compare(varied)


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = (part.strip() for part in text.partition("="))
    if not old or not new:
        raise SweepError(f"{text!r} gives no axis another name", "write --rename OLD=NEW")
    return old, new
