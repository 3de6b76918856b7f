"""Obstacles: known reasons why a local Ray cannot start on this machine, each with a fix.

The machine is only examined, never changed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path
from typing import NamedTuple

import psutil

# Threads of Ray's daemons, this process and the first workers: 150 on two cores, with a reserve.
THREADS = 200
_CONTROL_GROUP = Path("/sys/fs/cgroup")


class Obstacle(NamedTuple):
    """A reason why a local Ray cannot start, and the fix."""

    what: str
    hint: str


def obstacles() -> list[Obstacle]:
    """Return what keeps a local Ray from starting here; empty where nothing is known to."""
    checks = (_loopback(), _user_limit(), _group_limit(), _affinity())
    return [obstacle for obstacle in checks if obstacle]


def _loopback() -> Obstacle | None:
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), 2.0),
        ):
            return None
    except OSError as error:
        return Obstacle(
            f"127.0.0.1 cannot be reached ({error.strerror or error})",
            "bring it up: ip link set lo up",
        )


def _user_limit() -> Obstacle | None:
    """Check the limit of threads of all of this user's processes; root is exempt from it."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() == 0 or most == resource.RLIM_INFINITY:
        return None
    used = sum(_thread_count(process) for process in psutil.process_iter())
    if most - used >= THREADS:
        return None
    fix = f"ulimit -u {used + 2 * THREADS}"
    return Obstacle(
        f"this user may have {most} processes and threads and has {used}; "
        f"a local Ray needs {THREADS} more",
        f"{fix}, or have the limit raised in /etc/security/limits.conf",
    )


def _thread_count(process: psutil.Process) -> int:
    """Return the number of a process's threads; 0 where it is another user's or has ended."""
    with contextlib.suppress(psutil.Error):
        if process.uids().real == os.getuid():
            return int(process.num_threads())
    return 0


def _group_limit() -> Obstacle | None:
    """Check the limit of this process's control group, as a container has one."""
    try:
        most = int((_CONTROL_GROUP / "pids.max").read_text())
        used = int((_CONTROL_GROUP / "pids.current").read_text())
    except (OSError, ValueError):  # no such file, or `max` for no limit
        return None
    if most - used >= THREADS:
        return None
    return Obstacle(
        f"this container may have {most} processes and threads and has {used}; "
        f"a local Ray needs {THREADS} more",
        f"give it more, as with docker run --pids-limit {used + 2 * THREADS}",
    )


def _affinity() -> Obstacle | None:
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return Obstacle(
            f"a process here may not choose its cores ({error.strerror})",
            "allow sched_setaffinity in the container's seccomp profile",
        )
    return None
