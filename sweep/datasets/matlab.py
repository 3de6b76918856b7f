"""A reader of MATLAB files, version 5 to 7.2: numbers, texts, cells and structures.

The format is The MathWorks' "MAT-File Level 5". SciPy has a reader, which dies of a segmentation
fault on some damaged files. Here a damaged file raises an error.
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

# Limits on what a hostile file can make the reader do: unpacked bytes of a variable, nesting.
MAX_BYTES = 1 << 29
_MAX_DEPTH = 32
_HEADER = 128  # bytes
# Types of elements, by their numbers in the format.
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_INT32, _UINT32 = 5, 6
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_BYTE_ORDERS = {"<": "-le", ">": "-be"}
# Classes of arrays.
_CELL, _STRUCTURE, _TEXT = 1, 2, 4
_FIRST_NUMBERS, _LAST_NUMBERS = 6, 15
_COMPLEX = 0x0800


class _DamagedError(Exception):
    """The bytes do not follow the format."""


def variable(files: Files, name: str, wanted: str) -> Any:
    """Return the variable `wanted` of the .mat file `name`; SweepError with the file if it is
    unreadable.

    Numbers become an array of their shape, a text a str, a cell array a list of its values, and a
    structure array a list of dicts. Both lists are in MATLAB's order: the first index varies
    fastest.
    """
    content = read(files, name)
    if content[:_HEADER].startswith(b"MATLAB 7.3") or content.startswith(b"\x89HDF"):
        raise SweepError(f"{files.where(name)} is a MATLAB 7.3 file", "save it with -v7")
    try:
        value = _find(content, wanted)
    except (_DamagedError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise SweepError(
            f"{files.where(name)} is no readable .mat file: {error}", "fetch the data set again"
        ) from None
    if value is None:
        raise SweepError(
            f"{files.where(name)} has no variable {wanted!r}",
            "give the data set's own annotation file",
        )
    return value


def _find(content: bytes, wanted: str) -> Any:
    """Return the value of the first variable called `wanted`, or None."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise _DamagedError("it does not begin as one does")
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            # A compressed element holds one element; an empty one holds nothing of use.
            inner = _elements(memoryview(_unpacked(data)), order)
            kind, data = next(inner, (0, data))
        if kind == _MATRIX:
            name, value = _array(data, order, wanted)
            if name == wanted:
                return value
    return None


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the elements that follow one another in `data`."""
    at = 0
    while at < len(data):
        (first,) = struct.unpack_from(f"{order}I", data, at)
        if first >> 16:
            # A small element packs length, type and at most four bytes of data into eight bytes.
            kind, length = first & 0xFFFF, first >> 16
            start, step = at + 4, 8
            if length > 4:
                raise _DamagedError(f"a small element of {length} bytes")
        else:
            kind, start = first, at + 8
            (length,) = struct.unpack_from(f"{order}I", data, at + 4)
            # Elements are padded to eight bytes, compressed ones are not.
            padding = 0 if kind == _COMPRESSED else -length % 8
            step = 8 + length + padding
        if start + length > len(data):
            raise _DamagedError("it ends too early")
        yield kind, data[start : start + length]
        at += step


def _unpacked(data: memoryview) -> bytes:
    """Return the decompressed bytes; a file that decompresses to more than MAX_BYTES is refused."""
    stream = zlib.decompressobj()
    whole = stream.decompress(data, MAX_BYTES)
    if stream.unconsumed_tail:
        raise _DamagedError(f"a variable is larger than {MAX_BYTES >> 20} MiB")
    if not stream.eof:
        raise _DamagedError("it ends too early")
    return whole


def _array(
    data: memoryview, order: str, wanted: str | None = None, depth: int = 0
) -> tuple[str, Any]:
    """Return name and value of a matrix element.

    The value is None if `wanted` names another variable: its bytes are then not read.
    """
    if not len(data):
        # MATLAB writes an empty cell or field as an element without content.
        return "", np.empty((0, 0))
    if depth > _MAX_DEPTH:
        raise _DamagedError("it is nested too deeply")
    elements = _elements(data, order)
    (flags, *_) = _integers(next(elements, None), order, at_least=2)
    shape = _integers(next(elements, None), order, at_least=2)
    name = _raw(next(elements, None)).decode("latin-1")
    kind = flags & 0xFF
    if wanted not in (None, name):
        return name, None
    if min(shape) < 0 or len(shape) > _MAX_DEPTH:
        raise _DamagedError(f"an array of shape {shape}")
    if kind == _CELL:
        return name, _values(elements, math.prod(shape), order, depth)
    if kind == _STRUCTURE:
        return name, _records(elements, math.prod(shape), order, depth)
    if kind == _TEXT:
        return name, _text(next(elements, None), order)
    if _FIRST_NUMBERS <= kind <= _LAST_NUMBERS and not flags & _COMPLEX:
        return name, _numbers(next(elements, None), shape, order)
    raise _DamagedError(f"an array of class {kind}, which no data set uses")


def _values(
    elements: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int
) -> list[Any]:
    """Return `count` nested arrays.

    The list grows with the elements that are there, whatever count a damaged file declares.
    """
    found: list[Any] = []
    for kind, data in elements:
        if len(found) == count:
            break
        if kind != _MATRIX:
            raise _DamagedError(f"an element of type {kind} where an array should be")
        found.append(_array(data, order, depth=depth + 1)[1])
    if len(found) != count:
        raise _DamagedError("it ends too early")
    return found


def _records(
    elements: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int
) -> list[dict[str, Any]]:
    """Return `count` structures as dicts by field name."""
    (width,) = _integers(next(elements, None), order, at_least=1)[:1]
    names = _raw(next(elements, None))
    # Field names have a fixed width and are padded with zero bytes.
    if width <= 0 or len(names) % width:
        raise _DamagedError(f"field names of {width} bytes each in {len(names)} bytes")
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
    """Return the array in its stored type, which may be smaller than its class."""
    kind, data = element or (0, memoryview(b""))
    if kind not in _NUMBERS:
        raise _DamagedError(f"numbers of type {kind}")
    stored = np.dtype(order + _NUMBERS[kind])
    if len(data) != math.prod(shape) * stored.itemsize:
        raise _DamagedError(f"{len(data)} bytes of numbers for the shape {shape}")
    return np.frombuffer(data, stored).reshape(shape, order="F")


def _text(element: tuple[int, memoryview] | None, order: str) -> str:
    kind, data = element or (0, memoryview(b""))
    if kind not in _ENCODINGS:
        raise _DamagedError(f"a text of type {kind}")
    encoding = _ENCODINGS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += _BYTE_ORDERS[order]
    return bytes(data).decode(encoding)


def _integers(element: tuple[int, memoryview] | None, order: str, at_least: int) -> tuple[int, ...]:
    kind, data = element or (0, memoryview(b""))
    if kind not in (_INT32, _UINT32) or len(data) % 4 or len(data) < 4 * at_least:
        raise _DamagedError("an array does not begin as one does")
    code = "i" if kind == _INT32 else "I"
    return struct.unpack(f"{order}{len(data) // 4}{code}", data)


def _raw(element: tuple[int, memoryview] | None) -> bytes:
    if element is None:
        raise _DamagedError("it ends too early")
    return bytes(element[1])
