"""The host of one environment: imports its framework once and makes a process for each trial, one trial at a time.

`process: fork` forks it off, in milliseconds; `process: spawn` starts a new interpreter, as does `PROCESS = "spawn"` in
the file of a framework whose import starts threads or touches a device, which no fork survives. Either way the trial
has a session of its own and dies with the host; whatever it leaves behind ends with it. The host ends when its requests
do, when the orchestrator dies, and when nothing has been asked of it for long.
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

_LOG_BYTES = 32 * 1024  # kept of the beginning of what a trial writes, and again of its end
_MAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")
_PARENT_DIED = signal.SIGHUP


def main(arguments: List[str]) -> None:
    """Serve the requests on standard input; with `--child FD` run the one that is there and answer on FD."""
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
    """The file of a framework; that of any package is told which one it stands for."""
    framework = load_file(path)
    if package:
        framework.import_module(package)
    return framework


class Host:
    """Serves requests until there are none any more."""

    def __init__(self, framework_file: str, parent: int, package: str) -> None:
        self._framework_file, self._package = framework_file, package
        self._framework = None  # type: Any
        signal.pthread_sigmask(
            signal.SIG_SETMASK, []
        )  # whoever started us may have blocked some for itself
        self._end_with(parent)
        self._requests = Lines(os.dup(0))
        self._channel = Channel(os.dup(1))
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 0)
        os.dup2(2, 1)  # what a framework prints while it is imported belongs to the host's log
        kernel.adopt_orphans()
        self._wake = kernel.wake_on_child()

    def serve(self, idle_s: float) -> None:
        """One request after the other; ends after `idle_s` without any."""
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
        """End with everything that was started, when the parent dies.

        The kernel tells when the thread of the parent's dies that started us; while others go on, so do we.
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
        signal.signal(
            _PARENT_DIED, signal.SIG_DFL
        )  # ends us also where the import hangs and no handler would run
        try:
            self._framework = load_file(self._framework_file)
        except BaseException:  # noqa: BLE001  whatever a framework raises, or exits with, when it is imported
            self._channel.send("unimportable", error=last_lines(traceback.format_exc()))
            return False
        import_s = time.perf_counter() - start
        signal.signal(_PARENT_DIED, self._parent_died)
        gc.collect()
        getattr(
            gc, "freeze", bool
        )()  # from 3.7 on: the collector leaves alone what the trials share with the host
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
        self._channel.write(b"\n")  # the trial may have died within a line
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
        except BaseException:  # noqa: BLE001  a fork must never run on as its parent
            traceback.print_exc()
        finally:
            os._exit(1)  # trial.run never comes back

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
            pass  # it has ended; how, _watch tells
        child.returncode = 0  # reaped by _watch, not by subprocess
        return child.pid

    def _watch(self, pid: int, log: "Log") -> Tuple[int, Any]:
        """Until the trial's process ends; a request to stop, or the end of all requests, ends it."""
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
    """Messages from a pipe, which is read no further than what has come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._read = b""

    @property
    def holds_one(self) -> bool:
        """Whether a message has been read already that nobody has asked for."""
        return b"\n" in self._read

    def next(self, timeout_s: Optional[float] = None) -> Optional[Dict[str, Any]]:
        """The next message, an empty one for a line that is none; None at the end of the pipe and past the timeout."""
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
    """What a trial writes: its beginning and its end, however much that is."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._open = True
        self._head = self._tail = b""
        self._left_out = 0
        os.set_blocking(descriptor, False)

    def descriptors(self) -> List[int]:
        """The descriptor to wait for, in a list; none once nobody can write any more."""
        return [self.descriptor] if self._open else []

    def read(self) -> bool:
        """Take what is there; false where nothing is."""
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
        """Take all that is left, and close."""
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
    """As the host itself was started."""
    return ["-u"] + (["-I"] if sys.flags.isolated else ["-B"])
