"""One pass of `map`: trials placed, started, watched, moved where their node dies, and their records handed over.

What has ended at one moment is handed over together. Where no trial wants a node to itself, the next ones are started
before: then nodes compute while records are written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sweep.cluster.placement import Node, Placement, Shape, Waiting
from sweep.errors import Unavailable
from sweep.status import Status

Record = dict[str, Any]
Tell = Callable[[Any, dict[str, Any] | None], None]

WINDOW = 2048  # trials that wait at once: enough to choose from, however many there are


class Nodes(Protocol):
    """What a pass needs of the cluster."""

    attempts: int
    changes: int
    running: dict[str, str]

    @property
    def wait_s(self) -> float: ...
    @property
    def session(self) -> Any: ...
    @property
    def nodes(self) -> list[Node]: ...
    @property
    def expecting(self) -> bool: ...
    @property
    def refusals(self) -> list[str]: ...
    def wait(self, refs: list[Any]) -> list[Any]: ...
    def doubt(self, node: Node) -> None: ...
    def want(self, shapes: Callable[[], Iterable[Shape]]) -> None: ...


@dataclass
class _Flight:
    """A trial under way; `since` is when it started, None while it has not."""

    waiting: Waiting
    node: Node
    since: float | None = None


class Pass:
    """`groups()` yields one record for each trial, with the node's name in it, in the order in which they end."""

    def __init__(
        self,
        cluster: Nodes,
        function: Callable[..., Record],
        trials: Iterable[Any],
        limit_s: float | None,
        failure: Callable[[Any, str, str], Record],
        pair: Callable[[Any], Hashable],
        tell: Tell | None,
    ) -> None:
        self._cluster, self._session, self._ray = cluster, cluster.session, cluster.session.ray
        self._trials, self._limit_s, self._failure, self._pair = enumerate(trials), limit_s, failure, pair
        self._tell = tell or _unheard
        kind = _alone if self._session.is_client else _announced
        seat = _Seat(self._session.cores, os.getpriority(os.PRIO_PROCESS, 0))
        run = kind(function, seat, tell is not None)
        self._task = self._ray.remote(max_retries=0)(run)
        self._placement = Placement()
        self._flights: dict[Any, _Flight] = {}
        self._failed: dict[int, int] = {}  # order -> how often its node or Ray worker has died
        self._exhausted = False
        self._exclusive = False  # whether any trial so far wants its node to itself
        self._stuck_since: float | None = None
        self._changes = -1
        self._count_nodes()

    def groups(self) -> Iterator[list[Record]]:
        try:
            while self._go_on():
                ended = [record for ref in self._cluster.wait(list(self._flights)) for record in self._landed(ref)]
                if self._changes != self._cluster.changes:
                    self._count_nodes()
                    ended += self._lost_and_overdue()
                if ended:
                    if not self._exclusive:
                        self._start_all()
                    yield ended
        finally:
            self._cancel()

    def _start_all(self) -> None:
        """Start what can start."""
        self._refill()
        while placed := self._placement.next():
            self._start(*placed)

    def _go_on(self) -> bool:
        """Start what can start; false once nothing is left."""
        self._start_all()
        if self._flights or (self._cluster.expecting and not self._done()):
            self._stuck_since = None
            return True
        if self._done():
            return False
        return self._wait_for_nodes()

    def _done(self) -> bool:
        return not (self._flights or self._placement.stranded or len(self._placement))

    def _refill(self) -> None:
        while not self._exhausted and len(self._placement) < WINDOW:
            order, trial = next(self._trials, (0, None))
            if trial is None:
                self._exhausted = True
            else:
                shape = Shape.of(trial.resources)
                self._exclusive = self._exclusive or shape.exclusive
                self._placement.put(Waiting(order, shape, self._pair(trial), trial))

    def _start(self, waiting: Waiting, node: Node) -> None:
        amounts = dict(waiting.shape.amounts)
        cpu, gpu, memory = amounts.pop("CPU", 0.0), amounts.pop("GPU", 0.0), amounts.pop("memory", 0.0)
        if waiting.shape.exclusive:  # all of its cores: Ray then keeps other people off it, too
            cpu = node.resources.get("CPU", 0.0)
        task = self._session.at(
            self._task, node, num_cpus=cpu, num_gpus=gpu, memory=int(memory) or None, resources=amounts or None
        )
        flight = self._flights[task.remote(waiting.trial)] = _Flight(waiting, node)
        if self._session.is_client:
            self._started(flight)

    def _started(self, flight: _Flight) -> None:
        flight.since = time.monotonic()
        self._cluster.running[flight.waiting.trial.name] = flight.node.name
        self._tell(flight.waiting.trial, None)

    def _landed(self, ref: Any) -> Iterator[Record]:
        """What has come from a flight: that it has started, how far it is, its record, or how it failed."""
        flight = self._flights[ref]
        try:
            kind, said = self._ray.get(ref if self._session.is_client else next(ref))
        except self._ray.exceptions.RayTaskError as error:
            kind, said = _RECORD, self._failure(flight.waiting.trial, Status.FAILED, str(error))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            self._cluster.doubt(flight.node)
            yield from self._again(ref, _cause(error, flight.node))
            return
        if kind == _STARTED:
            self._started(flight)
        elif kind == _PROGRESS:
            self._tell(flight.waiting.trial, said)
        else:
            self._forget(ref)
            yield said | {"node": flight.node.name}

    def _lost_and_overdue(self) -> Iterator[Record]:
        """Flights whose node has gone, or that have taken longer than they may: Ray may never say so."""
        ready = {node.id for node in self._cluster.nodes}
        now = time.monotonic()
        for ref, flight in list(self._flights.items()):
            if flight.node.id not in ready:
                yield from self._again(ref, f"node {flight.node.name} died")
            elif self._limit_s and flight.since and now - flight.since > self._limit_s:
                yield from self._again(ref, f"no answer from node {flight.node.name} for {self._limit_s:.0f} s")

    def _again(self, ref: Any, cause: str) -> Iterator[Record]:
        """Place a trial once more, away from where it failed, or give it up; what it may still send is not heard."""
        flight = self._forget(ref)
        self._ray.cancel(ref, force=True)
        waiting = flight.waiting
        count = self._failed[waiting.order] = self._failed.get(waiting.order, 0) + 1
        if count >= self._cluster.attempts:
            times = f", {count} times" if count > 1 else ""
            record = self._failure(waiting.trial, Status.CRASHED, f"{cause}{times}")
            yield record | {"node": flight.node.name}
        else:
            self._placement.put(waiting._replace(trial=_next_attempt(waiting.trial)), avoid=flight.node.id)

    def _forget(self, ref: Any) -> _Flight:
        flight = self._flights.pop(ref)
        self._cluster.running.pop(flight.waiting.trial.name, None)
        self._placement.release(flight.waiting, flight.node.id)
        return flight

    def _count_nodes(self) -> None:
        self._changes = self._cluster.changes
        ready = {node.id: node for node in self._cluster.nodes}
        known = {node.id for node in self._placement.nodes}
        for gone in known - ready.keys():
            self._placement.remove(gone)
        for come in ready.keys() - known:
            self._placement.add(ready[come])
        self._cluster.want(self._shapes)

    def _shapes(self) -> list[Shape]:
        """What should run at once, for an autoscaler."""
        waiting = [each.shape for each in self._placement.waiting(limit=WINDOW)]
        return [flight.waiting.shape for flight in self._flights.values()] + waiting

    def _wait_for_nodes(self) -> bool:
        """Trials are left that no node here can hold: wait for one as long as that makes sense."""
        left = len(self._placement.stranded) + len(self._placement)
        self._stuck_since = self._stuck_since or time.monotonic()
        if time.monotonic() - self._stuck_since < self._cluster.wait_s:
            return True
        first = self._placement.waiting(limit=1)[0].trial
        left_over = f"{left} trial{'s are' if left > 1 else ' is'} left that no node can hold any more"
        raise Unavailable(
            "; ".join([f"{left_over}, first {first.name}", *self._cluster.refusals]),
            "the records so far are safe: run the same command again when such a node is up",
        )

    def _cancel(self) -> None:
        """End what still runs; a cluster that is ours ends with it, on another's we wait a moment for it."""
        flights, self._flights = list(self._flights), {}
        self._cluster.running.clear()
        if self._session.lost or not flights:
            return
        for ref in flights:
            self._ray.cancel(ref, force=True)
        self._ray.wait(flights, num_returns=len(flights), timeout=3.0)


