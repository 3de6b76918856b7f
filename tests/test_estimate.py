"""How long the rest will take."""

from sweep.estimate import Estimate

SMALL = {
    "workload": "core",
    "device": "cpu",
    "framework": "a==1",
    "backend": "default",
    "batch_exponent": 0,
    "samples": 100,
}
LARGE = SMALL | {"batch_exponent": 6}


def test_nothing_is_promised_before_anything_has_ended() -> None:
    assert Estimate().seconds("cell", SMALL) is None
    assert Estimate().total_s([("cell", SMALL, 3)]) is None


def test_a_cell_is_judged_by_its_own_trials() -> None:
    estimate = Estimate()
    for wall_s in (1.0, 2.0, 30.0):
        estimate.observe("cell", SMALL, wall_s)
    assert estimate.seconds("cell", SMALL) == 2.0
    assert estimate.total_s([("cell", SMALL, 4)]) == 8.0


def test_a_larger_batch_is_expected_to_take_longer_than_the_one_seen() -> None:
    estimate = Estimate()
    estimate.observe("small", SMALL, 2.0)
    expected = estimate.seconds("large", LARGE)
    assert expected is not None
    assert expected > 10.0


def test_the_same_framework_counts_before_another_one() -> None:
    estimate = Estimate()
    estimate.observe("slow", SMALL | {"framework": "b==1"}, 100.0)
    estimate.observe("quick", SMALL, 1.0)
    assert estimate.seconds("other", SMALL | {"backward": "explicit"}) == 1.0
    assert estimate.seconds("third", SMALL | {"framework": "c==1"}) == 50.5


def test_nothing_remains_when_nothing_remains() -> None:
    assert Estimate().total_s([]) == 0.0
