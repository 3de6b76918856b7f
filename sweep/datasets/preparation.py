"""Preparation: pad, crop, filter and check examples, and write them as arrays to be memory-mapped.

The rules are those of the study. An image is padded with zeros to at least 256×256, evenly on both
sides. It is cropped to 256×256 around the centre of the visible joints' bounding box, as far as the
image reaches. An example is dropped unless every visible joint then lies inside, and unless the
visible joints extend over less than 227 pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from sweep.datasets.dataset import (
    CROP,
    FLIP_PAIRS,
    JOINT_NAMES,
    SIDE,
    Example,
    Flags,
    Floats,
    Pixels,
    Source,
)
from sweep.errors import SweepError

VERSION = 1  # raise it when the arrays of the same source change
ARRAYS = ("images.npy", "joints.npy", "visible.npy", "split.npy")
NO_VISIBLE_JOINT = "no visible joint"
JOINT_OUTSIDE = "a visible joint lies outside the image"
# If a larger share of the examples is dropped, the files are probably of another edition.
MOST_DROPPED = 0.1
TOO_LARGE = f"visible joints extend over {CROP} pixels or more"

# Arguments: the stage, examples done, examples in all.
Progress = Callable[[str, int, int], None]
_CHUNK = 32
# Pixels of an image after resizing: a wrong scale must not allocate all memory.
_MOST_PIXELS = 64_000_000
# Larger images are decoded one at a time: each occupies several times its pixels.
_LARGE_PIXELS = 8_000_000
_large = threading.Lock()


@dataclass(frozen=True, eq=False)
class Placement:
    """Where an image is cropped.

    `corner` is the upper left corner of the crop, x and y in pixels of the image; it is negative
    where the image is padded.
    """

    corner: tuple[int, int]
    joints: Floats  # (14, 2) in pixels of the crop


@dataclass(frozen=True, eq=False)
class _Filled:
    """What one example adds to the facts about the data set.

    A digest of its pixels, and sums over the pixels of the photograph, without padding.
    """

    digest: bytes
    pixels: int
    total: Floats  # (3,)
    products: Floats  # (3, 3)


def placement_of(size: tuple[int, int], joints: Floats, visible: Flags) -> Placement | str:
    """Return where an image of `size` (width, height) is cropped, or why it is dropped."""
    if not visible.any():
        return NO_VISIBLE_JOINT
    seen = joints[visible]
    low, high = seen.min(axis=0), seen.max(axis=0)
    if (high - low >= CROP).any():
        return TOO_LARGE
    padding = [max(0, SIDE - side) // 2 for side in size]
    padded = [max(SIDE, side) for side in size]
    centre = (low + high) / 2 + padding
    corner = [
        int(np.clip(c - SIDE / 2, 0, side - SIDE)) - pad
        for c, side, pad in zip(centre, padded, padding, strict=True)
    ]
    if (low < corner).any() or (high >= np.add(corner, SIDE)).any():
        return JOINT_OUTSIDE
    return Placement((corner[0], corner[1]), joints - corner)


def crop(image: Pixels, corner: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Return the crop (256, 256, 3) with its padding, and the part of `image` inside it."""
    height, width = image.shape[:2]
    left, top = corner
    inside = image[max(top, 0) : min(top + SIDE, height), max(left, 0) : min(left + SIDE, width)]
    whole = np.zeros((SIDE, SIDE, 3), np.uint8)
    row, column = max(-top, 0), max(-left, 0)
    whole[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return whole, inside


def mostly_dropped(name: str, meta: Mapping[str, Any]) -> str:
    """Return a warning if more than a tenth of the examples was dropped, else "".

    Examples that the publishers themselves exclude do not count.
    """
    lost = sum(meta["dropped"].values())
    total = lost + meta["examples"]
    if lost <= MOST_DROPPED * total:
        return ""
    reasons = ", ".join(
        f"{count:,}: {reason}" for reason, count in Counter(meta["dropped"]).most_common()
    )
    return (
        f"data set {name}: {lost:,} of {total:,} examples are dropped ({reasons}); "
        f"persons must fit in {CROP}×{CROP} pixels: is this the edition in that size?"
    )


def write(folder: Path, source: Source, progress: Progress) -> dict[str, Any]:
    """Write the arrays of `source` into `folder` and return the facts about them.

    Memory does not grow with the number of examples. SweepError if no example is left.
    """
    outcomes = _outcomes(source, progress)
    left_out = Counter(e.left_out for e in source.examples if e.left_out)
    dropped = Counter(reason for reason in outcomes if isinstance(reason, str)) - left_out
    placements = {i: p for i, p in enumerate(outcomes) if isinstance(p, Placement)}
    if not placements:
        raise _nothing_left(source, dropped + left_out)
    kept = list(placements)
    chosen = list(placements.values())
    examples = [source.examples[i] for i in kept]
    np.save(folder / "joints.npy", np.array([p.joints for p in chosen], np.float32))
    np.save(folder / "visible.npy", np.array([e.visible for e in examples], np.uint8))
    np.save(folder / "split.npy", np.array([e.test for e in examples], np.uint8))
    (folder / "names.txt").write_text("".join(f"{e.name}\n" for e in examples), encoding="utf-8")
    filled = _fill(folder / "images.npy", source, kept, chosen, progress)
    more = {
        "left_out": dict(sorted(left_out.items())),
        "locates_invisible": source.locates_invisible,
    }
    return _facts(examples, dropped, filled) | more


def _outcomes(source: Source, progress: Progress) -> list[Placement | str]:
    """Return for each example where its image is cropped, or why it is dropped."""
    outcomes: list[Placement | str] = []
    for i, example in enumerate(source.examples):
        outcomes.append(example.left_out or _outcome(source.size(i), example))
        progress("check", i + 1, len(source.examples))
    return outcomes


def _outcome(size: tuple[int, int], example: Example) -> Placement | str:
    # `not <=` instead of `>`: a scale of NaN is refused too.
    if not size[0] * size[1] * example.scale * example.scale <= _MOST_PIXELS:
        raise SweepError(
            f"{example.name} would be {example.scale:.3g} times as large:"
            f" {size[0]} x {size[1]} pixels at first",
            f"{_MOST_PIXELS:,} pixels are the most: look at its scale in the annotation",
        )
    joints = example.joints * _scales(size, example.scale)
    return placement_of(_scaled(size, example.scale), joints, example.visible)


def _fill(
    path: Path,
    source: Source,
    kept: Sequence[int],
    chosen: Sequence[Placement],
    progress: Progress,
) -> list[_Filled]:
    """Decode and write the images in a few threads; only rows being written are in memory."""
    start = _reserve(path, (len(kept), SIDE, SIDE, 3))

    def fill(first: int) -> list[_Filled]:
        rows = range(first, min(first + _CHUNK, len(kept)))
        return [fill_one(row, kept[row]) for row in rows]

    def fill_one(row: int, index: int) -> _Filled:
        with _alone_if_large(source.size(index), source.examples[index].scale):
            image = _resized(source.image(index), source.examples[index].scale)
            whole, view = crop(image, chosen[row].corner)
            inside = view.copy()
            # The view would hold the whole decoded image beyond the lock.
            del image, view
        os.pwrite(file.fileno(), whole.tobytes(), start + row * whole.nbytes)
        return _summed(whole, inside)

    filled: list[_Filled] = []
    # Decoders release the GIL; beyond four threads the disk is the limit.
    threads = min(4, len(os.sched_getaffinity(0)))
    with path.open("r+b") as file, ThreadPoolExecutor(threads) as pool:
        try:
            for chunk in pool.map(fill, range(0, len(kept), _CHUNK)):
                filled.extend(chunk)
                progress("write", len(filled), len(kept))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return filled


def _alone_if_large(size: tuple[int, int], scale: float) -> contextlib.AbstractContextManager[Any]:
    pixels = size[0] * size[1] * max(1.0, scale * scale)
    return _large if pixels > _LARGE_PIXELS else contextlib.nullcontext()


def _summed(whole: Pixels, inside: Pixels) -> _Filled:
    # Sums of integers are exact in float64, whatever their order.
    colours = inside.reshape(-1, 3).astype(np.float64)
    return _Filled(
        hashlib.sha256(whole.tobytes()).digest(),
        len(colours),
        colours.sum(axis=0),
        colours.T @ colours,
    )


def _facts(
    examples: Sequence[Example], dropped: Counter[str], filled: Sequence[_Filled]
) -> dict[str, Any]:
    tests = sum(e.test for e in examples)
    # The colours of test examples must not influence training.
    training = [f for f, e in zip(filled, examples, strict=True) if not e.test] or filled
    return {
        "examples": len(examples),
        "train": len(examples) - tests,
        "test": tests,
        "dropped": dict(sorted(dropped.items())),
        "joint_names": list(JOINT_NAMES),
        "flip_pairs": [list(pair) for pair in FLIP_PAIRS],
        "colour": colour_axes(training),
        "pixels_sha256": hashlib.sha256(b"".join(f.digest for f in filled)).hexdigest(),
    }


def colour_axes(filled: Sequence[_Filled]) -> dict[str, Any]:
    """Return mean and principal axes of the colours in RGB, with values in [0, 1].

    The axes are the covariance's eigenvalues (falling) and eigenvectors (one a row). Padding does
    not count. Signs are fixed: the largest component of each eigenvector is positive.
    """
    pixels = sum(f.pixels for f in filled)
    mean = sum((f.total for f in filled), np.zeros(3)) / pixels / 255
    second = sum((f.products for f in filled), np.zeros((3, 3))) / pixels / 255**2
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    rows = vectors.T[::-1]
    signs = np.sign(rows[np.arange(3), np.abs(rows).argmax(axis=1)])
    return {
        "mean": _rounded(mean),
        "eigenvalues": _rounded(values[::-1].clip(min=0)),
        "eigenvectors": [_rounded(row) for row in rows * signs[:, None]],
    }


def _rounded(values: Floats) -> list[float]:
    """Round to twelve decimals: linear algebra libraries differ in the last bits."""
    # Adding 0.0 turns -0.0 into 0.0.
    return [round(float(v), 12) + 0.0 for v in values]


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    if scale == 1:
        return size
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scales(size: tuple[int, int], scale: float) -> Floats:
    """Return the factors of x and y; they differ from the scale, since sizes are integers."""
    scales: Floats = np.array(_scaled(size, scale), np.float64) / np.array(size)
    return scales


def _resized(image: Pixels, scale: float) -> Pixels:
    if scale == 1:
        return image
    size = _scaled((image.shape[1], image.shape[0]), scale)
    return np.asarray(
        Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3)
    )


def _nothing_left(source: Source, dropped: Counter[str]) -> SweepError:
    reasons = ", ".join(f"{count} × {reason}" for reason, count in dropped.most_common())
    return SweepError(
        f"no example of {source.where} can be used ({reasons or 'it lists none'})",
        "an example needs a visible joint, and all of them inside a"
        f" {CROP}×{CROP} part of the image",
    )


def _reserve(path: Path, shape: tuple[int, ...]) -> int:
    """Create an array file, allocate its disk space, and return the byte offset of its first row.

    Allocation in advance reports a full disk at once. Rows are written with `pwrite`: pages of a
    memory map would count as memory of the process.
    """
    try:
        start: int = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).offset
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise SweepError(
            f"{math.prod(shape) / 1e9:.1f} GB for prepared images are not to be had in"
            f" {path.parent.parent}: {error.strerror}",
            "set SWEEP_DATA_DIR to a folder with more room",
        ) from None
    return start
