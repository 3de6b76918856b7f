"""Child processes: the one place that starts them."""

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

_LOOK_S = 1.0  # how often one looks whether a silent child still lives
_MARK = "SWEEP_PROCESS"  # a variable by which descendants are known that have left the tree
_PR_SET_PDEATHSIG = 1
_TETHER = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Completed:
    """How a command ended; `returncode` is negative where a signal ended it."""

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
    """Run a command to its end, in a session of its own; past `timeout_s` all that it started is killed with it."""
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
        start_new_session=True,
    ) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill_all(child, mark)
            stdout, stderr = child.communicate()
            return Completed(child.returncode, stdout, stderr, timed_out=True)
        except BaseException:  # an interrupt: nothing goes on behind the user's back
            _kill_all(child, mark)
            raise
    return Completed(child.returncode, stdout, stderr)


class Child:
    """A process in a session of its own that is talked to in lines; what it writes to stderr is at `log`."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self._mark = uuid.uuid4().hex
        with hold(log) as stderr:  # from here on the child does
            self._process = subprocess.Popen(
                list(args),
                env={**env, _MARK: self._mark},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,
            )
        self._to, self._from = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout) if pipe
        )
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self.pid = self._process.pid
        self._read = bytearray()
        self._ended = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, data: bytes, timeout_s: float) -> bool:
        """Write all of `data`; False where the child takes no more of it."""
        deadline = time.monotonic() + timeout_s
        while data:
            if not _ready(self._to, select.POLLOUT, deadline - time.monotonic()):
                return False
            try:
                data = data[os.write(self._to, data) :]
            except BrokenPipeError:
                return False
        return True

    def line(self, timeout_s: float | None) -> bytes | None:
        """The next line without its end; None when the child has ended. TimeoutError when none has come in time."""
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        searched = 0
        while (end := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            if self._ended:
                return None
            alive = self.alive  # asked first: what it wrote before its end is there to be read
            wait_s = min(_LOOK_S if alive else 0.0, max(0.0, deadline - time.monotonic()))
            if _ready(self._from, select.POLLIN, wait_s):
                self._take()
            elif not alive:  # others may hold the pipe open still
                self._ended = True
            elif time.monotonic() >= deadline:
                raise TimeoutError
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    def end(self) -> int:
        """Kill it with all its descendants, wherever they have gone, and reap it; its exit status."""
        _kill_all(self._process, self._mark)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        return self._process.wait()

    def _take(self) -> None:
        data = os.read(self._from, 1 << 20)
        self._ended = not data
        self._read += data


def kill_tree(pid: int) -> None:
    """SIGKILL `pid` and all its descendants, also stopped ones and those in sessions of their own.

    They are stopped first, so that none starts another while it is looked for.
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
    """What to start a command with so that the kernel kills it when this process dies; nothing where it cannot.

    For what writes where this process holds a lock: were it to go on, it would write into what the next holder makes.
    """
    return (
        [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid())]
        if sys.platform == "linux"
        else []
    )


def hold(path: Path) -> IO[bytes]:
    """A new file that says that its owner lives: until all who have it open are gone, it is not `abandoned`.

    It is locked before anybody sees it under its name.
    """
    file = path.with_name(f"{path.name}.new").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    Path(file.name).rename(path)
    return file


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """Those of these files that nobody holds any more, each held while the caller has it: to remove what it is of.

    Another user's are not ours to remove, nor is what a link leads to.
    """
    for path in paths:
        with contextlib.suppress(OSError), open(path, "r+b", opener=_open_ours) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path


def _open_ours(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "belongs to another user", path)
    return descriptor


def kill_those_in(folders: Iterable[Path]) -> None:
    """SIGKILL those whose working folder is one of these, with all their descendants."""
    wanted = {str(folder) for folder in folders}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() in wanted:
                kill_tree(process.pid)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 once it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def ended(returncode: int) -> str:
    """How a process ended, in words: `killed by SIGSEGV`, `exit status 3`."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _kill_all(child: subprocess.Popen[Any], mark: str) -> None:
    if child.poll() is None:  # else its number may be another's by now
        kill_tree(child.pid)
    for pid in _marked(f"{_MARK}={mark}".encode()):
        _send(pid, signal.SIGKILL)


def _ready(descriptor: int, for_what: int, wait_s: float) -> bool:
    """By poll, for select ends at descriptor 1023, and a driver may have more."""
    poll = select.poll()
    poll.register(descriptor, for_what)
    return bool(poll.poll(max(0.0, wait_s) * 1000))


def _family(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from root.children(recursive=True)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # it has ended meanwhile, or is another user's
        os.kill(pid, number)


def _marked(variable: bytes) -> Iterator[int]:
    """Processes that were started with this variable, or by one that was."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
