"""Hosts: the fork servers of this process, kept warm between trials, few at a time."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep import machine, process
from workloads.runtime import protocol

_WORKLOADS = Path(__file__).resolve().parent.parent / "workloads"
_IMPORT_S = 300.0  # a framework that takes longer to import hangs
_GRACE_S = 10.0  # for a host to say how a trial ended that was told to stop
_MOST, _MEMORY_SHARE, _IDLE_S = 8, 0.25, 600.0
_THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)
# of the user's variables only these reach a trial; tokens and tuning that nobody recorded do not
_ALLOWED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES"),
)

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Key:
    """What a host is for; trials with equal keys share one."""

    python: str
    isolated: bool
    framework_file: str
    variables: tuple[tuple[str, str], ...]


@dataclass
class Outcome:
    """All that a host said of one trial. `timed_out` and `died` are ours to say: no exit was heard."""

    ready: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    exit: dict[str, Any] = field(default_factory=dict)
    unimportable: str = ""
    timed_out: bool = False
    died: str = ""


def variables(threads: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a worker: built from nothing, threads set before any library is loaded."""
    allowed = {name: os.environ[name] for name in _ALLOWED if name in os.environ}
    return allowed | dict.fromkeys(_THREADS, str(threads)) | dict(extra or {})


def run(key: Key, request: protocol.Request, timeout_s: float | None, progress: Progress | None = None) -> Outcome:
    """Run one trial on the warm host of `key`, or on a new one; a host that died while idle is replaced."""
    host = _taken(key)
    outcome = host.run(request, timeout_s, progress)
    if host.usable:
        _IDLE[key] = host
        _IDLE.move_to_end(key)
    else:
        host.end()
    _bound()
    return outcome


def close_all() -> None:
    """End every host of this process."""
    while _IDLE:
        _IDLE.popitem()[1].end()


_IDLE: OrderedDict[Key, Host] = OrderedDict()
atexit.register(close_all)


def _taken(key: Key) -> Host:
    host = _IDLE.pop(key, None)
    if host is not None and host.usable:
        return host
    if host is not None:
        host.end()
    return Host(key)


def _bound() -> None:
    """End the hosts that have idled longest: beyond a number, a share of memory, a time."""
    now, most_bytes = time.monotonic(), _MEMORY_SHARE * machine.memory_bytes()
    while _IDLE:
        oldest = next(iter(_IDLE.values()))
        crowded = len(_IDLE) > _MOST or (len(_IDLE) > 1 and sum(h.rss_bytes for h in _IDLE.values()) > most_bytes)
        if not crowded and now - oldest.idle_since < _IDLE_S:
            return
        _IDLE.popitem(last=False)[1].end()


class Host:
    """One fork server; see `workloads/runtime/host.py` for its side."""

    def __init__(self, key: Key) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sweep-host-")  # empty: nothing to be imported by accident
        self._log = Path(self._folder.name) / "host.log"
        flags = ["-B", *(["-I"] if key.isolated else [])]
        self._child = process.Child(
            [key.python, *flags, str(_WORKLOADS / "__main__.py"), "--parent", str(os.getpid()),
             "--framework", key.framework_file],
            env=dict(key.variables), cwd=Path(self._folder.name), log=self._log,
        )  # fmt: skip
        self._ready: dict[str, Any] = {}
        self._broken = False
        self.rss_bytes = 0
        self.idle_since = time.monotonic()

    @property
    def usable(self) -> bool:
        return not self._broken and self._child.alive

    def run(self, request: protocol.Request, timeout_s: float | None, progress: Progress | None) -> Outcome:
        """Send the request and listen until its trial has ended, in whatever way."""
        outcome = Outcome(ready=self._ready)
        try:
            self._listen(request, outcome, timeout_s, progress)
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
        self, request: protocol.Request, outcome: Outcome, timeout_s: float | None, progress: Progress | None
    ) -> None:
        """Importing has a time of its own; the trial's counts from when it has started."""
        deadline = time.monotonic() + _IMPORT_S
        self._child.send(protocol.encode(request.message()), _IMPORT_S)
        while not outcome.exit and not outcome.unimportable:
            event = self._event(deadline)
            if event is None:
                outcome.died = self._last_words()
                return
            if event.get("event") == "started":
                deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
            elif event.get("event") == "progress" and progress:
                progress(event.get("facts") or {})
            else:
                _note(outcome, event)

    def _stop(self, outcome: Outcome) -> None:
        """End a trial that is overdue, and hear its last words; a host that does not answer ends with it."""
        with contextlib.suppress(TimeoutError):
            self._child.send(protocol.encode(protocol.STOP), _GRACE_S)
            deadline = time.monotonic() + _GRACE_S
            while not outcome.exit and (event := self._event(deadline)) is not None:
                _note(outcome, event)
        self._broken = not outcome.exit

    def _event(self, deadline: float) -> dict[str, Any] | None:
        """The next event; None at the end of all of them. Lines that are none, as a dying trial leaves, are {}."""
        line = self._child.line(min(max(0.0, deadline - time.monotonic()), 1e6))
        return None if line is None else protocol.decode(line) or {}

    def _last_words(self) -> str:
        status = self._child.end()
        said = self._log.read_text(errors="replace").strip().splitlines()[-20:]
        return "\n".join([*said, f"the fork server ended: {process.ended(status)}"])


def _note(outcome: Outcome, event: dict[str, Any]) -> None:
    name = event.pop("event", None)
    if name == "ready":
        outcome.ready = event
    elif name == "outcome":
        outcome.outcome = event
    elif name == "exit":
        outcome.exit = event
    elif name == "unimportable":
        outcome.unimportable = str(event.get("error"))
