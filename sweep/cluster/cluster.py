"""The cluster: `map` over trials, on a local Ray or on a Ray cluster that is joined.

The driver itself chooses the node of each trial (`sweep.cluster.placement`) and submits no more
trials than the nodes can run. Ray starts a trial on the chosen node and reports how it ended.
Ray's reports are not complete: when a node dies suddenly, a task may stay without an answer for
ever. So the nodes are listed every two seconds, and each trial has a time limit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from sweep.cluster import addresses, demand, ray_nodes
from sweep.cluster import session as sessions
from sweep.cluster.autoscaler import Activity, Autoscaler
from sweep.cluster.infeasible import InfeasibleTrial
from sweep.cluster.mapping import MapExecution, OnProgress, Record, failure_record, last_line
from sweep.cluster.placement import Node, Shape, why_infeasible
from sweep.cluster.preparation import Preparation, Provided
from sweep.errors import Unavailable
from sweep.texts import counted

POLL_S = 2.0  # interval between two listings of the nodes
# After `ray up` the first node is still being installed.
FIRST_NODE_TIMEOUT_S = 600.0
CHECK_TIMEOUT_S = 120.0  # for the first answer of a node
LEAVE_TIMEOUT_S = 10.0  # for what is called on the nodes at the end
# Asking Ray about 7,000 tasks takes 20 ms. When more tasks than `_FEW_TASKS` are pending, one call
# collects every answer that arrives within this time for each task.
_FEW_TASKS = 100
_GATHER_S_PER_TASK = 5e-5
_MOST_FAILED_STARTS = 3  # a node that has failed to start so many trials is not used any more
# How much of a failed start one successful start makes up for. It is far below 1, since Ray
# workers that were warm already still start trials on a node that is otherwise broken.
_START_CREDIT = 0.1
# Launching stops when unusable nodes outnumber the usable ones by so many: each costs money, and
# the next one is likely to be like the last.
_MOST_SURPLUS_REFUSED = 3

_NodeHook = tuple[Callable[[Any], Any], Any]  # a function and its argument


class Cluster:
    """Nodes that run trials.

        with Cluster(address) as cluster:
            for record in cluster.map(function, trials): ...

    Without an address a local Ray is started, also where RAY_ADDRESS is set (`notify` then gets a
    note). It prints nothing and leaves no files or processes behind. With an address (`auto`,
    `host:port`, `ray://host:port`) that cluster is joined, or `Unavailable` is raised; this
    process's `sweep` and `workloads` packages are sent to its nodes.

    `wait_s` is how long to wait when no node can hold the remaining trials. The default is ten
    minutes where the cluster can launch nodes, one minute on another joined cluster, and 0 on the
    local Ray. `attempts` is how often a trial is started whose node or Ray worker dies. `cpus` and
    `gpus` replace what a local Ray detects.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: int | None = None,
        gpus: int | None = None,
        wait_s: float | None = None,
        attempts: int = 3,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.address = None if address == "local" else address
        self.attempts = attempts
        self.running: dict[str, str] = {}  # name of each running trial -> name of its node
        self.changes = 0  # rises whenever nodes have been listed, checked or excluded
        self._cpus, self._gpus, self._wait_s, self._notify = cpus, gpus, wait_s, notify
        self._session: sessions.Session | None = None

        # Every node is in `_alive`. It moves from `_checks` over `_prepared` to `_ready`, or to
        # `_refused` with the reason. `_prepared` nodes wait for the answers of other nodes.
        self._alive: list[Node] = []
        self._checks: dict[Any, _NodeCheck] = {}  # by Ray's reference to the task
        self._prepared: dict[str, Node] = {}
        self._ready: dict[str, Node] = {}
        self._refused: dict[str, str] = {}
        self._ever_ready: set[str] = set()
        self._dead: set[str] = set()  # ids, also of nodes that Ray still lists
        self._initial: set[str] | None = None  # ids of the nodes that were ready after `open`
        self._raylets: dict[str, tuple[str, int]] = {}  # node id -> address of its raylet
        self._check_deadlines: dict[str, float] = {}  # node id -> time.monotonic()
        self._hook: _NodeHook | None = None
        self._preparation = Preparation()

        self._paused_until: dict[str, float] = {}  # nodes that have just failed to start a trial
        self._failed_starts: dict[str, float] = {}  # by node, less what later starts made up for
        self._listed_at = float("-inf")
        self._head_answers = False  # while it does not, other calls to it would block

        self._autoscaler: Autoscaler | None = None
        self._activity = Activity()
        self._demand: demand.Demand | None = None
        self._requested: Mapping[Shape, int] = {}  # replaced as a whole, for other threads
        self._announced: set[Shape] = set()  # shapes whose request the user was told of
        self._notices: set[str] = set()  # texts that are shown only once

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start or join Ray, and check every node.

        Where no node is up yet, as just after `ray up`, wait for the first one. Raises
        `Unavailable` when no node can run trials.
        """
        ray = sessions.load(self.address)
        if self.address is None:
            if os.environ.get("RAY_ADDRESS"):
                self._notify("RAY_ADDRESS is set but not used; --address auto joins that cluster")
            self._session = sessions.LocalSession(ray, self._cpus, self._gpus)
        else:
            self._session = sessions.JoinedSession(ray, self.address)
        self._autoscaler = self._session.find_autoscaler(self._session.nodes() or [])
        self._demand = demand.Demand(self._session)
        self._list_nodes()
        self._wait_for_first_node()
        while self._checks:
            self.wait([])
        self._initial = set(self._ready)
        if self._refused and not (self._ready or self._autoscaler):
            hint = "install the same version of sweep there, with the same Python"
            raise Unavailable(f"no node can run trials: {next(iter(self._refused.values()))}", hint)

    def close(self) -> None:
        """End running trials and disconnect; a local Ray is shut down.

        A second interrupt meanwhile kills a local Ray at once.
        """
        # Set first, so that a second interrupt does not close it twice.
        session, self._session = self._session, None
        if session is None:
            return
        self._ready.clear()
        self._checks.clear()
        session.close()

    @property
    def session(self) -> sessions.Session:
        if self._session is None:
            raise RuntimeError("the cluster is not open")
        return self._session

    @property
    def nodes(self) -> list[Node]:
        """The nodes that take trials now. Safe to call from another thread."""
        ready = list(self._ready.values())
        draining = self._activity.draining
        return [node for node in ready if node.id not in draining and not self._is_paused(node)]

    @property
    def expecting(self) -> bool:
        """Whether a node may become ready soon."""
        return bool(self._checks) or any(self._is_paused(node) for node in self._ready.values())

    @property
    def refusals(self) -> list[str]:
        """The nodes that are not used and the types that could not be launched, with reasons."""
        launches = [
            f"{kind} could not be launched: {why}" for kind, why in self._activity.refused.items()
        ]
        return [*self._refused.values(), *launches]

    def is_dead(self, node: Node) -> bool:
        """Return whether a node has died, and with it the trials that ran there."""
        return node.id in self._dead

    def avoids_gpus(self, shape: Shape) -> bool:
        """Return whether trials of this shape stay off nodes with a GPU.

        They do where they need no GPU and nodes without one can be launched for them.
        """
        types = self._autoscaler.types if self._autoscaler else None
        return not shape.amount("GPU") and bool(demand.without_gpu(shape, types or ()))

    @property
    def asked_for(self) -> dict[str, int]:
        """The number of trials for which nodes are requested, by shape.

        Safe to call from another thread.
        """
        return {str(shape): count for shape, count in self._requested.items()}

    @property
    def wait_s(self) -> float:
        """How long to wait for a node when none can hold the remaining trials."""
        if self._is_hopeless:
            return 0.0
        if self._wait_s is not None:
            return self._wait_s
        if self.address is None:
            return 0.0
        return 600.0 if self._autoscaler else 60.0

    @property
    def _is_hopeless(self) -> bool:
        """Whether so many launched nodes were unusable that launching more makes no sense."""
        used = self._ever_ready - self._refused.keys()
        surplus = len(self._refused) - len(used)
        return self._autoscaler is not None and surplus >= _MOST_SURPLUS_REFUSED

    def find_infeasible(self, trials: Iterable[Any]) -> list[InfeasibleTrial]:
        """Return the trials that no node could ever hold.

        Return none where nodes of unknown size may still join.
        """
        if self._autoscaler and self._autoscaler.types is None:
            return []
        if not self._autoscaler and self._wait_s:
            return []
        types = (self._autoscaler.types if self._autoscaler else None) or ()
        nodes = [*self._ready.values(), *self._joining(), *(kind.node for kind in types)]
        reasons: dict[Shape, str | None] = {}
        infeasible = []
        for trial in trials:
            shape = Shape.of(trial.resources)
            if shape not in reasons:
                can_launch = any(demand.could_hold(kind, shape) for kind in types)
                reasons[shape] = None if can_launch else why_infeasible(shape, nodes)
            if reason := reasons[shape]:
                infeasible.append(InfeasibleTrial(trial, reason))
        return infeasible

    def _joining(self) -> list[Node]:
        """Return the nodes that are up and not ready yet."""
        return [*self._prepared.values(), *(check.node for check in self._checks.values())]

    def prepare(self, function: Callable[[Any], Provided | None], argument: Any) -> None:
        """Call `function(argument)` on every node before it gets trials, and on later nodes.

        All nodes are prepared at once. A node that is ready takes trials while others are still
        being prepared. A node gets no trials where the function raises, or where something could
        not be provided that another node has.
        """
        self._hook = (function, argument)
        # No node gets trials before it is prepared.
        nodes, self._ready = list(self._ready.values()), {}
        for node in nodes:
            self._submit_check(node, self._hook)

    def call_on_leaving(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Call `function(argument)` on all nodes at once, when no trial runs any more.

        Waits `LEAVE_TIMEOUT_S` at most.
        """
        session = self.session
        if session.lost or not self._head_answers:
            return
        # The head may go away at any time; then there is nothing left to call.
        with contextlib.suppress(ConnectionError):
            task = session.ray.remote(num_cpus=0, max_retries=0)(_run_on_node)
            calls = [
                session.at(task, node).remote((function, argument), None) for node in self.nodes
            ]
            session.ray.wait(calls, num_returns=len(calls), timeout=LEAVE_TIMEOUT_S)

    def map(
        self, function: Callable[..., Record], trials: Iterable[Any], **options: Any
    ) -> Generator[Record]:
        """Yield one record for each trial as trials end. The options are `map_together`'s."""
        with contextlib.closing(self.map_together(function, trials, **options)) as groups:
            for group in groups:
                yield from group

    def map_together(
        self,
        function: Callable[..., Record],
        trials: Iterable[Any],
        *,
        limit_s: float | None = None,
        failure: Callable[[Any, str, str], Record] = failure_record,
        pair: Callable[[Any], Hashable] = lambda trial: trial.block,
        on_progress: OnProgress | None = None,
    ) -> Generator[list[Record]]:
        """Yield one record for each trial, in groups of trials that end at the same moment.

        Trials are taken from the iterable as they are needed. `node` of a record is the name of
        the node in the cluster. `function` runs on a node and is called with the trial. With
        `on_progress` it is also called with a function that takes a dict and reports progress. The
        driver then calls `on_progress(trial, None)` when the trial starts and
        `on_progress(trial, dict)` for each report. Trials of one `pair` share a node where they
        can.

        A trial without a record `limit_s` after its start runs again on another node. Give the
        trial's own timeout plus the time that the node may need to enforce it.

        `failure(trial, status, error)` returns the record of a trial whose node or Ray worker died
        `attempts` times (status `crashed`), or where `function` raised (`failed`). Raises
        `Unavailable` when the head is lost, or when no node can hold the remaining trials.
        """
        execution = MapExecution(self, function, trials, limit_s, failure, pair, on_progress)
        yield from execution.groups()

    def wait(self, refs: list[Any]) -> list[Any]:
        """Return those of `refs` that have an answer, after two seconds at the latest.

        Checks of nodes are handled and the nodes are listed meanwhile.
        """
        ray = self.session.ray
        pause = max(0.0, self._listed_at + POLL_S - time.monotonic())
        pending = [*refs, *self._checks]
        ready: list[Any] = []
        if pending:
            with self.session.losing_the_head():
                ready, _ = ray.wait(pending, num_returns=1, timeout=pause)
                if ready and len(pending) > _FEW_TASKS:
                    gather_s = _GATHER_S_PER_TASK * len(pending)
                    ready, _ = ray.wait(pending, num_returns=len(pending), timeout=gather_s)
        else:
            time.sleep(pause)
        for ref in [ref for ref in ready if ref in self._checks]:
            self._finish_check(ref)
            ready.remove(ref)
        if time.monotonic() >= self._listed_at + POLL_S:
            self._list_nodes()
        return ready

    def probe(self, node: Node) -> None:
        """Find out at once whether a node has died, after something has failed on it.

        Ray itself takes 15 seconds to notice.
        """
        # A client outside the cluster may not be able to reach the nodes.
        if node.id not in self._ready or self.session.is_client:
            return
        if not addresses.connects(*self._raylets[node.id]):
            self._drop_dead(node)

    def count_start(self, node: Node) -> None:
        """Note that a trial has started on a node; earlier failed starts weigh a little less."""
        if failed := self._failed_starts.get(node.id):
            self._failed_starts[node.id] = max(0.0, failed - _START_CREDIT)

    def count_failed_start(self, node: Node, why: str) -> bool:
        """Note that a node has failed to start a trial; return whether it is still used.

        After a few such failures it is not. The node gets no trials for a moment, so that failures
        at the same time count once and a node that is about to end can be seen to drain.
        """
        if node.id in self._ready and not self._is_paused(node):
            self._paused_until[node.id] = time.monotonic() + POLL_S
            self.changes += 1
            self._failed_starts[node.id] = self._failed_starts.get(node.id, 0.0) + 1
            if self._failed_starts[node.id] >= _MOST_FAILED_STARTS:
                self._refuse(node, f"it cannot begin trials: {why}")
        return node.id in self._ready

    def _is_paused(self, node: Node) -> bool:
        return time.monotonic() < self._paused_until.get(node.id, 0.0)

    def request_nodes(self, shapes: Callable[[], Iterable[Shape]]) -> None:
        """Ask the autoscaler, where there is one, for nodes that can run these trials at once."""
        if self._autoscaler is None or self._demand is None or not self._head_answers:
            return
        waiting = Counter() if self._is_hopeless else Counter(shapes())
        if new := [shape for shape in waiting if shape not in self._announced]:
            self._announced.update(new)
            wanted = "; ".join(f"{waiting[shape]} × {shape}" for shape in new)
            self._notify(f"asking for nodes for trials that wait, {wanted}; {self._autoscaler}")
        self._requested = dict(waiting)
        pieces = demand.pieces(waiting, self._joining(), self._alive, self._autoscaler.types)
        self._demand.ask(pieces, frozenset(self._raylets))

    def announce_wait(self, trials: int) -> None:
        """Tell the user that trials wait for a node that can hold them."""
        if self.wait_s:
            self._notify(
                f"{counted(trials, 'trial')} cannot run on any node that is there: "
                f"waiting {self.wait_s:.0f} s at most for one"
            )

    def _wait_for_first_node(self) -> None:
        """Wait until a node is up, unless an autoscaler can launch nodes for the trials."""
        limit_s = FIRST_NODE_TIMEOUT_S if self._wait_s is None else self._wait_s
        end = time.monotonic() + limit_s
        while not (self._checks or self._autoscaler):
            if time.monotonic() >= end:
                raise Unavailable(
                    f"the cluster at {self.address} has no node that runs trials",
                    "start one, as docs/cluster.md says; ray status on the head tells which are up",
                )
            if self.changes == 1:  # once, after the first listing
                self._notify(
                    "no node that runs trials is there yet: "
                    f"waiting for one, {limit_s:.0f} s at most"
                )
            self.wait([])

    def _list_nodes(self) -> None:
        """Find out which nodes have joined and which have died."""
        listed = self.session.nodes()
        self._listed_at = time.monotonic()
        self.changes += 1
        self._head_answers = listed is not None
        if listed is None:
            return
        self._update_activity()
        self._raylets = ray_nodes.raylet_addresses(listed)
        nodes = {n.id: n for n in ray_nodes.usable(listed) if n.id not in self._dead}
        self._alive = list(nodes.values())
        members = {node.id: node for node in [*self._ready.values(), *self._joining()]}
        for node_id in nodes.keys() - members.keys() - self._refused.keys():
            self._start_check(nodes[node_id])
        for node_id in members.keys() - nodes.keys():
            self._drop_dead(members[node_id])
        # Trials may still run on a refused node. When it goes, they run again elsewhere.
        self._dead |= self._refused.keys() - nodes.keys()
        self._refuse_silent()
        self._admit_prepared()

    def _refuse_silent(self) -> None:
        """Exclude nodes that did not answer their first check in time."""
        for ref, check in list(self._checks.items()):
            if not check.prepares and self._is_late(check.node):
                del self._checks[ref]
                self._refuse(check.node, "it did not answer")

    def _update_activity(self) -> None:
        """Ask what the autoscaler is doing, and tell the user what is new."""
        if self.session.cores is not None:  # a local Ray has none
            return
        before, self._activity = self._activity, self.session.activity()
        for kind, count in self._activity.launching.items():
            if self._may_launch(kind) and count > before.launching.get(kind, 0):
                self._notify(f"launching {count} {kind}")
        for kind, why in self._activity.refused.items():
            self._notify_once(f"{kind} could not be launched: {why}")
        for node_id in self._activity.draining & self._ready.keys():
            name = self._ready[node_id].name
            self._notify_once(f"node {name} is about to end: it gets no more trials")

    def _may_launch(self, kind: str) -> bool:
        # A young head counts itself among the nodes that are being launched.
        types = self._autoscaler.types if self._autoscaler else None
        return types is None or any(each.name == kind for each in types)

    def _notify_once(self, text: str) -> None:
        if text not in self._notices:
            self._notices.add(text)
            self._notify(text)

    def _start_check(self, node: Node) -> None:
        """Check that this process's code can be loaded on a node."""
        self._check_deadlines.setdefault(node.id, time.monotonic() + CHECK_TIMEOUT_S)
        self._submit_check(node, None)

    def _submit_check(self, node: Node, hook: _NodeHook | None) -> None:
        task = self.session.ray.remote(num_cpus=0, max_retries=0)(_run_on_node)
        ref = self.session.at(task, node).remote(hook, self.session.cores)
        self._checks[ref] = _NodeCheck(node, prepares=hook is not None)

    def _finish_check(self, ref: Any) -> None:
        """Take the answer of a node that was checked or prepared."""
        self.changes += 1
        node, prepares = self._checks.pop(ref)
        errors = self.session.ray.exceptions
        try:
            provided = self.session.ray.get(ref)
        except errors.RayError as error:
            is_unknown = isinstance(error, errors.TaskUnschedulableError)
            if is_unknown and not self._is_late(node):
                # Ray may list a node before it can schedule on it. The next listing checks again.
                return
            self._refuse(
                node, "Ray cannot place anything on it" if is_unknown else last_line(error)
            )
            self._admit_prepared()
            return
        if self._hook and not prepares:
            self._submit_check(node, self._hook)
            return
        self._prepared[node.id] = node
        if provided is not None:
            self._preparation.add(node.id, provided)
            for warning in provided.warnings:
                self._notify_once(f"warning: {warning}")
        self._admit_prepared()

    def _is_late(self, node: Node) -> bool:
        return time.monotonic() > self._check_deadlines[node.id]

    def _admit_prepared(self) -> None:
        """Begin to use the nodes that have all they need, or lack only what no node has."""
        for node in [*self._ready.values(), *self._prepared.values()]:
            if why := self._preparation.fault(node.id):
                self._refuse(node, why)
        for node in list(self._prepared.values()):
            missing = self._preparation.missing(node.id)
            if missing and self._checks:
                continue  # another node may still turn out to have it
            for why in missing.values():
                self._notify_once(f"no environment: {why}")
            self._ready[node.id] = self._prepared.pop(node.id)
            self._ever_ready.add(node.id)
            if self._initial is not None and node.id not in self._initial:
                self._notify(f"node {node.name} has joined")

    def _drop_dead(self, node: Node) -> None:
        self.changes += 1
        self._dead.add(node.id)
        self._preparation.forget(node.id)
        self._checks = {
            ref: check for ref, check in self._checks.items() if check.node.id != node.id
        }
        self._prepared.pop(node.id, None)
        self._ready.pop(node.id, None)
        self._notify(f"node {node.name} is gone")

    def _refuse(self, node: Node, why: str) -> None:
        """Stop using a node."""
        self.changes += 1
        self._ready.pop(node.id, None)
        self._prepared.pop(node.id, None)
        self._preparation.forget(node.id)
        self._refused[node.id] = f"node {node.name}: {why}"
        self._notify(f"node {node.name} is not used: {why}")


class _NodeCheck(NamedTuple):
    """A task that checks whether a node can run trials, or prepares it for them."""

    node: Node
    prepares: bool


def _run_on_node(hook: _NodeHook | None, cores: set[int] | None) -> Any:
    """Call the hook on a node, on all of its cores; without a hook, only show that code loads."""
    if cores:
        os.sched_setaffinity(0, cores)
    if hook is None:
        return None
    function, argument = hook
    return function(argument)
