"""Learning curves: what is told of a cell after each epoch, and the pictures that training leaves."""

from __future__ import annotations

import json
import math
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
from sweep.report import figures


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
    assert [curve.axes["backward"] for curve in curves(table, {"backward": "explicit"})] == [
        "explicit"
    ]


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
    assert [(row["epoch"], row["validation_loss"], row["trials"]) for row in rows] == [
        (2, 3.0, 3),
        (4, 2.0, 3),
    ]


NAN = float("nan")
UNUSABLE: dict[
    str, tuple[dict[str, Any], int]
] = {  # what a plug-in might give, and how many points of it are left out
    "a loss that is no number": ({"validation_loss": [NAN, 1.0]}, 1),
    "losses without end": ({"validation_loss": [float("inf"), float("-inf")]}, 2),
    "a loss left out": ({"validation_loss": [None, 1.0]}, 1),
    "too few losses": ({"validation_loss": [1.0]}, 2),
    "too many losses": ({"validation_loss": [1.0, 2.0, 3.0]}, 3),
    "no losses": ({"validation_loss": None}, 2),
    "an empty list of losses": ({"validation_loss": []}, 2),
    "no epochs": ({"validation_epoch": None}, 2),
    "an epoch left out": ({"validation_epoch": [None, 4]}, 1),
    "the same epoch twice": ({"validation_epoch": [2, 2]}, 1),
    "epochs in another order": ({"validation_epoch": [4, 2]}, 0),
    "no accuracy": ({"validation_pck": None}, 0),
    "too few accuracies": ({"validation_pck": [0.1]}, 0),
    "an accuracy that is no number": ({"validation_pck": [NAN, 0.1]}, 0),
    "no times": ({"validation_elapsed_s": None}, 0),
    "times that are no numbers": ({"validation_elapsed_s": [NAN, NAN]}, 0),
    "nothing": (
        {f"validation_{name}": [] for name in ("epoch", "loss", "pck", "pcp", "elapsed_s")},
        0,
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("others", [0, 2])
def test_what_cannot_be_used_of_lists_is_left_out_and_said(
    sweep: Sweep, what: str, others: int
) -> None:
    given, left_out = UNUSABLE[what]
    rows = [trained(seed, [2.0, 1.0]) for seed in range(others)] + [trained(9, [2.0, 1.0]) | given]
    keep("results/training", rows)
    told = {
        form: sweep("curves", "training", "--format", form) for form in ("table", "csv", "json")
    }
    usable = others or (left_out < 2 and what != "nothing")
    assert {said.code for said in told.values()} == {0 if usable else 4}
    assert all(("left out" in said.err) == (left_out > 0) for said in told.values())
    if usable:
        losses = [row["validation_loss"] for row in json.loads(told["json"].out)]
        assert all(isinstance(loss, float) for loss in losses)
        assert sum(row["trials"] for row in json.loads(told["json"].out)) == 2 * others + (
            0 if what == "nothing" else max(0, 2 - left_out)
        )


@pytest.mark.parametrize(
    ("given", "is_said"),
    [
        ({"iteration": list(range(80, 0, -1))}, False),
        ({"iteration": [1, 2, 3]}, True),
        ({"elapsed_s": [NAN] * 80, "loss": [NAN] * 80}, True),
        ({"validation_epoch": list(range(20, 0, -1))}, False),
        ({"validation_loss": [1.0]}, True),
        ({"validation_elapsed_s": None}, True),
    ],
)
def test_what_is_drawn_of_such_lists_is_what_can_be_used(
    tmp_path: Path, given: dict[str, Any], is_said: bool
) -> None:
    keep(tmp_path, [training(seed) | (given if seed == 1 else {}) for seed in range(3)])
    run = package.load(tmp_path)
    assert (figures.unusable(run) != "") == is_said
    for kind in ("curve", "validation", "pck"):
        values = figures.picture(run, kind, figures.Choice())["data"]["values"]
        assert values
        assert all(
            math.isfinite(row[name])
            for row in values
            for name in ("elapsed", "value", "low", "high")
        )


def test_the_report_and_the_command_that_plots_say_what_is_left_out(sweep: Sweep) -> None:
    keep(
        "results/training",
        [training(seed) | ({"validation_loss": [1.0]} if seed else {}) for seed in range(2)],
    )
    assert sweep("report", "training", "-o", "report.html").code == 0
    assert "20 logged points are left out" in Path("report.html").read_text("utf-8")
    drawn = sweep("plot", "training", "validation", "-o", "validation.svg")
    assert (drawn.code, "20 logged points are left out" in drawn.err) == (0, True)


def test_poses_that_do_not_fit_their_examples_are_an_error(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(Path.cwd() / "data"))
    prepared = datasets.prepare("synthetic", examples=3)
    short = {"pose_example": [0, 2], "pose_joints": [1.0, 2.0], "data_id": prepared.id}
    absent = {"pose_example": [99], "pose_joints": [1.0] * 28, "data_id": prepared.id}
    keep("results/training", [trained(0, [1.0], **short), trained(1, [1.0], **absent)])
    said = [sweep("show", "training", f"*/s{seed}", "--poses", "poses.png") for seed in range(2)]
    assert [each.code for each in said] == [2, 2]
    assert "keeps 2 coordinates for 2 examples of 28 each" in said[0].err
    assert "examples that its data set does not have" in said[1].err


def test_a_run_without_training_has_none(sweep: Sweep) -> None:
    keep("results/core", [record()])
    said = sweep("curves")
    assert said.code == 4
    assert said.err.startswith("error: no trial of results/core was trained")


def test_predictions_are_drawn_beside_the_truth(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "data"))
    prepared = datasets.prepare("synthetic", examples=3)
    joints = np.load(prepared.folder / "joints.npy")[[0, 2]]
    poses = {
        "pose_example": [0, 2],
        "pose_joints": (joints + 5).reshape(-1).tolist(),
        "data_id": prepared.id,
    }
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
    assert (
        "is not prepared on this machine"
        in sweep("show", "training", "*/s0", "--poses", "poses.png").err
    )
