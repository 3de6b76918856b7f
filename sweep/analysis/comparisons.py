"""Comparisons: two cells that differ in one thing, the ratio of their figures, and what it allows one to say.

Whatever says which of two cells is better asks `Ratio.speedup`, which knows which way the metric goes.
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
    """`subject` against `baseline`: the ratio of their figures, whichever of them is better.

    `over` is the axis that they differ in (or `run`, or several axes, as `framework,backend`), `subject_value` and
    `baseline_value` its values (of several axes tuples), `axes` what they share. Without records of either, `ratio` is
    None and `reason` says why. `family` is the number of comparisons whose p-values were adjusted together, `level`
    that of the interval that would decide this one among them. `unmatched` says which trials of either cell ran on
    kinds of machine that the other one has none on; they are left out.
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
        """What the subject is: the shared axes, and its value of those that are compared over."""
        names = matching.axes_of(self.over)
        values = (
            self.subject_value if isinstance(self.subject_value, tuple) else (self.subject_value,)
        )
        return {**self.axes, **dict(zip(names, values, strict=True))}

    @property
    def interval(self) -> Interval | None:
        return self.ratio.interval() if self.ratio else None

    @property
    def metadata(self) -> ColumnMetadata:
        """What is known of the metric."""
        present = self.subject or self.baseline
        return present.metadata if present else metadata(self.metric)

    @property
    def speedup(self) -> Ratio | None:
        """How many times better the subject is: faster where it is a time, of more where more is better."""
        return self.ratio.speedup(self.metadata.direction) if self.ratio else None

    @property
    def verdict(self) -> Verdict:
        return statistics.verdict(self.ratio, self.margin, self.p_adjusted, self.metadata.direction)

    @property
    def withheld(self) -> bool:
        """Whether only trials that count as never keep it from a verdict."""
        if self.ratio is None or not self.ratio.is_open or self.verdict != "inconclusive":
            return False
        return statistics.verdict(self.ratio.closed(), self.margin, None) != "inconclusive"

    @property
    def uncorrected_verdict(self) -> Verdict:
        """What the interval alone says, without the correction for the family."""
        return statistics.verdict(self.ratio, self.margin, direction=self.metadata.direction)

    @property
    def p(self) -> float | None:
        """The p-value; None where there is no interval either."""
        if self.ratio is None or self.ratio.pairs < statistics.FEWEST_PROCESSES:
            return None
        return statistics.p_value(self.ratio, statistics.equivalence_range(self.margin))

    @property
    def seeds_needed(self) -> int | None:
        """Further seeds that an inconclusive comparison is likely to take; None where no number of them helps."""
        return self.units_needed if is_per_trial(self.metadata.per) else None

    @property
    def units_needed(self) -> int | None:
        """As `seeds_needed`, of whatever the metric is one per: trials, hosts, nodes. None where over a thousand."""
        if self.ratio is None:
            return None
        return statistics.seeds_needed(
            self.ratio, statistics.equivalence_range(self.margin), self.level
        )

    @property
    def processes(self) -> tuple[int, int]:
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
    """Every value of an axis against the baseline value, all else being equal.

    `over` may name several axes, as `framework,backend`: the values are then combinations of theirs, and cells may
    differ in all of them. `baseline` is the first value by `order` (the grid's, for each axis) unless given; over
    versions it is the first of each framework. The p-values are adjusted for the whole list. Where one of the two has
    no records at all, as a grid may leave it out, there is no comparison, unless `absent` ones are wanted too; none of
    trainings by the time of a step either. Summaries that are apart by machine are compared within a kind of machine.
    Raises SweepError where there is none at all.
    """
    values = _values(summaries, over, order or {})
    if len(values) < 2:
        known = ", ".join(map(option_text, values)) or "none"
        raise SweepError(
            f"there is nothing to compare over {over!r}: its values are {known}",
            "see sweep summarize",
        )
    _check_direction(summaries)
    given = None if baseline is None else _known(baseline, values)
    matched = matching.match_cells(summaries, over)
    found = []
    for rest, by_value in matched:
        base = _first_of_kin(matched, rest, values, over) if given is None else given
        for value in values:
            pair = (by_value.get(value, []), by_value.get(base, []))
            if (
                value != base
                and (all(pair) or (absent and any(pair)))
                and not _of_another_kind(pair)
            ):
                found += compare_cells(over, value, base, rest, *pair, margin)
    if not found:
        raise SweepError(
            f"no two cells differ in {over!r} alone",
            "see sweep summarize, and choose another with --over",
        )
    return adjusted(found)


