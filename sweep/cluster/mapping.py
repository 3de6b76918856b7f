"""The execution of one `map`: place trials, start and watch them, and return their records.

A trial whose node dies is placed again. Records of trials that end at the same moment are returned
together. Where no trial is exclusive, the next trials start before the records are returned, so
that nodes compute while the caller writes. Exclusive trials wait for that, since writing would
disturb them.
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

from sweep.cluster.placement import Node, Placement, QueuedTrial, Shape
from sweep.errors import Unavailable
from sweep.status import Status
from sweep.texts import counted

Record = dict[str, Any]
OnProgress = Callable[[Any, dict[str, Any] | None], None]

# How many trials wait in the placement: enough to choose from, whatever the length of the plan.
WINDOW = 2048
MOST_FAILED_STARTS = 10  # of one trial, on nodes that start others
_CANCEL_TIMEOUT_S = 3.0

# Ray raises these before a task has begun.
_NOT_STARTED = frozenset({"RuntimeEnvSetupError", "TaskUnschedulableError"})
# What a task answers: first that it has started, then progress, then a record or an error.
_STARTED, _PROGRESS, _RECORD, _RAISED = "started", "progress", "record", "raised"


class Nodes(Protocol):
    """What the execution needs of the cluster; see `Cluster`."""

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
    def is_dead(self, node: Node) -> bool: ...
    def avoids_gpus(self, shape: Shape) -> bool: ...
    def wait(self, refs: list[Any]) -> list[Any]: ...
    def probe(self, node: Node) -> None: ...
    def count_start(self, node: Node) -> None: ...
    def count_failed_start(self, node: Node, why: str) -> bool: ...
    def request_nodes(self, shapes: Callable[[], Iterable[Shape]]) -> None: ...
    def announce_wait(self, trials: int) -> None: ...


def failure_record(trial: Any, status: str, error: str) -> Record:
    """Return the smallest record of a trial that could not write its own."""
    return {
        "trial_id": trial.id,
        "attempt": getattr(trial, "attempt", 1),
        "status": status,
        "error": error,
    }


@dataclass
class _InFlight:
    """A trial that was submitted. `since` is the time of its start, None before."""

    queued: QueuedTrial
    node: Node
    since: float | None = None


class MapExecution:
    """One execution of `map` on a cluster; the arguments are those of `Cluster.map_together`."""

    def __init__(
        self,
        cluster: Nodes,
        function: Callable[..., Record],
        trials: Iterable[Any],
        limit_s: float | None,
        failure: Callable[[Any, str, str], Record],
        pair: Callable[[Any], Hashable],
        on_progress: OnProgress | None,
    ) -> None:
        self._cluster = cluster
        self._session = cluster.session
        self._ray = self._session.ray
        self._trials = enumerate(trials)
        self._limit_s, self._failure, self._pair = limit_s, failure, pair
        self._on_progress = on_progress or _ignore
        self._task = self._ray.remote(max_retries=0)(self._node_function(function))
        self._placement = Placement(avoids_gpus=cluster.avoids_gpus)
        self._in_flight: dict[Any, _InFlight] = {}  # by Ray's reference
        self._deaths: dict[int, int] = {}  # order of a trial -> how often its node or worker died
        self._failed_starts: dict[int, int] = {}  # order of a trial -> failures on usable nodes
        self._is_exhausted = False  # all trials have been taken
        self._any_exclusive = False
        self._stuck_since: float | None = None
        self._changes_seen = self._changes_requested = -1
        self._update_nodes()

    def _node_function(self, function: Callable[..., Record]) -> Callable[[Any], Any]:
        conditions = _Conditions(self._session.cores, os.getpriority(os.PRIO_PROCESS, 0))
        reports = self._on_progress is not _ignore
        make = _returning if self._session.is_client else _streaming
        return make(function, conditions, reports)

    def groups(self) -> Iterator[list[Record]]:
        """Yield the records of all trials, those that end at the same moment together.

        Each record has the name of its node under `node`.
        """
        try:
            while self._advance():
                records: list[Record] = []
                for ref in self._cluster.wait(list(self._in_flight)):
                    records += self._take_answer(ref)
                if self._changes_seen != self._cluster.changes:
                    self._update_nodes()
                    records += self._take_lost_and_overdue()
                if records:
                    if not self._any_exclusive:
                        self._start_all()
                    yield records
        finally:
            self._cancel()

    def _advance(self) -> bool:
        """Start what can start; return whether anything is left to wait for."""
        self._start_all()
        self._request_nodes()
        is_done = self._is_done()
        if self._in_flight or (self._cluster.expecting and not is_done):
            self._stuck_since = None
            return True
        return not is_done and self._wait_for_nodes()

    def _is_done(self) -> bool:
        return not (self._in_flight or self._placement.infeasible or len(self._placement))

    def _start_all(self) -> None:
        self._refill()
        while placed := self._placement.next():
            self._submit(*placed)

    def _refill(self) -> None:
        while not self._is_exhausted and self._has_space():
            order, trial = next(self._trials, (0, None))
            if trial is None:
                self._is_exhausted = True
                return
            shape = Shape.of(trial.resources)
            self._any_exclusive = self._any_exclusive or shape.exclusive
            self._placement.put(QueuedTrial(order, shape, self._pair(trial), trial))

    def _has_space(self) -> bool:
        """Return whether the placement takes more trials.

        Infeasible trials do not count, or they would keep feasible ones from being taken. Without
        any node all trials are infeasible, and must count.
        """
        infeasible = 0 if self._placement.nodes else self._placement.infeasible
        return len(self._placement) + infeasible < WINDOW

    def _submit(self, queued: QueuedTrial, node: Node) -> None:
        amounts = dict(queued.shape.amounts)
        cpu = amounts.pop("CPU", 0.0)
        gpu = amounts.pop("GPU", 0.0)
        memory = amounts.pop("memory", 0.0)
        if queued.shape.exclusive:
            # All cores of the node, so that Ray keeps other jobs off it, too.
            cpu = node.resources.get("CPU", 0.0)
        task = self._session.at(
            self._task,
            node,
            num_cpus=cpu,
            num_gpus=gpu,
            memory=int(memory) or None,
            resources=amounts or None,
        )
        entry = self._in_flight[task.remote(queued.trial)] = _InFlight(queued, node)
        if self._session.is_client:
            self._note_start(entry)  # a client does not hear of the real start

    def _note_start(self, entry: _InFlight) -> None:
        entry.since = time.monotonic()
        self._cluster.running[entry.queued.trial.name] = entry.node.name
        self._cluster.count_start(entry.node)
        self._on_progress(entry.queued.trial, None)

    def _take_answer(self, ref: Any) -> Iterator[Record]:
        """Take the next answer of a task, and yield the trial's record if it has ended."""
        entry = self._in_flight[ref]
        try:
            kind, value = self._ray.get(ref if self._session.is_client else next(ref))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            yield from self._take_error(ref, error)
            return
        if kind == _STARTED:
            self._note_start(entry)
        elif kind == _PROGRESS:
            self._on_progress(entry.queued.trial, value)
        elif kind == _RAISED:
            yield self._end(ref, self._failure(entry.queued.trial, Status.FAILED, value))
        else:
            yield self._end(ref, value)

    def _end(self, ref: Any, record: Record) -> Record:
        entry = self._remove(ref)
        return record | {"node": entry.node.name}

    def _take_error(self, ref: Any, error: Exception) -> Iterator[Record]:
        """Handle an error of Ray's in place of an answer.

        A Ray worker that was killed before its first answer may have been killed by the trial
        itself, so that does not count as a failed start.
        """
        entry = self._in_flight[ref]
        raised = isinstance(error, self._ray.exceptions.RayTaskError)
        may_be_unstarted = entry.since is None or self._session.is_client
        if may_be_unstarted and (raised or type(error).__name__ in _NOT_STARTED):
            yield from self._take_failed_start(ref, error)
        elif raised:
            yield self._end(ref, self._failure(entry.queued.trial, Status.FAILED, str(error)))
        else:
            self._cluster.probe(entry.node)
            yield from self._retry(ref, _cause(error, entry.node))

    def _take_failed_start(self, ref: Any, error: Exception) -> Iterator[Record]:
        """Place a trial elsewhere that its node could not start.

        That is a failure of the node. The trial is given up only when it has failed to start on
        many nodes that start others.
        """
        entry = self._remove(ref)
        queued, why = entry.queued, last_line(error)
        self._cluster.probe(entry.node)
        if self._cluster.count_failed_start(entry.node, why):
            count = self._failed_starts.get(queued.order, 0) + 1
            self._failed_starts[queued.order] = count
            if count >= MOST_FAILED_STARTS:
                text = f"it could not begin, {count} times: {why}"
                record = self._failure(queued.trial, Status.FAILED, text)
                yield record | {"node": entry.node.name}
                return
        self._placement.put(queued, avoid=entry.node.id)

    def _take_lost_and_overdue(self) -> Iterator[Record]:
        """Retry trials whose node has died or whose time is over: Ray may never report them."""
        now = time.monotonic()
        for ref, entry in list(self._in_flight.items()):
            name = entry.node.name
            if self._cluster.is_dead(entry.node):
                yield from self._retry(ref, f"node {name} died")
            elif self._limit_s and entry.since and now - entry.since > self._limit_s:
                yield from self._retry(ref, f"no answer from node {name} for {self._limit_s:.0f} s")

    def _retry(self, ref: Any, cause: str) -> Iterator[Record]:
        """Place a trial again on another node, or yield its record after too many attempts.

        Later answers of the task are ignored.
        """
        entry = self._remove(ref)
        # `force` also ends a Ray worker that does not return.
        self._ray.cancel(ref, force=True)
        queued = entry.queued
        if entry.since is None and self._cluster.is_dead(entry.node):
            # The trial had not started, so this is not an attempt of it.
            self._placement.put(queued, avoid=entry.node.id)
            return
        count = self._deaths[queued.order] = self._deaths.get(queued.order, 0) + 1
        if count >= self._cluster.attempts:
            times = f", {count} times" if count > 1 else ""
            record = self._failure(queued.trial, Status.CRASHED, f"{cause}{times}")
            yield record | {"node": entry.node.name}
        else:
            retried = queued._replace(trial=_next_attempt(queued.trial))
            self._placement.put(retried, avoid=entry.node.id)

    def _remove(self, ref: Any) -> _InFlight:
        entry = self._in_flight.pop(ref)
        self._cluster.running.pop(entry.queued.trial.name, None)
        self._placement.release(entry.queued, entry.node.id)
        return entry

    def _update_nodes(self) -> None:
        """Bring the placement's nodes in line with the cluster's."""
        self._changes_seen = self._cluster.changes
        current = {node.id: node for node in self._cluster.nodes}
        placed = {node.id for node in self._placement.nodes}
        for node_id in placed - current.keys():
            self._placement.remove(node_id)
        for node_id in current.keys() - placed:
            self._placement.add(current[node_id])

    def _request_nodes(self) -> None:
        """Request nodes for what still waits after every possible start."""
        if self._changes_requested != self._cluster.changes:
            self._changes_requested = self._cluster.changes
            self._cluster.request_nodes(
                lambda: [queued.shape for queued in self._placement.waiting(limit=WINDOW)]
            )

    def _wait_for_nodes(self) -> bool:
        """Return true while a node may still come for the remaining trials, else raise."""
        left = self._placement.infeasible + len(self._placement)
        if self._stuck_since is None:
            self._stuck_since = time.monotonic()
            self._cluster.announce_wait(left)
        if time.monotonic() - self._stuck_since < self._cluster.wait_s:
            return True
        first = self._placement.waiting(limit=1)[0].trial
        verb = "are" if left > 1 else "is"
        message = f"{counted(left, 'trial')} {verb} left that no node can hold any more"
        raise Unavailable(
            "; ".join([f"{message}, first {first.name}", *self._cluster.refusals]),
            "the records so far are safe: run the same command again when such a node is up",
        )

    def _cancel(self) -> None:
        """Cancel what still runs, and wait a moment for it to end on a cluster that stays."""
        refs, self._in_flight = list(self._in_flight), {}
        self._cluster.running.clear()
        if self._session.lost:
            return
        # Withdraw the requests, so that no node is launched for trials that never run.
        self._cluster.request_nodes(list)
        if not refs:
            return
        for ref in refs:
            # `force` also ends a Ray worker that does not return.
            self._ray.cancel(ref, force=True)
        self._ray.wait(refs, num_returns=len(refs), timeout=_CANCEL_TIMEOUT_S)


