"""The report and single pictures: what is in them, and what cannot be drawn."""

from __future__ import annotations

import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import Sweep
from made_up import Planned, keep, record, training
from PIL import Image

from sweep import cli
from sweep.analysis import run as analysis
from sweep.grid import Exclusion
from sweep.report import figures, plots, report

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"
COURSES = ("curve", "validation", "pck")
EVIL = "<script>alert(1)</script>"
GRID = f"""\
name: "{EVIL}"
axes: {{framework: [chainer==7.8.1, torch==2.13.0], backward: [autograd, explicit]}}
claims:
  - {{name: "{EVIL}", compare: {{framework: [torch, chainer]}}, expect: {{faster: 0.05}}}}
"""


def core_time(processes: int = 3, **changes: Any) -> list[dict[str, Any]]:
    return [
        record(
            s,
            framework=f,
            backward=b,
            batch_exponent=n,
            mean_s=0.05 * 2**n * (2.3 if f == CHAINER else 1),
            **changes,
        )
        for s in range(processes)
        for f in (TORCH, CHAINER)
        for b in ("autograd", "explicit")
        for n in (0, 3, 5)
    ]


def page_of(folder: Path) -> str:
    return report(analysis.Run(folder))


def embedded(page: str) -> dict[str, Any]:
    """What the page's script works with."""
    found = re.search(
        r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL
    )
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_a_report_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    keep(tmp_path / "run", core_time(), GRID)
    page = page_of(tmp_path / "run")
    assert not re.search(
        r"<(link|img|iframe)\b|\bsrc=|@import|url\(", page.partition('<script type="module">')[0]
    )
    assert "default-src 'none'" in page


def test_the_report_holds_summaries_and_no_samples(tmp_path: Path) -> None:
    few, many = (tmp_path / name for name in ("few", "many"))
    for folder, count in ((few, 30), (many, 3000)):
        keep(folder, [record(s, step_s=[0.1 + s / 100] * count) for s in range(3)])
    assert len(page_of(many)) - len(page_of(few)) < 100


def test_numbers_of_the_report_are_those_of_the_summary(tmp_path: Path) -> None:
    keep(tmp_path / "run", core_time(), GRID)
    rows = embedded(page_of(tmp_path / "run"))["rows"]
    [*means] = [
        m
        for m, name in zip(rows["summaries"]["mean"], rows["summaries"]["metric"], strict=True)
        if name == "step_s"
    ]
    expected = [s.mean * 1000 for s in analysis.Run(tmp_path / "run").summary(metric="step_s")]
    assert means == pytest.approx(expected, rel=1e-4)
    assert len(rows["processes"]["mean"]) == 3 * len(rows["summaries"]["mean"])


def test_text_of_a_run_is_text_everywhere(tmp_path: Path) -> None:
    bad = [
        record(s, framework=f"{EVIL}==1", status="crashed", error=EVIL, node=EVIL) for s in range(2)
    ]
    more = {
        "packages": [EVIL],
        "environment_id": "e1",
        "blas": EVIL,
        "cpu_model": EVIL,
        "machine": {EVIL: EVIL},
    }
    keep(
        tmp_path / EVIL.replace("/", ""),
        core_time(**more) + bad,
        GRID,
        exclusions=[Exclusion(EVIL, EVIL)],
        trials=[Planned("x", EVIL)],
    )
    page = page_of(tmp_path / EVIL.replace("/", ""))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 6
    assert embedded(page)["rows"]["exclusions"]["reason"] == [EVIL]
    assert embedded(page)["rows"]["causes"]["cause"] == [EVIL]


def test_axes_may_be_called_anything(tmp_path: Path) -> None:
    records = core_time()
    for each in records:
        each["settings"] = each["settings"] | {
            "mean": each["settings"]["batch_exponent"],
            "a.b[0]": "x'\"]",
        }
    keep(tmp_path / "run", records)
    rows = embedded(page_of(tmp_path / "run"))
    assert [axis["name"] for axis in rows["axes"]] == [
        "framework",
        "backward",
        "batch_exponent",
        "mean",
    ]
    drawn = figures.picture(
        analysis.Run(tmp_path / "run"), "time", figures.Choice(roles={"x": "mean"})
    )
    assert b"<svg" in plots.image(drawn, "svg")


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "svg") for kind in plots.KINDS), ("time", "png"), ("curve", "png"), ("time", "pdf")],
)
def test_every_plot_can_be_drawn_and_in_every_format(sweep: Sweep, kind: str, form: str) -> None:
    records = (
        [training(s, framework=f) for s in range(3) for f in (TORCH, CHAINER)]
        if kind in COURSES
        else core_time()
    )
    keep("results/run", records, GRID)
    said = sweep("plot", "run", kind, "-o", f"drawn.{form}")
    assert (said.code, said.out) == (0, f"drawn.{form}\n")
    data = Path(f"drawn.{form}").read_bytes()
    if form == "png":
        image = Image.open(io.BytesIO(data)).convert("L")
        assert min(image.getextrema()) < 100  # there is something on the white
        assert min(image.size) > 200
    else:
        assert data.startswith({"svg": b"<svg", "pdf": b"%PDF"}[form])


