"""Failures: why trials have no times, grouped by cause."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sweep.status import Status

COLUMNS = ("status", "error", "trial_name")


class Failure(NamedTuple):
    """A cause, the number of trials that failed by it, and the name of the first of them."""

    status: str
    cause: str
    trials: int
    first: str


def failures(records: pa.Table) -> list[Failure]:
    """Return the causes of the trials that did not end `ok`, the most frequent first.

    The records must hold `COLUMNS`.
    """
    failed = records.filter(pc.not_equal(records["status"], Status.OK)).select(COLUMNS)
    by_cause: dict[tuple[str, str], Failure] = {}
    for row in failed.to_pylist():
        key = (row["status"], cause(row["error"] or ""))
        failure = by_cause.get(key, Failure(*key, 0, row["trial_name"] or ""))
        by_cause[key] = failure._replace(trials=failure.trials + 1)
    return sorted(by_cause.values(), key=lambda failure: -failure.trials)


def cause(error: str) -> str:
    """Return the last line of an error without its numbers, so that equal causes are counted."""
    # Addresses and long numbers differ between occurrences of one cause.
    lines = error.strip().splitlines()
    return re.sub(r"\b(0x[0-9a-f]+|\d{3,})\b", "…", lines[-1]) if lines else "no reason given"
