"""Discs: a data set that is computed, one bright disc per joint on a grey ground."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from sweep.datasets.dataset import DataSet, Example, Pixels

SIDE, RADIUS = 256, 6


@dataclass(frozen=True, eq=False)
class Discs:
    """Joints anywhere in the middle of the image, all of them visible."""

    number: int
    seed: int
    where: str = "discs"
    locates_invisible: bool = True

    @property
    def examples(self) -> list[Example]:
        random = np.random.RandomState(self.seed)
        joints = random.uniform(40, SIDE - 40, (self.number, 14, 2))
        return [Example(f"disc{i:04d}", joints[i], np.ones(14, bool)) for i in range(self.number)]

    def identity(self) -> str:
        return hashlib.sha256(f"discs {self.number} {self.seed}".encode()).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        return SIDE, SIDE

    def image(self, index: int) -> Pixels:
        rows, columns = np.mgrid[:SIDE, :SIDE]
        image = np.full((SIDE, SIDE, 3), 60, np.uint8)
        for number, (x, y) in enumerate(self.examples[index].joints):
            image[(columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2] = 100 + 10 * number
        return image


def read(examples: int, seed: int) -> Discs:
    """The data set's examples; the arguments are its options."""
    return Discs(examples, seed)


DATASET = DataSet(
    "discs", "bright discs on grey", read, options={"examples": 64, "seed": 0}, generated=True
)
