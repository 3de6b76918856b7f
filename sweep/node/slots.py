"""Slots: cores of this node leased to a trial, held by kernel file locks and gone when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import Unavailable
from sweep.node import machine

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.001, 0.05


@dataclass(frozen=True)
class Lease:
    """Cores that are a trial's alone among all that lease on this node; `waited_s` is how long it took to get them."""

    cores: tuple[int, ...]
    waited_s: float = 0.0


class NoSlot(Unavailable):
    """A lease that this node cannot give, or did not in time."""


@contextlib.contextmanager
def lease(cpu: int, exclusive: bool, timeout_s: float | None = None, folder: Path | None = None) -> Iterator[Lease]:
    """Hold `cpu` cores; with `exclusive` nobody else on the node holds any meanwhile.

    Whoever has begun to take what it needs lets nobody past until it has all of it: neither one that wants the node to
    itself nor one that wants many cores is starved by those that want little, and no two hold half of what both need.
    NoSlot when the node has fewer cores, or after `timeout_s`.
    """
    usable = machine.usable_cores()
    if cpu > len(usable):
        raise NoSlot(f"{cpu} cores are wanted and this node has {len(usable)}", "lower resources: {cpu: …} in the grid")
    folder = folder or _folder()
    started = time.monotonic()
    deadline = started + timeout_s if timeout_s is not None else float("inf")
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as turn:
            _lock(turn, folder / "turnstile", fcntl.LOCK_EX, deadline)
            _lock(held, folder / "node", fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, deadline)
            cores = _lock_cores(held, folder, preferred(machine.topology(usable)), cpu, deadline)
        yield Lease(tuple(sorted(cores)), time.monotonic() - started)


def preferred(cores: Iterable[machine.Core]) -> list[int]:
    """Physical cores before their second threads, one memory node before the next, the highest first.

    Low cores are left to the orchestrator and to the kernel's interrupts.
    """
    threads_seen: dict[tuple[int, int], int] = {}
    ranked = []
    for core in sorted(cores, reverse=True):
        key = (core.socket, core.physical)
        ranked.append((threads_seen.get(key, 0), -core.numa_node, -core.number))
        threads_seen[key] = threads_seen.get(key, 0) + 1
    return [-number for _, _, number in sorted(ranked)]


def _lock_cores(held: contextlib.ExitStack, folder: Path, cores: list[int], count: int, deadline: float) -> list[int]:
    """Take `count` of `cores`, those that are free at once and the others as they become so."""
    mine: list[int] = []
    pause = _FIRST_WAIT_S
    while True:
        for core in cores:
            if len(mine) < count and core not in mine and _try_lock(held, folder / f"core-{core}", fcntl.LOCK_EX):
                mine.append(core)
        if len(mine) == count:
            return mine
        pause = _wait(pause, deadline, f"{count} free cores")


def _lock(stack: contextlib.ExitStack, path: Path, mode: int, deadline: float) -> None:
    pause = _FIRST_WAIT_S
    while not _try_lock(stack, path, mode):
        pause = _wait(pause, deadline, "this node")


def _try_lock(stack: contextlib.ExitStack, path: Path, mode: int) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    stack.callback(os.close, descriptor)
    return True


def _wait(pause: float, deadline: float, what: str) -> float:
    if time.monotonic() + pause > deadline:
        raise NoSlot(f"no {what} in time: other trials hold them", "raise --timeout, or end the other sweep")
    time.sleep(pause)
    return min(2 * pause, _LONGEST_WAIT_S)


def _folder() -> Path:
    """One per user and node, where nobody else may write."""
    folder = Path(tempfile.gettempdir()) / f"sweep-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NoSlot(f"{folder} belongs to another user", "set TMPDIR to a folder of your own")
    return folder
