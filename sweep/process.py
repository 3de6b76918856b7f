"""Child processes: the one place that starts them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Completed:
    """How a command ended; `returncode` is negative where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


def run(
    args: Sequence[str], env: Mapping[str, str], timeout_s: float | None = None, cwd: Path | None = None
) -> Completed:
    """Run a command to its end, in a session of its own; past `timeout_s` the whole of it is killed."""
    with subprocess.Popen(
        list(args),
        env=dict(env),
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
            os.killpg(child.pid, signal.SIGKILL)
            stdout, stderr = child.communicate()
            return Completed(child.returncode, stdout, stderr, timed_out=True)
        except BaseException:  # an interrupt: nothing goes on behind the user's back
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return Completed(child.returncode, stdout, stderr)


class Child:
    """A process in a session of its own that is talked to in lines; what it writes to stderr is at `log`."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                list(args),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._read = bytearray()
        self._ended = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, data: bytes, timeout_s: float) -> bool:
        """Write all of `data`; False where the child takes no more of it."""
        assert self._process.stdin is not None
        descriptor, deadline = self._process.stdin.fileno(), time.monotonic() + timeout_s
        os.set_blocking(descriptor, False)
        while data:
            if not select.select([], [descriptor], [], max(0.0, deadline - time.monotonic()))[1]:
                return False
            try:
                data = data[os.write(descriptor, data) :]
            except BrokenPipeError:
                return False
        return True

    def line(self, timeout_s: float) -> bytes | None:
        """The next line without its end; None at the end of output. TimeoutError when none has come in time."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + timeout_s
        searched = 0
        while (end := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            if self._ended:
                return None
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(descriptor, 1 << 20)
            self._ended = not data
            self._read += data
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    def end(self) -> int:
        """Kill it with all its descendants and reap it; its exit status."""
        kill_tree(self.pid)
        with contextlib.suppress(OSError):  # what was still to be written to it is nobody's any more
            self._process.communicate()
        return self._process.wait()


def kill_tree(pid: int) -> None:
    """SIGKILL `pid` and all its descendants, also stopped ones and those in sessions of their own."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


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
