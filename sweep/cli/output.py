"""The terminal: data on stdout, everything else on stderr, colour only on a terminal.

Text from elsewhere, such as the error of a tool or the log of a trial, can neither show credentials
nor control the terminal.

Messages are not the work of a command. A sweep of hours does not end because the reader of its
messages has gone, or because their file system is full: what cannot be written to stderr is
dropped. Data is the work: a command whose data cannot be written fails with an error.
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
    """The current sys.stderr, whose write errors are ignored."""

    @property
    def encoding(self) -> str:
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with self._ignored_errors():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with self._ignored_errors():
            sys.stderr.flush()

    def isatty(self) -> bool:
        # Python sets a closed stream to None, until prepare_streams() replaces it.
        return sys.stderr is not None and sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    @contextlib.contextmanager
    def _ignored_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            _silence(sys.stderr)


stdout = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(file=cast(IO[str], _Forgiving()), highlight=False, soft_wrap=True, markup=False)


def prepare_streams() -> None:
    """Make the three standard streams safe to use, whatever state they were inherited in.

    A closed one is opened on the null device. Otherwise the next opened file would get its number,
    and whatever a library writes to stderr would end up in that file. A character that the locale
    lacks is replaced, and is not an error.
    """
    codecs.register_error(_PLAIN, _in_plain_characters)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # open() takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks, those of names by their code as in Python."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    codes = (
        f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}" for sign in signs
    )
    plain = (_IN_PLAIN.get(sign, code) for sign, code in zip(signs, codes, strict=True))
    return "".join(plain), error.end


def is_terminal() -> bool:
    """Return whether stderr is a terminal that can redraw lines, whatever FORCE_COLOR says."""
    return sys.stderr.isatty() and not stderr.is_dumb_terminal


def say(text: str) -> None:
    """Write one line to stderr, without interpreting it as markup."""
    stderr.print(harmless(text))


def warn(text: str) -> None:
    """Write a warning to stderr."""
    stderr.print(f"warning: {harmless(text)}", style="yellow")


def emit(text: str) -> None:
    """Write data to stdout exactly as given, with a newline at its end.

    Control characters are removed if stdout is a terminal.
    """
    # A pipe gets the data unchanged: another program may need the control characters.
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
    """Write an error and its hint to stderr."""
    stderr.print(f"error: {harmless(error.message)}", style="bold red")
    if error.hint:
        stderr.print(f"hint: {harmless(error.hint)}")


def _silence(stream: IO[str]) -> None:
    """Redirect a stream to the null device, so that flushing it at exit does not fail either."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


# Unicode's characters that change the direction of writing can disguise text.
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {
    code: None for code in (*range(32), *range(127, 160), *_DIRECTIONS) if chr(code) not in "\n\t"
}


def harmless(text: str) -> str:
    """Return text without credentials and without control characters."""
    return redacted(_without_controls(text))


def _without_controls(text: str) -> str:
    return text.translate(_CONTROLS)
