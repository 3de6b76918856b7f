"""MPII Human Pose: 25,000 images with 40,000 people (Andriluka et al., CVPR 2014).

There is one example per annotated person of the training images, resized so that people are as
large as in Leeds Sports Pose. All are for training: the joints of the test images were never
published. Joints that were not annotated are invisible.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sweep.datasets import matlab
from sweep.datasets.dataset import DataSet, Example
from sweep.datasets.files import images_beside, open_files, the_one
from sweep.datasets.photographs import Photographs
from sweep.errors import SweepError

ANNOTATION = "mpii_human_pose_v1_u12_1.mat"
PERSON = 150  # pixels from head to foot, as in Leeds Sports Pose
# MPII's number of each joint of Leeds Sports Pose, in the order of JOINT_NAMES.
_ORDER = (0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9)
_UNIT = 200  # pixels; `scale` is a person's height in this unit


def read(path: Path) -> Photographs:
    """Return the annotated people of the training images under `path`.

    `path` holds the annotation file and the folder `images`.
    """
    files = open_files(path)
    annotation = the_one(files, ANNOTATION)
    (release, *_) = matlab.variable(files, annotation, "RELEASE")
    try:
        people = list(_people(release))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SweepError(
            f"{files.where(annotation)} is not laid out as MPII's: {error!r}", _HINT
        ) from None
    if not people:
        raise SweepError(f"{files.where(annotation)} lists no annotated person", _HINT)
    images = images_beside(files, annotation, [image for image, _ in people])
    return Photographs(files, annotation, images, [example for _, example in people])


_HINT = "give the folder with the published annotation file and its images"


def _people(release: Any) -> Iterator[tuple[str, Example]]:
    for entry, train in zip(release["annolist"], np.ravel(release["img_train"]), strict=True):
        image = entry["image"][0]["name"]
        people = entry["annorect"] if train else ()
        for number, person in enumerate(people, 1):
            scale, points = np.ravel(person.get("scale", ())), person.get("annopoints", ())
            # Some rectangles mark a head alone, without scale or joints.
            if len(scale) == 1 and len(points) == 1:
                name = f"{image} person {number}"
                yield image, _person(name, points[0]["point"], float(scale[0]))


def _person(name: str, points: list[dict[str, Any]], scale: float) -> Example:
    joints, annotated, visible = np.zeros((16, 2)), np.zeros(16, bool), np.zeros(16, bool)
    for point in points:
        joint = _number(point["id"])
        joints[int(joint)] = _number(point["x"]), _number(point["y"])
        annotated[int(joint)] = True
        visible[int(joint)] = _is_visible(point.get("is_visible", ""))
    if not annotated.any() or not np.isfinite(joints).all() or not scale > 0:
        raise ValueError(f"{name} has no joints, or a joint or scale that is not finite")
    # Coordinates must be finite everywhere; those of invisible joints are never read.
    joints[~annotated] = joints[annotated].mean(axis=0)
    chosen = list(_ORDER)
    return Example(name, joints[chosen], visible[chosen], scale=PERSON / (_UNIT * scale))


def _number(value: Any) -> float:
    (number,) = np.ravel(value)
    return float(number)


def _is_visible(value: Any) -> bool:
    """Return whether a joint is visible.

    The file has 0 or 1, as a number or a text. It has nothing for the head, which is always
    visible.
    """
    return value != "0" if isinstance(value, str) else bool(np.all(value))


DATASET = DataSet(
    name="mpii",
    summary="MPII Human Pose, 25,000 images",
    read=read,
    homepage="http://human-pose.mpi-inf.mpg.de",
)
