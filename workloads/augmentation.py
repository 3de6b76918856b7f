"""Augmentation: random crops, mirrored images and colour noise, drawn from (seed, epoch, index).

The crop is anywhere that contains all visible joints. Half of the images are mirrored, and their
left and right joints are swapped. Every pixel's colour is shifted, as in Krizhevsky et al. 2012
(AlexNet), by

    sum over k of  a_k * eigenvalue_k * eigenvector_k

with a_k normal of mean 0 and deviation `colour_noise`, along the axes of the covariance of the
training images' colours. Colours are then clipped to [0, 1].

The draws of an example depend on no other example, no batch and no framework.
"""

from typing import NamedTuple, Optional

import numpy as np

from workloads.deeppose import CROP, Batch, Poses


class Draws(NamedTuple):
    """The random numbers of each example of a data set in one epoch."""

    place: np.ndarray  # (n, 2) in [0, 1): position of the crop among the possible ones
    mirrored: np.ndarray  # (n,)
    colour: np.ndarray  # (n, 3) standard normal


class Augmented:
    """A data set whose batches are augmented."""

    def __init__(self, poses: Poses, seed: int, colour_noise: float) -> None:
        meta = poses.meta()
        self._poses, self._seed = poses, seed
        self._axes = (
            colour_noise
            * np.array(meta["colour"]["eigenvalues"])[:, None]
            * meta["colour"]["eigenvectors"]
        )
        self._swapped = swapped(meta["flip_pairs"], poses.joints.shape[1])
        self._epoch: Optional[int] = None

    def batch(self, chosen: np.ndarray, epoch: int, use_visibility: bool = True) -> Batch:
        """Return the examples of the indices `chosen`, augmented as in `epoch`."""
        if epoch != self._epoch:
            self._draws, self._epoch = draw(len(self._poses), self._seed, epoch), epoch
        draws = Draws(*[each[chosen] for each in self._draws])
        visible = self._poses.visible[chosen] != 0
        corners = random_corners(
            self._poses.joints[chosen], visible, self._poses.images.shape[1:3], draws.place
        )
        batch = mirror(
            self._poses.cut(chosen, corners, use_visibility), draws.mirrored, self._swapped
        )
        shift_colours(batch.images, np.dot(draws.colour, self._axes))
        return batch


def draw(examples: int, seed: int, epoch: int) -> Draws:
    """Return the draws of an epoch; row i does not depend on the number of examples."""
    uniform = np.random.RandomState((seed, epoch, 1)).random_sample((examples, 3))
    normal = np.random.RandomState((seed, epoch, 2)).standard_normal((examples, 3))
    return Draws(place=uniform[:, :2], mirrored=uniform[:, 2] < 0.5, colour=normal)


def random_corners(
    joints: np.ndarray, visible: np.ndarray, size: "tuple[int, int]", place: np.ndarray
) -> np.ndarray:
    """Return the upper left corners (batch, 2), as x, y, of crops inside images of `size`.

    Each crop contains all visible joints.
    """
    limit = np.array([size[1] - CROP, size[0] - CROP])
    seen = visible[:, :, None]
    # Without a visible joint the extent is infinite, which sets no bound.
    low = np.where(seen, joints, np.inf).min(axis=1)
    high = np.where(seen, joints, -np.inf).max(axis=1)
    last = np.clip(np.floor(low), 0, limit)
    first = np.minimum(np.clip(np.floor(high - CROP) + 1, 0, limit), last)
    return (first + np.floor(place * (last - first + 1))).astype(np.intp)


def mirror(batch: Batch, mirrored: np.ndarray, swapped_joints: np.ndarray) -> Batch:
    """Mirror the images and targets for which `mirrored` is true; changes the batch's arrays."""
    images, targets, visible = batch
    images[mirrored] = images[mirrored][..., ::-1]
    reflected = targets[mirrored][:, swapped_joints]
    reflected[..., 0] = 1 - reflected[..., 0]
    targets[mirrored] = reflected
    visible[mirrored] = visible[mirrored][:, swapped_joints]
    return batch


def shift_colours(images: np.ndarray, shifts: np.ndarray) -> None:
    """Add (batch, 3) to every pixel of (batch, 3, height, width) in place, clipped to [0, 1]."""
    images += shifts.astype(np.float32)[:, :, None, None]
    np.clip(images, 0, 1, out=images)


def swapped(pairs: "list[tuple[int, int]]", joints: int) -> np.ndarray:
    """Return for each joint the one that takes its index in a mirrored image."""
    found = np.arange(joints)
    for one, other in pairs:
        found[[one, other]] = other, one
    return found
