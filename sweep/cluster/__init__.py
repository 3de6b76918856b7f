"""The cluster: `map` over trials, on a Ray of this machine's own or on one that is joined.

The driver chooses each trial's node itself (`sweep.cluster.placement`) and has no more under way than the nodes can
run, so that Ray only carries: it starts the trial where it is told and says how that ended. What it says is not trusted
alone: a node that dies without a word may leave its trials unanswered for ever, so nodes are counted every two seconds
and each trial has a time limit.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sweep.cluster import session as sessions
from sweep.cluster.mapping import Pass, Record, Tell
from sweep.cluster.placement import Node, Shape, unplaceable
from sweep.errors import SweepError, Unavailable

POLL_S = 2.0  # how often nodes are counted
FIRST_S = 600.0  # how long the first node may take to come: after `ray up` it is being installed
ADMIT_S = 120.0  # how long a node may take to greet
LEAVE_S = 10.0  # and how long what is called on it when we leave
_FEW, _GATHER_S = 100, 5e-5  # to ask Ray about 7,000 trials takes 20 ms: of so many, all are heard that speak meanwhile
_REQUEST_MOST = 1000  # trials' worth of nodes asked of an autoscaler at once


@dataclass(frozen=True)
class Unplaceable:
    """A trial that no node can hold, and why, as in `3 of 12 trials <reason>`."""

    trial: Any
    reason: str


@dataclass(frozen=True)
class NodeResult:
    """What a function returned on a node, or what went wrong there."""

    node: Node
    value: Any = None
    error: str | None = None


def refusal(unplaceables: list[Unplaceable], total: int) -> SweepError:
    """The error to raise where trials that no node can hold are not wanted."""
    first = unplaceables[0]
    alike = sum(1 for each in unplaceables if each.reason == first.reason)
    hint = "lower `resources` in the grid, start a larger node, or leave them out with --only"
    if " core" in first.reason:  # as many as threads, where the grid says no resources.cpu
        hint = "lower `threads` or `resources.cpu`, start a larger node, or leave them out with --only"
    if "GPU" in first.reason:
        hint = "start a node with a GPU, or leave them out with --only '*/cpu/*'"
    return SweepError(f"{alike} of {total} trials {first.reason}, first {first.trial.name}", hint)


def plain_failure(trial: Any, status: str, error: str) -> Record:
    """The least of a record for a trial that could not speak for itself."""
    return {"trial_id": trial.id, "attempt": getattr(trial, "attempt", 1), "status": status, "error": error}


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
        self._ready: dict[str, Node] = {}
        self._refused: dict[str, str] = {}  # id of a node that is not used -> why
        self._gone: set[str] = set()  # nodes that have died, also where Ray does not know yet
        self._doors: dict[str, tuple[str, int]] = {}  # id of a node -> where its raylet listens
        self._greeting: dict[Any, tuple[Node, float]] = {}
        self._hooks: list[tuple[Callable[[Any], Any], Any]] = []
        self._counted_at = float("-inf")
        self.changes = 0  # goes up whenever nodes have been counted, greeted or refused
        self._answering = False  # whether the head did when last asked; what else is asked of it meanwhile hangs
        self._types: list[Node] = []  # what an autoscaler could start
        self._wanted: Counter[Shape] = Counter()

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
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
        self._count()
        self._wait_for_the_first()
        while self._greeting:
            self.wait([])
        if self._refused and not self._ready:
            hint = "install the same version of sweep there, with the same Python"
            raise Unavailable(f"no node can run trials: {next(iter(self._refused.values()))}", hint)

    def close(self) -> None:
        """Leave: what runs is ended, a Ray of our own as a whole. A second interrupt meanwhile ends it at once."""
        session, self._session = self._session, None
        if session is None:
            return
        self._ready.clear()
        self._greeting.clear()
        try:
            if self._wanted and not session.lost:
                session.request([])
        finally:
            session.close()

    @property
    def session(self) -> sessions.Session:
        if self._session is None:
            raise RuntimeError("the cluster is not open")
        return self._session

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are ready for trials."""
        return list(self._ready.values())

    @property
    def expecting(self) -> bool:
        """Whether a node has joined that may be ready soon."""
        return bool(self._greeting)

    @property
    def refusals(self) -> list[str]:
        """Which nodes are not used, and why."""
        return list(self._refused.values())

    @property
    def wait_s(self) -> float:
        if self._wait_s is not None:
            return self._wait_s
        if self.address is None:
            return 0.0
        return 600.0 if self._types else 60.0

    def check(self, trials: Iterable[Any]) -> list[Unplaceable]:
        """The trials that no node could ever hold, found before any is started; types of nodes still to come count."""
        nodes = self.nodes + self._types
        reasons: dict[Shape, str | None] = {}
        found = []
        for trial in trials:
            shape = Shape.of(trial.resources)
            if shape not in reasons:
                reasons[shape] = unplaceable(shape, nodes)
            if reason := reasons[shape]:
                found.append(Unplaceable(trial, reason))
        return found

    def on_every_node(
        self, function: Callable[[Any], Any], argument: Any, timeout_s: float | None = None
    ) -> list[NodeResult]:
        """Call `function(argument)` on every node, all at once, and on nodes that join later before they get trials.

        A node where it raises or takes longer than `timeout_s` gets no trials.
        """
        self._hooks.append((function, argument))
        task = self.session.ray.remote(num_cpus=0, max_retries=0)(_prepare)
        hooks, cores = [(function, argument)], self.session.cores
        calls = {self.session.at(task, node).remote(hooks, cores): node for node in self.nodes}
        end = time.monotonic() + timeout_s if timeout_s else float("inf")
        results = []
        while calls:
            results += [self._answer(calls.pop(ref), ref) for ref in self.wait(list(calls))]
            for ref, node in list(calls.items()):
                if node.id not in self._ready or time.monotonic() > end:
                    why = f"not done after {timeout_s:.0f} s" if node.id in self._ready else "the node died"
                    results.append(NodeResult(calls.pop(ref), error=why))
                    self.session.ray.cancel(ref, force=True)
        for result in results:
            if result.error:
                self._refuse(result.node, result.error)
        return results

    def take_leave(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Call `function(argument)` on every node at once, for a few seconds at the most: no trial runs any more."""
        session = self.session
        if session.lost or not self._answering:
            return
        with contextlib.suppress(ConnectionError):  # the head has gone since
            task = session.ray.remote(num_cpus=0, max_retries=0)(_prepare)
            calls = [session.at(task, node).remote([(function, argument)], None) for node in self.nodes]
            session.ray.wait(calls, num_returns=len(calls), timeout=LEAVE_S)

    def map(self, function: Callable[..., Record], trials: Iterable[Any], **how: Any) -> Generator[Record]:
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
        yield from Pass(self, function, trials, limit_s, failure, pair, tell).groups()

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
                    ready, _ = ray.wait(everything, num_returns=len(everything), timeout=_GATHER_S * len(everything))
        else:
            time.sleep(pause)
        for ref in [ref for ref in ready if ref in self._greeting]:
            self._greeted(ref)
            ready.remove(ref)
        if time.monotonic() >= self._counted_at + POLL_S:
            self._count()
        return ready

    def doubt(self, node: Node) -> None:
        """Something has gone wrong on a node: see whether it is there at all, which Ray takes 15 seconds to notice."""
        if node.id in self._ready and not self.session.is_client and not sessions.connects(*self._doors[node.id]):
            self._lose(node)

    def want(self, shapes: Callable[[], Iterable[Shape]]) -> None:
        """Ask the autoscaler, where there is one, for nodes that can run these at once."""
        wanted = Counter(shapes()) if self._types and self._answering else self._wanted
        if wanted != self._wanted:
            self._wanted = wanted
            bundles = [_bundle(shape, self._types) for shape in itertools.islice(wanted.elements(), _REQUEST_MOST)]
            self.session.request(bundles)

    def _wait_for_the_first(self) -> None:
        """Until a node is there, or known to come when trials want it."""
        patience_s = FIRST_S if self._wait_s is None else self._wait_s
        end = time.monotonic() + patience_s
        while not (self._greeting or any(kind.resources for kind in self._types)):
            if time.monotonic() >= end:
                hint = "start one, as docs/cluster.md says; ray status on the head tells which are up"
                raise Unavailable(f"the cluster at {self.address} has no node that runs trials", hint)
            if self.changes == 1:
                self._notify(f"no node that runs trials is there yet: waiting for one, {patience_s:.0f} s at most")
            self.wait([])

    def _count(self) -> None:
        """See which nodes have come and gone."""
        alive = self.session.nodes()
        self._counted_at = time.monotonic()
        self.changes += 1
        self._answering = alive is not None
        if alive is None:
            return
        self._types = self.session.node_types()
        self._doors = {node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive}
        nodes = {node.id: node for node in _usable(alive) if node.id not in self._gone}
        known = self._ready.keys() | self._refused.keys() | {node.id for node, _ in self._greeting.values()}
        for node_id in nodes.keys() - known:
            self._greet(nodes[node_id])
        for node_id in self._ready.keys() - nodes.keys():
            self._lose(self._ready[node_id])
        for ref, (node, since) in list(self._greeting.items()):
            if node.id not in nodes or (not self._hooks and time.monotonic() - since > ADMIT_S):
                del self._greeting[ref]
                self._refuse(node, "it did not answer")

    def _greet(self, node: Node) -> None:
        task = self.session.ray.remote(num_cpus=0, max_retries=0)(_prepare)
        ref = self.session.at(task, node).remote(self._hooks, self.session.cores)
        self._greeting[ref] = (node, time.monotonic())

    def _greeted(self, ref: Any) -> None:
        self.changes += 1
        node, _ = self._greeting.pop(ref)
        result = self._answer(node, ref)
        if result.error:
            self._refuse(node, result.error)
            return
        self._ready[node.id] = node
        if self._hooks:
            self._notify(f"node {node.name} has joined")

    def _answer(self, node: Node, ref: Any) -> NodeResult:
        try:
            return NodeResult(node, self.session.ray.get(ref))
        except self.session.ray.exceptions.RayError as error:
            return NodeResult(node, error=_last_line(error))

    def _lose(self, node: Node) -> None:
        self.changes += 1
        self._gone.add(node.id)
        del self._ready[node.id]
        self._notify(f"node {node.name} is gone")

    def _refuse(self, node: Node, why: str) -> None:
        self.changes += 1
        self._ready.pop(node.id, None)
        self._refused[node.id] = f"node {node.name}: {why}"
        self._notify(f"node {node.name} is not used: {why}")


def _prepare(hooks: list[tuple[Callable[[Any], Any], Any]], cores: set[int] | None) -> Any:
    """Runs on a node before it gets trials, on all its cores; that it can be loaded there is half of its use."""
    if cores:
        os.sched_setaffinity(0, cores)
    value = None
    for function, argument in hooks:
        value = function(argument)
    return value


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
            own = next((name for name in names if shared[name] == 1), f"{names[0]}#{node['NodeID'][:6]}")
            yield Node(node["NodeID"], own, resources)


def _names(node: dict[str, Any]) -> list[str]:
    """What a node may be called, the best first: as it was started, else by its host, else by its address."""
    address, given = node["NodeManagerAddress"], node["NodeName"]
    return [given] * (given not in ("", address)) + [node["NodeManagerHostname"], address]


def _bundle(shape: Shape, types: list[Node]) -> dict[str, float]:
    """A trial as an autoscaler counts; an exclusive one takes all the cores of the smallest that would do."""
    bundle = dict(shape.amounts)
    if shape.exclusive:
        fitting = [node.resources.get("CPU", 0.0) for node in types if shape.fits(node.resources)]
        bundle["CPU"] = min(fitting, default=bundle.get("CPU", 0.0))
    return bundle


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
