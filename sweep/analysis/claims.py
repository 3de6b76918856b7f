"""Claims: hypotheses that a grid states, tested against the records."""

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
    """Two values of an axis, all else being equal, in the cells that meet `where`.

    `axis` may name several axes, as in `framework,backend`. Then `subject` and `baseline` are
    tuples of their values.
    """

    @property
    def axis(self) -> str:
        """The axis, or several joined by commas."""

    @property
    def subject(self) -> Any:
        """The value in the numerator of the ratio."""

    @property
    def baseline(self) -> Any:
        """The value in the denominator of the ratio."""

    @property
    def where(self) -> Mapping[str, Any]:
        """The conditions on cells."""


@dataclass(frozen=True)
class Claim:
    """The claim that the ratio of subject to baseline lies in `expected`, all else being equal.

    `is_ordered` means that the claim expects one side to be faster. `expected` is then the range
    for a time. Only the records know whether more or less of a metric is better, so `oriented`
    inverts the range for other metrics when the claim is judged.
    """

    name: str
    axis: str
    subject: Any
    baseline: Any
    where: Mapping[str, Any]
    metric: str
    expected: Range
    is_ordered: bool = False

    def oriented(self, metadata: ColumnMetadata) -> Claim:
        """Return the claim with its range for this metric.

        Raises SweepError where neither more nor less of the metric is better.
        """
        if not self.is_ordered or metadata.direction == "less":
            return self
        if metadata.direction == "none":
            raise SweepError(
                f"claim {self.name!r} says what is faster, "
                f"and neither more nor less {self.metric} is better",
                "expect equivalent or ratio, or choose another metric, see docs/results.md",
            )
        low, high = self.expected
        inverted = Range(1 / high, math.inf if low == 0 else 1 / low)
        return replace(self, expected=inverted)

    @property
    def expectation(self) -> str:
        """The expected range in words: `ratio over 0.9 and under 1.1`."""
        low, high = self.expected
        bounds = [f"over {low:.4g}"] if low > 0 else []
        bounds += [f"under {high:.4g}"] if high < math.inf else []
        return f"ratio {' and '.join(bounds)}"


@dataclass(frozen=True)
class Evidence:
    """One comparison that a claim covers, and its outcome.

    `p` is the p-value of the claim's range. `p_adjusted` is adjusted for the family of all
    comparisons that the claims of the grid cover, and `family` is the size of that family.
    `level` is that of the interval that would refute the claim within the family.
    """

    comparison: Comparison
    expected: Range
    p: float | None = None
    p_adjusted: float | None = None
    level: float = statistics.LEVEL
    family: int = 1

    @property
    def outcome(self) -> Outcome:
        """The outcome after correction for the family."""
        return self._outcome(self.p_adjusted)

    @property
    def uncorrected_outcome(self) -> Outcome:
        """The outcome of the interval alone, without the correction for the family."""
        return self._outcome(self.p)

    @property
    def seeds_needed(self) -> int | None:
        """Further seeds that decide with 80 % probability; None if none do, or it is decided."""
        return self.units_needed if is_per_trial(self.comparison.metadata.per) else None

    @property
    def units_needed(self) -> int | None:
        """As `seeds_needed`, in units of replication of the metric: trials, hosts or nodes."""
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
    """A claim and its outcome.

    Any comparison can refute a claim; only all comparisons together can support it.
    """

    claim: Claim
    outcome: Outcome
    evidence: Sequence[Evidence]


def parsed(claim: Stated) -> Claim:
    """Return the claim of a grid's entry."""
    axis, subject, baseline = pair_of(claim)
    expected, is_ordered = _range(claim.expect), claim.expect.is_ordered
    return Claim(
        claim.name, axis, subject, baseline, claim.where, claim.metric, expected, is_ordered
    )


def pair_of(contrast: Stated | Published) -> tuple[str, Any, Any]:
    """Return axis, subject and baseline of a grid's entry; tuples of values for several axes."""
    subjects, baselines = zip(*contrast.compare.values(), strict=True)
    if len(subjects) == 1:
        return next(iter(contrast.compare)), subjects[0], baselines[0]
    return ",".join(contrast.compare), subjects, baselines


