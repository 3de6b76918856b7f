"""Atomic writes: a file or folder is there completely or not at all, whenever a process dies.

It is written under another name in the same folder and then renamed. With `durable` it also
survives a power failure: the file is synced before it is renamed, and the folder afterwards.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

SUFFIX = ".tmp"  # of a partial file, whose name also begins with a dot
# CIFS and some FUSE file systems cannot sync a folder.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)


def write(path: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Write a file, and create its folder if necessary. A failure leaves no partial file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    partial = path.with_name(f".{path.name}.{writer}{SUFFIX}")
    try:
        # A killed process with the same id may have left it. It could also be a link, which must
        # not be followed.
        partial.unlink(missing_ok=True)
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
    """Rename a complete and synced file to its final path."""
    finished.replace(path)
    sync_folder(path.parent)


def put_folder(finished: Path, path: Path) -> None:
    """Sync the files of a complete folder, and rename it to its final path, which it replaces."""
    for file in finished.iterdir():
        sync(file)
    sync_folder(finished)
    if path.exists():
        shutil.rmtree(path)
    finished.rename(path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Write the contents of a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk, where its file system can do so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
