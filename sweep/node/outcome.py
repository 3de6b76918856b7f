"""The outcome of one trial: everything that its host has reported, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep import process
from sweep.status import Status
from workloads.runtime import protocol

ERROR_LINES = 20  # of a log that are kept in an error message
_SIGKILL = -9

Listener = Callable[[str, Mapping[str, Any]], None]  # called with an event's name and its facts


@dataclass
class Outcome:
    """The events of a host about one trial.

    `timed_out` and `died` are set on this side, when no exit was reported: `died` describes the
    end of the host. `unimportable` is the error of the framework's import. `ran_out` is true where
    the kernel killed a process of this machine for lack of memory meanwhile. `fork_server` is the
    id of the host process, which has imported the framework for the trials that it forks.
    """

    fork_server: str = ""
    ready: dict[str, Any] = field(default_factory=dict)
    started: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    exit: dict[str, Any] = field(default_factory=dict)
    unimportable: str = ""
    timed_out: bool = False
    died: str = ""
    ran_out: bool = False

    def take(self, name: Any, event: dict[str, Any]) -> None:
        """Take one event of the host; others than these are ignored."""
        if name in ("ready", "started", "outcome", "exit"):
            setattr(self, name, event)
        elif name == "unimportable":
            self.unimportable = str(event.get("error"))

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that the trial returned."""
        return dict(self.outcome.get("columns") or {})

    @property
    def host_id(self) -> str:
        """The id of the process that imported the framework, "" where none has.

        That is the host, or the trial itself where it was spawned.
        """
        if self.started.get("spawned"):
            return f"{self.fork_server}-{self.started['pid']}"
        return self.fork_server if self.ready else ""

    @property
    def import_s(self) -> float | None:
        """How long the process named by `host_id` took to import the framework."""
        reported = self.started if self.started.get("spawned") else self.ready
        return reported.get("import_s")

    @property
    def log(self) -> str:
        return str(self.exit.get("log", ""))

    @property
    def cpu_s(self) -> float:
        """CPU time of all processes of the trial since its start."""
        spent = sum(self.exit.get(name) or 0.0 for name in ("user_s", "system_s", "left_behind_s"))
        return max(0.0, spent - (self.started.get("cpu_s") or 0.0))

    def verdict(self, timeout_s: float | None) -> tuple[str, str]:
        """Return status and error of the trial."""
        if self.unimportable:
            return Status.ENV_FAILED, self.unimportable
        # A trial that has reported its outcome is complete, even if it did not exit in time.
        if self.timed_out and not self.outcome:
            return self._verdict_of_timeout(timeout_s)
        if self.died:
            return (Status.OOM if self.ran_out else Status.CRASHED), self.died
        if self.outcome:
            return str(self.outcome["status"]), str(self.outcome.get("error", ""))
        return self._verdict_of_silent_exit()

    def _verdict_of_timeout(self, timeout_s: float | None) -> tuple[str, str]:
        if self.started:
            text = f"killed after the {timeout_s:g} s that it was given"
            return Status.TIMEOUT, self._after_log(text)
        if self.ready:
            return Status.CRASHED, self._after_log("the fork server does not answer")
        return Status.ENV_FAILED, self._after_log("the framework's import hangs")

    def _verdict_of_silent_exit(self) -> tuple[str, str]:
        """Return the verdict of a worker that exited without an outcome."""
        returncode = self.exit.get("returncode", 0)
        verb = "ended with " if returncode >= 0 else ""
        error = self._after_log(f"worker {verb}{process.ended(returncode)}")
        # The kernel kills with SIGKILL when memory runs out.
        if self.ran_out and returncode == _SIGKILL:
            return Status.OOM, f"{error}: the machine ran out of memory"
        return (Status.OOM if protocol.tells_of_memory(self.log) else Status.CRASHED), error

    def _after_log(self, text: str) -> str:
        return "\n".join([*self.log.strip().splitlines()[-ERROR_LINES:], text])
