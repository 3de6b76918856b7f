"""Parts: Parquet files of records, and tables of rows from many of them.

The name of a part contains the CRC-32 of its bytes. A flipped bit therefore makes a damaged part,
never a wrong number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import isal_zlib

from sweep import former
from sweep.records import validation
from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.records.rows import KNOWN
from sweep.records.storage import Entry
from sweep.status import Status

IDENTITY = ["trial_id", "status", "attempt"]
LAST_LEVEL = 2

_FOLD_BELOW_BYTES = 4 * 2**20  # folding larger parts would save nothing
# The size of a row group before compression, which is also what a fold holds in memory.
_PIECE_ROWS, _PIECE_BYTES = 1024, 8 * 2**20
_NAME = re.compile(r"(?P<sequence>\d{8})-(?P<level>\d)-(?P<crc>[0-9a-f]{8})\.parquet")


@dataclass(frozen=True)
class Part:
    """A file of records. Parts of level 0 are as they were appended, higher ones are folded.

    `crc` is "" where another program has written the file.
    """

    path: str
    size_bytes: int
    sequence: int = 0
    level: int = LAST_LEVEL
    crc: str = ""

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return the part that a file is, from its name."""
        match = _NAME.fullmatch(Path(entry.path).name)
        if not match:
            return cls(entry.path, entry.size_bytes)
        return cls(
            entry.path, entry.size_bytes, int(match["sequence"]), int(match["level"]), match["crc"]
        )

    @classmethod
    def new(cls, folder: str, sequence: int, level: int, data: pa.Buffer) -> Self:
        """Return the part for new bytes in a folder."""
        path = f"{folder}/{sequence:08d}-{level}-{isal_zlib.crc32(data):08x}.parquet"
        return cls.of(Entry(path, data.size))

    @property
    def foldable(self) -> bool:
        return bool(self.crc) and self.level < LAST_LEVEL and self.size_bytes < _FOLD_BELOW_BYTES


class Damaged(Exception):  # noqa: N818  never raised outside of this package
    """A part whose bytes are not those that were written."""


class NewerSchema(Damaged):
    """A part that a newer version of sweep has written."""


def schema_of(part: Part, data: pa.Buffer) -> pa.Schema:
    """Return the columns of a part; raise Damaged where its bytes are not those written."""
    return _open(part, data).schema


class _Opened(NamedTuple):
    """An open part, and its schema with the current names of columns.

    `is_former` is true where the part has an older schema, with other names. The schema is kept,
    since a ParquetFile converts it anew for each access.
    """

    file: pq.ParquetFile
    schema: pa.Schema
    is_former: bool

    def current_name(self, name: str) -> str:
        """Return the current name of a column in the file."""
        return former.COLUMNS.get(name, name) if self.is_former else name

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read columns by their current names."""
        if not self.is_former:
            return self.file.read(columns=columns, use_threads=False)
        stored = [
            name for name in self.file.schema_arrow.names if self.current_name(name) in columns
        ]
        table = self.file.read(columns=stored, use_threads=False)
        table = table.rename_columns([self.current_name(name) for name in table.column_names])
        if "settings" in table.column_names:
            index = table.schema.get_field_index("settings")
            settings = _renamed_settings(table["settings"])
            table = table.set_column(index, table.schema.field(index), settings)
        return table.select(columns)


def _renamed_settings(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return settings, as JSON, with the current names of settings."""
    for before, now in former.SETTINGS.items():
        texts = pc.replace_substring(texts, f'"{before}":', f'"{now}":')
    added = json.dumps(former.ADDED)[1:-1]
    for workload in former.ADDED_TO:
        key = f'"workload": "{workload}"'
        texts = pc.replace_substring(texts, key, f"{added}, {key}")
    return texts


