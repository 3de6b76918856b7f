"""Paths as they are typed: `~` is the home also behind `=`, where no shell expands it, and nothing is no path."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import SweepError


def path(text: str) -> Path:
    """The path that is meant, for `parser=` of an option. Raises SweepError."""
    if not text:
        raise SweepError("a path is empty", "name a file or folder; . is the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise SweepError(
            f"{text}: there is no such home folder", "write the path in full"
        ) from None
