"""FLIC: 5,003 frames of films with upper bodies (Sapp and Taskar, CVPR 2013).

Shoulders, elbows, wrists and hips are annotated; the other joints are invisible. Frames are resized
so that torsos are as large as in Leeds Sports Pose. The published split is kept. FLIC-full, its
superset of 20,928 frames, is read as well. Frames that its authors put in neither split, marked as
bad or did not check are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sweep.datasets import matlab
from sweep.datasets.dataset import JOINTS, DataSet, Example
from sweep.datasets.files import images_beside, open_files, the_one
from sweep.datasets.photographs import Photographs
from sweep.errors import SweepError

ANNOTATION = "examples.mat"
TORSO = 75  # pixels, the height of the torso box after resizing
# Joint of this project -> column in FLIC's `coords`.
_COLUMNS = {11: 2, 10: 1, 9: 0, 8: 3, 7: 4, 6: 5, 3: 6, 2: 9}
_HINT = "give the folder with the published annotation file and its images"


def read(path: Path) -> Photographs:
    """Return the frames under `path`, which holds `examples.mat` and the folder `images`."""
    files = open_files(path)
    annotation = the_one(files, ANNOTATION)
    entries = matlab.variable(files, annotation, "examples")
    try:
        examples = [_example(entry) for entry in entries]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SweepError(
            f"{files.where(annotation)} is not laid out as FLIC's: {error!r}", _HINT
        ) from None
    if not examples:
        raise SweepError(f"{files.where(annotation)} lists no frames", _HINT)
    images = images_beside(files, annotation, [example.name for example in examples])
    return Photographs(files, annotation, images, examples)


def _example(entry: dict[str, Any]) -> Example:
    coordinates = np.asarray(entry["coords"], np.float64)  # (2, 29), NaN if not annotated
    joints, visible = np.zeros((JOINTS, 2)), np.zeros(JOINTS, bool)
    for joint, column in _COLUMNS.items():
        joints[joint] = coordinates[:, column]
        visible[joint] = np.isfinite(joints[joint]).all()
    # Coordinates must be finite everywhere; those of invisible joints are never read.
    joints[~visible] = joints[visible].mean(axis=0) if visible.any() else 0
    image, left_out = str(entry["filepath"]), _left_out(entry)
    scale = 1.0 if left_out else TORSO / _torso_height(image, entry["torsobox"])
    return Example(
        image, joints, visible, test=not np.any(entry["istrain"]), scale=scale, left_out=left_out
    )


def _left_out(entry: dict[str, Any]) -> str:
    """Return why a frame is no example, or ""; FLIC-full has four times as many frames as the
    splits.
    """
    if np.any(entry.get("isbad", False)):
        return "marked as bad by its annotators"
    if np.any(entry.get("isunchecked", False)):
        return "not checked by its annotators"
    in_either = np.any(entry["istrain"]) or np.any(entry.get("istest", True))
    return "" if in_either else "in neither of the published splits"


def _torso_height(image: str, box: Any) -> float:
    _, top, _, bottom = np.ravel(box)
    if not bottom > top:
        raise ValueError(f"{image} has a torso box without height")
    return float(bottom - top)


DATASET = DataSet(
    name="flic",
    summary="FLIC, 5,003 film frames of upper bodies",
    read=read,
    homepage="https://bensapp.github.io/flic-dataset.html",
    # Version 1 took frames in neither split for test examples.
    version=2,
)
