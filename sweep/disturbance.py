"""Disturbance: what else a node did while a trial ran on it, and whether the trial's times can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.machine import Usage

_SHORTEST_S = 0.2  # the kernel counts in hundredths of a second: what is shorter is mostly rounding


@dataclass(frozen=True)
class Limits:
    """What others may take of an exclusive trial's cores before its times count for nothing; None: all of it."""

    foreign_most: float | None = 0.5
    steal_most: float | None = 0.3


def shares(before: Usage, after: Usage, cores: int, own_s: float) -> dict[str, float | None]:
    """Columns: what share of `cores` cores' time others and the hypervisor took; `own_s` of it was the trial's own.

    None where the trial was too short for the kernel's counters.
    """
    span_s = after.at_s - before.at_s
    if not cores or span_s < _SHORTEST_S:
        return {"steal_ratio": None, "foreign_ratio": None}
    available_s = span_s * cores
    return {
        "steal_ratio": max(0.0, after.stolen_s - before.stolen_s) / available_s,
        "foreign_ratio": max(0.0, after.busy_s - before.busy_s - own_s) / available_s,
    }


def contamination(record: Mapping[str, Any], limits: Limits) -> str:
    """Why an exclusive trial's times cannot be trusted, or nothing."""
    signs = {
        "foreign_ratio": (limits.foreign_most, "other processes"),
        "steal_ratio": (limits.steal_most, "the hypervisor"),
    }
    for column, (most, who) in signs.items():
        share = record.get(column)
        if share is not None and most is not None and share > most:
            return f"{who} took {share:.0%} of its cores' time"
    return ""


def misplacement(record: Mapping[str, Any], cores: Sequence[int], threads: int) -> str:
    """How the worker says it ran otherwise than it was told to, or nothing."""
    if cores and record.get("cores") and list(record["cores"]) != list(cores):
        return f"it ran on cores {record['cores']} and was bound to {list(cores)}"
    if record.get("threads") and record["threads"] != threads:
        return f"it computed with {record['threads']} threads and was given {threads}"
    return ""
