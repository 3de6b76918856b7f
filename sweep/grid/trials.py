"""Cells and trials: what a grid expands to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Resources:
    """What a trial requires of its node.

    `gpu` may be a fraction, which shares a GPU; `memory` is in bytes; `exclusive` keeps all other
    trials off the node.
    """

    cpu: int = 1
    gpu: float = 0.0
    memory: int | None = None
    exclusive: bool = True
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the values of every axis except the seed.

    `id` is 12 hex digits of settings and content. `name` is unique within the grid. `common` holds
    the parameters that are no axes; many cells share one mapping. `content` says what is measured
    besides the settings.
    """

    id: str
    name: str
    axes: Mapping[str, Any]
    common: Mapping[str, Any] = field(repr=False)
    content: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Every axis and parameter except the seed."""
        return {**self.common, **self.axes}


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed of one cell. `sweep.schedule` sets block, position and attempt."""

    id: str
    cell: Cell
    seed: int
    resources: Resources
    block: int = 0
    position: int = 0
    attempt: int = 1

    @property
    def name(self) -> str:
        return f"{self.cell.name}/s{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """Every axis and parameter, with the seed."""
        return {**self.cell.common, **self.cell.axes, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A cell or trial that is left out, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Expansion:
    """All that a grid expands to.

    `notes` point at what its author may not have meant, such as a rule that matches nothing.
    """

    cells: Sequence[Cell]
    trials: Sequence[Trial]
    exclusions: Sequence[Exclusion]
    notes: Sequence[str] = ()
