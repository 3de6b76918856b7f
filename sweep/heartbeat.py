"""The heartbeat: a sweep writes its state into the run every few seconds, for `sweep status`.

A thread writes it, since one long trial may keep the driver waiting for hours. The state is read
from the sweep only when it is written, so that a trial costs the driver nothing more.
"""

from __future__ import annotations

import itertools
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sweep.credentials import redacted, redacted_url
from sweep.errors import SweepError, Unavailable
from sweep.records.driver import Driver, this_process
from sweep.records.layout import DRIVER_FILE
from sweep.records.storage import Storage

EVERY_S = 5.0
STORE_EVERY_S = 15.0  # object stores charge for each request
_STOP_TIMEOUT_S = 10.0  # for a write that is under way when the sweep ends
_TRIALS = 200  # running trials that are listed
_MESSAGES = 5
_LONGEST_MESSAGE = 500


class Observer(Protocol):
    """The receiver of a sweep's events; see `sweep.cli.display`."""

    def planned(self, total: int, done: int, remaining_s: float | None) -> None: ...
    def started(self, device: str) -> None: ...
    def detail(self, trial_name: str, facts: Mapping[str, Any]) -> None: ...
    def ended(self, record: Mapping[str, Any], remaining_s: float | None) -> None: ...
    def again(self) -> None: ...
    def note(self, text: str) -> None: ...


class _Node(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def resources(self) -> Mapping[str, float]: ...


class Nodes(Protocol):
    """What a heartbeat reads from a cluster, in another thread; see `sweep.cluster.Cluster`."""

    running: dict[str, str]

    @property
    def nodes(self) -> Sequence[_Node]: ...
    @property
    def refusals(self) -> list[str]: ...
    @property
    def asked_for(self) -> dict[str, int]: ...


class Heartbeat:
    """An observer that passes events on to another one and keeps `driver.json` up to date.

    The file is removed when the sweep ends well. After an error or an interrupt it stays, with the
    reason.
    """

    def __init__(self, storage: Storage, observer: Observer, every_s: float | None = None) -> None:
        self.cluster: Nodes | None = None
        self._storage, self._observer = storage, observer
        default_s = STORE_EVERY_S if storage.folder is None else EVERY_S
        self._every_s = every_s or default_s
        self._started_at = time.time()
        self._phase = ("planning", self._started_at)
        self._planned = self._ended = 0
        self._remaining_s: float | None = None
        # Replaced as a whole, since the thread reads it.
        self._messages: tuple[tuple[float, str], ...] = ()
        self._is_over = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        # A write to an object store may hang. The sweep ends in any case.
        self._thread.join(_STOP_TIMEOUT_S)
        if error is None:
            self._storage.delete(DRIVER_FILE)
        else:
            self._write(end=_reason(error))

    def phase(self, name: str) -> None:
        """Set what the sweep does from now on."""
        self._phase = (name, time.time())

    def planned(self, total: int, done: int, remaining_s: float | None) -> None:
        self._planned, self._ended, self._remaining_s = total, done, remaining_s
        self._observer.planned(total, done, remaining_s)

    def started(self, device: str) -> None:
        self._observer.started(device)

    def detail(self, trial_name: str, facts: Mapping[str, Any]) -> None:
        self._observer.detail(trial_name, facts)

    def ended(self, record: Mapping[str, Any], remaining_s: float | None) -> None:
        self._ended += 1
        self._remaining_s = remaining_s
        self._observer.ended(record, remaining_s)

    def again(self) -> None:
        self._ended -= 1
        self._observer.again()

    def note(self, text: str) -> None:
        self._messages = (*self._messages, (time.time(), text))[-_MESSAGES:]
        self._observer.note(text)

    def _beat(self) -> None:
        while not self._is_over.wait(self._every_s):
            self._write()

    def _write(self, end: str = "") -> None:
        """Write the file. A failure is reported once and does not end the sweep."""
        text = self._driver(end).text().encode("utf-8", errors="replace")
        try:
            self._storage.write(DRIVER_FILE, text, durable=False)
        except Unavailable as error:
            if not self._has_failed:
                self._observer.note(
                    f"warning: sweep status cannot follow this sweep: {error.message}"
                )
            self._has_failed = True

    def _driver(self, end: str) -> Driver:
        cluster = self.cluster
        # A copy, since the sweep goes on meanwhile.
        running = dict(cluster.running) if cluster else {}
        by_node = Counter(running.values())
        nodes = list(cluster.nodes) if cluster else []
        listed = itertools.islice(running.items(), _TRIALS)
        phase, since = self._phase
        return Driver(
            **this_process(),
            command=_command(),
            started_at=self._started_at,
            heard_at=time.time(),
            every_s=self._every_s,
            phase=phase,
            phase_since=since,
            planned=self._planned,
            ended=self._ended,
            running=len(running),
            remaining_s=self._remaining_s,
            trials=[{"trial": name, "node": node} for name, node in listed],
            nodes=[
                {"name": n.name, "resources": dict(n.resources), "running": by_node[n.name]}
                for n in nodes
            ],
            refused_nodes=[redacted(reason) for reason in cluster.refusals] if cluster else [],
            asked_for=cluster.asked_for if cluster else {},
            messages=[
                {"at": at, "text": redacted(text[:_LONGEST_MESSAGE])} for at, text in self._messages
            ],
            end=end,
        )


def _command() -> str:
    """Return the command line of this process, without credentials."""
    name = Path(sys.argv[0]).name
    words = ["sweep" if name == "__main__.py" else name, *sys.argv[1:]]
    return shlex.join(redacted_url(redacted(word)) for word in words)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = error.message if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
    return redacted(text[:_LONGEST_MESSAGE])
