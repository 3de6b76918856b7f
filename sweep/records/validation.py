"""Validation: rows that another program may have written, converted to our types or rejected.

This is the only check of the contents of a part; all later code relies on it. Columns have their
types, texts are UTF-8, JSON columns hold JSON objects, and ids can name files. A part that fails is
left out as a whole and reported, since some of its columns could give plausible wrong figures.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sweep.records import declared
from sweep.records.columns import SCHEMA, ColumnMetadata, metadata

FILE_NAME = r"[\w=+-][\w=.+-]{0,199}"  # the pattern of an id, which may name a file

_OURS = {field.name: field.type for field in SCHEMA}
_REQUIRED = ("trial_id", "status")
_IDS = ("trial_id", "environment_id")
_JSON = frozenset(name for name in _OURS if metadata(name).unit == "JSON")
_ERRORS = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
_TEXT_AXES = ("framework", "workload", "backend", "backward", "device")
_NUMBER_AXES = ("batch_exponent", "seed")
# The first and the last microsecond of the years 1 to 9999, which `datetime` can hold.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999

# Nearly all JSON in records is an object of plain values. Regular expressions recognise it a
# hundred times faster than a parser.
_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}))*"'
_NUMBER = r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,3})?"
_PLAIN = f"(?:{_STRING}|{_NUMBER}|true|false|null)"
_VALUE = rf"(?:{_PLAIN}|\[(?:{_PLAIN}(?:, ?{_PLAIN})*)?\])"
_PAIR = f"{_STRING}: ?{_VALUE}"
_ODD_AXIS = rf'"(?:{"|".join(_TEXT_AXES)})": ?[^"n ]|"(?:{"|".join(_NUMBER_AXES)})": ?[^-0-9n ]'
_PLAIN_OBJECT = rf"\A\{{(?:{_PAIR}(?:, ?{_PAIR})*)?\}}\z"


class InvalidRows(ValueError):  # noqa: N818  always reported as damage of a part
    """Rows that cannot be records. The message is the reason."""


def check_columns(schema: pa.Schema) -> None:
    """Raise InvalidRows where these cannot be the columns of records.

    All columns of the part are checked, not only those that are read. So whether a part is left
    out does not depend on what is read of it.
    """
    names = schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRows(f"the column {twice[0]} is there twice")
    if missing := sorted(set(_REQUIRED).difference(names)):
        raise InvalidRows(f"there is no column {missing[0]}")
    for field in schema:
        kind = _OURS.get(field.name)
        stored = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if kind is not None and not _are_alike(stored, kind):
            raise InvalidRows(f"its column {field.name} is {field.type} and not {kind}")


def rows(table: pa.Table) -> pa.Table:
    """Return the rows with every column in a type of ours; raise InvalidRows where impossible."""
    columns = [_column(field, table[field.name]) for field in table.schema]
    fields = [
        _field(field, column.type) for field, column in zip(table.schema, columns, strict=True)
    ]
    valid = pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))
    for name in _REQUIRED:
        if name in valid.column_names and valid[name].null_count:
            raise InvalidRows(f"a row has no {name}")
    return valid


def json_object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object, {} for no text; raise ValueError (often InvalidRows) for all else."""
    try:
        value = json.loads(text or "{}")
        # JSON may escape half of a surrogate pair, which no file and no terminal accepts.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRows("nested too deeply") from None
    if not isinstance(value, dict):
        raise InvalidRows("no object")
    return value


def _column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    name, kind = field.name, _OURS.get(field.name)
    try:
        column = _typed(column, kind) if kind else _other(column)
        if pa.types.is_string(column.type):
            column.validate(full=True)  # UTF-8
        if pa.types.is_timestamp(column.type):
            _check_times(column)
    except _ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRows(
            f"its column {name} is {field.type} and cannot be read: {reason}"
        ) from None
    if name in _IDS:
        _check_ids(name, column)
    if name in _JSON:
        _check_json(name, column)
    return column


