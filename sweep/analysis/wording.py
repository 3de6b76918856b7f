"""Wording: sentences about cells and comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sweep.analysis import result_checks
from sweep.analysis.comparisons import Comparison
from sweep.analysis.matching import axes_of
from sweep.analysis.quantities import factor, factors
from sweep.analysis.statistics import FEWEST_TRIALS, Interval
from sweep.analysis.summary import Summary, is_per_trial, more_units
from sweep.axes import AXES, circumstance, phrase
from sweep.records.columns import ColumnMetadata
from sweep.records.declared import NEVER
from sweep.selection import VERSION, Axes, shown, varying
from sweep.status import failed_of_their_own
from sweep.texts import counted

# In the reverse order of the table, so that the device is last: "at batch 32 on the CPU".
_ALWAYS_SAID = [axis.name for axis in reversed(list(AXES.values())) if axis.always_said]


def sentence(comparison: Comparison, varied: Iterable[str] = ()) -> str:
    """Return what a comparison says.

    For example `torch 2.13.0 is 2.31× [2.27, 2.35] faster than chainer 7.8.1 at batch 32 on the
    CPU`. `varied` are the axes that tell this comparison from those beside it. If the two sides
    did not compute the same, or if that is unknown, the sentence begins with a note on it.
    """
    verdict = _verdict_sentence(comparison, varied)
    results = result_checks.check(comparison.subject, comparison.baseline)
    return f"{results.text}: {verdict}" if results and results.text else verdict


def _verdict_sentence(comparison: Comparison, varied: Iterable[str]) -> str:
    values = (comparison.subject_value, comparison.baseline_value)
    subject, baseline = (value_phrase(comparison.over, value) for value in values)
    where, size = circumstances(comparison.axes, varied), _sample_sizes(comparison)
    verdict, say = comparison.verdict, _phrases(comparison)
    ratio = ratio_text(comparison)
    speedup = comparison.speedup.interval() if comparison.speedup else None
    if verdict == "missing":
        return f"{subject} cannot be compared with {baseline}{where}: {comparison.reason}"
    if verdict == "faster" and speedup:
        better = say.better.format(factors(speedup))
        return f"{subject} {better} than {baseline}{where} {size}"
    if verdict == "slower" and speedup:
        # The reciprocal, so that the factor of a sentence is always above 1.
        worse = say.worse.format(factors(inverse(speedup)))
        return f"{subject} {worse} than {baseline}{where} {size}"
    if verdict == "equivalent":
        margin = f"to within {percent(comparison.margin)}"
        return f"{subject} {say.same} as {baseline} {margin}{where}: {ratio} {size}"
    why = _why_inconclusive(comparison)
    return f"{subject} against {baseline}{where} is inconclusive: {ratio} {size}; {why}"


def basis(comparison: Comparison) -> str:
    """Return the sample sizes behind a verdict, and what an inconclusive one needs.

    For example `3 processes each; about 2 more seeds would tell: --add-seeds 2`.
    """
    if comparison.verdict == "missing":
        return comparison.reason
    size = _sample_sizes(comparison).strip("()")
    if comparison.verdict == "inconclusive":
        return f"{size}; {_why_inconclusive(comparison)}"
    return size


def ratio_text(comparison: Comparison) -> str:
    """Return the ratio, with its interval if it has one: `0.998× [0.991, 1.005] the time`."""
    if comparison.ratio is None:
        return comparison.reason
    what = _phrases(comparison).what
    if comparison.interval:
        return f"{factors(comparison.interval)} {what}"
    return f"{factor(comparison.ratio.estimate)}× {what}, no interval"


def inverse(interval: Interval) -> Interval:
    """Return the interval of the reciprocal."""
    return Interval(1 / interval.estimate, 1 / interval.high, 1 / interval.low)


def fix(comparison: Comparison) -> str:
    """Return what would decide an inconclusive comparison."""
    ratio = comparison.ratio
    # Without an interval nothing can be said about the number of trials that would decide.
    if ratio is None or ratio.pairs < FEWEST_TRIALS:
        return more_units(comparison.metadata.per, FEWEST_TRIALS - (ratio.pairs if ratio else 0))
    if comparison.withheld:
        return unfinished_trials(comparison)
    needed = comparison.units_needed
    if needed is None and ratio.is_open:
        return unfinished_trials(comparison)
    if needed and not is_per_trial(comparison.metadata.per):
        return more_units(comparison.metadata.per, needed)
    if needed is None:
        margin = percent(comparison.margin)
        return f"it is too close to the margin of {margin} for any sensible number of seeds"
    return f"about {counted(needed, 'more seed')} would tell: --add-seeds {needed}"


def correction(alone: str, decided: str, family: int) -> str:
    """Return a note where the correction for the family changes the outcome; else ""."""
    if alone == decided:
        return ""
    unsure = f"among {family} comparisons it is not sure enough"
    return f"the interval alone would say {alone}, but {unsure}"


def _why_inconclusive(comparison: Comparison) -> str:
    why = correction(comparison.uncorrected_verdict, comparison.verdict, comparison.family)
    return "; ".join(filter(None, [why, fix(comparison)]))


def unfinished_trials(comparison: Comparison) -> str:
    """Return how many trials of each side never got to the metric, which withholds a verdict."""
    sides = [
        (comparison.subject_value, comparison.subject),
        (comparison.baseline_value, comparison.baseline),
    ]
    is_target = comparison.metadata.absent == NEVER
    counts = [
        f"{side.processes} of {side.trials} trials of {value_phrase(comparison.over, value)} "
        + ("reached it" if is_target else f"went well ({_failure_counts(side)})")
        for value, side in sides
        if side and side.never_reached
    ]
    others = "never" if is_target else "worse; see sweep status for why"
    return f"{' and '.join(counts)}, the others count as {others}"


def _failure_counts(summary: Summary) -> str:
    failed = sorted(failed_of_their_own(summary.statuses).items())
    return ", ".join(f"{n} {status}" for status, n in failed)


def percent(share: float) -> str:
    """Return a share in percent: `1 %`, `2.5 %`."""
    return f"{100 * share:.3g} %"


def value_phrase(axis: str, value: Any) -> str:
    """Return the value of an axis, or of several axes, as the subject of a sentence."""
    if isinstance(value, tuple):
        parts = zip(axes_of(axis), value, strict=True)
        return " with ".join(value_phrase(each, part) for each, part in parts)
    return shown(value) if axis == "run" else phrase(axis, value)


def circumstances(axes: Axes, varied: Iterable[str] = ()) -> str:
    """Return where a comparison holds: ` for torch 2.13.0 with autograd at batch 32 on the CPU`.

    Only the axes in `varied` and those that are always said appear.
    """
    named = [axis for axis in axes if axis in set(varied) and axis not in _ALWAYS_SAID]
    named += [axis for axis in _ALWAYS_SAID if axes.get(axis) is not None]
    return "".join(f" {circumstance(axis, axes[axis])}" for axis in named)


def varied_axes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the axes that tell comparisons apart, with the framework if versions are compared."""
    varied = varying([comparison.axes for comparison in comparisons])
    over_versions = any(VERSION in axes_of(comparison.over) for comparison in comparisons)
    return ["framework", *varied] if over_versions and "framework" not in varied else varied


