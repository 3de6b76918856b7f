"""Preparation: pad, crop, drop and check examples, and write them as arrays that workers map into memory.

As in the study: an image is padded with zeros to at least 256×256, evenly on both sides; cropped to 256×256 around the
centre of the visible joints' bounding box, as far as the image reaches; and dropped unless every visible joint then
lies inside and the visible joints extend over less than 227 pixels.
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

VERSION = 1  # raise it where the arrays of the same source change
ARRAYS = ("images.npy", "joints.npy", "visible.npy", "split.npy")
NO_VISIBLE_JOINT = "no visible joint"
JOINT_OUTSIDE = "a visible joint lies outside the image"
MOST_DROPPED = 0.1  # share of the examples, beyond which something is probably wrong with the files
TOO_LARGE = f"visible joints extend over {CROP} pixels or more"

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many
_CHUNK = 32
_MOST_PIXELS = 64_000_000  # of an image made larger or smaller
_LARGE_PIXELS = (
    8_000_000  # decoded one after another from here on: each holds its pixels several times
)
_large = threading.Lock()


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the crop lies: `corner` is its upper left, x and y, in pixels of the image; negative where it is padded."""

    corner: tuple[int, int]
    joints: Floats  # (14, 2) in pixels of the crop


@dataclass(frozen=True, eq=False)
class _Filled:
    """What one example added: digest of its pixels, and sums over the pixels that are photograph, not padding."""

    digest: bytes
    pixels: int
    total: Floats  # (3,)
    products: Floats  # (3, 3)


def place(size: tuple[int, int], joints: Floats, visible: Flags) -> Placement | str:
    """Where an image of `size` (width, height) is cropped, or why it is dropped."""
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
    """The crop (256, 256, 3) with its padding, and the part of `image` inside it."""
    height, width = image.shape[:2]
    left, top = corner
    inside = image[max(top, 0) : min(top + SIDE, height), max(left, 0) : min(left + SIDE, width)]
    whole = np.zeros((SIDE, SIDE, 3), np.uint8)
    row, column = max(-top, 0), max(-left, 0)
    whole[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return whole, inside


def mostly_dropped(name: str, meta: Mapping[str, Any]) -> str:
    """What is to be said of a prepared data set where more than a tenth did not fit; empty where that is not so.

    What its publishers leave out themselves is not counted.
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
    """Write the arrays of `source` into `folder` and return what they are; memory does not grow with the examples."""
    placements = _place_all(source, progress)
    left_out = Counter(e.left_out for e in source.examples if e.left_out)
    dropped = Counter(p for p in placements if isinstance(p, str)) - left_out
    kept = np.array(
        [i for i, placement in enumerate(placements) if isinstance(placement, Placement)], np.intp
    )
    if not len(kept):
        raise _nothing_left(source, dropped + left_out)
    examples = [source.examples[i] for i in kept]
    chosen = [placement for placement in placements if isinstance(placement, Placement)]
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


def _place_all(source: Source, progress: Progress) -> list[Placement | str]:
    """Where each example's image is cropped, or why the example is none."""
    placements: list[Placement | str] = []
    for i, example in enumerate(source.examples):
        placements.append(example.left_out or _placed(source.size(i), example))
        progress("check", i + 1, len(source.examples))
    return placements


def _placed(size: tuple[int, int], example: Example) -> Placement | str:
    if (
        not size[0] * size[1] * example.scale * example.scale <= _MOST_PIXELS
    ):  # not so for NaN either
        message = f"{example.name} would be {example.scale:.3g} times as large: {size[0]} x {size[1]} pixels at first"
        raise SweepError(
            message, f"{_MOST_PIXELS:,} pixels are the most: look at its scale in the annotation"
        )
    return place(
        _scaled(size, example.scale), example.joints * _scales(size, example.scale), example.visible
    )


def _fill(
    path: Path, source: Source, kept: Any, chosen: Sequence[Placement], progress: Progress
) -> list[_Filled]:
    """Decode and write the images, some threads at once; only the rows being written are in memory."""
    start = _reserve(path, (len(kept), SIDE, SIDE, 3))

    def fill(first: int) -> list[_Filled]:
        rows = range(first, min(first + _CHUNK, len(kept)))
        return [fill_one(row, int(kept[row])) for row in rows]

    def fill_one(row: int, index: int) -> _Filled:
        with _alone_if_large(source.size(index), source.examples[index].scale):
            image = _resized(source.image(index), source.examples[index].scale)
            whole, view = crop(image, chosen[row].corner)
            inside = view.copy()
            del image, view
        os.pwrite(file.fileno(), whole.tobytes(), start + row * whole.nbytes)
        return _summed(whole, inside)

    filled: list[_Filled] = []
    with path.open("r+b") as file, ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
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
    colours = inside.reshape(-1, 3).astype(
        np.float64
    )  # whole numbers: sums are exact, in any order
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
    """Mean, and the covariance's eigenvalues (falling) with eigenvectors (one a row), of RGB in [0, 1].

    Padding is left out. Signs are fixed: the largest component of each eigenvector is positive.
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
    """To twelve decimals: linear algebra libraries differ in the last bits, nodes must not."""
    return [round(float(v), 12) + 0.0 for v in values]


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return (
        (size[0], size[1])
        if scale == 1
        else (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    )


def _scales(size: tuple[int, int], scale: float) -> Floats:
    """What x and y are really multiplied by, since sizes are whole."""
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
        f"an example needs a visible joint, and all of them inside a {CROP}×{CROP} part of the image",
    )


def _reserve(path: Path, shape: tuple[int, ...]) -> int:
    """Make an array file and take its space on the disk at once; where in the file its first row begins.

    Rows are then written as to any file: written through a memory map, they would count as the process's memory.
    """
    try:
        start: int = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).offset
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise SweepError(
            f"{math.prod(shape) / 1e9:.1f} GB for prepared images are not to be had in {path.parent.parent}:"
            f" {error.strerror}",
            "set SWEEP_DATA_DIR to a folder with more room",
        ) from None
    return start
