"""Errors that a user can fix: one exception class, raised anywhere, caught in `cli` alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAILED, USAGE, INCONCLUSIVE, MISSING, UNAVAILABLE = 1, 2, 3, 4, 5


class SweepError(Exception):
    """An error that the user can fix.

    `message` says what is wrong, with the value; `hint` says what to do. `exit_code` is the exit
    code of `sweep` (`docs/results.md`): 2 for usage and grids, 5 for environments and clusters.
    """

    exit_code = USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unavailable(SweepError):  # noqa: N818
    """An environment, interpreter, cluster or file that is not available."""

    exit_code = UNAVAILABLE


def nearest(word: str, known: Iterable[object]) -> str:
    """Return a hint with the known word closest to `word`, or all known words if none is close."""
    words = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words)}" if words else "none is known"
