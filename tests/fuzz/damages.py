"""Damages of a results folder, generated from what a run holds, and the commands that have to survive each."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from made_up import Planned, keep, record, training

from sweep.grid import Exclusion
from sweep.records.columns import SCHEMA

RUN = "results/made-up"
TRIAL = "torch==2.13.0/core/cpu/autograd/b5/s0"
GRID = """\
name: made-up
axes:
  seed: [0, 1, 2]
  framework: [torch==2.13.0, chainer==7.8.1.post1]
  backward: [autograd]
  batch_exponent: [5]
claims:
  - name: torch is faster
    compare: {framework: torch==2.13.0}
    baseline: {framework: chainer==7.8.1.post1}
    expect: faster
"""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status", RUN),
    ("ls",),
    ("show", RUN, TRIAL),
    ("show", RUN, TRIAL, "--log"),
    ("show", RUN, TRIAL, "--format", "json"),
    ("summarize", RUN),
    ("summarize", RUN, "--by", "framework,version", "--format", "json"),
    ("compare", RUN, "--over", "framework"),
    ("compare", RUN, "--baseline", "results/other"),
    ("verify", RUN),
    ("curves", RUN),
    ("run", "grid.yaml", "--out", RUN, "--dry-run"),
)


SLOW: tuple[tuple[str, ...], ...] = (
    ("report", RUN, "-o", "page.html"),
    ("plot", RUN, "time", "-o", "time.svg"),
    ("plot", RUN, "processes", "-o", "processes.png"),
)


class Damage(NamedTuple):
    """What is done to the folder of a run, and what it is called."""

    name: str
    do: Callable[[Path], None]


def build(folder: Path) -> None:
    """Two runs, of six trials and trainings each, and a grid."""
    for name in ("made-up", "other"):
        records = [
            record(
                seed,
                framework=framework,
                mean_s=mean_s,
                machine={"kernel": "6.1"},
                environment_id="e1",
                log="so\n",
            )
            for seed in range(3)
            for framework, mean_s in (("torch==2.13.0", 0.1), ("chainer==7.8.1.post1", 0.2))
        ]
        records.append(record(5, status="crashed"))
        records += [training(seed) for seed in range(2)]
        planned = [Planned(each["trial_id"], each["trial_name"]) for each in records]
        planned.append(Planned("absent-1", "absent/s1"))
        left_out = [Exclusion("left/out", "it cannot be")]
        keep(folder / "results" / name, records, GRID, trials=planned, exclusions=left_out)
    (folder / "grid.yaml").write_text(GRID, encoding="utf-8")


def all_damages() -> Iterator[Damage]:
    """Every damage, each with a name of its own."""
    yield Damage("none", lambda run: None)
    yield from _of_names()
    yield from _of_bytes()
    yield from _of_columns()
    yield from _of_texts()
    yield from _of_facts()
    yield from _of_plans()
    yield from _of_side_files()


# what stands where a file or folder is expected


def _of_names() -> Iterator[Damage]:
    places = (
        "run.yaml",
        "plan.parquet",
        "records",
        "records/bad.parquet",
        ".lock",
        "logs",
        "environments/e1.txt",
    )
    places += (
        "progress",
        "progress/bad.json",
        "quarantine",
        "records/\udcff\udcfe.parquet",
        "records/a\nb\x1b[31m.parquet",
    )
    for place in places:
        for what, put in STAND_INS.items():
            yield Damage(f"{place!r} is {what}", _stands(place, put))
    yield Damage(
        "a folder of a hostile name beside the run", lambda run: (run.parent / "\udcff").mkdir()
    )
    yield Damage(
        "a run of a hostile name beside the run",
        lambda run: _copy(run, run.parent / "\udcffa\x1b[0m"),
    )
    yield Damage(
        "a link to nothing beside the run", lambda run: (run.parent / "gone").symlink_to("nowhere")
    )
    yield Damage("the log is a pipe", lambda run: _log(run, os.mkfifo))
    yield Damage(
        "the log is a link to nothing",
        lambda run: _log(run, lambda path: path.symlink_to("nowhere")),
    )
    yield Damage(
        "the log is no text",
        lambda run: _log(run, lambda path: path.write_bytes(b"\xff\x00\x1b[2J\n" * 99)),
    )


def _stands(place: str, put: Callable[[Path], None]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / place
        path.parent.mkdir(exist_ok=True)
        _gone(path)
        put(path)

    return damage


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        server = socket.socket(socket.AF_UNIX)
        server.bind(os.fsencode(path.name))
        server.close()
    finally:
        os.chdir(before)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


STAND_INS: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": _socket,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link upwards": lambda path: path.symlink_to(".."),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 40) and None,
    "very large": _sparse,
}


def _copy(run: Path, to: Path) -> None:
    shutil.copytree(run, to)


def _log(run: Path, put: Callable[[Path], Any]) -> None:
    for log in sorted((run / "logs").iterdir()):
        log.unlink()
        put(log)


# bytes of parts


def _of_bytes() -> Iterator[Damage]:
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        yield Damage(
            f"a part is cut at {share}", _changed(lambda data, s=share: data[: int(len(data) * s)])
        )
        yield Damage(
            f"a bit is flipped at {share}", _changed(lambda data, s=share: _flipped(data, s))
        )
        yield Damage(f"a bit is flipped at {share}, unknown sum", _foreign_bytes(share))
    yield Damage("a part twice", lambda run: _copy_part(run, "00000900-0-00000000.parquet"))
    yield Damage("a part twice, of somebody else", lambda run: _copy_part(run, "again.parquet"))


def _part(run: Path) -> Path:
    return sorted((run / "records").glob("*.parquet"))[0]


def _flipped(data: bytes, share: float) -> bytes:
    place = min(int(len(data) * share), len(data) - 1)
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        part = _part(run)
        part.write_bytes(change(part.read_bytes()))

    return damage


def _foreign_bytes(share: float) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        part = _part(run)
        part.with_name("other.parquet").write_bytes(_flipped(part.read_bytes(), share))
        part.unlink()

    return damage


def _copy_part(run: Path, name: str) -> None:
    shutil.copy(_part(run), run / "records" / name)


# columns of parts


def _of_columns() -> Iterator[Damage]:
    for name in COLUMNS:
        for what, column in FOREIGN.items():
            yield Damage(f"{name} is {what}", _with_column(name, column))
        yield Damage(
            f"{name} is missing", _table_changed(lambda table, n=name: table.drop_columns([n]))
        )
        yield Damage(
            f"{name} is there twice", _table_changed(lambda table, n=name: _twice(table, n))
        )
        yield Damage(
            f"{name} has nulls", _table_changed(lambda table, n=name: _with_null(table, n))
        )
    for name in ("mine", "step_s.list", "", "a\nb", "\u202e", "dim " * 500):
        for what, column in FOREIGN.items():
            yield Damage(f"a column {name[:20]!r} is {what}", _with_column(name, column))
    yield Damage("a part has no rows", _table_changed(lambda table: table.slice(0, 0)))
    yield Damage("a part has no columns", _table_changed(lambda table: table.select([])))
    for version in (b"2", b"x", b"\xff", b"-1", b"9" * 5000):
        yield Damage(
            f"schema version {version[:5]!r}",
            _table_changed(lambda table, v=version: _versioned(table, v)),
        )
    for said in ({b"direction": b"up"}, {b"unit": b"\xff"}, {b"per": b"year", b"x": b"y"}):
        yield Damage(
            f"a column states {said}", _table_changed(lambda table, s=said: _stating(table, s))
        )


COLUMNS = [
    *(
        "trial_id",
        "trial_name",
        "cell_id",
        "cell_name",
        "settings",
        "content",
        "status",
        "error",
        "attempt",
        "block",
    ),
    *(
        "position",
        "started_at",
        "wall_s",
        "node",
        "machine",
        "variables",
        "environment_id",
        "cores",
        "step_s",
        "valid",
    ),
    *(
        "seed",
        "framework",
        "cpu_model",
        "host_id",
        "threads",
        "epoch_s",
        "loss",
        "iteration",
        "validation_loss",
    ),
]

FOREIGN: dict[str, Callable[[int], pa.Array]] = {
    "whole numbers": lambda n: pa.array(range(n), pa.int64()),
    "small numbers": lambda n: pa.array([1] * n, pa.int8()),
    "huge numbers": lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    "numbers": lambda n: pa.array([0.5] * n, pa.float32()),
    "no numbers": lambda n: pa.array([float("nan"), float("inf"), -float("inf")] * n, pa.float64())[
        :n
    ],
    "texts": lambda n: pa.array([f"x{i}" for i in range(n)]),
    "empty texts": lambda n: pa.array([""] * n),
    "large texts": lambda n: pa.array(["x"] * n, pa.large_string()),
    "a dictionary": lambda n: pa.array(["x"] * n).dictionary_encode(),
    "no UTF-8": lambda n: _not_utf8(n),
    "bytes": lambda n: pa.array([b"\xff\xfe"] * n, pa.binary()),
    "flags": lambda n: pa.array([True] * n),
    "nothing": lambda n: pa.nulls(n),
    "lists": lambda n: pa.array([[0.1, None, 0.3]] * n, pa.list_(pa.float64())),
    "empty lists": lambda n: pa.array([[]] * n, pa.list_(pa.float64())),
    "lists of lists": lambda n: pa.array([[[1]]] * n),
    "lists of texts": lambda n: pa.array([["a"]] * n),
    "lists of flags": lambda n: pa.array([[True, None]] * n, pa.list_(pa.bool_())),
    "short lists": lambda n: pa.array([[0.1]] * n, pa.large_list(pa.float32())),
    "structs": lambda n: pa.array([{"a": 1, "b": None}] * n),
    "maps": lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    "times": lambda n: pa.array([0] * n, pa.timestamp("ns")),
    "times beyond": lambda n: pa.array([2**62] * n, pa.timestamp("us", tz="UTC")),
    "dates": lambda n: pa.array([0] * n, pa.date32()),
    "durations": lambda n: pa.array([2**60] * n, pa.duration("s")),
    "decimals": lambda n: pa.array([1] * n, pa.decimal128(38, 5)),
}


def _not_utf8(count: int) -> pa.Array:
    return pa.StringArray.from_buffers(
        count,
        pa.py_buffer(
            bytes(memoryview(pa.array([2 * i for i in range(count + 1)], pa.int32()).buffers()[1]))
        ),
        pa.py_buffer(b"\xff\xfe" * count),
    )


def _table_changed(
    change: Callable[[pa.Table], pa.Table], name: str = "other.parquet"
) -> Callable[[Path], None]:
    """One part of the run, its table changed, as somebody else's."""

    def damage(run: Path) -> None:
        part = _part(run)
        table = pq.ParquetFile(part).read()
        part.unlink()
        pq.write_table(change(table), run / "records" / name)

    return damage


