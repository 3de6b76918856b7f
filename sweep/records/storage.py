"""Storage: a folder on disk or in an object store, whose files are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.fs as pafs

from sweep import atomic
from sweep.credentials import redacted_url, remember
from sweep.errors import SweepError, Unavailable

_URI = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MOST_BYTES = 4 * 2**30  # of a file that is read; parts have a few megabytes
_MOST_TEXT_BYTES = 64 * 2**20
_NOT_OPENED = {errno.ELOOP: "a link to itself", errno.ENXIO: "no file", errno.ENODEV: "no file"}


class NoFile(Unavailable):
    """Something that exists but cannot be read as a file; `reason` is what it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is {reason}", "remove it, or put the file itself there")
        self.reason = reason


class Entry(NamedTuple):
    """A file in storage: its path relative to the storage, and its size."""

    path: str
    size_bytes: int


class Storage:
    """A folder, or a prefix in an object store (`s3://`, `gs://`, `abfs://`).

    PyArrow's file systems access the store. Paths are relative, with forward slashes. Errors of
    the file system are raised as `Unavailable`, except `FileNotFoundError`. `folder` is the local
    folder, None in an object store. `name` is the last part of the path.
    """

    def __init__(self, where: str | Path) -> None:
        self.uri = str(where)
        remember(self.uri)
        try:
            filesystem, path = _open(self.uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            message = f"{redacted_url(self.uri)} is no place for results: {error}"
            raise SweepError(message, "write a folder, or s3://bucket/prefix") from None
        self.folder = Path(path) if isinstance(filesystem, pafs.LocalFileSystem) else None
        self._root = (path, filesystem)
        # Of the path and not of the URI, which may have a query.
        self.name = Path(path).name

    def __str__(self) -> str:
        return redacted_url(self.uri.partition("?")[0])

    @functools.cached_property
    def _filesystem(self) -> pafs.FileSystem:
        """The file system of an object store.

        Local folders are read through `os`, since PyArrow refuses names that are not UTF-8.
        """
        return pafs.SubTreeFileSystem(*self._root)

    def child(self, name: str) -> Self:
        """Return the storage called `name` inside this one."""
        base, mark, query = self.uri.partition("?") if _URI.match(self.uri) else (self.uri, "", "")
        return type(self)(f"{base.rstrip('/')}/{name}{mark}{query}")

    def names(self, folder: str) -> list[str]:
        """Return the paths directly inside a folder, none where the folder is missing.

        The list shows one moment: a local folder is listed without `stat` for each file, which
        may be gone by then.
        """
        if self.folder is None:
            return [entry.path for entry in self.files(folder)]
        prefix = f"{folder}/" if folder else ""
        return [f"{prefix}{name}" for name in self._names(self.folder / folder)]

    def _names(self, folder: Path) -> list[str]:
        with _errors_reported(self, "read"):
            try:
                names = os.listdir(folder)  # noqa: PTH208  in one go, unlike iterdir of Python 3.11
            except FileNotFoundError:
                return []
        return sorted(name for name in names if not _is_hidden(name))

    def files(self, folder: str = "") -> list[Entry]:
        """Return the files directly inside a folder, sorted by name, with their sizes."""
        if self.folder is not None:
            return [entry for path in self.names(folder) if (entry := _entry(self.folder, path))]
        return [
            Entry(info.path, info.size)
            for info in self._list(folder)
            if info.type == pafs.FileType.File and not _is_hidden(info.base_name)
        ]

    def folders(self) -> list[str]:
        """Return the names of the folders directly inside the storage."""
        if self.folder is not None:
            return [name for name in self._names(self.folder) if os.path.isdir(self.folder / name)]  # noqa: PTH112
        infos = self._list("")
        return [info.base_name for info in infos if info.type == pafs.FileType.Directory]

    def exists(self, path: str = "") -> bool:
        """Return whether a file or folder exists; without a path, whether the storage does."""
        if self.folder is not None:
            # Unlike pathlib, os.path is false for names that are too long.
            return os.path.exists(self.folder / path)  # noqa: PTH110
        with _errors_reported(self, "read"):
            if path:
                return bool(self._filesystem.get_file_info(path).type != pafs.FileType.NotFound)
            base = self._filesystem
            return bool(base.base_fs.get_file_info(base.base_path).type != pafs.FileType.NotFound)

    def changed_at(self, path: str) -> float:
        """Return when a file was last written, in seconds since the epoch; 0 if it is missing."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                return (self.folder / path).stat().st_mtime
            return 0.0
        with _errors_reported(self, "read"):
            modified = self._filesystem.get_file_info(path).mtime_ns
        return modified / 1e9 if modified else 0.0

    def read(self, path: str, most_bytes: int = _MOST_BYTES) -> pa.Buffer:
        """Read a file. Raises FileNotFoundError, and NoFile where it is not a regular file."""
        with _errors_reported(self, "read"):
            if self.folder is not None:
                # Read rather than mapped: a failing disk is then an error and not a SIGBUS.
                return pa.py_buffer(_read_regular(self.folder / path, path, most_bytes))
            with self._filesystem.open_input_stream(path) as stream:
                return stream.read_buffer()

    def text(self, path: str) -> str:
        """Read a file as UTF-8 text; invalid bytes are replaced."""
        data = self.read(path, _MOST_TEXT_BYTES).to_pybytes()
        return str(data.decode("utf-8", errors="replace"))

    def write(self, path: str, data: bytes | pa.Buffer, durable: bool = True) -> None:
        """Write a file atomically; with `durable`, it survives a power failure from then on."""
        with _errors_reported(self, "written to"):
            if self.folder is not None:
                atomic.write(self.folder / path, data, durable)
                return
            # An object store shows an object only when it is complete.
            with self._filesystem.open_output_stream(path) as stream:
                stream.write(data)

    def fetch(self, path: str, to: Path) -> None:
        """Copy a file of any size atomically to this machine. Raises FileNotFoundError."""
        partial = to.with_name(f".{to.name}{atomic.SUFFIX}")
        with _errors_reported(self, "read"):
            to.parent.mkdir(parents=True, exist_ok=True)
            pafs.copy_files(path, str(partial), self._filesystem, pafs.LocalFileSystem())
            partial.rename(to)

    def keep(self, file: Path, path: str) -> None:
        """Copy a file of any size from this machine to `path` in an object store."""
        with _errors_reported(self, "written to"):
            pafs.copy_files(str(file), path, pafs.LocalFileSystem(), self._filesystem)

    def delete(self, path: str) -> None:
        """Delete a file where it exists."""
        with _errors_reported(self, "written to"), contextlib.suppress(FileNotFoundError):
            if self.folder is not None:
                (self.folder / path).unlink()
                return
            self._filesystem.delete_file(path)

    def move(self, path: str, to: str) -> None:
        """Move a file inside the storage."""
        with _errors_reported(self, "written to"):
            if self.folder is not None:
                (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / path).rename(self.folder / to)
                return
            self._filesystem.move(path, to)

    def remove_partial(self, folder: str) -> None:
        """Remove the partial files that a killed writer left in a folder."""
        if self.folder is None:
            return
        with _errors_reported(self, "written to"):
            for leftover in (self.folder / folder).glob(f".*{atomic.SUFFIX}"):
                leftover.unlink(missing_ok=True)

    def _list(self, folder: str) -> list[pafs.FileInfo]:
        with _errors_reported(self, "read"):
            infos = self._filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return sorted(infos, key=lambda info: info.path)


def _open(where: str) -> tuple[pafs.FileSystem, str]:
    if _URI.match(where):
        filesystem, path = pafs.FileSystem.from_uri(where)
        return filesystem, path.rstrip("/")
    if not where:
        raise ValueError("its name is empty")
    try:
        return pafs.LocalFileSystem(), str(Path(where).expanduser().absolute())
    except RuntimeError:
        raise ValueError("there is no such home folder") from None


def _read_regular(path: Path, name: str, most_bytes: int) -> bytes:
    """Read a regular file, or a link to one.

    A pipe or device raises NoFile at once; without O_NONBLOCK, opening it could block.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise NoFile(name, "a link to nothing") from None
        raise
    except OSError as error:
        if error.errno in _NOT_OPENED:
            raise NoFile(name, _NOT_OPENED[error.errno]) from None
        raise
    try:
        _check_regular(name, os.fstat(descriptor), most_bytes)
    except NoFile:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return file.read()


def _check_regular(name: str, status: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NoFile(name, "a folder" if stat.S_ISDIR(status.st_mode) else "no file")
    if status.st_size > most_bytes:
        raise NoFile(name, f"larger than {most_bytes:,} bytes")


def _entry(folder: Path, path: str) -> Entry | None:
    """Return the entry of a regular file or of a link to one, else None."""
    try:
        status = (folder / path).stat()
    except OSError:  # gone meanwhile, or a link to nothing
        return None
    return Entry(path, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


@contextlib.contextmanager
def _errors_reported(storage: Storage, action: str) -> Iterator[None]:
    """Raise errors of the file system as `Unavailable`, except FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        hint = "what is there is safe: put that right and run the same command again"
        raise Unavailable(f"{storage} cannot be {action}: {reason}", hint) from None
