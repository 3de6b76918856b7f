"""Comparisons: the ratio of two cells that differ in one axis, its interval and its verdict.

The ratio is always subject by baseline, in the unit of the metric. Which of the two is better
depends on the direction of the metric, and only `Ratio.speedup` decides it.
"""

from __future__ import annotations

import json
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sweep import versions
from sweep.analysis import matching, statistics
from sweep.analysis.matching import option_text
from sweep.analysis.statistics import Interval, Ratio, Verdict
from sweep.analysis.summary import Summary, is_per_trial
from sweep.axes import CONTENT_AXES
from sweep.errors import SweepError, nearest
from sweep.records.columns import ColumnMetadata, metadata
from sweep.selection import VERSION, Axes, check_axes, natural, shown
from sweep.status import Status, all_ok


@dataclass(frozen=True)
class Comparison:
    """The ratio of `subject` to `baseline`, two cells that differ only in the axis `over`.

    `over` may also be `run`, or several axes such as `framework,backend`. `subject_value` and
    `baseline_value` are the values of the axis, tuples for several axes. `axes` are the shared
    ones. If either side has no records, `ratio` is None and `reason` says why. `family` is the
    number of comparisons whose p-values were adjusted together, and `level` that of the interval
    that decides within the family. `unmatched` describes the trials that are left out because
    the other side has none on their kind of machine.
    """

    over: str
    subject_value: Any
    baseline_value: Any
    axes: Axes
    metric: str
    subject: Summary | None = field(repr=False)
    baseline: Summary | None = field(repr=False)
    ratio: Ratio | None
    margin: float
    reason: str = ""
    p_adjusted: float | None = None
    level: float = statistics.LEVEL
    family: int = 1
    unmatched: tuple[str, ...] = ()

    @property
    def subject_axes(self) -> Axes:
        """The axes of the subject: the shared ones, and its values of the axes compared over."""
        names = matching.axes_of(self.over)
        return {**self.axes, **dict(zip(names, _parts(self.subject_value), strict=True))}

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the ratio; None with fewer than three pairs."""
        return self.ratio.interval() if self.ratio else None

    @property
    def metadata(self) -> ColumnMetadata:
        """The metadata of the metric."""
        present = self.subject or self.baseline
        return present.metadata if present else metadata(self.metric)

    @property
    def speedup(self) -> Ratio | None:
        """How many times better the subject is, in the direction of the metric."""
        return self.ratio.speedup(self.metadata.direction) if self.ratio else None

    @property
    def verdict(self) -> Verdict:
        """The verdict after correction for the family."""
        return statistics.verdict(self.ratio, self.margin, self.p_adjusted, self.metadata.direction)

    @property
    def withheld(self) -> bool:
        """Whether the comparison is inconclusive only because trials count as never."""
        if self.ratio is None or not self.ratio.is_open or self.verdict != "inconclusive":
            return False
        # The direction does not matter: the verdict is only tested for being inconclusive.
        return statistics.verdict(self.ratio.closed(), self.margin, None) != "inconclusive"

    @property
    def uncorrected_verdict(self) -> Verdict:
        """The verdict of the interval alone, without the correction for the family."""
        return statistics.verdict(self.ratio, self.margin, direction=self.metadata.direction)

    @property
    def p(self) -> float | None:
        """The p-value of no difference beyond the margin; None where there is no interval."""
        if self.ratio is None or self.ratio.pairs < statistics.FEWEST_TRIALS:
            return None
        return statistics.p_value(self.ratio, statistics.equivalence_range(self.margin))

    @property
    def seeds_needed(self) -> int | None:
        """Further seeds that decide with 80 % probability; None if more than 1,000 are needed."""
        return self.units_needed if is_per_trial(self.metadata.per) else None

    @property
    def units_needed(self) -> int | None:
        """As `seeds_needed`, in units of replication of the metric: trials, hosts or nodes."""
        if self.ratio is None:
            return None
        return statistics.seeds_needed(
            self.ratio, statistics.equivalence_range(self.margin), self.level
        )

    @property
    def processes(self) -> tuple[int, int]:
        """The number of valid trials of subject and baseline."""
        return (
            self.subject.processes if self.subject else 0,
            self.baseline.processes if self.baseline else 0,
        )


def over_axis(
    summaries: Sequence[Summary],
    over: str,
    baseline: Any = None,
    order: Mapping[str, Sequence[Any]] | None = None,
    margin: float = statistics.MARGIN,
    absent: bool = False,
) -> list[Comparison]:
    """Compare every value of an axis with the baseline value, all else being equal.

    `over` may name several axes, as in `framework,backend`. The values are then combinations, and
    cells may differ in all of these axes. `baseline` is by default the first value in `order`,
    the grid's order of each axis; over versions it is the first of each framework. Cells without
    a counterpart are left out, unless `absent` includes them as missing. Pairs without the
    metric, such as trainings by the time of a step, are left out too. Cells are compared within
    a kind of machine if the summaries are split by machine. The p-values are adjusted for the
    whole list. Raises SweepError where nothing can be compared.
    """
    values = _values(summaries, over, order or {})
    _check_several(values, over)
    _check_direction(summaries)
    given = None if baseline is None else _find_value(baseline, values)
    groups = matching.match_cells(summaries, over)
    comparisons = []
    for rest, by_value in groups:
        base = _default_baseline(groups, rest, values, over) if given is None else given
        for value in values:
            pair = (by_value.get(value, []), by_value.get(base, []))
            is_wanted = all(pair) or (absent and any(pair))
            if value != base and is_wanted and not _lacks_metric(pair):
                comparisons += compare_cells(over, value, base, rest, *pair, margin)
    if not comparisons:
        raise SweepError(
            f"no two cells differ in {over!r} alone",
            "see sweep summarize, and choose another with --over",
        )
    return adjusted(comparisons)


def _check_several(values: Sequence[Any], over: str) -> None:
    """Raise SweepError where there is no second value to compare with."""
    if len(values) < 2:
        names = ", ".join(map(option_text, values)) or "none"
        raise SweepError(
            f"there is nothing to compare over {over!r}: its values are {names}",
            "see sweep summarize",
        )


def uncompared(summaries: Sequence[Summary], comparisons: Sequence[Comparison]) -> list[Summary]:
    """Return the summaries with valid trials that are no side of a comparison."""
    sides = [
        side
        for comparison in comparisons
        for side in (comparison.subject, comparison.baseline)
        if side
    ]
    compared = {_identity(side.axes) for side in sides}
    return [s for s in summaries if s.processes and _identity(s.axes) not in compared]


def between_runs(
    subjects: Sequence[Summary],
    baselines: Sequence[Summary],
    names: tuple[str, str],
    ignore: Iterable[str] = (),
    margin: float = statistics.MARGIN,
    rename: Mapping[str, str] | None = None,
) -> list[Comparison]:
    """Compare the cells of one run with the same cells of another.

    Cells are matched by their axes without those in `ignore`. Ignoring `version` matches every
    version of a framework. Axes that say how long a trial measures are left out too, if they
    distinguish no cells of a run. `rename` maps the name of an axis in either run to that in the
    other. Raises SweepError where two cells of a run coincide, or where no cell matches.
    """
    _check_direction([*subjects, *baselines])
    new_names = rename or {}
    ignored = list(ignore)
    check_axes(
        [*ignored, *new_names, *new_names.values()],
        [summary.axes for summary in (*subjects, *baselines)],
    )
    subjects, baselines = (matching.renamed(side, new_names) for side in (subjects, baselines))
    if VERSION in ignored:
        subjects, baselines = (matching.version_apart(side) for side in (subjects, baselines))
    pairs = _matched_between_runs(subjects, baselines, names, ignored)
    comparisons = []
    for pair in pairs:
        if not _lacks_metric(pair):
            shared = _shared([side.axes for side in (*pair[0], *pair[1])])
            # Blocks of different runs did not run at the same time.
            comparisons += compare_cells("run", *names, shared, *pair, margin, blocks=False)
    if not comparisons:
        raise SweepError(
            f"no cell of {names[0]} or {names[1]} holds {subjects[0].metric}",
            "choose another with --metric",
        )
    return adjusted(comparisons)


def _matched_between_runs(
    subjects: Sequence[Summary],
    baselines: Sequence[Summary],
    names: tuple[str, str],
    ignored: Sequence[str],
) -> list[tuple[list[Summary], list[Summary]]]:
    """Return the summaries of each cell in both runs, those of the baseline's cells first."""
    left_out = [
        *ignored,
        *CONTENT_AXES.values(),
        *matching.left_out_by_default((subjects, baselines), ignored),
    ]
    one = matching.unique_cells(subjects, left_out, names[0])
    other = matching.unique_cells(baselines, left_out, names[1])
    if not one.keys() & other.keys():
        hint = matching.what_differs(subjects, baselines)
        raise SweepError(f"{names[0]} and {names[1]} have no cell in common", hint)
    return [(one.get(key, []), other.get(key, [])) for key in dict.fromkeys([*other, *one])]