def _typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast a column of the schema to its type, for example from another width."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(kind)


def _are_alike(stored: pa.DataType, kind: pa.DataType) -> bool:
    """Return whether a stored type has the meaning of a type of ours: the width may differ."""
    if pa.types.is_null(stored):
        return True
    if pa.types.is_list(kind):
        list_checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        is_list = any(check(stored) for check in list_checks)
        return is_list and _are_alike(stored.value_type, kind.value_type)
    checks = (_is_number, _is_text, pa.types.is_boolean, pa.types.is_timestamp)
    return any(check(stored) and check(kind) for check in checks)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def kind_of(stored: pa.DataType) -> pa.DataType:
    """Return the type in which a column outside of the schema is read.

    Numbers, flags and lists of numbers keep their meaning; everything else becomes text.
    """
    if pa.types.is_null(stored):
        return stored
    if pa.types.is_dictionary(stored):
        return kind_of(stored.value_type)
    if pa.types.is_integer(stored):
        return pa.int64()
    if pa.types.is_floating(stored):
        return pa.float64()
    for kind in (pa.bool_(), pa.list_(pa.float64())):
        if _are_alike(stored, kind):
            return kind
    return pa.string()


def _other(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column outside of the schema to its type; what is not text becomes JSON text."""
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
    """Return the field of a validated column, with valid declarations only."""
    if field.name in _OURS:
        return field.with_type(kind)
    return pa.field(field.name, kind, metadata=_declarations(field.metadata or {}))


def _declarations(stored: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the declarations in a field's metadata, none where one of them is invalid."""
    names = {name.encode() for name in ColumnMetadata._fields}
    try:
        values = {key.decode(): value.decode() for key, value in stored.items() if key in names}
        # A plug-in cannot declare an identity, but sweep writes one for an axis.
        identity = {key: values.pop(key) for key in ("identity",) if key in values}
        return {**declared.validate(values), **identity}
    except ValueError:
        return {}


def _check_times(column: pa.ChunkedArray) -> None:
    limits = pc.min_max(column.cast(pa.int64())).as_py()
    first, last = limits["min"], limits["max"]
    if first is not None and not _FIRST_US <= first <= last <= _LAST_US:
        raise InvalidRows("a time is outside of the years 1 to 9999")


def _check_ids(name: str, column: pa.ChunkedArray) -> None:
    fits = pc.match_substring_regex(column, rf"\A{FILE_NAME}\z")
    if name != "trial_id":  # an environment that was never built has no id
        fits = pc.or_(fits, pc.equal(column, ""))
    if pc.all(fits).as_py() is False:
        wrong = column.filter(pc.invert(fits))[0].as_py()
        raise InvalidRows(f"its {name} {wrong[:100]!r} cannot name a file")


def _check_json(name: str, column: pa.ChunkedArray) -> None:
    plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_OBJECT), True)
    if name == "settings":
        has_no_odd_axis = pc.invert(pc.match_substring_regex(column, _ODD_AXIS))
        plain = pc.and_(plain, pc.fill_null(has_no_odd_axis, True))
    if pc.all(plain).as_py() is not False:
        return
    for text in column.filter(pc.invert(plain)).unique().to_pylist():
        try:
            value = json_object(text)
            if name == "settings":
                _check_axes(value)
        except ValueError as error:
            raise InvalidRows(
                f"its {name} is no JSON object: {str(error).splitlines()[0]}"
            ) from None


def _check_axes(settings: Mapping[str, Any]) -> None:
    """Raise InvalidRows where the value of a built-in axis has the wrong type."""
    kinds = {**dict.fromkeys(_TEXT_AXES, str), **dict.fromkeys(_NUMBER_AXES, int | float)}
    for name, kind in kinds.items():
        value = settings.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InvalidRows(f"{name} is {reprlib.repr(value)}")
