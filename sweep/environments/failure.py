"""The error for environments that cannot be built or used."""

from __future__ import annotations

from sweep.errors import Unavailable

_TAIL_LINES = 20


class EnvironmentFailed(Unavailable):
    """An environment that cannot be built or does not work; `log_tail` is the end of the log."""

    def __init__(self, message: str, hint: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint)
        self.log_tail = log_tail


def tail(log: str) -> str:
    """Return the last lines of a log, without empty ones."""
    return "\n".join([line.rstrip() for line in log.splitlines() if line.strip()][-_TAIL_LINES:])