def compare_cells(
    over: str,
    subject_value: Any,
    baseline_value: Any,
    axes: Axes,
    subjects: Sequence[Summary],
    baselines: Sequence[Summary],
    margin: float = statistics.MARGIN,
    blocks: bool = True,
) -> list[Comparison]:
    """Compare two cells; `subjects` and `baselines` have a summary for each kind of machine.

    There is a comparison for each kind of machine that both cells have, or one missing comparison
    where they share none. `blocks` says that the cells may share blocks. Trials are then paired
    by block if at least three blocks are common.
    """
    values = (subject_value, baseline_value)
    pairs = [(one, other) for one in subjects for other in baselines if _on_same_kind(one, other)]
    if not pairs:
        # If both cells have times, only their machines keep them from being compared.
        one, other = (next(iter(_with_times_first(side)), None) for side in (subjects, baselines))
        reason = _why_missing(values, (one, other)) or _machines_differ(subjects, baselines)
        return [_compare_pair(over, values, axes, (one, other), margin, blocks, reason)]
    are_several = len(subjects) > 1 or len(baselines) > 1
    unmatched = (
        *_unmatched(subject_value, subjects, [one for one, _ in pairs]),
        *_unmatched(baseline_value, baselines, [other for _, other in pairs]),
    )
    comparisons = []
    for pair in pairs:
        reason = _why_missing(values, pair)
        own_axes = {**axes, **_machine_of(*pair)} if are_several else axes
        comparison = _compare_pair(over, values, own_axes, pair, margin, blocks, reason)
        comparisons.append(replace(comparison, unmatched=unmatched))
    return comparisons


