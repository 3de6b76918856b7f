"""Shares: `5%` and `0.05` are one, wherever a share is read, and `5` is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Sweep
from hypothesis import given
from hypothesis import strategies as st
from made_up import keep, record

from sweep import grid
from sweep.errors import SweepError

PLACES = {
    "equivalent": "claims: [{{name: n, compare: {{backward: [explicit, autograd]}}, expect: {{equivalent: {}}}}}]",
    "faster": "claims: [{{name: n, compare: {{backward: [explicit, autograd]}}, expect: {{faster: {}}}}}]",
    "slower": "claims: [{{name: n, compare: {{backward: [explicit, autograd]}}, expect: {{slower: {}}}}}]",
    "interval": "parameters: {{until: {{interval: {}}}}}",
}
OPTIONS = {
    "--margin": ["compare", "study", "--over", "backward"],
    "--max-contention": ["run", "grid.yaml", "--dry-run"],
}


def told(place: str, share: str) -> float | None:
    """The share as the grid holds it."""
    read = grid.parse(PLACES[place].format(share))
    return read.until.interval if read.until else getattr(read.claims[0].expect, place)


def study() -> None:
    rows = [
        record(seed=s, backward=b, mean_s=0.1) for s in range(3) for b in ("autograd", "explicit")
    ]
    keep("results/study", rows)
    Path("grid.yaml").write_text("axes: {framework: reference}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("share", ["5%", "5 %", "0.05", "5e-2", "'5%'", "'0.05'"])
def test_percent_and_fraction_are_the_same_share(place: str, share: str) -> None:
    assert told(place, share) == pytest.approx(0.05)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "share", ["5", "5.0", "1", "-0.1", "-5%", "true", ".nan", "little", "'%'", "null%", "[0.1]"]
)
def test_what_is_no_share_is_refused_where_it_stands(place: str, share: str) -> None:
    with pytest.raises(SweepError, match=f"{place}: ") as raised:
        told(place, share)
    assert raised.value.hint.startswith("write 1%" if share == "1" else "write 5% or 0.05")


@given(st.floats(0.001, 99.9))
def test_a_number_of_percent_is_refused_with_the_share_it_means(percent: float) -> None:
    share = grid.share(f"{percent}%")

    assert share == pytest.approx(percent / 100)
    if percent >= 1:
        with pytest.raises(SweepError) as raised:
            grid.share(percent)
        assert raised.value.hint == f"write {percent:g}% or {percent / 100:g}"


def test_all_of_it_is_no_share_but_can_be_an_excess() -> None:
    assert told("faster", "150%") == 1.5
    for place in ("equivalent", "interval"):
        with pytest.raises(SweepError, match=r"'150%' is all of it, or more"):
            told(place, "150%")
    with pytest.raises(SweepError) as raised:
        told("faster", "1.5")
    assert raised.value.hint == "write 1.5% or 0.015, or 150%"


def test_no_room_at_all_is_refused_where_nothing_could_lie_in_it() -> None:
    assert (told("faster", "0"), told("slower", "0%"), grid.share("0")) == (0, 0, 0)
    for place in ("equivalent", "interval"):
        with pytest.raises(SweepError, match="0 leaves no room"):
            told(place, "0")


@pytest.mark.parametrize("option", OPTIONS)
def test_options_read_shares_as_grids_do(sweep: Sweep, option: str) -> None:
    study()

    for share in ("50%", "0.5", "5 %"):
        assert sweep(*OPTIONS[option], option, share).code in (0, 3)
    for share in ("50", "1000", "nan", "x"):
        said = sweep(*OPTIONS[option], option, share)
        assert said.code == 2
        assert said.err.startswith(f"error: {option}: '{share}' is ")
        assert "hint: write 5" in said.err


def test_a_margin_in_percent_is_the_one_that_is_said(sweep: Sweep) -> None:
    study()

    assert "to within 5 %" in sweep("compare", "study", "--over", "backward", "--margin", "5%").out


def test_any_is_no_limit_to_what_others_may_take(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    study()
    monkeypatch.setenv("SWEEP_MAX_CONTENTION", "any")
    assert sweep(*OPTIONS["--max-contention"]).code == 0

    monkeypatch.setenv("SWEEP_MAX_CONTENTION", "100")
    said = sweep(*OPTIONS["--max-contention"])
    assert (said.code, said.err.splitlines()[1]) == (
        2,
        "hint: write 5% or 0.05, or any for no limit",
    )
