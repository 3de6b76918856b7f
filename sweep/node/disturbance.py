"""Disturbance: what else ran on a node during a trial, and whether the trial's times are valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.node import machine
from sweep.node.gpus import Gpu
from sweep.node.machine import Usage
from sweep.texts import counted

# The kernel counts in hundredths of a second, so in a shorter time rounding dominates.
_SHORTEST_S = 0.2
_MOST_OVERHEATED = 0.01  # as a share of the trial's time
# Many GPUs run at their power limit whenever they work, so a repetition would not differ.
_HARMLESS = "power limit"


class Watch:
    """Reads a node's counters for a trial on `cores`: at its start, after its work, at its end.

    `gpu` reads the trial's GPU. It returns None without a GPU, or where NVML is not available.
    """

    def __init__(self, cores: Sequence[int], gpu: Callable[[], Gpu | None]) -> None:
        self._cores, self._read_gpu = list(cores), gpu
        self._gpu_before = gpu()
        self._gpu_working: Gpu | None = None
        self._before: Usage | None = None

    def on_event(self, event: str) -> None:
        """Read counters for an event of the trial's host."""
        if event == "started":
            self._before = machine.usage(self._cores)
        elif event == "outcome":
            self._gpu_working = self._read_gpu()

    def columns(self, own_s: float) -> dict[str, Any]:
        """Return the columns; `own_s` is the trial's own CPU time. {} if it never started."""
        if self._before is None:
            return {}
        after = machine.usage(self._cores)
        values = shares(self._before, after, len(self._cores), own_s)
        if self._gpu_before and self._gpu_working and (gpu_after := self._read_gpu()):
            span_s = after.at_s - self._before.at_s
            values |= gpu_columns(self._gpu_before, self._gpu_working, gpu_after, span_s)
        return values


@dataclass(frozen=True)
class Limits:
    """The shares of an exclusive trial's core time that others may take before it is invalid.

    None allows any share.
    """

    max_contention: float | None = 0.5
    steal_most: float | None = 0.3


def shares(before: Usage, after: Usage, cores: int, own_s: float) -> dict[str, Any]:
    """Return the columns with the shares of core time that others and the hypervisor took.

    `own_s` is the trial's own CPU time. The values are None where the trial was too short for the
    kernel's counters.
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
    """Return the columns of a trial's GPU, read before the trial, after its work, after its end.

    NVML may number processes differently from the trial's container. So the trial's process is
    not found by its id: one process is subtracted while it runs.
    """
    others = [len(before.processes), len(working.processes) - 1, len(after.processes)]
    overheated_s = max(0.0, after.overheated_s - before.overheated_s)
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
        "gpu_overheated_ratio": overheated_s / max(1e-9, span_s),
        # Within a MIG partition NVML does not list the processes of the others.
        "gpu_others": None if before.split else max(0, *others),
    }


def gpu_contamination(record: Mapping[str, Any]) -> str:
    """Return why the times of a trial on a whole GPU are not valid, or ""."""
    if others := record.get("gpu_others"):
        return f"{others} other process{'es were' if others > 1 else ' was'} on its GPU"
    causes = (record.get("gpu_slowed_by") or "").split(", ")
    harmful = [cause for cause in causes if cause not in ("", _HARMLESS)]
    if harmful:
        return f"its GPU was slowed by: {', '.join(harmful)}"
    overheated = record.get("gpu_overheated_ratio") or 0.0
    if overheated > _MOST_OVERHEATED:
        return f"heat held its GPU's clocks down for {overheated:.0%} of its time"
    return ""


def contamination(record: Mapping[str, Any], limits: Limits) -> str:
    """Return why an exclusive trial's times are not valid, or ""."""
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
    """Return how the worker's cores or threads differ from the requested ones, or ""."""
    if cores and record.get("cores") and list(record["cores"]) != list(cores):
        return f"it ran on cores {record['cores']} and was bound to {list(cores)}"
    if record.get("threads") and record["threads"] != threads:
        return f"it computed with {counted(record['threads'], 'thread')} and was given {threads}"
    return ""
