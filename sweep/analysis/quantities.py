"""Quantities: numbers with units, formatted for people."""

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
    # Plain numbers: the name of the metric says what they are.
    "relative": ((1.0, ""),),
    "loss": ((1.0, ""),),
    "norm": ((1.0, ""),),
}
# Up to two hours a time is shown in seconds, as are minutes.
_FEWEST_HOURS = 2
# Above this ratio of the largest value to the unit, each number of a column has its own unit.
_WIDEST = 1e5
# Numbers outside of this range are written with an exponent.
_SMALLEST, _LARGEST = 1e-4, 1e7


class Scale(NamedTuple):
    """A unit: values are divided by `factor` and followed by `sign`."""

    factor: float
    sign: str

    def text(self, value: float, digits: int = 4) -> str:
        """Return the number without its sign."""
        return number(value / self.factor, digits)

    def with_sign(self, value: float, digits: int = 4) -> str:
        """Return the number with its sign; a dash where it is not finite."""
        if not math.isfinite(value):
            return NOTHING
        return f"{self.text(value, digits)} {self.sign}".rstrip()

    def squared(self, value: float, digits: int = 4) -> str:
        """Return a variance without its sign."""
        return number(value / self.factor**2, digits)

    def interval(self, interval: Interval | None, digits: int = 4) -> str:
        """Return `[low, high]`, both with as many decimals as the estimate."""
        if interval is None:
            return NOTHING
        ends = (interval.low / self.factor, interval.high / self.factor)
        return between(*ends, exact=decimals(interval.estimate / self.factor, digits))


class OwnScale(NamedTuple):
    """A scale for values too far apart for one unit: `4.000 ns` and `3.000 h`.

    It has the methods of `Scale`, and each text ends with a sign of its own.
    """

    unit: str
    factor: float = 1.0
    sign: str = ""

    def text(self, value: float, digits: int = 4) -> str:
        """Return the number with its sign."""
        return quantity(value, self.unit, digits)

    def with_sign(self, value: float, digits: int = 4) -> str:
        """Return the number with its sign."""
        return self.text(value, digits)

    def squared(self, value: float, digits: int = 4) -> str:
        """Return a variance with its squared sign."""
        if not math.isfinite(value):
            return NOTHING
        own = scale(self.unit, [math.sqrt(abs(value))])
        return f"{own.squared(value, digits)} {own.sign}²"

    def interval(self, interval: Interval | None, digits: int = 4) -> str:
        """Return `[low, high]` with its sign."""
        if interval is None:
            return NOTHING
        own = scale(self.unit, [interval.estimate])
        return f"{own.interval(interval, digits)} {own.sign}"


def scale(unit: str, values: Iterable[float]) -> Scale:
    """Return the largest scale in which every value has a digit before the decimal point."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    scales = scales_of(unit)
    fitting = (each for each in scales if sizes and min(sizes) >= least(each))
    return next(fitting, scales[-1] if sizes else _usual(scales))


def column_scale(unit: str, values: Iterable[float]) -> Scale | OwnScale:
    """Return the scale that the values of a column share, or `OwnScale` if they differ widely."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    shared = scale(unit, sizes)
    if not sizes or max(sizes) / shared.factor < _WIDEST:
        return shared
    # A unit for each number helps only where the largest value has a larger unit.
    return OwnScale(unit) if scale(unit, [max(sizes)]) != shared else shared


def scales_of(unit: str) -> list[Scale]:
    """Return the scales of a unit, the largest first."""
    return [Scale(*each) for each in _SCALES.get(unit, ((1.0, unit),))]


def least(each: Scale) -> float:
    """Return the smallest value that is written in a scale if a smaller scale exists."""
    return each.factor * (_FEWEST_HOURS if each.sign == "h" else 1)


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """Return a value with its unit, as in `12.34 ms`; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return scale(unit, [value]).with_sign(value, digits)


def number(value: float, digits: int = 4) -> str:
    """Return a number with this many significant digits, with an exponent if it is long."""
    if not math.isfinite(value):
        return NOTHING
    if _has_exponent(value):
        return f"{value:.{digits - 1}e}"
    return f"{value:.{decimals(value, digits)}f}"


def decimals(value: float, digits: int = 4) -> int:
    """Return the digits after the point that give this many significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def between(low: float, high: float, exact: int) -> str:
    """Return `[low, high]` with `exact` digits after the point.

    An end that would lose most of its digits keeps three significant ones.
    """
    return f"[{_end(low, exact)}, {_end(high, exact)}]"


def factor(value: float) -> str:
    """Return a factor, exact enough to tell it from 1: `2.31`, `1.012`, `0.998`, `0.0123`."""
    return number(value, 3) if _has_exponent(value) else f"{value:.{_decimals_of_factor(value)}f}"


def factors(interval: Interval) -> str:
    """Return a factor with its interval: `2.31× [2.27, 2.35]`."""
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
    """Return the scale of no values, which is the unit itself."""
    return next((each for each in scales if each.factor == 1.0), scales[0])
