"""Paths on the command line: `~` is expanded also behind `=`, and an empty path is an error."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import SweepError


def path(text: str) -> Path:
    """Return the path for an option's `parser=`; SweepError if it is empty or has no such home."""
    if not text:
        raise SweepError("a path is empty", "name a file or folder; . is the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise SweepError(
            f"{text}: there is no such home folder", "write the path in full"
        ) from None