def _with_column(name: str, column: Callable[[int], pa.Array]) -> Callable[[Path], None]:
    def change(table: pa.Table) -> pa.Table:
        values = column(len(table))
        if name in table.column_names:
            return table.set_column(table.column_names.index(name), name, values)
        return table.append_column(name, values)

    return _table_changed(change)


def _twice(table: pa.Table, name: str) -> pa.Table:
    return table.append_column(table.schema.field(name), table[name])


def _with_null(table: pa.Table, name: str) -> pa.Table:
    values = [None, *table[name].to_pylist()[1:]]
    return table.set_column(
        table.column_names.index(name),
        table.schema.field(name),
        pa.array(values, SCHEMA.field(name).type),
    )


def _versioned(table: pa.Table, version: bytes) -> pa.Table:
    return table.replace_schema_metadata({b"sweep_schema_version": version})


def _stating(table: pa.Table, said: dict[bytes, bytes]) -> pa.Table:
    return table.append_column(
        pa.field("mine", pa.float64(), metadata=said), pa.array([1.0] * len(table))
    )


# texts in columns


def _of_texts() -> Iterator[Damage]:
    for name in ("settings", "content", "machine", "variables"):
        for text in NO_OBJECTS:
            yield Damage(f"{name} holds {text[:30]!r}", _with_text(name, text))
    for name in (
        "trial_id",
        "cell_id",
        "environment_id",
        "trial_name",
        "cell_name",
        "status",
        "node",
        "error",
        "cpu_model",
    ):
        for text in HOSTILE:
            yield Damage(f"{name} holds {text[:30]!r}", _with_text(name, text))
    for axis in ("framework", "batch_exponent", "device", "workload", "threads", "samples", "mine"):
        for value in VALUES:
            yield Damage(f"{axis} of settings is {str(value)[:30]!r}", _with_setting(axis, value))
    for status in ("ok", "weird", "FAILED", ""):
        yield Damage(f"every status is {status!r}", _all_text("status", status))


