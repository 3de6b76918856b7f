"""Demand: telling an autoscaler which nodes trials wait for.

Ray offers `request_resources` for this. It is not used: the request outlives a driver that is killed and keeps nodes
for ever, and Ray's newer autoscaler refuses it as a whole where its types cannot hold all of it at once. Placement
groups are counted one by one, but take what they asked for away from the trials as soon as it is there.

So for the trials that wait there are tasks with their resources that do nothing. Both autoscalers count waiting tasks
one by one. Such a task returns as soon as a new node can run it, and ends with the driver, however that ends. It keeps
off the nodes that are there: it would take the cores that a trial is about to get.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.cluster.autoscaler import NodeType
from sweep.cluster.placement import Node, Shape

PIECES_MOST = 256  # tasks that wait at once; where the sizes of nodes are known each stands for all trials of a node

Piece = tuple[tuple[str, float], ...]  # resources that must be free together on one node, by name


class Demand:
    """The tasks that wait on behalf of trials."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._task = session.ray.remote(max_retries=0)(_nothing)
        self._waiting: dict[Piece, list[Any]] = {}
        self._avoid: frozenset[str] = frozenset()

    def ask(self, pieces: Counter[Piece], avoid: frozenset[str] = frozenset()) -> None:
        """Ask for exactly these from now on, on nodes other than those to avoid, named by their ids."""
        if avoid != self._avoid:
            self._withdraw({piece: len(refs) for piece, refs in self._waiting.items()})
            self._avoid = avoid
        self._forget_what_has_run()
        counts = {piece: len(refs) for piece, refs in self._waiting.items()}
        self._withdraw({piece: count - pieces[piece] for piece, count in counts.items()})
        for piece, count in pieces.items():
            missing = count - len(self._waiting.get(piece, ()))
            if missing > 0:
                task = self._task.options(**self._options(piece))
                self._waiting.setdefault(piece, []).extend(task.remote() for _ in range(missing))

    def _forget_what_has_run(self) -> None:
        refs = [ref for refs in self._waiting.values() for ref in refs]
        if refs:
            waiting = set(self._session.ray.wait(refs, num_returns=len(refs), timeout=0)[1])
            self._waiting = {
                piece: [ref for ref in of if ref in waiting] for piece, of in self._waiting.items()
            }

    def _withdraw(self, counts: Mapping[Piece, int]) -> None:
        for piece, count in counts.items():
            for _ in range(count):
                self._session.ray.cancel(self._waiting[piece].pop())

    def _options(self, piece: Piece) -> dict[str, Any]:
        amounts = dict(piece)
        options: dict[str, Any] = {
            "num_cpus": amounts.pop("CPU", 0.0),
            "num_gpus": amounts.pop("GPU", 0.0),
        }
        if memory := amounts.pop("memory", 0.0):
            options["memory"] = int(memory)
        if amounts:
            options["resources"] = amounts
        if self._avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._avoid))})"}
        return options


def _nothing() -> None:
    """That it waits is its use."""


def pieces(
    waiting: Mapping[Shape, int],
    coming: Iterable[Node],
    there: Sequence[Node],
    types: Sequence[NodeType] | None,
) -> Counter[Piece]:
    """What to ask for, so that the trials that wait can run at once and no node starts without a trial for it.

    `coming` are nodes that are up and not ready yet: they hold some of the trials. `there` are all nodes that are up,
    `types` those that can be started, if that is known.
    """
    left = _beyond(Counter(waiting), coming, types or ())
    asked: Counter[Piece] = Counter()
    for shape, count in left.items():
        if types is not None and not shape.amount("GPU"):
            count = min(count, _without_gpus(shape, there, types))
        asked.update(_pieces_of(shape, count, there, types))
    return Counter(dict(_first(asked, PIECES_MOST)))


def _beyond(
    waiting: Counter[Shape], coming: Iterable[Node], types: Sequence[NodeType]
) -> Counter[Shape]:
    """The trials that the nodes to come will not hold at once."""
    for node in coming:
        free, is_empty = dict(node.resources), True
        for shape, count in waiting.items():
            spared = (
                node.resources.get("GPU") and not shape.amount("GPU") and without_gpu(shape, types)
            )
            if spared or (shape.exclusive and not is_empty):
                continue
            held = min(count, _times(shape, free))
            waiting[shape] -= held
            for name, amount in shape.amounts:
                free[name] = free.get(name, 0.0) - held * amount
            is_empty = is_empty and not held
            if held and shape.exclusive:
                break
    return +waiting


def _times(shape: Shape, free: Mapping[str, float]) -> int:
    """How many trials of a shape a node with so much free can run at once."""
    if not shape.fits(free):
        return 0
    if shape.exclusive or not shape.amounts:
        return 1
    return min(int(free[name] / amount + 1e-6) for name, amount in shape.amounts)


def _without_gpus(shape: Shape, there: Sequence[Node], types: Sequence[NodeType]) -> int:
    """How many trials more could run on nodes without GPU, which are cheaper; all, where no such node can hold them."""
    plain = without_gpu(shape, types)
    if not plain:
        return sys.maxsize
    could = sum(kind.most * _times(_declared(shape, kind), kind.resources) for kind in plain)
    can = sum(_times(shape, node.resources) for node in there if not node.resources.get("GPU"))
    return max(0, could - can)


def _pieces_of(
    shape: Shape, count: int, there: Sequence[Node], types: Sequence[NodeType] | None
) -> Counter[Piece]:
    """Demands that make a node start for as many trials as it can hold, and none for fewer.

    An exclusive trial asks for all cores of the smallest node that would do, as it will take them. Where the sizes of
    nodes to come are not known, one trial asks for no more than it needs: any size may come.
    """
    if types is not None and not any("memory" in kind.resources for kind in types):
        shape = shape.without("memory")
    sizes = (
        [node.resources for node in there] if types is None else [kind.resources for kind in types]
    )
    fitting = [size for size in sizes if shape.fits(size)]
    if not fitting:
        return Counter({shape.amounts: count})
    size = min(fitting, key=lambda size: (size.get("GPU", 0.0), size.get("CPU", 0.0)))
    if shape.exclusive:
        whole = tuple(sorted((dict(shape.amounts) | {"CPU": size.get("CPU", 0.0)}).items()))
        single = 1 if types is None and count else 0
        return Counter({whole: count - single}) + Counter({shape.amounts: single})
    if types is None:
        return Counter({shape.amounts: count})
    together = _times(shape, size)
    full, rest = divmod(count, together)
    return Counter({_times_over(shape, together): full}) + Counter(
        {_times_over(shape, rest): min(rest, 1)}
    )


def _times_over(shape: Shape, times: int) -> Piece:
    return tuple((name, times * amount) for name, amount in shape.amounts)


def without_gpu(shape: Shape, types: Sequence[NodeType]) -> list[NodeType]:
    """The types without a GPU that could hold a trial."""
    return [kind for kind in types if not kind.resources.get("GPU") and could_hold(kind, shape)]


def could_hold(kind: NodeType, shape: Shape) -> bool:
    """Whether a node of a type could hold a trial; of memory that the type does not declare nothing is known."""
    return _declared(shape, kind).fits(kind.resources)


def _declared(shape: Shape, kind: NodeType) -> Shape:
    return shape if "memory" in kind.resources else shape.without("memory")


def _first(asked: Counter[Piece], most: int) -> Iterable[tuple[Piece, int]]:
    """The first so many of them."""
    ends = itertools.accumulate(asked.values())
    for (piece, count), end in zip(asked.items(), ends, strict=True):
        kept = min(count, most - (end - count))
        if kept > 0:
            yield piece, kept
