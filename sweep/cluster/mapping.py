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
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sweep.cluster.placement import Node, Placement, Shape, Waiting
from sweep.errors import Unavailable
from sweep.status import Status

Record = dict[str, Any]
Tell = Callable[[Any, dict[str, Any] | None], None]

WINDOW = 2048  # trials that wait at once: enough to choose from, however many there are
UNBEGUN_MOST = 10  # how often a trial may fail to begin on nodes that begin others


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
    def has_gone(self, node: Node) -> bool: ...
    def is_spared(self, shape: Shape) -> bool: ...
    def wait(self, refs: list[Any]) -> list[Any]: ...
    def probe(self, node: Node) -> None: ...
    def began(self, node: Node) -> None: ...
    def could_not_begin(self, node: Node, why: str) -> bool: ...
    def want(self, shapes: Callable[[], Iterable[Shape]]) -> None: ...
    def stuck(self, trials: int) -> None: ...


@dataclass
class _InFlight:
    """A trial under way; `since` is when it started, None while it has not."""

    waiting: Waiting
    node: Node
    since: float | None = None


class MapExecution:
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
        self._trials, self._limit_s, self._failure, self._pair = (
            enumerate(trials),
            limit_s,
            failure,
            pair,
        )
        self._tell = tell or _unheard
        kind = _alone if self._session.is_client else _announced
        seat = _Seat(self._session.cores, os.getpriority(os.PRIO_PROCESS, 0))
        run = kind(function, seat, tell is not None)
        self._task = self._ray.remote(max_retries=0)(run)
        self._placement = Placement(spared=cluster.is_spared)
        self._flights: dict[Any, _InFlight] = {}
        self._failed: dict[int, int] = {}  # order -> how often its node or Ray worker has died
        self._unbegun: dict[
            int, int
        ] = {}  # order -> how often it could not begin on a node that is still used
        self._exhausted = False
        self._exclusive = False  # whether any trial so far wants its node to itself
        self._stuck_since: float | None = None
        self._changes = self._wanted_at = -1
        self._count_nodes()

    def groups(self) -> Iterator[list[Record]]:
        try:
            while self._go_on():
                ended = [
                    record
                    for ref in self._cluster.wait(list(self._flights))
                    for record in self._landed(ref)
                ]
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
        self._want()
        if self._flights or (self._cluster.expecting and not self._done()):
            self._stuck_since = None
            return True
        if self._done():
            return False
        return self._wait_for_nodes()

    def _done(self) -> bool:
        return not (self._flights or self._placement.infeasible or len(self._placement))

    def _refill(self) -> None:
        while not self._exhausted and self._has_room():
            order, trial = next(self._trials, (0, None))
            if trial is None:
                self._exhausted = True
            else:
                shape = Shape.of(trial.resources)
                self._exclusive = self._exclusive or shape.exclusive
                self._placement.put(Waiting(order, shape, self._pair(trial), trial))

    def _has_room(self) -> bool:
        """Trials that no node here can hold must not keep others from being taken, but for where there is no node."""
        passed_over = 0 if self._placement.nodes else self._placement.infeasible
        return len(self._placement) + passed_over < WINDOW

    def _start(self, waiting: Waiting, node: Node) -> None:
        amounts = dict(waiting.shape.amounts)
        cpu, gpu, memory = (
            amounts.pop("CPU", 0.0),
            amounts.pop("GPU", 0.0),
            amounts.pop("memory", 0.0),
        )
        if waiting.shape.exclusive:  # all of its cores: Ray then keeps other people off it, too
            cpu = node.resources.get("CPU", 0.0)
        task = self._session.at(
            self._task,
            node,
            num_cpus=cpu,
            num_gpus=gpu,
            memory=int(memory) or None,
            resources=amounts or None,
        )
        flight = self._flights[task.remote(waiting.trial)] = _InFlight(waiting, node)
        if self._session.is_client:
            self._started(flight)

    def _started(self, flight: _InFlight) -> None:
        flight.since = time.monotonic()
        self._cluster.running[flight.waiting.trial.name] = flight.node.name
        self._cluster.began(flight.node)
        self._tell(flight.waiting.trial, None)

    def _landed(self, ref: Any) -> Iterator[Record]:
        """What has come from a flight: that it has started, how far it is, its record, or how it failed."""
        flight = self._flights[ref]
        try:
            kind, said = self._ray.get(ref if self._session.is_client else next(ref))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            yield from self._broken_off(ref, error)
            return
        if kind == _STARTED:
            self._started(flight)
        elif kind == _PROGRESS:
            self._tell(flight.waiting.trial, said)
        elif kind == _RAISED:
            yield from self._ended(ref, self._failure(flight.waiting.trial, Status.FAILED, said))
        else:
            yield from self._ended(ref, said)

    def _ended(self, ref: Any, record: Record) -> Iterator[Record]:
        flight = self._forget(ref)
        yield record | {"node": flight.node.name}

    def _broken_off(self, ref: Any, error: Exception) -> Iterator[Record]:
        """Ray has an error instead of an answer.

        Where a Ray worker was killed before anything was heard of it, the trial itself may have done that.
        """
        flight = self._flights[ref]
        raised = isinstance(error, self._ray.exceptions.RayTaskError)
        if (flight.since is None or self._session.is_client) and (
            raised or type(error).__name__ in _NOT_BEGUN
        ):
            yield from self._not_begun(ref, error)
        elif raised:
            yield from self._ended(
                ref, self._failure(flight.waiting.trial, Status.FAILED, str(error))
            )
        else:
            self._cluster.probe(flight.node)
            yield from self._again(ref, _cause(error, flight.node))

    def _not_begun(self, ref: Any, error: Exception) -> Iterator[Record]:
        """A node could not begin a trial: that is the node's failure and not the trial's, which is placed elsewhere.

        Only a trial that many nodes cannot begin which begin others is given up.
        """
        flight = self._forget(ref)
        waiting, why = flight.waiting, last_line(error)
        self._cluster.probe(flight.node)
        if self._cluster.could_not_begin(flight.node, why):
            count = self._unbegun[waiting.order] = self._unbegun.get(waiting.order, 0) + 1
            if count >= UNBEGUN_MOST:
                record = self._failure(
                    waiting.trial, Status.FAILED, f"it could not begin, {count} times: {why}"
                )
                yield record | {"node": flight.node.name}
                return
        self._placement.put(waiting, avoid=flight.node.id)

    def _lost_and_overdue(self) -> Iterator[Record]:
        """Flights whose node has gone, or that have taken longer than they may: Ray may never say so."""
        now = time.monotonic()
        for ref, flight in list(self._flights.items()):
            if self._cluster.has_gone(flight.node):
                yield from self._again(ref, f"node {flight.node.name} died")
            elif self._limit_s and flight.since and now - flight.since > self._limit_s:
                yield from self._again(
                    ref, f"no answer from node {flight.node.name} for {self._limit_s:.0f} s"
                )

    def _again(self, ref: Any, cause: str) -> Iterator[Record]:
        """Storage a trial once more, away from where it failed, or give it up; what it may still send is not heard."""
        flight = self._forget(ref)
        self._ray.cancel(ref, force=True)
        waiting = flight.waiting
        if flight.since is None and self._cluster.has_gone(flight.node):  # it had not begun
            self._placement.put(waiting, avoid=flight.node.id)
            return
        count = self._failed[waiting.order] = self._failed.get(waiting.order, 0) + 1
        if count >= self._cluster.attempts:
            times = f", {count} times" if count > 1 else ""
            record = self._failure(waiting.trial, Status.CRASHED, f"{cause}{times}")
            yield record | {"node": flight.node.name}
        else:
            self._placement.put(
                waiting._replace(trial=_next_attempt(waiting.trial)), avoid=flight.node.id
            )

    def _forget(self, ref: Any) -> _InFlight:
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

    def _want(self) -> None:
        """Tell the autoscaler what waits, once all is started that the nodes can hold."""
        if self._wanted_at != self._cluster.changes:
            self._wanted_at = self._cluster.changes
            self._cluster.want(
                lambda: [each.shape for each in self._placement.waiting(limit=WINDOW)]
            )

    def _wait_for_nodes(self) -> bool:
        """Trials are left that no node here can hold: wait for one as long as that makes sense."""
        left = self._placement.infeasible + len(self._placement)
        if self._stuck_since is None:
            self._stuck_since = time.monotonic()
            self._cluster.stuck(left)
        if time.monotonic() - self._stuck_since < self._cluster.wait_s:
            return True
        first = self._placement.waiting(limit=1)[0].trial
        left_over = (
            f"{left} trial{'s are' if left > 1 else ' is'} left that no node can hold any more"
        )
        raise Unavailable(
            "; ".join([f"{left_over}, first {first.name}", *self._cluster.refusals]),
            "the records so far are safe: run the same command again when such a node is up",
        )

    def _cancel(self) -> None:
        """End what still runs; a cluster that is ours ends with it, on another's we wait a moment for it."""
        flights, self._flights = list(self._flights), {}
        self._cluster.running.clear()
        if self._session.lost:
            return
        self._cluster.want(list)
        if not flights:
            return
        for ref in flights:
            self._ray.cancel(ref, force=True)
        self._ray.wait(flights, num_returns=len(flights), timeout=3.0)


_NOT_BEGUN = frozenset(
    {"RuntimeEnvSetupError", "TaskUnschedulableError"}
)  # of Ray's errors: no trial has seen them
_STARTED, _PROGRESS, _RECORD, _RAISED = "started", "progress", "record", "raised"


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


def _announced(
    function: Callable[..., Record], seat: _Seat, tells: bool
) -> Callable[[Any], Iterator[Any]]:
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
        try:
            return _RECORD, function(trial, _unheard) if tells else function(trial)
        except Exception:  # noqa: BLE001  what Ray raises instead would not say whether the trial had begun
            return _RAISED, traceback.format_exc()

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
    return (
        known.get(name)
        or f"{name} on node {node.name}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    )


def last_line(error: Exception) -> str:
    """What of an error's text says the most, or its name where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