@dataclass(frozen=True)
class _Conditions:
    """The cores and the niceness at which trials run within a Ray worker."""

    cores: set[int] | None
    niceness: int

    def apply(self) -> None:
        """Leave the daemons' core, take the driver's niceness, and see only the assigned GPUs."""
        import ray

        if self.cores:
            os.sched_setaffinity(0, self.cores)
        # Lowering the niceness may not be permitted; the record then has the real value.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in ray.get_gpu_ids())


def _streaming(
    function: Callable[..., Record], conditions: _Conditions, reports: bool
) -> Callable[[Any], Iterator[Any]]:
    """Return a task that yields its start, its progress and its record.

    The start is reported since the time that a task waits in Ray must not count as running time.
    """

    def run(trial: Any) -> Iterator[Any]:
        conditions.apply()
        yield _STARTED, None
        if reports:
            yield from _run_reporting(function, trial)
        else:
            yield _RECORD, function(trial)

    return run


def _run_reporting(function: Callable[..., Record], trial: Any) -> Iterator[Any]:
    """Run a trial in a thread; yield its progress and its record."""
    answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def report(facts: Any) -> None:
        answers.put((_PROGRESS, dict(facts)))

    def work() -> None:
        try:
            answers.put((_RECORD, function(trial, report)))
        except BaseException as error:  # noqa: BLE001  raised again in the thread of the task
            answers.put(("error", error))

    threading.Thread(target=work, daemon=True).start()
    while True:
        kind, value = answers.get()
        if kind == "error":
            raise value
        yield kind, value
        if kind == _RECORD:
            return


