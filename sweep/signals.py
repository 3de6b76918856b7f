"""Signals: what asks this process to end is heard in one place, and ends it as Ctrl-C does.

A handler is not enough. `ray.init` replaces Python's handler of SIGTERM by its own, a library below it installs a third
one in C, and `ray.shutdown` then resets that to the kernel's default, which kills. Installing ours again after each of
these leaves moments, up to seconds long, in which the signal still ends the process at once with Ray's stack dump.

So these signals are blocked before any library starts a thread, which all threads inherit, and one thread
waits for them with `sigwait`. No handler that anybody installs is called. That thread passes each signal on to
the main thread as SIGURG, which nobody else uses, and whose handler raises KeyboardInterrupt. SIGINT stays with
Python: Ray leaves it alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

# Slurm announces the end of a job's time by one of the last three, as the user chooses.
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_PASSED_ON = signal.SIGURG

_received: list[signal.Signals] = []
_is_over = threading.Event()


def listen() -> None:
    """Hear the signals from now on; called once, by the main thread, before any library is loaded.

    One that is ignored stays ignored: `nohup` has seen to it.
    """
    heard = {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    # Children inherit the mask. Ray's daemons are forked and must hear SIGTERM.
    unblock = functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, heard)
    os.register_at_fork(after_in_child=unblock)
    signal.signal(_PASSED_ON, _interrupt)
    listener = threading.Thread(target=_pass_on, args=(heard, threading.get_ident()), daemon=True)
    listener.start()


def over() -> None:
    """From now on the process ends anyway: what is still to be removed is removed undisturbed."""
    _is_over.set()


def exit_code() -> int:
    """What an interrupted command ends with: 128 and the number of the signal that came first, so 130 for Ctrl-C."""
    return 128 + _first()


def cause() -> str:
    """What interrupted the command, for the user."""
    return "interrupted" if _first() == signal.SIGINT else f"ended by {_first().name}"


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """An interrupt waits for these few moments, and is raised after them."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, _PASSED_ON)}
    callable_ones = {number: handler for number, handler in usual.items() if callable(handler)}
    for number in callable_ones:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in callable_ones.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _first() -> signal.Signals:
    return _received[0] if _received else signal.SIGINT


def _pass_on(heard: set[signal.Signals], main_thread: int) -> None:
    while heard:
        _received.append(signal.Signals(signal.sigwait(heard)))
        if not _is_over.is_set():
            signal.pthread_kill(main_thread, _PASSED_ON)


def _interrupt(*_: Any) -> None:
    if _received and not _is_over.is_set():  # else a stray SIGURG, which by default is ignored
        raise KeyboardInterrupt
