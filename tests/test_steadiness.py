"""Steadiness: trends and steps are seen however steep they are, and noise is neither."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.analysis.steadiness import (
    change_points,
    screen,
    steady_state,
    trend,
    trend_of_all,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def course(random: np.random.Generator, *levels: tuple[int, float]) -> np.ndarray:
    level = np.concatenate([np.full(count, factor) for count, factor in levels])
    return level * np.exp(random.normal(0, 0.01, len(level)))


@pytest.mark.parametrize(
    ("levels", "kind", "start"),
    [
        ([(100, 1.0)], "flat", 0),
        ([(20, 1.3), (80, 1.0)], "warm-up", 20),
        ([(60, 1.0), (40, 1.2)], "slowdown", 60),
        ([(90, 1.0), (10, 1.3)], "none", 90),
        ([(8, 1.0)], "unknown", 0),
    ],
)
def test_processes_are_classified_by_how_they_settle(
    random: np.random.Generator, levels: list[tuple[int, float]], kind: str, start: int
) -> None:
    found = steady_state(course(random, *levels))
    assert found.kind == kind
    assert abs(found.start - start) <= 1


def test_single_outliers_change_no_level(random: np.random.Generator) -> None:
    samples = course(random, (100, 1.0))
    samples[::17] *= 3
    assert steady_state(samples).kind == "flat"


def test_long_courses_are_cut_where_they_change(random: np.random.Generator) -> None:
    (cut,) = change_points(course(random, (3000, 1.2), (7000, 1.0)))
    assert abs(cut - 3000) <= 20


def autoregressive(random: np.random.Generator, correlation: float, count: int) -> np.ndarray:
    noise = random.normal(0, 1, count + 100)
    for i in range(1, len(noise)):
        noise[i] += correlation * noise[i - 1]
    return noise[100:]


def with_outliers(random: np.random.Generator, count: int) -> np.ndarray:
    hit = random.random(count) < 0.03
    return random.normal(0, 1, count) + hit * random.uniform(10, 40, count)


NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda random, count: random.normal(0, 1, count),
    "t with two degrees of freedom": lambda random, count: random.standard_t(2, count),
    "exponential": lambda random, count: random.exponential(1, count),
    "outliers": with_outliers,
    "correlated by 0.3": lambda random, count: autoregressive(random, 0.3, count),
    "correlated by 0.5": lambda random, count: autoregressive(random, 0.5, count),
    "correlated by 0.8": lambda random, count: autoregressive(random, 0.8, count),
}
MOST_FALSE = {"normal": 0.01, "correlated by 0.5": 0.07, "correlated by 0.8": 0.25}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("count", [10, 50])
def test_steady_processes_are_rarely_called_unsteady(
    random: np.random.Generator, noise: str, count: int
) -> None:
    rows = [np.exp(0.02 * NOISES[noise](random, count)) for _ in range(100)]
    kinds = [steady_state(row).kind for row in rows]
    assert sum(kind != "flat" for kind in kinds) <= MOST_FALSE.get(noise, 0.03) * 100


@pytest.mark.parametrize("noise", NOISES)
def test_steady_processes_are_rarely_said_to_change_together(
    random: np.random.Generator, noise: str
) -> None:
    cells = [[np.exp(0.02 * NOISES[noise](random, 20)) for _ in range(5)] for _ in range(100)]
    most = 0.1 if noise == "correlated by 0.8" else 0.02
    assert np.mean([trend_of_all(cell).is_sure() for cell in cells]) <= most


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "straight": lambda along: along,
    "ever faster": lambda along: along**2,
    "ever slower": np.sqrt,
    "towards a limit": lambda along: 1 - np.exp(-3 * along),
}


def rising(
    random: np.random.Generator, shape: str, rise: float, count: int, noise: float
) -> np.ndarray:
    level = 1 + rise * SHAPES[shape](np.linspace(0, 1, count))
    return level * np.exp(noise * random.normal(0, 1, count))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [20, 50])
@pytest.mark.parametrize("rise", [0.05, 0.5, 1.0, 10.0])
def test_a_trend_is_seen_however_steep_it_is(
    random: np.random.Generator, shape: str, rise: float, count: int
) -> None:
    noise = 0.003 if rise < 0.1 else 0.01
    slowing = [rising(random, shape, rise, count, noise) for _ in range(20)]
    for rows, kind in ((slowing, "slowdown"), ([row[::-1] for row in slowing], "warm-up")):
        assert screen(rows).uneven.all()
        assert np.mean([steady_state(row).kind == kind for row in rows]) >= 0.85
        assert np.mean([steady_state(row).kind == "flat" for row in rows]) <= 0.1
        assert trend_of_all(rows[:3]).is_sure()


@pytest.mark.parametrize("rise", [0.05, 1.0])
def test_an_outlier_hides_no_trend(random: np.random.Generator, rise: float) -> None:
    rows = [rising(random, "straight", rise, 50, 0.005) for _ in range(20)]
    for place, row in enumerate(rows):
        row[place] *= 1000
    assert screen(rows).uneven.all()
    assert np.mean([steady_state(row).kind == "slowdown" for row in rows]) >= 0.9


def test_few_samples_show_a_trend_only_together(random: np.random.Generator) -> None:
    rows = [rising(random, "straight", 0.3, 6, 0.01) for _ in range(4)]
    assert {steady_state(row).kind for row in rows} == {"unknown"}
    assert screen(rows).together
    found = trend_of_all(rows)
    assert found.is_sure()
    assert found.change == pytest.approx(0.26, abs=0.05)


def test_processes_of_unequal_length_are_screened_alike(random: np.random.Generator) -> None:
    rows = [rising(random, "straight", 0.5, count, 0.01) for count in (3, 12, 30, 700)]
    assert screen(rows).uneven.tolist() == [False, True, True, True]
    assert not screen([]).together
    assert trend_of_all([]) == (0.0, 0.0)


@given(st.lists(st.floats(-1e6, 1e6), max_size=60), st.floats(1e-3, 1e3))
def test_any_numbers_are_judged_and_their_unit_does_not_matter(
    samples: list[float], unit: float
) -> None:
    x = np.array(samples)
    assert steady_state(x).kind in ("flat", "warm-up", "slowdown", "none", "unknown")
    assert 0 <= steady_state(x).start <= len(x)
    assert trend(x * unit).z == pytest.approx(trend(x).z, rel=0.1, abs=0.5)
    assert trend(-x).z == pytest.approx(-trend(x).z, rel=1e-6, abs=1e-9)
    assert len(screen([x]).uneven) == 1


def test_the_screening_lets_through_what_changes(random: np.random.Generator) -> None:
    changing = np.stack([course(random, (20, 1.1), (80, 1.0)) for _ in range(50)])
    even = np.stack([course(random, (100, 1.0)) for _ in range(50)])
    assert screen(changing).uneven.all()
    assert screen(even).uneven.mean() < 0.1
