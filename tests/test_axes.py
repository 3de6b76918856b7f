"""The table of built-in axes: everything that is known of an axis comes from it."""

from __future__ import annotations

import pytest

from sweep import axes
from sweep.axes import AXES, CELL_AXES, COMPARED
from sweep.catalog import frameworks, workloads
from sweep.grid import expand, parse, schema

GRID = "name: g\naxes: {framework: [reference], threads: [1, 2], seed: 0}\n"


@pytest.mark.parametrize(
    ("axis", "value", "written", "spoken"),
    [
        ("framework", "torch==2.13.0", "torch==2.13.0", "for torch 2.13.0"),
        ("backend", "default", "", "with backend default"),
        ("backend", "native", "native", "with backend native"),
        ("device", "gpu", "gpu", "on the GPU"),
        ("backward", "autograd", "autograd", "with autograd"),
        ("backward", "explicit", "explicit", "with the explicit backward"),
        ("batch_exponent", 5, "b5", "at batch 32"),
        ("batch_exponent", None, "bNone", "at batch 2^null"),
        ("threads", 2, "threads=2", "with threads 2"),
        ("compile", True, "compile=true", "with compile true"),
        ("data", None, "data=null", "with data null"),
    ],
)
def test_a_value_is_written_in_names_and_said_in_sentences(axis, value, written, spoken) -> None:
    assert axes.name_part(axis, value) == written
    assert axes.circumstance(axis, value) == spoken


def test_axes_are_shown_in_the_order_of_the_table_and_then_by_the_alphabet() -> None:
    given = dict.fromkeys(
        ["threads", "batch_exponent", "data", "version", "framework", "workload"], 1
    )
    shown = ["workload", "framework", "version", "batch_exponent", "data", "threads"]
    assert list(axes.ordered(given)) == shown
    assert list(axes.ordered(given, frozenset({"data"}))) == [
        name for name in shown if name != "data"
    ]


def test_every_built_in_axis_of_a_cell_has_its_default_in_an_expanded_grid() -> None:
    cell = expand(parse(GRID), frameworks(), workloads()).cells[0]
    for name, axis in CELL_AXES.items():
        if axis.default:
            assert cell.axes[name] == axis.default[0], name


def test_the_schema_of_grids_tells_every_built_in_axis_with_its_meaning() -> None:
    told = schema(frameworks(), workloads())["properties"]["axes"]["properties"]
    for name, axis in AXES.items():
        assert told[name]["description"] == axis.meaning
        assert told[name]["default"] == (list(axis.default) or None)


def test_a_number_outside_the_bounds_of_its_axis_is_refused() -> None:
    for name in ("seed", "batch_exponent"):
        for value in (AXES[name].least - 1, AXES[name].most + 1):
            grid = parse(GRID.replace("seed: 0", f"{name}: {value}"))
            with pytest.raises(Exception, match=f"no whole number from 0 to {AXES[name].most:,}"):
                expand(grid, frameworks(), workloads())


def test_the_axes_that_ask_a_question_are_compared() -> None:
    assert COMPARED == ("framework", "backend", "backward")


@pytest.mark.parametrize(
    ("exponent", "size"), [(5, 32), (0, 1), (None, None), (1e308, None), (-1, None), ("5", None)]
)
def test_a_record_may_hold_any_exponent_and_a_batch_only_a_possible_one(exponent, size) -> None:
    assert axes.batch_size({"batch_exponent": exponent}) == size
