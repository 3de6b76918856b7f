"""Parts: records as one Parquet file each, written whole, and rows of many of them.

A part carries the CRC-32 of its bytes in its name, so that a flipped bit is a damaged part and never a wrong number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import isal_zlib

from sweep import former
from sweep.records import checked
from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.records.rows import KNOWN
from sweep.records.storage import Entry
from sweep.status import Status

IDENTITY = ["trial_id", "status", "attempt"]
LAST_LEVEL = 2

_FOLD_BELOW_BYTES = 4 * 2**20  # larger parts are well as they are
_PIECE_ROWS, _PIECE_BYTES = (
    1024,
    8 * 2**20,
)  # what a fold holds at once, before compression: a row group
_NAME = re.compile(r"(?P<sequence>\d{8})-(?P<level>\d)-(?P<crc>[0-9a-f]{8})\.parquet")


@dataclass(frozen=True)
class Part:
    """A file of records: of the lowest level as they came, of higher ones folded."""

    path: str
    size_bytes: int
    sequence: int = 0
    level: int = LAST_LEVEL
    crc: str = ""  # none where someone else has written the file

    @classmethod
    def of(cls, entry: Entry) -> Self:
        match = _NAME.fullmatch(Path(entry.path).name)
        if not match:
            return cls(entry.path, entry.size_bytes)
        return cls(
            entry.path, entry.size_bytes, int(match["sequence"]), int(match["level"]), match["crc"]
        )

    @classmethod
    def made(cls, folder: str, sequence: int, level: int, data: pa.Buffer) -> Self:
        """The part that these bytes are, the next one in a folder."""
        path = f"{folder}/{sequence:08d}-{level}-{isal_zlib.crc32(data):08x}.parquet"
        return cls.of(Entry(path, data.size))

    @property
    def foldable(self) -> bool:
        return bool(self.crc) and self.level < LAST_LEVEL and self.size_bytes < _FOLD_BELOW_BYTES


class Damaged(Exception):  # noqa: N818  never seen outside of this package
    """A part whose bytes are not what was written."""


class NewerSchema(Damaged):
    """A part that a newer sweep has written."""


def schema_of(part: Part, data: pa.Buffer) -> pa.Schema:
    """The columns of a part; raises Damaged unless its bytes are those that were written."""
    return _opened(part, data).schema


class _Opened(NamedTuple):
    """A part as a file, and its columns under the names of now, which were others where it `is_former`.

    A file converts its columns anew each time that it is asked for them.
    """

    file: pq.ParquetFile
    schema: pa.Schema
    is_former: bool

    def now(self, name: str) -> str:
        return former.COLUMNS.get(name, name) if self.is_former else name

    def read(self, columns: Sequence[str]) -> pa.Table:
        in_file = (
            [name for name in self.file.schema_arrow.names if self.now(name) in columns]
            if self.is_former
            else columns
        )
        table = self.file.read(columns=in_file, use_threads=False)
        if not self.is_former:
            return table
        table = table.rename_columns([self.now(name) for name in table.column_names])
        if "settings" in table.column_names:
            at = table.schema.get_field_index("settings")
            table = table.set_column(
                at, table.schema.field(at), _renamed_settings(table["settings"])
            )
        return table.select(columns)


def _renamed_settings(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    for before, now in former.SETTINGS.items():
        texts = pc.replace_substring(texts, f'"{before}":', f'"{now}":')
    added = json.dumps(former.ADDED)[1:-1]
    for workload in former.ADDED_TO:
        texts = pc.replace_substring(
            texts, f'"workload": "{workload}"', f'{added}, "workload": "{workload}"'
        )
    return texts


def _opened(part: Part, data: pa.Buffer) -> _Opened:
    if part.crc and f"{isal_zlib.crc32(data):08x}" != part.crc:
        raise Damaged(
            "damaged, its bytes are not those that were written: its trials are run again by the next sweep run"
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        is_former = _version(schema.metadata or {}) < former.SCHEMA_VERSION
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None
    opened = _Opened(file, schema, is_former)
    fields = [field.with_name(opened.now(field.name)) for field in schema]
    return (
        opened._replace(schema=pa.schema(fields, metadata=schema.metadata)) if is_former else opened
    )


def _unreadable(error: Exception) -> Damaged:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Damaged(f"no readable Parquet file: {reason}")


def decoded(
    part: Part, data: pa.Buffer, columns: list[str] | None, null_if_true: Collection[str] = ()
) -> pa.Table:
    """The rows of a part; raises Damaged unless its bytes are those that were written."""
    opened = _opened(part, data)
    names = opened.schema.names
    try:
        checked.check_columns(opened.schema)
        wanted = names if columns is None else [name for name in columns if name in names]
        spared = _spared(opened, wanted, null_if_true)
        return checked.rows(opened.read([name for name in wanted if name not in spared]))
    except checked.Unfit as unfit:
        raise Damaged(f"no records: {unfit}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(error) from None


def _spared(opened: _Opened, columns: Sequence[str], null_if_true: Collection[str]) -> set[str]:
    """Of our columns, those that need not be read, as the file itself says: null in every row, or flags all true.

    Never those that say which record a row is.
    """
    metadata = opened.file.metadata
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    if not groups:
        return set()
    # asked for its schema, metadata would refer to itself and stay until Python looks for such circles: 0.2 MiB a part
    paths = [groups[0].column(leaf).path_in_schema for leaf in range(metadata.num_columns)]
    leaves = {opened.now(path.partition(".")[0]): leaf for leaf, path in enumerate(paths)}
    spared = set()
    for name in KNOWN.intersection(columns).difference(IDENTITY):
        leaf = leaves[name]
        stated = [(group.num_rows, group.column(leaf).statistics) for group in groups]
        if not all(said is not None and said.has_null_count for _, said in stated):
            continue
        is_list = "." in paths[leaf]
        flags = name in null_if_true and all(
            said.has_min_max and said.min is True for _, said in stated
        )
        # of lists, nulls and empty ones are counted alike
        if flags or (not is_list and all(said.null_count == rows for rows, said in stated)):
            spared.add(name)
    return spared


def _version(metadata: Mapping[bytes, bytes]) -> int:
    version = int(metadata.get(b"sweep_schema_version", b"1").decode())
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"written by a newer sweep, schema {version}, and this one reads up to {SCHEMA_VERSION}: update it"
        )
    return version


def concatenated(tables: Sequence[pa.Table], columns: list[str] | None) -> pa.Table:
    """Rows one below the other; a column that a table lacks is null there, types that disagree become text."""
    schema = unified((table.schema for table in tables), columns)
    return pa.concat_tables(
        [_conformed(table, schema) for table in tables] or [schema.empty_table()]
    )


def unified(schemas: Iterable[pa.Schema], columns: list[str] | None) -> pa.Schema:
    """One schema for all; what is a dictionary of texts in one of them is one in it."""
    kinds: dict[str, pa.DataType] = {
        f.name: f.type for f in SCHEMA if columns is None or f.name in columns
    }
    said: dict[
        str, Mapping[bytes, bytes]
    ] = {}  # what plug-ins state of their columns: the last word counts
    last: pa.Schema | None = None
    for schema in schemas:
        if last is not None and schema.equals(last, check_metadata=True):  # as most are
            continue
        last = schema
        for found in schema:
            known = kinds.get(found.name, pa.null())
            if pa.types.is_dictionary(found.type):
                kinds[found.name] = found.type
            elif found.name not in KNOWN:
                kinds[found.name] = _common(known, checked.kind_of(found.type))
                said[found.name] = found.metadata or said.get(found.name, {})
    order = [*kinds] if columns is None else columns
    fields = [
        SCHEMA.field(n).with_type(kinds[n])
        if n in KNOWN
        else pa.field(n, kinds.get(n, pa.null()), metadata=said.get(n))
        for n in order
    ]
    return pa.schema(fields, metadata=SCHEMA.metadata)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers, lists = {pa.int64(), pa.float64()}, pa.list_(pa.float64())
    if {one, other} <= {*numbers, lists}:
        return lists if lists in (one, other) else pa.float64()
    return pa.string()


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return pa.table(table.columns, schema=schema)
    arrays = [
        _cast(table[f.name], f.type)
        if f.name in table.schema.names
        else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column in another type; a list becomes JSON where that is text, a number a list of one."""
    if (
        column.type == kind
        or pa.types.is_list(column.type) == pa.types.is_list(kind)
        or pa.types.is_null(column.type)
    ):
        return column.cast(kind, safe=False)
    values = column.to_pylist()
    if pa.types.is_list(kind):
        return pa.chunked_array([pa.array([None if v is None else [v] for v in values], kind)])
    return pa.chunked_array(
        [pa.array([None if v is None else json.dumps(v) for v in values], kind)]
    )


