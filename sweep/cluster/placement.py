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
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sweep.texts import plural

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
            tuple(sorted((name, float(amount)) for name, amount in wanted.items() if amount)),
            resources.exclusive,
        )

    def amount(self, name: str) -> float:
        return dict(self.amounts).get(name, 0.0)

    def without(self, name: str) -> Shape:
        """The same demand but for one resource."""
        return Shape(tuple(pair for pair in self.amounts if pair[0] != name), self.exclusive)

    def __str__(self) -> str:
        """As in `2 cores and 1 GPU, alone on a node`."""
        wanted = " and ".join(_quantity(name, amount) for name, amount in self.amounts)
        return f"{wanted}, alone on a node" if self.exclusive else wanted

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
        return tuple(
            sorted((name, amount) for name, amount in self.resources.items() if name != "memory")
        )


class Waiting(NamedTuple):
    """A trial that waits for a node; `order` is its place in the plan, kept when it has to be placed again."""

    order: int
    shape: Shape
    pair: Hashable
    trial: Any


@dataclass(eq=False)
class _Room:
    """What is free on a node now. `number` tells rooms apart, `stamp` the states of one."""

    node: Node
    number: int
    kind: int
    free: dict[str, float]
    spared: Callable[[Shape], bool]
    running: int = 0
    closed: bool = False  # by an exclusive trial
    stamp: int = 0

    def admits(self, shape: Shape) -> bool:
        if self.closed or (shape.exclusive and self.running):
            return False
        return shape.fits(self.free) and not self.is_spared(shape)

    def could_hold(self, shape: Shape) -> bool:
        """Were it empty."""
        return shape.fits(self.node.resources) and not self.is_spared(shape)

    def is_spared(self, shape: Shape) -> bool:
        """Whether it has a GPU that is not for trials of this shape."""
        return bool(self.node.resources.get("GPU")) and self.spared(shape)

    def book(self, shape: Shape, sign: int) -> None:
        for name, amount in shape.amounts:
            self.free[name] = self.free.get(name, 0.0) - sign * amount
        self.running += sign
        self.closed = shape.exclusive and sign > 0