def judge(claims: Sequence[Claim], summaries: Mapping[str, Sequence[Summary]]) -> list[Judgement]:
    """Judge claims by summaries, given by metric; p-values are adjusted for all claims together."""
    claims = [claim.oriented(summaries[claim.metric][0].metadata) for claim in claims]
    covered = [(claim, comparisons_of(claim, summaries[claim.metric])) for claim in claims]
    evidence = [_evidence(claim, c) for claim, comparisons in covered for c in comparisons]
    family = statistics.family([each.p for each in evidence])
    corrected = iter(
        replace(each, p_adjusted=member.p_adjusted, level=member.level, family=family.size)
        for each, member in zip(evidence, family.members, strict=True)
    )
    judgements = []
    for claim, comparisons in covered:
        own = list(itertools.islice(corrected, len(comparisons)))
        judgements.append(Judgement(claim, _combined([each.outcome for each in own]), own))
    return judgements


def comparisons_of(claim: Contrast, summaries: Sequence[Summary]) -> list[Comparison]:
    """Return the comparison of every pair of cells that a claim covers."""
    names, conditions = axes_of(claim.axis), Conditions(claim.where)
    has_version = VERSION in names
    groups: dict[str, tuple[dict[str, Any], list[tuple[Any, Summary]]]] = {}
    for summary in summaries:
        axes = split(summary.axes) if has_version else dict(summary.axes)
        if conditions.holds(summary.axes) and all(name in axes for name in names):
            rest = shared_axes(axes, names)
            member = (value_of(axes, claim.axis), summary)
            groups.setdefault(repr(rest), (rest, []))[1].append(member)
    pairs = [pair for rest, members in groups.values() for pair in _pairs(claim, rest, members)]
    # A cell that the grid leaves out on one side is no evidence, unless there is nothing else.
    complete = [pair for pair in pairs if pair.subject and pair.baseline]
    return complete or pairs


def _pairs(
    claim: Contrast, rest: dict[str, Any], members: list[tuple[Any, Summary]]
) -> list[Comparison]:
    cells: dict[str, tuple[Any, list[Summary]]] = {}
    # A cell has one summary for each kind of machine.
    for value, summary in members:
        cells.setdefault(repr(value), (value, []))[1].append(summary)
    subjects, baselines = (
        [cell for cell in cells.values() if _matches(cell[0], wanted)]
        for wanted in (claim.subject, claim.baseline)
    )
    if not subjects and not baselines:
        return []
    # A side without cells stands as missing beside each cell of the other side.
    pairs = itertools.product(
        subjects or [(claim.subject, [])], baselines or [(claim.baseline, [])]
    )
    return [
        comparison
        for (value, one), (base, other) in pairs
        if one is not other
        for comparison in compare_cells(claim.axis, value, base, rest, one, other)
    ]


def _matches(value: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one; for several axes, whether each is."""
    if isinstance(wanted, tuple):
        return all(is_value(part, each) for part, each in zip(value, wanted, strict=True))
    return is_value(value, wanted)


def _evidence(claim: Claim, comparison: Comparison) -> Evidence:
    if comparison.ratio is None or comparison.interval is None:
        return Evidence(comparison, claim.expected)
    p = statistics.p_value(comparison.ratio, claim.expected)
    return Evidence(comparison, claim.expected, p)


def _combined(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a claim from those of its comparisons."""
    # From the strongest to the weakest evidence against the claim.
    for outcome in ("refuted", "missing", "inconclusive"):
        if outcome in outcomes:
            return outcome
    return "supported" if outcomes else "missing"


def _range(expect: Expectation) -> Range:
    """Return the ratios of subject to baseline that meet an expectation; `faster` as for a time."""
    if expect.ratio is not None:
        return Range(*expect.ratio)
    if expect.equivalent is not None:
        return Range(*statistics.equivalence_range(expect.equivalent))
    if expect.faster is not None:
        return Range(0.0, statistics.equivalence_range(expect.faster).low)
    return Range(statistics.equivalence_range(expect.slower or 0.0).high, math.inf)
