"""Checkpoints: the state of a long trial in a folder, so that a killed trial can resume.

A file is complete or absent: it is written under another name, synced and renamed, and the folder
is synced. Two are kept, the last and the best; if both are the same, they are one file with two
names.
"""

import errno
import json
import os
import shutil
import sys
import zipfile
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

LAST, BEST = "last.npz", "best.npz"
_PARTIAL = ".partial"
# CIFS and some FUSE file systems cannot sync a folder.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
# The name of the entry that holds identity and facts as JSON.
_TOLD = "told"


class Checkpoint(NamedTuple):
    """Arrays by name, and other facts as JSON can hold them."""

    arrays: Dict[str, np.ndarray]
    told: Dict[str, Any]


class Checkpoints:
    """The checkpoints of one trial in `folder`; those with another `identity` are ignored."""

    def __init__(self, folder: str, identity: Dict[str, Any]) -> None:
        self._folder = folder
        self._identity = json.loads(json.dumps(identity))

    def save(self, checkpoint: Checkpoint, best: bool) -> None:
        """Store a checkpoint durably in place of the last one."""
        os.makedirs(self._folder, exist_ok=True)
        aside = self._path(LAST + _PARTIAL)
        told = json.dumps({"identity": self._identity, "told": checkpoint.told}).encode("utf-8")
        with open(aside, "wb") as file:
            arrays = dict(  # type: Dict[str, Any]
                checkpoint.arrays, **{_TOLD: np.frombuffer(told, np.uint8)}
            )
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self._path(LAST))
        if best:
            self._name_best()
        self._sync_folder()

    def last(self) -> Optional[Checkpoint]:
        """Return the last checkpoint of this trial; None if there is no readable one."""
        self._sweep_out()
        try:
            with open(self._path(LAST), "rb") as file, np.load(file) as archive:
                arrays = {name: archive[name] for name in archive.files}
            told = json.loads(arrays.pop(_TOLD).tobytes().decode("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            sys.stderr.write("{} cannot be read, begun anew: {}\n".format(self._path(LAST), error))
            return None
        if told["identity"] != self._identity:
            sys.stderr.write("{} is of another trial, begun anew\n".format(self._path(LAST)))
            return None
        return Checkpoint(arrays, told["told"])

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sweep_out(self) -> None:
        """Remove the partial files of a process that was killed."""
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            if name.endswith(_PARTIAL):
                os.remove(self._path(name))

    def _name_best(self) -> None:
        """Give the last file the best one's name too, as a hard link if there are links."""
        aside = self._path(BEST + _PARTIAL)
        try:
            os.link(self._path(LAST), aside)
        except OSError:
            shutil.copyfile(self._path(LAST), aside)
        os.rename(aside, self._path(BEST))

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)
