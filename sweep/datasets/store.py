"""The store of prepared data sets, in the user's cache folder.

A prepared set is complete or absent. A lock makes sure that it is prepared once, however many
processes ask for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import atomic, homes, locks
from sweep.datasets import preparation
from sweep.datasets.dataset import DataSet, Source
from sweep.datasets.preparation import ARRAYS, Progress
from sweep.errors import SweepError

_META = "meta.json"


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    `folder` holds images.npy, joints.npy, visible.npy, split.npy, names.txt and meta.json.
    """

    folder: Path
    id: str
    examples: int

    def warning(self) -> str:
        """Return a warning if much of the data set was dropped, else ""."""
        meta = self.meta()
        return preparation.mostly_dropped(meta["name"], meta)

    def meta(self) -> dict[str, Any]:
        """Return the facts about the arrays; docs/data.md lists them."""
        return _meta(self.folder) or {}


def root() -> Path:
    """Return the folder of prepared arrays and archives: `SWEEP_DATA_DIR`, or in the cache."""
    return homes.cache("data", "SWEEP_DATA_DIR")


def identify(dataset: DataSet, options: Mapping[str, Any], source: Source) -> str:
    """Return the id of what preparing `source` gives.

    It is the same on every machine, and another if any pixel or joint differs.
    """
    facts = [preparation.VERSION, dataset.name, sorted(options.items()), source.identity()]
    facts += dataset.made_by
    return f"{dataset.name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"


def find(id: str) -> Prepared | None:  # noqa: A002
    """Return the prepared data set of that id if it is complete, else None."""
    meta = _meta(root() / id)
    return Prepared(root() / id, id, meta["examples"]) if meta else None


def everything(name: str | None = None) -> list[Prepared]:
    """Return all prepared data sets, or all of one name, newest first."""
    # Hidden folders are being written, or were left by a process that died.
    folders = [
        path.parent for path in root().glob(f"*/{_META}") if not path.parent.name.startswith(".")
    ]
    complete = [(meta, folder) for folder in folders if (meta := _meta(folder))]
    matching = [(meta, folder) for meta, folder in complete if name in (None, meta["name"])]
    matching.sort(key=lambda pair: (pair[0]["prepared_at"], pair[1].name), reverse=True)
    return [Prepared(folder, meta["id"], meta["examples"]) for meta, folder in matching]


def make(
    id: str,  # noqa: A002
    facts: Mapping[str, Any],
    source: Source,
    progress: Progress,
    say: locks.Say = locks.silent,
) -> Prepared:
    """Prepare `source` under `id` unless that is done.

    `facts` are written to its meta.json. `say` is called with a message while another process holds
    the lock.
    """
    with _locked(id, say):
        if found := find(id):
            return found
        # Left by a process that died: this process holds the lock now.
        for left in root().glob(f".{id}.*"):
            shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=f".{id}.", dir=root()))
        try:
            _write(folder, {"id": id, **facts}, source, progress)
            # A folder of this name is incomplete, else find() had returned it: it is replaced.
            atomic.put_folder(folder, root() / id)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    made = find(id)
    if made is None:
        raise SweepError(f"{root() / id} was changed while it was written", "prepare it again")
    return made


def remembered(fingerprint: str, identity: Callable[[], str]) -> str:
    """Return the id that files with this fingerprint had before, else `identity()`.

    `identity` reads all files, which takes minutes for a large data set.
    """
    note = root() / "known" / hashlib.sha256(fingerprint.encode()).hexdigest()
    if note.is_file() and (noted := note.read_text(encoding="ascii").strip()):
        return noted
    id = identity()  # noqa: A001
    # A shared store may be read-only; the note only saves time.
    with contextlib.suppress(OSError):
        atomic.write(note, id.encode("ascii"), durable=False)
    return id


def _write(folder: Path, facts: Mapping[str, Any], source: Source, progress: Progress) -> None:
    meta = dict(facts) | preparation.write(folder, source, progress)
    meta["bytes"] = {array: (folder / array).stat().st_size for array in ARRAYS}
    meta["prepared_at"] = time.time()
    # mkdtemp makes private folders; the cache may be shared.
    folder.chmod(0o755)
    (folder / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _meta(folder: Path) -> dict[str, Any] | None:
    """Return the folder's meta.json if every array has its recorded size, else None."""
    try:
        meta: dict[str, Any] = json.loads((folder / _META).read_text(encoding="utf-8"))
        whole = all(
            (folder / array).stat().st_size == size for array, size in meta["bytes"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return meta if whole else None


@contextlib.contextmanager
def _locked(id: str, say: locks.Say) -> Iterator[None]:  # noqa: A002
    lock = root() / "locks" / f"{id}.lock"
    with contextlib.ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locks.held(lock, f"data set {id}", say))
        except OSError as error:
            raise SweepError(
                f"{root()} cannot be written: {error.strerror}", homes.hint("SWEEP_DATA_DIR", error)
            ) from None
        yield
