"""Batches of DeepPose, cut from prepared arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import deeppose


def prepared(folder: Path, examples: int = 5, seed: int = 0) -> Path:
    """A data set in the layout of prepared ones: noise, with joints anywhere in a box of 200 pixels."""
    random = np.random.RandomState(seed)
    np.save(folder / "images.npy", random.randint(0, 256, (examples, 256, 256, 3)).astype(np.uint8))
    corners = random.uniform(0, 56, (examples, 1, 2))
    np.save(
        folder / "joints.npy",
        (corners + random.uniform(0, 200, (examples, 14, 2))).astype(np.float32),
    )
    np.save(folder / "visible.npy", (random.uniform(size=(examples, 14)) < 0.8).astype(np.uint8))
    return folder


def test_a_batch_is_what_a_loop_over_the_images_gives(tmp_path: Path) -> None:
    poses = deeppose.Poses(str(prepared(tmp_path)))
    chosen = np.array([3, 0, 3])
    batch = poses.batch(chosen)
    for image, target, visible, index in zip(
        batch.images, batch.targets, batch.visible, chosen, strict=True
    ):
        seen = poses.joints[index][poses.visible[index] == 1]
        middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
        x, y = np.clip(np.floor(middle - 113.5 + 0.5), 0, 29).astype(int)
        crop = poses.images[index][y : y + 227, x : x + 227]
        assert np.array_equal(image, (crop.astype(np.float32) / np.float32(255)).transpose(2, 0, 1))
        assert np.allclose(target * 227, poses.joints[index] - [x, y], atol=1e-3)
        assert np.array_equal(visible, poses.visible[index])
    assert {part.dtype for part in batch} == {np.dtype(np.float32)}
    assert batch.images.flags.c_contiguous


def test_visible_joints_lie_in_the_crop(tmp_path: Path) -> None:
    poses = deeppose.Poses(str(prepared(tmp_path, examples=30)))
    batch = poses.batch(np.arange(30))
    seen = batch.targets[batch.visible == 1]
    assert seen.min() >= 0
    assert seen.max() <= 1


def test_without_visible_joints_the_crop_is_the_centre_of_the_image() -> None:
    joints = np.full((1, 14, 2), 250.0)
    corners = deeppose.crop_corners(joints, np.zeros((1, 14), bool), (256, 256))
    assert corners.tolist() == [[15, 15]]


def test_crops_stay_inside_the_image() -> None:
    joints = np.array([[[0.0, 255.0]] * 14, [[255.0, 0.0]] * 14])
    corners = deeppose.crop_corners(joints, np.ones((2, 14), bool), (256, 256))
    assert corners.tolist() == [[0, 29], [29, 0]]


def test_without_visibility_every_joint_counts(tmp_path: Path) -> None:
    poses = deeppose.Poses(str(prepared(tmp_path)))
    assert not poses.batch(np.arange(5)).visible.all()
    assert poses.batch(np.arange(5), use_visibility=False).visible.all()


@given(
    examples=st.integers(1, 20),
    size=st.integers(1, 33),
    seed=st.integers(0, 2**32 - 1),
    numbers=st.integers(1, 6),
)
def test_batches_go_through_all_examples_before_any_comes_again(
    examples: int, size: int, seed: int, numbers: int
) -> None:
    drawn = np.concatenate(
        [deeppose.batch_indices(examples, size, seed, number) for number in range(numbers)]
    )
    for epoch in range(len(drawn) // examples):
        part = drawn[epoch * examples : (epoch + 1) * examples]
        assert sorted(part) == list(range(examples))
        assert np.array_equal(part, deeppose.order(examples, seed, epoch))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(deeppose.order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no examples"):
        deeppose.Poses(str(prepared(tmp_path, examples=0)))
