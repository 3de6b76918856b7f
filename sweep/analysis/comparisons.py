"""Comparisons: two cells that differ in one thing, the ratio of their times, and what it allows one to say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sweep import versions
from sweep.analysis import statistics
from sweep.analysis.statistics import Interval, Ratio, Verdict
from sweep.analysis.summary import Summary
from sweep.errors import SweepError, nearest
from sweep.selection import Axes, natural, shown

EFFORT = ("samples", "warmup")  # how long one measured, not what


@dataclass(frozen=True)
class Comparison:
    """`subject` against `baseline`: the ratio of their times, below 1 where the subject is faster.

    `over` is the axis that they differ in (or `run`), `subject_value` and `baseline_value` its values, `axes` what they
    share. Without records of either, `ratio` is None and `reason` says why.
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

    @property
    def interval(self) -> Interval | None:
        return self.ratio.interval() if self.ratio else None

    @property
    def verdict(self) -> Verdict:
        return statistics.verdict(self.ratio, self.margin, self.p_adjusted)

    @property
    def p(self) -> float | None:
        return statistics.p_value(self.ratio, statistics.within(self.margin)) if self.ratio else None

    @property
    def seeds_needed(self) -> int | None:
        """Further seeds that an inconclusive comparison is likely to take; None where over a thousand."""
        return statistics.seeds_needed(self.ratio, statistics.within(self.margin)) if self.ratio else None

    @property
    def processes(self) -> tuple[int, int]:
        return (self.subject.processes if self.subject else 0, self.baseline.processes if self.baseline else 0)


def over_axis(
    summaries: Sequence[Summary],
    over: str,
    baseline: Any = None,
    order: Sequence[Any] = (),
    margin: float = statistics.MARGIN,
    across_machines: bool = False,
    absent: bool = False,
) -> list[Comparison]:
    """Every value of an axis against the baseline value, all else being equal.

    `baseline` is the first value of `order` (the grid's) unless given. The p-values are adjusted for the whole list.
    Where one of the two has no records at all, as a grid may leave it out, there is no comparison, unless `absent` ones
    are wanted too; none of trainings by the time of a step either. Raises SweepError where there is none at all.
    """
    values = _values(summaries, over, order)
    if len(values) < 2:
        known = ", ".join(map(shown, values)) or "none"
        raise SweepError(f"there is nothing to compare over {over!r}: its values are {known}", "see sweep summarize")
    base = values[0] if baseline is None else _known(baseline, values)
    found = []
    for rest, by_value in _matched(summaries, over):
        for value in values:
            pair = (by_value.get(value), by_value.get(base))
            if value != base and (all(pair) or (absent and any(pair))) and not _of_another_kind(pair):
                found.append(compared(over, value, base, rest, *pair, margin, True, across_machines))
    if not found:
        raise SweepError(
            f"no two cells differ in {over!r} alone", "see sweep summarize, and choose another with --over"
        )
    return adjusted(found)


def between_runs(
    subjects: Sequence[Summary],
    baselines: Sequence[Summary],
    names: tuple[str, str],
    ignore: Iterable[str] = EFFORT,
    margin: float = statistics.MARGIN,
    across_machines: bool = False,
) -> list[Comparison]:
    """The cells of one run against the same cells of another, matched by their axes but for those to `ignore`."""
    one, other = (_by_axes(summaries, ignore) for summaries in (subjects, baselines))
    if not one.keys() & other.keys():
        raise SweepError(f"{names[0]} and {names[1]} have no cell in common", _what_differs(subjects, baselines))
    found = []
    for key in dict.fromkeys([*other, *one]):
        axes, pair = (one.get(key) or other[key]).axes, (one.get(key), other.get(key))
        if _of_another_kind(pair):
            continue
        found.append(compared("run", *names, axes, *pair, margin, False, across_machines))
    if not found:
        raise SweepError(
            f"no cell of {names[0]} or {names[1]} holds {subjects[0].metric}", "choose another with --metric"
        )
    return adjusted(found)


