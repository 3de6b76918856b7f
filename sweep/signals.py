"""Signals: the requests to end this process, handled in one place, in the way of Ctrl-C.

A handler is not enough. `ray.init` replaces Python's handler of SIGTERM, a library below it
installs a third one in C, and `ray.shutdown` then restores the kernel's default, which kills.
Installing our handler again after each of these leaves moments, up to seconds long, in which the
signal still ends the process at once with Ray's stack dump.

So these signals are blocked before any library starts a thread. All threads inherit the mask, and
one thread waits for the signals with `sigwait`, so that no installed handler is called. That thread
passes each signal on to the main thread as SIGURG, which no library uses. The handler of SIGURG
raises KeyboardInterrupt. SIGINT is left to Python, since Ray does not change it.

Python drops an exception that is raised in a finalizer, and Ray's references have finalizers. A
KeyboardInterrupt that is dropped so is raised once more, a moment later.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Before the end of a job's time, Slurm sends one of the last three, as the user chooses.
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_PASSED_ON = signal.SIGURG
_AGAIN_AFTER_S = 0.05  # long enough for a finalizer to end

_received: list[signal.Signals] = []
_is_over = threading.Event()


def listen() -> None:
    """Handle the signals from now on. Call once, in the main thread, before libraries are loaded.

    A signal that is ignored stays so, for example SIGHUP under `nohup`.
    """
    handled = {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    # Children inherit the mask. Ray's daemons are forked and must hear SIGTERM.
    unblock = functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, handled)
    os.register_at_fork(after_in_child=unblock)
    signal.signal(_PASSED_ON, _interrupt)
    sys.unraisablehook = functools.partial(_interrupt_again, threading.get_ident())
    listener = threading.Thread(target=_pass_on, args=(handled, threading.get_ident()), daemon=True)
    listener.start()


def over() -> None:
    """Ignore the signals from now on: the process is ending, and its cleanup must complete."""
    _is_over.set()


def exit_code() -> int:
    """Return the exit code of an interrupted command: 128 plus the first signal, 130 for Ctrl-C."""
    return 128 + _first()


def cause() -> str:
    """Return what interrupted the command, for the user."""
    return "interrupted" if _first() == signal.SIGINT else f"ended by {_first().name}"


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Postpone interrupts to the end of the block, which should be short."""
    # Only the main thread is interrupted.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, _PASSED_ON)}
    callable_ones = {number: handler for number, handler in usual.items() if callable(handler)}
    for number in callable_ones:
        signal.signal(number, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        for number, handler in callable_ones.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt


def _first() -> signal.Signals:
    return _received[0] if _received else signal.SIGINT


def _pass_on(handled: set[signal.Signals], main_thread: int) -> None:
    while handled:
        _received.append(signal.Signals(signal.sigwait(handled)))
        if not _is_over.is_set():
            signal.pthread_kill(main_thread, _PASSED_ON)


def _interrupt(*_: Any) -> None:
    # A SIGURG without a received signal comes from elsewhere, and is ignored as by default.
    if _received and not _is_over.is_set():
        raise KeyboardInterrupt


def _interrupt_again(main_thread: int, dropped: sys.UnraisableHookArgs) -> None:
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    if _is_over.is_set():
        return
    number = _PASSED_ON if _received else signal.SIGINT
    # From another thread: the handler would otherwise run, and raise, within this function.
    again = threading.Timer(_AGAIN_AFTER_S, signal.pthread_kill, (main_thread, number))
    again.daemon = True
    again.start()
