"""Hosts: the fork servers of this process, of which a few are kept warm between trials.

A host imports a framework once and forks a child for each trial; see `workloads/runtime/host.py`
for its side. The pool of idle hosts is bounded by number, by idle time and by memory.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import catalog, process
from sweep.environments import Environment, EnvironmentFailed, Specification
from sweep.node import machine
from sweep.node.outcome import ERROR_LINES, Listener, Outcome
from workloads.runtime import protocol

IMPORT_S = 300.0  # time limit of a framework's import
MOST = 8  # idle hosts

_FOLDER, _LOG = "sweep-host-", "host.log"
_DIE_S = 2.0  # time limit for a killed host to be gone
_GRACE_S = 10.0  # time limit for a host to report how a stopped trial ended
_MEMORY_SHARE = 0.25  # of the machine's memory, for all idle hosts together
_IDLE_S = 600.0
_POLL_S = 0.05
_LONGEST_WAIT_S = 1e6  # the kernel's limit of a timeout is finite
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Only these of the user's variables reach a trial. Tokens would leak into logs, and other
# variables tune libraries without a trace in the record.
ALLOWED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "LD_LIBRARY_PATH",
    "OPENBLAS_CORETYPE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVIDIA_VISIBLE_DEVICES",
)


@dataclass(frozen=True)
class Key:
    """What a host runs; trials with equal keys share a host."""

    python: str
    isolated: bool
    framework_file: str
    variables: tuple[tuple[str, str], ...]
    run_id: str = ""
    package: str = ""  # what the file of any package is to import


def key(
    environment: Environment,
    spec: Specification,
    threads: int,
    device: str = "cpu",
    run_id: str = "",
) -> Key:
    """Return the key of the host that runs a trial in this environment."""
    return Key(
        python=str(environment.python),
        isolated=not spec.interpreter,
        framework_file=_framework_file(spec.package),
        variables=tuple(sorted(variables(threads, device).items())),
        run_id=run_id,
        package="" if spec.module else spec.package,
    )


def variables(threads: int, device: str = "cpu") -> dict[str, str]:
    """Return all environment variables of a worker.

    Thread counts are set here because libraries read them when they are loaded.
    """
    allowed = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    gpus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if device == "gpu" else {"CUDA_VISIBLE_DEVICES": ""}
    return allowed | dict.fromkeys(_THREADS, str(threads)) | gpus


def run(
    key: Key,
    request: protocol.Request,
    timeout_s: float | None,
    listener: Listener = lambda _event, _facts: None,
    import_s: float = IMPORT_S,
) -> Outcome:
    """Run one trial on the warm host of `key`, or on a new one.

    `listener` is called for the events `started`, `progress` and `outcome`. Raises
    EnvironmentFailed where the interpreter cannot be started.
    """
    host = _take(key)
    # The kernel counts such kills but does not name the process.
    kills = machine.out_of_memory_kills()
    outcome = host.run(request, timeout_s, listener, import_s)
    if outcome.died and outcome.ready and not outcome.started:
        # A warm host may reach its idle limit at this moment. The trial has not begun, so it is
        # safe to run it on a new host.
        host.end()
        host = Host(key)
        outcome = host.run(request, timeout_s, listener, import_s)
    outcome.ran_out = machine.out_of_memory_kills() > kills
    if host.usable:
        _IDLE[key] = host
        _IDLE.move_to_end(key)
    else:
        host.end()
    bound()
    return outcome


def idle() -> list[Host]:
    """Return the idle hosts, the one that has idled longest first."""
    return list(_IDLE.values())


def bound(most: int = MOST, idle_s: float = _IDLE_S, memory_bytes: float | None = None) -> None:
    """End the longest-idle hosts until number, idle time and memory are within the limits.

    A single host may hold any amount of memory.
    """
    while _IDLE:
        oldest = next(iter(_IDLE.values()))
        overdue = time.monotonic() - oldest.idle_since >= idle_s
        if not overdue and len(_IDLE) <= most and not _exceed_memory(memory_bytes):
            return
        _IDLE.popitem(last=False)[1].end()


def remove_abandoned(run_id: str = "", patience_s: float = 0.0) -> None:
    """Remove the folders of hosts that were killed together with the process that started them.

    Ray ends its workers this way. Folders in use stay. Hosts of the run `run_id` that are still
    dying are waited for, `patience_s` at most.
    """
    deadline = time.monotonic() + patience_s
    while True:
        for log in process.abandoned(_logs()):
            shutil.rmtree(log.parent, ignore_errors=True)
        if time.monotonic() > deadline or not _logs(run_id):
            return
        time.sleep(_POLL_S)


def end_run(run_id: str) -> None:
    """End all hosts of a run on this node, whichever process started them, and their folders."""
    process.kill_those_in(log.parent for log in _logs(run_id))
    remove_abandoned(run_id, patience_s=_DIE_S)


def _logs(run_id: str | None = None) -> list[Path]:
    """Return the logs of all hosts of a run, or of all runs; each lies in its host's folder."""
    name = f"{_FOLDER}*" if run_id is None else f"{_FOLDER}{run_id}-*"
    return list(Path(tempfile.gettempdir()).glob(f"{name}/{_LOG}"))


