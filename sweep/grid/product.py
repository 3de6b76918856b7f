"""The product of axes: every combination, counted before any is made.

A combination lacks an axis if the axis's condition does not hold, or if its workload does not have
the parameter. Such an axis multiplies nothing. Therefore each axis is placed after those that
decide whether it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.grid.conditions import Conditions
from sweep.grid.quantities import Scalar
from sweep.grid.space import Space
from sweep.selection import VERSION

Axes = dict[str, Any]


@dataclass(frozen=True)
class _Factor:
    """One axis, or several that are zipped, and the conditions under which they exist."""

    columns: Mapping[str, Sequence[Scalar]]
    conditions: Conditions | None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def options(self, names: Collection[str]) -> Iterator[Axes]:
        for row in zip(*(self.columns[name] for name in names), strict=True):
            yield dict(zip(names, row, strict=True))


class Product:
    """The combinations of a grid's axes. Iteration yields each as a new dict of the axes it has.

    Axes that are `named` exist whatever `when` says: an include overrides conditions.
    """

    def __init__(
        self, space: Space, axes: Mapping[str, Sequence[Scalar]], named: Collection[str] = ()
    ) -> None:
        self._space = space
        firsts = [name for name in axes if name == _group(space, name)[0]]
        factors = [_factor(space, axes, name, named) for name in firsts]
        self._deciding = {"workload"}
        for factor in factors:
            self._deciding.update(_axes_of_conditions(factor))
        self._factors = _ordered_by_dependence(factors)

    def size(self, most: int) -> int:
        """Return the number of combinations.

        Counting stops above `most`: the result is then a lower bound above `most`.
        """
        return self._count(0, {}, most)

    def __iter__(self) -> Iterator[Axes]:
        return self._combinations(0, {})

    def _combinations(self, index: int, chosen: Axes) -> Iterator[Axes]:
        """Yield the combinations of the factors from `index` on, given what is chosen before."""
        if index == len(self._factors):
            yield chosen
            return
        names = self._existing(index, chosen)
        if not names:
            yield from self._combinations(index + 1, chosen)
            return
        for option in self._factors[index].options(names):
            yield from self._combinations(index + 1, chosen | option)

    def _count(self, index: int, chosen: Axes, most: int) -> int:
        """Count as `_combinations` yields, but vary only the axes that decide about others."""
        if index == len(self._factors):
            return 1
        factor, names = self._factors[index], self._existing(index, chosen)
        deciding = [name for name in names if name in self._deciding]
        if not deciding:
            own = len(factor) if names else 1
            return own * self._count(index + 1, chosen, most)
        total = 0
        # Only these values change which axes exist further on; the others multiply all counts
        # alike.
        for option in factor.options(deciding):
            total += self._count(index + 1, chosen | option, most)
            # The caller refuses the grid anyway: counting on could take minutes.
            if total > most:
                break
        return total

    def _existing(self, index: int, chosen: Axes) -> list[str]:
        """Return the axes of a factor that the combination has."""
        factor = self._factors[index]
        if factor.conditions and not factor.conditions.holds(chosen):
            return []
        # The factor of the workload comes first; axes zipped with it always exist.
        if "workload" not in chosen:
            return list(factor.columns)
        return [name for name in factor.columns if self._space.has(chosen["workload"], name)]


def _factor(
    space: Space, axes: Mapping[str, Sequence[Scalar]], name: str, named: Collection[str]
) -> _Factor:
    group = _group(space, name)
    is_named = any(member in named for member in group)
    condition = None if is_named else space.conditions.get(name)
    columns = {member: axes[member] for member in group}
    return _Factor(columns, Conditions(condition) if condition else None)


def _group(space: Space, name: str) -> Sequence[str]:
    """Return the axes zipped with `name`, itself included."""
    return next((group for group in space.zips if name in group), [name])


def _axes_of_conditions(factor: _Factor) -> list[str]:
    """Return the axes whose values decide whether the factor exists."""
    wanted = factor.conditions.wanted if factor.conditions else ()
    return ["framework" if axis == VERSION else axis for axis in wanted]


def _ordered_by_dependence(factors: Sequence[_Factor]) -> list[_Factor]:
    """Return the factors in the given order, but each after those that its conditions depend on.

    The workload's factor is the first: it decides which parameters exist.
    """
    factor_of = {name: factor for factor in factors for name in factor.columns}
    ordered: list[_Factor] = []

    def append(factor: _Factor) -> None:
        for name in _axes_of_conditions(factor):
            if name in factor_of and factor_of[name] is not factor:
                append(factor_of[name])
        if all(factor is not other for other in ordered):
            ordered.append(factor)

    for factor in [factor_of["workload"], *factors]:
        append(factor)
    return ordered