def drawn(folder: str, kind: str, **choice: Any) -> str:
    return plots.image(
        figures.picture(analysis.Run(folder), kind, figures.Choice(**choice)), "svg"
    ).decode()


@pytest.mark.usefixtures("sweep")
def test_a_picture_names_axes_with_their_units() -> None:
    keep("results/run", core_time(), GRID)
    svg = drawn("results/run", "time")
    assert {"batch size (examples)", "step (ms)", TORCH, "autograd"} <= set(
        re.findall(r">([^<>]+)</text>", svg)
    )
    assert len(re.findall(r'aria-roledescription="point"', svg)) == 12
    svg = drawn("results/run", "speedup", baseline=TORCH, where={"backward": "explicit"})
    assert f"times as fast as {TORCH}" in svg
    assert len(re.findall(r'aria-roledescription="point"', svg)) == 3


@pytest.mark.usefixtures("sweep")
def test_an_axis_that_is_chosen_for_one_role_leaves_its_other_one() -> None:
    keep("results/run", core_time(), GRID)
    axes = figures.Cells.of(analysis.Run("results/run").summary()).axes
    usual = {role: drawn.title for role, drawn in figures.usual_roles(axes).items()}
    assert usual == {
        "x": "batch size (examples)",
        "colour": "framework",
        "shape": "backward",
        "panels": "",
    }
    chosen = figures.usual_roles(axes, {"colour": axes["backward"], "panels": plots.NOTHING})
    assert chosen["shape"].title == "framework"
    assert chosen["panels"] is plots.NOTHING


@pytest.mark.usefixtures("sweep")
def test_a_map_has_a_square_for_each_comparison_with_its_factor() -> None:
    keep("results/run", core_time(), GRID)
    svg = drawn("results/run", "heatmap")
    assert len(re.findall(r'aria-roledescription="rect mark"', svg)) == 6
    assert set(re.findall(r">(\d\.\d)\d×</text>", svg)) >= {"2.2", "2.3"}


@pytest.mark.usefixtures("sweep")
def test_learning_curves_have_a_band_over_seeds_and_few_points() -> None:
    keep("results/run", [training(s, epochs=500) for s in range(3)])
    run = analysis.Run("results/run")
    rows = figures.curves(run, figures.Cells.of(run.summary()))
    for of in ("loss", "validation_loss"):
        points = [row for row in rows if row["of"] == of]
        assert 50 < len(points) <= 120
        assert all(row["low"] < row["value"] < row["high"] and row["seeds"] == 3 for row in points)
    assert next(row["value"] for row in rows if row["of"] == "validation_pck") == 0.0
    assert figures.elapsed_scale(run).sign == "min"


@pytest.mark.usefixtures("sweep")
def test_curves_of_two_frameworks_are_told_apart_by_dashes_where_colour_tells_the_backward() -> (
    None
):
    both = itertools.product((TORCH, CHAINER), ("autograd", "explicit"))
    keep("results/run", [training(0, framework=f, backward=b) for f, b in both])
    svg = drawn("results/run", "curve")
    lines = re.findall(
        r'<path aria-label=[^>]*role="graphics-symbol" aria-roledescription="line mark"[^>]*>', svg
    )
    styles = {tuple(re.findall(r'stroke(?:-dasharray)?="([^"]+)"', line)) for line in lines}
    assert len(styles) == 4


def count(svg: str, mark: str) -> int:
    return svg.count(f'aria-roledescription="{mark}"')


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("x", ["framework", "backward"])
@pytest.mark.parametrize("kind", COURSES)
def test_each_cell_has_a_band_and_a_line_of_its_own_whatever_lies_along_x_elsewhere(
    kind: str, x: str
) -> None:
    both = itertools.product((TORCH, CHAINER), ("autograd", "explicit"))
    keep("results/run", [training(s, framework=f, backward=b) for f, b in both for s in range(2)])
    svg = drawn("results/run", kind, roles={"x": x})
    assert (count(svg, "area mark"), count(svg, "line mark")) == (4, 4)


