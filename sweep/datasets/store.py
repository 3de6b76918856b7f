"""The store: prepared data sets under the user's cache, each complete or absent, made once whoever asks."""

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
    """A prepared data set: `folder` holds images.npy, joints.npy, visible.npy, split.npy, names.txt and meta.json."""

    folder: Path
    id: str
    examples: int

    def warning(self) -> str:
        """What is to be said where much of the data set does not fit; empty where that is not so."""
        meta = self.meta()
        return preparation.mostly_dropped(meta["name"], meta)

    def meta(self) -> dict[str, Any]:
        """What the arrays are: see docs/data.md."""
        return _meta(self.folder) or {}


def root() -> Path:
    """Where prepared arrays and fetched archives lie: `SWEEP_DATA_DIR`, or below the home of all that is kept."""
    return homes.cache("data", "SWEEP_DATA_DIR")


def identify(dataset: DataSet, options: Mapping[str, Any], source: Source) -> str:
    """The id of what preparing `source` gives: the same on every machine, other where any pixel or joint is."""
    facts = [preparation.VERSION, dataset.name, sorted(options.items()), source.identity()]
    facts += dataset.made_by
    return f"{dataset.name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"


def find(id: str) -> Prepared | None:  # noqa: A002  the word of DESIGN.md
    """The prepared data set of that id, if it is there and whole."""
    meta = _meta(root() / id)
    return Prepared(root() / id, id, meta["examples"]) if meta else None


def everything(name: str | None = None) -> list[Prepared]:
    """All that is prepared, or all of one name, newest first."""
    folders = [
        path.parent for path in root().glob(f"*/{_META}") if not path.parent.name.startswith(".")
    ]
    found = [(meta, folder) for folder in folders if (meta := _meta(folder))]
    wanted = [(meta, folder) for meta, folder in found if name in (None, meta["name"])]
    wanted.sort(key=lambda pair: (pair[0]["prepared_at"], pair[1].name), reverse=True)
    return [Prepared(folder, meta["id"], meta["examples"]) for meta, folder in wanted]


def make(
    id: str,  # noqa: A002
    facts: Mapping[str, Any],
    source: Source,
    progress: Progress,
    say: locks.Say = locks.silent,
) -> Prepared:
    """Prepare `source` under `id` unless that is done; `facts` go to its meta.json, `say` hears who is waited for."""
    with _locked(id, say):
        if found := find(id):
            return found
        for left in root().glob(f".{id}.*"):  # of a process that died: nobody else holds this lock
            shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=f".{id}.", dir=root()))
        try:
            _write(folder, {"id": id, **facts}, source, progress)
            atomic.put_folder(
                folder, root() / id
            )  # what is there is not whole, or it would have been found
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    made = find(id)
    if made is None:
        raise SweepError(f"{root() / id} was changed while it was written", "prepare it again")
    return made


def remembered(fingerprint: str, identity: Callable[[], str]) -> str:
    """The id that files with this fingerprint were found to have before; else `identity()`, which reads them all."""
    note = root() / "known" / hashlib.sha256(fingerprint.encode()).hexdigest()
    if note.is_file() and (known := note.read_text(encoding="ascii").strip()):
        return known
    id = identity()  # noqa: A001
    with contextlib.suppress(OSError):  # a shared store may be read-only; the note only saves time
        atomic.write(note, id.encode("ascii"), durable=False)
    return id


def _write(folder: Path, facts: Mapping[str, Any], source: Source, progress: Progress) -> None:
    meta = dict(facts) | preparation.write(folder, source, progress)
    meta["bytes"] = {array: (folder / array).stat().st_size for array in ARRAYS}
    meta["prepared_at"] = time.time()
    folder.chmod(0o755)  # mkdtemp's are private; the cache may be shared
    (folder / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _meta(folder: Path) -> dict[str, Any] | None:
    """The folder's meta.json where every array has the size it was written with, or None."""
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
