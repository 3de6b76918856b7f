"""The plan: trials in randomised complete blocks, less those that have a record.

A block holds every cell once: all trials of one seed. Within it the order is drawn from the grid's `order` by hashing
it with the block and the cell: whatever is added to the grid or left out of it, the rest keeps its order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from sweep.grid import Trial


def plan(
    trials: Iterable[Trial],
    statuses: Mapping[str, tuple[str, int]] | None = None,
    retry: Collection[str] = (),
    order: int = 0,
) -> list[Trial]:
    """Trials to run, in order, with their block, position and attempt.

    `statuses` maps ids of trials that have a record to its status and attempt; those whose status is in `retry` are run
    again. Blocks and positions are those of the whole plan, whatever is done of it.
    """
    recorded = statuses or {}
    ordered = sorted(trials, key=lambda trial: (trial.seed, _drawn(order, trial)))
    return [
        Trial(t.id, t.cell, t.seed, t.resources, t.seed, position, _attempt(recorded.get(t.id)))
        for position, t in enumerate(ordered)
        if t.id not in recorded or recorded[t.id][0] in retry
    ]


def _drawn(order: int, trial: Trial) -> bytes:
    return hashlib.sha256(f"{order}/{trial.seed}/{trial.cell.id}".encode()).digest()


def _attempt(record: tuple[str, int] | None) -> int:
    return record[1] + 1 if record else 1
