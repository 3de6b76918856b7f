"""The files of a data set: a folder, or a zip archive that is read in place and never unpacked."""

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

MAX_FILE_BYTES = 256 << 20  # of one file, unpacked: a photograph or an annotation is far smaller
MAX_FILES = 1_000_000
CORRUPT = (  # what reading a damaged member of an archive raises, beside OSError
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


class Files(Protocol):
    """Named files; names are relative and have forward slashes."""

    path: Path

    def names(self) -> list[str]: ...

    def open(self, name: str) -> IO[bytes]: ...

    def fingerprint(self) -> str:
        """Changes when any file does; cheap: sizes and modification times, no content."""
        ...

    def where(self, name: str) -> str:
        """How an error names a file."""
        ...


def open_files(path: Path) -> Files:
    """The folder or zip archive at `path`; SweepError where it is neither."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise SweepError(
            f"{path} does not exist", "give the folder or zip archive with the original files"
        )
    if path.is_file() and zipfile.is_zipfile(
        path
    ):  # a device may have no end, and a pipe waits for a writer
        return Zip(path)
    raise SweepError(
        f"{path} is neither a folder nor a zip archive", "unpack it and give the folder"
    )


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(_walk(self.path))

    def open(self, name: str) -> IO[bytes]:
        path = self.path / name
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise SweepError(f"{self.where(name)} is no regular file", "fetch the data set again")
        if found.st_size > MAX_FILE_BYTES:
            raise _too_big(self.where(name))
        return path.open("rb")

    def fingerprint(self) -> str:
        return _digest(f"{name}\0{_stamp(self.path / name)}" for name in self.names())

    def where(self, name: str) -> str:
        return str(self.path / name)


class Zip:
    """A zip archive. Nothing of it is ever written to disk, so a hostile one can only be refused."""

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
    """A whole file; SweepError naming it where it cannot be read."""
    try:
        with files.open(name) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, KeyError, *CORRUPT) as error:
        raise SweepError(
            f"{files.where(name)} cannot be read: {error}", "fetch the data set again"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise _too_big(files.where(name))
    return data


def the_one(files: Files, file: str) -> str:
    """The name, in whatever folder, of the only file called `file`; the shallowest where one lies above the others."""
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
    """The files called `wanted` in the folder `images` of the annotation; SweepError names the first missing.

    That folder lies beside the annotation, or elsewhere where archives unpack so; of several, it is the one that holds
    the most of them.
    """
    names = set(files.names())
    listed = [
        [f"{folder}/{image}" for image in wanted] for folder in image_folders(files, annotation)
    ]
    found = max(
        listed, key=lambda paths: sum(path in names for path in paths)
    )  # the nearest of equal ones
    missing = [name for name in found if name not in names]
    if missing:
        count = f", with {len(missing)} of {len(found)} images" if len(missing) > 1 else ""
        raise SweepError(
            f"{files.where(missing[0])} is missing{count}",
            f"{PurePosixPath(annotation).name} lists it; give the folder that holds both, or fetch the data set again",
        )
    return found


def image_folders(files: Files, annotation: str) -> list[str]:
    """Folders called `images`, the nearest to the annotation first; the one beside it is there in any case."""
    home = PurePosixPath(annotation).parent
    parents = {
        PurePosixPath(parent) for parent in {name.rpartition("/")[0] for name in files.names()}
    }
    folders = {
        each for parent in parents for each in (parent, *parent.parents) if each.name == "images"
    }
    ordered = sorted(folders - {home / "images"}, key=lambda folder: (_steps(home, folder), folder))
    return [str(folder) for folder in (home / "images", *ordered)]


def content_hash(files: Files, names: Iterable[str]) -> str:
    """SHA-256 over what is in the files, in the given order; independent of where they lie."""
    return _digest(hashlib.sha256(read(files, name)).hexdigest() for name in names)


def _walk(folder: Path) -> Iterator[str]:
    seen: set[str] = set()  # folders may be links, and links may go round in circles
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = (
            [] if real in seen else [f for f in folders if not f.startswith((".", "__MACOSX"))]
        )
        seen.add(real)
        relative = Path(parent).relative_to(folder)
        yield from ((relative / name).as_posix() for name in names if not name.startswith("."))


def _refuse_traversal(path: Path, name: str) -> None:
    name = name.replace("\\", "/")
    if (
        name.startswith("/")
        or re.match(r"[A-Za-z]:", name)
        or ".." in name.split("/")
        or "\0" in name
    ):
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
        found = path.stat()
    except OSError:  # a link that leads nowhere: what needs the file says so
        return "unreadable"
    return f"{found.st_size}\0{found.st_mtime_ns}"


def _depth(name: str) -> int:
    return len(PurePosixPath(name).parts)


def _steps(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders one goes up and down from one to the other."""
    shared = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(one.parts, other.parts, strict=False)
    )
    return len(one.parts) + len(other.parts) - 2 * len(list(shared))


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\n")  # a name need not be text
    return digest.hexdigest()