class Phrases(NamedTuple):
    """The phrases for ratios of a metric: times are faster, amounts are less, rates are more."""

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


def phrases(metric: str, metadata: ColumnMetadata) -> Phrases:
    """Return the phrases for ratios of a metric with this metadata."""
    if metadata.unit.endswith("/s"):
        what, verb = f"{metadata.unit.removesuffix('/s')} per second", "does"
    else:
        what, verb = metric, "has"
    less, more = f"{verb} {{}} less {what}", f"{verb} {{}} more {what}"
    more_is_better = metadata.direction == "more"
    better, worse = (more, less) if more_is_better else (less, more)
    generic = Phrases(better, worse, f"{verb} the same {what}", f"the {what}")
    return generic if more_is_better else _OF_UNIT.get(metadata.unit, generic)


def _phrases(comparison: Comparison) -> Phrases:
    return phrases(comparison.metric, comparison.metadata)


def _sample_sizes(comparison: Comparison) -> str:
    """Return the number of units on each side.

    For example `(5 processes each)`, `(3 of 10 and 10 processes)` or `(1 host each)`.
    """
    singular, plural = _UNITS.get(comparison.metadata.per, ("process", "processes"))
    one, other = (_count_text(side) for side in (comparison.subject, comparison.baseline))
    if one == other:
        return f"({one} {singular if one == '1' else plural} each)"
    return f"({one} and {other} {plural})"


def _count_text(summary: Summary | None) -> str:
    """Return how many units count, and of how many trials where some count as never."""
    if summary is None:
        return "0"
    return (
        f"{summary.processes} of {summary.trials}"
        if summary.never_reached
        else str(summary.processes)
    )


_UNITS = {
    "host": ("host", "hosts"),
    "environment": ("environment", "environments"),
    "node": ("node", "nodes"),
}