@pytest.mark.usefixtures("sweep")
def test_lines_and_panels_are_told_apart_by_all_that_does_not_lie_along_them() -> None:
    keep("results/run", core_time())
    assert count(drawn("results/run", "time", roles={"x": "batch_exponent"}), "line mark") == 4
    assert count(drawn("results/run", "time", roles={"x": "framework"}), "line mark") == 6
    assert {"autograd · batch 8", "explicit · batch 32"} <= texts(
        drawn("results/run", "split", roles={"x": "framework"})
    )


def texts(svg: str) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", svg))


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    "axis", [{}, {"framework": CHAINER}, {"batch_exponent": 3}], ids=["none", "framework", "batch"]
)
def test_nothing_is_undefined_where_few_axes_tell_cells_apart(axis: dict[str, Any]) -> None:
    keep(
        "results/run",
        [record(s, **cell) for s in range(3) for cell in ({}, axis)[: 1 + bool(axis)]],
    )
    for kind in ("time", "split", "processes", "order"):
        assert "undefined" not in drawn("results/run", kind), kind
    for over in axis:
        assert "undefined" not in drawn("results/run", "speedup", over=over)


@pytest.mark.usefixtures("sweep")
def test_batch_sizes_are_compared_by_their_sizes() -> None:
    keep(
        "results/run",
        [
            record(s, batch_exponent=n, framework=f)
            for s in range(3)
            for n in (1, 3)
            for f in (TORCH, CHAINER)
        ],
    )
    svg = drawn("results/run", "heatmap", over="batch_exponent")
    assert {"8", "times as fast as batch 2"} <= texts(svg)
    rows = embedded(page_of(Path("results/run")))["rows"]["ratios"]
    assert {
        b
        for b, over in zip(rows["baseline"], rows["over"], strict=True)
        if over == "batch_exponent"
    } == {"batch 2"}


@pytest.mark.usefixtures("sweep")
def test_a_map_lies_along_another_axis_than_it_is_over() -> None:
    keep("results/run", core_time())
    assert count(drawn("results/run", "heatmap", over="batch_exponent"), "rect mark") == 8
    assert count(drawn("results/run", "heatmap", over="backward"), "rect mark") == 6
    svg = drawn("results/run", "heatmap", over="framework,backward", baseline=f"{CHAINER},autograd")
    assert count(svg, "rect mark") == 9
    assert {f"{TORCH} · explicit", f"times as fast as {CHAINER} · autograd"} <= texts(svg)


@pytest.mark.usefixtures("sweep")
def test_trainings_are_drawn_beside_steps_and_their_parameters_are_no_axes() -> None:
    keep("results/run", [*core_time(), *(training(s, framework=TORCH) for s in range(3))])
    content = embedded(page_of(Path("results/run")))
    assert [axis["name"] for axis in content["axes"]] == [
        "workload",
        "framework",
        "backward",
        "batch_exponent",
    ]
    trainings = {
        content["rows"]["cells"]["label"][cell] for cell in content["rows"]["curves"]["cell"]
    }
    assert trainings == {f"train · {TORCH} · autograd · batch 32"}


@pytest.mark.usefixtures("sweep")
def test_a_training_that_diverges_is_drawn_as_far_as_it_went() -> None:
    diverged = training(1)
    diverged["loss"] = [*diverged["loss"][:5], *[float("nan")] * (len(diverged["loss"]) - 5)]
    keep("results/run", [training(0), diverged])
    run = analysis.Run("results/run")
    rows = figures.curves(run, figures.Cells.of(run.summary()))
    assert [row["at"] for row in rows if row["of"] == "loss"] == [
        f"iteration {n}" for n in (10, 20, 30, 40, 50)
    ]


def test_the_command_lists_the_plots_there_are() -> None:
    assert set(cli.report.KINDS) == set(plots.KINDS)


