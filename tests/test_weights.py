"""Initial weights are drawn once and shared by all processes of a node, the same to the bit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from small import NETWORK

from workloads.runtime import folders, layers, weights


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process shares its weights."""
    monkeypatch.setattr(folders, "weights", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object) -> None:
        raise AssertionError("drawn a second time")

    monkeypatch.setattr(layers, "draw_weights", draw)


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    same = [list(one) == list(other)]
    same += [np.array_equal(one[name], other[name]) for name in one]
    return all(same)


@pytest.mark.parametrize("seed", [0, 7])
def test_weights_from_the_file_are_those_that_are_drawn(folder: Path, seed: int) -> None:
    first = weights.initial(NETWORK, seed)
    again = weights.initial(NETWORK, seed)

    assert equal(first, layers.draw_weights(NETWORK, seed))
    assert equal(again, first)


def test_each_seed_and_network_is_drawn_once(folder: Path, request: pytest.FixtureRequest) -> None:
    other = NETWORK._replace(layers=NETWORK.layers[:-1])
    for network, seed in ((NETWORK, 0), (NETWORK, 1), (other, 0)):
        weights.initial(network, seed)
    assert len(list(folder.iterdir())) == 3

    request.getfixturevalue("never_drawn")
    weights.initial(NETWORK, 1)
    weights.initial(other, 0)


def test_a_process_without_a_folder_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "weights", None)

    assert equal(weights.initial(NETWORK, 0), layers.draw_weights(NETWORK, 0))


def test_what_is_written_into_weights_stays_in_its_process(folder: Path) -> None:
    weights.initial(NETWORK, 0)
    first = weights.initial(NETWORK, 0)
    for array in first.values():
        array[...] = 7

    assert equal(weights.initial(NETWORK, 0), layers.draw_weights(NETWORK, 0))


@pytest.mark.parametrize("content", [b"", b"half of it"])
def test_a_file_that_is_not_whole_is_drawn_anew(folder: Path, content: bytes) -> None:
    weights.initial(NETWORK, 0)
    (file,) = folder.iterdir()
    file.write_bytes(content)

    assert equal(weights.initial(NETWORK, 0), layers.draw_weights(NETWORK, 0))
    assert equal(weights.initial(NETWORK, 0), layers.draw_weights(NETWORK, 0))


def test_weights_that_cannot_be_kept_are_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(folders, "weights", str(tmp_path / "file" / "weights"))

    assert equal(weights.initial(NETWORK, 0), layers.draw_weights(NETWORK, 0))
    assert "initial weights are not kept" in capsys.readouterr().err


def test_the_files_used_longest_ago_are_removed(folder: Path) -> None:
    folder.mkdir()
    now = time.time()
    for age, name in enumerate(["latest", "used", "unused", "older"]):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (now - age, now - age))

    weights.remove_oldest(str(folder), str(folder / "latest"), most_bytes=250)

    assert sorted(each.name for each in folder.iterdir()) == ["latest", "used"]


def test_using_a_file_keeps_it_from_being_removed(folder: Path) -> None:
    weights.initial(NETWORK, 0)
    (first,) = folder.iterdir()
    os.utime(first, (0, 0))
    weights.initial(NETWORK, 0)

    assert first.stat().st_mtime > 0


def test_a_larger_network_than_all_files_may_take_is_kept(folder: Path) -> None:
    folder.mkdir()
    (folder / "latest").write_bytes(bytes(100))

    weights.remove_oldest(str(folder), str(folder / "latest"), most_bytes=10)

    assert (folder / "latest").exists()
