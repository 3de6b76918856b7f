"""The layout that both Leeds Sports Pose sets were published in: `joints.mat` beside a folder `images`.

`joints` is 14×3×N with visibility in its third row (LSPET), or 3×14×N with occlusion there (LSP).
Images are called im00001.jpg or im0001.jpg, counted from 1.
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
MAX_EXAMPLES = 200_000  # numbers take up to 8 times as much memory as in the file
_IMAGE = re.compile(r"im(\d{4,6})\.(jpe?g|png)", re.IGNORECASE)
_SHAPES = "14×3×N (third row: visible) or 3×14×N (third row: occluded)"


def read(path: Path, train: int | None = None) -> Photographs:
    """The examples under `path`; those after the first `train` are for testing (None: all are for training)."""
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
    """Coordinates (N, 14, 2), visibilities (N, 14), and whether the file says which are occluded."""
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
    """The file of each example, in order; SweepError names the first that is missing."""
    found = _numbered(files, annotation)
    width = len(PurePosixPath(next(iter(found.values()), "im00001.jpg")).stem) - len("im")
    wanted = [found.get(number, f"im{number:0{width}d}.jpg") for number in range(1, count + 1)]
    return images_beside(files, annotation, wanted)


def _numbered(files: Files, annotation: str) -> dict[int, str]:
    """Names of the images by number, in the nearest folder that has any."""
    for folder in image_folders(files, annotation):
        paths = (PurePosixPath(name) for name in files.names())
        matches = (_IMAGE.fullmatch(path.name) for path in paths if str(path.parent) == folder)
        if found := {int(match[1]): match[0] for match in matches if match}:
            return found
    return {}
