"""Runs: which one is meant by a name, a path or a URI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.cli import output
from sweep.errors import MISSING, SweepError, nearest
from sweep.records.layout import RECORDS, RUN_FILE
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.analysis.run import Run
    from sweep.records.storage import Storage

RESULTS = "results"


def loaded(run: str | None, where: Sequence[str] | None = None) -> Run:
    """The run that is meant, the newest under `results/` where none is named; only trials that meet `--where`."""
    from sweep.analysis.run import Run
    from sweep.grid.conditions import parsed

    return Run(place_of(run), parsed(where or []))


def tell_state(run: Run) -> None:
    """Warn that the run goes on meanwhile, and of damage as `tell_damage`; call it after both."""
    if driver := run.running:
        ended = f"{driver.ended} of {counted(driver.planned, 'trial')}"
        output.warn(
            f"{run.name} is still running, {ended} have ended: this is of the records so far"
        )
    tell_damage(run)


def tell_damage(run: Run) -> None:
    """Warn of parts that could not be read, and of values of `--where` that no cell has; call it after both."""
    for part, reason in run.damaged:
        output.warn(f"{part} left out: {reason}")
    for unmet in run.unmet:
        output.warn(unmet)


def place_of(run: str | None) -> str:
    """A path or a URI: the one given, or that of the run of this name under `results/`."""
    from sweep.records.storage import Storage

    if run is None:
        return _newest()
    if _holds_a_run(Storage(run)):
        return run
    names = [name for name, _ in under(RESULTS)]
    if run in names:
        return f"{RESULTS}/{run}"
    if "/" in run or not names:
        raise SweepError(
            f"{run} holds no run", "name a folder or URI that sweep run has written, see sweep ls"
        )
    raise SweepError(f"there is no run {run!r}", nearest(run, names))


def under(where: str) -> list[tuple[str, float]]:
    """Names of the runs in a folder or store, with the time of their last change, newest first."""
    from sweep.records.storage import Storage

    place = Storage(where)
    found = [(name, place.changed_at(f"{name}/{RUN_FILE}")) for name in place.folders()]
    runs = [(name, max(at, _records_changed_at(place, name))) for name, at in found if at]
    return sorted(runs, key=lambda each: -each[1])


def _newest() -> str:
    runs = under(RESULTS)
    if not runs:
        error = SweepError(
            f"there is no run under {RESULTS}/", "start one with sweep run, or name its folder"
        )
        error.exit_code = MISSING
        raise error
    return f"{RESULTS}/{runs[0][0]}"


def _holds_a_run(place: Storage) -> bool:
    return place.exists(RUN_FILE) or place.exists(RECORDS)


def _records_changed_at(place: Storage, name: str) -> float:
    return place.changed_at(f"{name}/{RECORDS}")