def test_a_report_lies_beside_its_records_and_ends_with_zero(sweep: Sweep) -> None:
    keep("results/run", core_time(), GRID)
    said = sweep("report", "run")
    assert (said.code, said.out) == (0, "results/run/report.html\n")
    assert Path("results/run/report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (
            ["report", "run", "-o", "no/where.html"],
            "no/where.html cannot be written: there is no folder no",
            "make it",
        ),
        (["report", "run", "-o", "results"], "results is a folder", "name a file"),
        (
            ["report", "run", "-o", "/proc/version"],
            "/proc/version cannot be written",
            "name another file",
        ),
        (["plot", "run", "tiem", "-o", "a.png"], "there is no plot 'tiem'", "did you mean 'time'?"),
        (
            ["plot", "run", "time", "-o", "a.gif"],
            "a.gif ends in no format that plots are drawn in",
            "png",
        ),
        (
            ["plot", "run", "curve", "-o", "a.png"],
            "results/run holds nothing that plot curve could show",
            "--help",
        ),
        (
            ["plot", "run", "time", "-o", "a.png", "--x", "batch"],
            "no axis 'batch'",
            "known: backward, batch_exponent",
        ),
        (
            ["plot", "run", "time", "-o", "a.png", "--metric", "stepp_s"],
            "there is no metric",
            "did you mean 'step_s'?",
        ),
        (
            ["plot", "run", "heatmap", "-o", "a.png", "--over", "backward", "--x", "backward"],
            "a map over backward needs another axis along x",
            "known: batch_exponent, framework",
        ),
        (
            [
                "plot",
                "run",
                "heatmap",
                "-o",
                "a.png",
                "--where",
                "batch_exponent=0",
                "--where",
                "backward=explicit",
            ],
            "a map needs a second axis beside framework",
            "draw speedup",
        ),
        (
            ["plot", "run", "speedup", "-o", "a.png", "--over", "device"],
            "there is nothing to compare over",
            "see",
        ),
    ],
)
def test_what_cannot_be_drawn_is_answered_with_an_error_and_a_hint(
    sweep: Sweep, arguments: list[str], error: str, hint: str
) -> None:
    keep("results/run", core_time(), GRID)
    said = sweep(*arguments)
    assert said.code in (2, 4)
    assert said.out == ""
    assert said.err.startswith(f"error: {error}")
    assert hint in said.err.splitlines()[1]


def test_an_empty_run_is_missing_its_records(sweep: Sweep) -> None:
    keep("results/empty", [])
    for command in (["report", "empty"], ["plot", "empty", "time", "-o", "a.png"]):
        said = sweep(*command)
        assert said.code == 4
        assert said.err.startswith("error: results/empty holds no records yet")
    assert not Path("results/empty/report.html").exists()


def test_one_trial_is_reported_with_its_warning(sweep: Sweep) -> None:
    keep("results/one", [record()])
    assert sweep("report", "one").code == 0
    page = Path("results/one/report.html").read_text()
    assert "no interval from 1 process" in page
    assert embedded(page)["axes"] == []
    assert sweep("plot", "one", "time", "-o", "one.png").code == 0


def test_a_run_in_which_all_failed_is_reported_by_cause(sweep: Sweep) -> None:
    keep("results/bad", [record(s, status="crashed", error="killed by SIGSEGV") for s in range(3)])
    assert sweep("report", "bad").code == 1
    causes = embedded(Path("results/bad/report.html").read_text())["rows"]["causes"]
    assert (causes["cause"], causes["trials"]) == (["killed by SIGSEGV"], [3])
    assert sweep("plot", "bad", "time", "-o", "a.png").code == 4


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -1.0])
def test_times_that_cannot_be_are_left_out_and_end_with_one(sweep: Sweep, bad: float) -> None:
    keep("results/bad", [record(0), record(1, step_s=[0.1, bad]), record(2), record(3)])
    assert sweep("report", "bad").code == 1
    page = Path("results/bad/report.html").read_text()
    assert "NaN, zero or negative left out" in page
    rows = embedded(page)["rows"]["processes"]
    assert {s for s, m in zip(rows["seed"], rows["metric"], strict=True) if m == "step_s"} == {
        0,
        2,
        3,
    }


def test_a_damaged_part_is_told_and_the_rest_reported(sweep: Sweep) -> None:
    keep("results/run", core_time(), GRID)
    part = next(Path("results/run/records").glob("*.parquet"))
    (part.parent / "00000099-0-00000000.parquet").write_bytes(part.read_bytes()[:-20])
    said = sweep("report", "run")
    assert said.code == 0
    assert "left out: damaged" in said.err


def test_planned_trials_without_records_end_with_four_and_are_listed(sweep: Sweep) -> None:
    keep("results/run", core_time(), GRID, trials=[Planned("gone", "torch==3/core/b0/s0")])
    assert sweep("report", "run").code == 4
    assert embedded(Path("results/run/report.html").read_text())["rows"]["missing"] == {
        "name": ["torch==3/core/b0/s0"]
    }
