"""What a sweep ends with: the verdict on each claim, or the comparison over an axis."""

from __future__ import annotations

from typing import Any

import pytest
from commands import Sweep
from made_up import keep, record

from sweep.analysis.run import Run
from sweep.cli import findings

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"
AXES = f"name: r\naxes: {{framework: [{CHAINER}, {TORCH}], backward: [autograd, explicit]}}\n"
CLAIMS = """\
claims:
  - {name: torch is faster, compare: {framework: [torch, chainer]}, expect: {faster: 0.05}}
  - {name: it is slower, compare: {framework: [torch, chainer]}, expect: {slower: 0.05}}
  - {name: jax is faster, compare: {framework: [jax, chainer]}, expect: {faster: 0.05}}
"""


@pytest.fixture(autouse=True)
def _there(sweep: Sweep) -> None:
    """In a folder of this test's own."""


def records(seeds: int = 3, **means: float) -> list[dict[str, Any]]:
    """Chainer takes 0.1 s; torch what `means` says for each batch exponent."""
    exponents = {int(name.removeprefix("b")): mean_s for name, mean_s in means.items()}
    return [
        record(seed=s, framework=f, batch_exponent=b, mean_s=mean_s if f == TORCH else 0.1)
        for f in (TORCH, CHAINER)
        for b, mean_s in exponents.items()
        for s in range(seeds)
    ]


def lines(kept: list[dict[str, Any]], grid: str = AXES) -> list[str]:
    keep("results/r", kept, grid)
    return findings.lines(Run("results/r"))


def test_each_claim_has_its_verdict_and_the_refuted_come_first() -> None:
    refuted, missing, supported = lines(records(b0=0.05, b1=0.04), AXES + CLAIMS)

    assert refuted.startswith("refuted: it is slower: at batch ")
    assert missing == "missing: jax is faster: jax has no records there"
    assert supported.startswith("supported: torch is faster: 2 comparisons, ratios 0.4")


def test_an_open_claim_says_how_much_is_open_and_what_would_tell() -> None:
    (open_,) = lines(records(2, b0=0.05, b1=0.099), AXES + CLAIMS.split("  - {name: it")[0])

    assert open_.startswith("inconclusive: torch is faster: ")
    assert "of 2 comparisons not decided; " in open_
    assert "would tell" in open_


def test_advice_is_never_a_number_of_seeds_that_nobody_would_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "_MOST_SEEDS", 10)
    text = AXES + CLAIMS.split("  - {name: it")[0].replace("0.05", "0.002")
    (open_,) = lines(records(3, b0=0.0998), text)

    assert open_.startswith("inconclusive")
    assert "--add-seeds" not in open_
    assert "a wider margin" in open_


def test_without_claims_the_frameworks_are_compared_and_the_largest_difference_comes_first() -> (
    None
):
    first, second = lines(records(b0=0.05, b1=0.02))

    assert first.startswith("torch 2.13.0 is 4.96×")
    assert "at batch 2" in first
    assert "at batch 1" in second


def test_without_frameworks_the_first_axis_of_two_values_is_compared() -> None:
    kept = [
        record(seed=s, backward=b, mean_s=0.1 if b == "autograd" else 0.2)
        for b in ("autograd", "explicit")
        for s in range(3)
    ]

    (only,) = lines(kept)
    assert only.startswith("the explicit backward is ")


def test_cells_that_are_no_choice_are_not_compared() -> None:
    assert lines([each for each in records(b0=0.05, b1=0.1) if each["framework"] == "torch"]) == []


def test_more_than_a_dozen_are_cut_short_and_the_command_is_named() -> None:
    many = {f"b{exponent}": 0.05 for exponent in range(15)}
    found = lines(records(**many))

    assert len(found) == findings.MOST_LINES
    assert found[-1].startswith("and 4 more: sweep compare ")
    assert found[-1].endswith(" --over framework")
