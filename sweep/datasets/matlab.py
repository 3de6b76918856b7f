"""MATLAB files of version 5 to 7.2: numbers, texts, cells and structures; a damaged one is an error and never a crash.

The format is The MathWorks' "MAT-File Level 5". SciPy's reader dies of a segmentation fault on some damaged files.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from sweep.datasets.files import Files, read
from sweep.errors import SweepError

MAX_BYTES = 1 << 29  # of one variable, unpacked
_MAX_DEPTH = 32
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_BYTE_ORDERS = {"<": "-le", ">": "-be"}
_CELL, _STRUCTURE, _TEXT = 1, 2, 4  # classes of arrays; from 6 on numbers
_FIRST_NUMBERS, _LAST_NUMBERS = 6, 15
_COMPLEX = 0x0800


class _Damaged(Exception):  # noqa: N818  said of a file
    """The bytes are not what the format says."""


def variable(files: Files, name: str, wanted: str) -> Any:
    """The variable `wanted` of the .mat file `name`; SweepError naming the file where it cannot be read.

    Numbers are an array of their shape, a text is a str, a cell array a list of its values and a structure array a
    list of dicts, both in MATLAB's order (first index fastest).
    """
    content = read(files, name)
    if content[:_HEADER].startswith(b"MATLAB 7.3") or content.startswith(b"\x89HDF"):
        raise SweepError(f"{files.where(name)} is a MATLAB 7.3 file", "save it with -v7")
    try:
        found = _find(content, wanted)
    except (_Damaged, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise SweepError(
            f"{files.where(name)} is no readable .mat file: {error}", "fetch the data set again"
        ) from None
    if found is None:
        raise SweepError(
            f"{files.where(name)} has no variable {wanted!r}",
            "give the data set's own annotation file",
        )
    return found


def _find(content: bytes, wanted: str) -> Any:
    """The value of the first variable of that name, or None."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise _Damaged("it does not begin as one does")
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            ((kind, data),) = list(_elements(memoryview(_unpacked(data)), order))[:1] or [(0, data)]
        if kind == _MATRIX:
            name, value = _array(data, order, wanted)
            if name == wanted:
                return value
    return None


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the elements that follow one another in `data`."""
    at = 0
    while at < len(data):
        (first,) = struct.unpack_from(f"{order}I", data, at)
        if first >> 16:  # a small element: length, type and up to four bytes in eight
            kind, length, start, step = first & 0xFFFF, first >> 16, at + 4, 8
            if length > 4:
                raise _Damaged(f"a small element of {length} bytes")
        else:
            kind, start = first, at + 8
            (length,) = struct.unpack_from(f"{order}I", data, at + 4)
            step = 8 + length + (0 if kind == _COMPRESSED else -length % 8)
        if start + length > len(data):
            raise _Damaged("it ends too early")
        yield kind, data[start : start + length]
        at += step


def _unpacked(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    whole = stream.decompress(data, MAX_BYTES)
    if stream.unconsumed_tail:
        raise _Damaged(f"a variable is larger than {MAX_BYTES >> 20} MiB")
    if not stream.eof:
        raise _Damaged("it ends too early")
    return whole


def _array(
    data: memoryview, order: str, wanted: str | None = None, depth: int = 0
) -> tuple[str, Any]:
    """Name and value of a matrix element; the value is left None where another variable is `wanted`."""
    if not len(data):
        return "", np.empty((0, 0))  # how an empty cell or field is written
    if depth > _MAX_DEPTH:
        raise _Damaged("it is nested too deeply")
    elements = _elements(data, order)
    (flags, *_) = _integers(next(elements, None), order, at_least=2)
    shape = _integers(next(elements, None), order, at_least=2)
    name = _raw(next(elements, None)).decode("latin-1")
    kind = flags & 0xFF
    if wanted not in (None, name):
        return name, None
    if min(shape) < 0 or len(shape) > _MAX_DEPTH:
        raise _Damaged(f"an array of shape {shape}")
    if kind == _CELL:
        return name, _values(elements, math.prod(shape), order, depth)
    if kind == _STRUCTURE:
        return name, _records(elements, math.prod(shape), order, depth)
    if kind == _TEXT:
        return name, _text(next(elements, None), order)
    if _FIRST_NUMBERS <= kind <= _LAST_NUMBERS and not flags & _COMPLEX:
        return name, _numbers(next(elements, None), shape, order)
    raise _Damaged(f"an array of class {kind}, which no data set uses")


def _values(
    elements: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int
) -> list[Any]:
    """`count` nested arrays; the list grows with what is there, whatever is promised."""
    found: list[Any] = []
    for kind, data in elements:
        if len(found) == count:
            break
        if kind != _MATRIX:
            raise _Damaged(f"an element of type {kind} where an array should be")
        found.append(_array(data, order, depth=depth + 1)[1])
    if len(found) != count:
        raise _Damaged("it ends too early")
    return found


def _records(
    elements: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int
) -> list[dict[str, Any]]:
    (width,) = _integers(next(elements, None), order, at_least=1)[:1]
    names = _raw(next(elements, None))
    if width <= 0 or len(names) % width:
        raise _Damaged(f"field names of {width} bytes each in {len(names)} bytes")
    fields = [
        names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)
    ]
    if not fields:
        return []
    values = _values(elements, count * len(fields), order, depth)
    return [
        dict(zip(fields, values[i : i + len(fields)], strict=True))
        for i in range(0, len(values), len(fields))
    ]


def _numbers(element: tuple[int, memoryview] | None, shape: tuple[int, ...], order: str) -> Any:
    """Numbers may be stored in a smaller type than their class; the stored type is kept."""
    kind, data = element or (0, memoryview(b""))
    if kind not in _NUMBERS:
        raise _Damaged(f"numbers of type {kind}")
    stored = np.dtype(order + _NUMBERS[kind])
    if len(data) != math.prod(shape) * stored.itemsize:
        raise _Damaged(f"{len(data)} bytes of numbers for the shape {shape}")
    return np.frombuffer(data, stored).reshape(shape, order="F")


def _text(element: tuple[int, memoryview] | None, order: str) -> str:
    kind, data = element or (0, memoryview(b""))
    if kind not in _ENCODINGS:
        raise _Damaged(f"a text of type {kind}")
    encoding = _ENCODINGS[kind]
    return bytes(data).decode(
        encoding + _BYTE_ORDERS[order] if encoding in ("utf-16", "utf-32") else encoding
    )


def _integers(element: tuple[int, memoryview] | None, order: str, at_least: int) -> tuple[int, ...]:
    kind, data = element or (0, memoryview(b""))
    if kind not in (5, 6) or len(data) % 4 or len(data) < 4 * at_least:
        raise _Damaged("an array does not begin as one does")
    return struct.unpack(f"{order}{len(data) // 4}{'i' if kind == 5 else 'I'}", data)


def _raw(element: tuple[int, memoryview] | None) -> bytes:
    if element is None:
        raise _Damaged("it ends too early")
    return bytes(element[1])
