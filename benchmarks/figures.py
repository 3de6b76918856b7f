"""Figures: the measurements of each tool, saved as one Parquet file per group."""

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
from sweep.node import machine as node

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
OURS = f"sweep {__version__}"
TARGET = "target"


class Figure(NamedTuple):
    """One number: `who` took `value` `unit` for `what`.

    `note` has further facts, such as counts. Less is always better. The first figure of a `what`
    is ours, and the others are compared with it.
    """

    what: str
    who: str
    value: float
    unit: str = "s"
    note: str = ""


def target(what: str, value: float, unit: str = "s", note: str = "") -> Figure:
    """Return a target of our own, for a task that no other tool does or for a promise."""
    return Figure(what, TARGET, value, unit, note)


def keep(group: str, figures: Iterable[Figure], machine: str, quick: bool) -> None:
    """Replace the saved measurements of this group."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    facts = {"group": group, "measured_at": now, "machine": machine, "quick": quick}
    rows = [figure._asdict() | facts for figure in figures]
    RESULTS.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), RESULTS / f"{group}.parquet")


def kept(group: str) -> list[dict[str, object]]:
    """Return the saved rows of a group; none where it was not measured yet."""
    file = RESULTS / f"{group}.parquet"
    return pq.read_table(file).to_pylist() if file.exists() else []


def told() -> str:
    """Return one line about the machine and its load."""
    memory = f"{node.memory_bytes() / 2**30:.0f} GiB"
    cores = f"{len(node.usable_cores())} cores, load before {os.getloadavg()[0]:.1f}"
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{node.cpu_model()}, {cores}, {memory}, {system}"
