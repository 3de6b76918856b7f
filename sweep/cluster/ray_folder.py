"""The temporary folder of a local Ray, with a lock beside it that says whether it is in use."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO

from sweep.errors import Unavailable
from sweep.process import abandoned, hold

PREFIX = "sweep-ray-"
# Ray puts its sockets into the folder, and the path of a socket has 107 characters at most.
_LONGEST_PARENT = 22
_CREATED: list[Path] = []  # by this process


def create() -> tuple[Path, IO[bytes]]:
    """Return a new folder and its lock. Folders that killed processes left are removed first."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _LONGEST_PARENT:
        parent = Path("/tmp")  # noqa: S108  the folder itself is made by mkdtemp
    for lock in abandoned(parent.glob(f"{PREFIX}*.lock")):
        remove(lock.with_suffix(""))
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise Unavailable(
            f"no folder for the local Ray in {parent}: {error.strerror}",
            "set TMPDIR to a folder that can be written to, "
            f"with a path of {_LONGEST_PARENT} letters at most",
        ) from None
    _CREATED.append(folder)
    return folder, hold(_lock_of(folder))


def remove(folder: Path) -> None:
    """Remove a folder and its lock.

    The lock goes last: after an interruption the next start sees it and removes the rest.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        _lock_of(folder).unlink(missing_ok=True)


def remove_created() -> None:
    """Remove the folders of this process again: Ray's exit handler may have written into them."""
    for folder in _CREATED:
        remove(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
