"""`sweep calibrate`: how far apart this machine measures what is equal, and what difference it can find."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.axes import FEWEST_SEEDS
from sweep.cli import output, runs
from sweep.cli.plan import GridPath, Only, Out, Sets, expanded
from sweep.cli.run import MaxContention, interruptible
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.calibration import Calibration

_SEEDS = 10
_ENDLESS = 10.0
_WIDE = 0.05


def calibrate(
    grid: GridPath,
    sets: Sets = None,
    only: Only = None,
    out: Out = runs.RESULTS,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Ray cluster: auto, host:port or ray://host:10001."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=FEWEST_SEEDS, help="Pairs of processes.")
    ] = _SEEDS,
    max_contention: MaxContention = 0.5,
) -> None:
    """Run one cell of a grid under two labels, interleaved, and say how far apart equal things are measured here.

    The cell of least work is taken, among those of --only. The noise floor is kept on this machine: later runs here of
    the same workload and device take it for the margin of their comparisons where it is more than 1 %.

    Example: `sweep calibrate grid.yaml --only '*/cpu/*/b0/*' --seeds 20`
    """
    from sweep import calibration
    from sweep import run as sweeps
    from sweep.analysis.run import Run
    from sweep.cli.display import display
    from sweep.records.results import Results
    from sweep.records.storage import Storage

    chosen, expansion = expanded(grid, sets, only)
    cell, doubled = calibration.paired_plan(expansion, seeds)
    name = f"calibration-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
    results = Results(Storage(out).child(name))
    output.say(f"measuring {cell.name} against itself, {counted(seeds, 'process')} each")
    options = sweeps.Options(address=address, max_contention=max_contention)
    named = dataclasses.replace(chosen, name=name)
    unfinished = f"the calibration is not finished; its records so far are in {results}"
    with interruptible(unfinished), display(name) as watching:
        sweeps.run(named, doubled, results, options, watching)
    comparison = Run(results.storage).compare(
        calibration.LABEL, calibration.LABELS[0], across_machines=True
    )[0]
    found = calibration.Calibration.of(comparison, cell, address, str(results))
    kept = calibration.save(found)
    output.emit(_said(found, len({trial.seed for trial in expansion.trials})))
    if found.biased:
        output.warn("equal cells differ by more than chance: see sweep doctor, and calibrate again")
    if found.noise_floor > _WIDE:
        output.warn(
            "differences below so wide a floor are called none: see sweep doctor, or calibrate with more --seeds"
        )
    output.say(f"kept in {kept}; records: {results}")


def _said(found: Calibration, seeds: int) -> str:
    """What it means, in three sentences."""
    apart = f"{found.ratio - 1:+.2%} [{found.low - 1:+.2%}, {found.high - 1:+.2%}]"
    least = found.detectable(seeds)
    finds = f"differences of {least:.1%} and more" if least < _ENDLESS else "no difference whatever"
    return (
        f"On {found.place}, {found.cell} measured against itself comes out {apart} apart in {found.metric}, "
        f"over {counted(found.pairs, 'pair')} of processes.\n"
        f"The noise floor is {found.noise_floor:.2%}. "
        f"With {counted(seeds, 'seed')} per cell, as in this grid, {finds} are found in four of five sweeps."
    )
