"""Leeds Sports Pose and its extension in one data set, as the study trained on them.

The first 1,000 images of Leeds Sports Pose and all of the extension are for training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweep.datasets import lsp, lspet
from sweep.datasets.dataset import DataSet, Example, Pixels, Source
from sweep.errors import SweepError

_PARTS = {"lsp": lsp, "lspet": lspet}


@dataclass(frozen=True)
class Joined:
    """Several sources as one, in order."""

    parts: tuple[Source, ...]

    @cached_property
    def examples(self) -> Sequence[Example]:
        return [example for part in self.parts for example in part.examples]

    @property
    def where(self) -> str:
        return " and ".join(part.where for part in self.parts)

    @property
    def locates_invisible(self) -> bool:
        return all(part.locates_invisible for part in self.parts)

    def identity(self) -> str:
        return json.dumps([part.identity() for part in self.parts])

    def size(self, index: int) -> tuple[int, int]:
        part, inside = self._part(index)
        return part.size(inside)

    def image(self, index: int) -> Pixels:
        part, inside = self._part(index)
        return part.image(inside)

    def _part(self, index: int) -> tuple[Source, int]:
        for part in self.parts:
            if index < len(part.examples):
                return part, index
            index -= len(part.examples)
        raise IndexError(index)


def read(path: Path) -> Joined:
    """Return the examples of `lsp` and `lspet`; `path` is a folder that holds both."""
    return Joined(tuple(module.read(_locate(path, name)) for name, module in _PARTS.items()))


def _locate(path: Path, name: str) -> Path:
    """Return the archive or folder of one part: `lspet_dataset.zip`, `lspet_dataset` or `lspet`."""
    candidates = [path / f"{name}_dataset.zip", path / f"{name}_dataset", path / name]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise SweepError(
        f"{path} holds no {candidates[0].name}",
        "give a folder with lsp_dataset.zip and lspet_dataset.zip, as sweep data fetch lsp and"
        f" lspet leave them, or with folders lsp and lspet; {name} is missing",
    )


DATASET = DataSet(
    name="lsp_lspet",
    summary="Leeds Sports Pose and its extension together, 12,000 images",
    read=read,
    homepage=lspet.DATASET.homepage,
)
