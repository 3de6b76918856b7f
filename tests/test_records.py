"""Records: none lost, none double, whatever happens to the writer or to the bytes."""

from __future__ import annotations

import datetime as dt
import gc
import json
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import keep, record

from sweep.errors import SweepError, Unavailable
from sweep.grid import Exclusion
from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.records.facts import RunFacts
from sweep.records.results import Results

FACTS = RunFacts(name="made-up", grid="name: made-up\naxes: {}\n")


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "records").glob("*.parquet"))


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    with Results(tmp_path).open(FACTS) as results:
        results.append(record(seed=3))
        assert Results(tmp_path).statuses() == {record(seed=3)["trial_id"]: ("ok", 1)}


def test_every_column_has_a_unit_and_a_meaning() -> None:
    assert [
        f.name for f in SCHEMA if b"unit" not in f.metadata or len(f.metadata[b"meaning"]) < 5
    ] == []


def test_values_come_back_as_they_went(tmp_path: Path) -> None:
    results = keep(tmp_path, [record(seed=1, step_s=[0.1, 0.2], involuntary_switches=7)])
    (row,) = results.records().to_pylist()
    assert row["step_s"] == [0.1, 0.2]
    assert row["cores"] == [0, 1]
    assert row["involuntary_switches"] == 7
    assert json.loads(row["settings"])["seed"] == 1
    assert row["started_at"] == dt.datetime.fromtimestamp(1_700_000_001, dt.UTC)
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["device_s"] is None


def test_an_axis_of_the_users_own_is_a_column(tmp_path: Path) -> None:
    rows = [
        record(seed=0, width=1),
        record(seed=1, width="wide"),
        record(seed=2),
        record(seed=3, depth=1.5),
    ]
    table = keep(tmp_path, rows).records(["seed", "width", "depth"])
    assert sorted(table.to_pylist(), key=lambda r: r["seed"]) == [
        {"seed": 0, "width": "1", "depth": None},
        {"seed": 1, "width": "wide", "depth": None},
        {"seed": 2, "width": None, "depth": None},
        {"seed": 3, "width": None, "depth": 1.5},
    ]


def test_nonsense_from_a_workload_is_a_failed_record_that_says_so(tmp_path: Path) -> None:
    (row,) = (
        keep(tmp_path, [record(step_s=[0.1], grad_check="low", strange={"a": {1, 2}})])
        .records()
        .to_pylist()
    )
    assert row["status"] == "failed"
    assert "grad_check is no double" in row["error"]
    assert row["step_s"] == [0.1]
    assert "a" in row["strange"]


def test_the_newest_attempt_counts_and_a_failure_never_replaces_ok(tmp_path: Path) -> None:
    rows = [
        record(seed=0, status="failed", attempt=1),
        record(seed=0, status="timeout", attempt=3),
        record(seed=0, status="crashed", attempt=2),
        record(seed=1, attempt=1),
        record(seed=1, status="failed", attempt=2),
        record(seed=2, status="invalid", attempt=1),
        record(seed=2, attempt=2),
    ]
    results = keep(tmp_path, rows)
    assert sorted(results.statuses().values()) == [("ok", 1), ("ok", 2), ("timeout", 3)]
    assert results.ended([*results.statuses(), "not run yet"]) == {"ok": 2, "timeout": 1}
    assert results.ended([]) == {}
    assert len(results.attempts()) == 7
    history = results.history(record(seed=1)["trial_id"])
    assert [(row["status"], row["attempt"]) for row in history] == [("failed", 2), ("ok", 1)]
    assert results.history("nothing") == []


def test_records_that_are_kept_together_are_one_part_and_each_its_own(tmp_path: Path) -> None:
    together = [
        record(seed=seed, log=f"log {seed}") | ({"odd": "x"} if seed == 1 else {})
        for seed in range(3)
    ]
    with Results(tmp_path).open(FACTS) as results:
        results.append_together(together)
        assert len(parts(tmp_path)) == 1
        assert [results.log(each["trial_id"]) for each in together] == ["log 0", "log 1", "log 2"]
    table = Results(tmp_path).records()
    assert table["seed"].to_pylist() == [0, 1, 2]
    assert table["odd"].to_pylist() == [None, "x", None]
    assert Results(tmp_path).statuses() == {each["trial_id"]: ("ok", 1) for each in together}


