"""Claims: hypotheses that a grid states, held against the records."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from sweep.analysis import statistics
from sweep.analysis.comparisons import Comparison, compare_cells
from sweep.analysis.matching import axes_of, shared_axes, value_of
from sweep.analysis.statistics import Range
from sweep.analysis.summary import Summary, is_per_trial
from sweep.errors import SweepError
from sweep.grid.conditions import Conditions, is_value
from sweep.grid.language import Claim as Stated
from sweep.grid.language import Expectation, Published
from sweep.records.columns import ColumnMetadata
from sweep.selection import VERSION, split

Outcome = Literal["supported", "refuted", "inconclusive", "missing"]


class Contrast(Protocol):
    """Two values of an axis, all else being equal, in the cells that `where` narrows down to.

    `axis` may name several, as `framework,backend`; `subject` and `baseline` are then tuples of their values.
    """

    @property
    def axis(self) -> str: ...
    @property
    def subject(self) -> Any: ...
    @property
    def baseline(self) -> Any: ...
    @property
    def where(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Claim:
    """`subject` against `baseline` on an axis, all else being equal: the ratio of their figures is as `expected`.

    `is_ordered`: one of the two shall be faster. The range is then as of times; of what is better the more it is, it is
    turned round when the claim is judged, since only the records know which way a metric goes.
    """

    name: str
    axis: str
    subject: Any
    baseline: Any
    where: Mapping[str, Any]
    metric: str
    expected: Range
    is_ordered: bool = False

    def oriented(self, about: ColumnMetadata) -> Claim:
        """The claim as it is of this metric. Raises SweepError where neither more nor less of it is faster."""
        if not self.is_ordered or about.direction == "less":
            return self
        if about.direction == "none":
            message = f"claim {self.name!r} says what is faster, and neither more nor less {self.metric} is better"
            raise SweepError(
                message, "expect equivalent or ratio, or choose another metric, see docs/results.md"
            )
        low, high = self.expected
        turned = Range(1 / high, math.inf if low == 0 else 1 / low)
        return replace(self, expected=turned)

    @property
    def expectation(self) -> str:
        low, high = self.expected
        bounds = [f"over {low:.4g}"] if low > 0 else []
        bounds += [f"under {high:.4g}"] if high < math.inf else []
        return f"ratio {' and '.join(bounds)}"


@dataclass(frozen=True)
class Evidence:
    """One comparison that a claim speaks of, and what it says.

    `p` is that of the claim's range, `p_adjusted` the same within the `family` of all comparisons that the claims of a
    grid speak of, `level` that of the interval that would refute the claim there.
    """

    comparison: Comparison
    expected: Range
    p: float | None = None
    p_adjusted: float | None = None
    level: float = statistics.LEVEL
    family: int = 1

    @property
    def outcome(self) -> Outcome:
        return self._outcome(self.p_adjusted)

    @property
    def uncorrected_outcome(self) -> Outcome:
        """What the interval alone says, shared_axes the correction for the family."""
        return self._outcome(self.p)

    @property
    def seeds_needed(self) -> int | None:
        """Further seeds that would probably decide it; None where no number of them does, or it is decided."""
        return self.units_needed if is_per_trial(self.comparison.metadata.per) else None

    @property
    def units_needed(self) -> int | None:
        """As `seeds_needed`, of whatever the metric is one per: trials, hosts, nodes. None where over a thousand."""
        if self.outcome != "inconclusive" or self.comparison.ratio is None:
            return None
        return statistics.seeds_needed(self.comparison.ratio, self.expected, self.level)

    def _outcome(self, p: float | None) -> Outcome:
        if self.comparison.ratio is None:
            return "missing"
        if statistics.lies_within(self.comparison.ratio, self.expected):
            return "supported"
        return "refuted" if p is not None and p <= 1 - statistics.LEVEL else "inconclusive"


@dataclass(frozen=True)
class Judgement:
    """A claim and what the records make of it: refuted by any comparison, supported by all of them together."""

    claim: Claim
    outcome: Outcome
    evidence: Sequence[Evidence]


def parsed(claim: Stated) -> Claim:
    """A claim as a grid states it."""
    axis, subject, baseline = pair_of(claim)
    expected, is_ordered = _range(claim.expect), claim.expect.is_ordered
    return Claim(
        claim.name, axis, subject, baseline, claim.where, claim.metric, expected, is_ordered
    )


def pair_of(contrast: Stated | Published) -> tuple[str, Any, Any]:
    """Axis, subject and baseline of what a grid compares; of several axes, tuples of their values."""
    subjects, baselines = zip(*contrast.compare.values(), strict=True)
    if len(subjects) == 1:
        return next(iter(contrast.compare)), subjects[0], baselines[0]
    return ",".join(contrast.compare), subjects, baselines


def judge(claims: Sequence[Claim], summaries: Mapping[str, Sequence[Summary]]) -> list[Judgement]:
    """Hold claims against summaries, given by metric; p-values are adjusted for all claims together."""
    claims = [claim.oriented(summaries[claim.metric][0].metadata) for claim in claims]
    found = [(claim, comparisons_of(claim, summaries[claim.metric])) for claim in claims]
    evidence = [_evidence(claim, c) for claim, comparisons in found for c in comparisons]
    family = statistics.family([each.p for each in evidence])
    corrected = iter(
        replace(each, p_adjusted=member.p_adjusted, level=member.level, family=family.size)
        for each, member in zip(evidence, family.members, strict=True)
    )
    judgements = []
    for claim, comparisons in found:
        own = list(itertools.islice(corrected, len(comparisons)))
        judgements.append(Judgement(claim, _together([each.outcome for each in own]), own))
    return judgements


def comparisons_of(claim: Contrast, summaries: Sequence[Summary]) -> list[Comparison]:
    """Every pair of cells that a claim speaks of."""
    names, conditions = axes_of(claim.axis), Conditions(claim.where)
    apart = VERSION in names
    wanted = [
        (split(s.axes) if apart else dict(s.axes), s) for s in summaries if conditions.holds(s.axes)
    ]
    groups: dict[str, tuple[dict[str, Any], list[tuple[Any, Summary]]]] = {}
    for axes, summary in wanted:
        if all(name in axes for name in names):
            rest = shared_axes(axes, names)
            groups.setdefault(repr(rest), (rest, []))[1].append(
                (value_of(axes, claim.axis), summary)
            )
    pairs = [pair for rest, members in groups.values() for pair in _pairs(claim, rest, members)]
    both = [pair for pair in pairs if pair.subject and pair.baseline]
    return (
        both or pairs
    )  # what the grid leaves out on one side says nothing, unless there is nothing else


def _pairs(
    claim: Contrast, rest: dict[str, Any], members: list[tuple[Any, Summary]]
) -> list[Comparison]:
    cells: dict[str, tuple[Any, list[Summary]]] = {}
    for value, summary in members:  # of one cell as many as kinds of machine
        cells.setdefault(repr(value), (value, []))[1].append(summary)
    subjects, baselines = (
        [cell for cell in cells.values() if _is(cell[0], wanted)]
        for wanted in (claim.subject, claim.baseline)
    )
    if not subjects and not baselines:
        return []
    pairs = itertools.product(
        subjects or [(claim.subject, [])], baselines or [(claim.baseline, [])]
    )
    return [
        comparison
        for (value, one), (base, other) in pairs
        if one is not other
        for comparison in compare_cells(claim.axis, value, base, rest, one, other)
    ]


def _is(value: Any, wanted: Any) -> bool:
    """Whether a value is the one that is wanted; of several axes whether each is."""
    if isinstance(wanted, tuple):
        return all(is_value(part, each) for part, each in zip(value, wanted, strict=True))
    return is_value(value, wanted)


def _evidence(claim: Claim, comparison: Comparison) -> Evidence:
    if comparison.ratio is None or comparison.interval is None:
        return Evidence(comparison, claim.expected)
    return Evidence(
        comparison, claim.expected, statistics.p_value(comparison.ratio, claim.expected)
    )


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    for outcome in ("refuted", "missing", "inconclusive"):
        if outcome in outcomes:
            return outcome
    return "supported" if outcomes else "missing"


def _range(expect: Expectation) -> Range:
    """The ratios, subject's figure by baseline's, that meet an expectation; `faster` as of times."""
    if expect.ratio is not None:
        return Range(*expect.ratio)
    if expect.equivalent is not None:
        return Range(*statistics.equivalence_range(expect.equivalent))
    if expect.faster is not None:
        return Range(0.0, statistics.equivalence_range(expect.faster).low)
    return Range(statistics.equivalence_range(expect.slower or 0.0).high, math.inf)
