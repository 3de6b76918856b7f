"""Locks that others wait for: who holds one is written down, and said to those who wait long for it.

The kernel lets go of a lock when its holder dies. What the holder wrote stays then; it is read only while somebody
holds the lock.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

PATIENCE_S = 2.0  # others are named after so long

Say = Callable[[str], None]
_command = ""  # whose work this process does, where that is another's


def silent(_: str) -> None:
    """Where nobody asked what is waited for."""


def work_for(command: str) -> None:
    """From here on this process takes locks for a command, as `introduction` describes it."""
    global _command
    _command = command


def introduction(run: str = "") -> str:
    """This process, so that a user can find it."""
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return f"run {run} ({process})" if run else process


def holding() -> str:
    """What whoever takes a lock now writes into it."""
    return f"{_command or introduction()} since {dt.datetime.now().astimezone():%H:%M:%S}"


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file until all descriptors of it are closed; False at once where another holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def describe(descriptor: int, holder: str) -> None:
    """Write into a lock file who holds it."""
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


@contextlib.contextmanager
def held(path: Path, what: str, say: Say = silent, timeout_s: float = -1) -> Iterator[None]:
    """Hold the lock at `path`; `say` hears who is waited for. filelock.Timeout past `timeout_s`."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_S if timeout_s < 0 else timeout_s)
    except filelock.Timeout:
        if timeout_s >= 0:
            raise
        say(f"waiting for {what}, held by {holder(path)}")
        lock.acquire()
    try:
        _note(path).write_text(holding(), encoding="utf-8")
        yield
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def holder(path: Path) -> str:
    """Who holds the lock at `path`, for a user."""
    with contextlib.suppress(OSError):
        return _note(path).read_text(encoding="utf-8") or "another process"
    return "another process"  # which has just taken it


def _note(path: Path) -> Path:
    """Beside the lock: the library that locks empties the file when it opens it."""
    return path.with_name(f"{path.name}.holder")
