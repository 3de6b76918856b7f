"""Estimate: how long the remaining trials will take, from the wall times of those that ended."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sweep.axes import batch_size
from sweep.status import Status

Settings = Mapping[str, Any]
Kinship = tuple[object, ...]
# Wall times that are kept for each cell or kinship. They bound the time and memory of a median.
_RECENT = 501
# Start, parameter initialization and checks take about as long as this many examples.
_SETUP_EXAMPLES = 64.0


class Workload(Protocol):
    """The part of a workload of the catalog that estimates need."""

    @property
    def steps(self) -> Sequence[str]:
        """The names of the settings that count steps."""


class Cell(Protocol):
    """The part of a cell that estimates need; see `sweep.grid`."""

    @property
    def settings(self) -> Settings:
        """The settings of the cell's trials, without the seed."""


LEARNT_FROM = ("cell_id", "status", "wall_s")


class Estimate:
    """Expected wall times of trials.

    A cell of which a trial has ended has the median of its own trials. Any other cell has the
    time per example of its nearest kin, times its number of examples. Kin are the cells with the
    same workload, device, framework and backend, else those with the same workload and device.
    """

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self._workloads = workloads
        self._by_cell: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._per_work: dict[Kinship, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        # The medians of `_per_work`; an entry is removed when a trial of its kin ends.
        self._rates: dict[Kinship, float] = {}

    def learn(self, columns: Mapping[str, Sequence[Any]], cells: Mapping[str, Cell]) -> None:
        """Learn from records, given by the columns LEARNT_FROM, of these cells, given by id."""
        for cell_id, status, wall_s in zip(
            columns["cell_id"], columns["status"], columns["wall_s"], strict=True
        ):
            if status == Status.OK and wall_s and cell_id in cells:
                self.observe(cell_id, cells[cell_id].settings, wall_s)

    def observe(self, cell_id: str, settings: Settings, wall_s: float) -> None:
        """Learn from one trial that ended."""
        self._by_cell[cell_id].append(wall_s)
        for kin in _kinships(settings):
            self._per_work[kin].append(wall_s / self.work(settings))
            self._rates.pop(kin, None)

    def seconds(self, cell_id: str, settings: Settings) -> float | None:
        """Return the expected wall time of one trial of a cell, or None without any kin."""
        own = self.own_s(cell_id)
        if own is not None:
            return own
        rate = self.rate(_kinships(settings))
        return None if rate is None else rate * self.work(settings)

    def work(self, settings: Settings) -> float:
        """Return the number of examples of a trial with these settings; see `work`."""
        return work(settings, self._workloads)

    def own_s(self, cell_id: str) -> float | None:
        """Return the median time of a cell's own recent trials, or None without any."""
        times = self._by_cell.get(cell_id)
        return statistics.median(times) if times else None

    def rate(self, kinships: Iterable[Kinship]) -> float | None:
        """Return the seconds per example of the first kinship of which a trial has ended."""
        for kin in kinships:
            if kin not in self._rates and kin in self._per_work:
                self._rates[kin] = statistics.median(self._per_work[kin])
            if kin in self._rates:
                return self._rates[kin]
        return None

    def total_s(self, remaining: Iterable[tuple[str, Settings, int]]) -> float | None:
        """Return the expected time of `(cell_id, settings, trials)`, run one after the other.

        It is None where the time of any is unknown.
        """
        total = 0.0
        for cell_id, settings, trials in remaining:
            each = self.seconds(cell_id, settings)
            if each is None:
                return None
            total += each * trials
        return total


class Remaining:
    """The remaining trials of a sweep and their expected time.

    Each change takes constant time, however many cells there are. The time of cells of which a
    trial has ended is kept as a sum. For the other cells the sum of examples is kept by kinship,
    since their time changes with every trial of their kin.
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
        """Add trials to what is left of a cell; a negative number removes some.

        Call it with 0 after a time of the cell has been observed.
        """
        self._add(*self._counted.pop(cell_id, (None, 0.0)), sign=-1)
        self._left[cell_id] = left = self._left.get(cell_id, 0) + trials
        if left > 0:
            self._counted[cell_id] = counted = self._amount(cell_id, left)
            self._add(*counted, sign=1)

    def total_s(self) -> float | None:
        """Return the expected time of all trials, one after the other; None if any is unknown."""
        by_kin_s = 0.0
        for kin, examples in self._work.items():
            if examples:
                rate = self._estimate.rate([kin, kin[:2]])
                if rate is None:
                    return None
                by_kin_s += rate * examples
        # Subtracting times that were added earlier leaves rounding errors, which may be negative.
        return max(0.0, self._own_s) + by_kin_s

    def _amount(self, cell_id: str, trials: int) -> tuple[Kinship | None, float]:
        """Return the amount of some trials: seconds without a kinship, or examples with one."""
        settings, own_s = self._cells[cell_id].settings, self._estimate.own_s(cell_id)
        if own_s is None:
            return _kinships(settings)[0], trials * self._estimate.work(settings)
        return None, trials * own_s

    def _add(self, kin: Kinship | None, amount: float, sign: int) -> None:
        if kin is None:
            self._own_s += sign * amount
        else:
            # The amounts are whole numbers, so that they cancel out exactly.
            self._work[kin] += sign * amount


def _kinships(settings: Settings) -> list[Kinship]:
    """Return the kinships of a cell, the nearest first."""
    near = tuple(settings.get(key) for key in ("workload", "device", "framework", "backend"))
    return [near, near[:2]]


def work(settings: Settings, workloads: Mapping[str, Workload]) -> float:
    """Return the number of examples of a trial, with its set-up counted as examples."""
    batch = batch_size(settings) or 1
    steps = sum(float(settings.get(name) or 0) for name in workloads[settings["workload"]].steps)
    return _SETUP_EXAMPLES + batch * (steps or 1.0)
