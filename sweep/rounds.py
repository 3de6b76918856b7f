"""Rounds: what runs next, decided from the records that have come so far.

The first round holds the planned trials without a record. Trials that other processes disturbed
follow, then the seeds that the grid's `until` wants, until there is nothing left to run. Nothing
here runs, reads or writes: the sweep runs each round and hands back its records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.grid import Trial
from sweep.status import Status


@dataclass(frozen=True)
class Round:
    """Trials that may run in any order; `repeats`: each has run before and was disturbed."""

    trials: Sequence[Trial]
    repeats: bool = False


class Rounds:
    """The rounds of one sweep. Call `learn` with the records of a round before asking for the next.

    `attempts` is how often a trial runs at most where other processes disturb it. `more` returns
    the further trials that the records so far ask for, none where they suffice.
    """

    def __init__(
        self, planned: Sequence[Trial], attempts: int, more: Callable[[], Sequence[Trial]]
    ) -> None:
        self._planned = planned
        self._attempts = attempts
        self._more = more
        self._disturbed: dict[str, int] = {}  # attempt, by trial id

    def __iter__(self) -> Iterator[Round]:
        trials = self._planned or self._more()
        while trials:
            yield Round(trials)
            for _ in range(1, self._attempts):
                disturbed = self._take_disturbed(trials)
                if not disturbed:
                    break
                yield Round(disturbed, repeats=True)
            self._disturbed.clear()
            trials = self._more()

    def learn(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Remember which trials have to run again."""
        for record in records:
            if record["status"] == Status.INVALID:
                self._disturbed[record["trial_id"]] = record["attempt"]

    def _take_disturbed(self, trials: Sequence[Trial]) -> list[Trial]:
        attempts, self._disturbed = self._disturbed, {}
        return [
            dataclasses.replace(trial, attempt=attempts[trial.id] + 1)
            for trial in trials
            if trial.id in attempts
        ]
