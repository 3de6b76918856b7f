"""Rules of `exclude`: what they leave out, and how often."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from sweep.grid.conditions import Conditions


class Rule(Conditions):
    """Conditions, all of which must hold for a cell to be left out.

    `number` is its position among the rules of `exclude`, from 1. `matched` counts the cells that
    it has left out.
    """

    def __init__(self, condition: Mapping[str, Any], number: int) -> None:
        super().__init__(condition)
        self.number, self.matched = number, 0

    def leave_out(self) -> str:
        """Count one more cell and return the reason for its exclusion."""
        self.matched += 1
        return self._reason

    @functools.cached_property
    def _reason(self) -> str:
        return f"excluded by rule {self.number}: {self}"
