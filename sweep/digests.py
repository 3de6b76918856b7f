"""Digests: the SHA-256 of files, cached until a file changes.

A file counts as unchanged while its size and time of modification are. Digests of large files are
also cached on disk: a plan needs the digest of every wheel that its grid names, and must not take
seconds for it.
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

LENGTH = 12  # hex digits of a short digest, as of every id

_LARGE_BYTES = 8 * 2**20
_CODE = (".py", ".pyd", ".so")
_NOT_CODE = frozenset({"__pycache__", "build", "dist", "node_modules"})


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits; OSError if it is unreadable."""
    status = path.stat()
    return _of_file(str(path), status.st_size, status.st_mtime_ns)


def of_values(values: Any) -> str:
    """Return a short digest of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:LENGTH]


def of_files(files: Mapping[str, Path]) -> str:
    """Return a short digest of files by name, whatever their folders."""
    return of_values({name: of_file(path) for name, path in files.items()})


def of_code(folder: Path) -> str:
    """Return a short digest of all code below a folder: Python files and extension modules."""
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
    # Hashing a small file is faster than reading a cache file.
    if size < _LARGE_BYTES:
        return _computed(path)
    memory = homes.cache("digests") / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
    facts = {"path": path, "size": size, "modified_ns": modified_ns}
    with contextlib.suppress(OSError, ValueError, KeyError):
        cached = json.loads(memory.read_text(encoding="utf-8"))
        digest = str(cached.pop("sha256"))
        if cached == facts:
            return digest
    digest = _computed(path)
    # Without a cache, the digest is computed again next time.
    with contextlib.suppress(OSError):
        atomic.write(memory, json.dumps(facts | {"sha256": digest}).encode(), durable=False)
    return digest


def _computed(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
