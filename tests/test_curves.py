"""Learning curves: what is told of a cell after each epoch, and the pictures that training leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Sweep
from made_up import keep, record, training
from PIL import Image

import sweep as package
from sweep import datasets
from sweep.analysis.curves import curves


def trained(seed: int, losses: list[float], **changes: Any) -> dict[str, Any]:
    """A record of a training with these validation losses, two epochs and ten seconds apart."""
    count = len(losses)
    columns = {
        "validation_epoch": [2 * (i + 1) for i in range(count)],
        "validation_elapsed_s": [10.0 * (i + 1) + seed for i in range(count)],
        "validation_loss": losses,
        "validation_pck": [0.1 * (i + 1) for i in range(count)],
        "validation_pcp": [None] * count,
    }
    return training(seed, **changes) | columns


def two_cells() -> list[dict[str, Any]]:
    autograd = [trained(seed, [2.0 + seed, 1.0 + seed]) for seed in range(3)]
    return [*autograd, trained(0, [4.0, 3.0, 2.0], backward="explicit")]


def test_a_point_is_the_mean_over_seeds_with_an_interval_from_three_of_them(tmp_path: Path) -> None:
    keep(tmp_path, [*two_cells(), trained(7, [99.0], status="failed")])
    autograd, explicit = package.load(tmp_path).curves()
    assert [point.epoch for point in autograd.points] == [2, 4]
    first = autograd.points[0]
    assert (first.trials, first.loss, first.elapsed_s) == (3, 3.0, 11.0)
    assert (first.least, first.greatest) == (2.0, 4.0)
    assert first.interval is not None
    assert first.interval.low < 3 < first.interval.high
    assert (first.pck, first.pcp) == (pytest.approx(0.1), None)
    assert [point.loss for point in explicit.points] == [4.0, 3.0, 2.0]
    assert explicit.points[0].interval is None


def test_curves_of_chosen_cells_only(tmp_path: Path) -> None:
    table = keep(tmp_path, two_cells()).records()
    assert [curve.axes["backward"] for curve in curves(table, {"backward": "explicit"})] == ["explicit"]


def test_the_command_shows_them_and_says_what_is_too_little(sweep: Sweep) -> None:
    keep("results/training", two_cells())
    said = sweep("curves", "training")
    assert said.code == 0
    header = " ".join(said.out.splitlines()[0].split())
    assert header == "backward epoch n validation loss over seeds 95 % interval PCK PCP elapsed s"
    assert "2.000 … 4.000" in said.out
    assert len(said.out.splitlines()) == 2 + 5
    assert "an interval takes three trials or more and there are 1; use --add-seeds 2" in said.err
    rows = json.loads(sweep("curves", "--where", "backward=autograd", "--format", "json").out)
    assert [(row["epoch"], row["validation_loss"], row["trials"]) for row in rows] == [(2, 3.0, 3), (4, 2.0, 3)]


def test_a_run_without_training_has_none(sweep: Sweep) -> None:
    keep("results/core", [record()])
    said = sweep("curves")
    assert said.code == 4
    assert said.err.startswith("error: no trial of results/core was trained")


def test_predictions_are_drawn_beside_the_truth(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "data"))
    prepared = datasets.prepare("synthetic", examples=3)
    joints = np.load(prepared.folder / "joints.npy")[[0, 2]]
    poses = {"pose_example": [0, 2], "pose_joints": (joints + 5).reshape(-1).tolist(), "data_id": prepared.id}
    keep("results/training", [trained(0, [1.0], **poses), trained(1, [1.0], data_id=prepared.id)])
    said = sweep("show", "training", "*/s0", "--poses", "poses.png")
    assert (said.code, said.out.strip()) == (0, "poses.png")
    with Image.open("poses.png") as page:
        assert page.width > 4 * 256
        assert page.height < 2 * 256
    without = sweep("show", "training", "*/s1", "--poses", "poses.png")
    assert (without.code, "keeps no predictions" in without.err) == (2, True)
    unwritable = sweep("show", "training", "*/s0", "--poses", "no/such/folder.png")
    assert "no/such/folder.png cannot be written" in unwritable.err
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "elsewhere"))
    assert "is not prepared on this machine" in sweep("show", "training", "*/s0", "--poses", "poses.png").err