def compared(
    over: str,
    subject_value: Any,
    baseline_value: Any,
    axes: Axes,
    subject: Summary | None,
    baseline: Summary | None,
    margin: float = statistics.MARGIN,
    blocks: bool = True,
    across_machines: bool = False,
) -> Comparison:
    """Two cells compared: block by block where `blocks` are shared and they have at least three in common.

    Cells that were measured on different kinds of machine are not compared, unless they are meant to be.
    """
    present = subject or baseline
    metric = present.metric if present else ""
    reasons = [_why_missing(value, s) for value, s in ((subject_value, subject), (baseline_value, baseline))]
    if not any(reasons) and not across_machines and subject and baseline:
        reasons.append(_machines_apart(subject, baseline))
    reason = "; ".join(filter(None, reasons))
    ratio = None if reason or subject is None or baseline is None else _ratio(subject, baseline, blocks)
    return Comparison(
        over, subject_value, baseline_value, axes, metric, subject, baseline, ratio, margin, reason=reason
    )


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same, each p-value adjusted for the family that they are."""
    p = [c.p for c in comparisons if c.p is not None]
    values = iter(statistics.adjusted(p))
    return [c if c.p is None else replace(c, p_adjusted=next(values)) for c in comparisons]


def _ratio(subject: Summary, baseline: Summary, blocks: bool) -> Ratio | None:
    if np.any(subject.process_means <= 0) or np.any(baseline.process_means <= 0):
        return None
    one, other = (_by_block(summary) for summary in (subject, baseline))
    common = sorted(one.keys() & other.keys()) if blocks else []
    enough = len(common) >= statistics.FEWEST_PROCESSES
    if enough or (common and len(common) == min(subject.processes, baseline.processes)):
        return statistics.paired_ratio([one[b] for b in common], [other[b] for b in common])
    return statistics.unpaired_ratio(subject.process_means, baseline.process_means)


def _by_block(summary: Summary) -> dict[Any, float]:
    """Mean of the processes of each block."""
    means: dict[Any, list[float]] = defaultdict(list)
    for block, mean in zip(summary.column("block"), summary.process_means, strict=True):
        if block is not None:
            means[block].append(float(mean))
    return {block: float(np.mean(values)) for block, values in means.items()}


def _machines_apart(subject: Summary, baseline: Summary) -> str:
    """What is to be said where both ran on the same kind of device, but on no kind of machine in common."""
    device = subject.axes.get("device")
    if device != baseline.axes.get("device"):
        return ""
    models = "device_name" if device == "gpu" else "cpu_model"
    one, other = ({m for m in s.column(models) if m} for s in (subject, baseline))
    if not one or not other or one & other:
        return ""
    return f"measured on different machines: {', '.join(sorted(one))} and {', '.join(sorted(other))}"


def _of_another_kind(pair: Iterable[Summary | None]) -> bool:
    """Whether all went well and there is no such metric: steps of a training, say."""
    return all(s and not s.processes and set(s.statuses) == {"ok"} and s.left_out["without"] for s in pair)


def _why_missing(value: Any, summary: Summary | None) -> str:
    if summary is None:
        return f"{shown(value)} has no records there"
    if summary.processes:
        return ""
    failed = ", ".join(f"{n} {status}" for status, n in sorted(summary.statuses.items()) if status != "ok")
    if failed:
        return f"{shown(value)} has no times there: {failed}"
    if summary.left_out["impossible"]:
        return f"{shown(value)} has no times there that can be"
    return f"{shown(value)} has no {summary.metric} there"


def _values(summaries: Sequence[Summary], over: str, order: Sequence[Any]) -> list[Any]:
    found = {json.dumps(s.axes[over]): s.axes[over] for s in summaries if over in s.axes}
    rank = {_spelled(value): place for place, value in enumerate(order)}
    return sorted(found.values(), key=lambda value: (rank.get(_spelled(value), len(rank)), natural(value)))


def _spelled(value: Any) -> str:
    """A value as JSON, versions in their one spelling: a grid may have another."""
    return json.dumps(versions.normal_requirement(value) if isinstance(value, str) else value)


def _known(wanted: Any, values: Sequence[Any]) -> Any:
    """The value that is meant: written in full, or a framework without its version where that is unambiguous."""
    exact = [value for value in values if shown(value) == shown(wanted)]
    exact = exact or [value for value in values if versions.same(shown(value), shown(wanted))]
    bare = [value for value in values if shown(value).partition("==")[0] == shown(wanted)]
    if len(exact or bare) != 1:
        known = map(shown, bare or values)
        raise SweepError(f"no value is {shown(wanted)!r}", nearest(shown(wanted), known))
    return (exact or bare)[0]


def _matched(summaries: Sequence[Summary], over: str) -> list[tuple[Axes, dict[Any, Summary]]]:
    """For each combination of the other axes, the summaries by value of the axis."""
    matched: dict[str, tuple[Axes, dict[Any, Summary]]] = {}
    for summary in summaries:
        if over in summary.axes:
            rest = {name: value for name, value in summary.axes.items() if name != over}
            matched.setdefault(json.dumps(rest), (rest, {}))[1][summary.axes[over]] = summary
    return list(matched.values())


def _by_axes(summaries: Sequence[Summary], ignore: Iterable[str]) -> dict[str, Summary]:
    left = set(ignore)
    return {json.dumps({k: v for k, v in s.axes.items() if k not in left}): s for s in summaries}


def _what_differs(subjects: Sequence[Summary], baselines: Sequence[Summary]) -> str:
    """A hint: the axes of which the two runs share no value."""
    names = dict.fromkeys(name for s in [*subjects, *baselines] for name in s.axes)
    apart = []
    for name in names:
        one, other = ({shown(s.axes.get(name)) for s in summaries} for summaries in (subjects, baselines))
        if not one & other:
            apart.append(f"{name} is {', '.join(sorted(one))} in one and {', '.join(sorted(other))} in the other")
    return f"{'; '.join(apart)}: leave it out with --ignore" if apart else "see sweep summarize for the cells of each"
