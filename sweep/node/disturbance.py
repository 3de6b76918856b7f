"""Disturbance: what else a node did while a trial ran on it, and whether the trial's times can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.node import machine
from sweep.node.gpus import Gpu
from sweep.node.machine import Usage
from sweep.texts import counted

_SHORTEST_S = 0.2  # the kernel counts in hundredths of a second: what is shorter is mostly rounding
_OVERHEATED_MOST = 0.01
_HARMLESS = "power limit"  # many GPUs run at theirs whenever they work: the same trial again would find the same


class Watch:
    """Reads what a node counts while a trial runs on `cores`: when it has started, when its work is done, at its end.

    `gpu` reads the trial's GPU; None where it has none, or NVML cannot be asked.
    """

    def __init__(self, cores: Sequence[int], gpu: Callable[[], Gpu | None]) -> None:
        self._cores, self._read_gpu = list(cores), gpu
        self._gpu_before = gpu()
        self._gpu_working: Gpu | None = None
        self._before: Usage | None = None

    def hear(self, event: str) -> None:
        if event == "started":
            self._before = machine.usage(self._cores)
        elif event == "outcome":
            self._gpu_working = self._read_gpu()

    def columns(self, own_s: float) -> dict[str, Any]:
        """What was counted; `own_s` is the CPU time of the trial itself. Nothing of a trial that never started."""
        if self._before is None:
            return {}
        after = machine.usage(self._cores)
        found = shares(self._before, after, len(self._cores), own_s)
        if self._gpu_before and self._gpu_working and (gone := self._read_gpu()):
            found |= gpu_columns(
                self._gpu_before, self._gpu_working, gone, after.at_s - self._before.at_s
            )
        return found


@dataclass(frozen=True)
class Limits:
    """What others may take of an exclusive trial's cores before its times count for nothing; None: all of it."""

    max_contention: float | None = 0.5
    steal_most: float | None = 0.3


def shares(before: Usage, after: Usage, cores: int, own_s: float) -> dict[str, Any]:
    """Columns: what share of `cores` cores' time others and the hypervisor took; `own_s` of it was the trial's own.

    None where the trial was too short for the kernel's counters.
    """
    span_s = after.at_s - before.at_s
    if not cores or span_s < _SHORTEST_S:
        return {"steal_ratio": None, "contention_ratio": None}
    available_s = span_s * cores
    return {
        "steal_ratio": max(0.0, after.stolen_s - before.stolen_s) / available_s,
        "contention_ratio": max(0.0, after.busy_s - before.busy_s - own_s) / available_s,
    }


def gpu_columns(before: Gpu, working: Gpu, after: Gpu, span_s: float) -> dict[str, Any]:
    """Columns of a trial on a GPU, read before it, at the end of its work, and once it has gone.

    Its own process is counted by its absence, for NVML may number processes otherwise than a container does.
    """
    others = [len(before.processes), len(working.processes) - 1, len(after.processes)]
    return {
        "device_name": before.name,
        "gpu_uuid": before.uuid,
        "gpu_driver": before.driver,
        "gpu_split": before.split,
        "gpu_clock_before_mhz": before.clock_mhz,
        "gpu_clock_mhz": working.clock_mhz,
        "gpu_temperature_c": working.temperature_c,
        "gpu_power_w": working.power_w,
        "gpu_slowed_by": ", ".join(sorted({*working.slowed_by, *after.slowed_by})),
        "gpu_overheated_ratio": max(0.0, after.overheated_s - before.overheated_s)
        / max(1e-9, span_s),
        "gpu_others": None if before.split else max(0, *others),
    }


def gpu_contamination(record: Mapping[str, Any]) -> str:
    """Why the times of a trial on a GPU of its own cannot be trusted, or nothing."""
    if others := record.get("gpu_others"):
        return f"{others} other process{'es were' if others > 1 else ' was'} on its GPU"
    causes = [
        cause
        for cause in (record.get("gpu_slowed_by") or "").split(", ")
        if cause not in ("", _HARMLESS)
    ]
    if causes:
        return f"its GPU was slowed by: {', '.join(causes)}"
    if (hot := record.get("gpu_overheated_ratio") or 0.0) > _OVERHEATED_MOST:
        return f"heat held its GPU's clocks down for {hot:.0%} of its time"
    return ""


def contamination(record: Mapping[str, Any], limits: Limits) -> str:
    """Why an exclusive trial's times cannot be trusted, or nothing."""
    signs = {
        "contention_ratio": (limits.max_contention, "other processes"),
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
        return f"it computed with {counted(record['threads'], 'thread')} and was given {threads}"
    return ""