NO_OBJECTS = [
    "",
    "[]",
    "null",
    "1",
    '"a"',
    "{",
    "[" * 100_000,
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"a": "\\ud800"}',
    "{}",
]
NO_OBJECTS += [
    '{"seed": [1]}',
    '{"a": ' * 900 + "1" + "}" * 900,
    '{"framework": {"a": 1}}',
    '{"a": 1, "a": 2}',
    "{}\x00",
]
NO_OBJECTS += ['{"a": ' + "9" * 5000 + "}"]
HOSTILE = [
    "",
    "../../x",
    "/etc/passwd",
    ".",
    "a/b",
    "x" * 300,
    "a\x00b",
    "\x1b[31m",
    "a\nb",
    "\u202ea",
    "²",
    "-o",
    "=1+1",
]
VALUES: list[Any] = [
    "",
    None,
    [],
    {},
    [1, "a"],
    {"a": {"b": 1}},
    True,
    -1,
    10**12,
    10**30,
    0.5,
    1e308,
    float("nan"),
]
VALUES += ["5²", "a\x1b\x00b", "²", "x" * 3000, "torch==", "==", "torch==1==2"]


def _with_text(name: str, text: str) -> Callable[[Path], None]:
    def change(table: pa.Table) -> pa.Table:
        values = [text, *table[name].to_pylist()[1:]]
        return table.set_column(
            table.column_names.index(name), table.schema.field(name), pa.array(values, pa.string())
        )

    return _table_changed(change)


