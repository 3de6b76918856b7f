"""Placement: decide which trial starts next and on which node. Pure; it does not know Ray.

Problem. Trials of different sizes share nodes of different sizes, under three rules:

1. An exclusive trial has its node to itself.
2. Trials start in the order of the plan, and a large trial does not starve.
3. Trials of one pair (by default a block) run on one node, or at least on nodes with equal
   resources, so that their ratio compares frameworks and not machines.

Rule 1 always holds. After a node has failed, its trials may move and rule 3 starts anew.

Design. All trials of one shape (one resource demand) are alike, so each shape has its own queues.
A decision looks at one candidate for each shape and each kind of node, not at every trial and
every node. Queues and rankings are heaps, because the first entry is all that a decision needs.
An outdated entry stays in its heap until it reaches the top, since removing it from the middle
would take time proportional to the length of the heap.
Against starvation, the trial that has waited longest reserves a node; smaller trials fill the
other nodes meanwhile.

Alternatives. Ray's scheduler knows neither pairs nor exclusive trials and keeps no order. One
sorted list of trials needs no heaps, but a decision then costs trials times nodes.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sweep.texts import plural

_EPSILON = 1e-6  # tolerance of sums of fractions: three thirds of a GPU are one GPU
# A ranking is cleaned up when it has this many entries more than twice the current ones.
_RANKING_SLACK = 64
_UNBOUND = ""  # the key of trials that no node is chosen for


class Resources(Protocol):
    """What one trial needs. `gpu` may be a fraction, `memory` is in bytes."""

    @property
    def cpu(self) -> float: ...
    @property
    def gpu(self) -> float: ...
    @property
    def memory(self) -> int | None: ...
    @property
    def exclusive(self) -> bool: ...
    @property
    def custom(self) -> Mapping[str, float]: ...


class Shape(NamedTuple):
    """A resource demand as a hashable value. Trials of one shape are interchangeable."""

    amounts: tuple[tuple[str, float], ...]
    exclusive: bool

    @classmethod
    def of(cls, resources: Resources) -> Shape:
        """Return the shape of a trial's resources; amounts of zero are left out."""
        wanted = {
            "CPU": resources.cpu,
            "GPU": resources.gpu,
            "memory": resources.memory or 0,
            **(resources.custom or {}),
        }
        amounts = sorted((name, float(amount)) for name, amount in wanted.items() if amount)
        return cls(tuple(amounts), resources.exclusive)

    def amount(self, name: str) -> float:
        """Return the amount of one resource, 0 where it is not demanded."""
        return dict(self.amounts).get(name, 0.0)

    def without(self, name: str) -> Shape:
        """Return the same demand without one resource."""
        return Shape(tuple(pair for pair in self.amounts if pair[0] != name), self.exclusive)

    def __str__(self) -> str:
        """Return a phrase such as `2 cores and 1 GPU, alone on a node`."""
        wanted = " and ".join(_quantity(name, amount) for name, amount in self.amounts)
        return f"{wanted}, alone on a node" if self.exclusive else wanted

    def fits(self, free: Mapping[str, float]) -> bool:
        """Return whether these free resources satisfy the demand."""
        return all(free.get(name, 0.0) + _EPSILON >= amount for name, amount in self.amounts)


@dataclass(frozen=True)
class Node:
    """A node and its total resources: `CPU`, `GPU`, `memory` in bytes, and custom ones."""

    id: str
    name: str
    resources: Mapping[str, float] = field(hash=False)

    @functools.cached_property
    def kind(self) -> tuple[tuple[str, float], ...]:
        """The resources that define a kind of node.

        Memory is left out: it differs by a few bytes between equal machines.
        """
        named = sorted(pair for pair in self.resources.items() if pair[0] != "memory")
        return tuple(named)


class QueuedTrial(NamedTuple):
    """A trial that waits for a node. `order` is its position in the plan; a retry keeps it."""

    order: int
    shape: Shape
    pair: Hashable
    trial: Any


