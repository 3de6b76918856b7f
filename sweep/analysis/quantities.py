"""Quantities: numbers with units, as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sweep.analysis.statistics import Interval

NOTHING = "–"

_SCALES = {
    "s": ((3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "share": ((0.01, "%"),),
    **dict.fromkeys(
        ("relative", "loss", "norm"), ((1.0, ""),)
    ),  # which no sign says better than the name
}
_FEWEST_HOURS = 2  # one hour and a half reads better in seconds, as what takes minutes does
_WIDEST = 1e5  # the largest number of a column by the factor of its unit, before each number has a unit of its own
_SMALLEST, _LARGEST = 1e-4, 1e7  # what is written out; smaller and larger numbers have an exponent


class Scale(NamedTuple):
    """What to divide by, and the unit's sign then."""

    factor: float
    sign: str

    def text(self, value: float, digits: int = 4) -> str:
        """The number alone."""
        return number(value / self.factor, digits)

    def with_sign(self, value: float, digits: int = 4) -> str:
        return (
            f"{self.text(value, digits)} {self.sign}".rstrip() if math.isfinite(value) else NOTHING
        )

    def squared(self, value: float, digits: int = 4) -> str:
        return number(value / self.factor**2, digits)

    def interval(self, interval: Interval | None, digits: int = 4) -> str:
        """`[low, high]`, both as exact as the estimate."""
        if interval is None:
            return NOTHING
        ends = (interval.low / self.factor, interval.high / self.factor)
        return between(*ends, exact=decimals(interval.estimate / self.factor, digits))


class OwnScale(NamedTuple):
    """For values too far apart for one unit: each is written with a unit of its own, `4.000 ns` above `3.000 h`."""

    unit: str
    factor: float = 1.0
    sign: str = ""

    def text(self, value: float, digits: int = 4) -> str:
        return quantity(value, self.unit, digits)

    def with_sign(self, value: float, digits: int = 4) -> str:
        return self.text(value, digits)

    def squared(self, value: float, digits: int = 4) -> str:
        if not math.isfinite(value):
            return NOTHING
        own = scale(self.unit, [math.sqrt(abs(value))])
        return f"{own.squared(value, digits)} {own.sign}²"

    def interval(self, interval: Interval | None, digits: int = 4) -> str:
        if interval is None:
            return NOTHING
        own = scale(self.unit, [interval.estimate])
        return f"{own.interval(interval, digits)} {own.sign}"


def scale(unit: str, values: Iterable[float]) -> Scale:
    """The scale in which the smallest of the values still has a digit before the point, and all share one unit."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    scales = scales_of(unit)
    fitting = (each for each in scales if sizes and min(sizes) >= least(each))
    return next(fitting, scales[-1] if sizes else _usual(scales))


def column_scale(unit: str, values: Iterable[float]) -> Scale | OwnScale:
    """The scale that the values of a column share; where they lie far apart, one with a unit for each."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    shared = scale(unit, sizes)
    apart = (
        bool(sizes)
        and max(sizes) / shared.factor >= _WIDEST
        and scale(unit, [max(sizes)]) != shared
    )
    return OwnScale(unit) if apart else shared


def scales_of(unit: str) -> list[Scale]:
    """The scales of a unit, the largest first."""
    return [Scale(*each) for each in _SCALES.get(unit, ((1.0, unit),))]


def least(each: Scale) -> float:
    """The smallest value that is written in a scale, where a smaller one is at hand."""
    return each.factor * (_FEWEST_HOURS if each.sign == "h" else 1)


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """`12.34 ms`; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return scale(unit, [value]).with_sign(value, digits)


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, written out unless that would take many zeros."""
    if not math.isfinite(value):
        return NOTHING
    if _has_exponent(value):
        return f"{value:.{digits - 1}e}"
    return f"{value:.{decimals(value, digits)}f}"


def decimals(value: float, digits: int = 4) -> int:
    """Digits after the point that give so many significant ones."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def between(low: float, high: float, exact: int) -> str:
    """`[low, high]` with so many digits after the point; an end of which they would leave little keeps three digits."""
    return f"[{_end(low, exact)}, {_end(high, exact)}]"


def factor(value: float) -> str:
    """A factor, exact enough to be told from 1: `2.31`, `1.012`, `0.998`, `0.0123`."""
    return number(value, 3) if _has_exponent(value) else f"{value:.{_decimals_of_factor(value)}f}"


def factors(interval: Interval) -> str:
    """A factor with its interval: `2.31× [2.27, 2.35]`."""
    ends = between(interval.low, interval.high, _decimals_of_factor(interval.estimate))
    return f"{factor(interval.estimate)}× {ends}"


def _decimals_of_factor(value: float) -> int:
    if value >= 100:
        return 1
    if value >= 1.1:
        return 2
    return 3 if value >= 0.9 else decimals(value, 3)


def _end(value: float, exact: int) -> str:
    is_lost = bool(value) and round(abs(value), exact) < 10 ** (1 - exact)
    return number(value, 3) if is_lost or _has_exponent(value) else f"{value:.{exact}f}"


def _has_exponent(value: float) -> bool:
    return bool(value) and math.isfinite(value) and not _SMALLEST <= abs(value) < _LARGEST


def _usual(scales: Sequence[Scale]) -> Scale:
    """The scale of no values: that of the unit itself."""
    return next((each for each in scales if each.factor == 1.0), scales[0])
