"""The heartbeat: a sweep tells in its run, every few seconds, how it stands, for `sweep status` from anywhere.

A thread writes it, since one long trial may keep the driver waiting for hours. It looks at the sweep only when it
writes: per trial this costs the driver nothing that grows.
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
EVERY_S_OF_A_STORE = 15.0  # each request is paid for
_STOP_S = 10.0  # how long a write that is under way may take when the sweep ends
_TRIALS = 200  # running ones that are named
_MESSAGES = 5
_LONGEST_MESSAGE = 500


class Observer(Protocol):
    """Who watches a sweep; see `sweep.cli.display`."""

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
    """What a heartbeat asks of a cluster, from a thread of its own; see `sweep.cluster.Cluster`."""

    running: dict[str, str]

    @property
    def nodes(self) -> Sequence[_Node]: ...
    @property
    def refusals(self) -> list[str]: ...
    @property
    def asked_for(self) -> dict[str, int]: ...


class Heartbeat:
    """An observer that passes on to another what it hears, and keeps `driver.json` in the run up to date meanwhile.

    The file goes when the sweep ends well. It stays, with the reason, when the sweep ends by an error or an interrupt.
    """

    def __init__(self, place: Storage, observer: Observer, every_s: float | None = None) -> None:
        self.cluster: Nodes | None = None
        self._place, self._observer = place, observer
        self._every_s = every_s or (EVERY_S_OF_A_STORE if place.folder is None else EVERY_S)
        self._started_at = time.time()
        self._phase = ("planning", self._started_at)
        self._planned = self._ended = 0
        self._remaining_s: float | None = None
        self._messages: tuple[
            tuple[float, str], ...
        ] = ()  # replaced as a whole: the thread reads it
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
        self._thread.join(_STOP_S)
        if error is None:
            self._place.delete(DRIVER_FILE)
        else:
            self._write(end=_reason(error))

    def phase(self, name: str) -> None:
        """What the sweep does from now on."""
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
        """Nothing raised here ends a sweep: its records are what matters."""
        try:
            self._place.write(
                DRIVER_FILE,
                self._driver(end).text().encode("utf-8", errors="replace"),
                durable=False,
            )
        except Unavailable as error:
            if not self._has_failed:
                self._observer.note(
                    f"warning: sweep status cannot follow this sweep: {error.message}"
                )
            self._has_failed = True

    def _driver(self, end: str) -> Driver:
        cluster = self.cluster
        running = (
            dict(cluster.running) if cluster else {}
        )  # copied at once: the sweep goes on meanwhile
        by_node = Counter(running.values())
        nodes = list(cluster.nodes) if cluster else []
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
            trials=[
                {"trial": name, "node": node}
                for name, node in itertools.islice(running.items(), _TRIALS)
            ],
            nodes=[
                {"name": n.name, "resources": dict(n.resources), "running": by_node[n.name]}
                for n in nodes
            ],
            refused_nodes=[redacted(each) for each in cluster.refusals] if cluster else [],
            asked_for=cluster.asked_for if cluster else {},
            messages=[
                {"at": at, "text": redacted(text[:_LONGEST_MESSAGE])} for at, text in self._messages
            ],
            end=end,
        )


def _command() -> str:
    """This command as it was called, without credentials."""
    name = Path(sys.argv[0]).name
    words = ["sweep" if name == "__main__.py" else name, *sys.argv[1:]]
    return shlex.join(redacted_url(redacted(word)) for word in words)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = error.message if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
    return redacted(text[:_LONGEST_MESSAGE])
