"""What a run found, in a few lines: the verdict on each claim, or the comparison over an axis.

A sweep ends with it. `sweep verify` and `sweep compare` say the same with all of the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.analysis.claims import Evidence, Judgement
    from sweep.analysis.comparisons import Comparison
    from sweep.analysis.run import Run

MOST_LINES = 12
# Nobody starts more seeds than these for one verdict.
_MOST_SEEDS = 50
# What contradicts an expectation, or says that something is worse, comes first.
_CLAIM_ORDER = ("refuted", "inconclusive", "missing", "supported")
_VERDICT_ORDER = ("slower", "faster", "equivalent", "inconclusive", "missing")


def lines(run: Run) -> list[str]:
    """Return at most MOST_LINES lines, the most important first; none if nothing is compared."""
    if run.states_claims:
        ranked = sorted(run.verify(), key=lambda each: _CLAIM_ORDER.index(each.outcome))
        texts = [_claim_line(judgement) for judgement in ranked]
        return _shortened(texts, f"sweep verify {run.results}")
    over = _axis(run)
    if over is None:
        return []
    texts = _comparison_lines(run.compare(over))
    return _shortened(texts, f"sweep compare {run.results} --over {over}")


def _axis(run: Run) -> str | None:
    """Return the framework if it varies, else the first axis whose values are compared."""
    from sweep.analysis.matching import comparable_axes
    from sweep.selection import varying

    axes = comparable_axes(varying([summary.axes for summary in run.summary()]))
    return "framework" if "framework" in axes else next(iter(axes), None)


def _comparison_lines(found: Sequence[Comparison]) -> list[str]:
    from sweep.analysis.wording import sentence, varied_axes

    varied = varied_axes(found)
    return [sentence(comparison, varied) for comparison in sorted(found, key=_importance)]


def _importance(comparison: Comparison) -> tuple[int, float]:
    """Rank by verdict, and within one by the size of the difference."""
    ratio = comparison.ratio.estimate if comparison.ratio else 1.0
    size = abs(math.log(ratio)) if ratio > 0 else math.inf
    return _VERDICT_ORDER.index(comparison.verdict), -size


def _claim_line(judgement: Judgement) -> str:
    telling = [each for each in judgement.evidence if each.outcome == judgement.outcome]
    if not telling:
        return f"{judgement.outcome}: {judgement.claim.name}: no records"
    if judgement.outcome == "refuted":
        said = _where(telling[0])
    elif judgement.outcome == "inconclusive":
        said = f"{_count(telling, judgement)} not decided; {_next_step(telling)}"
    else:
        said = _ratios(telling)
    return f"{judgement.outcome}: {judgement.claim.name}: {said}"


def _where(evidence: Evidence) -> str:
    """Return where a comparison holds and its ratio."""
    from sweep.analysis.wording import circumstances, ratio_text

    comparison = evidence.comparison
    return f"{circumstances(comparison.axes).strip()}: {ratio_text(comparison)}"


def _count(telling: Sequence[Evidence], judgement: Judgement) -> str:
    all_of_them = len(judgement.evidence)
    return f"{len(telling)} of {counted(all_of_them, 'comparison')}"


def _ratios(telling: Sequence[Evidence]) -> str:
    """Return the ratio of one comparison, or the range of those of several."""
    from sweep.analysis.quantities import factor
    from sweep.analysis.wording import ratio_text

    ratios = [each.comparison.ratio.estimate for each in telling if each.comparison.ratio]
    if len(telling) == 1 or not ratios:
        return ratio_text(telling[0].comparison)
    span = f"{factor(min(ratios))}× to {factor(max(ratios))}×"
    return f"{counted(len(telling), 'comparison')}, ratios {span}"


def _next_step(open_: Sequence[Evidence]) -> str:
    """Return what would decide all of these, as nobody starts hundreds of seeds."""
    needed = [each.units_needed for each in open_]
    known = [each for each in needed if each is not None]
    if len(known) == len(needed) and max(known) <= _MOST_SEEDS:
        return f"--add-seeds {max(known)} would tell"
    return "more samples a trial, an idle machine (sweep doctor) or a wider margin would tell"


def _shortened(texts: list[str], command: str) -> list[str]:
    """Return the lines that fit, and where the others are."""
    if len(texts) <= MOST_LINES:
        return texts
    kept = texts[: MOST_LINES - 1]
    return [*kept, f"and {len(texts) - len(kept)} more: {command}"]
