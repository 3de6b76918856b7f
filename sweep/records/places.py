"""A place: a folder on disk or in an object store, whose files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.fs as pafs

from sweep import atomic
from sweep.credentials import redacted_url, remember
from sweep.errors import SweepError, Unavailable

_URI = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Entry(NamedTuple):
    """A file of a place: its path inside the place, and its size."""

    path: str
    size_bytes: int


class Place:
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
        self._filesystem = pafs.SubTreeFileSystem(path, filesystem)
        # a folder's name, without what a URI says of how to reach it
        self.name = Path(path).name

    def __str__(self) -> str:
        return redacted_url(self.uri.partition("?")[0])

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
        with _reported(self, "read"):
            try:
                found = os.listdir(self.folder / folder)  # noqa: PTH208  in one go, unlike iterdir of Python 3.11
            except FileNotFoundError:
                return []
        return sorted(f"{folder}/{name}" for name in found if not _hidden(name))

    def files(self, folder: str = "") -> list[Entry]:
        """Files directly inside a folder, by name, with their sizes."""
        infos = self._listed(folder)
        return [Entry(i.path, i.size) for i in infos if i.type == pafs.FileType.File and not _hidden(i.base_name)]

    def folders(self) -> list[str]:
        return [i.base_name for i in self._listed("") if i.type == pafs.FileType.Directory]

    def exists(self, path: str = "") -> bool:
        with _reported(self, "read"):
            if path:
                return bool(self._filesystem.get_file_info(path).type != pafs.FileType.NotFound)
            base = self._filesystem
            return bool(base.base_fs.get_file_info(base.base_path).type != pafs.FileType.NotFound)

    def changed_at(self, path: str) -> float:
        """When a file was last written, as seconds since the epoch; 0 where there is no such file."""
        with _reported(self, "read"):
            modified = self._filesystem.get_file_info(path).mtime_ns
        return modified / 1e9 if modified else 0.0

    def read(self, path: str) -> pa.Buffer:
        """A whole file. Raises FileNotFoundError."""
        with _reported(self, "read"):
            if self.folder is not None:  # read, not mapped: a failing disk is then an error, not a SIGBUS
                with pa.OSFile(str(self.folder / path)) as file:
                    return file.read_buffer()
            with self._filesystem.open_input_stream(path) as stream:
                return stream.read_buffer()

    def text(self, path: str) -> str:
        return str(self.read(path).to_pybytes().decode("utf-8", errors="replace"))

    def write(self, path: str, data: bytes | pa.Buffer, durable: bool = True) -> None:
        """A whole file or none; unless `durable` is false, there for good when this returns."""
        with _reported(self, "written to"):
            if self.folder is not None:
                atomic.write(self.folder / path, data, durable)
                return
            with self._filesystem.open_output_stream(path) as stream:  # stores show an object when it is complete
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
            self._filesystem.delete_file(path)

    def move(self, path: str, to: str) -> None:
        with _reported(self, "written to"):
            if self.folder is not None:
                (self.folder / to).parent.mkdir(parents=True, exist_ok=True)
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


def _hidden(name: str) -> bool:
    return name.startswith(".")


@contextlib.contextmanager
def _reported(place: Place, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        hint = "what is there is safe: put that right and run the same command again"
        raise Unavailable(f"{place} cannot be {what}: {reason}", hint) from None
