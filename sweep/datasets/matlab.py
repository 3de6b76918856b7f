"""MATLAB files: one variable of a .mat, read with the file named in every error."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any, cast

from sweep.datasets.files import Files, read
from sweep.errors import SweepError

# what SciPy's reader raises on damaged files, found by damaging some
_DAMAGED = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, AssertionError),
    *(OSError, EOFError, struct.error, zlib.error),
)


def variable(files: Files, name: str, wanted: str, **how: Any) -> Any:
    """The variable `wanted` of the .mat file `name`; `how` goes to scipy.io.loadmat."""
    from scipy.io import loadmat

    content = read(files, name)
    try:
        found = loadmat(cast(Any, BytesIO(content)), variable_names=[wanted], **how)
    except NotImplementedError:  # before ValueError and its kin: said of version 7.3, which is HDF5
        raise SweepError(f"{files.where(name)} is a MATLAB 7.3 file", "save it with -v7") from None
    except _DAMAGED as error:
        raise SweepError(f"{files.where(name)} is no readable .mat file: {error}", "fetch the data set again") from None
    if wanted not in found:
        raise SweepError(f"{files.where(name)} has no variable {wanted!r}", "give the data set's own annotation file")
    return found[wanted]


def shape(files: Files, name: str, wanted: str) -> tuple[int, ...]:
    """The shape of a variable, without reading its numbers: a small file may unpack to very many."""
    from scipy.io import whosmat

    content = read(files, name)
    try:
        found = {variable: size for variable, size, _ in whosmat(cast(Any, BytesIO(content)))}
    except NotImplementedError:
        raise SweepError(f"{files.where(name)} is a MATLAB 7.3 file", "save it with -v7") from None
    except _DAMAGED as error:
        raise SweepError(f"{files.where(name)} is no readable .mat file: {error}", "fetch the data set again") from None
    if wanted not in found:
        raise SweepError(f"{files.where(name)} has no variable {wanted!r}", "give the data set's own annotation file")
    return tuple(found[wanted])
