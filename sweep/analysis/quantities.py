"""Quantities: numbers with units, as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from sweep.analysis.statistics import Interval

NOTHING = "–"

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "share": ((0.01, "%"),),
    **dict.fromkeys(("relative", "loss", "norm"), ((1.0, ""),)),  # which no sign says better than the name
}


class Scale(NamedTuple):
    """What to divide by, and the unit's sign then."""

    factor: float
    sign: str

    def text(self, value: float, digits: int = 4) -> str:
        """The number alone."""
        return number(value / self.factor, digits)

    def with_sign(self, value: float, digits: int = 4) -> str:
        return f"{self.text(value, digits)} {self.sign}".rstrip() if math.isfinite(value) else NOTHING

    def squared(self, value: float, digits: int = 4) -> str:
        return number(value / self.factor**2, digits)

    def interval(self, interval: Interval | None, digits: int = 4) -> str:
        """`[low, high]`, both as exact as the estimate."""
        if interval is None:
            return NOTHING
        exact = decimals(interval.estimate / self.factor, digits)
        return f"[{interval.low / self.factor:.{exact}f}, {interval.high / self.factor:.{exact}f}]"


def scale(unit: str, values: Iterable[float]) -> Scale:
    """The scale in which the smallest of the values still has a digit before the point, and all share one unit."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    scales = [Scale(*each) for each in _SCALES.get(unit, ((1.0, unit),))]
    fitting = (each for each in scales if sizes and min(sizes) >= each.factor)
    return next(fitting, scales[-1] if sizes else scales[0])


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """`12.34 ms`; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return scale(unit, [value]).with_sign(value, digits)


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, written out unless that would take many zeros."""
    if not math.isfinite(value):
        return NOTHING
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{decimals(value, digits)}f}"


def decimals(value: float, digits: int = 4) -> int:
    """Digits after the point that give so many significant ones."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def factor(value: float) -> str:
    """A factor of at least 1, exact enough to be told from 1: `2.31`, `1.012`."""
    return f"{value:.{1 if value >= 100 else 2 if value >= 1.1 else 3}f}"
