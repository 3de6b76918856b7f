"""The host of one environment: imports its framework once and runs trials, one at a time.

`process: fork` forks a trial in milliseconds. `process: spawn` starts a new interpreter; so does
`PROCESS = "spawn"` in the file of a framework whose import starts threads or touches a device,
which do not survive a fork. In both cases the trial has its own session and is killed with the
host, and processes that it leaves behind are killed when it ends. The host ends when its input
ends, when the orchestrator dies, and after a long time without requests.
"""

import argparse
import gc
import os
import platform
import select
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, Tuple

from workloads.runtime import kernel, protocol, trial
from workloads.runtime.trial import Channel, last_lines, load_file

# Kept of the beginning of a trial's output, and as much of its end.
_LOG_BYTES = 32 * 1024
_MAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")
_PARENT_DIED = signal.SIGHUP


def main(arguments: List[str]) -> None:
    """Serve the requests on standard input; with `--child FD`, run one and answer on FD."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--framework", required=True)
    parser.add_argument(
        "--package", default="", help="the distribution that the file of any package stands for"
    )
    parser.add_argument("--idle", type=float, default=600.0)
    parser.add_argument("--child", type=int, default=-1)
    options = parser.parse_args(arguments)
    if options.child < 0:
        Host(options.framework, options.parent, options.package).serve(options.idle)
        return
    kernel.die_with(options.parent)
    request = protocol.decode(sys.stdin.buffer.readline()) or {}
    trial.run(
        request,
        Channel(options.child),
        lambda: load_framework(options.framework, options.package),
        spawned=True,
    )


def load_framework(path: str, package: str) -> Any:
    """Return the module of a framework's file.

    The file of any package is told which package it represents.
    """
    framework = load_file(path)
    if package:
        framework.import_module(package)
    return framework


class Host:
    """Serves requests until there are no more."""

    def __init__(self, framework_file: str, parent: int, package: str) -> None:
        self._framework_file, self._package = framework_file, package
        self._framework = None  # type: Any
        # The parent may have blocked signals for itself, which a child inherits.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self._end_with(parent)
        self._requests = Lines(os.dup(0))
        self._channel = Channel(os.dup(1))
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 0)
        # What a framework prints while it is imported belongs to the host's log.
        os.dup2(2, 1)
        kernel.adopt_orphans()
        self._wake = kernel.wake_on_child()

    def serve(self, idle_s: float) -> None:
        """Serve one request after the other; return after `idle_s` seconds without one."""
        while True:
            request = self._requests.next(idle_s)
            if request is None:
                return
            if "trial" not in request:
                continue
            if request["settings"].get("process") != "spawn" and not self._imported():
                return
            self._run(request)

    def _end_with(self, parent: int) -> None:
        """Kill everything that was started when the parent dies, and end.

        PDEATHSIG fires when the thread that started this process exits: it is ignored while the
        parent process lives.
        """

        def parent_died(*_: Any) -> None:
            if os.getppid() != parent:
                self._abandon()

        self._parent_died = parent_died
        signal.signal(_PARENT_DIED, parent_died)
        kernel.tell_of_death(parent, _PARENT_DIED)

    def _abandon(self) -> None:
        kernel.end_all_children()
        os._exit(0)

    def _imported(self) -> bool:
        if self._framework is not None:
            return True
        start = time.perf_counter()
        # The default action kills this process even if the import hangs in C code, where no
        # Python handler runs.
        signal.signal(_PARENT_DIED, signal.SIG_DFL)
        try:
            self._framework = load_file(self._framework_file)
        # The import of a framework may raise anything, SystemExit included.
        except BaseException:  # noqa: BLE001
            self._channel.send("unimportable", error=last_lines(traceback.format_exc()))
            return False
        import_s = time.perf_counter() - start
        signal.signal(_PARENT_DIED, self._parent_died)
        gc.collect()
        # gc.freeze, from Python 3.7 on, keeps the collector from touching, and so copying, the
        # pages that trials share with the host.
        getattr(gc, "freeze", bool)()
        self._channel.send(
            "ready",
            import_s=import_s,
            python=platform.python_version(),
            executable=sys.executable,
            pid=os.getpid(),
        )
        return True

    def _run(self, request: Dict[str, Any]) -> None:
        log_read, log_write = os.pipe()
        spawns = "spawn" in (
            request["settings"].get("process"),
            getattr(self._framework, "PROCESS", None),
        )
        make = self._spawned if spawns else self._forked
        pid = make(request, log_write)
        os.close(log_write)
        log = Log(log_read)
        status, usage = self._watch(pid, log)
        left_behind_s = kernel.end_all_children()
        log.drain()
        # The trial may have died within a line.
        self._channel.write(b"\n")
        ended = kernel.how_it_ended(status, usage)
        self._channel.send("exit", log=log.text(), left_behind_s=left_behind_s, **ended)

    def _forked(self, request: Dict[str, Any], log: int) -> int:
        host = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            signal.signal(_PARENT_DIED, signal.SIG_DFL)
            kernel.forget_wake_on_child()
            kernel.die_with(host)
            self._requests.close()
            os.dup2(log, 1)
            os.dup2(log, 2)
            trial.run(request, self._channel, lambda: self._framework, spawned=False)
        # A forked child must never continue as its parent.
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            # trial.run does not return: this point is reached after an error alone.
            os._exit(1)

    def _spawned(self, request: Dict[str, Any], log: int) -> int:
        channel = os.dup(self._channel.descriptor)
        command = [sys.executable] + interpreter_flags() + [_MAIN, "--parent", str(os.getpid())]
        command += [
            "--framework",
            self._framework_file,
            "--package",
            self._package,
            "--child",
            str(channel),
        ]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[channel],
            start_new_session=True,
        )
        os.close(channel)
        try:
            with child.stdin:  # type: ignore
                child.stdin.write(protocol.encode(request))  # type: ignore
        except BrokenPipeError:
            # The child has ended already; _watch finds out how.
            pass
        # _watch reaps the child; subprocess must not wait for it.
        child.returncode = 0
        return child.pid

    def _watch(self, pid: int, log: "Log") -> Tuple[int, Any]:
        """Wait until the trial's process ends; a stop request or the end of the input kills it."""
        while True:
            waiting = [self._requests.descriptor, self._wake] + log.descriptors()
            readable = (
                [self._requests.descriptor]
                if self._requests.holds_one
                else select.select(waiting, [], [])[0]
            )
            if self._wake in readable:
                os.read(self._wake, 4096)
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    return status, usage
            if log.descriptor in readable:
                log.read()
            if self._requests.descriptor in readable:
                message = self._requests.next()
                if message is None:
                    self._abandon()
                elif message.get("stop"):
                    kernel.kill(pid)


