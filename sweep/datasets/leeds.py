"""The layout that both Leeds Sports Pose sets were published in: `joints.mat` beside a folder `images`.

`joints` is 14×3×N with visibility in its third row (LSPET), or 3×14×N with occlusion there (LSP).
Images are called im00001.jpg or im0001.jpg, counted from 1.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from sweep.datasets import matlab
from sweep.datasets.dataset import JOINT_NAMES, Example, Flags, Floats
from sweep.datasets.files import Files, open_files, the_one
from sweep.datasets.photographs import Photographs
from sweep.errors import SweepError

ANNOTATION = "joints.mat"
_IMAGE = re.compile(r"im(\d{4,6})\.(jpe?g|png)", re.IGNORECASE)
_SHAPES = "14×3×N (third row: visible) or 3×14×N (third row: occluded)"


def read(path: Path, train: int | None = None) -> Photographs:
    """The examples under `path`; those after the first `train` are for testing (None: all are for training)."""
    files = open_files(path)
    annotation = the_one(files, ANNOTATION)
    joints, visible, occluded = _joints(files, annotation)
    images = _images(files, annotation, len(joints))
    examples = [
        Example(PurePosixPath(image).name, joints[i], visible[i], test=train is not None and i >= train)
        for i, image in enumerate(images)
    ]
    return Photographs(files, annotation, images, examples, locates_invisible=occluded)


def _joints(files: Files, annotation: str) -> tuple[Floats, Flags, bool]:
    """Coordinates (N, 14, 2), visibilities (N, 14), and whether the file says which are occluded."""
    where = files.where(annotation)
    shape = matlab.shape(files, annotation, "joints")
    if len(shape) != 3 or shape[:2] not in ((14, 3), (3, 14)):
        raise SweepError(f"joints in {where} has shape {'×'.join(map(str, shape))}", f"it must be {_SHAPES}")
    raw = matlab.variable(files, annotation, "joints")
    if raw.dtype.kind not in "fiub":
        raise SweepError(f"joints in {where} holds no real numbers", f"it must be {_SHAPES}")
    occluded = shape[:2] == (3, 14)
    values = raw.astype(np.float64).transpose((2, 1, 0) if occluded else (2, 0, 1))  # (N, 14, 3)
    _refuse_bad_numbers(where, values)
    visible = (values[..., 2] == 0) if occluded else (values[..., 2] != 0)
    return np.ascontiguousarray(values[..., :2]), visible, occluded


def _refuse_bad_numbers(where: str, values: Floats) -> None:
    if not len(values):
        raise SweepError(f"joints in {where} is empty", "give a data set with at least one example")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        example, joint, row = bad[0]
        what = f"{('x', 'y', 'visibility')[row]} of the {JOINT_NAMES[joint]}"
        raise SweepError(
            f"{what} in example {example + 1} is {values[tuple(bad[0])]} in {where}",
            "every number must be finite; take such examples out",
        )


def _images(files: Files, annotation: str, count: int) -> list[str]:
    """The file of each example, in order; SweepError names the first that is missing."""
    folder = PurePosixPath(annotation).parent / "images"
    found = {}
    for name in files.names():
        match = _IMAGE.fullmatch(PurePosixPath(name).name)
        if match and PurePosixPath(name).parent == folder:
            found[int(match[1])] = name
    missing = [number for number in range(1, count + 1) if number not in found]
    if missing:
        width = len(_IMAGE.fullmatch(PurePosixPath(next(iter(found.values()))).name)[1]) if found else 5  # type: ignore[index]
        first = files.where(f"{folder}/im{missing[0]:0{width}d}.jpg")
        raise SweepError(
            f"{first} is missing, with {len(missing)} of {count} images" if len(missing) > 1 else f"{first} is missing",
            f"{ANNOTATION} lists {count} examples; fetch the data set again",
        )
    return [found[number] for number in range(1, count + 1)]