def newest(table: pa.Table) -> pa.Table:
    """One row per trial: `ok` before the rest, then the highest attempt, then the last written."""
    if len(table) == 0:
        return table
    known = table["trial_id"].combine_chunks().dictionary_encode()
    if len(known.dictionary) == len(table):
        return table
    trials = known.indices.to_numpy(zero_copy_only=False)
    ok = pc.equal(table["status"], Status.OK).to_numpy()
    attempts = pc.fill_null(table["attempt"], 1).to_numpy()
    order = np.lexsort((np.arange(len(table)), attempts, ok, trials))
    last = np.append(trials[order][1:] != trials[order][:-1], True)
    kept = np.zeros(len(table), dtype=bool)
    kept[order[last]] = True
    return table.filter(pa.array(kept))


def gathered(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in fewer tables, of a few megabytes each."""
    some: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        some.append(_conformed(table, schema))
        rows += len(table)
        size += table.nbytes
        if rows >= _PIECE_ROWS or size >= _PIECE_BYTES:
            yield pa.concat_tables(some)
            some, rows, size = [], 0, 0
    if some:
        yield pa.concat_tables(some)


def distinct(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Without the doubles that a fold cut short by a kill has left: same trial, attempt and start."""
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


def encoded(schema: pa.Schema, tables: Iterable[pa.Table], fast: bool = False) -> pa.Buffer:
    """As Parquet, a row group for each table; in haste, as the sweep waits, without statistics and not compressed: a
    few records would hardly be smaller, and half of the time that it takes to keep them would go there."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="none" if fast else "zstd",
        compression_level=None if fast else 1,
        use_dictionary=not fast and [f.name for f in schema if pa.types.is_string(f.type)],
        write_statistics=not fast,
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return sink.getvalue()
