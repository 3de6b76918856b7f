"""`sweep plan` and `sweep schema`: what they print, what they say on stderr, and what they end with."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import yaml
from made_up import keep, record

from sweep import catalog, cli, grid
from sweep.cli import tables
from sweep.node import limits

HOUSE = Path(__file__).resolve().parent.parent
GRID = """\
name: small
axes:
  framework: [reference]
  backward: [autograd, explicit]
  batch_exponent: [0, 1]
  seed: {range: [0, 2]}
parameters: {samples: 3, warmup: 1}
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


Sweep = Callable[..., Said]


@pytest.fixture
def sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sweep:
    """The command line, called in a folder that holds `grid.yaml` and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path / "environments"))
    Path("grid.yaml").write_text(GRID)

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return call


def trials_of(text=GRID):
    return grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials


def ended(trials, status="ok", wall_s=2.0):
    """Records of these trials, as `sweep run` leaves them."""
    records = [
        record(
            t.seed,
            status=status,
            wall_s=wall_s,
            trial_id=t.id,
            trial_name=t.name,
            cell_id=t.cell.id,
        )
        for t in trials
    ]
    keep("results/small", records, GRID)


def test_trials_are_on_stdout_and_what_is_to_know_of_them_on_stderr(sweep):
    said = sweep("plan", "grid.yaml")

    lines = said.out.splitlines()
    assert said.code == 0
    assert len(lines) == 2 + 12
    assert {line.split()[0] for line in lines[2:]} == {trial.id for trial in trials_of()}
    assert "small: 4 cells, 12 trials in 3 blocks" in said.err
    assert re.search("environments to build: .*reference", said.err)
    assert "data: synthetic" in said.err
    assert "time: not known before" in said.err


def test_json_and_csv_hold_the_trials_in_the_order_in_which_they_would_run(sweep):
    rows = json.loads(sweep("plan", "grid.yaml", "--format", "json").out)
    same = list(csv.DictReader(io.StringIO(sweep("plan", "grid.yaml", "--format", "csv").out)))

    assert [row["position"] for row in rows] == list(range(12))
    assert [row["block"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row["id"] for row in rows] == [row["id"] for row in same]
    assert {row["name"] for row in rows} == {trial.name for trial in trials_of()}
    assert {row["attempt"] for row in rows} == {1}


def test_set_only_and_more_seeds_change_what_is_planned(sweep):
    chosen = ["--set", "batch_exponent=0,1,2", "--only", "*/explicit/b[12]/*", "--add-seeds", "1"]

    rows = json.loads(sweep("plan", "grid.yaml", *chosen, "--format", "json").out)

    assert {row["name"] for row in rows} == {
        f"reference/core/cpu/explicit/b{n}/s{s}" for n in (1, 2) for s in range(4)
    }


def test_what_is_left_out_is_told_with_reasons_and_numbers(sweep):
    Path("grid.yaml").write_text(
        GRID + "exclude: [{backward: explicit, batch_exponent: 1}, {device: gpu}]\n"
    )

    said = sweep("plan", "grid.yaml", "--set", "backend=default,ideep")

    assert "left out, 2: excluded by rule 1: backward: explicit, batch_exponent: 1" in said.err
    assert "left out, 3: reference has no backend 'ideep'" in said.err
    assert "warning: exclude rule 2 (device: gpu) leaves nothing out" in said.err


def test_what_has_a_record_is_done_and_keeps_its_place(sweep):
    planned = json.loads(sweep("plan", "grid.yaml", "--format", "json").out)
    first = {row["id"] for row in planned[:5]}
    ended([trial for trial in trials_of() if trial.id in first])

    said = sweep("plan", "grid.yaml", "--format", "json")

    assert "12 trials in 3 blocks, 5 done, 7 to run" in said.err
    assert [(row["id"], row["position"]) for row in json.loads(said.out)] == [
        (row["id"], row["position"]) for row in planned[5:]
    ]


def test_trials_are_estimated_from_those_that_have_ended(sweep):
    ended([trial for trial in trials_of() if trial.seed == 0], wall_s=30.0)

    said = sweep("plan", "grid.yaml", "--format", "json")

    assert {row["estimated_s"] for row in json.loads(said.out)} == {30.0}
    assert "time: about 4 min, one trial after the other" in said.err


def test_failed_trials_are_planned_again_only_when_asked_for_with_their_attempt(sweep):
    ended(trials_of(), status="failed")

    assert sweep("plan", "grid.yaml").out == ""
    again = json.loads(sweep("plan", "grid.yaml", "--retry", "failed", "--format", "json").out)

    assert len(again) == 12
    assert {row["attempt"] for row in again} == {2}


def test_data_that_are_not_there_are_told(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "data"))

    assert (
        "data: lsp (not prepared on this machine)"
        in sweep("plan", "grid.yaml", "--set", "data=lsp").err
    )
    assert (
        "data: lsp\n"
        in sweep("plan", "grid.yaml", "--set", "data=lsp", "--set", "data_path=pictures").err
    )


def test_a_run_is_looked_for_where_out_says(sweep):
    ended(trials_of())
    Path("results").rename("elsewhere")

    assert len(sweep("plan", "grid.yaml").out.splitlines()) == 14
    assert "12 done, 0 to run" in sweep("plan", "grid.yaml", "--out", "elsewhere").err


def test_planning_leaves_nothing_behind(sweep, tmp_path):
    sweep("plan", "grid.yaml")

    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["none.yaml"], "the grid none.yaml cannot be read: No such file or directory"),
        (["."], "cannot be read: Is a directory"),
        (
            ["grid.yaml", "--set", "bacth_exponent=1"],
            "--set bacth_exponent=1: parameters.bacth_exponent",
        ),
        (["grid.yaml", "--only", "nothing*"], "no trial is called 'nothing*'"),
        (["grid.yaml", "--set", "framework=troch==2.13.0"], "there is no framework 'troch'"),
        (["grid.yaml", "--set", "device=gpu"], "nothing is left of the grid"),
        (["grid.yaml", "--set", "data=lps"], "there is no data set 'lps'"),
        (["grid.yaml", "--add-seeds", "100000000"], "more seeds"),
    ],
)
def test_a_mistake_ends_with_2_an_error_a_hint_and_no_traceback(sweep, arguments, error):
    said = sweep("plan", *arguments)

    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert error in said.err
    assert "\nhint: " in said.err
    assert "Traceback" not in said.err


def test_the_schema_accepts_the_grids_of_this_repository_and_refuses_misspelt_ones(sweep):
    said = json.loads(sweep("schema").out)
    validator = jsonschema.Draft202012Validator(said)
    validator.check_schema(said)

    def complaints(document):
        return [error.message for error in validator.iter_errors(document)]

    for path in [HOUSE / "grid.yaml", *(HOUSE / "grids").glob("*.yaml")]:
        assert complaints(yaml.safe_load(path.read_text())) == []
    assert "'paramaters' was unexpected" in complaints({"paramaters": {}})[0]
    assert "'bacth_exponent' was unexpected" in complaints({"axes": {"bacth_exponent": 1}})[0]
    assert complaints({"axes": {"framework": "troch==1"}})
    assert complaints({"axes": {"device": ["cpu", "gup"]}})
    assert complaints({"parameters": {"samples": "many"}})
    assert complaints({"parameters": {"until": {"max_seeds": 3}}})


def test_a_long_table_is_measured_once_and_not_once_a_line():
    class Cells(list):
        readings = 0

        def __iter__(self):
            self.readings += 1
            return super().__iter__()

    cells = Cells(["short", "somewhat longer"] * 50)

    written = tables.as_text([tables.Column("title", cells, is_text=True)], 80)

    assert len(written.splitlines()) == 102
    assert cells.readings < 10


def test_planning_imports_neither_ray_nor_what_analyses_results(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    code = "import sys; sys.argv[1:] = ['plan', 'grid.yaml']; from sweep import cli; cli._run(); print(*sys.modules)"
    environment = os.environ | {
        "PYTHONPATH": str(HOUSE),
        "SWEEP_ENV_DIR": str(tmp_path / "environments"),
    }

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = done.stdout.splitlines()[-1].split()
    assert "sweep.schedule" in loaded
    assert not {"ray", "scipy", "pandas", "altair", "pyarrow.parquet"} & set(loaded)


@pytest.mark.parametrize(("override", "said"), [
    ("wheel: numpy-9.9.0-py3-none-any.whl", "the wheel of reference==9.9.0 is not there: {}/numpy-9.9.0"),
    ("interpreter: venv", "the interpreter of reference==9.9.0 is not there: {}/venv"),
    ("lock: mine.lock", "the lock of reference==9.9.0 is not there: {}/mine.lock"),
    ("wheel: numpy-1.9.0-py3-none-any.whl", "is of version 1.9.0, and reference==9.9.0 is asked for"),
    ("interpreter: grid.yaml", "grid.yaml, is no Python that runs"),
    ("lock: grid.yaml", "grid.yaml is no lock of an environment"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_environment_that_cannot_be_is_told_before_anything_runs(
    sweep, tmp_path, command, override, said
):
    Path("numpy-1.9.0-py3-none-any.whl").touch()
    text = GRID.replace("[reference]", "[reference==9.9]")
    Path("grid.yaml").write_text(f"{text}environments: {{reference==9.9.0: {{{override}}}}}\n")

    ended = sweep(command, "grid.yaml")

    assert ended.code == 2
    assert said.format(tmp_path) in ended.err


def test_an_environment_of_what_is_left_out_need_not_be_there(sweep):
    text = GRID.replace("[reference]", "[reference==9.9.0, reference]")
    excluded = "exclude: [{framework: reference==9.9.0}]\n"
    Path("grid.yaml").write_text(
        f"{text}{excluded}environments: {{reference==9.9.0: {{interpreter: nowhere}}}}\n"
    )

    assert sweep("plan", "grid.yaml").code == 0


def test_more_threads_than_this_machine_has_cores_are_warned_of(sweep: Sweep) -> None:
    cores = limits.core_count()
    grid = Path("grid.yaml")
    for parameters, wanted in (
        ("threads: [1, 4096]", 4096),
        (f"threads: [1, {cores + 1}]", cores + 1),
    ):
        grid.write_text(f"axes: {{framework: reference, seed: [0, 1], {parameters}}}")
        told = f"warning: 2 of 4 trials want up to {wanted} cores and this machine has {cores}: lower threads or"
        assert told in " ".join(sweep("plan", "grid.yaml").err.split())

    grid.write_text(f"axes: {{framework: reference}}\nparameters: {{threads: {cores}}}")
    assert "this machine has" not in sweep("plan", "grid.yaml").err
    grid.write_text("axes: {framework: reference}\nresources: {cpu: 4096}")
    assert "want up to 4096 cores" in " ".join(sweep("plan", "grid.yaml").err.split())


def test_of_a_long_plan_people_see_the_first_trials_and_programs_all(sweep: Sweep) -> None:
    Path("grid.yaml").write_text(
        "axes: {framework: [reference], batch_exponent: 0, threads: {range: [1, 30]}, "
        "seed: {range: [0, 39]}}"
    )
    people = sweep("plan", "grid.yaml")
    assert len(people.out.splitlines()) == 2 + 1000
    assert "and 200 trials more: --format csv lists all" in people.err

    listed = json.loads(sweep("plan", "grid.yaml", "--format", "json").out)
    assert [row["position"] for row in listed] == list(range(1200))
    text = sweep("plan", "grid.yaml", "--format", "csv").out
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["id"] for row in rows] == [row["id"] for row in listed]
    assert people.out.splitlines()[2].startswith(rows[0]["id"])


def test_rows_written_one_by_one_are_laid_out_as_all_at_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("grid.yaml").write_text("axes: {framework: [reference], seed: {range: [0, 6]}}")
    whole = {form: sweep("plan", "grid.yaml", "--format", form).out for form in ("json", "csv")}
    monkeypatch.setattr(tables, "_AT_ONCE", 3)
    for form, text in whole.items():
        assert sweep("plan", "grid.yaml", "--format", form).out == text
    rows = json.loads(whole["json"])
    assert whole["json"] == json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def test_thousands_of_versions_read_the_catalog_a_few_times(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = ", ".join(f"reference==1.{n}.0" for n in range(300))
    Path("grid.yaml").write_text(f"axes: {{framework: [{versions}], batch_exponent: 0, seed: 0}}")
    reads = []
    read = catalog.read_framework
    monkeypatch.setattr(catalog, "read_framework", lambda *a, **k: reads.append(a) or read(*a, **k))
    planned = sweep("plan", "grid.yaml")
    assert "300 cells" in planned.err
    assert "and 251 more" in planned.err  # with the one that computes reference values
    assert len(reads) < 100