def _all_text(name: str, text: str) -> Callable[[Path], None]:
    return _with_column(name, lambda count: pa.array([text] * count))


def _with_setting(axis: str, value: Any) -> Callable[[Path], None]:
    def change(table: pa.Table) -> pa.Table:
        first, *rest = (json.loads(text) for text in table["settings"].to_pylist())
        cell = table["cell_id"].to_pylist()
        texts = [json.dumps({**first, axis: value})]
        texts += [
            json.dumps({**each, axis: value} if same == cell[0] else each)
            for each, same in zip(rest, cell[1:], strict=True)
        ]
        return table.set_column(table.column_names.index("settings"), "settings", pa.array(texts))

    return _table_changed(change)


# run.yaml, plan.parquet and what lies beside


def _of_facts() -> Iterator[Damage]:
    for key in (
        "name",
        "grid",
        "grid_path",
        "overrides",
        "code_version",
        "cluster",
        "started_at",
        "noise_floor",
        "stopped",
    ):
        for value in FACTS:
            yield Damage(f"{key} of run.yaml is {value[:30]}", _with_fact(key, value))
    for text in WHOLE_FACTS:
        yield Damage(f"run.yaml is {text[:30]!r}", _run_file(text))
    for text in GRIDS:
        yield Damage(
            f"the grid of run.yaml is {text[:40]!r}",
            _run_file(json.dumps({"name": "made-up", "grid": text})),
        )


