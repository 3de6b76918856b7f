"""Child processes: no other module starts any."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

_POLL_S = 1.0  # interval of checks whether a silent child still runs
_READ_BYTES = 1 << 20
# A variable that marks all descendants of a child, also those that have left its process tree.
_MARK = "SWEEP_PROCESS"
_PR_SET_PDEATHSIG = 1
# Sets the parent-death signal, unblocks signals, and replaces itself by the command. If the parent
# has died before the signal was set, it does nothing.
_TETHER = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Completed:
    """The result of a command; `returncode` is the negative number of a signal that ended it."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


def run(
    args: Sequence[str],
    env: Mapping[str, str],
    timeout_s: float | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run a command in a new session and wait for its end.

    After `timeout_s` the command and all its descendants are killed.
    """
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        list(args),
        env={**env, _MARK: mark},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C in the terminal then reaches this process only, which ends the child.
        start_new_session=True,
    ) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill_all(child, mark)
            stdout, stderr = child.communicate()
            return Completed(child.returncode, stdout, stderr, timed_out=True)
        except BaseException:
            # After an interrupt nothing may go on unseen.
            _kill_all(child, mark)
            raise
    return Completed(child.returncode, stdout, stderr)


class Child:
    """A process in a new session that reads and writes lines; its stderr goes to the file `log`."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self._mark = uuid.uuid4().hex
        # The child inherits the lock of the log, and holds it after we have closed the file.
        with hold(log) as stderr:
            self._process = subprocess.Popen(
                list(args),
                env={**env, _MARK: self._mark},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                # Ctrl-C in the terminal then reaches this process only, which ends the child.
                start_new_session=True,
            )
        pipes = (self._process.stdin, self._process.stdout)
        self._stdin, self._stdout = (pipe.fileno() for pipe in pipes if pipe)
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self.pid = self._process.pid
        self._buffer = bytearray()
        self._is_closed = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, data: bytes, timeout_s: float) -> bool:
        """Write all of `data`; return False where the child does not read it in time."""
        deadline = time.monotonic() + timeout_s
        while data:
            if not _ready(self._stdin, select.POLLOUT, deadline - time.monotonic()):
                return False
            try:
                data = data[os.write(self._stdin, data) :]
            except BrokenPipeError:
                return False
        return True

    def line(self, timeout_s: float | None) -> bytes | None:
        """Return the next line without its end, or None when the child has ended.

        Raises TimeoutError when no line has come in time.
        """
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if self._is_closed:
                return None
            # Checked before reading: what a child wrote before its end can still be read.
            alive = self.alive
            wait_s = min(_POLL_S if alive else 0.0, max(0.0, deadline - time.monotonic()))
            if _ready(self._stdout, select.POLLIN, wait_s):
                self._fill_buffer()
            elif not alive:
                # Descendants of the child may keep the pipe open, so there may be no end of file.
                self._is_closed = True
            elif time.monotonic() >= deadline:
                raise TimeoutError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def end(self) -> int:
        """Kill the child and all its descendants, and return its exit status."""
        _kill_all(self._process, self._mark)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        return self._process.wait()

    def _fill_buffer(self) -> None:
        data = os.read(self._stdout, _READ_BYTES)
        self._is_closed = not data
        self._buffer += data


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, also stopped ones and those in other sessions.

    They are stopped first, so that none starts another process during the search.
    """
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    stopped: set[psutil.Process] = set()
    while new := set(_family(root)) - stopped:
        for member in new:
            _send(member.pid, signal.SIGSTOP)
        stopped |= new
    for member in stopped:
        _send(member.pid, signal.SIGKILL)


def tether() -> list[str]:
    """Return a prefix for a command, with which the kernel kills it when this process dies.

    It is for commands that write where this process holds a lock: otherwise they could write into
    the files of the next holder. Return [] on systems other than Linux.
    """
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid())]


def hold(path: Path) -> IO[bytes]:
    """Create a locked file that shows that its owner runs.

    It is `abandoned` once all processes that have it open are gone. It is locked before it gets
    its name.
    """
    file = path.with_name(f"{path.name}.new").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    Path(file.name).rename(path)
    return file


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield those of these files that no process holds; each is locked while the caller has it.

    The caller removes what belongs to the file. Other users' files and links are left out.
    """
    for path in paths:
        with contextlib.suppress(OSError), open(path, "r+b", opener=_open_own) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path


def _open_own(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "belongs to another user", path)
    return descriptor


def kill_those_in(folders: Iterable[Path]) -> None:
    """Kill the processes whose working folder is one of these, with all their descendants."""
    wanted = {str(folder) for folder in folders}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() in wanted:
                kill_tree(process.pid)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 once it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def ended(returncode: int) -> str:
    """Return how a process ended, as in `killed by SIGSEGV` or `exit status 3`."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _kill_all(child: subprocess.Popen[Any], mark: str) -> None:
    # Once the child is reaped, another process may have its id.
    if child.poll() is None:
        kill_tree(child.pid)
    for pid in _marked(f"{_MARK}={mark}".encode()):
        _send(pid, signal.SIGKILL)


def _ready(descriptor: int, event: int, wait_s: float) -> bool:
    """Return whether a descriptor becomes ready in time.

    `poll` is used, since `select` fails for descriptors above 1023, and a driver may have more.
    """
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(max(0.0, wait_s) * 1000))


def _family(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from root.children(recursive=True)


def _send(pid: int, number: signal.Signals) -> None:
    # The process may have ended meanwhile, or belong to another user.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _marked(variable: bytes) -> Iterator[int]:
    """Yield the processes that have this variable in their environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
