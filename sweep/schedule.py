"""The plan: trials in randomised complete blocks, without those that have a record.

A block holds every cell once: all trials of one seed. The order within it is drawn from the grid's
`order`, by a hash of it with the block and the cell. So cells that are added to the grid or removed
from it leave the order of the others unchanged.
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
    """Return the trials to run, in order, with block, position and attempt.

    `statuses` maps the ids of recorded trials to status and attempt; those whose status is in
    `retry` run again. Blocks and positions are those of the whole plan, however much of it is done.
    """
    recorded = statuses or {}
    # Every record of a trial has the same position, so that drift over a run can be analysed.
    ordered = sorted(trials, key=lambda trial: (trial.seed, _order_key(order, trial)))
    return [
        Trial(t.id, t.cell, t.seed, t.resources, t.seed, position, _attempt(recorded.get(t.id)))
        for position, t in enumerate(ordered)
        if t.id not in recorded or recorded[t.id][0] in retry
    ]


def _order_key(order: int, trial: Trial) -> bytes:
    # A hash instead of a shuffle: the order of a block does not depend on which other cells exist.
    return hashlib.sha256(f"{order}/{trial.seed}/{trial.cell.id}".encode()).digest()


def _attempt(record: tuple[str, int] | None) -> int:
    return record[1] + 1 if record else 1