def uncompared(summaries: Sequence[Summary], found: Sequence[Comparison]) -> list[Summary]:
    """The summaries with times that none of the comparisons is of."""
    sides = [
        side for comparison in found for side in (comparison.subject, comparison.baseline) if side
    ]
    compared_ones = {_identity(side.axes) for side in sides}
    return [s for s in summaries if s.processes and _identity(s.axes) not in compared_ones]


def between_runs(
    subjects: Sequence[Summary],
    baselines: Sequence[Summary],
    names: tuple[str, str],
    ignore: Iterable[str] = (),
    margin: float = statistics.MARGIN,
    rename: Mapping[str, str] | None = None,
) -> list[Comparison]:
    """The cells of one run against the same cells of another, matched by their axes but for those to `ignore`.

    `version` among those to ignore matches every version of a framework. How long one measured is left out as well,
    where it tells no cells of one run apart. `rename` gives axes of either
    run the name that they have in the other. Raises SweepError where cells of one run become one.
    """
    _check_direction([*subjects, *baselines])
    names_of = rename or {}
    ignored = list(ignore)
    check_axes(
        [*ignored, *names_of, *names_of.values()],
        [summary.axes for summary in (*subjects, *baselines)],
    )
    subjects, baselines = (matching.renamed(side, names_of) for side in (subjects, baselines))
    if VERSION in ignored:
        subjects, baselines = (matching.version_apart(side) for side in (subjects, baselines))
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
    found = []
    for key in dict.fromkeys([*other, *one]):
        pair = (one.get(key, []), other.get(key, []))
        if not _of_another_kind(pair):
            found += compare_cells(
                "run",
                *names,
                _shared([side.axes for side in (*pair[0], *pair[1])]),
                *pair,
                margin,
                False,
            )
    if not found:
        raise SweepError(
            f"no cell of {names[0]} or {names[1]} holds {subjects[0].metric}",
            "choose another with --metric",
        )
    return adjusted(found)


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
    """Two cells compared: block by block where `blocks` are shared and they have at least three in common.

    `subjects` and `baselines` are one summary for each kind of machine that a cell was measured on. There is a
    comparison within each kind that both have, and one that is missing where they have none.
    """
    values = (subject_value, baseline_value)
    alike = [(one, other) for one in subjects for other in baselines if _are_alike(one, other)]
    if not alike:
        one, other = (next(iter(_with_times_first(side)), None) for side in (subjects, baselines))
        reasons = [
            _why_missing(value, side) for value, side in zip(values, (one, other), strict=True)
        ]
        reason = "; ".join(filter(None, reasons)) or _machines_apart(subjects, baselines)
        return [_compared(over, values, axes, (one, other), margin, blocks, reason)]
    several = len(subjects) > 1 or len(baselines) > 1
    unmatched = [
        *_unmatched(subject_value, subjects, [one for one, _ in alike]),
        *_unmatched(baseline_value, baselines, [other for _, other in alike]),
    ]
    found = []
    for one, other in alike:
        reasons = [
            _why_missing(value, side) for value, side in zip(values, (one, other), strict=True)
        ]
        here = {**axes, **_machine_of(one, other)} if several else axes
        comparison = _compared(
            over, values, here, (one, other), margin, blocks, "; ".join(filter(None, reasons))
        )
        found.append(replace(comparison, unmatched=tuple(unmatched)))
    return found


