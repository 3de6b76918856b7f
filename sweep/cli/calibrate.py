"""The command `sweep calibrate`: the noise floor of this machine, and what it can detect."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.axes import FEWEST_SEEDS
from sweep.cli import output, runs
from sweep.cli.plan import GridPath, Only, Out, Sets, expand_grid
from sweep.cli.run import MaxContention, interruptible
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.calibration import Calibration

_SEEDS = 10
# A detectable difference of this much or more is as good as none.
_UNDETECTABLE = 10.0
# Above this floor the machine is too noisy to be useful.
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
    """Run one cell of a grid under two labels, interleaved, and show the noise floor of this
    machine.

    The noise floor says how far apart equal things are measured here. The cell of least work is
    taken, among those of --only. The noise floor is kept on this machine. Later runs here of the
    same workload and device use it as the margin of their comparisons if it is more than 1 %.

    Example: `sweep calibrate grid.yaml --only '*/cpu/*/b0/*' --seeds 20`
    """
    from sweep import calibration
    from sweep import run as sweeps
    from sweep.analysis.run import Run
    from sweep.cli.display import display
    from sweep.records.results import Results
    from sweep.records.storage import Storage

    chosen, expansion = expand_grid(grid, sets, only)
    cell, doubled = calibration.paired_plan(expansion, seeds)
    name = f"calibration-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
    results = Results(Storage(out).child(name))
    output.say(f"measuring {cell.name} against itself, {counted(seeds, 'process')} each")
    options = sweeps.Options(address=address, max_contention=max_contention)
    named = dataclasses.replace(chosen, name=name)
    unfinished = f"the calibration is not finished; its records so far are in {results}"
    with interruptible(unfinished), display(name) as watching:
        sweeps.run(named, doubled, results, options, watching)
    (comparison, *_) = Run(results.storage).compare(
        calibration.LABEL, calibration.LABELS[0], across_machines=True
    )
    result = calibration.Calibration.of(comparison, cell, address, str(results))
    _report(result, len({trial.seed for trial in expansion.trials}))
    output.say(f"kept in {calibration.save(result)}; records: {results}")


def _report(result: Calibration, seeds: int) -> None:
    output.emit(_sentences(result, seeds))
    if result.biased:
        output.warn("equal cells differ by more than chance: see sweep doctor, and calibrate again")
    if result.noise_floor > _WIDE:
        output.warn(
            "differences below so wide a floor are called none:"
            " see sweep doctor, or calibrate with more --seeds"
        )


def _sentences(result: Calibration, seeds: int) -> str:
    """Return what the calibration means, in three sentences."""
    apart = f"{result.ratio - 1:+.2%} [{result.low - 1:+.2%}, {result.high - 1:+.2%}]"
    least = result.detectable(seeds)
    detected = f"differences of {least:.1%} and more"
    if least >= _UNDETECTABLE:
        detected = "no difference whatever"
    return (
        f"On {result.place}, {result.cell} measured against itself comes out {apart} apart"
        f" in {result.metric}, over {counted(result.pairs, 'pair')} of processes.\n"
        f"The noise floor is {result.noise_floor:.2%}. With {counted(seeds, 'seed')} per cell,"
        f" as in this grid, {detected} are found in four of five sweeps."
    )
