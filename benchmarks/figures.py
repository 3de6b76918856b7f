"""Figures: what was measured of whom, kept as Parquet, one file per group."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sweep import __version__
from sweep.node import machine

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
OURS = f"sweep {__version__}"


class Figure(NamedTuple):
    """One number: `who` took `value` `unit` for `what`; `note` says what else must be known, such as how many."""

    what: str
    who: str
    value: float
    unit: str = "s"
    note: str = ""


def keep(group: str, figures: Iterable[Figure]) -> None:
    """Replace what was measured of this group before."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    rows = [figure._asdict() | {"group": group, "measured_at": now, "machine": told()} for figure in figures]
    RESULTS.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), RESULTS / f"{group}.parquet")


def kept() -> dict[str, list[dict[str, object]]]:
    """The rows of every group that was measured, by group."""
    return {path.stem: pq.read_table(path).to_pylist() for path in sorted(RESULTS.glob("*.parquet"))}


def told() -> str:
    """The machine in a line."""
    memory = f"{machine.memory_bytes() / 2**30:.0f} GiB"
    cores = f"{len(machine.usable_cores())} cores, load {os.getloadavg()[0]:.1f}"
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{machine.cpu_model()}, {cores}, {memory}, {system}"
