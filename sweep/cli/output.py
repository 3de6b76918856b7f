"""The terminal: data on stdout, everything else on stderr, colour only where a person looks.

What comes from elsewhere, an error of a tool or the log of a trial, can neither show credentials nor steer a terminal.
"""

from __future__ import annotations

import sys

from rich.console import Console

from sweep.credentials import redacted
from sweep.errors import SweepError

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line for the reader, on stderr; never markup."""
    stderr.print(_harmless(text), markup=False)


def warn(text: str) -> None:
    stderr.print(f"warning: {_harmless(text)}", style="yellow", markup=False)


def emit(text: str) -> None:
    """Data, on stdout, with a newline at its end: exactly as given, but that a terminal gets no control characters."""
    text = _without_controls(text) if sys.stdout.isatty() else text
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def show_error(error: SweepError) -> None:
    stderr.print(f"error: {_harmless(error.message)}", style="bold red", markup=False)
    if error.hint:
        stderr.print(f"hint: {_harmless(error.hint)}", markup=False)


_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def _harmless(text: str) -> str:
    return redacted(_without_controls(text))


def _without_controls(text: str) -> str:
    return text.translate(_CONTROLS)
