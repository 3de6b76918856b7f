"""The lock of a run: a file that names its holder; the kernel releases it when the holder dies."""

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
    """Hold a lock file exclusively; raise Unavailable at once where another process holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # The last holder may remove the file after we have opened it; then try again.
            while not self._acquire():
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

    def _acquire(self) -> bool:
        """Lock the file; return whether it still has its name, since its last holder removes it."""
        self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 200).decode(errors="replace")
            os.close(self._descriptor)
            raise Unavailable(
                f"{self._path.parent} is being written by another sweep run "
                f"({holder or 'just started'})",
                "wait until it has ended, or choose another folder with --out",
            ) from None
        if self._is_current():
            return True
        os.close(self._descriptor)
        return False

    def _open(self) -> int:
        """Open the lock file, or raise Unavailable where it is not a regular file."""
        # A link is not followed, since its target would be overwritten. A pipe must not block.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._not_regular() from None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise self._not_regular()

    def _not_regular(self) -> Unavailable:
        return Unavailable(f"{self._path} is no regular file", "remove it: sweep run makes its own")

    def _is_current(self) -> bool:
        try:
            current = self._path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(current, os.fstat(self._descriptor))
