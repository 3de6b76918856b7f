"""Failures: why trials have no times, like causes told together."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sweep.status import Status

COLUMNS = ("status", "error", "trial_name")


class Failure(NamedTuple):
    """A cause, with how many trials it befell and the first of them."""

    status: str
    cause: str
    trials: int
    first: str


def failures(records: pa.Table) -> list[Failure]:
    """The causes of the trials that did not end `ok`, the most frequent first; reads `COLUMNS`."""
    bad = records.filter(pc.not_equal(records["status"], Status.OK)).select(COLUMNS)
    found: dict[tuple[str, str], Failure] = {}
    for row in bad.to_pylist():
        key = (row["status"], cause(row["error"] or ""))
        known = found.get(key)
        found[key] = Failure(
            *key,
            known.trials + 1 if known else 1,
            known.first if known else row["trial_name"] or "",
        )
    return sorted(found.values(), key=lambda failure: -failure.trials)


def cause(error: str) -> str:
    """The last line of an error, its numbers left out, so that like causes are counted together."""
    lines = error.strip().splitlines()
    return re.sub(r"\b(0x[0-9a-f]+|\d{3,})\b", "…", lines[-1]) if lines else "no reason given"
