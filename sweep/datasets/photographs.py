"""Photographs: examples whose images are files, decoded to RGB with every fault named by its file."""

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
_FORMATS = (
    "JPEG",
    "PNG",
)  # what is published; other decoders only widen what a hostile file can reach
_UNDECODABLE = (
    OSError,
    SyntaxError,
    *CORRUPT,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True, eq=False)
class Photographs:
    """A Source of files: `images[i]` is the file of `examples[i]`; `annotation` the file that joints come from."""

    files: Files
    annotation: str
    images: Sequence[str]
    examples: Sequence[Example]
    locates_invisible: bool = False

    @property
    def where(self) -> str:
        return self.files.where(self.annotation)

    def identity(self) -> str:
        """Of the contents and names of the files used, wherever they lie."""
        kept = (
            image
            for image, example in zip(self.images, self.examples, strict=True)
            if not example.left_out
        )
        used = [self.annotation, *dict.fromkeys(kept)]
        names = json.dumps([PurePosixPath(name).name for name in used])
        return content_hash(self.files, used) + hashlib.sha256(names.encode()).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
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
        said = "it is no JPEG or PNG image" if isinstance(error, UnidentifiedImageError) else error
        return SweepError(
            f"{self.files.where(name)} cannot be decoded: {said}", "fetch the data set again"
        )
