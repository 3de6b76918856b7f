"""The search of a bisection, on simulated values whose levels are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytest

from sweep import bisection
from sweep.bisection import Found, Observed, Step, advance

MARGIN = 0.05
Noise = Callable[[np.random.Generator], float]


class Machine:
    """Values of known levels (logarithms of their figures), measured as a search asks for them.

    Each block has a drift of its own. Trials of values in `failing` give no figures; of the others
    a share of `lost` gives none.
    """

    def __init__(
        self,
        levels: Sequence[float],
        spread: float = 0.01,
        failing: Collection[int] = (),
        lost: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.levels, self.spread, self.failing, self.lost = levels, spread, failing, lost
        self.random = np.random.default_rng(seed)
        self.observed = [Observed() for _ in levels]
        self.drifts: dict[int, float] = {}
        self.steps: list[Step] = []
        self.trials = 0

    def run(self, step: Step) -> None:
        self.steps.append(step)
        for value in step.values:
            for seed in step.seeds:
                if seed not in self.observed[value].ended:
                    self.run_trial(value, seed)

    def run_trial(self, value: int, seed: int) -> None:
        self.trials += 1
        known = self.observed[value]
        drift = self.drifts.setdefault(seed, self.random.normal(0, 0.02))
        figure = math.exp(self.levels[value] + drift + self.random.normal(0, self.spread))
        fails = value in self.failing or self.random.random() < self.lost
        figures = known.figures if fails else {**known.figures, seed: figure}
        self.observed[value] = Observed(figures, {*known.ended, seed}, known.machines)

    def search(self, margin: float = MARGIN, most_blocks: int = bisection.MOST_BLOCKS) -> Found:
        while isinstance(step := advance(self.observed, margin, most_blocks), Step):
            self.run(step)
        return step


def changing(count: int, **at: float) -> list[float]:
    """Levels that change by these ratios: with `at_5=1.1` by 1.1 from value 5 on."""
    levels = np.zeros(count)
    for place, ratio in at.items():
        levels[int(place.removeprefix("at_")) :] += math.log(ratio)
    return list(levels)


def places(found: Found) -> list[tuple[int, int]]:
    return sorted((change.before, change.after) for change in found.changes)


def test_one_change_is_found_wherever_it_is():
    for place in range(1, 9):
        found = Machine(changing(9, **{f"at_{place}": 1.2})).search()

        assert places(found) == [(place - 1, place)]
        assert not found.open
        (change,) = found.changes
        interval = change.ratio.interval()
        assert interval.low < 1.2 < interval.high


def test_a_speed_up_is_a_change_like_any_other():
    found = Machine(changing(20, at_13=0.8)).search()

    assert places(found) == [(12, 13)]
    assert found.changes[0].ratio.estimate == pytest.approx(0.8, rel=0.05)


def test_several_changes_are_found_slow_downs_and_speed_ups_among_them():
    machine = Machine(changing(60, at_7=1.3, at_8=1.2, at_30=0.8, at_55=1.15))

    assert places(machine.search()) == [(6, 7), (7, 8), (29, 30), (54, 55)]


def test_without_a_difference_of_the_ends_nothing_is_searched_and_the_interval_says_so():
    machine = Machine([0.0] * 30)
    found = machine.search()

    assert found.ends.finding == "same"
    assert not found.changes
    assert {value for step in machine.steps for value in step.values} == {0, 29}
    assert found.ends.ratio.interval().low < 1 < found.ends.ratio.interval().high


def test_ends_that_the_noise_hides_stay_open_after_the_most_blocks():
    machine = Machine(changing(30, at_10=1.08), spread=0.3)
    found = machine.search(most_blocks=12)

    assert found.ends.finding == "open"
    assert found.ends.ratio.pairs == 12
    assert machine.trials == 24


def test_two_neighbours_are_all_there_is_to_search():
    assert places(Machine(changing(2, at_1=1.2)).search()) == [(0, 1)]


@pytest.mark.parametrize("failing", [{5}, {4, 5, 6}, {9, 10, 11}, {8, 10, 12}])
def test_a_value_that_cannot_be_measured_is_stepped_around(failing):
    found = Machine(changing(20, at_11=1.2), failing=failing).search()

    before = max(value for value in range(11) if value not in failing)
    after = min(value for value in range(11, 20) if value not in failing)
    assert places(found) == [(before, after)]
    assert set(found.fruitless) <= failing


def test_a_value_that_cannot_be_built_is_tried_alone_three_times_and_no_more():
    machine = Machine(changing(20, at_11=1.2), failing={10})
    machine.search()

    assert len(machine.observed[10].ended) == 3
    assert all(step.values == (10,) for step in machine.steps if 10 in step.values)


def test_where_all_between_cannot_be_measured_the_ends_are_the_neighbours():
    found = Machine(changing(6, at_3=1.2), failing={1, 2, 3, 4}).search()

    assert places(found) == [(0, 5)]
    assert found.fruitless == (1, 2, 3, 4)


@pytest.mark.parametrize("end", [0, 9])
def test_an_end_that_cannot_be_measured_ends_the_search(end):
    found = Machine(changing(10, at_3=1.2), failing={end}).search()

    assert found.fruitless == (end,)
    assert found.ends.ratio is None
    assert not found.changes


def test_a_trial_that_is_lost_now_and_then_costs_a_block_and_no_value():
    found = Machine(changing(20, at_11=1.2), lost=0.1).search()

    assert places(found) == [(10, 11)]
    assert not found.fruitless


def test_a_block_whose_trials_ran_on_different_machines_does_not_count():
    machine = Machine(changing(9, at_4=1.2))
    for seed in range(3):
        for value, kind in ((0, "old"), (8, "new")):
            machine.run_trial(value, seed)
            known = machine.observed[value]
            machine.observed[value] = Observed(
                known.figures, known.ended, {**known.machines, seed: kind}
            )

    step = advance(machine.observed, MARGIN)

    assert step == Step((0, 8), (0, 1, 2, 3, 4, 5, 6))


def test_a_change_that_is_spread_over_many_values_is_said_to_be():
    found = Machine(list(np.linspace(0, 0.1, 30)), spread=0.002).search()

    assert not found.changes
    assert found.ends.finding == "differs"
    assert any("spread" in reason for _, reason in found.open)


def test_a_search_that_is_killed_anywhere_goes_on_and_finds_the_same():
    whole = Machine(changing(12, at_5=1.2))
    expected = whole.search()
    broken = Machine(changing(12, at_5=1.2))
    broken.drifts = whole.drifts
    figures = whole.observed

    for value, known in enumerate(
        figures
    ):  # one trial at a time has a record, and each time it is asked anew
        for seed in sorted(known.ended):
            assert isinstance(advance(broken.observed, MARGIN), Step)
            so_far = broken.observed[value]
            broken.observed[value] = Observed(
                {**so_far.figures, seed: known.figures[seed]}, {*so_far.ended, seed}
            )

    assert advance(broken.observed, MARGIN) == expected


def test_records_that_are_there_already_are_used():
    fresh = Machine(changing(12, at_5=1.2))
    fresh.search()
    known = Machine(changing(12, at_5=1.2))
    for value in range(12):
        for seed in range(6):
            known.run_trial(value, seed)
    before = known.trials

    known.search()

    assert known.trials - before < fresh.trials


def test_neighbours_are_measured_in_the_same_blocks_and_proven_in_blocks_of_their_own():
    machine = Machine(changing(12, at_5=1.2))
    found = machine.search()
    first, *_, last = machine.steps

    assert first.values == (0, 11)
    assert last.values == (4, 5)
    assert not set(last.seeds) & {
        seed for step in machine.steps if step.values != (4, 5) for seed in step.seeds
    }
    assert {len(step.values) for step in machine.steps[1:] if step.values != (4, 5)} == {1, 3}
    assert found.changes[0].ratio.pairs == len(last.seeds)


SCENARIOS = {
    "constant": [0.0] * 30,
    "a change at the margin": changing(30, at_10=1.05),
    "one change": changing(30, at_10=1.15),
    "several changes": changing(30, at_4=1.3, at_11=0.85, at_25=1.12),
    "drift": list(np.linspace(0, 0.3, 30)),
}


@pytest.mark.parametrize("levels", SCENARIOS.values(), ids=SCENARIOS)
def test_a_search_names_a_false_culprit_in_at_most_one_of_twenty_searches(levels):
    searches, false = 40, 0
    for seed in range(searches):
        found = Machine(levels, spread=0.015, seed=seed).search(most_blocks=13)
        steps = [abs(levels[after] - levels[before]) for before, after in places(found)]
        false += any(step <= math.log1p(MARGIN) + 1e-9 for step in steps)

    assert false <= 2


def test_it_takes_a_third_of_the_trials_of_measuring_every_value_as_surely():
    """As surely: each pair of neighbours tested at a level that holds for all pairs together."""
    count, searches = 60, 20
    taken, hits = 0, 0
    for seed in range(searches):
        machine = Machine(changing(count, **{f"at_{2 * seed + 5}": 1.15}), seed=seed)
        hits += places(machine.search()) == [(2 * seed + 4, 2 * seed + 5)]
        taken += machine.trials

    assert hits == searches
    assert taken / searches < count * fewest_blocks(count, 0.01, 1.15) / 3


def fewest_blocks(count: int, spread: float, ratio: float) -> int:
    """Blocks of every value that prove the one change among its pairs nine times of ten."""
    from sweep.analysis import statistics

    level = 1 - bisection.LEVEL / (count - 1)
    same = statistics.equivalence_range(MARGIN)
    pair = spread * math.sqrt(2)
    return next(
        n
        for n in range(3, 99)
        if statistics.power(math.log(ratio), pair, n, same, level=level) >= 0.9
    )
