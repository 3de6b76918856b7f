"""Published figures: results from elsewhere, compared with what this run measured."""

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
from sweep.records.declared import Direction

Agreement = Literal["agrees", "opposite", "differs", "open", "missing"]


@dataclass(frozen=True)
class Published:
    """Two figures from elsewhere, of two values of one axis.

    Only their ratio is comparable with records, since it was measured on another machine.
    """

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
        """The subject's figure divided by the baseline's."""
        return self.values[0] / self.values[1]

    def verdict(self, direction: Direction) -> Verdict:
        """Return the verdict of the figures alone, whose uncertainty is unknown."""
        low, high = equivalence_range(MARGIN)
        if low <= self.ratio <= high:
            return "equivalent"
        return "faster" if (self.ratio > 1) == (direction == "more") else "slower"


def parsed(entry: Stated) -> Published:
    """Return the published figures of a grid's entry."""
    axis, subject, baseline = pair_of(entry)
    unit_of_values, (one, other) = entry.unit or unit(entry.metric), entry.values
    return Published(
        entry.name, axis, subject, baseline, entry.where, entry.metric, (one, other), unit_of_values
    )


def compare_published(
    published: Published, summaries: Sequence[Summary]
) -> list[tuple[Comparison, Agreement]]:
    """Return this run's comparisons of the same values, and whether each agrees."""
    return [
        (each, _agreement(published, each))
        for each in adjusted(comparisons_of(published, summaries))
    ]


def _agreement(published: Published, comparison: Comparison) -> Agreement:
    """Return whether the verdicts agree; ratios differ between machines and are not compared."""
    verdict = comparison.verdict
    if verdict in ("inconclusive", "missing"):
        return "missing" if verdict == "missing" else "open"
    theirs = published.verdict(comparison.metadata.direction)
    if verdict == theirs:
        return "agrees"
    return "differs" if "equivalent" in (verdict, theirs) else "opposite"
