"""DeepPose: regress the joints of a person from one image (Toshev and Szegedy 2014).

The loss has one definition in every framework, with v the 0/1 visibility of each joint (all ones
without visibility):

    loss = sum((v * (prediction - target)) ** 2) / N        over examples, joints and coordinates
    N    = number of visible joints in the batch, or 1 if there is none
    d loss / d prediction = 2 / N * v * (prediction - target)

Weights and batches come from NumPy alone, so that every framework sees the same bits. The networks
are in `workloads/networks`.
"""

import json
import os
from typing import Any, Dict, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

CROP = 227  # pixels, the side of the network's input
JOINTS = 14


class Batch(NamedTuple):
    """One batch on the host, all float32.

    Pixels are in [0, 1], joints in units of the crop, visibility is 0 or 1.
    """

    images: np.ndarray  # (batch, 3, 227, 227)
    targets: np.ndarray  # (batch, 14, 2)
    visible: np.ndarray  # (batch, 14)


class Poses:
    """A prepared data set: memory-mapped images, joints and visibilities."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        # (n, 256, 256, 3) uint8
        self.images = np.load(os.path.join(folder, "images.npy"), mmap_mode="r")
        self.joints = np.load(os.path.join(folder, "joints.npy"))  # (n, 14, 2) x, y in pixels
        self.visible = np.load(os.path.join(folder, "visible.npy"))  # (n, 14) uint8
        if not len(self.images):
            raise ValueError("the data set in {} holds no examples".format(folder))

    def __len__(self) -> int:
        return len(self.images)

    def split(self) -> np.ndarray:
        """Return (n,) 0 for the examples to train on, 1 for those to test on."""
        return np.load(os.path.join(self.folder, "split.npy"))

    def meta(self) -> Dict[str, Any]:
        """Return the facts about the arrays; `docs/data.md` lists them."""
        with open(os.path.join(self.folder, "meta.json")) as file:
            return dict(json.load(file))

    def batch(self, chosen: np.ndarray, use_visibility: bool = True) -> Batch:
        """Return the examples of the indices `chosen`, each cropped around its visible joints."""
        return self.cut(chosen, self.corners(chosen), use_visibility)

    def corners(self, chosen: np.ndarray) -> np.ndarray:
        """Return the upper left corners (batch, 2) of the crops around the visible joints."""
        return crop_corners(self.joints[chosen], self.visible[chosen] != 0, self.images.shape[1:3])

    def cut(self, chosen: np.ndarray, corners: np.ndarray, use_visibility: bool = True) -> Batch:
        """Return the examples of the indices `chosen`, cropped at `corners`."""
        visible = self.visible[chosen] != 0
        return Batch(
            images=_pixels(self.images, chosen, corners),
            targets=((self.joints[chosen] - corners[:, None, :]) / CROP).astype(np.float32),
            visible=visible.astype(np.float32)
            if use_visibility
            else np.ones(visible.shape, np.float32),
        )


def order(examples: int, seed: int, epoch: int = 0) -> np.ndarray:
    """Return the order of the examples in an epoch; it does not depend on the epochs before."""
    return np.random.RandomState((seed, epoch)).permutation(examples)


def batch_indices(examples: int, batch_size: int, seed: int, number: int) -> np.ndarray:
    """Return the indices of batch `number` of an endless pass through the epochs.

    A batch may contain the end of one epoch and the beginning of the next.
    """
    positions = np.arange(number * batch_size, (number + 1) * batch_size)
    epochs = positions // examples
    return np.concatenate(
        [
            order(examples, seed, epoch)[positions[epochs == epoch] % examples]
            for epoch in range(epochs[0], epochs[-1] + 1)
        ]
    )


def crop_corners(joints: np.ndarray, visible: np.ndarray, size: "tuple[int, int]") -> np.ndarray:
    """Return upper left corners (batch, 2), as x, y, of crops around the visible joints.

    A crop is centred on the visible joints' bounding box and stays inside images of `size` (height,
    width). Without visible joints it is the image's centre.
    """
    limit = np.array([size[1] - CROP, size[0] - CROP])
    seen = visible[:, :, None]
    low = np.where(seen, joints, np.inf).min(axis=1)
    high = np.where(seen, joints, -np.inf).max(axis=1)
    some = np.any(visible, axis=1, keepdims=True)
    middle = np.where(
        some, (np.where(some, low, 0) + np.where(some, high, 0)) / 2, np.array(size[::-1]) / 2.0
    )
    return np.clip(np.floor(middle - CROP / 2.0 + 0.5), 0, limit).astype(np.intp)


def _pixels(images: np.ndarray, chosen: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return crops as float32 (batch, 3, 227, 227) in [0, 1], from one indexing of all windows."""
    images = np.asarray(images)
    n, height, width, channels = images.shape
    example, row, column, channel = images.strides
    windows = as_strided(  # (n, height - 226, width - 226, 227, 227, 3), no memory of its own
        images,
        shape=(n, height - CROP + 1, width - CROP + 1, CROP, CROP, channels),
        strides=(example, row, column, row, column, channel),
        writeable=False,
    )
    crops = windows[chosen, corners[:, 1], corners[:, 0]]  # (batch, 227, 227, 3) uint8
    pixels = crops.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    # Division in place on contiguous memory takes a fifth of the time of dividing in the cast.
    pixels /= np.float32(255)
    return pixels
