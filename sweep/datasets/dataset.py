"""What a data set is: how its examples are read, and what an example holds.

Every data set has the fourteen joints of Leeds Sports Pose. Left and right are the person's own.
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

# Prepared images are larger than the network's input: training crops them at random.
SIDE = 256  # pixels
CROP = 227  # pixels, the side of the network's input

JOINT_NAMES = (
    *("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle"),
    *("right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist"),
    *("neck", "head top"),
)
JOINTS = len(JOINT_NAMES)
# Mirroring an image turns a right joint into a left one: these pairs swap their indices.
FLIP_PAIRS = ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))
RIGHT_LIMBS = ((0, 1), (1, 2), (6, 7), (7, 8))
LEFT_LIMBS = ((5, 4), (4, 3), (11, 10), (10, 9))
TRUNK = ((2, 3), (8, 12), (12, 9), (2, 8), (3, 9), (12, 13))


@dataclass(frozen=True, eq=False)
class Example:
    """One person in one image. All coordinates are finite, also those of invisible joints."""

    name: str
    joints: Floats  # (14, 2) x, y in pixels of the image as stored
    visible: Flags  # (14,)
    test: bool = False
    scale: float = 1.0  # the image is resized by this factor before it is padded and cropped
    left_out: str = ""  # why the publishers exclude it, or ""


class Source(Protocol):
    """The examples of a data set before preparation.

    Images are read one by one, from several threads at once.
    """

    @property
    def examples(self) -> Sequence[Example]: ...

    @property
    def where(self) -> str:
        """The name that errors about the whole source use, usually a file."""
        ...

    @property
    def locates_invisible(self) -> bool:
        """Whether the coordinates of invisible joints are annotated; if not, they mean nothing."""
        ...

    def identity(self) -> str:
        """Return a text that is equal on every machine if all pixels and joints are equal."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of an image without decoding it."""
        ...

    def image(self, index: int) -> Pixels:
        """Return the RGB image (height, width, 3); SweepError with the file if it is unreadable."""
        ...


@dataclass(frozen=True)
class Archive:
    """A published archive, the same bytes at every mirror.

    `sha256` is empty if its publishers never gave one. `members` are file names that must be
    inside: they tell the archive from a web page that a mirror sends in its place.
    """

    file: str
    mirrors: tuple[str, ...]
    sha256: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A data set by name.

    `read` is called with the path of a folder or archive and the options; a `generated` data set is
    computed and gets the options alone. `options` maps names to defaults; the type of the default
    is the type of the option. Raise `version` when `read` returns other examples for the same
    files: sets prepared before are then ignored. `code` does the same for plug-ins: it is the
    digest of the plug-in's files, set when the plug-in is loaded.
    """

    name: str
    summary: str
    read: Callable[..., Source]
    options: Mapping[str, Any] = field(default_factory=dict)
    generated: bool = False
    archive: Archive | None = None
    homepage: str = ""
    version: int = 1
    code: str = ""

    @property
    def made_by(self) -> list[int | str]:
        """What decides the examples besides files and options; [] for version 1 of a built-in."""
        # Version 1 and an empty digest add nothing, so that ids from before they existed hold.
        version = [self.version] if self.version > 1 else []
        code = [self.code] if self.code else []
        return [*version, *code]