def _open(part: Part, data: pa.Buffer) -> _Opened:
    if part.crc and f"{isal_zlib.crc32(data):08x}" != part.crc:
        raise Damaged(
            "damaged, its bytes are not those that were written: "
            "its trials are run again by the next sweep run"
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        is_former = _version(schema.metadata or {}) < former.SCHEMA_VERSION
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None
    opened = _Opened(file, schema, is_former)
    if not is_former:
        return opened
    fields = [field.with_name(opened.current_name(field.name)) for field in schema]
    return opened._replace(schema=pa.schema(fields, metadata=schema.metadata))


def _unreadable(error: Exception) -> Damaged:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Damaged(f"no readable Parquet file: {reason}")


def decode(
    part: Part, data: pa.Buffer, columns: list[str] | None, null_if_true: Collection[str] = ()
) -> pa.Table:
    """Return the rows of a part, with these columns or all.

    Flags in `null_if_true` may be null where they are all true. Raises Damaged where the bytes are
    not those that were written, or are not records.
    """
    opened = _open(part, data)
    names = opened.schema.names
    try:
        validation.check_columns(opened.schema)
        wanted = names if columns is None else [name for name in columns if name in names]
        skipped = _skippable(opened, wanted, null_if_true)
        return validation.rows(opened.read([name for name in wanted if name not in skipped]))
    except validation.InvalidRows as error:
        raise Damaged(f"no records: {error}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None


def _skippable(opened: _Opened, columns: Sequence[str], null_if_true: Collection[str]) -> set[str]:
    """Return the columns that need not be read, as the statistics in the file show.

    They are null in every row, or they are flags in `null_if_true` and true in every row. Only
    columns of the schema are skipped, and none that identify a record.
    """
    metadata = opened.file.metadata
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    if not groups:
        return set()
    # The paths come from a row group. The schema of `metadata` would create a reference cycle,
    # which keeps 0.2 MiB for each part until the garbage collector runs.
    paths = [groups[0].column(leaf).path_in_schema for leaf in range(metadata.num_columns)]
    leaves = {opened.current_name(path.partition(".")[0]): n for n, path in enumerate(paths)}
    skippable = set()
    for name in KNOWN.intersection(columns).difference(IDENTITY):
        leaf = leaves[name]
        statistics = [group.column(leaf).statistics for group in groups]
        if any(stats is None or not stats.has_null_count for stats in statistics):
            continue
        null_counts = [stats.null_count for stats in statistics]
        # Statistics of lists count empty lists as nulls, so these cannot be skipped.
        is_list = "." in paths[leaf]
        is_null = not is_list and null_counts == [group.num_rows for group in groups]
        if is_null or (name in null_if_true and _are_all_true(statistics)):
            skippable.add(name)
    return skippable


def _are_all_true(statistics: Sequence[Any]) -> bool:
    """Return whether the statistics of row groups say that all flags are true."""
    return all(stats.has_min_max and stats.min is True for stats in statistics)


def _version(metadata: Mapping[bytes, bytes]) -> int:
    version = int(metadata.get(b"sweep_schema_version", b"1").decode())
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"written by a newer sweep, schema {version}, "
            f"and this one reads up to {SCHEMA_VERSION}: update it"
        )
    return version


def concatenate(tables: Sequence[pa.Table], columns: list[str] | None) -> pa.Table:
    """Return the rows of all tables; a column that a table lacks is null in its rows."""
    schema = unified_schema((table.schema for table in tables), columns)
    conformed = [_conformed(table, schema) for table in tables]
    return pa.concat_tables(conformed or [schema.empty_table()])


def unified_schema(schemas: Iterable[pa.Schema], columns: list[str] | None) -> pa.Schema:
    """Return one schema for all, with these columns or all.

    Columns with different types become text. A column that is dictionary-encoded in one schema is
    so in the result. Of the declarations of plug-ins, the last ones are taken.
    """
    kinds: dict[str, pa.DataType] = {
        field.name: field.type for field in SCHEMA if columns is None or field.name in columns
    }
    declared: dict[str, Mapping[bytes, bytes]] = {}
    last: pa.Schema | None = None
    for schema in schemas:
        # Most parts of a run have equal schemas.
        if last is not None and schema.equals(last, check_metadata=True):
            continue
        last = schema
        for field in schema:
            if pa.types.is_dictionary(field.type):
                kinds[field.name] = field.type
            elif field.name not in KNOWN:
                before = kinds.get(field.name, pa.null())
                kinds[field.name] = _common(before, validation.kind_of(field.type))
                declared[field.name] = field.metadata or declared.get(field.name, {})
    fields = []
    for name in [*kinds] if columns is None else columns:
        if name in KNOWN:
            fields.append(SCHEMA.field(name).with_type(kinds[name]))
        else:
            kind = kinds.get(name, pa.null())
            fields.append(pa.field(name, kind, metadata=declared.get(name)))
    return pa.schema(fields, metadata=SCHEMA.metadata)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds values of both types: of numbers, a list, or text."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers, lists = {pa.int64(), pa.float64()}, pa.list_(pa.float64())
    if {one, other} <= {*numbers, lists}:
        return lists if lists in (one, other) else pa.float64()
    return pa.string()


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the columns of a schema."""
    if table.schema.equals(schema):
        return pa.table(table.columns, schema=schema)
    names = set(table.schema.names)
    arrays = []
    for field in schema:
        if field.name in names:
            arrays.append(_cast(table[field.name], field.type))
        else:
            arrays.append(pa.nulls(len(table), field.type))
    return pa.table(arrays, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the column in another type; lists become JSON text, numbers lists of one."""
    both_lists_or_none = pa.types.is_list(column.type) == pa.types.is_list(kind)
    if both_lists_or_none or pa.types.is_null(column.type):
        return column.cast(kind, safe=False)
    convert = (lambda value: [value]) if pa.types.is_list(kind) else json.dumps
    values = [None if value is None else convert(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, kind)])


