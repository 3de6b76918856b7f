"""Infeasible trials: trials that no node can hold, and the error that reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.errors import SweepError


@dataclass(frozen=True)
class InfeasibleTrial:
    """A trial that no node can hold. The reason reads as in `3 of 12 trials <reason>`."""

    trial: Any
    reason: str


def infeasible_error(infeasible: list[InfeasibleTrial], total: int) -> SweepError:
    """Return the error for infeasible trials out of `total`, with a hint for the first reason."""
    first = infeasible[0]
    count = sum(1 for other in infeasible if other.reason == first.reason)
    message = f"{count} of {total} trials {first.reason}, first {first.trial.name}"
    return SweepError(message, _hint(first.reason))


def _hint(reason: str) -> str:
    if "GPU" in reason:
        return "start a node with a GPU, or leave them out with --only '*/cpu/*'"
    # A trial takes as many cores as threads where the grid does not set resources.cpu.
    if " core" in reason:
        return (
            "lower `threads` or `resources.cpu`, start a larger node, or leave them out with --only"
        )
    return "lower `resources` in the grid, start a larger node, or leave them out with --only"
