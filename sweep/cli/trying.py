"""The command `sweep try`: one short trial in the foreground, while writing a step or a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from sweep.cli import output
from sweep.cli.plan import GridPath, Only, Sets, expand_grid
from sweep.cli.tables import Column, Format, emit
from sweep.errors import FAILED
from sweep.status import Status
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.grid import Grid, Trial

# Values of settings that make a trial short.
_SHORT = {"samples": 5, "warmup": 1, "epochs": 1}
_FIGURES = (
    "first_step_s",
    "compile_s",
    "import_s",
    "peak_rss_bytes",
    "peak_device_bytes",
    "wall_s",
)


def try_(grid: GridPath, sets: Sets = None, only: Only = None) -> int:
    """Run the first trial of a step or a grid, cut short, and show its output and times, or the
    error.

    Environments and data are made if they are missing. No record is kept. Ends with 1 if the trial
    does not end well.

    Example: `sweep try train_step.py --set width=512`
    """
    chosen, expansion = expand_grid(grid, sets, only)
    given = {option.partition("=")[0].strip() for option in sets or ()}
    trial = _cut_short(expansion.trials[0], given)
    output.say(f"trying {trial.name}, the first of {counted(len(expansion.trials), 'trial')}")
    record = _run(chosen, trial)
    if log := str(record.get("log") or "").rstrip():
        output.emit(log)
    if record["status"] != Status.OK:
        error = str(record["error"])
        is_shown = "Traceback" in error and "Traceback" in log
        output.say(f"{record['status']}: {error.splitlines()[-1] if is_shown else error}")
        return FAILED
    _show(record)
    return 0


def _cut_short(trial: Trial, given: set[str]) -> Trial:
    """Return the trial with few samples, unless the command line says how many."""
    changed = {
        name: value
        for name, value in _SHORT.items()
        if name in trial.cell.common and name not in given
    }
    cell = dataclasses.replace(trial.cell, common={**trial.cell.common, **changed})
    return dataclasses.replace(trial, cell=cell)


def _run(grid: Grid, trial: Trial) -> dict[str, Any]:
    """Run a trial in this process's own fork server; return its record.

    Other processes on its cores do not make it invalid.
    """
    from sweep.node import provision
    from sweep.node.worker import RunTrial

    provision.provide(provision.needs([trial], grid.environments), output.say)
    run_trial = RunTrial(
        grid.name,
        timeout_s=grid.timeout_s,
        overrides=grid.environments,
        max_contention=None,
        steal_most=None,
    )
    return run_trial(trial)


def _show(record: Mapping[str, Any]) -> None:
    """Show the phases as a table, and other figures of interest."""
    from sweep.analysis.quantities import quantity
    from sweep.records.columns import unit

    rows = list(_timed(record))
    columns = [Column("phase", [name.removesuffix("_s") for name, _ in rows], is_text=True)]
    columns += [
        Column(title, [quantity(figure(samples), "s") for _, samples in rows])
        for title, figure in (("median", median), ("min", min), ("max", max))
    ]
    emit(Format.TABLE, columns, [{"phase": name, "samples": samples} for name, samples in rows])
    figures = [
        f"{name} {quantity(record[name], unit(name))}" for name in _FIGURES if record.get(name)
    ]
    output.say(", ".join(figures))
    if "first_step_s" not in record:
        return
    result = record.get("result")
    if result is None:
        output.say("the step returns nothing that can be compared")
    else:
        output.say(f"result {result:.9g}")


def _timed(record: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """Yield the columns with a time per sample, the whole step last."""
    step = "step_s"
    samples = len(record.get(step) or ())
    for name, value in record.items():
        is_phase = name.endswith("_s") and name not in (step, "warmup_s", "device_s")
        if is_phase and isinstance(value, list) and len(value) == samples and value:
            yield name, value
    if samples:
        yield step, record[step]
