"""Shares as options take them: `0.05` or `5%`, read as in a grid."""

from __future__ import annotations

import math
from collections.abc import Callable

from sweep.errors import SweepError

ANY = "any"


def of(option: str) -> Callable[[str | float], float]:
    """What reads the share after an option; SweepError names the option where it is none."""
    return lambda given: _read(option, given)


def or_any(option: str) -> Callable[[str | float], float]:
    """The same for a limit, where `any` is no limit."""
    return lambda given: (
        math.inf if given == ANY else _read(option, given, f", or {ANY} for no limit")
    )


def _read(option: str, given: str | float, more: str = "") -> float:
    from sweep import grid

    try:
        return grid.share(given)
    except SweepError as error:
        raise SweepError(f"{option}: {error.message}", error.hint + more) from None