class _Ranking:
    """Rooms, the least busy first. What a room's change has outdated is cleared as it comes to the top."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, int, _Room]] = []
        self._crowded = 64

    def put(self, room: _Room) -> None:
        heapq.heappush(self._entries, (room.running, room.number, room.stamp, room))
        if len(self._entries) > self._crowded:
            self._entries = [entry for entry in self._entries if entry[3].stamp == entry[2]]
            heapq.heapify(self._entries)
            self._crowded = 2 * len(self._entries) + 64

    def first(self, but: _Room | None = None) -> _Room | None:
        """The least busy room, or the next one where that is `but`."""
        passed_over = None
        while self._entries:
            _, _, stamp, room = self._entries[0]
            if room.stamp == stamp and room is not but:
                break
            entry = heapq.heappop(self._entries)
            passed_over = entry if room.stamp == stamp else passed_over
        found = self._entries[0][3] if self._entries else None
        if passed_over:
            heapq.heappush(self._entries, passed_over)
        return found


_Shelf = dict[str, list[Waiting]]  # heaps, by node; under _NOWHERE those of no node
_NOWHERE = ""


class _Line:
    """The trials of one shape that wait: at home nowhere yet, at home on a node, or sent to one.

    `homes` are the nodes of pairs. `of_kind` is the order of those at home, with their homes, by kind of home; started
    ones are cleared at its top.
    """

    def __init__(self, homes: dict[Hashable, str]) -> None:
        self.homes = homes
        self.homeless: _Shelf = {}
        self.at_home: _Shelf = {}
        self.sent: _Shelf = {}
        self.of_kind: dict[int, list[tuple[int, str]]] = defaultdict(list)

    def without(self, node_id: str) -> _Line:
        """With nobody in it, and the homes but for those on one node."""
        return _Line({pair: home for pair, home in self.homes.items() if home != node_id})

    def bring_home(self, waiting: Waiting, home: str, kind: int) -> None:
        self.first_of_kind(kind)
        heapq.heappush(self.at_home.setdefault(home, []), waiting)
        heapq.heappush(self.of_kind[kind], (waiting.order, home))

    def first_of_kind(self, kind: int) -> str | None:
        """The home whose first trial is the first of all at home on nodes of that kind."""
        entries = self.of_kind[kind]
        while entries:
            order, home = entries[0]
            queue = self.at_home.get(home)
            if queue and queue[0].order == order:
                return home
            heapq.heappop(entries)
        return None


class _Candidate(NamedTuple):
    """What a room could start, and where it waits; the smallest is the best."""

    misfit: bool  # a trial without GPU on a node that has one
    borrowed: bool  # its pair is at home elsewhere
    order: int
    shelf: _Shelf
    owner: str


class Placement:
    """The nodes, and the trials that wait for them.

    A decision costs the number of different shapes times the kinds of node, however many nodes and trials there are.
    A trial that no node could ever hold is `infeasible`: it is put aside and comes back when such a node joins.
    Nodes with a GPU are spared trials of the shapes for which `spared` is true: nodes without can be started for them.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node] | None = None,
        spared: Callable[[Shape], bool] = lambda _: False,
    ) -> None:
        self._spared = functools.cache(spared)
        self._rooms: dict[str, _Room] = {}
        self._kinds: dict[tuple[tuple[str, float], ...], int] = {}
        self._by_load: dict[int, _Ranking] = defaultdict(_Ranking)  # all rooms of a kind
        self._ready: dict[tuple[int, Shape], _Ranking] = defaultdict(
            _Ranking
        )  # those that admit the shape now
        self._lines: dict[Shape, _Line] = {}
        self._sent: dict[int, str] = {}  # where to a trial was sent that must avoid a node
        self._waiting: dict[int, Waiting] = {}
        self._oldest: list[
            int
        ] = []  # orders; of those that wait no longer it is cleared as they come to the top
        self._holders_of: dict[Shape, list[_Room]] = {}
        self._numbers = itertools.count()
        self._stranded: dict[Shape, list[Waiting]] = {}
        for node in (nodes or {}).values():
            self.add(node)

    def __len__(self) -> int:
        """How many trials wait that some node could hold."""
        return len(self._waiting)

    @property
    def infeasible(self) -> int:
        """How many trials wait that no node here can hold."""
        return sum(map(len, self._stranded.values()))

    def waiting(self, limit: int) -> list[Waiting]:
        """Some of those that wait, infeasible ones first."""
        return list(
            itertools.islice(
                itertools.chain(*self._stranded.values(), self._waiting.values()), limit
            )
        )

    @property
    def nodes(self) -> list[Node]:
        return [room.node for room in self._rooms.values()]

    def add(self, node: Node) -> None:
        """A node joins; trials that only it can hold wait no longer in vain."""
        self._holders_of.clear()
        kind = self._kinds.setdefault(node.kind, len(self._kinds))
        room = self._rooms[node.id] = _Room(
            node, next(self._numbers), kind, dict(node.resources), self._spared
        )
        self._changed(room)
        for shape in [shape for shape in self._stranded if room.could_hold(shape)]:
            for waiting in self._stranded.pop(shape):
                self.put(waiting)

    def remove(self, node_id: str) -> None:
        """A node is gone; what waited for it goes elsewhere. What ran there is the caller's to put again."""
        room = self._rooms.pop(node_id, None)
        if room is None:
            return
        room.stamp += 1
        self._holders_of.clear()
        everything, self._waiting = self._waiting, {}
        self._lines = {shape: line.without(node_id) for shape, line in self._lines.items()}
        self._oldest, self._sent = [], {}
        for waiting in everything.values():
            self.put(waiting)

    def put(self, waiting: Waiting, avoid: str | None = None) -> None:
        """A trial waits for a node; `avoid` names one that it should not meet again where another can hold it."""
        shape = waiting.shape
        if shape not in self._lines:
            self._meet(shape)
        holders = self._holders(shape)
        if not holders:
            self._stranded.setdefault(shape, []).append(waiting)
            return
        line = self._lines[shape]
        others = [room for room in holders if room.node.id != avoid] if avoid else []
        if others:
            chosen = self._sent[waiting.order] = min(others, key=_preference).node.id
            heapq.heappush(line.sent.setdefault(chosen, []), waiting)
        elif home := line.homes.get(waiting.pair):
            line.bring_home(waiting, home, self._rooms[home].kind)
        else:
            heapq.heappush(line.homeless.setdefault(_NOWHERE, []), waiting)
        heapq.heappush(self._oldest, waiting.order)
        self._waiting[waiting.order] = waiting

    def next(self) -> tuple[Waiting, Node] | None:
        """The next trial to start and its node, whose resources are booked; None while nothing can start."""
        if not self._waiting:
            return None
        first, kept_free = self._kept_free()
        if first and kept_free and kept_free.admits(first.shape):
            return self._start(
                next(c for c in self._candidates(kept_free) if c.order == first.order), kept_free
            )
        room = min(self._could_start(kept_free), key=_preference, default=None)
        return self._start(min(self._candidates(room)), room) if room else None

    def release(self, waiting: Waiting, node_id: str) -> None:
        """A trial has ended on a node; a node that has gone meanwhile is no matter."""
        room = self._rooms.get(node_id)
        if room is not None:
            room.book(waiting.shape, -1)
            self._changed(room)

    def _meet(self, shape: Shape) -> None:
        """The first trial of a shape."""
        self._lines[shape] = _Line({})
        for room in self._rooms.values():
            if room.admits(shape):
                self._ready[room.kind, shape].put(room)

    def _changed(self, room: _Room) -> None:
        room.stamp += 1
        self._by_load[room.kind].put(room)
        for shape in self._lines:
            if room.admits(shape):
                self._ready[room.kind, shape].put(room)

    def _holders(self, shape: Shape) -> list[_Room]:
        known = self._holders_of.get(shape)
        if known is None:
            known = [room for room in self._rooms.values() if room.could_hold(shape)]
            self._holders_of[shape] = known
        return known

    def _could_start(self, kept_free: _Room | None) -> Iterator[_Room]:
        """Rooms that can start something, among them the one to be preferred."""
        for shape, line in self._lines.items():
            homeless = self._homeless(shape)
            for kind in self._by_load:
                room = self._ready[kind, shape].first(but=kept_free)
                if room and (homeless or line.first_of_kind(kind)):
                    yield room
            for node_id in line.sent:
                room = self._rooms[node_id]
                if room is not kept_free and room.admits(shape):
                    yield room

    def _start(self, chosen: _Candidate, room: _Room) -> tuple[Waiting, Node]:
        queue = chosen.shelf[chosen.owner]
        waiting = heapq.heappop(queue)
        if not queue:
            del chosen.shelf[chosen.owner]
        del self._waiting[waiting.order]
        self._sent.pop(waiting.order, None)
        self._lines[waiting.shape].homes.setdefault(
            waiting.pair, room.node.id
        )  # where the first of a pair starts
        room.book(waiting.shape, +1)
        self._changed(room)
        return waiting, room.node

    def _candidates(self, room: _Room) -> Iterator[_Candidate]:
        """What this room could start, to be ranked: GPU trials on GPU nodes, then its own, then the plan's order."""
        has_gpu = bool(room.node.resources.get("GPU"))
        for shape, line in self._lines.items():
            if not room.admits(shape):
                continue
            misfit = has_gpu and not shape.amount("GPU")
            self._homeless(shape)
            places = (
                (line.homeless, _NOWHERE),
                (line.at_home, room.node.id),
                (line.sent, room.node.id),
            )
            own = [
                _Candidate(misfit, False, shelf[o][0].order, shelf, o)
                for shelf, o in places
                if o in shelf
            ]
            if own:
                yield min(own)
            elif home := line.first_of_kind(room.kind):
                yield _Candidate(misfit, True, line.at_home[home][0].order, line.at_home, home)

    def _homeless(self, shape: Shape) -> bool:
        """Whether a trial waits whose pair is at home nowhere; those whose pair has found a home since move there."""
        line = self._lines[shape]
        while queue := line.homeless.get(_NOWHERE):
            home = line.homes.get(queue[0].pair)
            if home is None:
                return True
            line.bring_home(heapq.heappop(queue), home, self._rooms[home].kind)
        line.homeless.pop(_NOWHERE, None)
        return False

    def _kept_free(self) -> tuple[Waiting | None, _Room | None]:
        """The trial that has waited longest, and the node kept free for it, lest smaller ones pass it by for ever."""
        while self._oldest and self._oldest[0] not in self._waiting:
            heapq.heappop(self._oldest)
        if len(self._lines) < 2 or not self._oldest:
            return None, None
        first = self._waiting[self._oldest[0]]
        chosen = self._sent.get(first.order) or self._lines[first.shape].homes.get(first.pair)
        return first, self._rooms[chosen] if chosen else self._least_busy(first.shape)

    def _least_busy(self, shape: Shape) -> _Room:
        """Of the rooms that could ever hold the shape."""
        first = (ranking.first() for ranking in self._by_load.values())
        fitting = [room for room in first if room and room.could_hold(shape)]
        return min(fitting or self._holders(shape), key=_preference)


def unplaceable(shape: Shape, nodes: Iterable[Node]) -> str | None:
    """Why no node can hold a trial of this shape, as in `3 trials <reason>`; None where one can."""
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
    if not most:
        thing = {"GPU": "a GPU", "CPU": "a core", "memory": "memory"}.get(
            name, f"the resource {name!r}"
        )
        return (
            f"want {thing} and no node has one"
            if name in ("GPU", "CPU")
            else f"want {thing} and no node has it"
        )
    return f"want {_quantity(name, amount)} and the largest node has {_quantity(name, most)}"


def _quantity(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 1e9:.1f} GB of memory"
    noun = {"CPU": "core", "GPU": "GPU"}.get(name)
    if noun is None:
        return f"{amount:g} {name}"
    return f"{amount:g} {noun if amount == 1 else plural(noun)}"


def _preference(room: _Room) -> tuple[bool, int]:
    """Nodes without a GPU come first, GPUs being dear; then the least busy."""
    return bool(room.node.resources.get("GPU")), room.running
