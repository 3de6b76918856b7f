"""Photographs: examples whose images are files, decoded to RGB.

Every error names the file at fault.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from sweep.datasets.dataset import Example, Pixels
from sweep.datasets.files import CORRUPT, Files, content_hash, read
from sweep.errors import SweepError

MAX_PIXELS = 64_000_000
# The formats that data sets are published in. Further decoders would only enlarge what a hostile
# file can attack.
_FORMATS = ("JPEG", "PNG")
_UNDECODABLE = (
    OSError,
    SyntaxError,
    *CORRUPT,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True, eq=False)
class Photographs:
    """A Source of files.

    `images[i]` is the file of `examples[i]`; `annotation` is the file with the joints.
    """

    files: Files
    annotation: str
    images: Sequence[str]
    examples: Sequence[Example]
    locates_invisible: bool = False

    @property
    def where(self) -> str:
        return self.files.where(self.annotation)

    def identity(self) -> str:
        """Hash contents and base names of the files in use; folders do not count."""
        kept = (
            image
            for image, example in zip(self.images, self.examples, strict=True)
            if not example.left_out
        )
        used = [self.annotation, *dict.fromkeys(kept)]
        names = json.dumps([PurePosixPath(name).name for name in used])
        return content_hash(self.files, used) + hashlib.sha256(names.encode()).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height from the image's header; SweepError for too many pixels."""
        name = self.images[index]
        try:
            with warnings.catch_warnings(), self.files.open(name) as stream:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(stream, formats=_FORMATS) as image:
                    width, height = image.size
        except _UNDECODABLE as error:
            raise self._undecodable(name, error) from None
        if width * height > MAX_PIXELS:
            raise self._undecodable(name, f"{width} x {height} pixels are too many")
        return width, height

    def image(self, index: int) -> Pixels:
        name = self.images[index]
        try:
            with Image.open(BytesIO(read(self.files, name)), formats=_FORMATS) as image:
                return np.asarray(image.convert("RGB"))
        except _UNDECODABLE as error:
            raise self._undecodable(name, error) from None

    def _undecodable(self, name: str, error: object) -> SweepError:
        # Pillow's own text names an object in memory.
        is_unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is no JPEG or PNG image" if is_unknown else error
        return SweepError(
            f"{self.files.where(name)} cannot be decoded: {reason}", "fetch the data set again"
        )