def test_what_was_folded_tells_its_units(tmp_path: Path) -> None:
    keep(tmp_path, [record(seed=seed, step_s=[0.1]) for seed in range(2)])
    (part,) = parts(tmp_path)
    assert pq.read_schema(part).field("step_s").metadata[b"unit"] == b"s"


def test_a_single_record_tells_its_units_and_its_version_as_folded_ones_do(tmp_path: Path) -> None:
    with Results(tmp_path).open(FACTS) as results:
        results.append(
            record(seed=0, odd=1, columns={"odd": {"unit": "nuts", "direction": "more"}})
        )
        (single,) = map(pq.read_schema, parts(tmp_path))
        results.append(
            record(seed=1, odd=1.5, columns={"odd": {"unit": "bolts", "direction": "more"}})
        )
    (folded,) = map(pq.read_schema, parts(tmp_path))
    assert single.metadata == folded.metadata == SCHEMA.metadata
    for field in SCHEMA:
        assert (
            single.field(field.name).metadata == folded.field(field.name).metadata == field.metadata
        )
    assert single.field("odd").metadata == {b"unit": b"nuts", b"direction": b"more"}
    assert folded.field("odd").metadata == {
        b"unit": b"bolts",
        b"direction": b"more",
    }  # the last word counts
    assert (
        Results(tmp_path).records(["odd"]).schema.field("odd").metadata
        == folded.field("odd").metadata
    )


def test_flags_need_not_be_read_where_a_part_says_that_all_are_true(tmp_path: Path) -> None:
    results = keep(
        tmp_path, [record(seed=seed, step_s=[0.1, 0.2], valid=[True, True]) for seed in range(3)]
    )
    assert len(parts(tmp_path)) == 1  # folded: it has statistics
    assert results.records(["valid"], null_if_true=["valid"])["valid"].to_pylist() == [None] * 3
    assert results.records(["valid"])["valid"].to_pylist() == [[True, True]] * 3
    keep(
        tmp_path, [record(seed=seed, step_s=[0.1, 0.2], valid=[seed == 3, True]) for seed in (3, 4)]
    )
    flags = results.records(["seed", "valid"], null_if_true=["valid"]).to_pylist()
    assert {row["seed"]: row["valid"] for row in flags if row["seed"] >= 3} == {
        3: [True, True],
        4: [False, True],
    }


def test_folding_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    with Results(tmp_path).open(FACTS) as results:
        for seed in range(150):
            results.append(record(seed=seed, step_s=[0.1]))
        assert len(parts(tmp_path)) < 70
        assert len(results.attempts()) == 150
    assert len(parts(tmp_path)) == 1
    assert sorted(Results(tmp_path).records(["seed"])["seed"].to_pylist()) == list(range(150))


def test_a_fold_that_was_cut_short_leaves_no_doubles(tmp_path: Path) -> None:
    """As a kill between writing the folded part and deleting the old ones would."""
    with Results(tmp_path).open(FACTS) as results:
        for seed in range(5):
            results.append(record(seed=seed))
        old = {path.name: path.read_bytes() for path in parts(tmp_path)}
    for name, data in list(old.items())[2:]:
        (tmp_path / "records" / name).write_bytes(data)
    assert len(Results(tmp_path).records()) == 5
    keep(tmp_path, [record(seed=5)])
    assert len(Results(tmp_path).attempts()) == 6


