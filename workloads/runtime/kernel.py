"""What the Linux kernel offers for processes: death signals, orphans, limits and usage."""

import ctypes
import os
import resource
import signal
from typing import Any, Dict, List

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 4 * 2**20 * ctypes.sizeof(ctypes.c_long)  # glibc's maximum of the rule
# Loaded here, by the host: a forked trial finds it loaded.
_LIBC = ctypes.CDLL(None)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; end at once if it is dead already."""
    tell_of_death(parent, signal.SIGKILL)


def tell_of_death(parent: int, by: int) -> None:
    """Have the kernel send signal `by` when the parent dies.

    To be precise, it is sent when the parent's thread that started this process exits.
    """
    _prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent ends, in other sessions too."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_all_children() -> float:
    """Kill and reap every descendant of this process; return their CPU time in seconds.

    Orphans are among them only after `adopt_orphans`.
    """
    cpu_s = 0.0
    while True:
        alive = children()
        for pid in alive:
            kill(pid)
        try:
            ended, _, usage = os.wait4(-1, 0 if alive else os.WNOHANG)
        except ChildProcessError:
            return cpu_s
        if not ended:
            return cpu_s
        cpu_s += usage.ru_utime + usage.ru_stime


def kill(pid: int) -> None:
    """Send SIGKILL, also to a process that is stopped or has just ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def children() -> List[int]:
    """Return the process ids of this process's children."""
    try:
        with open("/proc/self/task/{}/children".format(os.getpid())) as listed:
            return [int(pid) for pid in listed.read().split()]
    except FileNotFoundError:
        # The kernel was built without CONFIG_PROC_CHILDREN.
        return [
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _parent(pid) == os.getpid()
        ]


def wake_on_child() -> int:
    """Return a descriptor that becomes readable whenever a child ends."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(write)
    return read


def forget_wake_on_child() -> None:
    """Undo `wake_on_child` in a forked child."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def be_first_to_go() -> None:
    """Make the kernel kill this process first when memory runs out; disable core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
    except OSError:
        # The file is read-only in some containers: the kernel then chooses by size.
        return


def fix_memory_thresholds() -> None:
    """Set malloc's thresholds to where glibc's own rule ends after large blocks were freed.

    That rule follows the largest block freed so far. A process that has done little before its
    first sample returns memory to the kernel between samples and requests it again, which costs 5 %
    of a Chainer step.
    """
    # Other C libraries have no such rule.
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_THRESHOLD_BYTES)


def bound_memory(data_bytes: int) -> None:
    """Make allocations fail beyond this many bytes of data segments."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, most))


def unbound_memory() -> None:
    """Undo `bound_memory`, so that there is memory to report the failure."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def how_it_ended(status: int, usage: Any) -> Dict[str, Any]:
    """Return columns from the result of `os.wait4`."""
    return {
        "returncode": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "involuntary_switches": usage.ru_nivcsw,
    }


def _nothing(*_: Any) -> None:
    """Do nothing: the wake-up descriptor carries the information."""


def _parent(pid: int) -> int:
    try:
        with open("/proc/{}/stat".format(pid)) as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        # The process has ended meanwhile.
        return -1


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value, 0, 0, 0)