def _compared(
    over: str,
    values: tuple[Any, Any],
    axes: Axes,
    sides: tuple[Summary | None, Summary | None],
    margin: float,
    blocks: bool,
    reason: str,
) -> Comparison:
    """Two cells of one kind of machine compared, unless there is a reason that they are not."""
    subject, baseline = sides
    present = subject or baseline
    metric = present.metric if present else ""
    ratio = (
        None if reason or subject is None or baseline is None else _ratio(subject, baseline, blocks)
    )
    return Comparison(over, *values, axes, metric, subject, baseline, ratio, margin, reason=reason)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same, each p-value adjusted for the family that they are; those without an interval are no part of it."""
    family = statistics.family([c.p for c in comparisons])
    return [
        replace(c, p_adjusted=member.p_adjusted, level=member.level, family=family.size)
        for c, member in zip(comparisons, family.members, strict=True)
    ]


def _ratio(subject: Summary, baseline: Summary, blocks: bool) -> Ratio | None:
    if np.any(subject.process_means <= 0) or np.any(baseline.process_means <= 0):
        return None
    one, other = (_by_block(summary) for summary in (subject, baseline))
    common = sorted(one.keys() & other.keys()) if blocks else []
    enough = len(common) >= statistics.FEWEST_PROCESSES
    if enough or (common and len(common) == min(subject.processes, baseline.processes)):
        ratio = statistics.paired_ratio([one[b] for b in common], [other[b] for b in common])
    else:
        ratio = statistics.unpaired_ratio(subject.process_means, baseline.process_means)
    return _opened(ratio, subject, baseline)


def _opened(ratio: Ratio, subject: Summary, baseline: Summary) -> Ratio:
    """The ratio, with what the trials that count as never would make of it: their side would be worse.

    Where neither way is better, they might be anything.
    """
    direction = subject.metadata.direction
    greater, less = (subject, baseline) if direction == "less" else (baseline, subject)
    either = bool(subject.never or baseline.never) and direction == "none"
    return replace(
        ratio, open_above=either or greater.never > 0, open_below=either or less.never > 0
    )


def _check_direction(summaries: Sequence[Summary]) -> None:
    """Raise SweepError where neither more nor less of the metric is better."""
    first = summaries[0]
    if first.metadata.direction == "none":
        hint = "see it with sweep summarize; docs/results.md says which metrics have a better and a worse"
        raise SweepError(
            f"neither more nor less {first.metric} is better, so that there is no verdict", hint
        )


def _by_block(summary: Summary) -> dict[Any, float]:
    """Mean of the processes of each block; of what is one per host, say, the value of each host.

    A host serves trials of many blocks, and cells may share it.
    """
    means: dict[Any, list[float]] = defaultdict(list)
    for block, mean in zip(
        summary.units() or summary.column("block"), summary.process_means, strict=True
    ):
        if block is not None:
            means[block].append(float(mean))
    return {block: float(np.mean(values)) for block, values in means.items()}


def _are_alike(one: Summary, other: Summary) -> bool:
    """Whether both ran on the same kind of machine, as far as it is known, or on devices that are to be compared."""
    if one.axes.get("device") != other.axes.get("device"):
        return True
    return one.machine == other.machine or one.machine is None or other.machine is None


def _machine_of(one: Summary, other: Summary) -> dict[str, str]:
    """The kind of machine as a column that `--where` takes."""
    names = dict.fromkeys(side.machine for side in (one, other) if side.machine)
    column = (
        "device_name"
        if "gpu" in (one.axes.get("device"), other.axes.get("device"))
        else "cpu_model"
    )
    return {column: " / ".join(names)}


def _machines_apart(subjects: Sequence[Summary], baselines: Sequence[Summary]) -> str:
    """What is said where both have times, and on no kind of machine in common."""
    one, other = (", ".join(sorted(str(s.machine) for s in side)) for side in (subjects, baselines))
    return f"measured on different machines: {one} and {other}"


def _unmatched(value: Any, summaries: Sequence[Summary], alike: Sequence[Summary]) -> list[str]:
    """The trials of a cell that ran on machines that the other one has none on."""
    left = [
        side for side in summaries if side.processes and all(side is not other for other in alike)
    ]
    return [f"{side.processes} trials of {option_text(value)} on {side.machine}" for side in left]


def _with_times_first(summaries: Sequence[Summary]) -> list[Summary]:
    return sorted(summaries, key=lambda summary: not summary.processes)


def _of_another_kind(pair: Iterable[Sequence[Summary]]) -> bool:
    """Whether all went well and there is no such metric: steps of a training, say."""
    both = all(pair)
    return both and all(_has_no_such_metric(summary) for side in pair for summary in side)


def _has_no_such_metric(summary: Summary) -> bool:
    all_went_well = not summary.processes and all_ok(summary.statuses)
    return all_went_well and summary.left_out["without"] > 0 and not summary.asked_for


def _why_missing(value: Any, summary: Summary | None) -> str:
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
    if summary.asked_for:
        return f"0 of {summary.trials} trials of {option_text(value)} reached it there"
    return f"{option_text(value)} has no {summary.metric} there"


def _values(
    summaries: Sequence[Summary], over: str, order: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """The values of the axes to compare over, in the order of the grid."""
    names = matching.axes_of(over)
    ranks = [
        {_spelled(value): place for place, value in enumerate(order.get(name, ()))}
        for name in names
    ]
    having = [s.axes for s in summaries if all(name in s.axes for name in names)]
    found = {
        json.dumps([axes[name] for name in names]): matching.value_of(axes, over) for axes in having
    }

    def place(value: Any) -> list[tuple[int, tuple[Any, ...]]]:
        ranked = zip(ranks, _parts(value), strict=True)
        return [(rank.get(_spelled(part), len(rank)), natural(part)) for rank, part in ranked]

    return sorted(found.values(), key=place)


def _spelled(value: Any) -> str:
    """A value as JSON, versions in their one spelling: a grid may have another."""
    return json.dumps(versions.normal_requirement(value) if isinstance(value, str) else value)


def _parts(value: Any) -> tuple[Any, ...]:
    """The values of the single axes."""
    return value if isinstance(value, tuple) else (value,)


def _known(wanted: Any, values: Sequence[Any]) -> Any:
    """The value that is meant: option_text in full, or a framework without its version where that is unambiguous."""
    text = option_text(wanted)
    for is_meant in (operator.eq, versions.same, _is_bare):
        found = [value for value in values if _all_meant(value, text, is_meant)]
        if len(found) == 1:
            return found[0]
        values = found or values
    raise SweepError(f"no value is {text!r}", nearest(text, map(option_text, values)))


def _all_meant(value: Any, text: str, is_meant: Callable[[str, str], bool]) -> bool:
    """Whether each part of a value is what is option_text at its place."""
    parts, asked = _parts(value), text.split(",")
    if len(parts) == 1:
        return is_meant(shown(value), text)
    if len(parts) != len(asked):
        return False
    return all(
        shown(part) == ask or is_meant(shown(part), ask)
        for part, ask in zip(parts, asked, strict=True)
    )


def _is_bare(value: str, wanted: str) -> bool:
    """Whether a framework is named without its version."""
    return value.partition("==")[0] == wanted


def _first_of_kin(
    matched: Sequence[tuple[Axes, Mapping[Any, Sequence[Summary]]]],
    rest: Axes,
    values: Sequence[Any],
    over: str,
) -> Any:
    """The baseline where none is given: the first value; of versions the first that the framework has."""
    if "version" not in matching.axes_of(over) or "framework" not in rest:
        return values[0]
    kin = [by_value for axes, by_value in matched if axes.get("framework") == rest["framework"]]
    return next(value for value in values if any(value in by_value for by_value in kin))


def _shared(sides: Sequence[Axes]) -> Axes:
    """The axes that all sides have alike."""
    return {
        name: value
        for name, value in sides[0].items()
        if all(side.get(name) == value for side in sides)
    }


def _identity(axes: Axes) -> str:
    return json.dumps(axes, sort_keys=True)
