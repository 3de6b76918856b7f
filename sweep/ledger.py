"""Ledger: how many trials have failed, and how long those that are left will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from sweep import catalog
from sweep.estimate import LEARNT_FROM, Estimate, Remaining
from sweep.grid import Cell, Trial
from sweep.records.results import Record, Results
from sweep.status import Status

_ANEW_EVERY_S = 1.0


class Ledger:
    """What is left of a sweep over some cells, learnt from each record as it comes."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Trial]) -> None:
        self.failures = 0
        self._cells = {cell.id: cell for cell in cells}
        self._estimate = Estimate(catalog.workloads_of(self._cells.values()))
        counts = Counter(trial.cell.id for trial in todo)
        self._remaining = Remaining(self._estimate, self._cells, counts)
        self._total_s: float | None = None
        self._totalled_at = float("-inf")

    def learn(self, results: Results) -> None:
        """Take the times of trials that ended in earlier invocations."""
        self._estimate.learn(results.records(LEARNT_FROM).to_pydict(), self._cells)
        for cell_id in self._cells:
            self._remaining.change(cell_id, 0)

    def ended(self, record: Record) -> None:
        """Count a trial that has ended."""
        cell_id = record["cell_id"]
        status = Status(record["status"])
        if status is Status.OK:
            self._estimate.observe(cell_id, self._cells[cell_id].settings, record["wall_s"])
        elif status.is_failure:
            self.failures += 1
        self._remaining.change(cell_id, -1)

    def added(self, trial: Trial) -> None:
        """Count a trial that has joined what is left, for the first time or once more."""
        self._remaining.change(trial.cell.id, 1)

    def seconds(self, cell: Cell) -> float | None:
        """Expected time of one trial of a cell, in seconds; None where nothing like it has run."""
        return self._estimate.seconds(cell.id, cell.settings)

    def remaining_s(self, at_once: int = 1) -> float | None:
        """Return the expected time of what is left, in seconds; None where it is unknown.

        `at_once` is how many trials run at a time.
        """
        # A total looks at every cell. With thousands of cells it takes longer than to keep a
        # record, so that it is made once a second.
        if time.monotonic() - self._totalled_at > _ANEW_EVERY_S:
            self._total_s = self._remaining.total_s()
            self._totalled_at = time.monotonic()
        return None if self._total_s is None else self._total_s / max(1, at_once)
