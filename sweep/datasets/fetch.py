"""Fetching of published archives: from several mirrors, resumable, verified before use."""

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

# Arguments: URL, bytes so far, bytes in all (None if the server does not say).
Progress = Callable[[str, int, int | None], None]
TIMEOUT_S = 30.0
# Transfers per mirror; each resumes where the one before broke off.
ATTEMPTS = 3
_CHUNK = 1 << 18  # bytes
# The errors of urllib, timeouts and connection resets are OSErrors.
_BROKEN = (OSError, http.client.HTTPException)


def fetch(
    archive: Archive,
    folder: Path,
    progress: Progress,
    mirrors: Sequence[str] = (),
    sha256: str = "",
    say: locks.Say = locks.silent,
) -> Path:
    """Return the path of the archive in `folder`; download it first if it is not there.

    `mirrors` and `sha256` replace those of the archive. A transfer that breaks off leaves
    `<file>.part`, and the next call resumes it. Unavailable if no mirror has the archive.
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
        reason = _download(url, part, progress)
        if not reason:
            reason = _fault(part, archive)
            if not reason:
                atomic.put(part, path)
                return path
            # The transfer is complete but is not the archive: resuming it would not help.
            part.unlink()
        refusals.append(f"{url}: {reason}")
    raise Unavailable(
        f"no mirror has {archive.file}\n  " + "\n  ".join(refusals),
        f"find {archive.file} elsewhere, then: sweep data prepare NAME --path {archive.file},"
        " or fetch with --url URL",
    )


def _download(url: str, part: Path, progress: Progress) -> str:
    """Fill `part` from `url`, resuming what is there. Return why that failed, or ""."""
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            whole = _attempt(url, part, progress)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # The part is longer than the original, so it cannot be a part of it.
                part.unlink(missing_ok=True)
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                # 4xx will not change on another attempt; 5xx may.
                return reason
        except _BROKEN as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        else:
            if whole is None or part.stat().st_size == whole:
                return ""
            reason = f"the transfer ended after {part.stat().st_size:,} of {whole:,} bytes"
    return reason


def _attempt(url: str, part: Path, progress: Progress) -> int | None:
    """Make one request. Return the length of the whole file in bytes, or None if unknown."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "sweep"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(_checked(url), headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        # A server without range requests answers 200 and sends the file from its start.
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
    """Return why the file at `path` is not the archive, or ""."""
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