def test_a_fold_in_pieces_is_one_part_without_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.records.parts._PIECE_ROWS", 1)
    with Results(tmp_path).open(FACTS) as results:
        results.append(record(seed=0))
        results.append(record(seed=1) | {"odd": "x"})
        results.append(record(seed=0))
        results.append(record(seed=2) | {"odd": 1.5})
    (part,) = parts(tmp_path)
    assert pq.read_metadata(part).num_row_groups == 3
    assert sorted(
        Results(tmp_path).attempts(["seed", "odd"]).to_pylist(), key=lambda row: row["seed"]
    ) == [
        {"seed": 0, "odd": None},
        {"seed": 1, "odd": "x"},
        {"seed": 2, "odd": "1.5"},
    ]


def test_large_records_are_folded_before_there_are_many(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).random(
        2**16
    )  # half a megabyte that does not compress, in each of three columns
    with Results(tmp_path).open(FACTS) as results:
        for seed in range(12):
            results.append(record(seed=seed, step_s=samples))
        sizes = [path.stat().st_size for path in parts(tmp_path)]
    assert len(sizes) == 2
    assert max(sizes) > 10 * 2**20
    assert len(Results(tmp_path).records(["seed"])) == 12


def test_a_reader_sees_every_record_while_parts_are_folded(tmp_path: Path) -> None:
    short: list[int] = []
    written = [0]
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            expected = written[0]
            short.append(max(0, expected - len(Results(tmp_path).statuses())))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(15):  # each ends with a fold of what is there
        with Results(tmp_path).open(FACTS) as results:
            for _ in range(10):
                results.append(record(seed=written[0], step_s=[0.1]))
                written[0] += 1
    done.set()
    reader.join()
    assert len(short) > 10
    assert max(short) == 0


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from made_up import record
from sweep.records.facts import RunFacts
from sweep.records.results import Results
with Results({folder!r}).open(RunFacts(name="x", grid="name: x")) as results:
    done = results.statuses()
    for seed in range(100_000):
        each = record(seed=seed, step_s=[0.1])
        if each["trial_id"] not in done:
            results.append(each)
            print(seed, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_said_was_kept(tmp_path: Path) -> None:
    script = WRITER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    promised: set[int] = set()
    chance = random.Random(0)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline()]
            time.sleep(chance.uniform(0.0, 0.5))
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.readlines()
        promised |= {int(line) for line in said if line.endswith("\n")}
        kept = Results(tmp_path).records(["seed"])["seed"].to_pylist()
        assert len(kept) == len(set(kept))
        assert promised <= set(kept)
        assert len(kept) <= len(promised) + 12
    keep(tmp_path, [])
    assert [p.name for p in tmp_path.rglob(".*")] == []
    assert len(parts(tmp_path)) == 1


