"""The terminal: data on stdout, everything else on stderr, colour only where a person looks.

What comes from elsewhere, an error of a tool or the log of a trial, can neither show credentials nor steer a terminal.

Telling is not part of the work. A sweep of hours does not end because the reader of its messages went away, or because
their file system is full: what cannot be written to stderr is dropped. Data is the work: a command whose data cannot be
written says so and fails.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, cast

from rich.console import Console

from sweep.credentials import redacted
from sweep.errors import SweepError, Unavailable

_PLAIN = "sweep.plain"
_IN_PLAIN = {
    "─": "-",
    "–": "-",
    "…": "...",
    "×": "x",
    "·": "|",
    "µ": "u",
    "²": "^2",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
}


class _Forgiving:
    """The stderr of the moment, whose failures are nobody's concern."""

    @property
    def encoding(self) -> str:
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with self._giving_up():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with self._giving_up():
            sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()  # None: closed, and not yet prepared

    def fileno(self) -> int:
        return sys.stderr.fileno()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            _silence(sys.stderr)


stdout = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(file=cast(IO[str], _Forgiving()), highlight=False, soft_wrap=True, markup=False)


def prepare_streams() -> None:
    """Make the three standard streams safe to use, whatever the caller has made of them.

    A closed one is opened on nothing: else the next file that is opened takes its number, and whatever a library writes
    to stderr ends up in that file. A sign that the locale lacks is written in others, not an error.
    """
    codecs.register_error(_PLAIN, _in_plain_signs)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that an encoding lacks; a letter of a name becomes its code, as in Python."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    codes = (
        f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}" for sign in signs
    )
    plain = (_IN_PLAIN.get(sign, code) for sign, code in zip(signs, codes, strict=True))
    return "".join(plain), error.end


def is_terminal() -> bool:
    """Whether a person watches stderr on a terminal that can redraw lines, whatever FORCE_COLOR says of colours."""
    return sys.stderr.isatty() and not stderr.is_dumb_terminal


def say(text: str) -> None:
    """One line for the reader, on stderr; never markup."""
    stderr.print(harmless(text))


def warn(text: str) -> None:
    stderr.print(f"warning: {harmless(text)}", style="yellow")


def emit(text: str) -> None:
    """Data, on stdout, with a newline at its end: exactly as given, but that a terminal gets no control characters."""
    text = _without_controls(text) if sys.stdout.isatty() else text
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        raise
    except OSError as error:
        _silence(sys.stdout)
        hint = "free some space there, or send the output elsewhere: the records are safe"
        raise Unavailable(f"the output cannot be written: {error.strerror}", hint) from None


def show_error(error: SweepError) -> None:
    stderr.print(f"error: {harmless(error.message)}", style="bold red")
    if error.hint:
        stderr.print(f"hint: {harmless(error.hint)}")


def _silence(stream: IO[str]) -> None:
    """Send what is still to be written to a stream nowhere, so that its end is no failure either."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # of the direction of writing
_CONTROLS = {
    code: None for code in (*range(32), *range(127, 160), *_TURNS) if chr(code) not in "\n\t"
}


def harmless(text: str) -> str:
    """Text for a terminal, without credentials and what would steer it."""
    return redacted(_without_controls(text))


def _without_controls(text: str) -> str:
    return text.translate(_CONTROLS)
