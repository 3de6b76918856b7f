"""A lock file that the kernel lets go when its holder dies, and that says who holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Self

from sweep.errors import Unavailable


class Lock:
    """Hold a file for this process alone; raises Unavailable at once where another has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while not self._acquired():
                pass
        except OSError as error:
            message = f"{self._path.parent} cannot be written to: {error.strerror}"
            raise Unavailable(message, "choose another folder with --out") from None
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _acquired(self) -> bool:
        """Whether the file we hold is still the one of that name: its last holder removes it."""
        self._descriptor = self._opened()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 200).decode(errors="replace")
            os.close(self._descriptor)
            message = f"{self._path.parent} is being written by another sweep run ({holder or 'just started'})"
            raise Unavailable(
                message, "wait until it has ended, or choose another folder with --out"
            ) from None
        if self._is_still_there():
            return True
        os.close(self._descriptor)
        return False

    def _opened(self) -> int:
        """A link is not followed: what it leads to would be overwritten. Nor is a pipe waited for."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._no_lock() from None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise self._no_lock()

    def _no_lock(self) -> Unavailable:
        return Unavailable(f"{self._path} is no regular file", "remove it: sweep run makes its own")

    def _is_still_there(self) -> bool:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))
