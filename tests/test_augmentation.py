"""Augmentation: what is drawn depends on (seed, epoch, index) alone, and poses stay true to their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import COLOUR, data_set

from workloads import augmentation, deeppose
from workloads.augmentation import Augmented, mirror, random_corners, shift_colours, swapped

PAIRS = [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)]


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> deeppose.Poses:
    return deeppose.Poses(data_set(tmp_path_factory.mktemp("poses"), examples=20))


def test_an_example_is_changed_alike_in_whatever_batch_it_is(poses: deeppose.Poses) -> None:
    augmented = Augmented(poses, seed=1, colour_noise=0.1)
    together = augmented.batch(np.array([4, 9, 2]), epoch=3)
    again = Augmented(poses, seed=1, colour_noise=0.1).batch(np.array([9]), epoch=3)
    for one, other in zip(together, again, strict=True):
        assert np.array_equal(one[1], other[0])
    for seed, epoch in ((1, 4), (2, 3)):
        assert not np.array_equal(
            Augmented(poses, seed, 0.1).batch(np.array([9]), epoch).images[0], again.images[0]
        )


def test_draws_are_the_same_however_many_examples_there_are() -> None:
    few, many = augmentation.draw(7, 1, 2), augmentation.draw(50, 1, 2)
    assert all(np.array_equal(a, b[:7]) for a, b in zip(few, many, strict=True))
    assert 0.3 < augmentation.draw(1000, 1, 2).mirrored.mean() < 0.7


def test_the_pixels_under_a_joint_stay_under_it(tmp_path: Path) -> None:
    """Each joint is marked in its image; wherever crop and mirror take it, its mark is there."""
    folder = Path(data_set(tmp_path, examples=6))
    joints = np.floor(np.random.RandomState(0).uniform(40, 200, (6, 14, 2)))
    images = np.zeros((6, 256, 256, 3), np.uint8)
    for example, joint in np.ndindex(6, 14):
        x, y = joints[example, joint].astype(int)
        images[example, y, x] = joint + 1
    np.save(folder / "images.npy", images)
    np.save(folder / "joints.npy", (joints + 0.5).astype(np.float32))  # pixel centres
    np.save(folder / "visible.npy", np.ones((6, 14), np.uint8))
    poses = deeppose.Poses(str(folder))
    augmented = Augmented(poses, seed=0, colour_noise=0.0)
    other_side = swapped(PAIRS, 14)
    drawn = augmentation.draw(6, 0, 5).mirrored
    assert 0 < drawn.sum() < 6
    batch = augmented.batch(np.arange(6), epoch=5)
    for example, joint in np.ndindex(6, 14):
        x, y = np.floor(batch.targets[example, joint] * deeppose.CROP).astype(int)
        mark = round(float(batch.images[example, 0, y, x] * 255)) - 1
        assert mark == (other_side[joint] if drawn[example] else joint)


@given(st.integers(0, 2**32 - 1))
def test_random_crops_hold_all_visible_joints(seed: int) -> None:
    random = np.random.RandomState(seed)
    joints = np.clip(random.uniform(0, 256, (8, 1, 2)) + random.uniform(0, 200, (8, 14, 2)), 0, 255)
    visible = random.uniform(size=(8, 14)) < 0.7
    corners = random_corners(joints, visible, (256, 256), random.uniform(size=(8, 2)))
    inside = joints - corners[:, None, :]
    assert ((corners >= 0) & (corners <= 29)).all()
    assert (inside[visible] >= 0).all()
    assert (inside[visible] < deeppose.CROP).all()


def test_crops_lie_everywhere_that_they_may() -> None:
    joints, visible = np.full((3000, 14, 2), [100.0, 128.0]), np.ones((3000, 14), bool)
    joints[:, 0, 0], joints[:, 1, 0] = 20.0, 220.0
    places = np.random.RandomState(0).uniform(size=(3000, 2))
    corners = random_corners(joints, visible, (256, 256), places)
    assert set(corners[:, 0]) == set(range(21))  # no further right than the first joint
    assert set(corners[:, 1]) == set(range(30))


def test_mirroring_twice_changes_nothing(poses: deeppose.Poses) -> None:
    batch = poses.batch(np.arange(6), use_visibility=True)
    copies = deeppose.Batch(*[part.copy() for part in batch])
    mirrored, other_side = np.array([True, False, True, True, False, True]), swapped(PAIRS, 14)
    once = mirror(copies, mirrored, other_side)
    assert np.array_equal(once.images[0], batch.images[0][:, :, ::-1])
    assert np.array_equal(once.visible[0], batch.visible[0][other_side])
    assert np.array_equal(once.images[1], batch.images[1])
    twice = mirror(once, mirrored, other_side)
    assert np.array_equal(twice.images, batch.images)
    assert np.allclose(twice.targets, batch.targets, atol=1e-6)


def test_colours_are_shifted_along_the_axes_of_their_covariance(poses: deeppose.Poses) -> None:
    axes = Augmented(poses, 0, 0.1)._axes
    assert np.allclose(
        axes[0], 0.1 * COLOUR["eigenvalues"][0] * np.array(COLOUR["eigenvectors"][0])
    )
    images = np.full((2, 3, 4, 4), 0.5, np.float32)
    shift_colours(images, np.array([[0.1, -0.2, 0.0], [9.0, -9.0, 0.25]]))
    assert np.allclose(images[0, :, 2, 1], [0.6, 0.3, 0.5])
    assert np.allclose(images[1, :, 0, 0], [1, 0, 0.75])