def test_reading_leaves_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """Which comes by seldom: what a part says of itself takes 0.2 MiB."""
    keep(tmp_path, [record(seed=seed) for seed in range(3)])
    results = Results(tmp_path)
    results.records()  # whatever is made once is made now
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        results.records()
        gc.collect()
        left = {type(each).__name__ for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left & {"FileMetaData", "ParquetSchema", "ParquetFile", "Table"}


@pytest.mark.parametrize("harm", ["truncated", "flipped", "emptied", "replaced"])
def test_a_damaged_part_is_named_and_the_rest_is_read(tmp_path: Path, harm: str) -> None:
    with Results(tmp_path).open(FACTS) as results:
        results.append(record(seed=0))
        results.append(record(seed=1))
        good = {path: path.read_bytes() for path in parts(tmp_path)}
    parts(tmp_path)[0].unlink()
    for path, data in good.items():
        path.write_bytes(data)
    victim = next(iter(good))
    data = bytearray(good[victim])
    data[len(data) // 2] ^= 1
    victim.write_bytes(
        {"truncated": data[:-100], "flipped": data, "emptied": b"", "replaced": b"PAR1 x"}[harm]
    )

    results = Results(tmp_path)
    assert results.records(["seed"])["seed"].to_pylist() == [1]
    assert [damage.part for damage in results.damaged] == [f"records/{victim.name}"]
    assert victim.exists()
    with Results(tmp_path).open(FACTS) as writer:
        assert [damage.part for damage in writer.damaged] == [f"records/{victim.name}"]
        assert len(writer.statuses()) == 1
        writer.append(record(seed=0))
    assert [p.name for p in (tmp_path / "quarantine").iterdir()] == [victim.name]
    assert len(Results(tmp_path).statuses()) == 2


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    keep(tmp_path, [record(step_s=[0.1])])
    (part,) = parts(tmp_path)
    good = part.read_bytes()
    for position in random.Random(1).sample(range(len(good)), 60):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        part.write_bytes(bad)
        results = Results(tmp_path)
        assert len(results.records()) == 0
        assert len(results.damaged) == 1


def test_parts_that_others_wrote_are_read_too(tmp_path: Path) -> None:
    keep(tmp_path, [record(seed=0), record(seed=1)])
    (part,) = parts(tmp_path)
    pq.write_table(pq.read_table(part), tmp_path / "records" / "merged.parquet")
    part.unlink()
    assert len(Results(tmp_path).statuses()) == 2


def test_a_trial_is_looked_for_where_a_file_names_none(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    unnamed = pa.table({"trial_id": pa.nulls(2, pa.string()), "status": ["ok", "ok"]})
    pq.write_table(unnamed, tmp_path / "records" / "made-elsewhere.parquet")
    assert Results(tmp_path).history("0123456789abcdef") == []


def test_a_parquet_file_without_trials_is_named(tmp_path: Path) -> None:
    keep(tmp_path, [record()])
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "records" / "other.parquet")
    results = Results(tmp_path)
    assert len(results.records()) == 1
    assert results.damaged[0].reason == "no records: there is no column status"


def test_records_of_a_newer_sweep_are_named_when_reading_and_refused_when_writing(
    tmp_path: Path,
) -> None:
    keep(tmp_path, [record(seed=0)])
    (part,) = parts(tmp_path)
    table = pq.read_table(part).replace_schema_metadata({"sweep_schema_version": "7"})
    pq.write_table(table, tmp_path / "records" / "newer.parquet")
    results = Results(tmp_path)
    assert len(results.records()) == 1
    assert "newer sweep, schema 7" in results.damaged[0].reason
    with pytest.raises(SweepError, match="newer sweep"), results.open(FACTS):
        pass
    assert (tmp_path / "records" / "newer.parquet").exists()


def test_a_second_writer_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    refused = pytest.raises(Unavailable, match="another sweep run \\(process")
    with Results(tmp_path).open(FACTS), refused, Results(tmp_path).open(FACTS):
        pass
    with Results(tmp_path).open(FACTS):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SweepError, match="cannot be written to"),
        Results(tmp_path / "file").open(FACTS),
    ):
        pass


def test_a_uri_of_no_known_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="is no place for results"):
        Results("gopher://results")


def test_logs_and_environments_are_files_and_stay_inside_the_run(tmp_path: Path) -> None:
    with Results(tmp_path / "run").open(FACTS) as results:
        results.append(record(log="it ran\n", environment_id="abc", packages=["numpy==1.0"]))
        with pytest.raises(ValueError, match="cannot name a file"):
            results.append(record(trial_id="../../evil", log="x"))
    results_read = Results(tmp_path / "run")
    assert results_read.log(record()["trial_id"]) == "it ran\n"
    assert results_read.environment("abc") == "numpy==1.0\n"
    assert results_read.log("nothing") == ""
    assert "log" not in results_read.records().column_names


def test_run_yaml_holds_the_grid_as_read(tmp_path: Path) -> None:
    grid = "# why\nname: made-up\naxes: {seed: [1, 2]}\n"
    exclusions = [Exclusion("torch==2.13.0/ideep", "ideep is Chainer's")]
    facts = RunFacts(
        "made-up", grid, overrides=["seed=1"], cluster={"nodes": 1}, exclusions=exclusions
    )
    with Results(tmp_path).open(facts):
        pass
    read = Results(tmp_path).facts()
    assert read.grid == grid
    assert read.grid_hash == facts.grid_hash
    assert read.cluster == {"nodes": 1}
    assert Results(tmp_path).plan().to_pylist()[0]["excluded"] == "ideep is Chainer's"


