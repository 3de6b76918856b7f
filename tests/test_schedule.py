"""The plan: randomised complete blocks, less what is done."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep import grid, schedule
from sweep.grid import Cell, Resources, Trial
from sweep.status import Retry, Status, retry_for

SHARED = Resources()


def trials_of(cells, seeds):
    made = [Cell(f"{n:012x}", f"cell-{n}", {"batch_exponent": n}, {}) for n in range(cells)]
    return [Trial(f"{cell.id}-{seed}", cell, seed, SHARED) for cell in made for seed in seeds]


UNHURRIED = settings(deadline=None, max_examples=60)
MANY = st.builds(trials_of, st.integers(1, 12), st.sets(st.integers(0, 9), min_size=1).map(sorted))


@UNHURRIED
@given(MANY)
def test_each_block_holds_every_cell_once(trials):
    blocks = defaultdict(list)
    for trial in schedule.plan(trials):
        blocks[trial.block].append(trial)

    cells = {trial.cell.id for trial in trials}
    for block in blocks.values():
        assert sorted(trial.cell.id for trial in block) == sorted(cells)
        assert len({trial.seed for trial in block}) == 1


@UNHURRIED
@given(MANY)
def test_blocks_follow_one_another_and_positions_count_through(trials):
    planned = schedule.plan(trials)

    assert [trial.position for trial in planned] == list(range(len(trials)))
    assert [trial.block for trial in planned] == sorted(trial.block for trial in planned)
    assert {trial.id for trial in planned} == {trial.id for trial in trials}


@UNHURRIED
@given(MANY, st.randoms(use_true_random=False))
def test_the_plan_is_the_same_in_whatever_order_the_trials_come(trials, random):
    assert schedule.plan(random.sample(trials, len(trials))) == schedule.plan(trials)


@UNHURRIED
@given(MANY, st.data())
def test_what_remains_keeps_order_block_and_position_of_the_whole_plan(trials, data):
    whole = schedule.plan(trials)
    done = data.draw(st.sets(st.sampled_from(whole).map(lambda trial: trial.id)))

    left = schedule.plan(trials, dict.fromkeys(done, ("ok", 1)))

    assert left == [trial for trial in whole if trial.id not in done]


@UNHURRIED
@given(MANY, st.data())
def test_whatever_is_taken_out_of_a_grid_the_rest_keeps_its_order(trials, data):
    kept = data.draw(st.sets(st.sampled_from(trials).map(lambda trial: trial.id)))

    part = schedule.plan([trial for trial in trials if trial.id in kept])

    assert [trial.id for trial in part] == [
        trial.id for trial in schedule.plan(trials) if trial.id in kept
    ]


def test_the_order_is_another_in_every_block_and_under_every_order_number():
    trials = trials_of(20, [0, 1])

    orders = [
        [t.cell.id for t in schedule.plan(trials, order=order) if t.block == b]
        for order in (0, 1)
        for b in (0, 1)
    ]

    assert len({tuple(order) for order in orders}) == 4


def test_every_place_in_a_block_is_as_likely_for_every_cell():
    """Chi-squared with 9 degrees of freedom; beyond 27.9 by chance once in a thousand drawings, and this is one."""
    trials = trials_of(10, range(2000))
    counts = [0] * 10
    for place, trial in enumerate(schedule.plan(trials)):
        counts[place % 10] += trial.cell.axes["batch_exponent"] == 3

    assert sum((count - 200) ** 2 / 200 for count in counts) < 27.9


def test_trials_are_tried_again_where_their_status_is_to_be_and_attempts_go_on():
    trials = trials_of(4, [0])
    statuses = {trials[0].id: ("ok", 1), trials[1].id: ("failed", 1), trials[2].id: ("timeout", 3)}

    left = schedule.plan(trials, statuses, retry={"timeout"})

    assert {trial.cell.name: trial.attempt for trial in left} == {"cell-2": 4, "cell-3": 1}


def test_cells_with_seeds_of_their_own_are_in_the_blocks_of_those_seeds():
    one, other = trials_of(2, [0, 1])[:2], trials_of(2, [1, 2])[2:]

    planned = schedule.plan([*one, *other])

    assert [(t.block, t.cell.name) for t in planned if t.block != 1] == [
        (0, "cell-0"),
        (2, "cell-1"),
    ]
    assert {t.cell.name for t in planned if t.block == 1} == {"cell-0", "cell-1"}


def test_a_seed_added_to_a_grid_comes_as_a_new_block_after_the_old_ones():
    class Framework:
        package, devices, backends, is_any_package = "", ("cpu",), {"default": None}, False

        def unsupported(self, version, backend, device):
            return None

    class Workload:
        parameters, choices, least, exclusive = {"samples": 3}, {}, {}, True
        without, step = frozenset(), None

    def planned(read):
        return schedule.plan(grid.expand(read, {"a": Framework()}, {"core": Workload()}).trials)

    read = grid.parse("axes: {framework: a, batch_exponent: {range: [0, 9]}}")

    assert planned(read.add_seeds(2))[:50] == planned(read)
    assert {trial.block for trial in planned(read.add_seeds(2))[50:]} == {5, 6}


@pytest.mark.parametrize(
    ("statuses", "wanted"),
    [
        (["ok"], None),
        ([], None),
        (["ok", "timeout"], "timeout"),
        (["invalid"], "invalid"),
        (["crashed", "oom", "env_failed"], "failed"),
        (["crashed", "timeout"], "all"),
        (["a status of a later version"], "failed"),
    ],
)
def test_the_narrowest_retry_is_the_one_that_is_advised(statuses, wanted) -> None:
    assert retry_for(statuses) == wanted


def test_every_status_but_ok_is_run_again_by_its_own_retry_and_by_all() -> None:
    for status in Status:
        retries = {retry for retry in Retry if status in retry.statuses}
        assert retries == ({status.retry, Retry.ALL} if status is not Status.OK else set())
