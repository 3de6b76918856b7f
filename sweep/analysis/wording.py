"""Wording: cells and comparisons said in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sweep.analysis import result_checks
from sweep.analysis.comparisons import Comparison
from sweep.analysis.matching import axes_of
from sweep.analysis.quantities import factor, factors
from sweep.analysis.statistics import FEWEST_PROCESSES, Interval
from sweep.analysis.summary import Summary, is_per_trial, more_units
from sweep.axes import AXES, circumstance, said
from sweep.records.columns import ColumnMetadata
from sweep.records.stated import NEVER
from sweep.selection import VERSION, Axes, shown, varying
from sweep.status import failed_of_their_own
from sweep.texts import counted

_ALWAYS_SAID = [
    axis.name for axis in reversed(list(AXES.values())) if axis.always_said
]  # device last


def sentence(comparison: Comparison, varied: Iterable[str] = ()) -> str:
    """What a comparison says: `torch 2.13.0 is 2.31× [2.27, 2.35] faster than chainer 7.8.1 at batch 32 on the CPU`.

    `varied` are the axes that tell this comparison from others beside it. Whether both computed the same comes first,
    where that is known not to be so or not known.
    """
    verdict = _verdict_sentence(comparison, varied)
    results = result_checks.check(comparison.subject, comparison.baseline)
    return f"{results.text}: {verdict}" if results and results.text else verdict


def _verdict_sentence(comparison: Comparison, varied: Iterable[str]) -> str:
    subject, baseline = (
        value_phrase(comparison.over, v)
        for v in (comparison.subject_value, comparison.baseline_value)
    )
    where, counted = circumstances(comparison.axes, varied), _counted(comparison)
    verdict, say = comparison.verdict, _phrases(comparison)
    better = comparison.speedup.interval() if comparison.speedup else None
    if verdict == "missing":
        return f"{subject} cannot be compared with {baseline}{where}: {comparison.reason}"
    if verdict == "faster" and better:
        return f"{subject} {say.better.format(factors(better))} than {baseline}{where} {counted}"
    if verdict == "slower" and better:
        return f"{subject} {say.worse.format(factors(inverse(better)))} than {baseline}{where} {counted}"
    if verdict == "equivalent":
        within = f"to within {percent(comparison.margin)}"
        return f"{subject} {say.same} as {baseline} {within}{where}: {ratio_text(comparison)} {counted}"
    ratio, why = ratio_text(comparison), _why_open(comparison)
    return f"{subject} against {baseline}{where} is inconclusive: {ratio} {counted}; {why}"


def basis(comparison: Comparison) -> str:
    """What a verdict rests on, and what an open one takes: `3 processes each; about 2 more seeds would tell: …`."""
    if comparison.verdict == "missing":
        return comparison.reason
    counted_trials = _counted(comparison).strip("()")
    if comparison.verdict == "inconclusive":
        return f"{counted_trials}; {_why_open(comparison)}"
    return counted_trials


def ratio_text(comparison: Comparison) -> str:
    """The ratio, with its interval where there is one: `0.998× [0.991, 1.005] the time`."""
    if comparison.ratio is None:
        return comparison.reason
    what = _phrases(comparison).what
    if comparison.interval:
        return f"{factors(comparison.interval)} {what}"
    return f"{factor(comparison.ratio.estimate)}× {what}, no interval"


def inverse(interval: Interval) -> Interval:
    """The interval of one over the ratio."""
    return Interval(1 / interval.estimate, 1 / interval.high, 1 / interval.low)


def fix(comparison: Comparison) -> str:
    """What an inconclusive comparison takes to be decided."""
    ratio = comparison.ratio
    if ratio is None or ratio.pairs < FEWEST_PROCESSES:
        return more_units(comparison.metadata.per, FEWEST_PROCESSES - (ratio.pairs if ratio else 0))
    if comparison.withheld:
        return unfinished_trials(comparison)
    needed = comparison.units_needed
    if needed is None and ratio.is_open:
        return unfinished_trials(comparison)
    if needed and not is_per_trial(comparison.metadata.per):
        return more_units(comparison.metadata.per, needed)
    if needed is None:
        return f"it is too close to the margin of {percent(comparison.margin)} for any sensible number of seeds"
    return f"about {counted(needed, 'more seed')} would tell: --add-seeds {needed}"


def correction(alone: str, decided: str, family: int) -> str:
    """What is said where the correction for the family decides: empty where the interval alone says the same."""
    if alone == decided:
        return ""
    return f"the interval alone would say {alone}, but among {family} comparisons it is not sure enough"


def _why_open(comparison: Comparison) -> str:
    why = correction(comparison.uncorrected_verdict, comparison.verdict, comparison.family)
    return "; ".join(filter(None, [why, fix(comparison)]))


def unfinished_trials(comparison: Comparison) -> str:
    """What keeps a side from being called better, or the two equal: trials that did not come to an end."""
    sides = [
        (comparison.subject_value, comparison.subject),
        (comparison.baseline_value, comparison.baseline),
    ]
    reached = comparison.metadata.absent == NEVER
    told = [
        f"{side.processes} of {side.trials} trials of {value_phrase(comparison.over, value)} "
        + ("reached it" if reached else f"went well ({_causes(side)})")
        for value, side in sides
        if side and side.never
    ]
    rest = (
        "the others count as never"
        if reached
        else "the others count as worse; see sweep status for why"
    )
    return f"{' and '.join(told)}, {rest}"


def _causes(summary: Summary) -> str:
    failed = sorted(failed_of_their_own(summary.statuses).items())
    return ", ".join(f"{n} {status}" for status, n in failed)


def percent(share: float) -> str:
    """`1 %`, `2.5 %`."""
    return f"{100 * share:.3g} %"


def value_phrase(axis: str, value: Any) -> str:
    """A value of an axis, or of several, as the subject of a sentence."""
    if isinstance(value, tuple):
        parts = zip(axes_of(axis), value, strict=True)
        return " with ".join(value_phrase(each, part) for each, part in parts)
    return shown(value) if axis == "run" else said(axis, value)


def circumstances(axes: Axes, varied: Iterable[str] = ()) -> str:
    """Where a comparison holds: ` for torch 2.13.0 with autograd at batch 32 on the CPU`; usual things unsaid."""
    named = [axis for axis in axes if axis in set(varied) and axis not in _ALWAYS_SAID]
    named += [axis for axis in _ALWAYS_SAID if axes.get(axis) is not None]
    return "".join(f" {circumstance(axis, axes[axis])}" for axis in named)


def varied_axes(comparisons: Sequence[Comparison]) -> list[str]:
    """The axes that tell comparisons apart; of versions also whose they are."""
    varied = varying([comparison.axes for comparison in comparisons])
    of_versions = any(VERSION in axes_of(comparison.over) for comparison in comparisons)
    return ["framework", *varied] if of_versions and "framework" not in varied else varied


class Phrases(NamedTuple):
    """How a ratio is said of what is measured: times are faster, amounts are less, rates are more."""

    better: str
    worse: str
    same: str
    what: str


_OF_UNIT = {
    "s": Phrases("is {} faster", "is {} slower", "takes the same time", "the time"),
    "B": Phrases(
        "needs {} less memory", "needs {} more memory", "needs the same memory", "the memory"
    ),
}


def phrases(metric: str, about: ColumnMetadata) -> Phrases:
    """How ratios of this metric are said."""
    rate = about.unit.endswith("/s")
    what, verb = (
        (f"{about.unit.removesuffix('/s')} per second", "does") if rate else (metric, "has")
    )
    less, more = f"{verb} {{}} less {what}", f"{verb} {{}} more {what}"
    more_is_better = about.direction == "more"
    better, worse = (more, less) if more_is_better else (less, more)
    other = Phrases(better, worse, f"{verb} the same {what}", f"the {what}")
    return other if more_is_better else _OF_UNIT.get(about.unit, other)


def _phrases(comparison: Comparison) -> Phrases:
    return phrases(comparison.metric, comparison.metadata)


def _counted(comparison: Comparison) -> str:
    """How many there are on each side: `(5 processes each)`, `(3 of 10 and 10 processes)`, `(1 host each)`."""
    units = _UNITS.get(comparison.metadata.per, ("process", "processes"))
    one, other = (_of_all(side) for side in (comparison.subject, comparison.baseline))
    if one == other:
        return f"({one} {units[one != '1']} each)"
    return f"({one} and {other} {units[1]})"


def _of_all(summary: Summary | None) -> str:
    """How many count, and of how many where some count as never."""
    if summary is None:
        return "0"
    return f"{summary.processes} of {summary.trials}" if summary.never else str(summary.processes)


_UNITS = {
    "host": ("host", "hosts"),
    "environment": ("environment", "environments"),
    "node": ("node", "nodes"),
}
