"""Limits: how much of the machine this process's control groups (cgroups 1 and 2) allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 writes "no limit" as a number of bytes that no machine has.
_NO_LIMIT_BYTES = 2**60


def core_count() -> int:
    """Return the number of cores that this process may use: affinity, and the group's quota."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(cpu_quota() or cores)))


def cpu_quota(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the CPU quota in cores, the smallest of the group and its ancestors.

    None means no limit.
    """
    quotas = [_quota(group) for group in _groups("cpu", mount, membership)]
    return min((quota for quota in quotas if quota), default=None)


def memory_bytes(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """Return the memory limit, the smallest of the group and its ancestors; None for no limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    groups = _groups("memory", mount, membership)
    texts = [_text(group / name) for group in groups for name in names]
    limits = [int(text) for text in texts if text.isdecimal()]
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def throttled_periods(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int:
    """Return how often the quota has stopped the processes of these groups so far."""
    counts = [0]
    for group in _groups("cpu", mount, membership):
        for line in _text(group / "cpu.stat").split("\n"):
            name, _, count = line.partition(" ")
            if name == "nr_throttled":
                counts.append(int(count))
    return max(counts)


def _quota(group: Path) -> float | None:
    """Return the quota of one group in cores.

    Version 2 has one file with `150000 100000` or `max 100000`, version 1 two files with -1 for no
    limit.
    """
    fields = _text(group / "cpu.max").split()
    if not fields:
        fields = [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
    if len(fields) != 2 or not all(field.isdecimal() for field in fields):
        return None
    return int(fields[0]) / int(fields[1])


def _groups(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, from the innermost outwards.

    Version 2 has one tree, version 1 one for each controller.
    """
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controller if controllers else mount
        innermost = top / path.lstrip("/")
        for folder in (innermost, *innermost.parents):
            if folder.is_relative_to(top) and folder.is_dir():
                yield folder


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