def _compare_pair(
    over: str,
    values: tuple[Any, Any],
    axes: Axes,
    sides: tuple[Summary | None, Summary | None],
    margin: float,
    blocks: bool,
    reason: str,
) -> Comparison:
    """Compare two summaries of one kind of machine; with a `reason` the comparison is missing."""
    subject, baseline = sides
    present = subject or baseline
    metric = present.metric if present else ""
    ratio = None
    if subject and baseline and not reason:
        ratio = _ratio(subject, baseline, blocks)
    return Comparison(over, *values, axes, metric, subject, baseline, ratio, margin, reason=reason)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p-values adjusted for the family of those with an interval."""
    family = statistics.family([c.p for c in comparisons])
    return [
        replace(c, p_adjusted=member.p_adjusted, level=member.level, family=family.size)
        for c, member in zip(comparisons, family.members, strict=True)
    ]


def _ratio(subject: Summary, baseline: Summary, blocks: bool) -> Ratio | None:
    """Return the ratio of two cells, paired by block where possible.

    It is None where a mean is not positive, which has no logarithm.
    """
    if np.any(subject.trial_means <= 0) or np.any(baseline.trial_means <= 0):
        return None
    one, other = (_by_block(summary) for summary in (subject, baseline))
    common = sorted(one.keys() & other.keys()) if blocks else []
    are_enough = len(common) >= statistics.FEWEST_TRIALS
    # Fewer common blocks serve only where they lose no trial of the smaller side.
    if are_enough or (common and len(common) == min(subject.processes, baseline.processes)):
        ratio = statistics.paired_ratio([one[b] for b in common], [other[b] for b in common])
    else:
        ratio = statistics.unpaired_ratio(subject.trial_means, baseline.trial_means)
    return _opened(ratio, subject, baseline)


def _opened(ratio: Ratio, subject: Summary, baseline: Summary) -> Ratio:
    """Return the ratio with the directions in which trials that count as never would move it.

    Such trials make their side worse. If the metric has no better direction, they could move the
    ratio both ways.
    """
    direction = subject.metadata.direction
    greater, less = (subject, baseline) if direction == "less" else (baseline, subject)
    is_either = bool(subject.never_reached or baseline.never_reached) and direction == "none"
    return replace(
        ratio,
        open_above=is_either or greater.never_reached > 0,
        open_below=is_either or less.never_reached > 0,
    )


def _check_direction(summaries: Sequence[Summary]) -> None:
    """Raise SweepError where neither more nor less of the metric is better."""
    first = summaries[0]
    if first.metadata.direction == "none":
        raise SweepError(
            f"neither more nor less {first.metric} is better, so that there is no verdict",
            "see it with sweep summarize; "
            "docs/results.md says which metrics have a better and a worse",
        )


def _by_block(summary: Summary) -> dict[Any, float]:
    """Return the mean of the trials of each block, or of each other unit of replication.

    Units such as hosts serve as blocks: a host runs trials of many blocks and of several cells.
    """
    # Pooled cells have several trials in a block.
    means: dict[Any, list[float]] = defaultdict(list)
    blocks = summary.units() or summary.column("block")
    for block, mean in zip(blocks, summary.trial_means, strict=True):
        if block is not None:
            means[block].append(float(mean))
    return {block: float(np.mean(values)) for block, values in means.items()}


def _on_same_kind(one: Summary, other: Summary) -> bool:
    """Whether two summaries are comparable: the same kind of machine, or one is unknown.

    If devices are compared with each other, their machines differ of necessity.
    """
    if one.axes.get("device") != other.axes.get("device"):
        return True
    return one.machine == other.machine or one.machine is None or other.machine is None


def _machine_of(one: Summary, other: Summary) -> dict[str, str]:
    """Return the kind of machine as a column and a value that `--where` takes."""
    names = dict.fromkeys(side.machine for side in (one, other) if side.machine)
    on_gpu = "gpu" in (one.axes.get("device"), other.axes.get("device"))
    return {"device_name" if on_gpu else "cpu_model": " / ".join(names)}


def _machines_differ(subjects: Sequence[Summary], baselines: Sequence[Summary]) -> str:
    """Return the reason where both sides have times, but on no common kind of machine."""
    one, other = (", ".join(sorted(str(s.machine) for s in side)) for side in (subjects, baselines))
    return f"measured on different machines: {one} and {other}"


def _unmatched(value: Any, summaries: Sequence[Summary], matched: Sequence[Summary]) -> list[str]:
    """Return the trials of a cell that are on machines without trials of the other cell."""
    left = [
        side for side in summaries if side.processes and all(side is not other for other in matched)
    ]
    return [f"{side.processes} trials of {option_text(value)} on {side.machine}" for side in left]


def _with_times_first(summaries: Sequence[Summary]) -> list[Summary]:
    return sorted(summaries, key=lambda summary: not summary.processes)


def _lacks_metric(pair: Sequence[Sequence[Summary]]) -> bool:
    """Whether all trials of both cells went well, but do not record the metric."""
    return all(pair) and all(_does_not_record(summary) for side in pair for summary in side)


def _does_not_record(summary: Summary) -> bool:
    all_went_well = not summary.processes and all_ok(summary.statuses)
    return all_went_well and summary.left_out["without"] > 0 and not summary.is_expected


def _why_missing(values: tuple[Any, Any], sides: tuple[Summary | None, Summary | None]) -> str:
    """Return why two cells cannot be compared; "" where both have valid trials."""
    reasons = [_why_without(value, side) for value, side in zip(values, sides, strict=True)]
    return "; ".join(filter(None, reasons))


def _why_without(value: Any, summary: Summary | None) -> str:
    """Return why a cell has no valid trials; "" where it has some."""
    if summary is None:
        return f"{option_text(value)} has no records there"
    if summary.processes:
        return ""
    failed = ", ".join(
        f"{n} {status}" for status, n in sorted(summary.statuses.items()) if status != Status.OK
    )
    if failed:
        return f"{option_text(value)} has no times there: {failed}"
    if summary.left_out["impossible"]:
        return f"{option_text(value)} has no times there that can be"
    if summary.is_expected:
        return f"0 of {summary.trials} trials of {option_text(value)} reached it there"
    return f"{option_text(value)} has no {summary.metric} there"


def _values(
    summaries: Sequence[Summary], over: str, order: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """Return the values of the axes `over`, in the order of the grid."""
    names = matching.axes_of(over)
    ranks = [
        {_normal_form(value): rank for rank, value in enumerate(order.get(name, ()))}
        for name in names
    ]
    having = [s.axes for s in summaries if all(name in s.axes for name in names)]
    distinct = {
        json.dumps([axes[name] for name in names]): matching.value_of(axes, over) for axes in having
    }

    def sort_key(value: Any) -> list[tuple[int, tuple[Any, ...]]]:
        ranked = zip(ranks, _parts(value), strict=True)
        return [(rank.get(_normal_form(part), len(rank)), natural(part)) for rank, part in ranked]

    return sorted(distinct.values(), key=sort_key)


def _normal_form(value: Any) -> str:
    """Return a value as JSON with its version normalized, since a grid may spell it differently."""
    return json.dumps(versions.normal_requirement(value) if isinstance(value, str) else value)


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the values of the single axes."""
    return value if isinstance(value, tuple) else (value,)


