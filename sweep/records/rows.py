"""Rows: a record as a table of one row, with every value in the type of its column."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sweep.records.columns import SCHEMA, SCHEMA_VERSION
from sweep.status import Status

# A constant, since PyArrow builds the list of names anew for each call.
KNOWN = frozenset(SCHEMA.names)

_REQUIRED = ("trial_id", "status")
_NULL = {field.name: pa.nulls(1, field.type) for field in SCHEMA}


def table_of(record: Mapping[str, Any]) -> pa.Table:
    """Return one row with every column of the schema, and one for each other key of the record.

    The key `columns` is not a column: it has the declarations of workload and framework about
    their columns. A value that does not fit its column becomes null, and the record becomes
    `failed` with the reason, since a faulty workload must not end a sweep.
    """
    present = {key: value for key, value in record.items() if value is not None}
    row = {"schema_version": SCHEMA_VERSION, "attempt": 1} | present
    declared: Mapping[str, Mapping[str, str]] = row.pop("columns", {})
    for key in _REQUIRED:
        if key not in row:
            raise ValueError(f"a record has no {key}: {record!r}")
    others = [(key, _type_of(value)) for key, value in row.items() if key not in KNOWN]
    schema = _schema_with(
        tuple((key, kind, tuple(declared.get(key, {}).items())) for key, kind in others)
    )
    arrays: dict[str, pa.Array] = dict(_NULL)
    problems = []
    for name, value in row.items():
        kind = schema.field(name).type
        try:
            arrays[name] = pa.array([_converted(value, kind)], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            arrays[name] = pa.nulls(1, kind)
            problems.append(f"{name} is no {kind}: {str(error).splitlines()[0]}")
    if problems:
        errors = [row["error"], *problems] if row.get("error") else problems
        status = Status.FAILED if row["status"] == Status.OK else row["status"]
        arrays["error"] = pa.array(["\n".join(errors)])
        arrays["status"] = pa.array([status])
    return pa.table(list(arrays.values()), schema=schema)


@functools.lru_cache(maxsize=100)
def _schema_with(
    others: tuple[tuple[str, pa.DataType, tuple[tuple[str, str], ...]], ...],
) -> pa.Schema:
    """Return the schema with more columns, each as name, type and declarations."""
    fields = [pa.field(name, kind, metadata=dict(declared)) for name, kind, declared in others]
    return pa.schema([*SCHEMA, *fields], metadata=SCHEMA.metadata)


def _converted(value: Any, kind: pa.DataType) -> Any:
    """Convert values that Arrow refuses although their meaning is clear.

    These are one number for a list, a time as text or number, and a dict for JSON.
    """
    if pa.types.is_list(kind):
        return list(value) if _is_sequence(value) else [value]
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else _json(value)
    if pa.types.is_timestamp(kind):
        return _time(value)
    return value.item() if hasattr(value, "item") else value  # a NumPy scalar


def _type_of(value: Any) -> pa.DataType:
    """Return the type of a column outside of the schema: flag, number, list of numbers, or text."""
    # bool first, since a bool is also an int.
    for type_, kind in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if isinstance(value, type_):
            return kind
    if _is_sequence(value) and all(v is None or isinstance(v, int | float) for v in value):
        return pa.list_(pa.float64())
    return pa.string()


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or hasattr(value, "tolist")


def _time(value: Any) -> dt.datetime:
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, int | float):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if not isinstance(value, dt.datetime):
        raise TypeError(f"{value!r} is no time")
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
