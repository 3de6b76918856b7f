"""The commands that tell results: what they print, what they say on stderr, and what they end with."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Sweep
from made_up import Planned, keep, record, samples, training

from sweep.records.driver import Driver, this_process

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"
GRID = """\
name: core-time
axes: {framework: [chainer==7.8.1, torch==2.13.0], backward: [autograd]}
claims:
  - {name: torch is faster, compare: {framework: [torch, chainer]}, expect: {faster: 0.05}}
"""


def grid_of(processes: int = 3, factor: float = 1, **changes: Any) -> list[dict[str, Any]]:
    return [
        record(
            seed=s,
            framework=f,
            batch_exponent=b,
            mean_s=factor * 0.05 * 2**b * (2.3 if f == CHAINER else 1),
            **changes,
        )
        for f in (TORCH, CHAINER)
        for b in (0, 1)
        for s in range(processes)
    ]


def plan_of(records: list[dict[str, Any]]) -> list[Planned]:
    return [Planned(r["trial_id"], r["trial_name"]) for r in records]


@pytest.fixture
def core_time(sweep: Sweep) -> None:
    records = grid_of()
    keep("results/core-time", records, GRID, trials=plan_of(records))


@pytest.mark.usefixtures("core_time")
def test_summarize_shows_mean_variance_and_interval(sweep: Sweep) -> None:
    said = sweep("summarize")
    assert said.code == 0
    lines = said.out.splitlines()
    assert (
        lines[0]
        == "step_s: each sample's step: forward and backward; infer: forward; own step: all"
    )
    assert lines[1] == "workload core, device cpu, backward autograd, threads 2"
    assert lines[3].split()[:6] == ["framework", "batch", "n", "mean", "ms", "variance"]
    assert lines[5].split()[:3] == [CHAINER, "1", "3"]
    assert len(lines) == 9
    assert said.err == ""


@pytest.mark.usefixtures("core_time")
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = sweep("summarize")
    assert max(map(len, said.out.splitlines())) <= width
    assert "95 % interval" in said.out
    assert ("p95" in said.out) == (width == 120)
    assert "\x1b" not in said.out


@pytest.mark.usefixtures("core_time")
def test_programs_get_plain_seconds(sweep: Sweep) -> None:
    rows = json.loads(sweep("summarize", "--format", "json").out)
    assert [row["batch_size"] for row in rows] == [1, 2, 1, 2]
    assert rows[0]["mean"] == pytest.approx(0.115, rel=0.05)
    assert rows[0]["low"] < rows[0]["mean"] < rows[0]["high"]
    table = list(csv.DictReader(io.StringIO(sweep("summarize", "--format", "csv").out)))
    assert [float(row["mean"]) for row in table] == [row["mean"] for row in rows]
    assert float(table[0]["variance"]) == rows[0]["variance"]


@pytest.mark.usefixtures("core_time")
def test_papers_get_latex_and_documents_markdown(sweep: Sweep) -> None:
    latex = sweep("summarize", "--format", "latex").out
    assert latex.startswith("\\begin{tabular}{lrrrrr")
    assert "95 \\% interval" in latex
    markdown = sweep("summarize", "--format", "md").out.splitlines()
    assert markdown[1].startswith("| --- | ---: |")
    assert len({line.count("|") for line in markdown}) == 1


@pytest.mark.usefixtures("core_time")
def test_axes_metrics_and_cells_can_be_chosen(sweep: Sweep) -> None:
    said = sweep(
        "summarize",
        "core-time",
        "--by",
        "framework",
        "--metric",
        "forward_s",
        "--where",
        "batch_exponent=1",
    )
    assert [line.split()[0] for line in said.out.splitlines()[-2:]] == [CHAINER, TORCH]
    assert said.out.startswith("forward_s: ")


@pytest.mark.usefixtures("core_time")
@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (
            ["summarize", "--metric", "stpe_s"],
            "there is no metric 'stpe_s'",
            "did you mean 'step_s'?",
        ),
        (
            ["summarize", "--metric", "device_s"],
            "no trial of results/core-time holds device_s",
            "step_s",
        ),
        (
            ["summarize", "--by", "framwork"],
            "no cell has an axis 'framwork'",
            "did you mean 'framework'?",
        ),
        (
            ["summarize", "--where", "framework"],
            "--where framework is no condition",
            "write key=value",
        ),
        (
            ["summarize", "--where", "framework=mxnet"],
            "no cell of results/core-time has framework 'mxnet'",
            "known:",
        ),
        (
            ["summarize", "--where", "framework=trch"],
            "no cell of results/core-time has framework 'trch'",
            "'torch'",
        ),
        (
            ["summarize", "--where", "device=cpu,"],
            "--where device=cpu,: a value is missing between commas",
            "write",
        ),
        (
            ["summarize", "--where", "batch_exponent=0,{rang: [2, 3]}"],
            "--where batch_exponent=0,{rang",
            "range: [0",
        ),
        (
            ["summarize", "--where", "batch_exponent>=1"],
            "--where batch_exponent>=1 is no condition",
            "'key=>=3'",
        ),
        (
            ["summarize", "--where", "device=cpu", "--where", "device=gpu"],
            "--where device=gpu: device has",
            "one",
        ),
        (["summarize", "core-tmie"], "there is no run 'core-tmie'", "did you mean 'core-time'?"),
        (["summarize", "no/where"], "no/where holds no run", "see sweep ls"),
        (["summarize", "gopher://x"], "gopher://x is no place for results", "s3://bucket/prefix"),
        (
            ["compare", "--over", "device"],
            "there is nothing to compare over 'device'",
            "see sweep summarize",
        ),
        (
            ["compare", "--over", "framework", "--where", "framework=torch"],
            "there is nothing to compare over",
            "see",
        ),
        (["compare", "--baseline", "mxnet"], "no value is 'mxnet'", "known: "),
        (
            ["compare", "core-time", "core-time", "--over", "device"],
            "two runs are compared cell by cell",
            "--over",
        ),
        (["show", "core-time", "nothing"], "no trial is 'nothing'", "trials are named as "),
        (
            ["show", "core-time", f"{TORCH}/core/cpu/autograd/b0/s9"],
            "no trial is",
            f"did you mean '{TORCH}/core",
        ),
        (
            ["show", "core-time", "torch*"],
            "'torch*' may be any of 6 trials",
            "name one: torch==2.13.0/",
        ),
    ],
)
def test_mistakes_are_answered_with_an_error_and_a_hint(
    sweep: Sweep, arguments: list[str], error: str, hint: str
) -> None:
    said = sweep(*arguments)
    assert said.code in (2, 4)
    assert said.out == ""
    assert said.err.startswith(f"error: {error}")
    assert hint in said.err.splitlines()[1]


def test_without_any_run_there_is_nothing_to_summarize(sweep: Sweep) -> None:
    said = sweep("summarize")
    assert said.code == 4
    assert said.err.startswith("error: there is no run under results/\nhint: start one")


def test_an_empty_run_is_missing_its_records(sweep: Sweep) -> None:
    keep("results/empty", [])
    for command in ("summarize", "compare", "status"):
        assert sweep(command).code == 4


def test_a_single_trial_has_figures_no_interval_and_a_warning(sweep: Sweep) -> None:
    keep("results/one", [record()])
    said = sweep("summarize")
    assert said.code == 0
    assert said.out.splitlines()[-1].split()[:1] == ["1"]
    assert "–" in said.out
    assert "no interval from 1 process; use --add-seeds 2 or more" in said.err


def test_failures_end_with_one_and_are_told_by_cause(sweep: Sweep) -> None:
    crash = "Traceback\nworker killed by SIGSEGV at 0x7f0{}"
    bad = [record(seed=s, status="crashed", error=crash.format(s)) for s in range(3)]
    keep("results/bad", [*bad, record(seed=9, status="timeout")])
    said = sweep("status")
    assert said.code == 1
    assert said.out.splitlines()[1:] == [
        "  3 crashed: worker killed by SIGSEGV at …",
        "  1 timeout: it is timeout",
    ]
    assert "--retry all" in said.err
    said = sweep("summarize")
    assert said.code == 1
    assert "4 of 4 trials have no times: 3 crashed, 1 timeout" in said.err


def test_planned_trials_without_records_end_with_four(sweep: Sweep) -> None:
    records = grid_of()
    keep("results/part", records[:-1], GRID, trials=plan_of(records))
    for command in ("summarize", "status"):
        assert sweep(command).code == 4
    assert "11 of 12 planned trials have a record: 11 ok, 1 without a record" in sweep("status").out
    told = json.loads(sweep("status", "--format", "json").out)
    assert [told[name] for name in ("state", "planned", "recorded", "missing")] == [
        "incomplete",
        12,
        11,
        1,
    ]


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -1.0])
def test_times_that_cannot_be_end_with_one(sweep: Sweep, bad: float) -> None:
    keep("results/bad", [record(seed=0), record(seed=1, step_s=[0.1, bad])])
    said = sweep("summarize")
    assert said.code == 1
    assert "1 trial with times that are NaN, zero or negative left out" in said.err


@pytest.mark.usefixtures("core_time")
def test_damaged_parts_are_named_and_the_rest_is_told(sweep: Sweep) -> None:
    keep("results/core-time", [record(seed=77)], GRID)
    (Path("results/core-time/records") / "00000099-0-00000000.parquet").write_bytes(b"PAR1")
    said = sweep("summarize")
    assert "warning: records/00000099-0-00000000.parquet left out: damaged" in said.err
    assert len(said.out.splitlines()) > 6


@pytest.mark.usefixtures("core_time")
def test_compare_says_it_in_sentences(sweep: Sweep) -> None:
    said = sweep("compare", "core-time", "--over", "framework")
    assert said.code == 0
    first = said.out.splitlines()[0]
    assert first.startswith("torch 2.13.0 is 2.")
    assert "× [" in first
    assert first.endswith("faster than chainer 7.8.1 at batch 1 on the CPU (3 processes each)")


def test_memory_is_less_and_not_faster(sweep: Sweep) -> None:
    bytes_of = {TORCH: 3 * 2**30, CHAINER: 2**30}
    keep(
        "results/run",
        [
            record(s, framework=f, peak_rss_bytes=b + s)
            for f, b in bytes_of.items()
            for s in range(3)
        ],
    )
    said = sweep("compare", "--metric", "peak_rss_bytes", "--baseline", "chainer")
    assert said.out.startswith(
        "torch 2.13.0 needs 3.00× [3.00, 3.00] more memory than chainer 7.8.1 at batch 32"
    )
    said = sweep("compare", "--metric", "peak_rss_bytes", "--baseline", "torch")
    assert said.out.startswith(
        "chainer 7.8.1 needs 3.00× [3.00, 3.00] less memory than torch 2.13.0 at batch 32"
    )


def test_each_workload_is_told_in_its_own_metric(sweep: Sweep) -> None:
    trainings = [training(s, framework=f) for s in range(3) for f in (TORCH, CHAINER)]
    keep("results/run", [*grid_of(), *trainings])
    said = sweep("compare", "--over", "framework")
    assert said.code == 0
    assert len(said.out.splitlines()) == 3
    assert len(sweep("compare", "--over", "framework", "--metric", "step_s").out.splitlines()) == 2
    rows = json.loads(sweep("summarize", "--format", "json").out)
    assert {(row["workload"], row["metric"]) for row in rows} == {
        ("core", "step_s"),
        ("train", "epoch_s"),
    }
    tables = sweep("summarize").out.splitlines()
    assert [line.split(":")[0] for line in tables if line.startswith(("step_s", "epoch_s"))] == [
        "step_s",
        "epoch_s",
    ]
    said = sweep("compare", "--over", "workload")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: no two cells differ in 'workload' alone")


@pytest.mark.usefixtures("core_time")
def test_compare_ends_with_one_where_something_is_slower(sweep: Sweep) -> None:
    said = sweep("compare", "--baseline", "torch", "--format", "json")
    assert said.code == 1
    rows = json.loads(said.out)
    assert {row["verdict"] for row in rows} == {"slower"}
    assert rows[0]["low"] < rows[0]["ratio"] < rows[0]["high"]
    assert "slower than torch 2.13.0" in rows[0]["sentence"]


@pytest.mark.parametrize("form", ["table", "md", "csv", "latex"])
@pytest.mark.usefixtures("core_time")
def test_comparisons_come_in_every_format(sweep: Sweep, form: str) -> None:
    said = sweep("compare", "--format", form)
    assert said.code == 0
    assert said.out.count("faster") >= 2


def taken_by_others(**changes: Any) -> list[dict[str, Any]]:
    """A run beside which others took 70 % of the cores."""
    return [r | {"contention_ratio": 0.7} for r in grid_of(**changes)]


def test_verdicts_come_with_what_makes_either_side_doubtful(sweep: Sweep) -> None:
    keep("results/quiet", grid_of(), GRID)
    keep("results/busy", taken_by_others(), GRID)
    doubtful = "other processes took over 10% of the cores of 3 trials"
    assert doubtful not in sweep("compare", "quiet", "--over", "framework").err
    assert (
        f"warning: both sides: {doubtful}; stop them"
        in sweep("compare", "busy", "--over", "framework").err
    )
    assert f"warning: busy: {doubtful}" in sweep("compare", "quiet", "busy").err
    assert f"warning: both sides: {doubtful}" in sweep("verify", "busy").err
    for command in (["compare", "busy"], ["compare", "quiet", "busy"], ["verify", "busy"]):
        rows = json.loads(sweep(*command, "--format", "json").out)
        assert all(doubtful in row["warnings"][0] for row in rows)
        assert doubtful in sweep(*command, "--format", "md").out
    assert json.loads(sweep("verify", "quiet", "--format", "json").out)[0]["warnings"] == []


def test_the_headlines_of_a_report_come_with_what_makes_either_side_doubtful(sweep: Sweep) -> None:
    keep("results/busy", taken_by_others(), GRID)
    sweep("report", "busy")
    page = Path("results/busy/report.html").read_text()
    headline = page.partition('id="answers"')[2].partition("</section>")[0]
    assert (
        headline.count("both sides: other processes took over 10% of the cores") == 2
    )  # of the claim and of the comparison
    assert '"warnings":["contaminated"' in page


def test_verdicts_come_with_what_else_differs(sweep: Sweep) -> None:
    blas = "OpenBLAS 0.3.{}  USE64BITINT DYNAMIC_ARCH NO_AFFINITY Haswell MAX_THREADS=64"

    def run(**facts: str) -> list[dict[str, Any]]:
        return [r | facts for r in grid_of()]

    old = {"python": "3.8.20", "numpy": "1.19.5", "blas": blas.format(9), "code_version": "0.1"}
    new = {"python": "3.12.3", "numpy": "2.1.0", "blas": blas.format(29), "code_version": "0.2"}
    keep(
        "results/one", [r | (old if r["framework"] == "chainer" else new) for r in grid_of()], GRID
    )
    said = sweep("compare", "one")
    (line,) = said.err.splitlines()
    assert line.startswith(
        "warning: torch 2.13.0 and chainer 7.8.1 differ in more: Python (3.12.3, 3.8.20), NumPy (2.1.0, 1.19.5), "
        "BLAS (0.3.29, 0.3.9), version of sweep (0.2, 0.1); the ratio is that of all together"
    )
    keep("results/two", run(**new, environment_id="a1", framework_build="gcc 13"), GRID)
    keep("results/built", run(**new, environment_id="b2", framework_build="gcc 14"), GRID)
    keep("results/locked", run(**new, environment_id="b2", framework_build="gcc 13"), GRID)
    assert "the build of the framework (gcc 14, gcc 13)" in sweep("compare", "two", "built").err
    assert "packages of the environment (b2, a1)" in sweep("compare", "two", "locked").err
    assert "differ in more" not in sweep("compare", "two", "two").err
    assert "the environment" not in line


XEON, EPYC = "Intel(R) Xeon(R) CPU @ 2.20GHz", "AMD EPYC 7B12, 64-Core"


def measured_on(machines: dict[str, float], **changes: Any) -> list[dict[str, Any]]:
    """A run on these machines, each so many times slower, three trials of each cell on each."""
    return [
        r | {"cpu_model": machine, "seed": r["seed"] + 3 * n, "trial_id": f"{r['trial_id']}-{n}"}
        for n, (machine, factor) in enumerate(machines.items())
        for r in grid_of(factor=factor, **changes)
    ]


def test_runs_on_machines_that_overlap_in_part_are_compared_on_those_that_both_have(
    sweep: Sweep,
) -> None:
    keep("results/mixed", measured_on({XEON: 1.5, EPYC: 1.0}), GRID)
    keep("results/alike", measured_on({EPYC: 1.0}), GRID)
    said = sweep("compare", "alike", "mixed", "--margin", "0.05")
    assert said.code == 0
    assert said.out.count("takes the same time") == 4
    assert (
        f"warning: left out: 3 trials of mixed on {XEON}, where the other side has none; run both"
        in said.err
    )
    assert sweep("compare", "alike", "mixed", "--margin", "0.05", "--across-machines").code != 0


@pytest.mark.parametrize("command", ["summarize", "compare", "verify", "report", "plot"])
def test_a_kind_of_machine_can_be_chosen_as_the_warning_says(sweep: Sweep, command: str) -> None:
    keep("results/mixed", measured_on({EPYC: 1.0, XEON: 1.5}), GRID)
    fix = f"""--where 'cpu_model="{EPYC}"'"""
    assert fix in sweep("summarize", "mixed").err
    more = {"compare": ["--over", "framework"], "plot": ["time", "-o", "time.svg"]}.get(command, [])
    said = sweep(command, "mixed", *more, "--where", f'cpu_model="{EPYC}"')
    assert (said.code, said.err) == (0, "")
    nowhere = sweep(command, "mixed", *more, "--where", "cpu_model=*SPARC*")
    assert nowhere.code == 4
    assert nowhere.err.startswith("error: no cell of results/mixed has cpu_model '*SPARC*'")
    wrong = sweep(command, "mixed", *more, "--where", "cpu_modle=x")
    assert wrong.err.splitlines()[1] == "hint: did you mean 'cpu_model'?"


def test_conditions_on_where_trials_ran_are_conditions_like_any(sweep: Sweep) -> None:
    pythons = ("3.8.20", "3.12.3", None)
    rows = [record(s, python=python, node=f"n{s % 2}") for s, python in enumerate(pythons * 2)]
    keep("results/run", rows)

    def counted(*conditions: str) -> list[int]:
        wheres = [part for condition in conditions for part in ("--where", condition)]
        return [
            row["processes"]
            for row in json.loads(sweep("summarize", "--format", "json", *wheres).out)
        ]

    assert counted() == [6]
    assert counted("python=3.12.3") == [2]
    assert counted("python=>=3.9") == [2]
    assert counted("python=3.8*,3.12*") == [4]
    assert counted("node=n0", "python=3.8.20") == [1]
    assert counted("node=n0", "device=cpu") == [3]
    assert (
        "warning: no cell of results/run has node 'n7'"
        in sweep("summarize", "--where", "node=n0,n7").err
    )


def test_a_report_of_one_kind_of_machine_holds_its_trials_alone(sweep: Sweep) -> None:
    keep("results/mixed", measured_on({EPYC: 1.0, XEON: 1.5}), GRID)
    assert (
        sweep(
            "report",
            "mixed",
            "--where",
            "cpu_model=*EPYC*",
            "--where",
            "batch_exponent=0",
            "-o",
            "r.html",
        ).code
        == 0
    )
    page = Path("r.html").read_text()
    assert "6 trials in 2 cells" in page
    assert XEON not in page


def test_drift_is_told_of_runs_and_not_where_pairs_bear_it(sweep: Sweep) -> None:
    def run(drift: float) -> list[dict[str, Any]]:
        return [
            record(s, framework=f, step_s=[t * (1 + drift * s) * (1 + 0.001 * (s % 3))] * 5)
            for f, t in ((TORCH, 1.0), (CHAINER, 2.0))
            for s in range(10)
        ]

    keep("results/steady", run(0))
    keep("results/drifting", run(0.05))
    assert "drifts" not in sweep("compare", "drifting", "--over", "framework").err
    assert "warning: drifting: step_s drifts by +" in sweep("compare", "steady", "drifting").err
    rows = json.loads(sweep("compare", "steady", "drifting", "--format", "json").out)
    assert [sum("drifts" in warning for warning in row["warnings"]) for row in rows] == [1, 1]


def test_many_warnings_of_a_kind_are_few_lines(sweep: Sweep) -> None:
    rows = [
        record(s, framework=f, batch_exponent=b, **({} if s < 3 else {"status": "failed"}))
        for f in (TORCH, CHAINER)
        for b in range(5)
        for s in range(4 + b)
    ]
    keep("results/run", rows)
    said = sweep("compare", "--over", "framework")
    lines = [
        line
        for line in said.err.splitlines()
        if "trials have no times" in line or "(failed)" in line
    ]
    assert len(lines) == 3
    assert lines[-1] == "warning: 3 more of this kind (failed): --format json has them all"


def test_what_is_open_ends_with_three(sweep: Sweep) -> None:
    keep("results/few", grid_of(processes=2))
    said = sweep("compare")
    assert said.code == 3
    assert "is inconclusive" in said.out
    assert "use --add-seeds 1 or more" in said.out


def test_two_runs_are_compared_and_a_lost_cell_reported(sweep: Sweep) -> None:
    keep("results/before", grid_of())
    keep("results/after", [r for r in grid_of() if r["batch_exponent"] == 0])
    said = sweep("compare", "before", "after")
    assert said.code == 4
    assert "after cannot be compared with before" in said.out
    assert "after has no records there" in said.out
    keep("results/other", [record(batch_exponent=7)])
    said = sweep("compare", "before", "other")
    assert said.code == 2
    assert said.err.startswith(
        "error: other and before have no cell in common\nhint: batch_exponent is 7 in one"
    )


def test_a_regression_at_one_value_is_not_hidden_by_leaving_out_its_axis(sweep: Sweep) -> None:
    def run(factor: float, name: str) -> list[dict[str, Any]]:
        return [
            record(s, step_s=[0.1 * (1 + s / 1000) * (factor if n == 1 else 1)] * 5, also={name: n})
            for n in (1, 2, 4)
            for s in range(3)
        ]

    keep("results/before", run(1, "lanes"))
    keep("results/after", run(2, "lanes"))
    keep("results/renamed", run(2, "streams"))
    assert sweep("compare", "before", "after").code == 1
    said = sweep("compare", "before", "after", "--ignore", "lanes")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(
        "error: 3 cells of after differ only in lanes (1, 2, 4), which is left out\nhint: match"
    )
    said = sweep("compare", "before", "after", "--ignore", "lanes", "--where", "lanes=1")
    assert said.code == 1
    assert sweep("compare", "before", "renamed", "--ignore", "lanes").code == 2
    assert sweep("compare", "before", "renamed", "--rename", "lanes=streams").code == 1
    assert sweep("compare", "before", "renamed", "--rename", "lanes").code == 2
    assert sweep("compare", "before", "--ignore", "lanes").code == 2


def test_batches_of_one_framework_are_no_question(sweep: Sweep) -> None:
    keep("results/run", [record(s, batch_exponent=b) for b in (0, 1) for s in range(3)])
    said = sweep("compare")
    assert (said.code, said.out) == (2, "")
    assert "error: the cells differ in batch_exponent alone, which is no choice" in said.err
    assert "use --over batch_exponent if that is the question" in said.err
    assert sweep("plot", "run", "speedup", "-o", "speedup.svg").err == said.err
    rows = [
        record(s, batch_exponent=b, backward=w)
        for b in (0, 1)
        for w in ("autograd", "explicit")
        for s in range(3)
    ]
    keep("results/two", rows)
    assert "against" not in sweep("compare", "two", "--over", "batch_exponent").err
    assert "explicit" in sweep("compare", "two").out


def test_cells_without_a_counterpart_are_named(sweep: Sweep) -> None:
    keep(
        "results/run",
        [*grid_of(), *[record(s, framework=TORCH, batch_exponent=4) for s in range(3)]],
    )
    said = sweep("compare", "--over", "framework")
    assert "1 cells (" not in said.err
    assert (
        "warning: 1 cell has no counterpart that differs in framework alone: torch==2.13.0/core"
        in said.err
    )


@pytest.mark.usefixtures("core_time")
def test_compare_takes_several_axes(sweep: Sweep) -> None:
    said = sweep(
        "compare",
        "--over",
        "framework,batch_exponent",
        "--baseline",
        "chainer,0",
        "--format",
        "json",
    )
    rows = json.loads(said.out)
    assert [row["baseline"] for row in rows] == [f"{CHAINER},0"] * 3
    assert (
        sweep("compare", "--over", "framework,batch_exponent", "--baseline", f"{CHAINER},7").code
        == 2
    )


@pytest.mark.usefixtures("core_time")
def test_verify_tells_each_claim_with_its_evidence(sweep: Sweep) -> None:
    said = sweep("verify")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "supported: torch is faster"
    assert lines[1] == "  torch / chainer, step_s: ratio under 0.9524 expected; 2 supported"
    assert lines[2].startswith("  supported     at batch 1 on the CPU: 0.4")
    rows = json.loads(sweep("verify", "--format", "json").out)
    assert [row["outcome"] for row in rows] == ["supported", "supported"]


def test_a_row_of_a_claim_is_about_the_claim_alone(sweep: Sweep) -> None:
    times = {"autograd": (1.0, 1.0, 1.0), "explicit": (1.008, 1.02, 0.996)}
    rows = [
        record(s, backward=w, step_s=[t] * 5)
        for w, each in times.items()
        for s, t in enumerate(each)
    ]
    claims = "claims: [{name: alike, compare: {backward: [explicit, autograd]}, expect: {equivalent: 0.05}}]"
    keep("results/run", rows, f"name: run\naxes: {{framework: [{TORCH}]}}\n{claims}\n")
    assert "inconclusive" in sweep("compare", "--over", "backward", "--baseline", "autograd").out
    for form in ("json", "csv", "md", "table"):
        said = sweep("verify", "--format", form)
        assert said.code == 0
        assert "supported" in said.out
        assert "inconclusive" not in said.out
        assert "--add-seeds" not in said.out
    (row,) = json.loads(sweep("verify", "--format", "json").out)
    assert (row["evidence"], row["seeds_needed"]) == ("supported", None)
    assert not {"verdict", "margin"} & row.keys()
    assert row["sentence"].startswith(
        "the explicit backward / autograd, step_s: ratio over 0.9524 and under 1.05 expect"
    )


def test_both_commands_say_that_they_correct_for_different_families(sweep: Sweep) -> None:
    def cells(lane: int, *explicit: float) -> list[dict[str, Any]]:
        both = {"autograd": (1.0, 1.0, 1.0), "explicit": explicit}
        like = {"also": {"lane": lane}}
        return [
            record(s, backward=w, step_s=[t] * 5, **like)
            for w, each in both.items()
            for s, t in enumerate(each)
        ]

    rows = cells(0, 1.02, 1.03, 1.025) + [
        r for lane in range(1, 9) for r in cells(lane, 1.1, 1.0, 0.9)
    ]
    stated = "claims: [{name: alike, compare: {backward: [explicit, autograd]}, expect: {equivalent: 0.01}}]"
    keep("results/run", rows, f"name: run\naxes: {{framework: [{TORCH}]}}\n{stated}\n")
    said = sweep("compare", "--over", "backward", "--baseline", "autograd")
    assert (
        "the interval alone would say slower, but among 9 comparisons it is not sure enough"
        in said.out
    )
    assert (
        "note: 1 verdict is inconclusive by the correction for 9 comparisons made together; sweep verify"
        in said.err
    )
    said = sweep("verify")
    assert (
        "the interval alone would say refuted, but among 9 comparisons it is not sure enough"
        in said.out
    )
    assert (
        "sweep compare may say otherwise: it corrects for the comparisons that it shows" in said.err
    )


@pytest.mark.parametrize(
    ("expect", "code"),
    [("{slower: 0.0}", 1), ("{ratio: [0.4, 0.43]}", 3), ("{faster: 100%}", 0), ("{quick: 1}", 2)],
)
def test_verify_ends_as_documented(sweep: Sweep, expect: str, code: int) -> None:
    keep("results/core-time", grid_of(), GRID.replace("{faster: 0.05}", expect))
    assert sweep("verify").code == code


def test_a_claim_without_records_ends_with_four(sweep: Sweep) -> None:
    keep("results/core-time", [r for r in grid_of() if r["framework"] == "torch"], GRID)
    assert sweep("verify").code == 4


def test_a_grid_without_claims_has_nothing_to_verify(sweep: Sweep) -> None:
    keep("results/plain", [record()])
    said = sweep("verify")
    assert said.code == 2
    assert "states no claims" in said.err


@pytest.mark.usefixtures("core_time")
def test_ls_lists_runs_newest_first(sweep: Sweep) -> None:
    keep("results/later", [record(), record(seed=1, status="failed")])
    said = sweep("ls")
    assert [line.split()[:4] for line in said.out.splitlines()[2:]] == [
        ["later", "2", "1", "1"],
        ["core-time", "12", "12", "0"],
    ]
    assert [row["run"] for row in json.loads(sweep("ls", "--format", "json").out)] == [
        "later",
        "core-time",
    ]
    assert sweep("ls", "nowhere").err.startswith("no runs under nowhere")


@pytest.mark.parametrize("way", ["id", "beginning", "name", "glob"])
def test_show_tells_all_that_is_known_of_a_trial(sweep: Sweep, way: str) -> None:
    trial = record(
        seed=4, log="epoch 1\nepoch 2\n", environment_id="e1", packages=["torch==2.13.0"], attempt=2
    )
    failed = record(seed=4, status="crashed", error="worker killed by SIGKILL", attempt=1)
    keep("results/core", [failed, trial, record(seed=5)])
    wanted = {
        "id": trial["trial_id"],
        "beginning": trial["trial_id"][:-1] + "4",
        "name": trial["trial_name"],
        "glob": "*/s4",
    }
    said = sweep("show", "core", wanted[way])
    assert said.code == 0
    assert "30 values, " in said.out
    assert "attempt 1: crashed: worker killed by SIGKILL" in said.out
    assert said.out.endswith("log:\n  epoch 1\n  epoch 2\n")
    assert sweep("show", "core", trial["trial_name"], "--packages").out == "torch==2.13.0\n"
    assert sweep("show", "core", trial["trial_name"], "--log").out == "epoch 1\nepoch 2\n"
    assert json.loads(sweep("show", "core", "*/s4", "--format", "json").out)["seed"] == 4


def test_show_tells_single_values_and_losses_as_people_read_them(sweep: Sweep) -> None:
    keep("results/run", [training(epochs=1, loss=[0.5, 0.25, 0.2, 0.1], cores=list(range(64)))])
    lines = dict(
        line.split(maxsplit=1)
        for line in sweep("show", "run", "*/s0").out.splitlines()
        if " " in line
    )
    assert lines["cores"] == "64 values, 0 … 63"
    assert lines["loss"] == "4 values, 0.1000 … 0.5000, median 0.2500"
    assert re.fullmatch(r"\d\.\d{3} s", lines["epoch_s"]) or re.fullmatch(
        r"\d{3}\.\d ms", lines["epoch_s"]
    )


def test_running_trials_tell_their_progress(sweep: Sweep) -> None:
    keep("results/core", [record()])
    Path("results/core/progress").mkdir()
    told = {"trial": "torch/train/s0", "epoch": 3, "loss": 0.0213456}
    Path("results/core/progress/abc.json").write_text(json.dumps(told))
    Path("results/core/progress/torn.json").write_text('{"trial": ')
    assert "epoch" not in sweep("status").out  # nobody runs it: they were left behind
    driver = Driver(**this_process(), phase="running trials", heard_at=time.time())
    Path("results/core/driver.json").write_text(driver.text())
    assert "  running torch/train/s0: epoch 3, loss 0.02135" in sweep("status").out.splitlines()


def test_text_of_grids_is_never_taken_for_markup(sweep: Sweep) -> None:
    keep("results/core", [record(seed=s, framework=f"[red]{s % 2}|x==1_0") for s in range(6)])
    assert "[red]0|x==1_0" in sweep("summarize").out
    assert "[red]0\\|x==1_0" in sweep("summarize", "--format", "md").out
    assert "[red]0\\textbar{}x==1\\_0" in sweep("summarize", "--format", "latex").out


def test_a_uri_is_a_place_like_any_other(sweep: Sweep, tmp_path: Path) -> None:
    keep(f"file://{tmp_path}/far/run", grid_of())
    assert sweep("summarize", f"file://{tmp_path}/far/run").code == 0
    assert "run" in sweep("ls", f"file://{tmp_path}/far").out


def test_settling_is_told_with_the_samples_to_set_aside(sweep: Sweep) -> None:
    slow_start = [record(seed=s, step_s=[0.2] * 20 + samples(s, 0.1, count=60)) for s in range(3)]
    keep("results/core", slow_start)
    said = sweep("summarize")
    assert (
        "3 of 3 processes still warming up; set aside 20 more samples: raise parameters: warmup by 20"
        in said.err
    )


@pytest.mark.parametrize("command", ["summarize", "compare", "verify", "status", "ls", "show"])
def test_every_command_teaches_with_an_example(sweep: Sweep, command: str) -> None:
    said = sweep(command, "--help")
    assert said.code == 0
    assert f"Example: sweep {command} " in said.out


def test_a_training_whose_first_epochs_are_slow_is_not_sent_to_a_parameter_that_it_has_not(
    sweep: Sweep,
) -> None:
    slow_start = [2.0] * 20 + samples(0, 1.0, count=60)
    keep("results/run", [training(seed=s, epochs=80, epoch_s=slow_start) for s in range(3)])
    said = sweep("summarize", "--metric", "epoch_s")
    assert (
        "3 of 3 processes still warming up; the first 20 count too: the median bears them"
        in said.err
    )


@pytest.mark.parametrize(
    ("statuses", "advice"),
    [
        (
            ["unsupported"],
            "change the grid, or with a machine that can, use sweep run --retry failed",
        ),
        (["crashed", "unsupported"], "see sweep status for why, then sweep run --retry failed"),
        (["timeout"], "see sweep status for why, then sweep run --retry timeout"),
    ],
)
def test_trials_that_nothing_here_can_run_are_not_just_to_be_tried_again(
    sweep: Sweep, statuses: list[str], advice: str
) -> None:
    keep("results/study", [record(seed=s, status=statuses[s % len(statuses)]) for s in range(4)])

    assert advice in " ".join(sweep("summarize", "study").err.split())
