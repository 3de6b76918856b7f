"""Whether the cells of a step of one's own computed the same, before it is said which is faster."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from made_up import Record, keep, record

from sweep.analysis.result_checks import distance
from sweep.analysis.run import Run
from sweep.analysis.verdict_warnings import verdict_warnings, warning_lines
from sweep.analysis.warning_signs import run_warnings
from sweep.analysis.wording import sentence

STEP = {"workload": "train_step.py", "also": {"tolerance": 1e-4}}
ONE, OTHER = "torch==2.6.0", "torch==2.13.0"


def cell(framework: str, results: list[float | None], **more: Any) -> list[Record]:
    mean_s = 0.1 if framework == ONE else 0.05
    return [
        record(seed, framework=framework, mean_s=mean_s, **STEP, **more)
        | ({"result": result} if result is not None else {})
        for seed, result in enumerate(results)
    ]


def run_of(folder: Path, *cells: list[Record]) -> Run:
    return Run(keep(folder, [each for cell in cells for each in cell]).storage)


@pytest.mark.parametrize(
    ("results", "others", "begins"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "torch 2.13.0 is "),
        ([1.0, 2.0, 3.0], [1.00005, 2.0, 3.0], "torch 2.13.0 is "),
        (
            [1.0, 2.0, 3.0],
            [1.0, 2.1, 3.5],
            "results differ: 3.5 and 3 with seed 2, in 2 of 3 seeds: torch 2.13.0 is ",
        ),
        (
            [1.0, 2.0, 3.0],
            [math.nan, 2.0, 3.0],
            "results differ: nan and 1 with seed 0, in 1 of 3 seeds: ",
        ),
        ([None, None, None], [None, None, None], "results not checked: torch 2.13.0 is "),
        ([1.0, 1.0, 1.0], [None, None, None], "results not checked: torch 2.13.0 is "),
    ],
)
def test_a_comparison_says_first_whether_both_sides_computed_the_same(
    tmp_path: Path, results: list[float | None], others: list[float | None], begins: str
) -> None:
    run = run_of(tmp_path, cell(ONE, results), cell(OTHER, others))

    [comparison] = run.compare("framework", baseline=ONE)

    assert comparison.verdict == "faster"
    assert sentence(comparison).startswith(begins)
    signs = [each.kind for each in verdict_warnings([comparison])[0]]
    is_told = begins.startswith("results")
    assert (signs[:1] == ["results"]) is is_told
    assert (
        warning_lines([comparison])[:1] != [] and warning_lines([comparison])[0].kind == "results"
    ) is is_told


def test_results_of_other_seeds_are_not_held_against_each_other(tmp_path: Path) -> None:
    run = run_of(tmp_path, cell(ONE, [1.0, 2.0, 3.0]), cell(OTHER, [None, 2.0, 3.0, 7.0]))

    assert not sentence(run.compare("framework", baseline=ONE)[0]).startswith("results")


def test_a_tolerance_of_the_grid_decides(tmp_path: Path) -> None:
    loose = {"workload": "train_step.py", "also": {"tolerance": 0.2}}
    records = [
        record(seed, framework=framework, **loose) | {"result": result}
        for seed in range(3)
        for framework, result in ((ONE, 1.0), (OTHER, 1.1))
    ]

    [comparison] = run_of(tmp_path, records).compare("framework", baseline=ONE)

    assert not sentence(comparison).startswith("results")


def test_workloads_of_sweep_have_a_parity_check_and_no_results(tmp_path: Path) -> None:
    records = [record(seed, framework=name) for seed in range(3) for name in (ONE, OTHER)]

    run = run_of(tmp_path, records)

    assert "results" not in sentence(run.compare("framework", baseline=ONE)[0])
    assert run_warnings(run.summary()) == []


def test_a_summary_says_that_cells_alike_differ_in_their_results(tmp_path: Path) -> None:
    """Cells whose parameters differ may well compute something else."""
    wide = {**STEP, "also": {"tolerance": 1e-4, "width": 64}}
    others = [record(seed, framework=ONE, **wide) | {"result": 9.0} for seed in range(3)]

    same = run_of(tmp_path / "same", cell(ONE, [1.0] * 3), cell(OTHER, [1.0] * 3), others)
    apart = run_of(tmp_path / "apart", cell(ONE, [1.0] * 3), cell(OTHER, [2.0] * 3), others)

    assert [each.kind for each in run_warnings(same.summary())] == []
    [warning] = run_warnings(apart.summary())
    assert warning.text == (
        "results differ: 1 and 2 with seed 0, in 3 of 3 seeds (torch 2.6.0 and torch 2.13.0)"
    )


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 1.1, 0.0909),
        (0.0, 1.0, 1.0),
        (-1.0, 1.0, 2.0),
        (math.inf, math.inf, 0.0),
    ],
)
def test_distances_are_relative_to_the_larger_result(
    one: float, other: float, apart: float
) -> None:
    assert distance(one, other) == distance(other, one) == pytest.approx(apart, abs=1e-4)


def test_what_is_no_number_is_apart_from_everything() -> None:
    assert distance(math.nan, math.nan) == distance(1.0, math.inf) == math.inf