def _find_value(wanted: Any, values: Sequence[Any]) -> Any:
    """Return the value that a text names.

    The text is the full value, or a framework without its version if that is unambiguous. Raises
    SweepError with the nearest value where there is none.
    """
    text = option_text(wanted)
    # From the strictest to the most lenient comparison, until one value is left.
    for equals in (operator.eq, versions.same, _is_bare):
        candidates = [value for value in values if _all_equal(value, text, equals)]
        if len(candidates) == 1:
            return candidates[0]
        values = candidates or values
    raise SweepError(f"no value is {text!r}", nearest(text, map(option_text, values)))


def _all_equal(value: Any, text: str, equals: Callable[[str, str], bool]) -> bool:
    """Whether each part of a value equals its part of the text."""
    parts, wanted = _parts(value), text.split(",")
    # The value of a single axis may contain commas.
    if len(parts) == 1:
        return equals(shown(value), text)
    if len(parts) != len(wanted):
        return False
    return all(
        shown(part) == each or equals(shown(part), each)
        for part, each in zip(parts, wanted, strict=True)
    )


def _is_bare(value: str, wanted: str) -> bool:
    """Whether `wanted` is the framework of a value, without its version."""
    return value.partition("==")[0] == wanted


def _default_baseline(
    groups: Sequence[tuple[Axes, Mapping[Any, Sequence[Summary]]]],
    rest: Axes,
    values: Sequence[Any],
    over: str,
) -> Any:
    """Return the first value; over versions, the first version that the framework has."""
    if "version" not in matching.axes_of(over) or "framework" not in rest:
        return values[0]
    own = [by_value for axes, by_value in groups if axes.get("framework") == rest["framework"]]
    return next(value for value in values if any(value in by_value for by_value in own))


def _shared(sides: Sequence[Axes]) -> Axes:
    """Return the axes that have the same value on all sides."""
    return {
        name: value
        for name, value in sides[0].items()
        if all(side.get(name) == value for side in sides)
    }


def _identity(axes: Axes) -> str:
    return json.dumps(axes, sort_keys=True)