FACTS = [
    "5",
    "-1.5",
    ".nan",
    ".inf",
    "null",
    "[]",
    "[1]",
    "[a=b]",
    "{}",
    "{1: 2}",
    "{a: {b: c}}",
    "true",
    "2026-99-99",
]
FACTS += [
    "2026-01-01",
    '"\\ud800"',
    '"\\x1b[31m"',
    '"\\0"',
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "[framework=]",
]
FACTS += ["!!python/object/apply:os.system [ls]", "&a [*a]", "9" * 5000, "!!binary x", "!!set {a}"]
WHOLE_FACTS = [
    "",
    "[]",
    "5",
    "{",
    "- a",
    "\x00",
    "a: b: c",
    "&a [*a]",
    "[" * 5000,
    "{1: 2}",
    "name: x",
    "? [a]\n: b",
    "'",
    "\ud7ff",
]
GRIDS = [
    "",
    "[]",
    "{",
    "5",
    "name: x",
    "axes: 5",
    "axes: {framework: {}}",
    "claims: 5",
    "claims: [{}]",
    "claims: [5]",
]
GRIDS += [
    "axes: {batch_exponent: [{range: [0, 1e300], step: 1e-300}]}",
    "parameters: []",
    "&a [*a]",
    "[" * 999,
    "\x1b",
]
GRIDS += [
    "published: 5",
    "published: [{}]",
    "seeds: []",
    "until: 5",
    "environments: 5",
    "workload: nowhere.py",
]


def _with_fact(key: str, value: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        lines = (run / "run.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
        kept, skip = [], False
        for line in lines:
            if not line.startswith((" ", "-")):
                skip = line.startswith(f"{key}:")
            if not skip:
                kept.append(line)
        (run / "run.yaml").write_text("".join(kept) + f"{key}: {value}\n", encoding="utf-8")

    return damage


def _run_file(text: str) -> Callable[[Path], None]:
    return lambda run: (run / "run.yaml").write_text(text, encoding="utf-8") and None


def _of_plans() -> Iterator[Damage]:
    for name in ("trial_id", "trial_name", "excluded"):
        for what, column in FOREIGN.items():
            yield Damage(
                f"{name} of the plan is {what}",
                _plan(lambda plan, n=name, c=column: _set(plan, n, c(len(plan)))),
            )
        yield Damage(
            f"{name} of the plan is missing", _plan(lambda plan, n=name: plan.drop_columns([n]))
        )
        yield Damage(
            f"{name} of the plan is there twice", _plan(lambda plan, n=name: _twice(plan, n))
        )
    yield Damage(
        "the plan has one more column",
        _plan(lambda plan: plan.append_column("more", pa.nulls(len(plan)))),
    )


def _set(plan: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return plan.set_column(plan.column_names.index(name), name, values)


def _plan(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        plan = pq.ParquetFile(run / "plan.parquet").read()
        pq.write_table(change(plan), run / "plan.parquet")

    return damage


def _of_side_files() -> Iterator[Damage]:
    for text in (
        "",
        "[]",
        "5",
        "{",
        "[" * 100_000,
        '{"eta_s": "x"}',
        '{"trial": 5, "epoch": [1]}',
        '{"eta_s": 1e999}',
        '{"a": NaN}',
    ):
        yield Damage(f"progress is {text[:30]!r}", _progress(text))
    yield Damage("progress has a hostile name", lambda run: _progress("{}", "a b\x1b[31m")(run))


def _progress(text: str, name: str = "t1") -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / "progress").mkdir(exist_ok=True)
        (run / "progress" / f"{name}.json").write_text(text, encoding="utf-8")

    return damage