@dataclass(eq=False)
class _NodeState:
    """What is free on a node now.

    `number` identifies the node. `version` rises with each change, so that rankings can tell
    outdated entries.
    """

    node: Node
    number: int
    kind: int
    free: dict[str, float]
    avoids_gpus: Callable[[Shape], bool]
    running: int = 0
    is_taken: bool = False  # by an exclusive trial
    version: int = 0

    @property
    def has_gpu(self) -> bool:
        return bool(self.node.resources.get("GPU"))

    def admits(self, shape: Shape) -> bool:
        """Return whether a trial of this shape can start now."""
        if self.is_taken or (shape.exclusive and self.running):
            return False
        return shape.fits(self.free) and not self._is_avoided_by(shape)

    def could_hold(self, shape: Shape) -> bool:
        """Return whether a trial of this shape could start if nothing ran here."""
        return shape.fits(self.node.resources) and not self._is_avoided_by(shape)

    def _is_avoided_by(self, shape: Shape) -> bool:
        return self.has_gpu and self.avoids_gpus(shape)

    def allocate(self, shape: Shape) -> None:
        self._add_free(shape, -1)
        self.running += 1
        self.is_taken = shape.exclusive

    def release(self, shape: Shape) -> None:
        self._add_free(shape, +1)
        self.running -= 1
        self.is_taken = False

    def _add_free(self, shape: Shape, sign: int) -> None:
        for name, amount in shape.amounts:
            self.free[name] = self.free.get(name, 0.0) + sign * amount


class _Ranking:
    """Nodes in the order of how many trials they run, the least busy first."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, int, _NodeState]] = []
        self._most_entries = _RANKING_SLACK

    def put(self, state: _NodeState) -> None:
        """Add the current version of a node's state; earlier versions are outdated."""
        heapq.heappush(self._entries, (state.running, state.number, state.version, state))
        if len(self._entries) > self._most_entries:
            self._drop_outdated()

    def _drop_outdated(self) -> None:
        self._entries = [entry for entry in self._entries if entry[3].version == entry[2]]
        heapq.heapify(self._entries)
        self._most_entries = 2 * len(self._entries) + _RANKING_SLACK

    def first(self, but: _NodeState | None = None) -> _NodeState | None:
        """Return the least busy node other than `but`, or None."""
        skipped = None
        while self._entries:
            _, _, version, state = self._entries[0]
            is_current = state.version == version
            if is_current and state is not but:
                break
            entry = heapq.heappop(self._entries)
            if is_current:
                skipped = entry
        first = self._entries[0][3] if self._entries else None
        if skipped:
            heapq.heappush(self._entries, skipped)
        return first


_Queues = dict[str, list[QueuedTrial]]  # heaps by node id, or under _UNBOUND


class _ShapeQueues:
    """The waiting trials of one shape.

    `unbound` trials belong to pairs of which none has started. `bound` trials wait for the
    affinity node of their pair, that is where the pair's first trial started. `rerouted` trials
    wait for a node that was chosen after they failed on another one.

    `affinity` maps pairs to the ids of their affinity nodes. `bound_by_kind` has the bound trials
    as (order, node id) for each kind of affinity node.
    """

    def __init__(self, affinity: dict[Hashable, str]) -> None:
        self.affinity = affinity
        self.unbound: _Queues = {}
        self.bound: _Queues = {}
        self.rerouted: _Queues = {}
        self.bound_by_kind: dict[int, list[tuple[int, str]]] = defaultdict(list)

    def emptied_without(self, node_id: str) -> _ShapeQueues:
        """Return empty queues that keep the affinities to other nodes."""
        kept = {pair: other for pair, other in self.affinity.items() if other != node_id}
        return _ShapeQueues(kept)

    def bind(self, queued: QueuedTrial, node_id: str, kind: int) -> None:
        """Let a trial wait for its affinity node, which is of this kind."""
        # Outdated entries could repeat the order of this trial; they go first.
        self.first_bound_of(kind)
        heapq.heappush(self.bound.setdefault(node_id, []), queued)
        heapq.heappush(self.bound_by_kind[kind], (queued.order, node_id))

    def first_bound_of(self, kind: int) -> str | None:
        """Return the affinity node of the first trial that is bound to a node of this kind."""
        entries = self.bound_by_kind[kind]
        while entries:
            order, node_id = entries[0]
            queue = self.bound.get(node_id)
            if queue and queue[0].order == order:
                return node_id
            heapq.heappop(entries)
        return None


