"""Rules: what `exclude` leaves out, and how often."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from sweep.grid.conditions import Conditions


class Rule(Conditions):
    """Conditions, all of which must hold for a cell to be left out.

    `number` is its place among the rules of `exclude`, from 1; `matched` counts the cells that it has left out.
    """

    def __init__(self, condition: Mapping[str, Any], number: int) -> None:
        super().__init__(condition)
        self.number, self.matched = number, 0

    def leave_out(self) -> str:
        """The reason to give for one more cell that it leaves out."""
        self.matched += 1
        return self._reason

    @functools.cached_property
    def _reason(self) -> str:
        return f"excluded by rule {self.number}: {self}"
