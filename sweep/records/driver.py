"""The driver: what the process that runs a sweep says of itself in the run, and whether it still lives.

A lock tells that only on its own machine, and an object store has none. So the driver writes a small file every few
seconds and removes it when it ends well. Where that file is left, a reader on the same machine looks for the process;
elsewhere the driver counts as silent once three of its messages are overdue.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

OVERDUE = 3.0  # intervals without a message after which a driver counts as silent

_PROC = Path("/proc")
_LATEST_S = 253_402_000_000.0  # in the year 9999, the last that a date can have


class Liveness(enum.StrEnum):
    """How a driver stands that has left its file."""

    RUNNING = "running"
    STOPPED = "stopped"  # it ended early and said why
    DEAD = "dead"  # its process is gone, and said nothing
    SILENT = "silent"  # it runs elsewhere and is not heard of


@dataclass(frozen=True)
class Driver:
    """What a driver says of itself; times are seconds since the epoch.

    `every_s` is how often it speaks, `system` the booted system whose process numbers `pid` is one of, and
    `process_started` the start of that process in the system's own clock ticks. Nodes, running trials and messages are
    lists of objects: `{name, resources, running}`, `{trial, node}`, `{at, text}`. `end` says why it ended early.
    """

    host: str = ""
    pid: int = 0
    system: str = ""
    process_started: int = 0
    command: str = ""
    started_at: float = 0.0
    heard_at: float = 0.0
    every_s: float = 0.0
    phase: str = ""
    phase_since: float = 0.0
    planned: int = 0
    ended: int = 0
    running: int = 0
    remaining_s: float | None = None
    trials: Sequence[Mapping[str, Any]] = field(default_factory=list)
    nodes: Sequence[Mapping[str, Any]] = field(default_factory=list)
    refused_nodes: Sequence[str] = field(default_factory=list)
    asked_for: Mapping[str, int] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] = field(default_factory=list)
    end: str = ""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """From the text of the file; raises ValueError, with the reason, where it is of another kind."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("no JSON") from None
        names = [each.name for each in dataclasses.fields(cls)] if isinstance(said, dict) else []
        known = {name: said[name] for name in names if name in said}
        if not known:
            raise ValueError("no JSON object of a driver")
        for name, value in known.items():
            if not _is_of(name, value):
                raise ValueError(f"no driver's: {name} is {str(value)[:40]!r}")
        return cls(**known)

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @property
    def waiting(self) -> int:
        """Trials that have neither ended nor begun."""
        return max(0, self.planned - self.ended - self.running)

    def liveness(self, now: float) -> Liveness:
        if self.end:
            return Liveness.STOPPED
        if self.system and self.system == this_system() and _sees_every_process():
            alive = self.process_started == process_started(self.pid)
            return Liveness.RUNNING if alive else Liveness.DEAD
        return Liveness.SILENT if self.is_overdue(now) else Liveness.RUNNING

    def is_overdue(self, now: float) -> bool:
        return now - self.heard_at > OVERDUE * self.every_s


def this_process() -> dict[str, Any]:
    """The fields of a driver that say which process it is."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": this_system(),
        "process_started": process_started(os.getpid()),
    }


def this_system() -> str:
    """The system in which a process number means one process: a boot, and in it a container; empty where unknown."""
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def process_started(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 where it is gone, or dead and not yet waited for."""
    with contextlib.suppress(OSError):
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    return 0


def _sees_every_process() -> bool:
    """Whether a process that is not to be seen is gone: some systems hide those of other users."""
    return (_PROC / "1").exists()


def _is_of(name: str, value: Any) -> bool:
    """Whether a field holds what its name promises, so that readers need not ask."""
    if name in ("host", "system", "command", "phase", "end"):
        return isinstance(value, str)
    if name in ("pid", "process_started", "planned", "ended", "running"):
        return _is_count(value)
    if name == "trials":
        return _are(value, {"trial": str, "node": str})
    if name == "nodes":
        return _are(value, {"name": str, "resources": dict, "running": int})
    if name == "messages":
        return _are(value, {"text": str}) and all(_is_time(each.get("at")) for each in value)
    if name == "refused_nodes":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if name == "asked_for":
        return isinstance(value, dict) and all(_is_count(each) for each in value.values())
    return (name == "remaining_s" and value is None) or _is_time(value)


def _are(value: Any, kinds: Mapping[str, type]) -> bool:
    """Whether it is a list of objects that have these fields."""
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and all(isinstance(each.get(key), kind) for key, kind in kinds.items())
        for each in value
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    """Seconds that a date can be made of."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return 0 <= value <= _LATEST_S