class _Candidate(NamedTuple):
    """A trial that a node could start, found at `queues[key]`. The smallest candidate is best."""

    wastes_gpu: bool  # the trial needs no GPU and the node has one
    is_borrowed: bool  # the affinity node of its pair is another one
    order: int
    queues: _Queues
    key: str


class Placement:
    """Nodes and the trials that wait for them.

    The cost of a decision grows with the number of different shapes and kinds of node, not with
    the number of trials or nodes. A trial that no node could ever hold is `infeasible`: it is set
    aside until a node joins that can hold it.
    Trials of a shape for which `avoids_gpus` is true do not start on nodes with a GPU, because
    nodes without one can be launched for them.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node] | None = None,
        avoids_gpus: Callable[[Shape], bool] = lambda _: False,
    ) -> None:
        self._avoids_gpus = functools.cache(avoids_gpus)
        self._states: dict[str, _NodeState] = {}
        self._kinds: dict[tuple[tuple[str, float], ...], int] = {}
        # All nodes of a kind, and those that admit a shape now.
        self._by_load: dict[int, _Ranking] = defaultdict(_Ranking)
        self._admitting: dict[tuple[int, Shape], _Ranking] = defaultdict(_Ranking)
        self._queues: dict[Shape, _ShapeQueues] = {}
        self._rerouted_to: dict[int, str] = {}  # order of a trial -> node id
        self._waiting: dict[int, QueuedTrial] = {}  # by order
        self._oldest: list[int] = []  # heap of orders, also of trials that have started
        self._feasible_nodes: dict[Shape, list[_NodeState]] = {}  # a cache
        self._numbers = itertools.count()
        self._infeasible: dict[Shape, list[QueuedTrial]] = {}
        for node in (nodes or {}).values():
            self.add(node)

    def __len__(self) -> int:
        """Return how many trials wait that some node could hold."""
        return len(self._waiting)

    @property
    def infeasible(self) -> int:
        """How many trials wait that no node here could hold."""
        return sum(map(len, self._infeasible.values()))

    def waiting(self, limit: int) -> list[QueuedTrial]:
        """Return at most `limit` waiting trials, infeasible ones first."""
        everything = itertools.chain(*self._infeasible.values(), self._waiting.values())
        return list(itertools.islice(everything, limit))

    @property
    def nodes(self) -> list[Node]:
        return [state.node for state in self._states.values()]

    def add(self, node: Node) -> None:
        """Add a node, and queue the infeasible trials that it can hold."""
        self._feasible_nodes.clear()
        kind = self._kinds.setdefault(node.kind, len(self._kinds))
        number = next(self._numbers)
        state = _NodeState(node, number, kind, dict(node.resources), self._avoids_gpus)
        self._states[node.id] = state
        self._rank(state)
        for shape in [shape for shape in self._infeasible if state.could_hold(shape)]:
            for queued in self._infeasible.pop(shape):
                self.put(queued)

    def remove(self, node_id: str) -> None:
        """Remove a node, and requeue what waited for it. The caller requeues what ran there."""
        state = self._states.pop(node_id, None)
        if state is None:
            return
        state.version += 1
        self._feasible_nodes.clear()
        everything, self._waiting = self._waiting, {}
        self._queues = {
            shape: queues.emptied_without(node_id) for shape, queues in self._queues.items()
        }
        self._oldest, self._rerouted_to = [], {}
        for queued in everything.values():
            self.put(queued)

    def put(self, queued: QueuedTrial, avoid: str | None = None) -> None:
        """Queue a trial, away from the node with id `avoid` where another one can hold it."""
        shape = queued.shape
        if shape not in self._queues:
            self._add_shape(shape)
        feasible = self._feasible(shape)
        if not feasible:
            self._infeasible.setdefault(shape, []).append(queued)
            return
        queues = self._queues[shape]
        others = [state for state in feasible if state.node.id != avoid] if avoid else []
        if others:
            chosen = min(others, key=_preference).node.id
            self._rerouted_to[queued.order] = chosen
            heapq.heappush(queues.rerouted.setdefault(chosen, []), queued)
        elif affinity_node := queues.affinity.get(queued.pair):
            queues.bind(queued, affinity_node, self._states[affinity_node].kind)
        else:
            heapq.heappush(queues.unbound.setdefault(_UNBOUND, []), queued)
        heapq.heappush(self._oldest, queued.order)
        self._waiting[queued.order] = queued

    def next(self) -> tuple[QueuedTrial, Node] | None:
        """Return the next trial to start and its node, or None while nothing can start.

        The trial's resources are allocated; `release` frees them.
        """
        if not self._waiting:
            return None
        first, reserved = self._reservation()
        if first and reserved and reserved.admits(first.shape):
            candidates = self._candidates(reserved)
            return self._start(next(c for c in candidates if c.order == first.order), reserved)
        # No other trial may start on the reserved node.
        state = min(self._startable(reserved), key=_preference, default=None)
        return self._start(min(self._candidates(state)), state) if state else None

    def release(self, queued: QueuedTrial, node_id: str) -> None:
        """Free the resources of a trial that has ended. A node that has gone is ignored."""
        state = self._states.get(node_id)
        if state is not None:
            state.release(queued.shape)
            self._rank(state)

    def _add_shape(self, shape: Shape) -> None:
        self._queues[shape] = _ShapeQueues({})
        for state in self._states.values():
            if state.admits(shape):
                self._admitting[state.kind, shape].put(state)

    def _rank(self, state: _NodeState) -> None:
        """Enter a changed state into the rankings."""
        state.version += 1
        self._by_load[state.kind].put(state)
        for shape in self._queues:
            if state.admits(shape):
                self._admitting[state.kind, shape].put(state)

    def _feasible(self, shape: Shape) -> list[_NodeState]:
        """Return the nodes that could ever hold this shape."""
        feasible = self._feasible_nodes.get(shape)
        if feasible is None:
            feasible = [state for state in self._states.values() if state.could_hold(shape)]
            self._feasible_nodes[shape] = feasible
        return feasible

    def _startable(self, reserved: _NodeState | None) -> Iterator[_NodeState]:
        """Yield nodes that can start a trial, the most preferable one among them."""
        for shape, queues in self._queues.items():
            has_unbound = self._has_unbound(shape)
            for kind in self._by_load:
                state = self._admitting[kind, shape].first(but=reserved)
                if state and (has_unbound or queues.first_bound_of(kind)):
                    yield state
            for node_id in queues.rerouted:
                state = self._states[node_id]
                if state is not reserved and state.admits(shape):
                    yield state

    def _start(self, chosen: _Candidate, state: _NodeState) -> tuple[QueuedTrial, Node]:
        queue = chosen.queues[chosen.key]
        queued = heapq.heappop(queue)
        if not queue:
            del chosen.queues[chosen.key]
        del self._waiting[queued.order]
        self._rerouted_to.pop(queued.order, None)
        # The first trial of a pair decides the affinity node of the others.
        self._queues[queued.shape].affinity.setdefault(queued.pair, state.node.id)
        state.allocate(queued.shape)
        self._rank(state)
        return queued, state.node

    def _candidates(self, state: _NodeState) -> Iterator[_Candidate]:
        """Yield the best trial of each shape that this node could start."""
        for shape, queues in self._queues.items():
            if not state.admits(shape):
                continue
            wastes_gpu = state.has_gpu and not shape.amount("GPU")
            self._has_unbound(shape)  # binds the trials whose pair has started meanwhile
            own = [
                _Candidate(wastes_gpu, False, heaps[key][0].order, heaps, key)
                for heaps, key in (
                    (queues.unbound, _UNBOUND),
                    (queues.bound, state.node.id),
                    (queues.rerouted, state.node.id),
                )
                if key in heaps
            ]
            if own:
                yield min(own)
            elif lender := queues.first_bound_of(state.kind):
                order = queues.bound[lender][0].order
                yield _Candidate(wastes_gpu, True, order, queues.bound, lender)

    def _has_unbound(self, shape: Shape) -> bool:
        """Bind the first trials whose pair has started; return whether an unbound one remains."""
        queues = self._queues[shape]
        while queue := queues.unbound.get(_UNBOUND):
            affinity_node = queues.affinity.get(queue[0].pair)
            if affinity_node is None:
                return True
            queues.bind(heapq.heappop(queue), affinity_node, self._states[affinity_node].kind)
        queues.unbound.pop(_UNBOUND, None)
        return False

    def _reservation(self) -> tuple[QueuedTrial | None, _NodeState | None]:
        """Return the trial that has waited longest and the node that is reserved for it.

        Without a reservation, smaller trials could take every core as it becomes free and the
        trial would starve.
        """
        while self._oldest and self._oldest[0] not in self._waiting:
            heapq.heappop(self._oldest)
        # Trials of a single shape cannot overtake a larger one.
        if len(self._queues) < 2 or not self._oldest:
            return None, None
        first = self._waiting[self._oldest[0]]
        affinity_node = self._queues[first.shape].affinity.get(first.pair)
        chosen = self._rerouted_to.get(first.order) or affinity_node
        return first, self._states[chosen] if chosen else self._least_busy(first.shape)

    def _least_busy(self, shape: Shape) -> _NodeState:
        """Return the least busy node that could ever hold this shape."""
        first_of_kinds = (ranking.first() for ranking in self._by_load.values())
        fitting = [state for state in first_of_kinds if state and state.could_hold(shape)]
        return min(fitting or self._feasible(shape), key=_preference)


def why_infeasible(shape: Shape, nodes: Iterable[Node]) -> str | None:
    """Return why no node can hold a trial of this shape, or None where one can.

    The text follows a number of trials, as in `3 trials want a GPU and no node has one`.
    """
    nodes = list(nodes)
    if any(shape.fits(node.resources) for node in nodes):
        return None
    for name, amount in shape.amounts:
        most = max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        if most + _EPSILON < amount:
            return _shortage(name, amount, most)
    together = shape._replace(exclusive=False)
    return f"want {together} together and no node has both"


def _shortage(name: str, amount: float, most: float) -> str:
    if most:
        return f"want {_quantity(name, amount)} and the largest node has {_quantity(name, most)}"
    countable = {"GPU": "a GPU", "CPU": "a core"}
    if name in countable:
        return f"want {countable[name]} and no node has one"
    thing = "memory" if name == "memory" else f"the resource {name!r}"
    return f"want {thing} and no node has it"


def _quantity(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 1e9:.1f} GB of memory"
    noun = {"CPU": "core", "GPU": "GPU"}.get(name)
    if noun is None:
        return f"{amount:g} {name}"
    return f"{amount:g} {noun if amount == 1 else plural(noun)}"


def _preference(state: _NodeState) -> tuple[bool, int]:
    """Return a sort key: nodes without a GPU first, as GPUs cost more, then the least busy."""
    return state.has_gpu, state.running
