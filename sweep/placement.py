"""Placement: which node a trial goes to, decided from what is free there; pure, and ignorant of Ray.

Three wishes, the first never given up: an exclusive trial has its node to itself; trials start in the order of the
plan; trials of one pair (a block, unless the caller says otherwise) run on one node, or at least on nodes of one kind,
so that their ratio compares frameworks and not machines.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

_EPSILON = 1e-6  # a third of a GPU, three times over, is a GPU


class Resources(Protocol):
    """What a trial asks for: cores, GPUs (a fraction shares one), bytes, custom amounts, the node to itself."""

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
    """A demand as a value: trials of one shape are alike to the placement."""

    amounts: tuple[tuple[str, float], ...]
    exclusive: bool

    @classmethod
    def of(cls, resources: Resources) -> Shape:
        wanted = {
            "CPU": resources.cpu,
            "GPU": resources.gpu,
            "memory": resources.memory or 0,
            **(resources.custom or {}),
        }
        return cls(
            tuple(sorted((name, float(amount)) for name, amount in wanted.items() if amount)), resources.exclusive
        )

    def amount(self, name: str) -> float:
        return dict(self.amounts).get(name, 0.0)

    def fits(self, free: Mapping[str, float]) -> bool:
        return all(free.get(name, 0.0) + _EPSILON >= amount for name, amount in self.amounts)


@dataclass(frozen=True)
class Node:
    """A node with all that it has: `CPU`, `GPU`, `memory` in bytes, and whatever else its cluster declares."""

    id: str
    name: str
    resources: Mapping[str, float] = field(hash=False)

    @functools.cached_property
    def kind(self) -> tuple[tuple[str, float], ...]:
        """What it has but for memory, which differs by a few bytes between machines of one kind."""
        return tuple(sorted((name, amount) for name, amount in self.resources.items() if name != "memory"))


class Waiting(NamedTuple):
    """A trial that waits for a node; `order` is its place in the plan, kept when it has to be placed again."""

    order: int
    shape: Shape
    pair: Hashable
    trial: Any


@dataclass
class _Room:
    """What is free on a node now."""

    node: Node
    free: dict[str, float]
    running: int = 0
    closed: bool = False  # by an exclusive trial

    def admits(self, shape: Shape) -> bool:
        if self.closed or (shape.exclusive and self.running):
            return False
        return shape.fits(self.free)

    def book(self, shape: Shape, sign: int) -> None:
        for name, amount in shape.amounts:
            self.free[name] = self.free.get(name, 0.0) - sign * amount
        self.running += sign
        self.closed = shape.exclusive and sign > 0


class _Candidate(NamedTuple):
    """What a room could start; the smallest is the best."""

    misfit: bool  # a trial without GPU on a node that has one
    lent: bool  # its pair is at home elsewhere
    order: int
    waiting: Waiting
    owner: str | None


class Placement:
    """The nodes, and the trials that wait for them.

    Cost of a decision: the number of different shapes, times the nodes that have room. A trial that no node could ever
    hold is put aside in `stranded` and comes back when such a node joins.
    """

    def __init__(self, nodes: Mapping[str, Node] | None = None) -> None:
        self._rooms: dict[str, _Room] = {}
        self._open: dict[str, _Room] = {}  # rooms that could take some known shape now
        self._queues: dict[Shape, dict[str | None, list[Waiting]]] = {}  # per shape and home; None: at home nowhere yet
        self._homes: dict[tuple[Shape, Hashable], str] = {}
        self._sent: dict[int, str] = {}  # where to a trial was sent that must avoid a node
        self._waiting: dict[int, Waiting] = {}
        self._oldest: list[int] = []  # orders; of those that wait no longer it is cleared as they come to the top
        self._holders_of: dict[Shape, list[_Room]] = {}
        self.stranded: list[Waiting] = []
        for node in (nodes or {}).values():
            self.add(node)

    def __len__(self) -> int:
        """How many trials wait that some node could hold."""
        return len(self._waiting)

    def waiting(self, limit: int) -> list[Waiting]:
        """Some of those that wait, stranded ones first."""
        return list(itertools.islice(itertools.chain(self.stranded, self._waiting.values()), limit))

    @property
    def nodes(self) -> list[Node]:
        return [room.node for room in self._rooms.values()]

    def add(self, node: Node) -> None:
        """A node joins; trials that only it can hold wait no longer in vain."""
        self._holders_of.clear()
        self._rooms[node.id] = self._open[node.id] = _Room(node, dict(node.resources))
        again, self.stranded = self.stranded, []
        for waiting in again:
            self.put(waiting)

    def remove(self, node_id: str) -> None:
        """A node is gone; what waited for it goes elsewhere. What ran there is the caller's to put again."""
        self._open.pop(node_id, None)
        if self._rooms.pop(node_id, None) is None:
            return
        self._holders_of.clear()
        self._homes = {key: home for key, home in self._homes.items() if home != node_id}
        everything, self._waiting = self._waiting, {}
        self._queues, self._oldest, self._sent = {}, [], {}
        for waiting in everything.values():
            self.put(waiting)

    def put(self, waiting: Waiting, avoid: str | None = None) -> None:
        """A trial waits for a node; `avoid` names one that it should not meet again where another can hold it."""
        if waiting.shape not in self._queues:
            self._queues[waiting.shape] = defaultdict(list)
            self._open = dict(self._rooms)
        holders = self._holders(waiting.shape)
        if not holders:
            self.stranded.append(waiting)
            return
        others = [room for room in holders if avoid and room.node.id != avoid]
        if others:
            self._sent[waiting.order] = min(others, key=_preference).node.id
        heapq.heappush(self._queues[waiting.shape][self._sent.get(waiting.order)], waiting)
        heapq.heappush(self._oldest, waiting.order)
        self._waiting[waiting.order] = waiting

    def next(self) -> tuple[Waiting, Node] | None:
        """The next trial to start and its node, whose resources are booked; None while nothing can start."""
        if not self._waiting:
            return None
        kept_free = self._kept_free()
        for room in sorted(self._open.values(), key=_preference):
            candidates = self._candidates(room)
            if kept_free and kept_free[0] == room.node.id:
                candidates = (c for c in candidates if c.waiting.order == kept_free[1])
            best = min(candidates, default=None)
            if best:
                return self._start(best.waiting, best.owner, room)
        return None

    def release(self, waiting: Waiting, node_id: str) -> None:
        """A trial has ended on a node; a node that has gone meanwhile is no matter."""
        room = self._rooms.get(node_id)
        if room is not None:
            room.book(waiting.shape, -1)
            self._open[node_id] = room

    def _holders(self, shape: Shape) -> list[_Room]:
        known = self._holders_of.get(shape)
        if known is None:
            known = [room for room in self._rooms.values() if shape.fits(room.node.resources)]
            self._holders_of[shape] = known
        return known

    def _start(self, waiting: Waiting, owner: str | None, room: _Room) -> tuple[Waiting, Node]:
        heapq.heappop(self._queues[waiting.shape][owner])
        del self._waiting[waiting.order]
        self._sent.pop(waiting.order, None)
        self._homes.setdefault((waiting.shape, waiting.pair), room.node.id)
        room.book(waiting.shape, +1)
        if not any(room.admits(shape) for shape in self._queues):
            del self._open[room.node.id]
        return waiting, room.node

    def _candidates(self, room: _Room) -> Iterator[_Candidate]:
        """What this room could start, to be ranked: GPU trials on GPU nodes, then its own, then the plan's order."""
        has_gpu = bool(room.node.resources.get("GPU"))
        for shape in self._queues:
            if not room.admits(shape):
                continue
            misfit = has_gpu and not shape.amount("GPU")
            own = [(q[0], owner) for owner in (None, room.node.id) if (q := self._queue(shape, owner))]
            if own:
                waiting, owner = min(own, key=lambda candidate: candidate[0].order)
                yield _Candidate(misfit, False, waiting.order, waiting, owner)
            elif longest := self._longest_of_kind(shape, room):
                waiting = self._queues[shape][longest][0]
                yield _Candidate(misfit, True, waiting.order, waiting, longest)

    def _queue(self, shape: Shape, owner: str | None) -> list[Waiting]:
        """The queue of a home; at the top of the homeless one, trials whose pair has found a home since move there.

        So look at the homeless first: what moves must be seen in the other.
        """
        queue = self._queues[shape][owner]
        while owner is None and queue and (home := self._homes.get((shape, queue[0].pair))):
            heapq.heappush(self._queues[shape][home], heapq.heappop(queue))
        return queue

    def _longest_of_kind(self, shape: Shape, room: _Room) -> str | None:
        """The longest queue at a node of the same kind: helping out there mixes no machines of different speed.

        A trial that was sent away from a node, perhaps from this one, is left where it was sent.
        """
        lengths = {
            owner: len(queue)
            for owner, queue in self._queues[shape].items()
            if queue and owner is not None and queue[0].order not in self._sent
            if self._rooms[owner].node.kind == room.node.kind
        }
        return max(lengths, key=lengths.__getitem__, default=None)

    def _kept_free(self) -> tuple[str, int] | None:
        """The node kept free for the trial that has waited longest, lest smaller ones pass it by for ever."""
        while self._oldest and self._oldest[0] not in self._waiting:
            heapq.heappop(self._oldest)
        if len(self._queues) < 2 or not self._oldest:
            return None
        first = self._waiting[self._oldest[0]]
        chosen = self._sent.get(first.order) or self._homes.get((first.shape, first.pair))
        return chosen or min(self._holders(first.shape), key=_preference).node.id, first.order


