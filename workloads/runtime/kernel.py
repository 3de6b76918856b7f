"""The kernel's help with processes: who dies with whom, who is whose child, what may be used (Linux)."""

import ctypes
import os
import resource
import signal
from typing import Any, Dict, List

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 4 * 2**20 * ctypes.sizeof(ctypes.c_long)  # glibc's maximum of the rule
_LIBC = ctypes.CDLL(None)  # found once, by the host


def die_with(parent: int) -> None:
    """The kernel is to kill this process when its parent dies; it ends at once where the parent is dead already."""
    tell_of_death(parent, signal.SIGKILL)


def tell_of_death(parent: int, by: int) -> None:
    """The kernel is to send signal `by` when the parent dies: to be precise, when the thread does that started us."""
    _prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, also those in sessions of their own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_all_children() -> float:
    """Kills and reaps every descendant of this process, which has adopted the orphans among them; their CPU time."""
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
    """SIGKILL, also for one that is stopped or has just ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def children() -> List[int]:
    """Process ids of this process's children."""
    try:
        with open("/proc/self/task/{}/children".format(os.getpid())) as listed:
            return [int(pid) for pid in listed.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _parent(pid) == os.getpid()
        ]


def wake_on_child() -> int:
    """A descriptor that can be read whenever a child has ended."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(write)
    return read


def forget_wake_on_child() -> None:
    """As a forked child must."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def be_first_to_go() -> None:
    """When memory runs out, the kernel takes this process before all others; a core dump shall fill no disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
    except OSError:  # some containers have it read-only: then the kernel chooses by size
        return


def fix_memory_thresholds() -> None:
    """Sets what malloc keeps for itself where glibc's own rule ends once large blocks were freed.

    That rule follows the largest block freed so far: a process that has done little before its first sample gives
    memory back to the kernel between samples and takes it anew, which is 5 % of a Chainer step.
    """
    mallopt = getattr(_LIBC, "mallopt", None)  # other C libraries have no such rule
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_THRESHOLD_BYTES)


def bound_memory(data_bytes: int) -> None:
    """Allocations fail beyond this many bytes of data segments."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, most))


def unbound_memory() -> None:
    """Undoes `bound_memory`, so that there is memory to tell what happened."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def how_it_ended(status: int, usage: Any) -> Dict[str, Any]:
    """Columns from what `os.wait4` gave."""
    return {
        "returncode": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "involuntary_switches": usage.ru_nivcsw,
    }


def _nothing(*_: Any) -> None:
    """The wake-up descriptor says all there is to say."""


def _parent(pid: int) -> int:
    try:
        with open("/proc/{}/stat".format(pid)) as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1  # it has ended meanwhile


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value, 0, 0, 0)
