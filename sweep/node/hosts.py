"""Hosts: the fork servers of this process, kept warm between trials, few at a time."""

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep import catalog, process
from sweep.environments import Environment, EnvironmentFailed, Specification
from sweep.node import machine
from sweep.status import Status
from workloads.runtime import protocol

IMPORT_S = 300.0  # a framework that takes longer to import hangs
MOST = 8  # hosts that idle at once

_FOLDER, _LOG = "sweep-host-", "host.log"
_DIE_S = 2.0  # for a killed host to be gone
_GRACE_S = 10.0  # for a host to say how a trial ended that was told to stop
_MEMORY_SHARE = 0.25  # of the machine's, that idle hosts may hold together
_IDLE_S = 600.0
_ERROR_LINES = 20
_THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)
# of the user's variables only these reach a trial; tokens and tuning that nobody recorded do not
ALLOWED = (
    *(
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "USER",
        "LD_LIBRARY_PATH",
        "OPENBLAS_CORETYPE",
    ),
    *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES"),
)

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Key:
    """What a host is for; trials with equal keys share one."""

    python: str
    isolated: bool
    framework_file: str
    variables: tuple[tuple[str, str], ...]
    run_id: str = ""


@dataclass
class Outcome:
    """All that a host said of one trial. `timed_out` and `died` are ours to say: no exit was heard.

    `fork_server` is the host's own id: that of the process which imported the framework for trials that are forked.
    """

    fork_server: str = ""
    ready: dict[str, Any] = field(default_factory=dict)
    started: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    exit: dict[str, Any] = field(default_factory=dict)
    unimportable: str = ""
    timed_out: bool = False
    died: str = ""
    ran_out: bool = (
        False  # the kernel killed a process of this machine for want of memory meanwhile
    )

    @property
    def columns(self) -> dict[str, Any]:
        """What the trial found."""
        return dict(self.outcome.get("columns") or {})

    @property
    def host_id(self) -> str:
        """The process that imported the framework: the host, or a spawned trial's own; empty where none has."""
        if self.started.get("spawned"):
            return f"{self.fork_server}-{self.started['pid']}"
        return self.fork_server if self.ready else ""

    @property
    def import_s(self) -> float | None:
        """How long that process took to import it; a spawned trial's own word counts, whatever its host did before."""
        told = self.started if self.started.get("spawned") else self.ready
        return told.get("import_s")

    @property
    def log(self) -> str:
        return str(self.exit.get("log", ""))

    @property
    def cpu_s(self) -> float:
        """CPU time of the trial since it has started, of all its processes."""
        spent = sum(self.exit.get(name) or 0.0 for name in ("user_s", "system_s", "left_behind_s"))
        return max(0.0, spent - (self.started.get("cpu_s") or 0.0))

    def verdict(self, timeout_s: float | None) -> tuple[str, str]:
        """Status and error of the trial."""
        if self.unimportable:
            return Status.ENV_FAILED, self.unimportable
        if self.timed_out and not self.outcome:
            return self._overdue(timeout_s)
        if self.died:
            return (Status.OOM if self.ran_out else Status.CRASHED), self.died
        if self.outcome:
            return str(self.outcome["status"]), str(self.outcome.get("error", ""))
        return self._ended_without_a_word()

    def _overdue(self, timeout_s: float | None) -> tuple[str, str]:
        if self.started:
            return Status.TIMEOUT, self._after_log(
                f"killed after the {timeout_s:g} s that it was given"
            )
        if self.ready:
            return Status.CRASHED, self._after_log("the fork server does not answer")
        return Status.ENV_FAILED, self._after_log("the framework's import hangs")

    def _ended_without_a_word(self) -> tuple[str, str]:
        returncode = self.exit.get("returncode", 0)
        how = self._after_log(
            f"worker {'ended with ' if returncode >= 0 else ''}{process.ended(returncode)}"
        )
        if self.ran_out and returncode == -9:
            return Status.OOM, f"{how}: the machine ran out of memory"
        return (Status.OOM if protocol.tells_of_memory(self.log) else Status.CRASHED), how

    def _after_log(self, said: str) -> str:
        return "\n".join([*self.log.strip().splitlines()[-_ERROR_LINES:], said])


def key(
    environment: Environment,
    spec: Specification,
    threads: int,
    device: str = "cpu",
    run_id: str = "",
) -> Key:
    """The host that a trial in this environment is run by."""
    file = _framework_file(spec.framework.partition("==")[0])
    told = tuple(sorted(variables(threads, device).items()))
    return Key(str(environment.python), not spec.interpreter, file, told, run_id)


def variables(threads: int, device: str = "cpu") -> dict[str, str]:
    """The whole environment of a worker: built from nothing, threads set before any library is loaded."""
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
    """Run one trial on the warm host of `key`, or on a new one; a host that died while idle is replaced.

    `listener` hears the events `started`, `progress` and `outcome` as they come. Raises EnvironmentFailed where there
    is no such interpreter.
    """
    host = _taken(key)
    kills = machine.out_of_memory_kills()
    outcome = host.run(request, timeout_s, listener, import_s)
    if outcome.died and outcome.ready and not outcome.started:  # it ended just as it was asked
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
    """The hosts that are kept warm, the one that has idled longest first."""
    return list(_IDLE.values())


def bound(most: int = MOST, idle_s: float = _IDLE_S, memory_bytes: float | None = None) -> None:
    """End the hosts that have idled longest: beyond a number, a time, a share of memory; one alone may hold any."""
    while _IDLE:
        oldest = next(iter(_IDLE.values()))
        overdue = time.monotonic() - oldest.idle_since >= idle_s
        if not overdue and len(_IDLE) <= most and not _crowded(memory_bytes):
            return
        _IDLE.popitem(last=False)[1].end()


