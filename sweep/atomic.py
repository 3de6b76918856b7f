"""Atomic writes: a file or a folder is there as a whole or not at all, whenever a process dies.

It is written under another name in the same folder and renamed. With `durable` it also survives a power failure: the
file is synced before it is renamed, and the folder after.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

SUFFIX = ".tmp"  # of a file that is being written; its name begins with a dot
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # CIFS, some FUSE file systems


def write(path: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file; its folder is made where there is none. Nothing is left behind where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    partial = path.with_name(f".{path.name}.{writer}{SUFFIX}")
    try:
        partial.unlink(
            missing_ok=True
        )  # of a killed process of this number, or a link, which is not followed
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def put(finished: Path, path: Path) -> None:
    """Give a finished and synced file its name."""
    finished.replace(path)
    sync_folder(path.parent)


def put_folder(finished: Path, path: Path) -> None:
    """Give a finished folder its name, in place of what is there; the files in it are synced first."""
    for file in finished.iterdir():
        sync(file)
    sync_folder(finished)
    if path.exists():
        shutil.rmtree(path)
    finished.rename(path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Return once the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk, where its file system can say so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
