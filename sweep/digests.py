"""Digests: the SHA-256 of files, remembered for as long as they stay as they are.

A file counts as unchanged while its size and time of change are. Large files are remembered from one command to the
next as well: a plan looks at every wheel that its grid names, and must be there at once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep import atomic, homes

LENGTH = 12  # hexadecimal digits of a short digest, as of every id

_LARGE_BYTES = 8 * 2**20
_CODE = (".py", ".pyd", ".so")
_NOT_CODE = frozenset({"__pycache__", "build", "dist", "node_modules"})


def of_file(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; OSError where it cannot be read."""
    status = path.stat()
    return _of_file(str(path), status.st_size, status.st_mtime_ns)


def of_values(values: Any) -> str:
    """Short digest of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:LENGTH]


def of_files(files: Mapping[str, Path]) -> str:
    """Short digest of several files, by the names that they are known under: wherever they lie."""
    return of_values({name: of_file(path) for name, path in files.items()})


def of_code(folder: Path) -> str:
    """Short digest of all code below a folder: Python files and extension modules."""
    return of_files({str(path.relative_to(folder)): path for path in _code(folder)})


def _code(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = [
            name for name in folders if name not in _NOT_CODE and not name.startswith(".")
        ]
        yield from (
            Path(top, name) for name in names if name.endswith(_CODE) and Path(top, name).is_file()
        )


@functools.lru_cache(maxsize=100_000)
def _of_file(path: str, size: int, modified_ns: int) -> str:
    if size < _LARGE_BYTES:
        return _computed(path)
    memory = homes.cache("digests") / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
    facts = {"path": path, "size": size, "modified_ns": modified_ns}
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(memory.read_text(encoding="utf-8"))
        digest = str(known.pop("sha256"))
        if known == facts:
            return digest
    digest = _computed(path)
    with contextlib.suppress(OSError):  # it is only computed again next time
        atomic.write(memory, json.dumps(facts | {"sha256": digest}).encode(), durable=False)
    return digest


def _computed(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
