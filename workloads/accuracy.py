"""Accuracy of predicted poses over visible joints: PCK by keypoint and PCP by limb.

PCK, percentage of correct keypoints (Yang and Ramanan 2013): a joint is correct if its predicted
position is at most `threshold` times the larger side of the person's bounding box from the true
one. The bounding box is the tight box around the person's visible joints. The size of the torso is
not used: it needs joints that are often invisible.

PCP, percentage of correct parts (Ferrari et al. 2008), in its strict form: a limb is correct if
both predicted ends are at most half the limb's length from the true ones. A limb counts if all its
joints are visible.
"""

from typing import List, NamedTuple, Optional

import numpy as np

JOINTS = (
    ("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
     "right wrist", "right elbow")
    + ("right shoulder", "left shoulder", "left elbow", "left wrist", "neck", "head top")
)  # fmt: skip
# Name, and the joints at each end, whose mean is the end.
LIMBS = (
    ("torso", (12,), (2, 3)),
    ("head", (12,), (13,)),
    ("right upper leg", (2,), (1,)),
    ("right lower leg", (1,), (0,)),
    ("left upper leg", (3,), (4,)),
    ("left lower leg", (4,), (5,)),
    ("right upper arm", (8,), (7,)),
    ("right forearm", (7,), (6,)),
    ("left upper arm", (9,), (10,)),
    ("left forearm", (10,), (11,)),
)


class Share(NamedTuple):
    """The correct share of all that count, and of each kind; None if nothing counts."""

    overall: Optional[float]
    by_kind: List[Optional[float]]


def pck(predicted: np.ndarray, true: np.ndarray, visible: np.ndarray, threshold: float) -> Share:
    """Return the PCK of poses (n, 14, 2) in any unit, with visibilities (n, 14), by JOINTS."""
    seen = visible[:, :, None] != 0
    low = np.where(seen, true, np.inf).min(axis=1)
    high = np.where(seen, true, -np.inf).max(axis=1)
    sizes = (high - low).max(axis=1)  # (n,), negative where nothing is visible
    return _share(_distances(predicted, true) <= threshold * sizes[:, None], visible != 0)


def pcp(predicted: np.ndarray, true: np.ndarray, visible: np.ndarray) -> Share:
    """Return the PCP of poses (n, 14, 2) in any unit, with visibilities (n, 14), by LIMBS."""
    ends = [(list(one), list(other)) for _, one, other in LIMBS]
    counts = np.stack(
        [(visible[:, one + other] != 0).all(axis=1) for one, other in ends], axis=1
    )  # (n, limbs)
    correct = [_limb(predicted, true, one, other) for one, other in ends]
    return _share(np.stack(correct, axis=1), counts)


def _limb(predicted: np.ndarray, true: np.ndarray, one: List[int], other: List[int]) -> np.ndarray:
    """Return (n,) whether both ends of a limb are correct."""
    near, far = (true[:, end].mean(axis=1) for end in (one, other))
    most = np.sqrt(((near - far) ** 2).sum(axis=1)) / 2
    off = [
        _distances(predicted[:, end].mean(axis=1), at) for end, at in ((one, near), (other, far))
    ]
    return (off[0] <= most) & (off[1] <= most)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(((one - other) ** 2).sum(axis=-1))


def _share(correct: np.ndarray, counts: np.ndarray) -> Share:
    right, of = (correct & counts).sum(axis=0), counts.sum(axis=0)
    kinds = [float(r) / float(n) if n else None for r, n in zip(right, of)]
    return Share(float(right.sum()) / float(of.sum()) if of.any() else None, kinds)
