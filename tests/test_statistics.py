"""Statistics: right as often as they claim to be, and silent where there is nothing to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import coverage
from sweep.analysis import statistics
from sweep.analysis.statistics import (
    Range,
    adjusted,
    deciding_levels,
    detectable,
    drift,
    effective_sample_size,
    equivalence_range,
    family,
    interval,
    p_value,
    paired_ratio,
    power,
    seeds_needed,
    two_modes,
    unpaired_ratio,
    variances,
    verdict,
)

TIMES = st.floats(1e-6, 1e4)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def autoregressive(random: np.random.Generator, correlation: float, count: int) -> np.ndarray:
    noise = random.normal(0, 1, count + 100)
    for i in range(1, len(noise)):
        noise[i] += correlation * noise[i - 1]
    return noise[100:]


@pytest.mark.parametrize("processes", [[], [1.0], [1.0, 1.1]])
def test_fewer_than_three_processes_have_no_interval(processes: list[float]) -> None:
    assert interval(processes) is None
    if processes:
        assert paired_ratio(processes, processes).interval() is None
        assert unpaired_ratio(processes, processes).interval() is None


def test_an_interval_is_students_t_on_the_log_scale_around_the_arithmetic_mean() -> None:
    means = [0.9, 1.0, 1.2, 1.05]
    _, high = stats.t.interval(0.95, 3, np.mean(means), stats.sem(means))
    reach = math.exp(high / np.mean(means) - 1)
    found = interval(means)
    assert found is not None
    assert found.estimate == pytest.approx(np.mean(means))
    assert (found.low, found.high) == pytest.approx(
        (found.estimate / reach, found.estimate * reach)
    )


@given(st.lists(TIMES, min_size=3, max_size=40))
def test_an_interval_holds_the_mean_of_the_same_numbers(means: list[float]) -> None:
    found = interval(means)
    assert found is not None
    assert found.estimate == pytest.approx(np.mean(means))
    assert 0 < found.low <= found.estimate <= found.high < math.inf


@pytest.mark.parametrize("sd", [0.02, 0.2, 0.5])
def test_intervals_of_skewed_times_hold_their_arithmetic_mean(
    random: np.random.Generator, sd: float
) -> None:
    cells = np.exp(random.normal(0, sd, (2000, 5)))
    found = [each for cell in cells if (each := interval(cell))]
    covered = np.mean([each.low <= math.exp(sd**2 / 2) <= each.high for each in found])
    assert 0.92 <= covered <= 0.97


def test_numbers_that_are_not_all_positive_have_an_interval_on_their_own_scale() -> None:
    found = interval([-1.0, 0.0, 1.0])
    assert found is not None
    assert found.estimate == 0
    assert found.low == -found.high


def test_pairs_cancel_what_both_suffer() -> None:
    drifting = np.array([1.0, 2.0, 4.0, 8.0])
    found = paired_ratio(drifting * 1.05, drifting).interval()
    assert found is not None
    assert found.low == pytest.approx(found.high) == pytest.approx(1.05)
    without = unpaired_ratio(drifting * 1.05, drifting).interval()
    assert without is not None
    assert without.high / without.low > 4


def test_unpaired_ratios_are_welchs() -> None:
    one, other = [1.0, 1.1, 1.3, 1.2], [0.9, 1.0, 1.05]
    expected = stats.ttest_ind(np.log(one), np.log(other), equal_var=False)
    found = unpaired_ratio(one, other)
    assert p_value(found, Range(1.0, 1.0)) == pytest.approx(expected.pvalue)
    assert found.degrees == pytest.approx(expected.df)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=3, max_size=8))
def test_a_ratio_and_its_inverse_agree(pairs: list[tuple[float, float]]) -> None:
    one, other = zip(*pairs, strict=True)
    here, there = paired_ratio(one, other).interval(), paired_ratio(other, one).interval()
    assert here is not None
    assert there is not None
    assert here.low * there.high == pytest.approx(1, rel=1e-6) or not math.isfinite(there.high)
    swapped = {"faster": "slower", "slower": "faster"}
    mine, theirs = verdict(paired_ratio(one, other)), verdict(paired_ratio(other, one))
    assert mine == swapped.get(theirs, theirs)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=3, max_size=8), st.floats(1e-3, 1e3))
def test_verdicts_do_not_depend_on_the_unit(pairs: list[tuple[float, float]], unit: float) -> None:
    one, other = np.array(pairs).T
    before, after = paired_ratio(one, other), paired_ratio(one * unit, other * unit)
    assert before.log_ratio == pytest.approx(after.log_ratio, abs=1e-9)
    assert before.spread == pytest.approx(after.spread, abs=1e-9)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.90, 0.91, 0.905], "faster"),
        ([1.10, 1.11, 1.105], "slower"),
        ([1.000, 1.001, 0.999], "equivalent"),
        ([0.90, 1.10, 1.0], "inconclusive"),
        ([1.009, 1.010, 1.011], "inconclusive"),
        ([0.5, 0.5], "inconclusive"),
    ],
)
def test_the_interval_decides_the_verdict(ratios: list[float], expected: str) -> None:
    assert verdict(paired_ratio(ratios, np.ones(len(ratios)))) == expected


def test_without_records_the_verdict_is_missing() -> None:
    assert verdict(None) == "missing"


def test_a_difference_must_survive_the_correction_for_its_family() -> None:
    ratio = paired_ratio([1.10, 1.11, 1.105], np.ones(3))
    assert verdict(ratio, p_adjusted=0.2) == "inconclusive"


def test_cells_without_any_noise_are_judged_exactly() -> None:
    assert verdict(paired_ratio([2.0] * 3, [1.0] * 3)) == "slower"
    assert verdict(paired_ratio([1.0] * 3, [1.0] * 3)) == "equivalent"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(p: list[float]) -> None:
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p))


def test_the_p_value_is_small_exactly_where_the_interval_lies_beyond_the_margin(
    random: np.random.Generator,
) -> None:
    for _ in range(200):
        ratio = paired_ratio(np.exp(random.normal(0.03, 0.02, 5)), np.ones(5))
        found = ratio.interval()
        assert found is not None
        beyond = found.low > 1.01 or found.high < 1 / 1.01
        assert (p_value(ratio, equivalence_range(0.01)) <= 0.05) == beyond


def test_the_seeds_needed_are_enough_most_of_the_time(random: np.random.Generator) -> None:
    pilot = paired_ratio(np.exp([0.03, 0.05, 0.07, 0.05]), np.ones(4))
    more = seeds_needed(pilot, equivalence_range(0.03))
    assert more is not None
    many = [
        paired_ratio(np.exp(random.normal(0.05, pilot.spread, 4 + more)), np.ones(4 + more))
        for _ in range(500)
    ]
    assert np.mean([verdict(each, 0.03) == "slower" for each in many]) == pytest.approx(
        0.85, abs=0.08
    )


@given(
    st.lists(
        st.sampled_from([0.0, 1e-4, 0.002, 0.004, 0.01, 0.02, 0.04, 0.05, 0.3, 1.0]),
        min_size=1,
        max_size=20,
    )
)
def test_the_deciding_level_is_where_the_correction_rejects(p: list[float]) -> None:
    for place, level in enumerate(deciding_levels(p)):
        for value in (1 - level - 1e-9, 1 - level + 1e-9):
            rejected = adjusted([*p[:place], value, *p[place + 1 :]])[place] <= 0.05 + 1e-12
            assert rejected == (value <= 1 - level)


def test_the_seeds_needed_within_a_family_are_enough_most_of_the_time(
    random: np.random.Generator,
) -> None:
    effects, margin, decided = np.array([0.05, *[0.0] * 99]), equivalence_range(0.01), []

    def measured(pairs: int) -> np.ndarray:
        return np.asarray(random.normal(effects[:, np.newaxis], 0.02, (len(effects), pairs)))

    def judged(logs: np.ndarray) -> tuple[str, int | None]:
        ratios = [paired_ratio(np.exp(row), np.ones(len(row))) for row in logs]
        first = family([p_value(ratio, margin) for ratio in ratios]).members[0]
        return verdict(ratios[0], 0.01, first.p_adjusted), seeds_needed(
            ratios[0], margin, first.level
        )

    for _ in range(40):
        logs = measured(5)
        found, more = judged(logs)
        if found == "inconclusive" and more is not None:
            decided.append(judged(np.hstack([logs, measured(more)]))[0] == "slower")
    assert len(decided) > 20
    assert np.mean(decided) > 0.7


def test_members_without_a_p_value_cost_the_others_nothing() -> None:
    alone, joined = family([0.03, 0.001]), family([0.03, None, None, None, 0.001])
    assert joined.size == alone.size == 2
    assert [m.p_adjusted for m in joined.members if m.p_adjusted is not None] == [
        m.p_adjusted for m in alone.members
    ]
    assert joined.members[1].level == pytest.approx(1 - 0.05)


def test_one_process_needs_two_more_at_least() -> None:
    assert seeds_needed(paired_ratio([1.0], [2.0]), equivalence_range(0.01)) == 2


def test_a_difference_right_at_the_margin_takes_too_many_seeds() -> None:
    at_margin = paired_ratio(np.array([0.98, 1.0, 1.02]) * 1.01, np.ones(3))
    assert seeds_needed(at_margin, Range(0.0, at_margin.estimate)) is None


def test_more_processes_have_more_power() -> None:
    powers = [power(0.05, 0.03, pairs, equivalence_range(0.01)) for pairs in (2, 3, 5, 10, 100)]
    assert powers == sorted(powers)
    assert powers[0] == 0
    assert powers[-1] > 0.999
    assert power(0.0, 0.001, 10, equivalence_range(0.01)) > 0.99


def test_what_is_detectable_is_detected_with_the_power_promised() -> None:
    least = detectable(0.02, 5, 0.01)
    assert power(math.log1p(least), 0.02, 5, equivalence_range(0.01)) == pytest.approx(
        0.8, abs=0.01
    )
    assert detectable(0.02, 2) == math.inf


def test_variance_is_told_apart_by_level(random: np.random.Generator) -> None:
    levels = random.normal(10, 0.3, 200)
    found = variances([level + random.normal(0, 0.5, 40) for level in levels])
    assert found is not None
    assert found.process == pytest.approx(0.09, rel=0.25)
    assert found.sample == pytest.approx(0.25, rel=0.05)
    assert variances([[1.0, 2.0]]) is None


def test_autocorrelated_samples_do_not_pass_for_differences_between_processes(
    random: np.random.Generator,
) -> None:
    processes = [autoregressive(random, 0.8, 100) for _ in range(200)]
    found = variances(processes)
    assert found is not None
    assert found.process < 0.1 * found.sample


def test_costly_processes_should_take_more_samples() -> None:
    found = statistics.Variances(process=1.0, sample=4.0)
    assert found.samples_worth_taking(process_cost_s=100, sample_cost_s=1) == 20
    assert found.samples_worth_taking(process_cost_s=1, sample_cost_s=1) == 2


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_autocorrelated_samples_are_worth_fewer(
    random: np.random.Generator, correlation: float
) -> None:
    expected = (1 - correlation) / (1 + correlation)
    shares = [
        effective_sample_size(autoregressive(random, correlation, 2000)) / 2000 for _ in range(20)
    ]
    assert np.mean(shares) == pytest.approx(expected, rel=0.15)


@given(st.lists(TIMES, min_size=1, max_size=50))
def test_samples_are_worth_between_one_and_their_number(samples: list[float]) -> None:
    assert 1 <= effective_sample_size(samples) <= len(samples)


def test_two_groups_are_seen_and_one_is_not(random: np.random.Generator) -> None:
    one = random.normal(1.0, 0.01, 70)
    modes = two_modes(np.concatenate([one, one[:30] + 0.2]))
    assert modes == pytest.approx((1.0, 1.2), abs=0.02)
    assert two_modes(one) is None
    assert two_modes(random.uniform(1, 2, 500)) is None
    assert two_modes(random.exponential(1, 500)) is None
    assert two_modes([1.0] * 20) is None


def over_a_run(
    random: np.random.Generator, cells: int, seeds: int, change: float = 0.0, tails: float = 30.0
) -> statistics.Drift:
    """Drift of a run in blocks: levels of cells far apart, each with a noise of its own around 1 %."""
    order = np.array([block * cells + random.permutation(cells) for block in range(seeds)])
    noise = 0.01 * np.exp(random.normal(0, 0.5, cells)) * random.standard_t(tails, (seeds, cells))
    levels = random.normal(0, 1, cells) + np.log1p(change * order / order.max())
    groups = np.broadcast_to(np.arange(cells), order.shape)
    return drift(np.exp(levels + noise).ravel(), order.ravel(), groups.ravel())


@pytest.mark.parametrize(("cells", "seeds"), [(1, 10), (3, 3), (20, 3)])
@pytest.mark.parametrize("change", [-0.57, 0.3])
def test_drift_over_a_run_is_seen_from_three_trials_a_cell(
    random: np.random.Generator, cells: int, seeds: int, change: float
) -> None:
    found = over_a_run(random, cells, seeds, change)
    assert found.change == pytest.approx(change, abs=0.1)
    assert found.p < 0.01


@pytest.mark.parametrize(("cells", "seeds"), [(1, 5), (2, 3), (20, 3)])
@pytest.mark.parametrize("tails", [2.0, 30.0])
def test_a_run_without_drift_is_rarely_said_to_have_one(
    random: np.random.Generator, cells: int, seeds: int, tails: float
) -> None:
    found = [over_a_run(random, cells, seeds, tails=tails) for _ in range(300)]
    assert np.mean([each.p < 0.01 for each in found]) <= 0.03


def test_one_wild_trial_is_no_drift_and_hides_none(random: np.random.Generator) -> None:
    order = np.arange(60)
    means = np.exp(random.normal(0, 0.01, 60))
    falling = means * (1 - 0.3 * order / 60)
    for times in (means, falling):
        times[-1] *= 1000
    assert drift(means, order, order % 20).p > 0.01
    assert drift(falling, order, order % 20).p < 0.01


def test_too_few_trials_have_no_drift() -> None:
    assert drift([], [], []) == (0.0, 1.0)
    assert drift([1.0, 2.0, 4.0, 8.0], [0, 1, 2, 3], [0] * 4) == (0.0, 1.0)
    assert drift([1.0, 2.0, 4.0], [0, 1, 2], [0, 1, 2]) == (0.0, 1.0)
    assert drift([1.0] * 9, range(9), [0] * 9) == (0.0, 1.0)


@pytest.mark.parametrize("noise", ["white", "autocorrelated", "drift", "outliers", "bimodal"])
@pytest.mark.parametrize(("between", "processes"), [(0.0, 5), (1.0, 3), (5.0, 10)])
def test_intervals_cover_and_identical_cells_are_not_called_different(
    noise: str, between: float, processes: int
) -> None:
    found = coverage.explore(coverage.Scenario(between, noise, processes), repetitions=300)
    assert 0.93 <= found.ratio_coverage <= 0.97
    assert found.false_families <= 0.05
    assert found.false_families_without_margin <= 0.09  # 5 %, and what 300 families leave to chance
    assert found.power == pytest.approx(found.predicted_power, abs=0.08)
    if noise != "drift":  # which makes a cell's own interval wider than need be
        assert 0.90 <= found.cell_coverage <= 0.98


def test_what_other_tools_do_calls_identical_cells_different() -> None:
    """The simulation can tell a wrong method: pooling samples is one as soon as processes differ."""
    found = coverage.explore(coverage.Scenario(1.0, "white", 5), repetitions=60)
    assert found.pooled_t > 0.9
    assert found.mann_whitney > 0.9
    assert found.minimum > 0.9
