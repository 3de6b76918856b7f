"""Learning curves: what validation found of each cell as training went on, over its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.analysis import statistics
from sweep.analysis.statistics import Interval
from sweep.analysis.summary import cells_of
from sweep.grid.conditions import Conditions
from sweep.selection import Axes, Where, check_axes, natural
from sweep.status import Status

_VALUES = ("loss", "pck", "pcp", "elapsed_s")
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
    elapsed_s: float


@dataclass(frozen=True)
class Curve:
    """One cell: its axes, and its points by epoch."""

    axes: Axes
    points: tuple[Point, ...]


class _Seen(NamedTuple):
    """One validation of one trial."""

    loss: float
    pck: float | None
    pcp: float | None
    elapsed_s: float


def curves(table: pa.Table, where: Where | None = None) -> list[Curve]:
    """The curve of each cell with trials that ended `ok` and were validated, in the order of the axes' values."""
    cells, of_cell = cells_of(table)
    check_axes(where or (), cells)
    wanted = pc.and_(pc.equal(table["status"], Status.OK), pc.is_valid(table["validation_epoch"])).to_numpy()
    seen: dict[int, dict[int, list[_Seen]]] = defaultdict(lambda: defaultdict(list))
    for row in np.flatnonzero(wanted):
        for epoch, each in _validations(table.slice(int(row), 1).to_pylist()[0]):
            seen[int(of_cell[row])][epoch].append(each)
    conditions = Conditions(where or {})
    chosen = [cell for cell in seen if conditions.holds(cells[cell])]
    found = [
        Curve(cells[cell], tuple(_point(epoch, seen[cell][epoch]) for epoch in sorted(seen[cell]))) for cell in chosen
    ]
    return sorted(found, key=lambda curve: [natural(value) for value in curve.axes.values()])


def _validations(record: dict[str, Any]) -> Iterable[tuple[int, _Seen]]:
    epochs = record["validation_epoch"]
    lists = (record[f"validation_{name}"] or [None] * len(epochs) for name in _VALUES)
    return zip(epochs, map(_Seen, *lists), strict=True)


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
        elapsed_s=float(np.mean([each.elapsed_s for each in seen])),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
