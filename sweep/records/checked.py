"""Checked: rows that somebody else may have written, brought to the types of our columns, or refused.

The one check of what a part holds. What passes can be trusted by all that comes after: columns have their types, texts
are UTF-8, JSON columns hold JSON objects, ids can name files. A part that fails is left out as a whole and named: half
of its columns would give figures that look right.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sweep.records import stated
from sweep.records.columns import SCHEMA, ColumnMetadata, metadata

FILE_NAME = r"[\w=+-][\w=.+-]{0,199}"  # an id that names a file

_OURS = {field.name: field.type for field in SCHEMA}
_REQUIRED = ("trial_id", "status")
_IDS = ("trial_id", "environment_id")
_JSON = frozenset(name for name in _OURS if metadata(name).unit == "JSON")
_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
_TEXT_AXES, _NUMBER_AXES = (
    ("framework", "workload", "backend", "backward", "device"),
    ("batch_exponent", "seed"),
)
_INSTANTS = (
    pa.scalar(-62_135_596_800_000_000),
    pa.scalar(253_402_300_799_999_999),
)  # the years 1 to 9999

# Nearly all JSON here is an object of plain values, which this finds a hundred times faster than a parser could.
_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}))*"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,3})?"
_PLAIN = f"(?:{_STRING}|{_NUMBER}|true|false|null)"
_VALUE = rf"(?:{_PLAIN}|\[(?:{_PLAIN}(?:, ?{_PLAIN})*)?\])"
_PAIR = f"{_STRING}: ?{_VALUE}"
_ODD_AXIS = rf'"(?:{"|".join(_TEXT_AXES)})": ?[^"n ]|"(?:{"|".join(_NUMBER_AXES)})": ?[^-0-9n ]'
_PLAIN_OBJECT = rf"\A\{{(?:{_PAIR}(?:, ?{_PAIR})*)?\}}\z"


class Unfit(ValueError):  # noqa: N818  always told as damage of a part
    """Rows that cannot be records; the message says why."""


def check_columns(schema: pa.Schema) -> None:
    """Raise Unfit unless these can be the columns of records."""
    names = schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unfit(f"the column {twice[0]} is there twice")
    if missing := sorted(set(_REQUIRED).difference(names)):
        raise Unfit(f"there is no column {missing[0]}")
    for (
        field
    ) in schema:  # of all that are there: a part is left out whatever is read of it, or never
        kind = _OURS.get(field.name)
        found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if kind is not None and not _are_alike(found, kind):
            raise Unfit(f"its column {field.name} is {field.type} and not {kind}")


def rows(table: pa.Table) -> pa.Table:
    """The same rows, every column in a type that the rest of the program knows; raises Unfit."""
    columns = [_column(field, table[field.name]) for field in table.schema]
    fields = [
        _field(field, column.type) for field, column in zip(table.schema, columns, strict=True)
    ]
    checked = pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))
    for name in _REQUIRED:
        if name in checked.column_names and checked[name].null_count:
            raise Unfit(f"a row has no {name}")
    return checked


def json_object(text: str | None) -> dict[str, Any]:
    """The object that a text is, empty for none; raises ValueError, often Unfit, where it is something else."""
    try:
        value = json.loads(text or "{}")
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # half of a surrogate pair can be written nowhere
    except RecursionError:
        raise Unfit("nested too deeply") from None
    if not isinstance(value, dict):
        raise Unfit("no object")
    return value


def _column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    name, kind = field.name, _OURS.get(field.name)
    try:
        column = _typed(column, kind) if kind else _own(column)
        if pa.types.is_string(column.type):
            column.validate(full=True)  # that it is UTF-8
        if pa.types.is_timestamp(column.type):
            _check_instants(column)
    except _ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unfit(f"its column {name} is {field.type} and cannot be read: {reason}") from None
    if name in _IDS:
        _check_ids(name, column)
    if name in _JSON:
        _check_json(name, column)
    return column


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of ours in its type: another width is fine, another meaning is not."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(kind)


def _are_alike(found: pa.DataType, kind: pa.DataType) -> bool:
    if pa.types.is_null(found):
        return True
    if pa.types.is_list(kind):
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(of(found) for of in lists) and _are_alike(found.value_type, kind.value_type)
    kinds = (_is_number, _is_text, pa.types.is_boolean, pa.types.is_timestamp)
    return any(of(found) and of(kind) for of in kinds)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def kind_of(found: pa.DataType) -> pa.DataType:
    """The type in which a column that the schema does not know is held: what is no flag, number or list is text."""
    if pa.types.is_null(found) or pa.types.is_dictionary(found):
        return found if pa.types.is_null(found) else kind_of(found.value_type)
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_floating(found):
        return pa.float64()
    alike = (kind for kind in (pa.bool_(), pa.list_(pa.float64())) if _are_alike(found, kind))
    return next(alike, pa.string())


def _own(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column that the schema does not know; what has another type than plug-ins' columns becomes JSON text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = kind_of(column.type)
    if not pa.types.is_string(kind) or _is_text(column.type):
        return column if column.type == kind else column.cast(kind)
    texts = [
        None if value is None else json.dumps(value, default=str) for value in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _field(field: pa.Field, kind: pa.DataType) -> pa.Field:
    """The field of a column that was checked; of what is stated of it, what can be."""
    if field.name in _OURS:
        return field.with_type(kind)
    return pa.field(field.name, kind, metadata=_stated(field.metadata or {}))


def _stated(said: Mapping[bytes, bytes]) -> dict[str, str]:
    known = {key.encode() for key in ColumnMetadata._fields}
    try:
        told = {key.decode(): value.decode() for key, value in said.items() if key in known}
        identity = {key: told.pop(key) for key in ("identity",) if key in told}
        return {**stated.checked(told), **identity}
    except ValueError:
        return {}


def _check_instants(column: pa.ChunkedArray) -> None:
    least, most = _INSTANTS
    found = pc.min_max(column.cast(pa.int64())).as_py()
    if (
        found["min"] is not None
        and not least.as_py() <= found["min"] <= found["max"] <= most.as_py()
    ):
        raise Unfit("a time is outside of the years 1 to 9999")


def _check_ids(name: str, column: pa.ChunkedArray) -> None:
    fits = pc.match_substring_regex(column, rf"\A{FILE_NAME}\z")
    if name != "trial_id":  # an environment that was never built has none
        fits = pc.or_(fits, pc.equal(column, ""))
    if pc.all(fits).as_py() is False:
        wrong = column.filter(pc.invert(fits))[0].as_py()
        raise Unfit(f"its {name} {wrong[:100]!r} cannot name a file")


def _check_json(name: str, column: pa.ChunkedArray) -> None:
    plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_OBJECT), True)
    if name == "settings":
        plain = pc.and_(
            plain, pc.fill_null(pc.invert(pc.match_substring_regex(column, _ODD_AXIS)), True)
        )
    if pc.all(plain).as_py() is not False:
        return
    for text in column.filter(pc.invert(plain)).unique().to_pylist():
        try:
            found = json_object(text)
            if name == "settings":
                _check_axes(found)
        except ValueError as error:
            raise Unfit(f"its {name} is no JSON object: {str(error).splitlines()[0]}") from None


def _check_axes(settings: Mapping[str, Any]) -> None:
    """Raise Unfit where a built-in axis has no value that it can have."""
    kinds = {**dict.fromkeys(_TEXT_AXES, str), **dict.fromkeys(_NUMBER_AXES, int | float)}
    for name, kind in kinds.items():
        value = settings.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise Unfit(f"{name} is {reprlib.repr(value)}")
