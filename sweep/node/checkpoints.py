"""Checkpoints of a trial: their folder on this node, and their copy in an object store.

A run in a folder keeps checkpoints in that folder. A run in an object store needs a local folder:
the last checkpoint is fetched before the trial begins, and each new one is uploaded by a thread
while the trial goes on.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sweep import process
from sweep.errors import SweepError
from sweep.records.storage import Storage

_LAST = "last.npz"  # the name that workloads/runtime/checkpoints.py gives
_TEMPORARY_PREFIX, _LOCK_NAME = "sweep-checkpoints-", ".held"


class CheckpointStore:
    """The checkpoints of one trial in a folder; None keeps none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def sync(self) -> None:
        """Upload a new checkpoint if there is one. Call repeatedly while the trial runs."""

    def close(self, over: bool) -> str:
        """Call once the trial has ended. Return an error message, or "".

        `over` means that the trial will not be resumed, so its checkpoints are deleted.
        """
        if over and self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        return ""


class SyncedStore(CheckpointStore):
    """The checkpoints of one trial in a local folder, with the last one also in an object store.

    Raises SweepError where the store cannot be read. A failed upload does not stop the trial; the
    next checkpoint is uploaded again.
    """

    def __init__(self, folder: Path, store: Storage, trial_id: str) -> None:
        super().__init__(folder / trial_id)
        self._store = store
        self._local, self._remote = folder / trial_id / _LAST, f"{trial_id}.npz"
        # One thread, so that an older checkpoint never overwrites a newer one.
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._upload: Future[None] | None = None
        self._error = ""
        # A trial that begins has none.
        with contextlib.suppress(FileNotFoundError):
            store.fetch(self._remote, self._local)
        self._synced = self._version()

    def sync(self) -> None:
        is_idle = self._upload is None or self._upload.done()
        if is_idle and self._version() != self._synced:
            self._upload = self._uploader.submit(self._copy)

    def close(self, over: bool) -> str:
        self._uploader.shutdown()
        super().close(over)
        if self._version() != self._synced:
            self._copy()
        return self._error

    def _copy(self) -> None:
        """Make the store hold the local checkpoint, or none where there is none."""
        version = self._version()
        try:
            if version:
                self._store.keep(self._local, self._remote)
            else:
                self._store.delete(self._remote)
            self._synced, self._error = version, ""
        except (SweepError, OSError) as error:
            self._error = f"\nno checkpoint in {self._store}: {error}"

    def _version(self) -> tuple[int, int] | None:
        """Return a value that differs from one checkpoint to the next; None without one."""
        try:
            stat = self._local.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns


@contextlib.contextmanager
def open_store(where: str, trial_id: str) -> Iterator[CheckpointStore]:
    """Open the checkpoints of a trial below `where`, a folder or URI; "" keeps none."""
    storage = Storage(where) if where else None
    if storage is None:
        yield CheckpointStore(None)
    elif storage.folder:
        yield CheckpointStore(storage.folder / trial_id)
    else:
        with _temporary_folder() as folder:
            yield SyncedStore(folder, storage, trial_id)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Create a temporary folder; those that killed processes left are removed first."""
    locks = Path(tempfile.gettempdir()).glob(f"{_TEMPORARY_PREFIX}*/{_LOCK_NAME}")
    for lock in process.abandoned(locks):
        shutil.rmtree(lock.parent, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX) as folder,
        process.hold(Path(folder, _LOCK_NAME)),
    ):
        yield Path(folder)
