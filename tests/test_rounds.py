"""What runs next: planned trials, disturbed ones again, then more seeds."""

from __future__ import annotations

from collections.abc import Sequence

from sweep import grid as grids
from sweep.catalog import frameworks, workloads
from sweep.grid import Trial
from sweep.rounds import Rounds
from sweep.status import Status

GRID = "axes: {framework: [reference], batch_exponent: 0, seed: {range: [0, 3]}}"


def trials() -> list[Trial]:
    return list(grids.expand(grids.parse(GRID), frameworks(), workloads()).trials)


def ended(trials: Sequence[Trial], disturbed: Sequence[int] = ()) -> list[dict[str, object]]:
    """Records of these trials; those at the places of `disturbed` are invalid."""
    return [
        {
            "trial_id": trial.id,
            "attempt": trial.attempt,
            "status": Status.INVALID if place in disturbed else Status.OK,
        }
        for place, trial in enumerate(trials)
    ]


def test_planned_trials_run_once_and_that_is_all() -> None:
    planned = trials()
    rounds = Rounds(planned, attempts=3, more=list)
    seen = []
    for each in rounds:
        seen.append((each.trials, each.repeats))
        rounds.learn(ended(each.trials))
    assert seen == [(planned, False)]


def test_disturbed_trials_run_again_as_often_as_they_may() -> None:
    planned = trials()
    rounds = Rounds(planned, attempts=3, more=list)
    seen = []
    for each in rounds:
        seen.append(([(trial.seed, trial.attempt) for trial in each.trials], each.repeats))
        rounds.learn(ended(each.trials, disturbed=range(len(each.trials) // 2)))
    assert seen == [
        ([(0, 1), (1, 1), (2, 1), (3, 1)], False),
        ([(0, 2), (1, 2)], True),
        ([(0, 3)], True),
    ]
    rounds = Rounds(planned, attempts=1, more=list)
    found = []
    for each in rounds:
        found.append(each)
        rounds.learn(ended(each.trials, disturbed=[0]))
    assert len(found) == 1


def test_more_seeds_follow_until_there_are_none_and_are_repeated_too() -> None:
    planned = trials()
    wanted = [planned[2:], planned[:1], []]
    rounds = Rounds(planned[:2], attempts=2, more=lambda: wanted.pop(0))
    seen = []
    for each in rounds:
        seen.append(([trial.seed for trial in each.trials], each.repeats))
        rounds.learn(ended(each.trials, disturbed=[0]))
    assert seen == [
        ([0, 1], False),
        ([0], True),
        ([2, 3], False),
        ([2], True),
        ([0], False),
        ([0], True),
    ]
    assert wanted == []


def test_without_planned_trials_the_first_round_are_more_seeds() -> None:
    wanted = [trials()[:1], []]
    rounds = Rounds([], attempts=3, more=lambda: wanted.pop(0))
    found = []
    for each in rounds:
        found.append(each)
        rounds.learn(ended(each.trials))
    assert [len(each.trials) for each in found] == [1]
    assert list(Rounds([], attempts=3, more=list)) == []
