"""Shares as values of options: `0.05` or `5%`, read as in a grid."""

from __future__ import annotations

import math
from collections.abc import Callable

from sweep.errors import SweepError

ANY = "any"


def of(option: str) -> Callable[[str | float], float]:
    """Return the parser of an option's share; its SweepError names the option."""
    return lambda given: _read(option, given)


def or_any(option: str) -> Callable[[str | float], float]:
    """Return the parser of an option's limit, of which `any` means no limit."""
    return lambda given: _limit(option, given)


def _limit(option: str, given: str | float) -> float:
    if given == ANY:
        return math.inf
    return _read(option, given, f", or {ANY} for no limit")


def _read(option: str, given: str | float, more: str = "") -> float:
    from sweep import grid

    try:
        return grid.share(given)
    except SweepError as error:
        raise SweepError(f"{option}: {error.message}", error.hint + more) from None
