"""Learning curves: what validation found of each cell as training went on, over its seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.analysis import statistics
from sweep.analysis.logs import Log, log_of
from sweep.analysis.statistics import Interval
from sweep.analysis.summary import cells_of
from sweep.grid.conditions import Conditions
from sweep.selection import Axes, Where, check_axes, natural
from sweep.status import Status

_VALUES = ("loss", "pck", "pcp", "elapsed_s")
_OTHERS = ("validation_pck", "validation_pcp", "validation_elapsed_s")
COLUMNS = (
    "cell_id",
    "settings",
    "content",
    "started_at",
    "status",
    "validation_epoch",
    *(f"validation_{name}" for name in _VALUES),
)


@dataclass(frozen=True)
class Point:
    """A cell after so many epochs: means over the `trials` that were validated then; None where none tells.

    `least` and `greatest` are the losses of the trials that lie furthest apart.
    """

    epoch: int
    trials: int
    loss: float
    least: float
    greatest: float
    interval: Interval | None  # of the loss, 95 %; None with fewer than three trials
    pck: float | None
    pcp: float | None
    elapsed_s: float | None


@dataclass(frozen=True)
class Curve:
    """One cell: its axes, its points by epoch, and how many validations could not be used for them."""

    axes: Axes
    points: tuple[Point, ...]
    left_out: int = 0


class _Seen(NamedTuple):
    """One validation of one trial; NaN where it does not tell."""

    loss: float
    pck: float
    pcp: float
    elapsed_s: float


class _Cell:
    """What the trials of a cell found, by epoch."""

    def __init__(self) -> None:
        self.seen: dict[int, list[_Seen]] = defaultdict(list)
        self.left_out = 0

    def add(self, log: Log) -> None:
        self.left_out += log.left_out
        columns = (log.values[f"validation_{name}"].tolist() for name in _VALUES)
        for epoch, *values in zip(log.steps.tolist(), *columns, strict=True):
            self.seen[int(epoch)].append(_Seen(*values))


def curves(table: pa.Table, where: Where | None = None) -> list[Curve]:
    """The curve of each cell with trials that ended `ok` and were validated, in the order of the axes' values."""
    cells, of_cell = cells_of(table)
    check_axes(where or (), cells)
    validated = pc.or_(
        pc.is_valid(table["validation_epoch"]), pc.is_valid(table["validation_loss"])
    )
    found: dict[int, _Cell] = defaultdict(_Cell)
    for row in np.flatnonzero(pc.and_(pc.equal(table["status"], Status.OK), validated).to_numpy()):
        record = table.slice(int(row), 1).to_pylist()[0]
        found[int(of_cell[row])].add(
            log_of(record, "validation_epoch", ["validation_loss"], _OTHERS)
        )
    conditions = Conditions(where or {})
    chosen = [number for number in found if conditions.holds(cells[number])]
    told = [_curve(cells[number], found[number]) for number in chosen]
    return sorted(told, key=lambda curve: [natural(value) for value in curve.axes.values()])


def _curve(axes: Axes, cell: _Cell) -> Curve:
    points = tuple(_point(epoch, cell.seen[epoch]) for epoch in sorted(cell.seen))
    return Curve(axes, points, cell.left_out)


def _point(epoch: int, seen: Sequence[_Seen]) -> Point:
    losses = [each.loss for each in seen]
    return Point(
        epoch=epoch,
        trials=len(seen),
        loss=float(np.mean(losses)),
        least=min(losses),
        greatest=max(losses),
        interval=statistics.interval(losses),
        pck=_mean([each.pck for each in seen]),
        pcp=_mean([each.pcp for each in seen]),
        elapsed_s=_mean([each.elapsed_s for each in seen]),
    )


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else None
