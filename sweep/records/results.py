"""Records: one row per trial, in Parquet parts that are written whole, folded as they grow, and read without doubles.

A part carries the CRC-32 of its bytes in its name, so that a flipped bit is a damaged part and never a wrong number.
Folding writes many parts into one and then deletes them: in between a record exists twice, and reading knows it by its
identity; a part that goes away while a reader reads is found again in the part it was folded into.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from isal import isal_zlib

from sweep.credentials import redacted
from sweep.errors import SweepError, Unavailable
from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.records.locks import Lock
from sweep.records.places import Entry, Place
from sweep.records.rows import KNOWN, table_of

Record = dict[str, Any]

RUN_FILE, PLAN_FILE = "run.yaml", "plan.parquet"
RECORDS, QUARANTINE, LOGS, ENVIRONMENTS, PROGRESS = "records", "quarantine", "logs", "environments", "progress"
CHECKPOINTS = "checkpoints"

_FOLD_COUNT = 64
_LAST_LEVEL = 2
_FOLD_BELOW_BYTES = 4 * 2**20  # larger parts are well as they are
_FOLD_BYTES = 16 * 2**20  # of parts that are fewer than _FOLD_COUNT, but large
_ROW_GROUP_BYTES = 2 * 2**20  # before compression; what a fold holds at once
_READERS_OF_A_STORE = 16
_IDENTITY = ["trial_id", "status", "attempt"]
_PART_NAME = re.compile(r"(?P<sequence>\d{8})-(?P<level>\d)-(?P<crc>[0-9a-f]{8})\.parquet")
_PLAN = pa.schema([("trial_id", pa.string()), ("trial_name", pa.string()), ("excluded", pa.string())])


class Damage(NamedTuple):
    """A part that cannot be read, and why."""

    part: str
    reason: str


class Planned(Protocol):
    """What is kept of a planned trial."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class LeftOut(Protocol):
    """What is kept of a cell or trial that the grid leaves out."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class RunFacts:
    """What `run.yaml` says: the grid as it was read, and what it was run with.

    `noise_floor` is the greatest difference that `sweep calibrate` found between equal cells, where it was run.
    `stopped` says why cells got no more seeds, by name, where the grid says `until`.
    `trials` are the planned ones and `exclusions` what is left out: both kept in `plan.parquet`.
    """

    name: str
    grid: str
    grid_path: str = ""
    overrides: Sequence[str] = ()
    code_version: str = ""
    cluster: Mapping[str, Any] = field(default_factory=dict)
    started_at: str = ""
    noise_floor: float = 0.0
    stopped: Mapping[str, str] = field(default_factory=dict)
    trials: Sequence[Planned] = field(default=(), repr=False)
    exclusions: Sequence[LeftOut] = field(default=(), repr=False)

    @property
    def grid_hash(self) -> str:
        return hashlib.sha256(self.grid.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Part:
    path: str
    size_bytes: int
    sequence: int = 0
    level: int = _LAST_LEVEL
    crc: str = ""  # none where someone else has written the file

    @classmethod
    def of(cls, entry: Entry) -> Self:
        match = _PART_NAME.fullmatch(Path(entry.path).name)
        if not match:
            return cls(entry.path, entry.size_bytes)
        return cls(entry.path, entry.size_bytes, int(match["sequence"]), int(match["level"]), match["crc"])

    @property
    def foldable(self) -> bool:
        return bool(self.crc) and self.level < _LAST_LEVEL and self.size_bytes < _FOLD_BELOW_BYTES


class _Damaged(Exception):  # noqa: N818  private, and caught in this module
    """A part whose bytes are not what was written."""


class _FromTheFuture(_Damaged):
    """A part that a newer sweep has written."""


class Results:
    """The records of one run, in a folder or an object store; reading never changes anything there."""

    def __init__(self, place: str | Path | Place) -> None:
        self.place = place if isinstance(place, Place) else Place(place)
        self.damaged: list[Damage] = []

    def __str__(self) -> str:
        return str(self.place)

    def exists(self) -> bool:
        return self.place.exists(RUN_FILE) or bool(self._paths())

    def records(self, columns: Iterable[str] | None = None, null_if_true: Collection[str] = ()) -> pa.Table:
        """One row per trial: its newest record, an `ok` one rather than any other; `columns` are all that is read.

        Parts that cannot be read are left out and named in `damaged`. Columns of flags in `null_if_true` are null
        instead where all of a part are true and it says so: they need not be read.
        """
        wanted = None if columns is None else list(dict.fromkeys([*columns, *_IDENTITY]))
        table = _newest(self.attempts(wanted, null_if_true=null_if_true))
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def history(self, trial_id: str) -> list[Record]:
        """Every record of one trial, the one that counts last; empty where it has none."""
        rows = [row for table in _distinct([self.attempts(trial_id=trial_id)]) for row in table.to_pylist()]
        return sorted(rows, key=lambda row: (row["status"] == "ok", row["attempt"] or 1))

    def attempts(
        self, columns: Iterable[str] | None = None, trial_id: str | None = None, null_if_true: Collection[str] = ()
    ) -> pa.Table:
        """Every record (of one trial), superseded ones too; one may appear twice while parts are being folded."""
        wanted = None if columns is None else list(columns)
        tables: dict[str, pa.Table] = {}
        self.damaged = []
        while True:  # until every part that is there at one moment has been read: meanwhile some may be folded
            there = self._paths()
            unread = [path for path in there if path not in tables]
            with ThreadPoolExecutor(_readers(self.place)) as pool:
                found = list(pool.map(lambda path: self._table(path, wanted, trial_id, null_if_true), unread))
            tables |= {path: table for path, table in zip(unread, found, strict=True) if table is not None}
            if all(path in tables for path in there):
                return _concatenated([tables[path] for path in sorted(tables)], wanted)

    def statuses(self) -> dict[str, tuple[str, int]]:
        """For each trial that has a record, its status and attempt."""
        columns = self.records(_IDENTITY).to_pydict()
        return dict(zip(columns["trial_id"], zip(columns["status"], columns["attempt"], strict=True), strict=True))

    def ended(self, trial_ids: Iterable[str]) -> Counter[str]:
        """How many of these trials ended with each status."""
        known = self.records(["trial_id", "status"])
        wanted = pc.is_in(known["trial_id"], value_set=_text(trial_ids))
        counted = pc.value_counts(known["status"].filter(wanted)).to_pylist()
        return Counter({each["values"]: each["counts"] for each in counted})

    def facts(self) -> RunFacts:
        """What `run.yaml` says; raises SweepError where there is none or it cannot be read."""
        hint = "name a folder that sweep run has written, see sweep ls"
        try:
            said = yaml.safe_load(self.place.text(RUN_FILE))
            known = {key: said[key] for key in RunFacts.__dataclass_fields__ if key in said}
            return RunFacts(**known)
        except FileNotFoundError:
            raise SweepError(f"{self} holds no run", hint) from None
        except (yaml.YAMLError, TypeError) as error:
            raise SweepError(f"{RUN_FILE} in {self} cannot be read: {error}", hint) from None

    def plan(self) -> pa.Table:
        """The planned trials and the exclusions: trial_id, trial_name, excluded (the reason, or null).

        Not by `read_table`: a thread of it may hold our bytes when the process ends, and then takes it down.
        """
        try:
            return pq.ParquetFile(pa.BufferReader(self.place.read(PLAN_FILE))).read(use_threads=False)
        except FileNotFoundError:
            return _PLAN.empty_table()
        except (pa.ArrowException, OSError):  # written anew by the next run
            self.damaged.append(Damage(PLAN_FILE, "cannot be read"))
            return _PLAN.empty_table()

    def log(self, trial_id: str) -> str:
        """The log of a trial, empty where there is none."""
        try:
            return self.place.text(f"{LOGS}/{_file_name(trial_id)}.log")
        except FileNotFoundError:
            return ""

    def environment(self, environment_id: str) -> str:
        """The packages of an environment, empty where they are not known."""
        try:
            return self.place.text(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt")
        except FileNotFoundError:
            return ""

    def progress(self) -> dict[str, dict[str, Any]]:
        """What running trials say of themselves now, by trial id."""
        said = {}
        for entry in self.place.files(PROGRESS):
            with contextlib.suppress(FileNotFoundError, ValueError):  # it has just ended, or is being written
                said[Path(entry.path).stem] = json.loads(self.place.text(entry.path))
        return said

    @contextlib.contextmanager
    def open(self, facts: RunFacts) -> Iterator[Writer]:
        """Take the run for writing: one writer at a time on disk, and `run.yaml` says what it runs.

        On an object store there is no lock: two writers are safe there, since no part is ever overwritten.
        """
        lock = Lock(self.place.folder / ".lock") if self.place.folder else contextlib.nullcontext()
        with lock:
            writer = Writer(self.place)
            writer.begin(facts)
            try:
                yield writer
            finally:
                writer.end()

    def _paths(self) -> list[str]:
        return [path for path in self.place.names(RECORDS) if path.endswith(".parquet")]

    def _table(
        self, path: str, columns: list[str] | None, trial_id: str | None, null_if_true: Collection[str]
    ) -> pa.Table | None:
        """The rows of a part, none of a damaged one; None where it has been folded since it was listed."""
        try:
            table = _decoded(_Part.of(Entry(path, 0)), self.place.read(path), columns, null_if_true)
            return table if trial_id is None else table.filter(pc.field("trial_id") == trial_id)
        except FileNotFoundError:
            return None
        except _Damaged as damage:
            self.damaged.append(Damage(path, str(damage)))
            return SCHEMA.empty_table()


class Writer(Results):
    """Results held for writing: `append` is durable when it returns."""

    def begin(self, facts: RunFacts) -> None:
        self.place.sweep_out(RECORDS)
        self._telling = {Path(entry.path).stem for entry in self.place.files(PROGRESS)}
        for trial_id in list(self._telling):  # of a sweep that was killed
            self._fall_silent(trial_id)
        self._quarantine()
        started_at = facts.started_at or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._facts = dataclasses.replace(facts, started_at=started_at)
        self.restate()
        parts = self._parts()
        self._sequence = max((part.sequence for part in parts), default=0)
        self._foldable = [part for part in parts if part.foldable]
        self._recent: dict[str, pa.Table] = {}  # what was appended, kept so that folding need not read it again
        self._environments = {Path(entry.path).stem for entry in self.place.files(ENVIRONMENTS)}

    def restate(self, **changes: Any) -> None:
        """Write `run.yaml` and the plan anew, with these facts changed."""
        self._facts = dataclasses.replace(self._facts, **changes)
        _write_facts(self.place, self._facts)

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record for good, as `append_together`."""
        self.append_together([record])

    def append_together(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep records for good, in one part. Their `log` (text) and `packages` (list) become files of their own."""
        rows = [self._row(record) for record in records]
        tables = [table_of(row) for row in rows]
        table = tables[0] if len(tables) == 1 else _concatenated(tables, None)
        part = self._write(_encoded(table.schema, [table], in_haste=True), level=0)
        if part.foldable:
            self._foldable.append(part)
            self._recent[part.path] = table
            self._fold_full_levels()
        for row in rows:
            self._fall_silent(row["trial_id"])

    def _row(self, record: Mapping[str, Any]) -> Record:
        """A record as a row, what becomes a file of its own written."""
        row = dict(record)
        log, packages = row.pop("log", None), row.pop("packages", None)
        if isinstance(row.get("error"), str):
            row["error"] = redacted(row["error"])
        if log:
            text = redacted(str(log)).encode("utf-8", errors="replace")
            self.place.write(f"{LOGS}/{_file_name(row['trial_id'])}.log", text, durable=False)
        if packages:
            self.keep_environment(row["environment_id"], packages)
        return row

    def tell(self, trial_id: str, facts: Mapping[str, Any]) -> None:
        """Say how far a running trial is, for `progress`; forgotten when its record comes."""
        self._telling.add(trial_id)
        self.place.write(f"{PROGRESS}/{_file_name(trial_id)}.json", json.dumps(facts).encode(), durable=False)

    def keep_environment(self, environment_id: str, packages: Iterable[str]) -> None:
        """Keep the package list of an environment, once."""
        if environment_id not in self._environments:
            text = "".join(f"{package}\n" for package in packages)
            self.place.write(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt", text.encode())
            self._environments.add(environment_id)

    def end(self) -> None:
        """Fold what is left to fold; nothing runs any more."""
        for trial_id in list(self._telling):
            self._fall_silent(trial_id)
        self.fold_all()

    def _fall_silent(self, trial_id: str) -> None:
        if trial_id in self._telling:
            self._telling.discard(trial_id)
            self.place.delete(f"{PROGRESS}/{_file_name(trial_id)}.json")

    def fold_all(self) -> None:
        """Fold every small part into one."""
        if len(self._foldable) > 1:
            self._fold(self._foldable, level=1)

    def _fold_full_levels(self) -> None:
        for level in range(_LAST_LEVEL):
            full = [part for part in self._foldable if part.level == level]
            large = sum(part.size_bytes for part in full) >= _FOLD_BYTES
            if large or sum(self._weight(part) for part in full) >= _FOLD_COUNT:
                self._fold(full, level + 1)

    def _weight(self, part: _Part) -> int:
        """Records of a part that was just appended; 1 for parts of any other level, which are then alike in size."""
        return len(self._recent[part.path]) if part.path in self._recent else 1

    def _fold(self, parts: Sequence[_Part], level: int) -> None:
        """Many parts into one: the new one is there for good before the old ones go."""
        gone = {part.path for part in parts}
        self._foldable = [part for part in self._foldable if part.path not in gone]
        recent = {path: table for path in gone if (table := self._recent.pop(path, None))}
        try:
            schema = _unified((self._schema(part, recent) for part in parts), None)
            tables = (recent[part.path] if part.path in recent else self._read(part) for part in parts)
            data = _encoded(schema, _distinct(_gathered(tables, schema)))
        except (FileNotFoundError, _Damaged):  # another writer has folded them, or the disk fails: leave all as it is
            return
        try:
            folded = self._write(data, level)
        except Unavailable:  # the disk is full, say: what matters is on it, and folding can wait
            return
        for path in sorted(gone - {folded.path}):
            self.place.delete(path)
        if folded.foldable:
            self._foldable.append(folded)

    def _parts(self) -> list[_Part]:
        return [_Part.of(entry) for entry in self.place.files(RECORDS) if entry.path.endswith(".parquet")]

    def _read(self, part: _Part) -> pa.Table:
        return _decoded(part, self.place.read(part.path), None)

    def _schema(self, part: _Part, recent: Mapping[str, pa.Table]) -> pa.Schema:
        table = recent.get(part.path)
        return table.schema if table is not None else _opened(part, self.place.read(part.path)).schema_arrow

    def _write(self, data: pa.Buffer, level: int) -> _Part:
        self._sequence += 1
        path = f"{RECORDS}/{self._sequence:08d}-{level}-{isal_zlib.crc32(data):08x}.parquet"
        self.place.write(path, data)
        return _Part.of(Entry(path, data.size))

    def _quarantine(self) -> None:
        """Set damaged parts aside, so that their trials are run again."""
        for part in self._parts():
            try:
                _decoded(part, self.place.read(part.path), _IDENTITY)
            except _FromTheFuture as error:
                raise SweepError(
                    f"{part.path} in {self} is {error}", "install that version to go on with this run"
                ) from None
            except _Damaged as damage:
                self.place.move(part.path, f"{QUARANTINE}/{Path(part.path).name}")
                self.damaged.append(Damage(part.path, str(damage)))


def _write_facts(place: Place, facts: RunFacts) -> None:
    said = {name: getattr(facts, name) for name, of in RunFacts.__dataclass_fields__.items() if of.repr}
    said = {"schema_version": SCHEMA_VERSION, "grid_hash": facts.grid_hash, **said}
    plain = json.loads(json.dumps(said, default=str))
    plain |= {"grid": redacted(plain["grid"]), "overrides": [redacted(each) for each in plain["overrides"]]}
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    place.write(PLAN_FILE, _plan_file(facts))
    place.write(RUN_FILE, text.encode())


def _plan_file(facts: RunFacts) -> pa.Buffer:
    planned = {
        "trial_id": _text(each.id for each in facts.trials),
        "trial_name": _text(each.name for each in facts.trials),
    }
    left_out = {
        "trial_name": _text(each.name for each in facts.exclusions),
        "excluded": _text(each.reason for each in facts.exclusions),
    }
    table = pa.concat_tables([pa.table(planned), pa.table(left_out)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _text(values: Iterable[str]) -> pa.Array:
    return pa.array(values, pa.string())


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _literal)


def _opened(part: _Part, data: pa.Buffer) -> pq.ParquetFile:
    """A part as a file; raises _Damaged unless its bytes are those that were written."""
    if part.crc and f"{isal_zlib.crc32(data):08x}" != part.crc:
        raise _Damaged(
            "damaged, its bytes are not those that were written: its trials are run again by the next sweep run"
        )
    try:
        return pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> _Damaged:
    return _Damaged(f"no readable Parquet file: {str(error).splitlines()[0]}")


def _decoded(part: _Part, data: pa.Buffer, columns: list[str] | None, null_if_true: Collection[str] = ()) -> pa.Table:
    """The rows of a part; raises _Damaged unless its bytes are those that were written."""
    file = _opened(part, data)
    try:
        schema = file.schema_arrow  # converted anew each time that it is asked for
        _check_version(schema.metadata or {})
        wanted = schema.names if columns is None else [name for name in columns if name in schema.names]
        spared = _spared(file.metadata, wanted, null_if_true)
        present = [name for name in wanted if name not in spared]
        table = file.read(columns=present, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None
    if missing := {"trial_id", "status"} - set(schema.names):
        raise _Damaged(f"no records: there is no column {sorted(missing)[0]}")
    return table


def _spared(metadata: pq.FileMetaData, columns: Sequence[str], null_if_true: Collection[str]) -> set[str]:
    """Of our columns, those that need not be read, as the file itself says: null in every row, or flags all true.

    Never those that say which record a row is.
    """
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    if not groups:
        return set()
    # asked for its schema, metadata would refer to itself and stay until Python looks for such circles: 0.2 MiB a part
    paths = [groups[0].column(leaf).path_in_schema for leaf in range(metadata.num_columns)]
    leaves = {path.partition(".")[0]: leaf for leaf, path in enumerate(paths)}
    spared = set()
    for name in KNOWN.intersection(columns).difference(_IDENTITY):
        leaf = leaves[name]
        stated = [(group.num_rows, group.column(leaf).statistics) for group in groups]
        if not all(said is not None and said.has_null_count for _, said in stated):
            continue
        flags = name in null_if_true and all(said.has_min_max and said.min is True for _, said in stated)
        # of lists, nulls and empty ones are counted alike
        if flags or (paths[leaf] == name and all(said.null_count == rows for rows, said in stated)):
            spared.add(name)
    return spared


def _check_version(metadata: Mapping[bytes, bytes]) -> None:
    version = metadata.get(b"sweep_schema_version", b"1").decode()
    if int(version) > SCHEMA_VERSION:
        raise _FromTheFuture(
            f"written by a newer sweep, schema {version}, and this one reads up to {SCHEMA_VERSION}: update it"
        )


def _concatenated(tables: Sequence[pa.Table], columns: list[str] | None) -> pa.Table:
    """Rows one below the other; a column that a table lacks is null there, types that disagree become text."""
    schema = _unified((table.schema for table in tables), columns)
    return pa.concat_tables([_conformed(table, schema) for table in tables] or [schema.empty_table()])


def _unified(schemas: Iterable[pa.Schema], columns: list[str] | None) -> pa.Schema:
    kinds: dict[str, pa.DataType] = {f.name: f.type for f in SCHEMA if columns is None or f.name in columns}
    last: pa.Schema | None = None
    for schema in schemas:
        if last is not None and schema.equals(last):  # as most are
            continue
        last = schema
        for found in schema:
            known = kinds.get(found.name, found.type)
            kinds[found.name] = known if found.name in KNOWN else _common(known, found.type)
    order = [*kinds] if columns is None else columns
    fields = [SCHEMA.field(name) if name in KNOWN else pa.field(name, kinds.get(name, pa.null())) for name in order]
    return pa.schema(fields, metadata=SCHEMA.metadata)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = {pa.int64(), pa.float64()}
    return pa.float64() if {one, other} == numbers else pa.string()


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return pa.table(table.columns, schema=schema)
    arrays = [
        table[f.name].cast(f.type, safe=False) if f.name in table.schema.names else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def _newest(table: pa.Table) -> pa.Table:
    """One row per trial: `ok` before the rest, then the highest attempt, then the last written."""
    if len(table) == 0:
        return table
    known = table["trial_id"].combine_chunks().dictionary_encode()
    if len(known.dictionary) == len(table):
        return table
    trials = known.indices.to_numpy(zero_copy_only=False)
    ok = pc.equal(table["status"], "ok").to_numpy()
    attempts = pc.fill_null(table["attempt"], 1).to_numpy()
    order = np.lexsort((np.arange(len(table)), attempts, ok, trials))
    last = np.append(trials[order][1:] != trials[order][:-1], True)
    kept = np.zeros(len(table), dtype=bool)
    kept[order[last]] = True
    return table.filter(pa.array(kept))


def _gathered(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in fewer tables, of a few megabytes each."""
    some: list[pa.Table] = []
    size = 0
    for table in tables:
        some.append(_conformed(table, schema))
        size += table.nbytes
        if size >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(some)
            some, size = [], 0
    if some:
        yield pa.concat_tables(some)


def _distinct(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Without the doubles that a fold cut short by a kill has left: same trial, attempt and start."""
    seen: set[tuple[str, int, int]] = set()
    for table in tables:
        started = table["started_at"].cast(pa.int64()).to_pylist()
        identities = zip(table["trial_id"].to_pylist(), table["attempt"].to_pylist(), started, strict=True)
        new = []
        for row, identity in enumerate(identities):
            if identity not in seen:
                seen.add(identity)
                new.append(row)
        if new:
            yield table if len(new) == len(table) else table.take(new)


def _encoded(schema: pa.Schema, tables: Iterable[pa.Table], in_haste: bool = False) -> pa.Buffer:
    """As Parquet, a row group for each table; in haste, as the sweep waits, without statistics and not compressed: a
    few records would hardly be smaller, and half of the time that it takes to keep them would go there."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="none" if in_haste else "zstd",
        compression_level=None if in_haste else 1,
        use_dictionary=not in_haste and [f.name for f in schema if pa.types.is_string(f.type)],
        write_statistics=not in_haste,
        store_schema=not in_haste,
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return sink.getvalue()


def _readers(place: Place) -> int:
    """Threads that read parts: decoding takes cores, waiting for a store does not."""
    return min(8, len(os.sched_getaffinity(0))) if place.folder else _READERS_OF_A_STORE


def _file_name(identity: str) -> str:
    if not re.fullmatch(r"[\w=.+-]{1,200}", identity) or identity.startswith("."):
        raise ValueError(f"{identity!r} cannot name a file")
    return identity
