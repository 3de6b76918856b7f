"""Cells and trials: what a grid expands to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Resources:
    """What a trial asks of its node: cores, GPUs (a fraction shares one), bytes, custom amounts, the node to itself."""

    cpu: int = 1
    gpu: float = 0.0
    memory: int | None = None
    exclusive: bool = True
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of every axis but the seed.

    `id` is 12 hex digits of settings and content; `name` is unique within the grid; `common` holds the parameters
    that are no axes, one mapping shared by many cells; `content` says what is measured beside the settings.
    """

    id: str
    name: str
    axes: Mapping[str, Any]
    common: Mapping[str, Any] = field(repr=False)
    content: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Every axis and parameter but the seed."""
        return {**self.common, **self.axes}


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed of one cell. Block, position and attempt are the plan's to give (`sweep.schedule`)."""

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
        """Every axis and parameter, seed included."""
        return {**self.cell.common, **self.cell.axes, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A cell, or a trial, that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Expansion:
    """All that a grid says. `notes` are what its author may not have meant, as a rule that nothing matches."""

    cells: Sequence[Cell]
    trials: Sequence[Trial]
    exclusions: Sequence[Exclusion]
    notes: Sequence[str] = ()
