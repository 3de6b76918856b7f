"""What a data set is: one value that says how its examples are read, and what an example is.

Joints are the fourteen of Leeds Sports Pose in every data set, person-centric: right is the person's right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Scalar = int | float | str | bool | None

SIDE = 256  # pixels of a prepared image
CROP = 227  # pixels of a side of what the network sees

JOINT_NAMES = (
    *("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle"),
    *("right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist"),
    *("neck", "head top"),
)
JOINTS = len(JOINT_NAMES)
FLIP_PAIRS = (
    (0, 5),
    (1, 4),
    (2, 3),
    (6, 11),
    (7, 10),
    (8, 9),
)  # joints that change places in a mirrored image
RIGHT_LIMBS = ((0, 1), (1, 2), (6, 7), (7, 8))
LEFT_LIMBS = ((5, 4), (4, 3), (11, 10), (10, 9))
TRUNK = ((2, 3), (8, 12), (12, 9), (2, 8), (3, 9), (12, 13))


@dataclass(frozen=True, eq=False)
class Example:
    """One person in one image. All coordinates are finite, those of invisible joints too."""

    name: str
    joints: Floats  # (14, 2) x, y in pixels of the image as stored
    visible: Flags  # (14,)
    test: bool = False
    scale: float = 1.0  # what the image is resized by before it is padded and cropped
    left_out: str = ""  # why it is no example, where those who published it say so


class Source(Protocol):
    """The examples of a data set before preparation; images are read one by one, from several threads."""

    @property
    def examples(self) -> Sequence[Example]: ...

    @property
    def where(self) -> str:
        """What an error about the whole calls it: a file, as a rule."""
        ...

    @property
    def locates_invisible(self) -> bool:
        """Whether invisible joints have true coordinates, to be shown; if not, theirs mean nothing."""
        ...

    def identity(self) -> str:
        """Equal where every pixel and joint is equal, on any machine."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image, without decoding it."""
        ...

    def image(self, index: int) -> Pixels:
        """(height, width, 3), RGB; SweepError naming the file where it cannot be read."""
        ...


@dataclass(frozen=True)
class Archive:
    """A published archive: the same bytes at every mirror. `sha256` is empty where none was ever published."""

    file: str
    mirrors: tuple[str, ...]
    sha256: str = ""
    members: tuple[
        str, ...
    ] = ()  # names that must be inside, to tell the archive from a web page in its place


@dataclass(frozen=True)
class DataSet:
    """A data set by name. `read` takes a folder or archive (None where `generated`) and the options.

    `version` is raised where `read` makes other examples of the same files: what was prepared before is then not used.
    `code` is a digest of a plug-in's files, which does the same for it: sweep fills it in.
    """

    name: str
    summary: str
    read: Callable[..., Source]
    options: Mapping[str, Any] = field(
        default_factory=dict
    )  # name -> default, whose type is the option's
    generated: bool = False  # made by computing; reads no files
    archive: Archive | None = None
    homepage: str = ""
    version: int = 1
    code: str = ""

    @property
    def made_by(self) -> list[int | str]:
        """What else than files and options decides the examples; nothing at first, in sweep's own data sets."""
        return [*([self.version] if self.version > 1 else []), *filter(None, [self.code])]