@pytest.mark.parametrize("text", ["", "- 1", "name: x", "{", "name: !!python/object:os.system x"])
def test_a_run_yaml_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SweepError, match=r"run\.yaml"):
        Results(tmp_path).facts()


def test_an_empty_run_has_no_records(tmp_path: Path) -> None:
    assert len(Results(tmp_path / "nowhere").records()) == 0
    assert Results(tmp_path / "nowhere").statuses() == {}
    assert not Results(tmp_path / "nowhere").exists()


def test_pandas_and_duckdb_read_the_records_with_no_help(tmp_path: Path) -> None:
    keep(tmp_path, [record(seed=seed) for seed in range(3)])
    assert len(pd.read_parquet(tmp_path / "records")) == 3
    files = str(tmp_path / "records" / "*.parquet")
    mean = "select avg(s) from (select unnest(step_s) s from read_parquet(?))"
    assert duckdb.sql(mean, params=[files]).fetchall()[0][0] == pytest.approx(0.1, rel=0.1)


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    keep(f"file://{tmp_path}/run", [record()])
    assert len(Results(tmp_path / "run").records()) == 1


@pytest.mark.slow
def test_an_object_store_keeps_a_run_as_a_folder_does(bucket: str) -> None:
    with Results(bucket).open(FACTS) as results:
        for seed in range(70):
            results.append(record(seed=seed, log="it ran"))
    read = Results(bucket)
    assert len(read.statuses()) == 70
    assert len(read.storage.files("records")) == 1
    assert read.facts().name == "made-up"
    assert read.log(record()["trial_id"]) == "it ran"
    assert str(read) == bucket.partition("?")[0]
    keep(bucket, [record(seed=70)])
    assert len(Results(bucket).records(["step_s"])) == 71


@pytest.mark.slow
def test_two_writers_on_an_object_store_lose_nothing(bucket: str) -> None:
    with Results(bucket).open(FACTS) as one, Results(bucket).open(FACTS) as other:
        for seed in range(70):
            one.append(record(seed=seed, step_s=[0.1]))
            other.append(record(seed=seed + 100, step_s=[0.1]))
        other.append(record(seed=0, step_s=[0.1], attempt=2))
    assert len(Results(bucket).statuses()) == 140


@pytest.mark.slow
def test_a_damaged_part_in_an_object_store_is_set_aside(bucket: str) -> None:
    keep(bucket, [record()])
    storage = Results(bucket).storage
    (part,) = storage.files("records")
    storage.write(part.path, storage.read(part.path).to_pybytes()[:-9])
    with Results(bucket).open(FACTS) as results:
        assert len(results.damaged) == 1
    assert len(storage.files("quarantine")) == 1


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    uri = "s3://lab/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(Unavailable, match="s3://lab/x cannot be read"):
        Results(uri).statuses()


def test_the_page_about_results_is_what_the_schema_says() -> None:
    """Run `python docs/results_columns.py` where this fails."""
    script = Path(__file__).parent.parent / "docs" / "results_columns.py"
    page = runpy.run_path(str(script))["page"]()
    assert script.with_name("results.md").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([[1.0, 2.0], []], [[1.0, 2.0], []]),
        ([[1.0, 2.0], 3], [[1.0, 2.0], [3.0]]),
        ([[], [None, 1.0], None], [[], [None, 1.0], None]),
        ([[1.0], ["a"]], ["[1.0]", '["a"]']),
        ([[1.0], "x", None], ["[1.0]", "x", None]),
    ],
)
def test_a_plug_in_may_give_lists_of_any_length_and_what_is_none(
    tmp_path: Path, given: list[Any], read: Any
) -> None:
    rows = [
        {"trial_id": f"{i:016x}", "status": "ok", "extra_s": value} for i, value in enumerate(given)
    ]
    with Results(tmp_path).open(RunFacts("lists", "")) as writer:
        for row in rows:
            writer.append(row)
    assert Results(tmp_path).records()["extra_s"].to_pylist() == read
