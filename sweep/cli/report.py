"""The commands `sweep report` and `plot`: a run as a page, and single pictures of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import output, paths, runs
from sweep.cli.answers import summary_code
from sweep.errors import SweepError, nearest

if TYPE_CHECKING:
    from sweep.analysis.run import Run

KINDS = {
    "time": "mean and interval over an axis",
    "speedup": "times as fast as a baseline",
    "heatmap": "speed-ups as a map",
    "split": "forward and backward shares",
    "processes": "the distribution in each process",
    "order": "drift over the order of execution",
    "curve": "training loss over elapsed time",
    "validation": "validation loss over elapsed time",
    "pck": "correct keypoints over elapsed time",
}


_File = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        parser=paths.path,
        metavar="FILE",
        help="The file; by default report.html in the run's folder.",
    ),
]
_Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help="Only such cells or trials, as `framework=torch` or `cpu_model=*EPYC*`.",
    ),
]


def report(
    run: runs.NewestUnlessNamed = None,
    file: _File = None,
    where: _Where = None,
) -> int:
    """Write a run as one HTML file that works without a network.

    It has plots, tables, claims and warnings; its reader chooses axes and filters. Prints the
    file's name. Ends with 1 if trials failed, with 4 if planned ones have no record.

    Example: `sweep report core-time -o core-time.html`
    """
    from sweep.report import report as page

    loaded = runs.load(run, where)
    target = file or _beside(loaded)
    _check(target)
    # The run's folder may be writable for others, who could redirect the file with a link.
    if file is None and target.is_symlink():
        raise SweepError(
            f"{target} is a link, which is not followed", "remove it, or name the file with -o"
        )
    # The page is complete before the file is opened: an error must not leave half of one.
    text = page(loaded)
    runs.warn_state(loaded)
    _write(target, text.encode())
    return summary_code(loaded, loaded.summary())


_RunToPlot = Annotated[
    str, typer.Argument(metavar="RUN", help="A folder, a URI, or a name under results/.")
]
_Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND", help="; ".join(f"{name}: {shows}" for name, shows in KINDS.items())
    ),
]
_PlotFile = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        parser=paths.path,
        metavar="FILE",
        help="The file, by its ending PNG, SVG or PDF.",
    ),
]
_Metric = Annotated[
    str | None, typer.Option(help="What to look at: step_s, forward_s, peak_rss_bytes …")
]
_PlotWhere = Annotated[
    list[str] | None, typer.Option(metavar="CONDITION", help="Only such cells, as device=cpu.")
]
_X = Annotated[str | None, typer.Option("--x", help="The axis along x.")]
_Colour = Annotated[str | None, typer.Option(help="The axis told by colour, or none.")]
_Shape = Annotated[str | None, typer.Option(help="The axis told by dashes and shapes, or none.")]
_Panels = Annotated[str | None, typer.Option(help="The axis with a panel for each value, or none.")]
_Over = Annotated[str | None, typer.Option(help="speedup, heatmap: the axis to compare over.")]
_Baseline = Annotated[str | None, typer.Option(help="speedup, heatmap: the value to compare with.")]


def plot(
    run: _RunToPlot,
    kind: _Kind,
    file: _PlotFile,
    metric: _Metric = None,
    where: _PlotWhere = None,
    x: _X = None,
    colour: _Colour = None,
    shape: _Shape = None,
    panels: _Panels = None,
    over: _Over = None,
    baseline: _Baseline = None,
) -> int:
    """Draw one picture of a run for a paper.

    Example: `sweep plot core-time time -o core-time.pdf --x batch_exponent --colour framework`
    """
    from sweep.grid.conditions import parsed
    from sweep.report import figures, plots

    file_format = _file_format(file)
    _check(file)
    given = {"x": x, "colour": colour, "shape": shape, "panels": panels}
    roles = {role: name for role, name in given.items() if name}
    choice = figures.Choice(metric, parsed(where or []), roles, over, baseline)
    loaded = runs.load(run)
    drawn = figures.picture(loaded, kind, choice)
    runs.warn_state(loaded)
    is_course = plots.kind_named(kind).rows in figures.COURSES
    left_out = figures.unusable(loaded) if is_course else ""
    if left_out:
        output.warn(f"{left_out}; see what one trial recorded with sweep show")
    _write(file, plots.image(drawn, file_format))
    return 0


def _beside(run: Run) -> Path:
    """Return report.html in the run's folder; in the current one for a run in an object store."""
    folder, here = run.results.storage.folder, Path.cwd()
    if folder is None:
        return Path(f"{run.name}.html")
    return (folder.relative_to(here) if folder.is_relative_to(here) else folder) / "report.html"


def _file_format(file: Path) -> str:
    from sweep.report.plots import FORMATS

    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise SweepError(
            f"{file} ends in no format that plots are drawn in", nearest(suffix, FORMATS)
        )
    return suffix


def _check(file: Path) -> None:
    """Raise SweepError if the file cannot be written, before work is spent on it."""
    # Path.is_dir() raises an OSError if a name is too long.
    if os.path.isdir(file):  # noqa: PTH112
        raise SweepError(f"{file} is a folder", "name a file with -o")
    if not os.path.isdir(file.parent):  # noqa: PTH112
        raise SweepError(
            f"{file} cannot be written: there is no folder {file.parent}",
            "make it, or name another",
        )


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise SweepError(
            f"{file} cannot be written: {error.strerror}", "name another file with -o"
        ) from None
    output.emit(str(file))
