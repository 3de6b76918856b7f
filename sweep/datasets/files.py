"""The files of a data set, in a folder or in a zip archive.

Archives are read in place and never unpacked: an archive that names files outside itself can then
do no harm.
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from sweep.errors import SweepError

# Unpacked size of one file. Photographs and annotations are far smaller; an archive bomb is not.
MAX_FILE_BYTES = 256 << 20
MAX_FILES = 1_000_000
# What reading a damaged member of an archive raises, besides OSError.
CORRUPT = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


class Files(Protocol):
    """Named files; the names are relative paths with forward slashes."""

    path: Path

    def names(self) -> list[str]: ...

    def open(self, name: str) -> IO[bytes]: ...

    def fingerprint(self) -> str:
        """Return a text that changes with any file; cheap, from sizes and modification times."""
        ...

    def where(self, name: str) -> str:
        """Return how an error names a file."""
        ...


def open_files(path: Path) -> Files:
    """Return the files of the folder or zip archive at `path`; SweepError if it is neither."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise SweepError(
            f"{path} does not exist", "give the folder or zip archive with the original files"
        )
    # is_file() first: reading a device may never end, and opening a pipe waits for a writer.
    if path.is_file() and zipfile.is_zipfile(path):
        return Zip(path)
    raise SweepError(
        f"{path} is neither a folder nor a zip archive", "unpack it and give the folder"
    )


class Folder:
    """The files below a folder, hidden ones left out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(_walk(self.path))

    def open(self, name: str) -> IO[bytes]:
        path = self.path / name
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SweepError(f"{self.where(name)} is no regular file", "fetch the data set again")
        if status.st_size > MAX_FILE_BYTES:
            raise _too_big(self.where(name))
        return path.open("rb")

    def fingerprint(self) -> str:
        return _digest(f"{name}\0{_stamp(self.path / name)}" for name in self.names())

    def where(self, name: str) -> str:
        return str(self.path / name)


class Zip:
    """The files in a zip archive. Nothing is written to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, *CORRUPT) as error:
            raise SweepError(
                f"{path} cannot be read as a zip archive: {error}", "fetch it again"
            ) from None
        if len(self._zip.infolist()) > MAX_FILES:
            raise SweepError(
                f"{path} holds more than {MAX_FILES:,} files", "this is not a data set's archive"
            )
        for info in self._zip.infolist():
            _refuse_traversal(path, info.orig_filename)

    def names(self) -> list[str]:
        return sorted(info.filename for info in self._zip.infolist() if not info.is_dir())

    def open(self, name: str) -> IO[bytes]:
        if self._zip.getinfo(name).file_size > MAX_FILE_BYTES:
            raise _too_big(self.where(name))
        try:
            return self._zip.open(name)
        except CORRUPT as error:
            raise SweepError(
                f"{self.where(name)} cannot be read: {error}", "fetch the archive again"
            ) from None

    def fingerprint(self) -> str:
        return _digest([_stamp(self.path)])

    def where(self, name: str) -> str:
        return f"{name} in {self.path}"


def read(files: Files, name: str) -> bytes:
    """Return the content of a file; SweepError with its name if it is unreadable."""
    try:
        with files.open(name) as stream:
            # The size that an archive declares may be false: the limit holds for what is read.
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, KeyError, *CORRUPT) as error:
        raise SweepError(
            f"{files.where(name)} cannot be read: {error}", "fetch the data set again"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise _too_big(files.where(name))
    return data


def the_one(files: Files, file: str) -> str:
    """Return the path of the file called `file`, in whatever folder.

    Of several, the one least deep counts. SweepError if there is none or if that is ambiguous.
    """
    found = sorted((n for n in files.names() if PurePosixPath(n).name == file), key=_depth)
    if not found:
        raise SweepError(
            f"{files.path} holds no {file}",
            "give the folder or zip archive with the original files",
        )
    if len(found) > 1 and _depth(found[0]) == _depth(found[1]):
        raise SweepError(
            f"{files.path} holds {len(found)} {file}: {', '.join(found[:4])}",
            "give the folder of one",
        )
    return found[0]


def images_beside(files: Files, annotation: str, wanted: Sequence[str]) -> list[str]:
    """Return the paths of the images `wanted` in a folder called `images`; SweepError if one is
    missing.

    The folder usually lies beside the annotation; some archives unpack to another layout. Of
    several folders, the one that holds most of the images counts.
    """
    names = set(files.names())
    listed = [
        [f"{folder}/{image}" for image in wanted] for folder in image_folders(files, annotation)
    ]
    # max() keeps the first of equals, which is the nearest folder.
    best = max(listed, key=lambda paths: sum(path in names for path in paths))
    missing = [name for name in best if name not in names]
    if missing:
        count = f", with {len(missing)} of {len(best)} images" if len(missing) > 1 else ""
        raise SweepError(
            f"{files.where(missing[0])} is missing{count}",
            f"{PurePosixPath(annotation).name} lists it; give the folder that holds both,"
            " or fetch the data set again",
        )
    return best


def image_folders(files: Files, annotation: str) -> list[str]:
    """Return all folders called `images`, the nearest to the annotation first.

    The folder beside the annotation is the first in any case, so that errors name it.
    """
    base = PurePosixPath(annotation).parent
    # A data set has thousands of files in few folders: each folder is looked at once.
    parents = {PurePosixPath(name.rpartition("/")[0]) for name in files.names()}
    folders = {
        folder
        for parent in parents
        for folder in (parent, *parent.parents)
        if folder.name == "images"
    }
    beside = base / "images"
    others = sorted(folders - {beside}, key=lambda folder: (_steps(base, folder), folder))
    return [str(folder) for folder in (beside, *others)]


def content_hash(files: Files, names: Iterable[str]) -> str:
    """Return the SHA-256 over the contents of files in the given order, whatever their folders."""
    return _digest(hashlib.sha256(read(files, name)).hexdigest() for name in names)


def _walk(folder: Path) -> Iterator[str]:
    # Folders may be links, and links may form cycles: no real folder is entered twice.
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        entered = [] if real in seen else folders
        folders[:] = [name for name in entered if not name.startswith((".", "__MACOSX"))]
        seen.add(real)
        relative = Path(parent).relative_to(folder)
        yield from ((relative / name).as_posix() for name in names if not name.startswith("."))


def _refuse_traversal(path: Path, name: str) -> None:
    name = name.replace("\\", "/")
    is_absolute = name.startswith("/") or re.match(r"[A-Za-z]:", name)
    if is_absolute or ".." in name.split("/") or "\0" in name:
        raise SweepError(
            f"{path} names a file outside itself: {name!r}",
            "do not use this archive; fetch it again",
        )


def _too_big(where: str) -> SweepError:
    return SweepError(
        f"{where} is larger than {MAX_FILE_BYTES >> 20} MiB",
        "this is no photograph and no annotation",
    )


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        # A broken link: whoever reads the file raises an error that names it.
        return "unreadable"
    return f"{status.st_size}\0{status.st_mtime_ns}"


def _depth(name: str) -> int:
    return len(PurePosixPath(name).parts)


def _steps(one: PurePosixPath, other: PurePosixPath) -> int:
    """Return how many folders lie between two folders, up and down."""
    shared = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(one.parts, other.parts, strict=False)
    )
    return len(one.parts) + len(other.parts) - 2 * len(list(shared))


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # On Linux a file name is bytes, which need not be valid UTF-8.
        digest.update(part.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