def unplaceable(shape: Shape, nodes: Iterable[Node]) -> str | None:
    """Why no node can hold a trial of this shape, as in `3 trials <reason>`; None where one can."""
    nodes = list(nodes)
    if any(shape.fits(node.resources) for node in nodes):
        return None
    for name, amount in shape.amounts:
        most = max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        if most + _EPSILON < amount:
            return _shortage(name, amount, most)
    together = " and ".join(_quantity(name, amount) for name, amount in shape.amounts)
    return f"want {together} together and no node has both"


def _shortage(name: str, amount: float, most: float) -> str:
    if not most:
        thing = {"GPU": "a GPU", "CPU": "a core", "memory": "memory"}.get(name, f"the resource {name!r}")
        return f"want {thing} and no node has one" if name in ("GPU", "CPU") else f"want {thing} and no node has it"
    return f"want {_quantity(name, amount)} and the largest node has {_quantity(name, most)}"


def _quantity(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 1e9:.1f} GB of memory"
    plural = "" if amount == 1 else "s"
    return f"{amount:g} " + {"CPU": f"core{plural}", "GPU": f"GPU{plural}"}.get(name, name)


def _preference(room: _Room) -> tuple[bool, int]:
    """Nodes without a GPU come first, GPUs being dear; then the least busy."""
    return bool(room.node.resources.get("GPU")), room.running
