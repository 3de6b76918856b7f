"""Broken and hostile input: a seeded part of what `python tests/fuzz` tries, and the classes that it found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Sweep
from fuzz import damages, harness
from made_up import keep, record

from sweep.errors import Unavailable
from sweep.records import validation
from sweep.records.facts import RunFacts
from sweep.records.parts import concatenate
from sweep.records.results import Results
from sweep.records.rows import table_of
from sweep.report import plots
from sweep.selection import natural


def test_a_few_damages_of_a_results_folder() -> None:
    assert not harness.of_damages(seed=1, few=4).found


def test_a_few_hostile_arguments() -> None:
    assert not harness.of_arguments(seed=1, few=20).found


def test_a_few_texts_as_grids() -> None:
    assert not harness.of_grids(seed=1, few=60).found


@pytest.mark.slow
def test_more_damages_of_a_results_folder() -> None:
    assert not harness.of_damages(seed=2, few=15).found


@pytest.mark.slow
def test_more_hostile_arguments() -> None:
    assert not harness.of_arguments(seed=2, few=80).found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    keep(tmp_path / "run", [record(seed) for seed in range(3)])
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
        (lambda path: path.symlink_to(path.name), "a link to itself"),
        (lambda path: path.symlink_to("/dev/zero"), "no file"),
        (os.mkfifo, "no file"),
        (Path.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_among_the_records_is_named_and_ends_nothing(
    run: Path, put: Callable[[Path], object], reason: str
) -> None:
    put(run / "records" / "bad.parquet")
    results = Results(run)
    assert len(results.records()) == 3
    assert results.damaged == [("records/bad.parquet", reason)]


def test_what_is_no_file_among_the_records_is_set_aside_by_the_next_run(run: Path) -> None:
    (run / "records" / "bad.parquet").symlink_to("nowhere")
    with Results(run).open(RunFacts(name="made-up", grid="name: made-up\n")) as writer:
        assert writer.damaged == [("records/bad.parquet", "a link to nothing")]
    assert (run / "quarantine" / "bad.parquet").is_symlink()
    assert len(Results(run).records()) == 3


def test_a_link_in_place_of_the_lock_is_not_followed(run: Path) -> None:
    precious = run.parent / "precious"
    precious.write_text("mine")
    (run / ".lock").symlink_to(precious)
    with (
        pytest.raises(Unavailable, match="no regular file"),
        Results(run).open(RunFacts(name="x", grid="")),
    ):
        pass
    assert precious.read_text() == "mine"


def test_a_link_in_place_of_the_report_is_not_followed(sweep: Sweep, run: Path) -> None:
    precious = run.parent / "precious"
    precious.write_text("mine")
    (run / "report.html").symlink_to(precious)
    assert sweep("report", str(run)).code == 2
    assert precious.read_text() == "mine"


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(run: Path) -> None:
    os.mkfifo(run / ".lock")
    with (
        pytest.raises(Unavailable, match="no regular file"),
        Results(run).open(RunFacts(name="x", grid="")),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("wall_s", pa.array(["a"]), "its column wall_s is string and not double"),
        (
            "step_s",
            pa.array([{"a": 1}]),
            "its column step_s is struct<a: int64> and not list<item: double>",
        ),
        ("settings", pa.array(["[]"]), "its settings is no JSON object: no object"),
        (
            "settings",
            pa.array(['{"framework": [1]}']),
            "its settings is no JSON object: framework is [1]",
        ),
        ("machine", pa.array(['{"a": "\\ud800"}']), "its machine is no JSON object"),
        ("trial_id", pa.array(["../x"]), "its trial_id '../x' cannot name a file"),
        ("trial_id", pa.array([None], pa.string()), "a row has no trial_id"),
        (
            "started_at",
            pa.array([2**62], pa.timestamp("us", tz="UTC")),
            "outside of the years 1 to 9999",
        ),
    ],
)
def test_a_part_that_holds_no_records_is_left_out_as_a_whole(
    run: Path, name: str, values: pa.Array, reason: str
) -> None:
    table = table_of(record(9))
    bad = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(bad, run / "records" / "bad.parquet")
    results = Results(run)
    assert len(results.records()) == 3
    [(part, said)] = results.damaged
    assert part == "records/bad.parquet"
    assert reason in said


def test_a_part_with_a_column_twice_is_left_out(run: Path) -> None:
    table = table_of(record(9))
    twice = table.append_column(table.schema.field("wall_s"), table["wall_s"])
    pq.write_table(twice, run / "records" / "bad.parquet")
    results = Results(run)
    assert len(results.records()) == 3
    assert results.damaged == [
        ("records/bad.parquet", "no records: the column wall_s is there twice")
    ]


def test_text_that_is_no_utf_8_is_found() -> None:
    broken = pa.table({"node": damages.FOREIGN["no UTF-8"](2)})
    with pytest.raises(validation.InvalidRows, match="its column node"):
        validation.rows(broken)


@pytest.mark.parametrize("values", [[{"a": 1}], [[["b"]]], [b"\xff"], [["a", "b"]]])
def test_a_column_of_a_plug_in_in_any_type_is_read_as_text_beside_numbers(
    values: list[object],
) -> None:
    one = validation.rows(pa.table({"trial_id": ["a"], "status": ["ok"], "own": pa.array(values)}))
    other = pa.table({"trial_id": ["b"], "status": ["ok"], "own": [1.5]})
    assert concatenate([one, other], ["own"])["own"].to_pylist()[1] == "1.5"


@pytest.mark.parametrize(
    "text", ["samples=[]", "mine={range: [0, 1e300], step: 1e-300}", "mine=\udcff", "mine=[]"]
)
def test_what_set_cannot_mean_is_an_error_of_usage(sweep: Sweep, text: str) -> None:
    Path("grid.yaml").write_text(damages.GRID)
    said = sweep("plan", "grid.yaml", "--set", text)
    assert said.code == 2
    assert "error:" in said.err


@pytest.mark.parametrize("metric", ["status", "valid", "started_at", "settings"])
def test_a_column_without_numbers_is_no_metric(sweep: Sweep, run: Path, metric: str) -> None:
    said = sweep("summarize", str(run), "--metric", metric)
    assert said.code == 2
    assert f"{metric} holds no numbers" in said.err


def test_a_name_too_long_for_a_file_is_an_error_of_usage(sweep: Sweep, run: Path) -> None:
    said = sweep("plot", str(run), "time", "-o", f"{'x' * 300}.svg")
    assert said.code == 2
    assert "cannot be written" in said.err


def test_values_with_digits_that_are_no_numbers_are_sorted() -> None:
    assert sorted(["5²", "10", "9", "9" * 5000], key=natural) == ["5²", "9", "10", "9" * 5000]


def test_no_control_character_reaches_the_drawing() -> None:
    drawn = plots._printable({"a\x1b": ["\x00b", {"c\n": "d\x9b"}]})
    assert drawn == {"a\\x1b": ["\\x00b", {"c\\n": "d\\x9b"}]}


@pytest.mark.parametrize(
    "text",
    ["name: 5", "grid: [1]", "noise_floor: .nan", "noise_floor: !!int ''", "[]", "stopped: [a]"],
)
def test_a_run_file_of_another_shape_is_an_error_of_usage(
    sweep: Sweep, run: Path, text: str
) -> None:
    (run / "run.yaml").write_text(f"name: x\ngrid: ''\n{text}\n" if ":" in text else text)
    said = sweep("verify", str(run))
    assert said.code == 2
    assert "run.yaml" in said.err


def test_progress_that_is_no_object_is_named(run: Path) -> None:
    (run / "progress").mkdir(exist_ok=True)
    (run / "progress" / "t1.json").write_text("[]")
    results = Results(run)
    assert results.progress() == {}
    assert results.damaged == [("progress/t1.json", "no progress of a trial: no object")]


def test_a_plan_of_other_types_is_named(run: Path) -> None:
    shutil.copy(next((run / "records").iterdir()), run / "plan.parquet")
    results = Results(run)
    assert len(results.plan()) == 0
    [(part, said)] = results.damaged
    assert part == "plan.parquet"
    assert "other columns" in said


@pytest.mark.parametrize(
    "content", ['{"workload": ["a"]}', '{"workload": {"a": 1}}', '{"framework": 3}']
)
def test_a_content_of_any_shape_is_told_apart_as_it_is_written(content, sweep) -> None:
    records = [
        record(seed=seed) | {"content": text} for seed, text in enumerate([content, content, ""])
    ]
    keep("results/run", records)
    assert sweep("summarize", "run").code == 0
