"""How long the trials that remain will take, learned from those that ended."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]
LEARNT_FROM = ("cell_id", "status", "wall_s")


class Estimate:
    """Wall time per trial: of its own cell where one has ended, else scaled from its nearest kin, else unknown."""

    def __init__(self) -> None:
        self._by_cell: dict[str, list[float]] = defaultdict(list)
        self._per_work: dict[tuple[object, ...], list[float]] = defaultdict(list)

    def learn(self, known: Mapping[str, Sequence[Any]], settings: Mapping[str, Settings]) -> None:
        """From records, given by columns (cell_id, status, wall_s), of the cells whose settings are given."""
        for cell_id, status, wall_s in zip(known["cell_id"], known["status"], known["wall_s"], strict=True):
            if status == "ok" and wall_s and cell_id in settings:
                self.observe(cell_id, settings[cell_id], wall_s)

    def observe(self, cell_id: str, settings: Settings, wall_s: float) -> None:
        self._by_cell[cell_id].append(wall_s)
        for kin in _kinships(settings):
            self._per_work[kin].append(wall_s / _work(settings))

    def seconds(self, cell_id: str, settings: Settings) -> float | None:
        """Expected wall time of one trial of a cell, or None before anything like it has ended."""
        if known := self._by_cell.get(cell_id):
            return statistics.median(known)
        for kin in _kinships(settings):
            if rates := self._per_work.get(kin):
                return statistics.median(rates) * _work(settings)
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


def _kinships(settings: Settings) -> list[tuple[object, ...]]:
    """From the nearest kin to the farthest: framework and backend, then device, each within one workload."""
    near = tuple(settings.get(key) for key in ("workload", "device", "framework", "backend"))
    return [near, near[:2]]


_SETUP_EXAMPLES = 64.0  # starting, drawing weights and checking cost about as much as this many examples


def _work(settings: Settings) -> float:
    """Examples that a trial sees, with its set-up counted as examples."""
    batch = math.pow(2.0, settings.get("batch_exponent") or 0)
    steps = float(settings.get("samples") or 0) + float(settings.get("warmup") or 0)
    return _SETUP_EXAMPLES + batch * (steps or float(settings.get("epochs") or 1))
