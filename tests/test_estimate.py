"""How long the rest will take."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep import catalog
from sweep.estimate import Estimate, Remaining, work

SMALL = {
    "workload": "core",
    "device": "cpu",
    "framework": "a==1",
    "backend": "default",
    "batch_exponent": 0,
    "samples": 100,
}
WORKLOADS = catalog.workloads()
LARGE = SMALL | {"batch_exponent": 6}


def test_nothing_is_promised_before_anything_has_ended() -> None:
    assert Estimate(WORKLOADS).seconds("cell", SMALL) is None
    assert Estimate(WORKLOADS).total_s([("cell", SMALL, 3)]) is None


def test_a_cell_is_judged_by_its_own_trials() -> None:
    estimate = Estimate(WORKLOADS)
    for wall_s in (1.0, 2.0, 30.0):
        estimate.observe("cell", SMALL, wall_s)
    assert estimate.seconds("cell", SMALL) == 2.0
    assert estimate.total_s([("cell", SMALL, 4)]) == 8.0


def test_a_cell_of_very_many_trials_is_judged_by_its_last_ones() -> None:
    """Else each trial that ends would cost more than the one before."""
    estimate = Estimate(WORKLOADS)
    for wall_s in [1.0] * 2000 + [2.0] * 1000:
        estimate.observe("cell", SMALL, wall_s)
    assert estimate.seconds("cell", SMALL) == 2.0


def test_a_larger_batch_is_expected_to_take_longer_than_the_one_seen() -> None:
    estimate = Estimate(WORKLOADS)
    estimate.observe("small", SMALL, 2.0)
    expected = estimate.seconds("large", LARGE)
    assert expected is not None
    assert expected > 10.0


def test_the_same_framework_counts_before_another_one() -> None:
    estimate = Estimate(WORKLOADS)
    estimate.observe("slow", SMALL | {"framework": "b==1"}, 100.0)
    estimate.observe("quick", SMALL, 1.0)
    assert estimate.seconds("other", SMALL | {"backward": "explicit"}) == 1.0
    assert estimate.seconds("third", SMALL | {"framework": "c==1"}) == 50.5


def test_nothing_remains_when_nothing_remains() -> None:
    assert Estimate(WORKLOADS).total_s([]) == 0.0


@dataclass(frozen=True)
class Cell:
    settings: dict[str, Any]


CELLS = {
    f"{framework}{exponent}": Cell(
        SMALL | {"framework": framework, "batch_exponent": exponent, "device": device}
    )
    for framework, device in (("a==1", "cpu"), ("b==1", "cpu"), ("c==1", "gpu"))
    for exponent in range(3)
}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CELLS)), st.sampled_from([1.0, 2.0, 30.0]) | st.none()),
        max_size=40,
    )
)
def test_what_is_kept_up_to_date_is_what_counting_anew_gives(
    events: list[tuple[str, float | None]],
) -> None:
    """Trials end with a time, or without one and are put back; both ways of adding up agree after each."""
    estimate, left = Estimate(WORKLOADS), dict.fromkeys(CELLS, 5)
    remaining = Remaining(estimate, CELLS, left)
    for cell_id, wall_s in events:
        if wall_s is not None:
            estimate.observe(cell_id, CELLS[cell_id].settings, wall_s)
        change = -1 if wall_s is not None and left[cell_id] else 1
        left[cell_id] += change
        remaining.change(cell_id, change)
        anew = estimate.total_s((c, CELLS[c].settings, n) for c, n in left.items() if n)
        assert remaining.total_s() == (None if anew is None else pytest.approx(anew))


def test_the_work_of_a_trial_is_told_by_the_settings_that_its_workload_names():
    @dataclass
    class Workload:
        steps: tuple[str, ...]

    workloads = {"mine": Workload(("rounds", "extra")), "other": Workload(())}
    settings = {"batch_exponent": 3, "rounds": 10, "extra": 2, "samples": 100}

    assert (
        work(settings | {"workload": "mine"}, workloads)
        - work(settings | {"workload": "other"}, workloads)
        == 88
    )