def close_all() -> None:
    """End every host of this process."""
    while _IDLE:
        _IDLE.popitem()[1].end()


# The pool of this process, the longest-idle host first.
_IDLE: OrderedDict[Key, Host] = OrderedDict()
atexit.register(close_all)


@functools.cache
def _framework_file(name: str) -> str:
    return str(catalog.framework_or_package(name).path)


def _exceed_memory(memory_bytes: float | None) -> bool:
    """Return whether the idle hosts hold too much memory together."""
    if len(_IDLE) < 2:
        return False
    most = _MEMORY_SHARE * machine.memory_bytes() if memory_bytes is None else memory_bytes
    return sum(host.rss_bytes for host in _IDLE.values()) > most


def _take(key: Key) -> Host:
    """Return the idle host of a key if it can still be used, else a new one."""
    host = _IDLE.pop(key, None)
    if host is not None and host.usable:
        return host
    if host is not None:
        host.end()
    return Host(key)


class Host:
    """One fork server."""

    def __init__(self, key: Key) -> None:
        remove_abandoned()
        # The working folder is empty, so that nothing is imported from it by accident.
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{key.run_id}-")
        self._log = Path(self._folder.name) / _LOG
        try:
            self._child = process.Child(
                _command(key), dict(key.variables), Path(self._folder.name), self._log
            )
        except OSError as error:
            self._folder.cleanup()
            message = f"{key.python} cannot be started: {error.strerror}"
            hint = "build it again: sweep env rm, then sweep env build"
            raise EnvironmentFailed(message, hint) from None
        self.id = uuid.uuid4().hex[:16]
        self._ready: dict[str, Any] = {}
        self._broken = False
        self.rss_bytes = 0
        self.idle_since = time.monotonic()

    @property
    def usable(self) -> bool:
        return not self._broken and self._child.alive

    @property
    def pid(self) -> int:
        return self._child.pid

    def run(
        self,
        request: protocol.Request,
        timeout_s: float | None,
        listener: Listener,
        import_s: float = IMPORT_S,
    ) -> Outcome:
        """Send the request, and take the host's events until the trial has ended."""
        outcome = Outcome(self.id, ready=self._ready)
        try:
            self._listen(request, outcome, timeout_s, listener, import_s)
        except TimeoutError:
            outcome.timed_out = True
            self._stop(outcome)
        except BaseException:
            # After an interrupt the trial must not go on unseen.
            self.end()
            raise
        self._broken = self._broken or not outcome.exit
        self._ready = outcome.ready
        self.rss_bytes = self.rss_bytes or process.rss_bytes(self._child.pid)
        self.idle_since = time.monotonic()
        return outcome

    def end(self) -> None:
        """Kill the host and its trial, and remove its folder."""
        self._broken = True
        self._child.end()
        self._folder.cleanup()

    def _listen(
        self,
        request: protocol.Request,
        outcome: Outcome,
        timeout_s: float | None,
        listener: Listener,
        import_s: float,
    ) -> None:
        """Take events until the trial has ended; raise TimeoutError when its time is over.

        The import has a time limit of its own. The trial's time begins with its start.
        """
        deadline = time.monotonic() + import_s
        self._child.send(protocol.encode(request.message()), import_s)
        while not outcome.exit and not outcome.unimportable:
            event = self._event(deadline)
            if event is None:
                outcome.died = self._last_log_lines()
                return
            name = event.pop("event", None)
            if name == "started":
                deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
            if name in ("started", "progress", "outcome"):
                listener(name, event.get("facts") or event)
            outcome.take(name, event)

    def _stop(self, outcome: Outcome) -> None:
        """Stop an overdue trial and take its last events.

        A host that does not answer cannot be used again.
        """
        # Before the start of the trial, it is probably the host itself that hangs.
        grace_s = _GRACE_S if outcome.started else _GRACE_S / 10
        with contextlib.suppress(TimeoutError):
            self._child.send(protocol.encode(protocol.STOP), grace_s)
            deadline = time.monotonic() + grace_s
            while not outcome.exit and (event := self._event(deadline)) is not None:
                outcome.take(event.pop("event", None), event)
        self._broken = not outcome.exit

    def _event(self, deadline: float) -> dict[str, Any] | None:
        """Return the next event, or None when the host has closed its output.

        A line that is not an event, as a dying trial may leave, is {}.
        """
        left_s = max(0.0, deadline - time.monotonic())
        line = self._child.line(min(left_s, _LONGEST_WAIT_S))
        return None if line is None else protocol.decode(line) or {}

    def _last_log_lines(self) -> str:
        status = self._child.end()
        lines = self._log.read_text(errors="replace").strip().splitlines()[-ERROR_LINES:]
        return "\n".join([*lines, f"the fork server ended: {process.ended(status)}"])


def _command(key: Key) -> list[str]:
    """Return the command line of a host."""
    # Nothing is written into an environment that belongs to the user.
    isolation = "-I" if key.isolated else "-B"
    return [
        key.python,
        "-u",
        isolation,
        str(catalog.WORKLOADS / "__main__.py"),
        "--parent",
        str(os.getpid()),
        "--framework",
        key.framework_file,
        "--package",
        key.package,
        "--idle",
        str(_IDLE_S),
    ]
