"""Slots: cores of this node leased to a trial, held by kernel file locks and gone when their holder dies."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep import locks
from sweep.errors import Unavailable
from sweep.node import machine

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.001, 0.05
_TELL_EVERY_S = 10.0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Lease:
    """Cores that are a trial's alone among all that lease on this node; `waited_s` is how long it took to get them."""

    cores: tuple[int, ...]
    waited_s: float = 0.0


class NoSlot(Unavailable):
    """A lease that this node cannot give, or did not in time."""


@contextlib.contextmanager
def lease(
    cpu: int,
    exclusive: bool,
    timeout_s: float | None = None,
    folder: Path | None = None,
    say: locks.Say = locks.silent,
) -> Iterator[Lease]:
    """Hold `cpu` cores; with `exclusive` nobody else on the node holds any meanwhile.

    Whoever has begun to take what it needs lets nobody past until it has all of it: neither one that wants the node to
    itself nor one that wants many cores is starved by those that want little, and no two hold half of what both need.
    `say` hears who holds the cores, after two seconds and then every ten. NoSlot when the node has fewer cores, or
    after `timeout_s`.
    """
    usable = machine.usable_cores()
    if cpu > len(usable):
        raise NoSlot(
            f"{cpu} cores are wanted and this node has {len(usable)}",
            "lower resources: {cpu: …} in the grid",
        )
    folder = folder or own_folder()
    wait = _Wait(timeout_s, lambda: say(_holders(folder, usable)))
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as turn:
            _lock(turn, folder / "turnstile", shared=False, wait=wait)
            _lock(held, folder / "node", shared=not exclusive, wait=wait)
            cores = _lock_cores(held, folder, preferred(machine.topology(usable)), cpu, wait)
        yield Lease(tuple(sorted(cores)), time.monotonic() - wait.since)


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


class _Wait:
    """One lease's waiting, however many locks it takes: until when, how often it looks, and when it tells."""

    def __init__(self, timeout_s: float | None, tell: Callable[[], None]) -> None:
        self.since = time.monotonic()
        self._deadline = self.since + timeout_s if timeout_s is not None else float("inf")
        self._pause = _FIRST_WAIT_S
        self._tell = tell
        self._tell_at = self.since + locks.PATIENCE_S

    def pause(self, what: str) -> None:
        now = time.monotonic()
        if now + self._pause > self._deadline:
            raise NoSlot(
                f"no {what} in time: other trials hold them",
                "raise --timeout, or end the other sweep",
            )
        if now >= self._tell_at:
            self._tell()
            self._tell_at = now + _TELL_EVERY_S
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_WAIT_S)


def _lock_cores(
    held: contextlib.ExitStack, folder: Path, cores: list[int], count: int, wait: _Wait
) -> list[int]:
    """Take `count` of `cores`, those that are free at once and the others as they become so."""
    mine: list[int] = []
    while True:
        for core in cores:
            if (
                len(mine) < count
                and core not in mine
                and _try_lock(held, _file(folder, core), shared=False)
            ):
                mine.append(core)
        if len(mine) == count:
            return mine
        wait.pause(f"{count} free cores")


def _lock(stack: contextlib.ExitStack, path: Path, shared: bool, wait: _Wait) -> None:
    while not _try_lock(stack, path, shared):
        wait.pause("this node")


def _try_lock(stack: contextlib.ExitStack, path: Path, shared: bool) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not locks.try_lock(descriptor, shared):
        os.close(descriptor)
        return False
    stack.callback(os.close, descriptor)
    if not shared:
        locks.describe(descriptor, locks.holding())
    return True


def _file(folder: Path, core: int) -> Path:
    return folder / f"core-{core}"


def _holders(folder: Path, cores: Iterable[int]) -> str:
    """Who holds which of these cores now: `core 0 and core 1, held by run x (process 12 on here) since 14:03:11`."""
    held: dict[str, list[str]] = {}
    for core in cores:
        if said := _holder(_file(folder, core)):
            held.setdefault(said, []).append(f"core {core}")
    return (
        "; ".join(f"{' and '.join(which)}, held by {said}" for said, which in held.items())
        or "its turn"
    )


def _holder(path: Path) -> str:
    """What the holder of a core has written; empty where nobody else holds it."""
    with contextlib.ExitStack() as stack:
        if not path.exists() or _try_lock(stack, path, shared=True):
            return ""
    return path.read_text(encoding="utf-8", errors="replace") or "another trial"


def own_folder() -> Path:
    """The locks of this user on this node; NoSlot where anybody else could write there."""
    folder = Path(tempfile.gettempdir()) / f"sweep-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid():
        raise NoSlot(f"{folder} belongs to another user", "set TMPDIR to a folder of your own")
    if not stat.S_ISDIR(found.st_mode):
        raise NoSlot(f"{folder} is no folder", "remove it")
    if found.st_mode & _OTHERS_WRITE:
        hint = "remove it: what lies there may be another user's"
        raise NoSlot(f"other users can write in {folder}, which is to hold locks of your own", hint)
    return folder
