"""Runs on the command line, found by name, path or URI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import output
from sweep.errors import MISSING, SweepError, nearest
from sweep.records.layout import RECORDS, RUN_FILE
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.analysis.run import Run
    from sweep.records.storage import Storage

RESULTS = "results"

NewestUnlessNamed = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A folder, a URI, or a name under results/; the newest one if left out.",
    ),
]


def load(run: str | None, where: Sequence[str] | None = None) -> Run:
    """Return a run with the conditions of `--where`; by default the newest under `results/`."""
    from sweep.analysis.run import Run
    from sweep.grid.conditions import parsed

    return Run(locate(run), parsed(where or []))


def warn_state(run: Run) -> None:
    """Warn that a run is still running, and of damage. Call it after the records are read."""
    if driver := run.running:
        ended = f"{driver.ended} of {counted(driver.planned, 'trial')}"
        output.warn(
            f"{run.name} is still running, {ended} have ended: this is of the records so far"
        )
    warn_damage(run)


def warn_damage(run: Run) -> None:
    """Warn of parts that could not be read, and of values of `--where` that no cell has.

    Call it after the records are read.
    """
    for part, reason in run.damaged:
        output.warn(f"{part} left out: {reason}")
    for unmet in run.unmet:
        output.warn(unmet)


def locate(run: str | None) -> str:
    """Return the path or URI of a run: the given one, or that of a name under `results/`."""
    from sweep.records.storage import Storage

    if run is None:
        return _newest()
    if _holds_a_run(Storage(run)):
        return run
    names = [name for name, _ in list_runs(RESULTS)]
    if run in names:
        return f"{RESULTS}/{run}"
    if "/" in run or not names:
        raise SweepError(
            f"{run} holds no run", "name a folder or URI that sweep run has written, see sweep ls"
        )
    raise SweepError(f"there is no run {run!r}", nearest(run, names))


def list_runs(where: str) -> list[tuple[str, float]]:
    """Return the names of runs in a folder or store with the times of their changes, newest first.

    Times are in seconds since the epoch.
    """
    from sweep.records.storage import Storage

    storage = Storage(where)
    runs = []
    for name in storage.folders():
        run_file_at = storage.changed_at(f"{name}/{RUN_FILE}")
        if run_file_at:
            runs.append((name, max(run_file_at, storage.changed_at(f"{name}/{RECORDS}"))))
    return sorted(runs, key=lambda run: -run[1])


def _newest() -> str:
    runs = list_runs(RESULTS)
    if not runs:
        error = SweepError(
            f"there is no run under {RESULTS}/", "start one with sweep run, or name its folder"
        )
        error.exit_code = MISSING
        raise error
    return f"{RESULTS}/{runs[0][0]}"


def _holds_a_run(storage: Storage) -> bool:
    return storage.exists(RUN_FILE) or storage.exists(RECORDS)
