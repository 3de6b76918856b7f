"""The cluster: `map` over trials, on a Ray of this machine's own or on one that is joined.

The driver chooses each trial's node itself (`sweep.cluster.placement`) and has no more under way than the nodes can
run, so that Ray only carries: it starts the trial where it is told and says how that ended. What it says is not trusted
alone: a node that dies without a word may leave its trials unanswered for ever, so nodes are counted every two seconds
and each trial has a time limit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from sweep.cluster import demand
from sweep.cluster import session as sessions
from sweep.cluster.autoscaler import Activity, Autoscaler
from sweep.cluster.mapping import MapExecution, Record, Tell, last_line
from sweep.cluster.placement import Node, Shape, unplaceable
from sweep.cluster.preparation import Preparation, Provided
from sweep.errors import SweepError, Unavailable
from sweep.texts import counted

POLL_S = 2.0  # how often nodes are counted
FIRST_S = 600.0  # how long the first node may take to come: after `ray up` it is being installed
ADMIT_S = 120.0  # how long a node may take to greet
LEAVE_S = 10.0  # and how long what is called on it when we leave
_FEW, _GATHER_S = (
    100,
    5e-5,
)  # to ask Ray about 7,000 trials takes 20 ms: of so many, all are heard that speak meanwhile
_BAD_STARTS = 3  # a node that has failed to begin so many trials is not used any more
_REFUSED_MOST = (
    3  # by so many nodes that are not used may outnumber the others before no more are asked for
)
_FADES = 0.1  # and how many such failures a trial makes up for that did begin: workers that were warm still can


@dataclass(frozen=True)
class Unplaceable:
    """A trial that no node can hold, and why, as in `3 of 12 trials <reason>`."""

    trial: Any
    reason: str


def refusal(unplaceables: list[Unplaceable], total: int) -> SweepError:
    """The error to raise where trials that no node can hold are not wanted."""
    first = unplaceables[0]
    alike = sum(1 for each in unplaceables if each.reason == first.reason)
    hint = "lower `resources` in the grid, start a larger node, or leave them out with --only"
    if " core" in first.reason:  # as many as threads, where the grid says no resources.cpu
        hint = (
            "lower `threads` or `resources.cpu`, start a larger node, or leave them out with --only"
        )
    if "GPU" in first.reason:
        hint = "start a node with a GPU, or leave them out with --only '*/cpu/*'"
    return SweepError(f"{alike} of {total} trials {first.reason}, first {first.trial.name}", hint)


def plain_failure(trial: Any, status: str, error: str) -> Record:
    """The least of a record for a trial that could not speak for itself."""
    return {
        "trial_id": trial.id,
        "attempt": getattr(trial, "attempt", 1),
        "status": status,
        "error": error,
    }


class Cluster:
    """Nodes that run trials: `with Cluster(address) as cluster: for record in cluster.map(function, trials): …`.

    Without an address a Ray of our own is started on this machine, also where RAY_ADDRESS is set (`notify` is told so);
    it writes nothing on the terminal and leaves nothing behind. With one (`auto`, `host:port`, `ray://host:port`) that
    cluster is joined, or `Unavailable` raised; this process's own `sweep` and `workloads` are sent to its nodes.

    `wait_s`: how long to wait for a node when none is left that can hold a trial; by default ten minutes where the
    cluster can start nodes itself, one minute where it was joined, else not at all. `attempts`: how often a trial is
    placed whose node or Ray worker dies under it. `cpus` and `gpus` replace what a Ray of our own finds here.
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
        self.running: dict[str, str] = {}  # name of each trial that runs now -> name of its node
        self._cpus, self._gpus, self._wait_s, self._notify = cpus, gpus, wait_s, notify
        self._session: sessions.Session | None = None
        self._up: list[Node] = []  # all nodes that are there, whatever their state
        self._ready: dict[str, Node] = {}
        self._prepared: dict[
            str, Node
        ] = {}  # that may lack something: to be used or not when others have answered
        self._refused: dict[str, str] = {}  # id of a node that is not used -> why
        self._admitted: set[str] = set()  # nodes that were ever ready
        self._gone: set[str] = set()  # nodes that have died, also where Ray does not know yet
        self._at_first: set[str] | None = None  # nodes that were there when the cluster was opened
        self._doors: dict[str, tuple[str, int]] = {}  # id of a node -> where its raylet listens
        self._greeting: dict[Any, _Greeting] = {}
        self._greet_until: dict[str, float] = {}  # by node, since it was first seen
        self._hook: tuple[Callable[[Any], Any], Any] | None = None
        self._preparation = Preparation()
        self._resting: dict[
            str, float
        ] = {}  # by node: until when it gets no trials, as it has failed to begin one
        self._bad_starts: dict[
            str, float
        ] = {}  # by node: trials that could not begin, fading with those that could
        self._counted_at = float("-inf")
        self.changes = 0  # goes up whenever nodes have been counted, greeted or refused
        self._answering = (
            False  # whether the head did when last asked; what else is asked of it meanwhile hangs
        )
        self._autoscaler: Autoscaler | None = None
        self._activity = Activity()
        self._demand: demand.Demand | None = None
        self._wanted: Mapping[Shape, int] = {}  # what nodes are asked for; replaced as a whole
        self._asked: set[Shape] = set()  # what the user knows to be asked for
        self._told: set[str] = set()  # what need not be told again

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
        """Start or join, wait where all nodes are still to come, as just after `ray up`, and greet every one."""
        ray = sessions.load(self.address)
        if self.address is None:
            if os.environ.get("RAY_ADDRESS"):
                self._notify("RAY_ADDRESS is set but not used; --address auto joins that cluster")
            self._session = sessions.Own(ray, self._cpus, self._gpus)
        else:
            self._session = sessions.Joined(ray, self.address)
        self._autoscaler = self._session.find_autoscaler(self._session.nodes() or [])
        self._demand = demand.Demand(self._session)
        self._count()
        self._wait_for_the_first()
        while self._greeting:
            self.wait([])
        self._at_first = set(self._ready)
        if self._refused and not (self._ready or self._autoscaler):
            hint = "install the same version of sweep there, with the same Python"
            raise Unavailable(f"no node can run trials: {next(iter(self._refused.values()))}", hint)

    def close(self) -> None:
        """Leave: what runs is ended, a Ray of our own as a whole. A second interrupt meanwhile ends it at once."""
        session, self._session = self._session, None
        if session is None:
            return
        self._ready.clear()
        self._greeting.clear()
        session.close()

    @property
    def session(self) -> sessions.Session:
        if self._session is None:
            raise RuntimeError("the cluster is not open")
        return self._session

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are ready for trials; also for another thread, hence of a copy."""
        ready = [
            node for node in list(self._ready.values()) if node.id not in self._activity.draining
        ]
        return [node for node in ready if not self._rests(node)]

    @property
    def expecting(self) -> bool:
        """Whether there is a node that may be ready soon."""
        return bool(self._greeting) or any(self._rests(node) for node in self._ready.values())

    @property
    def refusals(self) -> list[str]:
        """Which nodes are not used and which could not be had, with the reasons."""
        launches = [
            f"{kind} could not be launched: {why}" for kind, why in self._activity.refused.items()
        ]
        return [*self._refused.values(), *launches]

    def has_gone(self, node: Node) -> bool:
        """Whether a node has died, and what ran there with it."""
        return node.id in self._gone

    def is_spared(self, shape: Shape) -> bool:
        """Whether nodes with a GPU are not for trials of this shape, as nodes without one can be started for them."""
        types = self._autoscaler.types if self._autoscaler else None
        return not shape.amount("GPU") and bool(demand.without_gpu(shape, types or ()))

    @property
    def asked_for(self) -> dict[str, int]:
        """For how many trials nodes are asked for, by what one takes; also for another thread."""
        return {str(shape): count for shape, count in self._wanted.items()}

    @property
    def wait_s(self) -> float:
        if self._is_hopeless:
            return 0.0
        if self._wait_s is not None:
            return self._wait_s
        if self.address is None:
            return 0.0
        return 600.0 if self._autoscaler else 60.0

    @property
    def _is_hopeless(self) -> bool:
        """Whether nodes that are started are of no use: each costs money, and the next one will be as the last."""
        used = self._admitted - self._refused.keys()
        return self._autoscaler is not None and len(self._refused) >= _REFUSED_MOST + len(used)

    def check(self, trials: Iterable[Any]) -> list[Unplaceable]:
        """The trials that no node could ever hold, found before any is started.

        None, where nodes may come of which nothing is known.
        """
        nodes = self._present()
        if self._autoscaler:
            if self._autoscaler.types is None:
                return []
            types = self._autoscaler.types
        elif self._wait_s:
            return []
        else:
            types = ()
        reasons: dict[Shape, str | None] = {}
        found = []
        for trial in trials:
            shape = Shape.of(trial.resources)
            if shape not in reasons:
                coming = any(demand.could_hold(kind, shape) for kind in types)
                reasons[shape] = (
                    None if coming else unplaceable(shape, [*nodes, *(kind.node for kind in types)])
                )
            if reason := reasons[shape]:
                found.append(Unplaceable(trial, reason))
        return found

    def _present(self) -> list[Node]:
        """The nodes that run trials, or will."""
        return [*self._ready.values(), *self._coming()]

    def _coming(self) -> list[Node]:
        return [*self._prepared.values(), *(greeting.node for greeting in self._greeting.values())]

    def prepare(self, function: Callable[[Any], Provided | None], argument: Any) -> None:
        """Call `function(argument)` on every node before it gets trials, also on nodes that join later.

        Nodes are prepared all at once, each on its own: one that is ready begins while others are still at it. A node
        where the function raises, or that lacks what another one could be given, gets no trials.
        """
        self._hook = (function, argument)
        nodes, self._ready = list(self._ready.values()), {}
        for node in nodes:
            self._prepare(node)

    def call_on_leaving(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Call `function(argument)` on every node at once, for a few seconds at the most: no trial runs any more."""
        session = self.session
        if session.lost or not self._answering:
            return
        with contextlib.suppress(ConnectionError):  # the head has gone since
            task = session.ray.remote(num_cpus=0, max_retries=0)(_call)
            calls = [
                session.at(task, node).remote((function, argument), None) for node in self.nodes
            ]
            session.ray.wait(calls, num_returns=len(calls), timeout=LEAVE_S)

    def map(
        self, function: Callable[..., Record], trials: Iterable[Any], **how: Any
    ) -> Generator[Record]:
        """One record for each trial, in the order in which they end; `how` is what `map_together` may be told."""
        with contextlib.closing(self.map_together(function, trials, **how)) as groups:
            for group in groups:
                yield from group

    def map_together(
        self,
        function: Callable[..., Record],
        trials: Iterable[Any],
        *,
        limit_s: float | None = None,
        failure: Callable[[Any, str, str], Record] = plain_failure,
        pair: Callable[[Any], Hashable] = lambda trial: trial.block,
        tell: Tell | None = None,
    ) -> Generator[list[Record]]:
        """One record for each trial, together with those that end at the same moment; trials are taken as needed.

        `node` of a record is the name by which the cluster knows the node. `function` runs on the nodes, called with a
        trial; where there is `tell`, also with a function to call, with a dict, as often as it has something to say of
        how far it is: `tell(trial, that dict)` is then called here, and `tell(trial, None)` when the trial has started.
        Trials of one `pair` share a node where that can be.

        A trial that shows no record `limit_s` after its start is placed again elsewhere: give its own timeout plus what
        the node may take to notice.
        `failure(trial, status, error)` makes the record of a trial whose node or Ray worker died `attempts` times
        (`crashed`), or where `function` itself raised (`failed`). Raises `Unavailable` when the head is gone, or when
        trials are left that no node can hold any more.
        """
        yield from MapExecution(self, function, trials, limit_s, failure, pair, tell).groups()

    def wait(self, refs: list[Any]) -> list[Any]:
        """Those of `refs` that have something to say, after two seconds at the latest; sees to the nodes meanwhile."""
        ray = self.session.ray
        pause = max(0.0, self._counted_at + POLL_S - time.monotonic())
        everything = [*refs, *self._greeting]
        ready: list[Any] = []
        if everything:
            with self.session.losing_the_head():
                ready, _ = ray.wait(everything, num_returns=1, timeout=pause)
                if ready and len(everything) > _FEW:
                    ready, _ = ray.wait(
                        everything, num_returns=len(everything), timeout=_GATHER_S * len(everything)
                    )
        else:
            time.sleep(pause)
        for ref in [ref for ref in ready if ref in self._greeting]:
            self._greeted(ref)
            ready.remove(ref)
        if time.monotonic() >= self._counted_at + POLL_S:
            self._count()
        return ready

    def probe(self, node: Node) -> None:
        """Something has gone wrong on a node: see whether it is there at all, which Ray takes 15 seconds to notice."""
        if (
            node.id in self._ready
            and not self.session.is_client
            and not sessions.connects(*self._doors[node.id])
        ):
            self._lose(node)

    def began(self, node: Node) -> None:
        """A trial has started on a node: what could not begin there before counts for a little less."""
        if bad := self._bad_starts.get(node.id):
            self._bad_starts[node.id] = max(0.0, bad - _FADES)

    def could_not_begin(self, node: Node, why: str) -> bool:
        """A node has failed to begin a trial; whether it is still used, which it is not after a few such failures.

        It gets no trials for a moment: what fails in that time counts as one, and a node that is about to end says so.
        """
        if node.id in self._ready and not self._rests(node):
            self._resting[node.id] = time.monotonic() + POLL_S
            self.changes += 1
            self._bad_starts[node.id] = self._bad_starts.get(node.id, 0.0) + 1
            if self._bad_starts[node.id] >= _BAD_STARTS:
                self._refuse(node, f"it cannot begin trials: {why}")
        return node.id in self._ready

    def _rests(self, node: Node) -> bool:
        return time.monotonic() < self._resting.get(node.id, 0.0)

    def want(self, shapes: Callable[[], Iterable[Shape]]) -> None:
        """Ask the autoscaler, where there is one, for nodes that can run these at once."""
        if self._autoscaler is None or self._demand is None or not self._answering:
            return
        waiting = Counter() if self._is_hopeless else Counter(shapes())
        if new := [shape for shape in waiting if shape not in self._asked]:
            self._asked.update(new)
            wanted = "; ".join(f"{waiting[shape]} × {shape}" for shape in new)
            self._notify(f"asking for nodes for trials that wait, {wanted}; {self._autoscaler}")
        self._wanted = dict(waiting)
        pieces = demand.pieces(waiting, self._coming(), self._up, self._autoscaler.types)
        self._demand.ask(pieces, frozenset(self._doors))

    def stuck(self, trials: int) -> None:
        """Trials are left that no node can hold that is there."""
        if self.wait_s:
            count = counted(trials, "trial")
            self._notify(
                f"{count} cannot run on any node that is there: waiting {self.wait_s:.0f} s at most for one"
            )

    def _wait_for_the_first(self) -> None:
        """Until a node is there, or known to come when trials want it."""
        patience_s = FIRST_S if self._wait_s is None else self._wait_s
        end = time.monotonic() + patience_s
        while not (self._greeting or self._autoscaler):
            if time.monotonic() >= end:
                hint = (
                    "start one, as docs/cluster.md says; ray status on the head tells which are up"
                )
                raise Unavailable(
                    f"the cluster at {self.address} has no node that runs trials", hint
                )
            if self.changes == 1:
                self._notify(
                    f"no node that runs trials is there yet: waiting for one, {patience_s:.0f} s at most"
                )
            self.wait([])

    def _count(self) -> None:
        """See which nodes have come and gone."""
        alive = self.session.nodes()
        self._counted_at = time.monotonic()
        self.changes += 1
        self._answering = alive is not None
        if alive is None:
            return
        self._look_at_the_autoscaler()
        self._doors = {
            node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive
        }
        nodes = {node.id: node for node in _usable(alive) if node.id not in self._gone}
        self._up = list(nodes.values())
        known = {node.id: node for node in [*self._ready.values(), *self._coming()]}
        for node_id in nodes.keys() - known.keys() - self._refused.keys():
            self._greet(nodes[node_id])
        for node_id in known.keys() - nodes.keys():
            self._lose(known[node_id])
        self._gone |= self._refused.keys() - nodes.keys()
        for ref, greeting in list(self._greeting.items()):
            if not greeting.is_prepared and self._is_late(greeting.node):
                del self._greeting[ref]
                self._refuse(greeting.node, "it did not answer")
        self._admit()

    def _look_at_the_autoscaler(self) -> None:
        """Tell what has changed there, and which nodes are about to end."""
        if self.session.cores is not None:
            return
        before, self._activity = self._activity, self.session.activity()
        for kind, count in self._activity.launching.items():
            if count > before.launching.get(kind, 0):
                self._notify(f"launching {count} {kind}")
        for kind, why in self._activity.refused.items():
            self._tell_once(f"{kind} could not be launched: {why}")
        for node_id in self._activity.draining & self._ready.keys():
            self._tell_once(
                f"node {self._ready[node_id].name} is about to end: it gets no more trials"
            )

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._notify(text)

    def _greet(self, node: Node) -> None:
        """See that this process's code can be loaded on a node."""
        self._greet_until.setdefault(node.id, time.monotonic() + ADMIT_S)
        self._ask(node, None)

    def _prepare(self, node: Node) -> None:
        self._ask(node, self._hook)

    def _ask(self, node: Node, hook: tuple[Callable[[Any], Any], Any] | None) -> None:
        task = self.session.ray.remote(num_cpus=0, max_retries=0)(_call)
        ref = self.session.at(task, node).remote(hook, self.session.cores)
        self._greeting[ref] = _Greeting(node, is_prepared=hook is not None)

    def _greeted(self, ref: Any) -> None:
        self.changes += 1
        node, is_prepared = self._greeting.pop(ref)
        errors = self.session.ray.exceptions
        try:
            provided = self.session.ray.get(ref)
        except errors.RayError as error:
            lost_sight = isinstance(error, errors.TaskUnschedulableError)
            if lost_sight and not self._is_late(node):
                return  # this end of the cluster does not know the node yet: it is greeted again when next counted
            self._refuse(
                node, "Ray cannot place anything on it" if lost_sight else last_line(error)
            )
            provided = None
        else:
            if self._hook and not is_prepared:
                self._prepare(node)
                return
            self._prepared[node.id] = node
        if provided is not None:
            self._preparation.answered(node.id, provided)
            for warning in provided.warnings:
                self._tell_once(f"warning: {warning}")
        self._admit()

    def _is_late(self, node: Node) -> bool:
        return time.monotonic() > self._greet_until[node.id]

    def _admit(self) -> None:
        """Begin to use the nodes that have all they need, or that lack only what no node can be given."""
        for node in [*self._ready.values(), *self._prepared.values()]:
            if why := self._preparation.fault(node.id):
                self._refuse(node, why)
        for node in list(self._prepared.values()):
            lacking = self._preparation.lacks(node.id)
            if lacking and self._greeting:
                continue
            for why in lacking.values():
                self._tell_once(f"no environment: {why}")
            self._ready[node.id] = self._prepared.pop(node.id)
            self._admitted.add(node.id)
            if self._at_first is not None and node.id not in self._at_first:
                self._notify(f"node {node.name} has joined")

    def _lose(self, node: Node) -> None:
        self.changes += 1
        self._gone.add(node.id)
        self._preparation.forget(node.id)
        self._greeting = {
            ref: each for ref, each in self._greeting.items() if each.node.id != node.id
        }
        self._prepared.pop(node.id, None)
        self._ready.pop(node.id, None)
        self._notify(f"node {node.name} is gone")

    def _refuse(self, node: Node, why: str) -> None:
        self.changes += 1
        self._ready.pop(node.id, None)
        self._prepared.pop(node.id, None)
        self._preparation.forget(node.id)
        self._refused[node.id] = f"node {node.name}: {why}"
        self._notify(f"node {node.name} is not used: {why}")