def _returning(
    function: Callable[..., Record], conditions: _Conditions, reports: bool
) -> Callable[[Any], Any]:
    """Return a task that gives one answer at its end: `ray://` cannot carry several.

    An exception is returned as text. An exception that Ray raises would not tell whether the trial
    had started.
    """

    def run(trial: Any) -> Any:
        conditions.apply()
        try:
            return _RECORD, function(trial, _ignore) if reports else function(trial)
        except Exception:  # noqa: BLE001
            return _RAISED, traceback.format_exc()

    return run


def _ignore(*_: Any) -> None:
    """Take progress that nobody asked for."""


def _next_attempt(trial: Any) -> Any:
    attempt = getattr(trial, "attempt", None)
    return trial if attempt is None else dataclasses.replace(trial, attempt=attempt + 1)


def _cause(error: Exception, node: Node) -> str:
    """Return what an exception of Ray's means for a trial, in the words of a record."""
    causes = {
        "WorkerCrashedError": f"the Ray worker on node {node.name} was killed",
        "OutOfMemoryError": f"the Ray worker on node {node.name} was killed for want of memory",
        "NodeDiedError": f"node {node.name} died",
        "TaskUnschedulableError": f"node {node.name} died",
        "LocalRayletDiedError": f"node {node.name} died",
        "StopIteration": f"the Ray worker on node {node.name} ended without an answer",
        "TaskCancelledError": f"the trial was cancelled on node {node.name}",
    }
    name = type(error).__name__
    if name in causes:
        return causes[name]
    first_line = str(error).strip().partition("\n")[0]
    return f"{name} on node {node.name}: {first_line}"


def last_line(error: Exception) -> str:
    """Return the last line of an error's text, which says most, or its name without a text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
