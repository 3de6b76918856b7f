"""Calibration: the difference that a machine measures between two identical cells (A/A test).

Its interval gives the noise floor of the machine, which later runs use as their margin.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sweep import atomic, catalog, homes
from sweep.analysis import statistics
from sweep.analysis.comparisons import Comparison
from sweep.errors import FAILED, SweepError
from sweep.estimate import work
from sweep.grid import Cell, Expansion, Trial, identify
from sweep.node import machine

LABEL, LABELS = "label", ("a", "b")


@dataclass(frozen=True)
class Calibration:
    """The ratio of two identical cells with its interval, from `pairs` pairs of trials.

    `place` is the name of the node, or the address of a cluster. `machine` is the identity of the
    node, empty for a cluster. A calibration applies to cells of its device and its workload there.
    """

    place: str
    cpu_model: str
    device: str
    workload: str
    cell: str
    metric: str
    pairs: int
    ratio: float
    low: float
    high: float
    spread: float
    measured_at: str
    run: str = ""
    machine: str = ""

    @classmethod
    def of(cls, comparison: Comparison, cell: Cell, address: str | None, run: str) -> Self:
        """Return the calibration that the comparison of the two labels gives.

        Raises SweepError where too few trials went well.
        """
        ratio, interval = comparison.ratio, comparison.interval
        if ratio is None or interval is None:
            pairs = min(comparison.processes)
            error = SweepError(
                f"{pairs} pairs of trials went well, too few to say anything",
                f"see sweep status {run}, sweep doctor",
            )
            # The command is right, but its trials failed.
            error.exit_code = FAILED
            raise error
        return cls(
            *_where(address),
            device=str(cell.axes["device"]),
            workload=str(cell.axes["workload"]),
            cell=cell.name,
            metric=comparison.metric,
            pairs=ratio.pairs,
            ratio=interval.estimate,
            low=interval.low,
            high=interval.high,
            spread=ratio.spread,
            measured_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            run=run,
            machine="" if address else machine.identity(),
        )

    @property
    def noise_floor(self) -> float:
        """The largest difference, as a share, that identical cells may show here.

        It is the end of the interval that is farther from 1.
        """
        return max(self.high, 1 / self.low) - 1 if self.low > 0 else math.inf

    @property
    def biased(self) -> bool:
        """Whether identical cells differ significantly."""
        return not self.low <= 1 <= self.high

    def detectable(self, seeds: int) -> float:
        """Return the smallest difference that is found with 80 % probability.

        The noise floor is the margin.
        """
        return statistics.detectable(self.spread, seeds, max(statistics.MARGIN, self.noise_floor))


def paired_plan(expansion: Expansion, seeds: int) -> tuple[Cell, Expansion]:
    """Return the cell of least work, and a plan with two labelled copies of it.

    Each copy has `seeds` seeds. A cell on the CPU is preferred.
    """
    if not expansion.cells:
        raise SweepError(
            "no cell is left to calibrate with",
            "leave out some of --only; sweep plan shows what there is",
        )
    workloads = catalog.workloads_of(expansion.cells)
    cell = min(
        expansion.cells,
        key=lambda each: (each.axes.get("device") != "cpu", work(each.settings, workloads)),
    )
    first = next(trial for trial in expansion.trials if trial.cell.id == cell.id)
    cells = [_labelled(cell, label) for label in LABELS]
    trials = [_seeded(first, each, seed) for seed in range(seeds) for each in cells]
    return cell, Expansion(cells, trials, ())


def save(calibration: Calibration) -> Path:
    """Save a calibration on this machine for later runs, and return its file.

    It replaces an earlier one of the same machine, device and workload.
    """
    where = calibration.machine or calibration.place
    path = _file(where, calibration.device, calibration.workload)
    # A calibration that is lost in a crash is measured again, so it need not be durable.
    atomic.write(path, json.dumps(asdict(calibration), indent=1).encode(), durable=False)
    return path


def applicable(cells: Iterable[Cell], address: str | None = None) -> list[Calibration]:
    """Return the calibrations for these cells on this machine, or on the cluster at `address`."""
    where = address or machine.identity()
    return list(_read(_file(where, *kind) for kind in _kinds(cells)))


def of_other_machines(cells: Iterable[Cell]) -> list[Calibration]:
    """Return the saved calibrations of other machines, where this machine has none of its own.

    Calibrations are saved in the user's folder. Machines may share this folder, and the hardware
    of a machine may change.
    """
    own = {(each.device, each.workload) for each in applicable(cells)}
    lacking = set(_kinds(cells)) - own
    saved = sorted(homes.cache("calibrations").glob("*.json"))
    return [
        each
        for each in _read(saved)
        if not _of_cluster(each) and (each.device, each.workload) in lacking
    ]


def _kinds(cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """Return the distinct pairs of device and workload."""
    kinds = ((str(cell.axes.get("device")), str(cell.axes.get("workload"))) for cell in cells)
    return list(dict.fromkeys(kinds))


def _of_cluster(calibration: Calibration) -> bool:
    return not calibration.machine and not calibration.cpu_model


def _where(address: str | None) -> tuple[str, str]:
    return (address, "") if address else (machine.node_name(), machine.cpu_model())


def _labelled(cell: Cell, label: str) -> Cell:
    axes = {**cell.axes, LABEL: label}
    cell_id = identify({**cell.common, **axes}, cell.content)
    return Cell(cell_id, f"{cell.name}/{LABEL}={label}", axes, cell.common, cell.content)


def _seeded(trial: Trial, cell: Cell, seed: int) -> Trial:
    return Trial(
        identify({**cell.settings, "seed": seed}, cell.content), cell, seed, trial.resources
    )


def _digest(*words: str) -> str:
    # The separator keeps ("ab", "c") apart from ("a", "bc").
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _file(where: str, device: str, workload: str) -> Path:
    folder = homes.cache("calibrations")
    return folder / f"{_digest(where, device, workload)[:16]}.json"


def _read(paths: Iterable[Path]) -> Iterator[Calibration]:
    for path in paths:
        # A file that is missing, damaged or of another version counts as no calibration.
        with contextlib.suppress(OSError, ValueError, TypeError):
            fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            yield Calibration(**fields)
