"""The driver: the state of the process that runs a sweep, as a file in the run.

A lock shows only on its own machine whether a driver runs, and an object store has no locks. So
the driver writes a small file every few seconds and removes it when it ends well. Where the file
is left, a reader on the same machine looks for the process. On other machines the driver counts as
silent when three of its messages are overdue.
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
_START_FIELD = 18  # of /proc/PID/stat, counted from the field after the state
_LATEST_S = 253_402_000_000.0  # in the year 9999, the last year of `datetime`


class Liveness(enum.StrEnum):
    """The state of a driver whose file is there."""

    RUNNING = "running"
    STOPPED = "stopped"  # it ended early, with a reason
    DEAD = "dead"  # its process is gone, without a reason
    SILENT = "silent"  # it runs on another machine, and its messages are overdue


@dataclass(frozen=True)
class Driver:
    """The state that a driver reports. Times are seconds since the epoch.

    `every_s` is the interval between two reports. `system` identifies the boot and the container
    in which `pid` is valid, and `process_started` is the start of that process in clock ticks.
    `nodes`, `trials` and `messages` are lists of objects: `{name, resources, running}`,
    `{trial, node}`, `{at, text}`. `end` is the reason for an early end.
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
        """Parse the text of the file; raise ValueError with the reason where it is malformed."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("no JSON") from None
        if not isinstance(document, dict):
            document = {}
        names = [field.name for field in dataclasses.fields(cls)]
        values = {name: document[name] for name in names if name in document}
        if not values:
            raise ValueError("no JSON object of a driver")
        for name, value in values.items():
            if not _is_valid(name, value):
                raise ValueError(f"no driver's: {name} is {str(value)[:40]!r}")
        return cls(**values)

    def text(self) -> str:
        """Return the text of the file."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @property
    def waiting(self) -> int:
        """How many trials have neither ended nor begun."""
        return max(0, self.planned - self.ended - self.running)

    def liveness(self, now: float) -> Liveness:
        """Return the driver's state at the time `now`."""
        if self.end:
            return Liveness.STOPPED
        if self.system and self.system == this_system() and _sees_every_process():
            alive = self.process_started == process_started(self.pid)
            return Liveness.RUNNING if alive else Liveness.DEAD
        return Liveness.SILENT if self.is_overdue(now) else Liveness.RUNNING

    def is_overdue(self, now: float) -> bool:
        """Return whether `OVERDUE` reports are missing."""
        return now - self.heard_at > OVERDUE * self.every_s


def this_process() -> dict[str, Any]:
    """Return the fields of a driver that identify this process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": this_system(),
        "process_started": process_started(os.getpid()),
    }


def this_system() -> str:
    """Return an id of boot and container, in which process ids are unique; "" if unknown."""
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def process_started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where it is gone or a zombie."""
    with contextlib.suppress(OSError):
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        # The second field is the name in parentheses, which may itself contain blanks and ")".
        state, *fields = text.rpartition(")")[2].split()
        return 0 if state in "ZX" else int(fields[_START_FIELD])
    return 0


def _sees_every_process() -> bool:
    """Return whether /proc shows the processes of all users; some systems hide the others'."""
    return (_PROC / "1").exists()


def _is_valid(name: str, value: Any) -> bool:
    """Return whether a value is valid for a field, so that readers need not check."""
    if name in ("host", "system", "command", "phase", "end"):
        return isinstance(value, str)
    if name in ("pid", "process_started", "planned", "ended", "running"):
        return _is_count(value)
    if name == "trials":
        return _are_objects(value, {"trial": str, "node": str})
    if name == "nodes":
        return _are_objects(value, {"name": str, "resources": dict, "running": int})
    if name == "messages":
        has_texts = _are_objects(value, {"text": str})
        return has_texts and all(_is_time(message.get("at")) for message in value)
    if name == "refused_nodes":
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    if name == "asked_for":
        return isinstance(value, dict) and all(map(_is_count, value.values()))
    return (name == "remaining_s" and value is None) or _is_time(value)


def _are_objects(value: Any, kinds: Mapping[str, type]) -> bool:
    """Return whether a value is a list of objects that have these fields."""
    return isinstance(value, list) and all(_is_object(item, kinds) for item in value)


def _is_object(value: Any, kinds: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), kind) for key, kind in kinds.items()
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    """Return whether a value is a time that can be converted to a date."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return 0 <= value <= _LATEST_S
