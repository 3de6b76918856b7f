"""Numbers as people read them: significant digits on both sides of 1, and units that suit a whole column."""

from __future__ import annotations

import re

import pytest
from commands import Sweep
from hypothesis import given
from hypothesis import strategies as st
from made_up import keep, record

from sweep.analysis.quantities import Scale, column_scale, factor, factors, scale
from sweep.analysis.statistics import Interval

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"
POSITIVE = st.floats(1e-12, 1e12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123.45, "123.5"),
        (2.3149, "2.31"),
        (1.0123, "1.012"),
        (0.9982, "0.998"),
        (0.4567, "0.457"),
        (0.0123456, "0.0123"),
        (0.00123, "0.00123"),
        (1.234e-7, "1.23e-07"),
        (2.68e12, "2.68e+12"),
    ],
)
def test_factors_read_well(value: float, text: str) -> None:
    assert factor(value) == text


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.00123, 0.0012, 0.00126), "0.00123× [0.00120, 0.00126]"),
        (Interval(2.31, 2.27, 2.35), "2.31× [2.27, 2.35]"),
        (Interval(1.0, 0.991, 1.005), "1.000× [0.991, 1.005]"),
        (Interval(5.0, 0.0021, 12000.0), "5.00× [0.00210, 12000.00]"),
    ],
)
def test_both_ends_of_an_interval_have_digits(interval: Interval, text: str) -> None:
    assert factors(interval) == text


@given(POSITIVE)
def test_a_factor_can_be_read_back(value: float) -> None:
    assert float(factor(value)) == pytest.approx(value, rel=6e-3)


@given(st.lists(POSITIVE, min_size=3, max_size=3).map(sorted))
def test_no_end_of_an_interval_is_rounded_away(values: list[float]) -> None:
    low, estimate, high = values
    for text in (
        factors(Interval(estimate, low, high)),
        Scale(1.0, "s").interval(Interval(estimate, low, high)),
    ):
        ends = [float(end) for end in re.findall(r"[-+.e\d]+", text.partition("[")[2])]
        assert ends == pytest.approx([low, high], rel=6e-2)


def test_a_column_has_one_unit_where_it_serves_all_and_else_each_value_its_own() -> None:
    assert column_scale("s", [0.05, 6.3]) == Scale(1e-3, "ms")
    apart = column_scale("s", [4e-9, 10800.0])
    assert [apart.text(value) for value in (4e-9, 10800.0, float("nan"))] == [
        "4.000 ns",
        "3.000 h",
        "–",
    ]
    assert [apart.squared(value) for value in (16e-18, 4.0)] == ["16.00 ns²", "4.000 s²"]
    assert apart.interval(Interval(4e-9, 3.5e-9, 4.5e-9)) == "[3.500, 4.500] ns"
    assert column_scale("B", [1024.0, 2.0**31]).text(2.0**31) == "2.000 GiB"


def test_hours_are_said_from_two_on() -> None:
    assert scale("s", [7000.0]).with_sign(7000.0) == "7000 s"
    assert scale("s", [10800.0]).with_sign(10800.0) == "3.000 h"


@given(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=5))
def test_no_figure_of_a_column_needs_an_exponent_or_loses_its_digits(values: list[float]) -> None:
    column = column_scale("s", values)
    assert all(re.fullmatch(r"\d+(\.\d+)?( \w+)?", column.text(value)) for value in values)


def test_nanoseconds_and_hours_stand_in_one_table(sweep: Sweep) -> None:
    means = {TORCH: 4e-9, CHAINER: 10800.0}
    keep(
        "results/run",
        [record(s, framework=f, mean_s=mean) for s in range(3) for f, mean in means.items()],
    )
    said = sweep("summarize", "run", "--format", "md", "--metric", "step_s")
    assert re.search(r"\| chainer==7.8.1 +\|.* [23]\.\d+ h \|", said.out)
    assert re.search(r"\| torch==2.13.0 +\|.* [34]\.\d+ ns \|", said.out)
    assert "e+" not in said.out


def test_batch_sizes_are_compared_by_their_sizes_in_a_table(sweep: Sweep) -> None:
    keep(
        "results/run",
        [record(s, batch_exponent=n, mean_s=0.1 * 2**n) for s in range(3) for n in (1, 2, 3)],
    )
    lines = sweep("compare", "run", "--over", "batch_exponent", "--format", "md").out.splitlines()
    assert [line.split("|")[1:3] for line in lines] == [
        [" batch ", " baseline "],
        [" ---: ", " ---: "],
        [" 4 ", " 2 "],
        [" 8 ", " 2 "],
    ]
