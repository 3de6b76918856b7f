"""Calls of the command line in this process: how each ended, with a limit of time."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from sweep import cli
from sweep.errors import FAILED, INCONCLUSIVE, MISSING, UNAVAILABLE, USAGE

DOCUMENTED = frozenset({0, FAILED, USAGE, INCONCLUSIVE, MISSING, UNAVAILABLE})
LIMIT_S = 20  # of processor time
_SLOWER = 6  # as much longer may a call take by the clock, on a busy machine


class Hang(BaseException):
    """Raised inside a call that takes too long; nothing that catches exceptions keeps it."""


class Call(NamedTuple):
    """How a call ended: with a code, or a trace of what it raised; `trouble` is empty where all was well."""

    arguments: tuple[str, ...]
    code: int | None
    err: str
    trouble: str = ""
    trace: str = ""


def call(arguments: Sequence[str], limit_s: float = LIMIT_S) -> Call:
    """`sweep` with these arguments, in this process."""
    out, err = _stream(), _stream()
    argv = mock.patch.object(sys, "argv", ["sweep", *arguments])
    try:
        with (
            argv,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _limited(limit_s),
        ):
            cli.main()
    except SystemExit as ended:
        return _ended(tuple(arguments), int(ended.code or 0), _text(err))
    except Hang:
        return Call(tuple(arguments), None, _text(err), "hang", traceback.format_exc())
    except BaseException:  # noqa: BLE001  whatever it is, it is what is looked for
        return Call(tuple(arguments), None, _text(err), "traceback", traceback.format_exc())
    raise AssertionError("the command line ends by SystemExit")


def _ended(arguments: tuple[str, ...], code: int, err: str) -> Call:
    trouble = "" if code in DOCUMENTED else "undocumented code"
    warnings = Counter(line for line in err.splitlines() if line.startswith("warning:"))
    if any(count > 1 for count in warnings.values()):
        trouble = trouble or "said twice"
    if code not in (0, FAILED, INCONCLUSIVE, MISSING) and "error:" not in err:
        trouble = trouble or "no reason given"
    return Call(arguments, code, err, trouble)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", errors="replace")


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_: int, __: object) -> None:
        raise Hang

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, _SLOWER * seconds),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The current folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
