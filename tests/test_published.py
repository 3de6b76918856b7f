"""Published figures beside what is measured: which comparisons they speak of, and whether those agree."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from commands import Sweep
from made_up import keep, record, training

from sweep.analysis import run as analysis

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"
GRID = """\
name: study
axes: {{framework: [chainer==7.8.1, torch==2.13.0], batch_exponent: [0, 5]}}
published:
  - name: an iteration
    compare: {{framework: [torch, chainer]}}
    where: {{batch_exponent: 5}}
    values: {values}
"""


def study(torch_s: float, chainer_s: float, processes: int = 4) -> list[dict[str, Any]]:
    times = {TORCH: torch_s, CHAINER: chainer_s}
    return [
        record(s, framework=f, batch_exponent=n, step_s=[times[f] * (1 + s / 1000)] * 5)
        for s in range(processes)
        for f in times
        for n in (0, 5)
    ]


def agreements(folder: Path) -> list[str]:
    return [agreement for _, found in analysis.Run(folder).published() for _, agreement in found]


@pytest.mark.parametrize(
    ("values", "torch_s", "agreement"),
    [
        ("[5.0, 8.2]", 0.5, "agrees"),  # faster in both
        ("[5.0, 8.2]", 2.0, "opposite"),
        ("[5.0, 8.2]", 1.0, "differs"),  # here they take the same time
        ("[47.6, 47.6]", 1.0, "agrees"),
        ("[47.6, 47.6]", 0.5, "differs"),
        ("[8.2, 5.0]", 2.0, "agrees"),
    ],
)
def test_a_figure_agrees_where_the_same_of_the_two_is_faster(
    tmp_path: Path, values: str, torch_s: float, agreement: str
) -> None:
    keep(tmp_path, study(torch_s, 1.0), GRID.format(values=values))
    assert agreements(tmp_path) == [agreement]  # at batch 32 alone


def test_two_processes_leave_it_open(tmp_path: Path) -> None:
    keep(tmp_path, study(0.5, 1.0, processes=2), GRID.format(values="[5.0, 8.2]"))
    assert agreements(tmp_path) == ["open"]


def test_a_figure_about_what_no_trial_holds_is_missing_and_no_error(tmp_path: Path) -> None:
    grid = GRID.format(values="[2.49, 2.60]").replace(
        "    where", "    metric: epoch_s\n    unit: h\n    where"
    )
    keep(tmp_path, study(0.5, 1.0), grid)
    assert agreements(tmp_path) == ["missing"]


def test_a_claim_about_what_no_trial_holds_yet_is_missing_and_the_others_are_judged(
    sweep: Sweep,
) -> None:
    claims = """\
claims:
  - {name: trainings, compare: {framework: [torch, chainer]}, metric: epoch_s, expect: {faster: 0.1}}
  - {name: steps, compare: {framework: [torch, chainer]}, expect: {faster: 0.1}}
"""
    keep("results/study", study(0.5, 1.0), GRID.format(values="[1, 2]") + claims)
    said = sweep("verify", "study")
    assert said.code == 4
    assert "missing: trainings" in said.out
    assert "supported: steps" in said.out


def test_the_report_shows_figures_beside_measurements(sweep: Sweep) -> None:
    keep("results/study", study(0.5, 1.0), GRID.format(values="[5.0, 8.2]"))
    assert sweep("report", "study").code == 0
    page = html.unescape(
        re.sub("<[^>]+>", "", Path("results/study/report.html").read_text().partition("<footer")[0])
    )
    assert "an iteration: 5 s / 8.2 s, 0.610× the time (torch / chainer)" in page
    assert (
        "agrees torch 2.13.0 / chainer 7.8.1 at batch 32 on the CPU: 0.500× [0.500, 0.500] the time"
        in page
    )


def test_hours_of_training_stand_beside_epochs(tmp_path: Path) -> None:
    grid = GRID.format(values="[47.6, 47.6]").replace(
        "    where: {batch_exponent: 5}", "    metric: epoch_s\n    unit: h"
    )
    keep(tmp_path, [training(s, framework=f) for s in range(3) for f in (TORCH, CHAINER)], grid)
    [(published, found)] = analysis.Run(tmp_path).published()
    assert (published.unit, published.metric, len(found)) == ("h", "epoch_s", 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("values: [5.0, 8.2]", "values: [5.0]"), "published[1].values"),
        (("values: [5.0, 8.2]", "values: [5.0, -1]"), "published[1].values"),
        (
            ("{framework: [torch, chainer]}", "{framework: [torch]}"),
            "no two values of an axis to compare",
        ),
        (("[torch, chainer]", "[torch, chianer]"), "no cell has framework 'chianer'"),
        (("values:", "metric: stepp_s\n    values:"), "there is no metric 'stepp_s'"),
    ],
)
def test_a_grid_with_wrong_figures_is_refused_where_they_stand(
    sweep: Sweep, change: tuple[str, str], error: str
) -> None:
    Path("grid.yaml").write_text(GRID.format(values="[5.0, 8.2]").replace(*change))
    said = sweep("plan", "grid.yaml")
    assert said.code == 2
    assert error in said.err


@pytest.mark.parametrize("name", ["article", "article-small"])
def test_the_grids_of_the_study_can_be_planned(sweep: Sweep, name: str) -> None:
    grid = Path(__file__).parent.parent / "grids" / f"{name}.yaml"
    said = sweep("plan", str(grid), "--set", "device=cpu")
    assert said.code == 0
    assert "excluded by rule" in said.err
