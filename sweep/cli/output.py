"""The terminal: data on stdout, everything else on stderr, colour only where a person looks."""

from __future__ import annotations

import sys

from rich.console import Console

from sweep.errors import SweepError

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line for the reader, on stderr; never markup."""
    stderr.print(text, markup=False)


def warn(text: str) -> None:
    stderr.print(f"warning: {text}", style="yellow", markup=False)


def emit(text: str) -> None:
    """Data, on stdout, exactly as given, with a newline at its end."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def show_error(error: SweepError) -> None:
    stderr.print(f"error: {error.message}", style="bold red", markup=False)
    if error.hint:
        stderr.print(f"hint: {error.hint}", markup=False)
