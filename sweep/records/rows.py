"""A record as a row of a table: every value in its column's type, or the record says why not."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.status import Status

KNOWN = frozenset(SCHEMA.names)  # PyArrow makes that list anew whenever it is asked

_REQUIRED = ("trial_id", "status")
_NULL = {field.name: pa.nulls(1, field.type) for field in SCHEMA}


def table_of(record: Mapping[str, Any]) -> pa.Table:
    """One row with every column of the schema, and one more for each key that it does not know.

    `columns` is no column: it is what the record's own workload and framework state of theirs.

    A value that does not fit its column is left out, and the record becomes `failed` with the reason: a workload that
    returns nonsense must not end a sweep.
    """
    row = {"schema_version": SCHEMA_VERSION, "attempt": 1} | {
        k: v for k, v in record.items() if v is not None
    }
    said: Mapping[str, Mapping[str, str]] = row.pop("columns", {})
    for key in _REQUIRED:
        if key not in row:
            raise ValueError(f"a record has no {key}: {record!r}")
    others = ((key, _kind(value)) for key, value in row.items() if key not in KNOWN)
    schema = _with(tuple((key, kind, tuple(said.get(key, {}).items())) for key, kind in others))
    arrays: dict[str, pa.Array] = dict(_NULL)
    problems = []
    for name, value in row.items():
        kind = schema.field(name).type
        try:
            arrays[name] = pa.array([_fitted(value, kind)], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            arrays[name] = pa.nulls(1, kind)
            problems.append(f"{name} is no {kind}: {str(error).splitlines()[0]}")
    if problems:
        error_text = "\n".join([*filter(None, [row.get("error")]), *problems])
        arrays["error"] = pa.array([error_text])
        arrays["status"] = pa.array(
            [Status.FAILED if row["status"] == Status.OK else row["status"]]
        )
    return pa.table(list(arrays.values()), schema=schema)


@functools.lru_cache(maxsize=100)
def _with(others: tuple[tuple[str, pa.DataType, tuple[tuple[str, str], ...]], ...]) -> pa.Schema:
    """Our columns and these others, each with its type and what is stated of it."""
    own = [pa.field(name, kind, metadata=dict(said)) for name, kind, said in others]
    return pa.schema([*SCHEMA, *own], metadata=SCHEMA.metadata)


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """What Arrow would refuse though it is plain: one number for a list, a date as text, settings as a dict."""
    if pa.types.is_list(kind):
        return list(value) if _is_sequence(value) else [value]
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else _json(value)
    if pa.types.is_timestamp(kind):
        return _instant(value)
    return value.item() if hasattr(value, "item") else value


def _kind(value: Any) -> pa.DataType:
    """Type of a column that the schema does not know: text unless it is a number, a flag, or a list of numbers."""
    for type_, kind in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if isinstance(value, type_):
            return kind
    if _is_sequence(value) and all(v is None or isinstance(v, int | float) for v in value):
        return pa.list_(pa.float64())
    return pa.string()


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or hasattr(value, "tolist")


def _instant(value: Any) -> dt.datetime:
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, int | float):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if not isinstance(value, dt.datetime):
        raise TypeError(f"{value!r} is no time")
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