def latest_per_trial(table: pa.Table) -> pa.Table:
    """Return one row per trial: `ok` before others, then the highest attempt, then the last."""
    if len(table) == 0:
        return table
    trial_ids = table["trial_id"].combine_chunks().dictionary_encode()
    if len(trial_ids.dictionary) == len(table):
        return table
    trials = trial_ids.indices.to_numpy(zero_copy_only=False)
    ok = pc.equal(table["status"], Status.OK).to_numpy()
    attempts = pc.fill_null(table["attempt"], 1).to_numpy()
    # `lexsort` sorts by its last key first.
    order = np.lexsort((np.arange(len(table)), attempts, ok, trials))
    last = np.append(trials[order][1:] != trials[order][:-1], True)
    kept = np.zeros(len(table), dtype=bool)
    kept[order[last]] = True
    return table.filter(pa.array(kept))


def regroup(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the same rows in fewer tables, of a few megabytes each."""
    group: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        group.append(_conformed(table, schema))
        rows += len(table)
        size += table.nbytes
        if rows >= _PIECE_ROWS or size >= _PIECE_BYTES:
            yield pa.concat_tables(group)
            group, rows, size = [], 0, 0
    if group:
        yield pa.concat_tables(group)


def without_duplicates(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield rows without duplicates, which have the same trial, attempt and start.

    A fold that was killed leaves them.
    """
    seen: set[tuple[str, int, int]] = set()
    for table in tables:
        started = table["started_at"].cast(pa.int64()).to_pylist()
        identities = zip(
            table["trial_id"].to_pylist(), table["attempt"].to_pylist(), started, strict=True
        )
        new = []
        for row, identity in enumerate(identities):
            if identity not in seen:
                seen.add(identity)
                new.append(row)
        if new:
            yield table if len(new) == len(table) else table.take(new)


def encode(schema: pa.Schema, tables: Iterable[pa.Table], fast: bool = False) -> pa.Buffer:
    """Return tables as Parquet, with one row group for each.

    `fast` leaves out statistics, dictionaries and compression. It is for appending while the sweep
    waits: these take half of the time, and make a few records hardly smaller.
    """
    text_columns = [field.name for field in schema if pa.types.is_string(field.type)]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="none" if fast else "zstd",
        compression_level=None if fast else 1,
        use_dictionary=not fast and text_columns,
        write_statistics=not fast,
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return sink.getvalue()
