"""Learning curves: the validation results of each cell by epoch, over its seeds."""

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
    """A cell after `epoch` epochs: means over the `trials` that were validated then.

    `least` and `greatest` are the extreme losses of single trials. `interval` is the 95 %
    interval of the loss, None with fewer than three trials. A quantity is None where no trial
    recorded it.
    """

    epoch: int
    trials: int
    loss: float
    least: float
    greatest: float
    interval: Interval | None
    pck: float | None
    pcp: float | None
    elapsed_s: float | None


@dataclass(frozen=True)
class Curve:
    """One cell: its axes, its points by epoch, and the number of unusable validations."""

    axes: Axes
    points: tuple[Point, ...]
    left_out: int = 0


class _Validation(NamedTuple):
    """One validation of one trial; NaN for a quantity that it did not record."""

    loss: float
    pck: float
    pcp: float
    elapsed_s: float


class _Cell:
    """The validations of a cell's trials, by epoch."""

    def __init__(self) -> None:
        self.validations: dict[int, list[_Validation]] = defaultdict(list)
        self.left_out = 0

    def add(self, log: Log) -> None:
        """Add the validations of one trial."""
        self.left_out += log.left_out
        columns = (log.values[f"validation_{name}"].tolist() for name in _VALUES)
        for epoch, *values in zip(log.steps.tolist(), *columns, strict=True):
            self.validations[int(epoch)].append(_Validation(*values))


def curves(table: pa.Table, where: Where | None = None) -> list[Curve]:
    """Return the curve of each cell with validated trials that ended `ok`.

    The curves are sorted by the values of the axes. The table must hold `COLUMNS`.
    """
    cells, of_cell = cells_of(table)
    check_axes(where or (), cells)
    validated = pc.or_(
        pc.is_valid(table["validation_epoch"]), pc.is_valid(table["validation_loss"])
    )
    usable = pc.and_(pc.equal(table["status"], Status.OK), validated).to_numpy()
    by_cell: dict[int, _Cell] = defaultdict(_Cell)
    # One row at a time: the logs of all trainings together may take very much memory.
    for row in np.flatnonzero(usable):
        record = table.slice(int(row), 1).to_pylist()[0]
        log = log_of(record, "validation_epoch", ["validation_loss"], _OTHERS)
        by_cell[int(of_cell[row])].add(log)
    conditions = Conditions(where or {})
    chosen = [number for number in by_cell if conditions.holds(cells[number])]
    unsorted = [_curve(cells[number], by_cell[number]) for number in chosen]
    return sorted(unsorted, key=lambda curve: [natural(value) for value in curve.axes.values()])


def _curve(axes: Axes, cell: _Cell) -> Curve:
    points = tuple(_point(epoch, cell.validations[epoch]) for epoch in sorted(cell.validations))
    return Curve(axes, points, cell.left_out)


def _point(epoch: int, validations: Sequence[_Validation]) -> Point:
    losses = [each.loss for each in validations]
    return Point(
        epoch=epoch,
        trials=len(validations),
        loss=float(np.mean(losses)),
        least=min(losses),
        greatest=max(losses),
        interval=statistics.interval(losses),
        pck=_mean([each.pck for each in validations]),
        pcp=_mean([each.pcp for each in validations]),
        elapsed_s=_mean([each.elapsed_s for each in validations]),
    )


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean of the values that are numbers, or None where there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(np.mean(numbers)) if numbers else None