class _Greeting(NamedTuple):
    """A node that is asked whether it can run trials, or prepared for them."""

    node: Node
    is_prepared: bool


def _call(hook: tuple[Callable[[Any], Any], Any] | None, cores: set[int] | None) -> Any:
    """Runs on a node, on all its cores; that it can be loaded there is half of its use."""
    if cores:
        os.sched_setaffinity(0, cores)
    if hook is None:
        return None
    function, argument = hook
    return function(argument)


def _usable(alive: list[dict[str, Any]]) -> Iterator[Node]:
    """Ray's nodes that can run anything, with the names that people know them by."""
    shared = Counter(name for node in alive for name in set(_names(node)))
    for node in alive:
        resources = {
            name: amount
            for name, amount in node["Resources"].items()
            if not name.startswith("node:") and name != "object_store_memory"
        }
        if resources.get("CPU") or resources.get("GPU"):
            names = _names(node)
            own = next(
                (name for name in names if shared[name] == 1), f"{names[0]}#{node['NodeID'][:6]}"
            )
            yield Node(node["NodeID"], own, resources)


def _names(node: dict[str, Any]) -> list[str]:
    """What a node may be called, the best first: as it was started, else by its host, else by its address."""
    address, given = node["NodeManagerAddress"], node["NodeName"]
    return [given] * (given not in ("", address)) + [node["NodeManagerHostname"], address]