_STARTED, _PROGRESS, _RECORD = "started", "progress", "record"


@dataclass(frozen=True)
class _Seat:
    """Where trials run within a Ray worker: on which of the node's cores, and as nice as the driver."""

    cores: set[int] | None
    niceness: int

    def take(self) -> None:
        """Leave the daemons' core, compete as the driver does, and see the GPUs that Ray has assigned and no others."""
        import ray

        if self.cores:
            os.sched_setaffinity(0, self.cores)
        with contextlib.suppress(PermissionError):  # the record says how nice it stayed
            os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in ray.get_gpu_ids())


def _announced(function: Callable[..., Record], seat: _Seat, tells: bool) -> Callable[[Any], Iterator[Any]]:
    """A task that says that it has started, how far it is, and what it found: its waiting must not count as running."""

    def run(trial: Any) -> Iterator[Any]:
        seat.take()
        yield _STARTED, None
        if tells:
            yield from _told(function, trial)
        else:
            yield _RECORD, function(trial)

    return run


def _told(function: Callable[..., Record], trial: Any) -> Iterator[Any]:
    """What a trial says of itself while it runs in a thread beside, and its record."""
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            said.put((_RECORD, function(trial, lambda facts: said.put((_PROGRESS, dict(facts))))))
        except BaseException as error:  # noqa: BLE001  raised again where the task is heard
            said.put(("error", error))

    threading.Thread(target=work, daemon=True).start()
    while True:
        kind, value = said.get()
        if kind == "error":
            raise value
        yield kind, value
        if kind == _RECORD:
            return


def _alone(function: Callable[..., Record], seat: _Seat, tells: bool) -> Callable[[Any], Any]:
    """The same through `ray://`, which cannot carry two answers."""

    def run(trial: Any) -> Any:
        seat.take()
        return _RECORD, function(trial, _unheard) if tells else function(trial)

    return run


def _unheard(*_: Any) -> None:
    """Where nobody asked how far trials are."""


def _next_attempt(trial: Any) -> Any:
    attempt = getattr(trial, "attempt", None)
    return trial if attempt is None else dataclasses.replace(trial, attempt=attempt + 1)


def _cause(error: Exception, node: Node) -> str:
    """Ray's exceptions in the words of a record."""
    name = type(error).__name__
    known = {
        "WorkerCrashedError": f"the Ray worker on node {node.name} was killed",
        "OutOfMemoryError": f"the Ray worker on node {node.name} was killed for want of memory",
        "NodeDiedError": f"node {node.name} died",
        "TaskUnschedulableError": f"node {node.name} died",
        "LocalRayletDiedError": f"node {node.name} died",
        "StopIteration": f"the Ray worker on node {node.name} ended without an answer",
        "TaskCancelledError": f"the trial was cancelled on node {node.name}",
    }
    return known.get(name) or f"{name} on node {node.name}: {str(error).strip().splitlines()[0] if str(error) else ''}"
