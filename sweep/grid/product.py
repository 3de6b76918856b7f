"""The product of axes: every combination, counted before any is made.

An axis that a combination does not have, since its condition does not hold or the workload does not know the parameter,
multiplies nothing: axes are laid out one after the other, each after those that decide whether it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.axes import CELL_AXES
from sweep.grid.conditions import Conditions
from sweep.grid.quantities import Scalar
from sweep.grid.space import Space
from sweep.selection import VERSION

Axes = dict[str, Any]


@dataclass(frozen=True)
class _Factor:
    """One axis, or several that move together, and the conditions for their existence."""

    columns: Mapping[str, Sequence[Scalar]]
    conditions: Conditions | None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def options(self, names: Collection[str]) -> Iterator[Axes]:
        for row in zip(*(self.columns[name] for name in names), strict=True):
            yield dict(zip(names, row, strict=True))


class Product:
    """Iterating gives each combination as a new dict of the axes that it has.

    Axes that are `named` exist whatever `when` says: an include means what it says.
    """

    def __init__(
        self, space: Space, axes: Mapping[str, Sequence[Scalar]], named: Collection[str] = ()
    ) -> None:
        self._parameters = space.parameters
        factors = [
            _factor(space, axes, name, named) for name in axes if name == _group(space, name)[0]
        ]
        self._deciding = {"workload", *(name for factor in factors for name in _asked(factor))}
        self._factors = _after_what_decides(factors)

    def size(self, most: int) -> int:
        """How many combinations there are; where more than `most`, perhaps fewer than all but more than `most`."""
        return self._count(0, {}, most)

    def __iter__(self) -> Iterator[Axes]:
        return self._laid_out(0, {})

    def _laid_out(self, place: int, chosen: Axes) -> Iterator[Axes]:
        if place == len(self._factors):
            yield chosen
            return
        names = self._existing(place, chosen)
        if not names:
            yield from self._laid_out(place + 1, chosen)
            return
        for option in self._factors[place].options(names):
            yield from self._laid_out(place + 1, chosen | option)

    def _count(self, place: int, chosen: Axes, most: int) -> int:
        if place == len(self._factors):
            return 1
        names = self._existing(place, chosen)
        deciding = [name for name in names if name in self._deciding]
        if not deciding:
            return (len(self._factors[place]) if names else 1) * self._count(
                place + 1, chosen, most
            )
        total = 0
        for option in self._factors[place].options(deciding):
            total += self._count(place + 1, chosen | option, most)
            if total > most:
                break
        return total

    def _existing(self, place: int, chosen: Axes) -> list[str]:
        """The axes of a factor that a combination has."""
        factor = self._factors[place]
        if factor.conditions and not factor.conditions.holds(chosen):
            return []
        if "workload" not in chosen:  # it comes first, whatever it moves with
            return list(factor.columns)
        known = self._parameters[chosen["workload"]]
        return [name for name in factor.columns if name in CELL_AXES or name in known]


def _factor(
    space: Space, axes: Mapping[str, Sequence[Scalar]], name: str, named: Collection[str]
) -> _Factor:
    group = _group(space, name)
    condition = space.conditions.get(name) if not any(member in named for member in group) else None
    return _Factor(
        {member: axes[member] for member in group}, Conditions(condition) if condition else None
    )


def _group(space: Space, name: str) -> Sequence[str]:
    return next((group for group in space.zips if name in group), [name])


def _asked(factor: _Factor) -> list[str]:
    """The axes whose values its conditions look at."""
    wanted = factor.conditions.wanted if factor.conditions else ()
    return ["framework" if axis == VERSION else axis for axis in wanted]


def _after_what_decides(factors: Sequence[_Factor]) -> list[_Factor]:
    """The workload's first, then in the order given, but each after those that its conditions ask for."""
    holder = {name: factor for factor in factors for name in factor.columns}
    ordered: list[_Factor] = []

    def place(factor: _Factor) -> None:
        for name in _asked(factor):
            if name in holder and holder[name] is not factor:
                place(holder[name])
        if all(factor is not other for other in ordered):
            ordered.append(factor)

    for factor in [holder["workload"], *factors]:
        place(factor)
    return ordered
