"""Influence: a single number that moves a mean is found, and noise is not taken for one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.analysis import influence

TIMES = st.floats(1e-6, 1e4)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def sizes_of(trials: int, count: int) -> np.ndarray:
    return np.full(trials, count)


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_a_sample_a_thousand_times_as_long_or_short_is_found(
    random: np.random.Generator, count: int, factor: float
) -> None:
    samples = 0.1 * np.exp(random.normal(0, 0.02, 3 * count))
    samples[count + 1] *= factor
    found = influence.of_samples(samples, sizes_of(3, count))
    assert found.places.tolist() == [count + 1]
    kept = np.delete(samples, count + 1)
    trials = np.split(kept, [count, 2 * count - 1])
    expected = np.split(samples, 3)
    share = np.mean([t.mean() for t in expected]) / np.mean([t.mean() for t in trials]) - 1
    assert found.share == pytest.approx(share)


def test_several_such_samples_are_found_together(random: np.random.Generator) -> None:
    samples = 0.1 * np.exp(random.normal(0, 0.02, 90))
    samples[[3, 50]] *= 1000
    assert influence.of_samples(samples, sizes_of(3, 30)).places.tolist() == [3, 50]


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
@pytest.mark.parametrize("factor", [1000.0, 1.6])
def test_a_trial_that_is_much_slower_than_the_others_is_found(
    random: np.random.Generator, trials: int, factor: float
) -> None:
    means = np.exp(random.normal(0, 0.02, trials))
    means[-1] *= factor
    found = influence.of_trials(means)
    assert found.places.tolist() == [trials - 1]
    assert found.share == pytest.approx(means.mean() / means[:-1].mean() - 1)


def test_a_trial_is_found_by_the_spread_of_the_others(random: np.random.Generator) -> None:
    means = np.exp(random.normal(0, 0.005, 6))
    assert influence.of_trials(means).places.tolist() == []
    means[2] *= 1.2
    assert influence.of_trials(means).places.tolist() == [2]
    assert influence.of_trials(np.array([1.0, 1.0, 1.0, 1.2])).places.tolist() == [3]
    assert influence.of_trials(np.array([1.0, 1.0, 1.0, 1.005])).places.tolist() == []


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_noise_between_trials_is_rarely_taken_for_influence(
    random: np.random.Generator, trials: int, noise: float
) -> None:
    cells = np.exp(random.normal(0, noise, (300, trials)))
    assert np.mean([len(influence.of_trials(cell).places) > 0 for cell in cells]) <= 0.02


@pytest.mark.parametrize("tails", [3.0, 30.0])
@pytest.mark.parametrize("count", [3, 30])
def test_noise_of_samples_is_rarely_taken_for_influence(
    random: np.random.Generator, tails: float, count: int
) -> None:
    cells = np.exp(0.01 * np.clip(random.standard_t(tails, (200, 3 * count)), -20, 20))
    found = [influence.of_samples(cell, sizes_of(3, count)) for cell in cells]
    assert np.mean([len(each.places) > 0 for each in found]) <= 0.05


@given(st.lists(st.lists(TIMES, min_size=1, max_size=9), min_size=1, max_size=9))
def test_what_is_found_moves_the_mean_by_what_is_said(trials: list[list[float]]) -> None:
    samples, sizes = np.concatenate(trials), np.array([len(trial) for trial in trials])
    found = influence.of_samples(samples, sizes)
    without = influence.without_samples(samples, sizes, found.places)
    whole = influence.without_samples(samples, sizes, influence.NONE.places)
    np.testing.assert_allclose(whole, [np.mean(trial) for trial in trials])
    assert math.isfinite(found.share)
    if len(found.places):
        assert whole.mean() / without.mean() - 1 == pytest.approx(found.share, rel=1e-6, abs=1e-9)
    outlying = influence.of_trials(without)
    assert len(outlying.places) < max(1, len(trials))