def remove_abandoned(run_id: str = "", patience_s: float = 0.0) -> None:
    """Remove the folders of hosts that were killed together with who had started them, as Ray ends its workers.

    Those that others use stay; `patience_s` is given to hosts of this run that are just dying.
    """
    deadline = time.monotonic() + patience_s
    while True:
        for log in process.abandoned(_logs()):
            shutil.rmtree(log.parent, ignore_errors=True)
        if time.monotonic() > deadline or not _logs(run_id):
            return
        time.sleep(0.05)


def end_run(run_id: str) -> None:
    """End the hosts of a run in whatever process of this node, and remove their folders: it is over."""
    process.kill_those_in(log.parent for log in _logs(run_id))
    remove_abandoned(run_id, patience_s=_DIE_S)


def _logs(run_id: str | None = None) -> list[Path]:
    """Of the hosts of a run, or of all, whoever started them; each in its host's folder."""
    name = f"{_FOLDER}*" if run_id is None else f"{_FOLDER}{run_id}-*"
    return list(Path(tempfile.gettempdir()).glob(f"{name}/{_LOG}"))


def close_all() -> None:
    """End every host of this process."""
    while _IDLE:
        _IDLE.popitem()[1].end()


_IDLE: OrderedDict[Key, Host] = OrderedDict()
atexit.register(close_all)


@functools.cache
def _framework_file(name: str) -> str:
    return str(catalog.known(name).path)


def _crowded(memory_bytes: float | None) -> bool:
    if len(_IDLE) < 2:
        return False
    most = _MEMORY_SHARE * machine.memory_bytes() if memory_bytes is None else memory_bytes
    return sum(host.rss_bytes for host in _IDLE.values()) > most


def _taken(key: Key) -> Host:
    host = _IDLE.pop(key, None)
    if host is not None and host.usable:
        return host
    if host is not None:
        host.end()
    return Host(key)


class Host:
    """One fork server; see `workloads/runtime/host.py` for its side."""

    def __init__(self, key: Key) -> None:
        remove_abandoned()
        # empty: nothing to be imported by accident
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{key.run_id}-")
        self._log = Path(self._folder.name) / _LOG
        flags = [
            "-u",
            "-I" if key.isolated else "-B",
        ]  # nothing is written into an environment of the user's own
        launcher = [key.python, *flags, str(catalog.WORKLOADS / "__main__.py")]
        arguments = [
            "--parent",
            str(os.getpid()),
            "--framework",
            key.framework_file,
            "--idle",
            str(_IDLE_S),
        ]
        try:
            self._child = process.Child(
                [*launcher, *arguments], dict(key.variables), Path(self._folder.name), self._log
            )
        except OSError as error:
            self._folder.cleanup()
            hint = "build it again: sweep env rm, then sweep env build"
            raise EnvironmentFailed(
                f"{key.python} cannot be started: {error.strerror}", hint
            ) from None
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
        """Send the request and listen until its trial has ended, in whatever way."""
        outcome = Outcome(self.id, ready=self._ready)
        try:
            self._listen(request, outcome, timeout_s, listener, import_s)
        except TimeoutError:
            outcome.timed_out = True
            self._stop(outcome)
        except BaseException:  # an interrupt: the trial must not go on behind the user's back
            self.end()
            raise
        self._broken = self._broken or not outcome.exit
        self._ready = outcome.ready
        self.rss_bytes = self.rss_bytes or process.rss_bytes(self._child.pid)
        self.idle_since = time.monotonic()
        return outcome

    def end(self) -> None:
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
        """Importing has a time of its own; the trial's counts from when it has started."""
        deadline = time.monotonic() + import_s
        self._child.send(protocol.encode(request.message()), import_s)
        while not outcome.exit and not outcome.unimportable:
            event = self._event(deadline)
            if event is None:
                outcome.died = self._last_words()
                return
            name = event.pop("event", None)
            if name == "started":
                deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
            if name in ("started", "progress", "outcome"):
                listener(name, event.get("facts") or event)
            _note(outcome, name, event)

    def _stop(self, outcome: Outcome) -> None:
        """End a trial that is overdue, and hear its last words; a host that does not answer ends with it."""
        grace_s = (
            _GRACE_S if outcome.started else _GRACE_S / 10
        )  # it may be the host itself that hangs
        with contextlib.suppress(TimeoutError):
            self._child.send(protocol.encode(protocol.STOP), grace_s)
            deadline = time.monotonic() + grace_s
            while not outcome.exit and (event := self._event(deadline)) is not None:
                _note(outcome, event.pop("event", None), event)
        self._broken = not outcome.exit

    def _event(self, deadline: float) -> dict[str, Any] | None:
        """The next event; None at the end of all of them. Lines that are none, as a dying trial leaves, are {}."""
        line = self._child.line(min(max(0.0, deadline - time.monotonic()), 1e6))
        return None if line is None else protocol.decode(line) or {}

    def _last_words(self) -> str:
        status = self._child.end()
        said = self._log.read_text(errors="replace").strip().splitlines()[-_ERROR_LINES:]
        return "\n".join([*said, f"the fork server ended: {process.ended(status)}"])


def _note(outcome: Outcome, name: Any, event: dict[str, Any]) -> None:
    if name in ("ready", "started", "outcome", "exit"):
        setattr(outcome, name, event)
    elif name == "unimportable":
        outcome.unimportable = str(event.get("error"))
