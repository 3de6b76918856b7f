"""A place: a folder on disk or in an object store, whose files are written whole or not at all."""

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
_MOST_BYTES = 4 * 2**30  # of a file that is read whole; parts have a few megabytes
_MOST_TEXT_BYTES = 64 * 2**20
_NOT_OPENED = {errno.ELOOP: "a link to itself", errno.ENXIO: "no file", errno.ENODEV: "no file"}


class NoFile(Unavailable):
    """Something of this name is there, and it cannot be read as a file: `reason` says what it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is {reason}", "remove it, or put the file itself there")
        self.reason = reason


class Entry(NamedTuple):
    """A file of a place: its path inside the place, and its size."""

    path: str
    size_bytes: int


class Storage:
    """A folder, or the prefix of an object store (`s3://`, `gs://`, `abfs://`, `file://`), by PyArrow's file systems.

    Paths are relative to it, with forward slashes. Whatever the file system reports becomes `Unavailable`, but for
    `FileNotFoundError`.
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
        # a folder's name, without what a URI says of how to reach it
        self.name = Path(path).name

    def __str__(self) -> str:
        return redacted_url(self.uri.partition("?")[0])

    @functools.cached_property
    def _filesystem(self) -> pafs.FileSystem:
        """That of a store. A folder is read by the operating system: PyArrow refuses names that are not UTF-8."""
        return pafs.SubTreeFileSystem(*self._root)

    def child(self, name: str) -> Self:
        """The place called `name` inside this one."""
        base, mark, query = self.uri.partition("?") if _URI.match(self.uri) else (self.uri, "", "")
        return type(self)(f"{base.rstrip('/')}/{name}{mark}{query}")

    def names(self, folder: str) -> list[str]:
        """Paths of what is directly inside a folder at one moment, none where there is no such folder.

        At one moment: a folder on disk is read without a look at each file, which could be gone by then.
        """
        if self.folder is None:
            return [entry.path for entry in self.files(folder)]
        prefix = f"{folder}/" if folder else ""
        return [f"{prefix}{name}" for name in self._names(self.folder / folder)]

    def _names(self, folder: Path) -> list[str]:
        with _reported(self, "read"):
            try:
                found = os.listdir(folder)  # noqa: PTH208  in one go, unlike iterdir of Python 3.11
            except FileNotFoundError:
                return []
        return sorted(name for name in found if not _hidden(name))

    def files(self, folder: str = "") -> list[Entry]:
        """Files directly inside a folder, by name, with their sizes."""
        if self.folder is not None:
            return [entry for path in self.names(folder) if (entry := _entry(self.folder, path))]
        infos = self._listed(folder)
        return [
            Entry(i.path, i.size)
            for i in infos
            if i.type == pafs.FileType.File and not _hidden(i.base_name)
        ]

    def folders(self) -> list[str]:
        if self.folder is not None:
            return [name for name in self._names(self.folder) if os.path.isdir(self.folder / name)]  # noqa: PTH112
        return [i.base_name for i in self._listed("") if i.type == pafs.FileType.Directory]

    def exists(self, path: str = "") -> bool:
        if self.folder is not None:
            return os.path.exists(self.folder / path)  # noqa: PTH110  unlike pathlib false for names that are too long
        with _reported(self, "read"):
            if path:
                return bool(self._filesystem.get_file_info(path).type != pafs.FileType.NotFound)
            base = self._filesystem
            return bool(base.base_fs.get_file_info(base.base_path).type != pafs.FileType.NotFound)

    def changed_at(self, path: str) -> float:
        """When a file was last written, as seconds since the epoch; 0 where there is no such file."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                return (self.folder / path).stat().st_mtime
            return 0.0
        with _reported(self, "read"):
            modified = self._filesystem.get_file_info(path).mtime_ns
        return modified / 1e9 if modified else 0.0

    def read(self, path: str, most_bytes: int = _MOST_BYTES) -> pa.Buffer:
        """A whole file. Raises FileNotFoundError, and NoFile where it is no regular one."""
        with _reported(self, "read"):
            if (
                self.folder is not None
            ):  # read, not mapped: a failing disk is then an error, not a SIGBUS
                return pa.py_buffer(_read_regular(self.folder / path, path, most_bytes))
            with self._filesystem.open_input_stream(path) as stream:
                return stream.read_buffer()

    def text(self, path: str) -> str:
        data = self.read(path, _MOST_TEXT_BYTES).to_pybytes()
        return str(data.decode("utf-8", errors="replace"))

    def write(self, path: str, data: bytes | pa.Buffer, durable: bool = True) -> None:
        """A whole file or none; unless `durable` is false, there for good when this returns."""
        with _reported(self, "written to"):
            if self.folder is not None:
                atomic.write(self.folder / path, data, durable)
                return
            with self._filesystem.open_output_stream(
                path
            ) as stream:  # stores show an object when it is complete
                stream.write(data)

    def fetch(self, path: str, to: Path) -> None:
        """Copy a file to one on this machine, whole or not at all, however large. Raises FileNotFoundError."""
        aside = to.with_name(f".{to.name}{atomic.SUFFIX}")
        with _reported(self, "read"):
            to.parent.mkdir(parents=True, exist_ok=True)
            pafs.copy_files(path, str(aside), self._filesystem, pafs.LocalFileSystem())
            aside.rename(to)

    def keep(self, file: Path, path: str) -> None:
        """Copy a file of this machine to `path`, however large; a store shows it when it is complete."""
        with _reported(self, "written to"):
            pafs.copy_files(str(file), path, pafs.LocalFileSystem(), self._filesystem)

    def delete(self, path: str) -> None:
        with _reported(self, "written to"), contextlib.suppress(FileNotFoundError):
            if self.folder is not None:
                (self.folder / path).unlink()
                return
            self._filesystem.delete_file(path)

    def move(self, path: str, to: str) -> None:
        with _reported(self, "written to"):
            if self.folder is not None:
                (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / path).rename(self.folder / to)
                return
            self._filesystem.move(path, to)

    def sweep_out(self, folder: str) -> None:
        """Remove what a writer that was killed left half-written."""
        if self.folder is None:
            return
        with _reported(self, "written to"):
            for leftover in (self.folder / folder).glob(f".*{atomic.SUFFIX}"):
                leftover.unlink(missing_ok=True)

    def _listed(self, folder: str) -> list[pafs.FileInfo]:
        with _reported(self, "read"):
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
    """A whole regular file. A pipe or a device is refused, not waited for; a link to a file is followed."""
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


def _check_regular(name: str, found: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NoFile(name, "a folder" if stat.S_ISDIR(found.st_mode) else "no file")
    if found.st_size > most_bytes:
        raise NoFile(name, f"larger than {most_bytes:,} bytes")


def _entry(folder: Path, path: str) -> Entry | None:
    """A regular file, or a link to one, with its size; None for anything else."""
    try:
        found = (folder / path).stat()
    except OSError:  # gone meanwhile, or a link to nothing
        return None
    return Entry(path, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _hidden(name: str) -> bool:
    return name.startswith(".")


@contextlib.contextmanager
def _reported(place: Storage, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        hint = "what is there is safe: put that right and run the same command again"
        raise Unavailable(f"{place} cannot be {what}: {reason}", hint) from None
