"""Checkpoints of trials whose run is kept in an object store."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from plugged import PLUGINS, runner, trial
from small import data_set
from test_train import same

from sweep.node import checkpoints, hosts
from sweep.records.storage import Storage

SPAWNED = multiprocessing.get_context("spawn")
LAST = "id-none.npz"
EPOCHS = 100  # some seconds: what is new is carried twice a second


@pytest.fixture
def poses(tmp_path: Path) -> str:
    return data_set(tmp_path / "poses")


class Node:
    """A process that runs one trial, with temporary files of its own and nothing shared with others but the store."""

    def __init__(self, folder: Path, store: str, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._record, told = SPAWNED.Pipe(duplex=False)
        self.process = SPAWNED.Process(target=run_there, args=(folder, store, settings, told))
        self.process.start()
        told.close()

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = self._record.recv()
        self.process.join()
        return found

    @property
    def scratch(self) -> list[Path]:
        return list(self.folder.glob("sweep-checkpoints-*"))


def run_there(folder: Path, store: str, settings: dict[str, Any], told: Connection) -> None:
    import sys

    sys.path.insert(0, str(PLUGINS))
    tempfile.tempdir = str(folder)
    told.send(runner(checkpoints=store)(trial(workload="learning", **settings)))
    hosts.close_all()


@pytest.mark.slow
def test_a_trial_whose_node_dies_goes_on_on_another_from_an_object_store(
    bucket: str, poses: str, tmp_path: Path
) -> None:
    settings, store = {"poses": poses, "epochs": EPOCHS, "diverges": False}, Storage(bucket)
    whole = Node(tmp_path / "whole", "", **settings).record()

    killed = Node(tmp_path / "one", bucket, **settings)
    while not store.exists(LAST):
        assert killed.process.is_alive()
        time.sleep(0.1)
    time.sleep(random.random() * sum(whole["epoch_s"]) / 4)
    killed.process.kill()
    killed.process.join()
    assert killed.scratch
    resumed = Node(tmp_path / "other", bucket, **settings).record()

    assert (resumed["status"], resumed["log"]) == ("ok", "")
    assert 0 < resumed["resumed_after"][0] < EPOCHS
    assert same(whole, resumed)
    assert len(resumed["elapsed_s"]) == len(whole["elapsed_s"])
    assert not store.exists(LAST)

    again = Node(tmp_path / "one", bucket, **settings | {"epochs": 1})
    assert again.record()["resumed_after"] == []
    assert not again.scratch


@pytest.mark.slow
def test_a_trial_that_diverges_leaves_no_checkpoint_in_an_object_store(
    bucket: str, poses: str, tmp_path: Path
) -> None:
    store = Storage(bucket)
    store.write(LAST, b"of an earlier attempt")
    record = Node(tmp_path / "node", bucket, poses=poses, epochs=3, diverges=True).record()
    assert record["status"] == "failed"
    assert "begun anew" in record["log"]
    assert not store.exists(LAST)


@pytest.mark.slow
def test_a_store_that_takes_no_checkpoint_does_not_end_a_training(
    bucket: str, poses: str, tmp_path: Path
) -> None:
    nowhere = bucket.replace("s3://lab/", "s3://nowhere/")
    settings = {"poses": poses, "epochs": 40, "diverges": False}
    record = Node(tmp_path / "node", nowhere, **settings).record()
    assert record["status"] == "ok"
    assert len(record["epoch_s"]) == 40


@pytest.mark.slow
def test_what_could_not_be_carried_is_told(bucket: str, tmp_path: Path) -> None:
    with checkpoints.open_store(bucket.replace("s3://lab/", "s3://nowhere/"), "id") as kept:
        assert kept.folder is not None
        kept.folder.mkdir(parents=True, exist_ok=True)
        (kept.folder / "last.npz").write_bytes(b"state")
        kept.sync()
        assert "no checkpoint in s3://nowhere/" in kept.close(over=False)


def test_without_a_place_there_are_no_checkpoints_and_in_a_folder_they_stay(tmp_path: Path) -> None:
    with checkpoints.open_store("", "id") as nowhere:
        assert nowhere.folder is None
        assert nowhere.close(over=True) == ""
    with checkpoints.open_store(str(tmp_path), "id") as kept:
        assert kept.folder == tmp_path / "id"
        kept.folder.mkdir()
        kept.close(over=False)
        assert kept.folder.exists()
        kept.close(over=True)
        assert not kept.folder.exists()
