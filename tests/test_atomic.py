"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from sweep import atomic
from workloads.runtime.checkpoints import Checkpoint, Checkpoints


def test_a_file_is_written_whole_in_place_of_the_old_one_and_its_folder_is_made(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "file"

    for data in (b"old", b"new"):
        atomic.write(path, data)

    assert path.read_bytes() == b"new"
    assert _names(path.parent) == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_where_writing_fails_the_old_file_stays_and_nothing_else(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    with pytest.raises(TypeError):
        atomic.write(path, "no bytes", durable)  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_a_finished_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    finished, path = tmp_path / ".made", tmp_path / "folder"
    for folder, name in ((finished, "new"), (path, "old")):
        folder.mkdir()
        (folder / name).write_bytes(b"x")

    atomic.put_folder(finished, path)

    assert _names(tmp_path) == ["folder"]
    assert _names(path) == ["new"]


def _refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """File systems that cannot sync a folder are not to be had here."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_a_folder_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _refusing(monkeypatch, number)

    atomic.write(tmp_path / "file", b"x")
    Checkpoints(str(tmp_path), {}).save(Checkpoint({"a": np.zeros(1)}, {}), best=False)

    assert _names(tmp_path) == ["file", "last.npz"]


def test_any_other_error_of_syncing_a_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refusing(monkeypatch, errno.EIO)

    with pytest.raises(OSError, match="Input/output error"):
        atomic.write(tmp_path / "file", b"x")
    with pytest.raises(OSError, match="Input/output error"):
        Checkpoints(str(tmp_path), {}).save(Checkpoint({"a": np.zeros(1)}, {}), best=False)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
