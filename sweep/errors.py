"""What a user can fix: one exception, raised anywhere, caught in `cli` alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAILED, USAGE, INCONCLUSIVE, MISSING, UNAVAILABLE = 1, 2, 3, 4, 5


class SweepError(Exception):
    """Something the user can put right: `message` says what is wrong, with the value; `hint` what to do.

    `exit_code` is what `sweep` ends with (`docs/results.md`): 2 for usage and grids, 5 for environments and clusters.
    """

    exit_code = USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unavailable(SweepError):  # noqa: N818  a state of the world, said as users say it
    """An environment, interpreter or cluster that cannot be had."""

    exit_code = UNAVAILABLE


def nearest(word: str, known: Iterable[object]) -> str:
    """A hint naming the known word closest to `word`, or the known words where none is close."""
    words = sorted(str(k) for k in known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return (
        f"did you mean {close[0]!r}?"
        if close
        else f"known: {', '.join(words)}"
        if words
        else "none is known"
    )
