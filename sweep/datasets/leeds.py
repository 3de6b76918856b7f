"""The file layout of both Leeds Sports Pose sets: `joints.mat` beside a folder `images`.

`joints` is an array 14×3×N whose third row is visibility (LSPET), or 3×14×N whose third row is
occlusion (LSP). Images are called im00001.jpg or im0001.jpg, counted from 1.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from sweep.datasets import matlab
from sweep.datasets.dataset import JOINT_NAMES, JOINTS, Example, Flags, Floats
from sweep.datasets.files import Files, image_folders, images_beside, open_files, the_one
from sweep.datasets.photographs import Photographs
from sweep.errors import SweepError

ANNOTATION = "joints.mat"
# A compressed file may declare any shape, and numbers take up to 8 times their size in the file.
MAX_EXAMPLES = 200_000
_IMAGE = re.compile(r"im(\d{4,6})\.(jpe?g|png)", re.IGNORECASE)
_SHAPES = "14×3×N (third row: visible) or 3×14×N (third row: occluded)"


def read(path: Path, train: int | None = None) -> Photographs:
    """Return the examples under `path`.

    Examples after the first `train` are for testing; None means that all are for training.
    """
    files = open_files(path)
    annotation = the_one(files, ANNOTATION)
    joints, visible, occluded = _joints(files, annotation)
    images = _images(files, annotation, len(joints))
    examples = [
        Example(
            PurePosixPath(image).name, joints[i], visible[i], test=train is not None and i >= train
        )
        for i, image in enumerate(images)
    ]
    return Photographs(files, annotation, images, examples, locates_invisible=occluded)


def _joints(files: Files, annotation: str) -> tuple[Floats, Flags, bool]:
    """Return coordinates (N, 14, 2), visibilities (N, 14), and whether occlusion is stated."""
    where = files.where(annotation)
    raw = matlab.variable(files, annotation, "joints")
    if not isinstance(raw, np.ndarray):
        raise SweepError(f"joints in {where} holds no numbers", f"it must be {_SHAPES}")
    shape = raw.shape
    if len(shape) != 3 or shape[:2] not in ((JOINTS, 3), (3, JOINTS)):
        raise SweepError(
            f"joints in {where} has shape {'×'.join(map(str, shape))}", f"it must be {_SHAPES}"
        )
    if shape[2] > MAX_EXAMPLES:
        raise SweepError(
            f"joints in {where} is of {shape[2]:,} examples", f"{MAX_EXAMPLES:,} are the most"
        )
    occluded = shape[:2] == (3, JOINTS)
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
    """Return the file of each example, in order; SweepError names the first missing one."""
    numbered = _numbered_images(files, annotation)
    any_name = next(iter(numbered.values()), "im00001.jpg")
    digits = len(PurePosixPath(any_name).stem) - len("im")
    wanted = [numbered.get(number, f"im{number:0{digits}d}.jpg") for number in range(1, count + 1)]
    return images_beside(files, annotation, wanted)


def _numbered_images(files: Files, annotation: str) -> dict[int, str]:
    """Return the names of images by number, from the nearest folder that has any."""
    for folder in image_folders(files, annotation):
        paths = (PurePosixPath(name) for name in files.names())
        matches = (_IMAGE.fullmatch(path.name) for path in paths if str(path.parent) == folder)
        if found := {int(match[1]): match[0] for match in matches if match}:
            return found
    return {}
