"""Published figures: what somebody else found, beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweep.analysis.claims import comparisons_of, pair_of
from sweep.analysis.comparisons import Comparison, adjusted
from sweep.analysis.statistics import MARGIN, Verdict, equivalence_range
from sweep.analysis.summary import Summary
from sweep.grid.language import Published as Stated
from sweep.records.columns import unit
from sweep.records.stated import Direction

Agreement = Literal["agrees", "opposite", "differs", "open", "missing"]


@dataclass(frozen=True)
class Published:
    """Two figures from elsewhere, of two values of one axis; only their ratio can be held against records."""

    name: str
    axis: str
    subject: Any
    baseline: Any
    where: Mapping[str, Any]
    metric: str
    values: tuple[float, float]
    unit: str

    @property
    def ratio(self) -> float:
        return self.values[0] / self.values[1]

    def verdict(self, direction: Direction) -> Verdict:
        """What the figures say by themselves; how sure they are is not known."""
        low, high = equivalence_range(MARGIN)
        if low <= self.ratio <= high:
            return "equivalent"
        return "faster" if (self.ratio > 1) == (direction == "more") else "slower"


def parsed(entry: Stated) -> Published:
    """Published figures as a grid states them."""
    axis, subject, baseline = pair_of(entry)
    of, (one, other) = entry.unit or unit(entry.metric), entry.values
    return Published(
        entry.name, axis, subject, baseline, entry.where, entry.metric, (one, other), of
    )


def compare_published(
    published: Published, summaries: Sequence[Summary]
) -> list[tuple[Comparison, Agreement]]:
    """The comparisons here that the figures speak of, each with whether it agrees on which one is faster."""
    return [
        (each, _agreement(published, each))
        for each in adjusted(comparisons_of(published, summaries))
    ]


def _agreement(published: Published, comparison: Comparison) -> Agreement:
    """Of verdicts, not of ratios: another machine has other ratios."""
    verdict = comparison.verdict
    if verdict in ("inconclusive", "missing"):
        return "missing" if verdict == "missing" else "open"
    theirs = published.verdict(comparison.metadata.direction)
    if verdict == theirs:
        return "agrees"
    return "differs" if "equivalent" in (verdict, theirs) else "opposite"
