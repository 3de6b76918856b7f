"""Limits: how much of the machine the control groups of this process allow it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def core_count() -> int:
    """The cores this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(cpu_quota() or cores)))


def cpu_quota(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """Cores' worth of time that may be used, the least of its own group and those around it; None for no limit."""
    quotas = [_quota(group) for group in _groups("cpu", mount, membership)]
    return min((quota for quota in quotas if quota), default=None)


def memory_bytes(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """Memory that may be used; None for no limit. Version 1 says no limit as a number beyond any machine's."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [
        _text(group / name) for group in _groups("memory", mount, membership) for name in names
    ]
    return min(
        (int(text) for text in texts if text.isdecimal() and int(text) < 2**60), default=None
    )


def throttled_periods(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int:
    """How often the quota has stopped the processes of these groups so far."""
    lines = [
        line.split()
        for group in _groups("cpu", mount, membership)
        for line in _text(group / "cpu.stat").split("\n")
    ]
    return max((int(line[1]) for line in lines if line[:1] == ["nr_throttled"]), default=0)


def _quota(group: Path) -> float | None:
    """Of version 2 `150000 100000` or `max 100000`; of version 1 two files, -1 for no limit."""
    told = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us"),
        _text(group / "cpu.cfs_period_us"),
    ]
    return (
        int(told[0]) / int(told[1])
        if len(told) == 2 and all(part.isdecimal() for part in told)
        else None
    )


def _groups(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups, inmost first: version 2 has one tree, version 1 one for each controller."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = mount / controller if controllers else mount
            inner = top / path.lstrip("/")
            yield from (
                folder
                for folder in (inner, *inner.parents)
                if folder.is_relative_to(top) and folder.is_dir()
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
