"""Fetching published archives: mirror after mirror, resumed where a transfer broke off, checked before it counts."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sweep import atomic, locks
from sweep.datasets.dataset import Archive
from sweep.datasets.files import Zip
from sweep.errors import SweepError, Unavailable

Progress = Callable[
    [str, int, int | None], None
]  # url, bytes so far, bytes of the whole where known
TIMEOUT_S = 30.0
ATTEMPTS = 3  # of one mirror, each going on where the one before broke off
_CHUNK = 1 << 18
_BROKEN = (OSError, http.client.HTTPException)  # urllib's errors, timeouts and resets are OSErrors


def fetch(
    archive: Archive,
    folder: Path,
    progress: Progress,
    mirrors: Sequence[str] = (),
    sha256: str = "",
    say: locks.Say = locks.silent,
) -> Path:
    """The archive's file in `folder`, from `mirrors` or its own; Unavailable where none gives it.

    A transfer that breaks off leaves `<file>.part`, and the next call goes on from there.
    """
    archive = replace(
        archive, mirrors=tuple(mirrors) or archive.mirrors, sha256=sha256 or archive.sha256
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.file
    with locks.held(folder / f"{archive.file}.lock", archive.file, say):
        if path.is_file():
            if reason := _fault(path, archive):
                raise SweepError(
                    f"{path} was fetched before, but {reason}", "delete it and fetch again"
                )
            return path
        return _from_any(archive, path, progress)


def _from_any(archive: Archive, path: Path, progress: Progress) -> Path:
    refusals = []
    for url in archive.mirrors:
        part = path.with_name(f"{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        reason = _transferred(url, part, progress)
        if not reason and (reason := _fault(part, archive)):
            part.unlink()  # whole, and not the archive: there is nothing to go on from
        if not reason:
            atomic.put(part, path)
            return path
        refusals.append(f"{url}: {reason}")
    raise Unavailable(
        f"no mirror has {archive.file}\n  " + "\n  ".join(refusals),
        f"find {archive.file} elsewhere, then: sweep data prepare NAME --path {archive.file}, or fetch with --url URL",
    )


def _transferred(url: str, part: Path, progress: Progress) -> str:
    """Fill `part` from `url`, going on from what is there; why that failed, empty where it did not."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            whole = _attempt(url, part, progress)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)  # longer than the original, so no part of it
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                return reason
        except _BROKEN as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        else:
            if whole is None or part.stat().st_size == whole:
                return ""
            reason = f"the transfer ended after {part.stat().st_size:,} of {whole:,} bytes"
    return reason


def _attempt(url: str, part: Path, progress: Progress) -> int | None:
    """One request; how long the whole file is, where the server says."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "sweep"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(_checked(url), headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        whole = done + int(length) if length and length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(url, done, whole)
            file.flush()
            os.fsync(file.fileno())
        return whole


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise SweepError(f"{url} is no web address", "it must begin with http:// or https://")
    return url


def _fault(path: Path, archive: Archive) -> str:
    """Why the file at `path` is not the archive; empty where it is."""
    if archive.sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != archive.sha256.lower():
            return f"its SHA-256 is {found} and not {archive.sha256}"
    try:
        names = {PurePosixPath(name).name for name in Zip(path).names()}
    except SweepError:
        return "what it gives is no zip archive"
    missing = [member for member in archive.members if member not in names]
    return f"it holds no {missing[0]}" if missing else ""
