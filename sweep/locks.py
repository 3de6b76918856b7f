"""Locks that processes wait for: each names its holder, and long waits are reported to the user.

The kernel releases a lock when its holder dies. The holder's description stays then, so it is read
only while some process holds the lock.
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

PATIENCE_S = 2.0  # a longer wait is reported, with the holder

Say = Callable[[str], None]
_command = ""  # the command that this process works for, if it is not its own


def silent(_: str) -> None:
    """Report nothing."""


def work_for(command: str) -> None:
    """Name a command as the holder of this process's locks, as `introduction` describes it."""
    global _command
    _command = command


def introduction(run: str = "") -> str:
    """Return a description of this process, so that a user can find it."""
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return f"run {run} ({process})" if run else process


def holding() -> str:
    """Return the description of a holder that takes a lock now."""
    return f"{_command or introduction()} since {dt.datetime.now().astimezone():%H:%M:%S}"


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file until all its descriptors are closed; return False if it is locked."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def describe(descriptor: int, holder: str) -> None:
    """Write the description of its holder into a lock file."""
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


@contextlib.contextmanager
def held(path: Path, what: str, say: Say = silent, timeout_s: float = -1) -> Iterator[None]:
    """Hold the lock at `path`; `say` is called with the holder of a lock that is waited for.

    Raises filelock.Timeout after `timeout_s`; a negative number waits without limit.
    """
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
    """Return the description of the holder of the lock at `path`."""
    with contextlib.suppress(OSError):
        return _note(path).read_text(encoding="utf-8") or "another process"
    return "another process"  # which has not written its description yet


def _note(path: Path) -> Path:
    """Return the file with the holder's description.

    It is not the lock itself, since `filelock` empties that when it opens it.
    """
    return path.with_name(f"{path.name}.holder")