class Lines:
    """Messages from a pipe, which is not read beyond the message that is returned."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._read = b""

    @property
    def holds_one(self) -> bool:
        """Whether a complete message has been read and not yet returned."""
        return b"\n" in self._read

    def next(self, timeout_s: Optional[float] = None) -> Optional[Dict[str, Any]]:
        """Return the next message, {} for an invalid line, None at the end or at the timeout."""
        while not self.holds_one:
            if not select.select([self.descriptor], [], [], timeout_s)[0]:
                return None
            data = os.read(self.descriptor, 1 << 16)
            if not data:
                return None
            self._read += data
        line, self._read = self._read.split(b"\n", 1)
        return protocol.decode(line) or {}

    def close(self) -> None:
        os.close(self.descriptor)


class Log:
    """The output of a trial: its beginning and its end, with a bounded size."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._open = True
        self._head = self._tail = b""
        self._left_out = 0
        os.set_blocking(descriptor, False)

    def descriptors(self) -> List[int]:
        """Return the descriptor to wait for in a list, which is empty once the pipe is closed."""
        return [self.descriptor] if self._open else []

    def read(self) -> bool:
        """Read what is available; return whether there was any."""
        try:
            data = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._open = False
            return False
        room = max(0, _LOG_BYTES - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        self._left_out += max(0, len(self._tail) - _LOG_BYTES)
        self._tail = self._tail[-_LOG_BYTES:]
        return True

    def drain(self) -> None:
        """Read all that is left, and close."""
        while self.read():
            pass
        os.close(self.descriptor)

    def text(self) -> str:
        gap = (
            "\n[... {:,} bytes left out ...]\n".format(self._left_out).encode()
            if self._left_out
            else b""
        )
        return (self._head + gap + self._tail).decode("utf-8", "replace")


def interpreter_flags() -> List[str]:
    """Return the flags with which the host itself was started."""
    return ["-u"] + (["-I"] if sys.flags.isolated else ["-B"])
