"""Slots: leases of this node's cores, held by kernel file locks that end with their process."""

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

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05
_REPORT_EVERY_S = 10.0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Lease:
    """Cores that no other lease on this node has; `waited_s` is how long it took to get them."""

    cores: tuple[int, ...]
    waited_s: float = 0.0


class NoSlot(Unavailable):
    """A lease that this node cannot give at all, or could not give in time."""


@contextlib.contextmanager
def lease(
    cpu: int,
    exclusive: bool,
    timeout_s: float | None = None,
    folder: Path | None = None,
    say: locks.Say = locks.silent,
) -> Iterator[Lease]:
    """Hold `cpu` cores; with `exclusive` no other lease holds any core of the node meanwhile.

    Requests are served in turns: the one whose turn it is keeps it until it holds all its cores.
    Large and exclusive requests never starve, and partial holders cannot deadlock. `say` is called
    with the holders of the cores, after two seconds and then every ten. Raises NoSlot when the
    node has fewer cores, or after `timeout_s`.
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
        # The turn ends when all cores are held, the lease at the end of the block.
        with contextlib.ExitStack() as turn:
            _lock(turn, folder / "turnstile", shared=False, wait=wait)
            _lock(held, folder / "node", shared=not exclusive, wait=wait)
            cores = _lock_cores(held, folder, preferred(machine.topology(usable)), cpu, wait)
        yield Lease(tuple(sorted(cores)), time.monotonic() - wait.since)


def preferred(cores: Iterable[machine.Core]) -> list[int]:
    """Return core numbers in the order in which leases take them.

    Physical cores come before their second hardware threads, one NUMA node before the next, high
    numbers before low ones: the driver and the kernel's interrupts use the lowest cores.
    """
    threads_seen: dict[tuple[int, int], int] = {}
    ranked = []
    for core in sorted(cores, reverse=True):
        key = (core.socket, core.physical)
        ranked.append((threads_seen.get(key, 0), -core.numa_node, -core.number))
        threads_seen[key] = threads_seen.get(key, 0) + 1
    return [-number for _, _, number in sorted(ranked)]


class _Wait:
    """The waiting of one lease: its deadline, the pauses between attempts, and the reports."""

    def __init__(self, timeout_s: float | None, report: Callable[[], None]) -> None:
        self.since = time.monotonic()
        self._deadline = self.since + timeout_s if timeout_s is not None else float("inf")
        self._pause = _FIRST_PAUSE_S
        self._report = report
        self._report_at = self.since + locks.PATIENCE_S

    def pause(self, what: str) -> None:
        """Sleep before the next attempt at `what`; raise NoSlot after the deadline."""
        now = time.monotonic()
        if now + self._pause > self._deadline:
            raise NoSlot(
                f"no {what} in time: other trials hold them",
                "raise --timeout, or end the other sweep",
            )
        if now >= self._report_at:
            self._report()
            self._report_at = now + _REPORT_EVERY_S
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)


def _lock_cores(
    held: contextlib.ExitStack, folder: Path, cores: list[int], count: int, wait: _Wait
) -> list[int]:
    """Lock `count` of `cores`: the free ones at once, others as they become free."""
    locked: list[int] = []
    while True:
        for core in cores:
            is_wanted = len(locked) < count and core not in locked
            if is_wanted and _try_lock(held, _file(folder, core), shared=False):
                locked.append(core)
        if len(locked) == count:
            return locked
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
    """Return who holds which cores, as in `core 0 and core 1, held by run x (…) since 14:03:11`.

    Return `its turn` where nobody holds any.
    """
    held: dict[str, list[str]] = {}
    for core in cores:
        if holder := _holder(_file(folder, core)):
            held.setdefault(holder, []).append(f"core {core}")
    parts = [f"{' and '.join(names)}, held by {holder}" for holder, names in held.items()]
    return "; ".join(parts) or "its turn"


def _holder(path: Path) -> str:
    """Return the description that the holder of a core has written, "" without another holder."""
    with contextlib.ExitStack() as stack:
        if not path.exists() or _try_lock(stack, path, shared=True):
            return ""
    return path.read_text(encoding="utf-8", errors="replace") or "another trial"


def own_folder() -> Path:
    """Return the folder of this user's locks; raise NoSlot where other users could write there."""
    folder = Path(tempfile.gettempdir()) / f"sweep-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Other users may create files in the temporary folder, so what is there is not trusted.
    stat_result = folder.lstat()
    if stat_result.st_uid != os.getuid():
        raise NoSlot(f"{folder} belongs to another user", "set TMPDIR to a folder of your own")
    if not stat.S_ISDIR(stat_result.st_mode):
        raise NoSlot(f"{folder} is no folder", "remove it")
    if stat_result.st_mode & _OTHERS_WRITE:
        hint = "remove it: what lies there may be another user's"
        raise NoSlot(f"other users can write in {folder}, which is to hold locks of your own", hint)
    return folder
