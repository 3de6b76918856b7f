"""Obstacles: what is known to keep a Ray from starting on a machine, and what helps; looked for, changed never."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path
from typing import NamedTuple

import psutil

THREADS = 200  # of Ray's daemons, this process and the first workers: 150 on two cores
_CONTROL_GROUP = Path("/sys/fs/cgroup")


class Obstacle(NamedTuple):
    """What keeps a Ray of our own from running here, and what helps."""

    what: str
    hint: str


def obstacles() -> list[Obstacle]:
    """What is wrong with this machine for a Ray of our own; empty where nothing is known to be."""
    return [found for found in (_loopback(), _processes(), _control_group(), _affinity()) if found]


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


def _processes() -> Obstacle | None:
    """The kernel counts the threads of all of a user's processes, and does not hold root to the limit."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() == 0 or most == resource.RLIM_INFINITY:
        return None
    used = sum(_threads(process) for process in psutil.process_iter())
    if most - used >= THREADS:
        return None
    what = f"this user may have {most} processes and threads and has {used}; a local Ray needs {THREADS} more"
    return Obstacle(
        what,
        f"ulimit -u {used + 2 * THREADS}, or have the limit raised in /etc/security/limits.conf",
    )


def _threads(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        if process.uids().real == os.getuid():
            return int(process.num_threads())
    return 0


def _control_group() -> Obstacle | None:
    try:
        most = int((_CONTROL_GROUP / "pids.max").read_text())
        used = int((_CONTROL_GROUP / "pids.current").read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None
    if most - used >= THREADS:
        return None
    what = f"this container may have {most} processes and threads and has {used}; a local Ray needs {THREADS} more"
    return Obstacle(what, f"give it more, as with docker run --pids-limit {used + 2 * THREADS}")


def _affinity() -> Obstacle | None:
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        what = f"a process here may not choose its cores ({error.strerror})"
        return Obstacle(what, "allow sched_setaffinity in the container's seccomp profile")
    return None
