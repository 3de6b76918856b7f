"""Wording: cells and comparisons said in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sweep.analysis.comparisons import Comparison
from sweep.analysis.matching import axes_of
from sweep.analysis.quantities import factor, factors
from sweep.analysis.statistics import FEWEST_PROCESSES, Interval
from sweep.axes import AXES, circumstance, said
from sweep.records.columns import unit
from sweep.selection import Axes, shown, varying

_ALWAYS_SAID = [axis.name for axis in reversed(list(AXES.values())) if axis.always_said]  # device last


def sentence(comparison: Comparison, varied: Iterable[str] = ()) -> str:
    """What a comparison says: `torch 2.13.0 is 2.31× [2.27, 2.35] faster than chainer 7.8.1 at batch 32 on the CPU`.

    `varied` are the axes that tell this comparison from others beside it.
    """
    subject, baseline = (name(comparison.over, v) for v in (comparison.subject_value, comparison.baseline_value))
    where, counted, interval = circumstances(comparison.axes, varied), _counted(comparison), comparison.interval
    verdict, say = comparison.verdict, _words(comparison.metric)
    if verdict == "missing":
        return f"{subject} cannot be compared with {baseline}{where}: {comparison.reason}"
    if verdict == "faster" and interval:
        return f"{subject} {say.less.format(times(inverse(interval)))} than {baseline}{where} {counted}"
    if verdict == "slower" and interval:
        return f"{subject} {say.more.format(times(interval))} than {baseline}{where} {counted}"
    if verdict == "equivalent":
        within = f"to within {percent(comparison.margin)}"
        return f"{subject} {say.same} as {baseline} {within}{where}: {seen(comparison)} {counted}"
    return f"{subject} against {baseline}{where} is inconclusive: {seen(comparison)} {counted}; {_why_open(comparison)}"


def seen(comparison: Comparison) -> str:
    """The ratio, with its interval where there is one: `0.998× [0.991, 1.005] the time`."""
    if comparison.ratio is None:
        return comparison.reason
    what = _words(comparison.metric).what
    if comparison.interval:
        return f"{times(comparison.interval)} {what}"
    return f"{factor(comparison.ratio.estimate)}× {what}, no interval"


def times(interval: Interval) -> str:
    """`2.31× [2.27, 2.35]`."""
    return factors(interval)


def inverse(interval: Interval) -> Interval:
    """The interval of one over the ratio."""
    return Interval(1 / interval.estimate, 1 / interval.high, 1 / interval.low)


def remedy(comparison: Comparison) -> str:
    """What an inconclusive comparison takes to be decided."""
    ratio = comparison.ratio
    if ratio is None or ratio.pairs < FEWEST_PROCESSES:
        have = ratio.pairs if ratio else 0
        return f"use --add-seeds {FEWEST_PROCESSES - have} or more"
    needed = comparison.seeds_needed
    if needed is None:
        return f"it is too close to the margin of {percent(comparison.margin)} for any sensible number of seeds"
    return f"about {needed} more {'seed' if needed == 1 else 'seeds'} would tell: --add-seeds {needed}"


def correction(alone: str, decided: str, family: int) -> str:
    """What is said where the correction for the family decides: empty where the interval alone says the same."""
    if alone == decided:
        return ""
    return f"the interval alone would say {alone}, but among {family} comparisons it is not sure enough"


def _why_open(comparison: Comparison) -> str:
    why = correction(comparison.uncorrected_verdict, comparison.verdict, comparison.family)
    return "; ".join(filter(None, [why, remedy(comparison)]))


def percent(share: float) -> str:
    """`1 %`, `2.5 %`."""
    return f"{100 * share:.3g} %"


def name(axis: str, value: Any) -> str:
    """A value of an axis, or of several, as the subject of a sentence."""
    if isinstance(value, tuple):
        parts = zip(axes_of(axis), value, strict=True)
        return " with ".join(name(each, part) for each, part in parts)
    return shown(value) if axis == "run" else said(axis, value)


def circumstances(axes: Axes, varied: Iterable[str] = ()) -> str:
    """Where a comparison holds: ` for torch 2.13.0 with autograd at batch 32 on the CPU`; usual things unsaid."""
    named = [axis for axis in axes if axis in set(varied) and axis not in _ALWAYS_SAID]
    named += [axis for axis in _ALWAYS_SAID if axes.get(axis) is not None]
    return "".join(f" {circumstance(axis, axes[axis])}" for axis in named)


def varied_axes(comparisons: Sequence[Comparison]) -> list[str]:
    return varying([comparison.axes for comparison in comparisons])


class _Words(NamedTuple):
    """How a ratio is said of what is measured: times are faster, amounts are less."""

    less: str
    more: str
    same: str
    what: str


_OF_UNIT = {
    "s": _Words("is {} faster", "is {} slower", "takes the same time", "the time"),
    "B": _Words("needs {} less memory", "needs {} more memory", "needs the same memory", "the memory"),
}


def _words(metric: str) -> _Words:
    other = _Words(f"has {{}} less {metric}", f"has {{}} more {metric}", f"has the same {metric}", f"the {metric}")
    return _OF_UNIT.get(unit(metric), other)


def _counted(comparison: Comparison) -> str:
    one, other = comparison.processes
    if one == other:
        return "(1 process each)" if one == 1 else f"({one} processes each)"
    return f"({one} and {other} processes)"
