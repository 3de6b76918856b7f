"""Rules: whether a cell's axes have the values that `exclude` or `when` asks for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.grid.quantities import Scalar
from sweep.selection import is_value, shown

VERSION = "version"  # of the framework: no axis, yet rules may name it

_ABSENT = object()


class Rule:
    """A condition on several axes, all of which must hold; answers are remembered value by value.

    `number` is its place among the rules of `exclude`, from 1; `matched` counts the cells that it has left out.
    """

    def __init__(self, condition: Mapping[str, Sequence[Scalar]], number: int = 0) -> None:
        self.condition, self.number = condition, number
        self._answers: dict[str, dict[Any, bool]] = {axis: {} for axis in condition}
        self.matched = 0

    def __str__(self) -> str:
        return ", ".join(f"{axis}: {_written(values)}" for axis, values in self.condition.items())

    def holds(self, axes: Mapping[str, Any]) -> bool:
        """An axis that the cell does not have meets no condition."""
        for axis, answers in self._answers.items():
            value = axes.get("framework" if axis == VERSION else axis, _ABSENT)
            answer = answers.get(value)
            if answer is None:
                answer = answers[value] = value is not _ABSENT and self._meets(axis, value)
            if not answer:
                return False
        return True

    def leave_out(self) -> str:
        """The reason to give for one more cell that it leaves out."""
        self.matched += 1
        return self._reason

    @functools.cached_property
    def _reason(self) -> str:
        return f"excluded by rule {self.number}: {self}"

    def _meets(self, axis: str, value: Any) -> bool:
        wanted = self.condition[axis]
        if isinstance(wanted, range):
            return value in wanted
        said = str(value).partition("==")[2] if axis == VERSION else value
        return any(is_value(said, each) for each in wanted)


def _written(values: Sequence[Scalar]) -> str:
    if isinstance(values, range) and len(values) > 1:
        return f"{values[0]} … {values[-1]}"
    listed = ", ".join(shown(value) for value in values)
    return listed if len(values) == 1 else f"[{listed}]"
