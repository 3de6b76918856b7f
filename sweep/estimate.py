"""How long the trials that remain will take, learned from those that ended."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sweep.axes import batch_size
from sweep.status import Status

Settings = Mapping[str, Any]
Kinship = tuple[object, ...]
_RECENT = 501  # trials of a cell or kinship that are remembered: enough for a median, however many have ended


class Workload(Protocol):
    """What is needed of a workload of the catalog."""

    @property
    def steps(self) -> Sequence[str]: ...


class Cell(Protocol):
    """What is needed of a cell; see `sweep.grid`."""

    @property
    def settings(self) -> Settings: ...


LEARNT_FROM = ("cell_id", "status", "wall_s")


class Estimate:
    """Wall time per trial: of its own cell where one has ended, else scaled from its nearest kin, else unknown."""

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self._workloads = workloads
        self._by_cell: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._per_work: dict[Kinship, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._rates: dict[Kinship, float] = {}  # their medians, where nothing has ended since

    def learn(self, known: Mapping[str, Sequence[Any]], cells: Mapping[str, Cell]) -> None:
        """From records, given by columns (cell_id, status, wall_s), of the cells that are given, by id."""
        for cell_id, status, wall_s in zip(
            known["cell_id"], known["status"], known["wall_s"], strict=True
        ):
            if status == Status.OK and wall_s and cell_id in cells:
                self.observe(cell_id, cells[cell_id].settings, wall_s)

    def observe(self, cell_id: str, settings: Settings, wall_s: float) -> None:
        self._by_cell[cell_id].append(wall_s)
        for kin in _kinships(settings):
            self._per_work[kin].append(wall_s / self.work(settings))
            self._rates.pop(kin, None)

    def seconds(self, cell_id: str, settings: Settings) -> float | None:
        """Expected wall time of one trial of a cell, or None before anything like it has ended."""
        own = self.own_s(cell_id)
        rate = self.rate(_kinships(settings)) if own is None else None
        return own if rate is None else rate * self.work(settings)

    def work(self, settings: Settings) -> float:
        """Examples that a trial with these settings sees; see `work`."""
        return work(settings, self._workloads)

    def own_s(self, cell_id: str) -> float | None:
        """The median of a cell's own trials, the last ones where there were very many."""
        known = self._by_cell.get(cell_id)
        return statistics.median(known) if known else None

    def rate(self, kinships: Iterable[Kinship]) -> float | None:
        """Seconds for each example, of the nearest kin of which a trial has ended."""
        for kin in kinships:
            if kin not in self._rates and kin in self._per_work:
                self._rates[kin] = statistics.median(self._per_work[kin])
            if kin in self._rates:
                return self._rates[kin]
        return None

    def total_s(self, remaining: Iterable[tuple[str, Settings, int]]) -> float | None:
        """Expected time of `(cell_id, settings, trials)` run one after the other; None where any is unknown."""
        total = 0.0
        for cell_id, settings, trials in remaining:
            each = self.seconds(cell_id, settings)
            if each is None:
                return None
            total += each * trials
        return total


class Remaining:
    """What is left of a sweep; its time is kept up to date with each trial, however many cells there are.

    Cells of which a trial has ended count with their own time, the others with the work that they are, by kinship.
    """

    def __init__(
        self, estimate: Estimate, cells: Mapping[str, Cell], left: Mapping[str, int]
    ) -> None:
        self._estimate, self._cells, self._left = estimate, cells, dict.fromkeys(left, 0)
        self._own_s = 0.0
        self._work: dict[Kinship, float] = defaultdict(float)
        self._counted: dict[str, tuple[Kinship | None, float]] = {}
        for cell_id, trials in left.items():
            self.change(cell_id, trials)

    def change(self, cell_id: str, trials: int) -> None:
        """So many more trials are left of a cell, or fewer; also to be told when a time of it has been observed."""
        self._count(*self._counted.pop(cell_id, (None, 0.0)), sign=-1)
        self._left[cell_id] = left = self._left.get(cell_id, 0) + trials
        if left > 0:
            settings, own = self._cells[cell_id].settings, self._estimate.own_s(cell_id)
            kin = _kinships(settings)[0] if own is None else None
            self._counted[cell_id] = (
                kin,
                left * (self._estimate.work(settings) if own is None else own),
            )
            self._count(*self._counted[cell_id], sign=1)

    def total_s(self) -> float | None:
        """Expected time of all, one after the other; None where any is unknown."""
        rates = {
            kin: self._estimate.rate([kin, kin[:2]]) for kin, amount in self._work.items() if amount
        }
        if None in rates.values():
            return None
        return max(0.0, self._own_s) + sum(
            (rate or 0.0) * self._work[kin] for kin, rate in rates.items()
        )

    def _count(self, kin: Kinship | None, amount: float, sign: int) -> None:
        if kin is None:
            self._own_s += sign * amount
        else:
            self._work[kin] += sign * amount  # whole numbers: nothing is left over


def _kinships(settings: Settings) -> list[Kinship]:
    """From the nearest kin to the farthest: framework and backend, then device, each within one workload."""
    near = tuple(settings.get(key) for key in ("workload", "device", "framework", "backend"))
    return [near, near[:2]]


_SETUP_EXAMPLES = (
    64.0  # starting, drawing weights and checking cost about as much as this many examples
)


def work(settings: Settings, workloads: Mapping[str, Workload]) -> float:
    """Examples that a trial sees, with its set-up counted as examples."""
    batch = batch_size(settings) or 1
    steps = sum(float(settings.get(name) or 0) for name in workloads[settings["workload"]].steps)
    return _SETUP_EXAMPLES + batch * (steps or 1.0)
