"""Accuracy: which joints and limbs count as found."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.datasets.dataset import CROP, JOINT_NAMES, JOINTS, LEFT_LIMBS, RIGHT_LIMBS
from workloads import accuracy, deeppose


def pose() -> np.ndarray:
    """A person 100 high and 40 wide; (1, 14, 2)."""
    x = [20, 20, 20, 40, 40, 40, 0, 5, 15, 45, 38, 40, 30, 30]
    y = [100, 75, 50, 50, 75, 100, 60, 40, 20, 20, 40, 60, 18, 0]
    return np.stack([x, y], axis=1)[None].astype(float)


SEEN = np.ones((1, 14))


def test_joints_are_those_of_the_data_sets() -> None:
    assert accuracy.JOINTS == JOINT_NAMES
    assert (deeppose.JOINTS, deeppose.CROP) == (JOINTS, CROP)
    ends = {tuple(sorted(one + other)) for _, one, other in accuracy.LIMBS if len(one + other) == 2}
    assert {tuple(sorted(limb)) for limb in RIGHT_LIMBS + LEFT_LIMBS} <= ends


def test_a_joint_is_found_within_a_share_of_the_larger_side_of_the_box() -> None:
    off = pose()
    off[0, 3, 0] += 20.0  # of 100: just
    off[0, 4, 0] += 20.1
    found = accuracy.pck(off, pose(), SEEN, 0.2)
    assert found.by_kind == [1.0, 1.0, 1.0, 1.0, 0.0] + [1.0] * 9
    assert found.overall == pytest.approx(13 / 14)


def test_joints_that_are_not_visible_do_not_count_nor_make_the_box_larger() -> None:
    true, seen = pose(), SEEN.copy()
    true[0, 0] = [5000, 5000]
    seen[0, [0, 5]] = 0  # the box is 75 high now
    off = true.copy()
    off[0, 0] = 0
    off[0, 2, 1] += 16  # beyond 0.2 * 75
    found = accuracy.pck(off, true, seen, 0.2)
    assert (found.by_kind[0], found.by_kind[2]) == (None, 0.0)
    assert found.overall == pytest.approx(11 / 12)


def test_a_limb_is_found_if_both_its_ends_are_within_half_its_length() -> None:
    off = pose()
    off[0, 1, 0] += 12.5  # the right knee; thigh and shin are 25 long
    assert accuracy.pcp(off, pose(), SEEN).overall == 1
    off[0, 1, 0] += 0.1
    found = accuracy.pcp(off, pose(), SEEN)
    lost = {
        name
        for (name, _, _), share in zip(accuracy.LIMBS, found.by_kind, strict=True)
        if share == 0
    }
    assert lost == {"right upper leg", "right lower leg"}
    assert found.overall == pytest.approx(0.8)


def test_the_torso_ends_in_the_middle_of_the_hips() -> None:
    off = pose()
    off[0, 2, 0] -= 30
    off[0, 3, 0] += 30
    assert accuracy.pcp(off, pose(), SEEN).by_kind[0] == 1


def test_a_limb_counts_where_all_its_joints_are_visible() -> None:
    seen = SEEN.copy()
    seen[0, 2] = 0
    found = accuracy.pcp(pose(), pose(), seen)
    assert [share is None for share in found.by_kind] == [True, False, True] + [False] * 7
    nothing = accuracy.pck(pose(), pose(), 0 * SEEN, 0.2)
    assert nothing.overall is None
