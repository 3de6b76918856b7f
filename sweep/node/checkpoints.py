"""Checkpoints of a trial: where it keeps them on this node, and how they come there from an object store and back.

A run in a folder keeps them in that folder. From one in an object store the last checkpoint is fetched before the trial
begins, and taken back each time that the trial has written another: while it goes on, by a thread of ours.
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

_LAST = "last.npz"  # as workloads/runtime/checkpoints.py calls it
_SCRATCH, _HELD = "sweep-checkpoints-", ".held"


class Kept:
    """The checkpoints of one trial in `folder`, for as long as it has not run to its end; None: nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def look(self) -> None:
        """To be called now and then while the trial runs."""

    def close(self, over: bool) -> str:
        """To be called when it has ended: whether there will be nothing to go on with. What went wrong, or nothing."""
        if over and self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        return ""


class SyncedStore(Kept):
    """The checkpoints of one trial in a folder of this node, in step with those in an object store.

    Only the last is carried. Raises SweepError where the store cannot be read; where it cannot be written to, the trial
    goes on, and the next checkpoint is another chance.
    """

    def __init__(self, folder: Path, store: Storage, trial_id: str) -> None:
        super().__init__(folder / trial_id)
        self._here, self._store, self._there = folder / trial_id / _LAST, store, f"{trial_id}.npz"
        self._carrier = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._under_way: Future[None] | None = None
        self._trouble = ""
        with contextlib.suppress(FileNotFoundError):
            store.fetch(self._there, self._here)
        self._carried = self._version()

    def look(self) -> None:
        if self._version() != self._carried and (self._under_way is None or self._under_way.done()):
            self._under_way = self._carrier.submit(self._carry)

    def close(self, over: bool) -> str:
        self._carrier.shutdown()
        super().close(over)
        if self._version() != self._carried:
            self._carry()
        return self._trouble

    def _carry(self) -> None:
        """Makes the store hold what is here, or nothing."""
        version = self._version()
        try:
            if version:
                self._store.keep(self._here, self._there)
            else:
                self._store.delete(self._there)
            self._carried, self._trouble = version, ""
        except (SweepError, OSError) as error:
            self._trouble = f"\nno checkpoint in {self._store}: {error}"

    def _version(self) -> tuple[int, int] | None:
        """Tells one checkpoint from the next; None where there is none."""
        try:
            found = self._here.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def kept(where: str, trial_id: str) -> Iterator[Kept]:
    """The checkpoints of a trial whose run keeps its own under `where`, a folder or URI; nowhere if that is empty."""
    place = Storage(where) if where else None
    if place is None or place.folder:
        yield Kept(place.folder / trial_id if place and place.folder else None)
        return
    with _scratch() as folder:
        yield SyncedStore(folder, place, trial_id)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of this node for a while; what one that was killed left is removed first."""
    for held in process.abandoned(Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*/{_HELD}")):
        shutil.rmtree(held.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder, process.hold(Path(folder, _HELD)):
        yield Path(folder)
