"""Demand: ask an autoscaler for the nodes that waiting trials need.

Ray's `request_resources` is not used. Its request outlives a driver that is killed and then keeps
nodes for ever, and the newer autoscaler refuses all of it where its types cannot hold all at once.
Placement groups are counted one by one, but as soon as a node is up they take its resources away
from the trials.

So tasks that do nothing are submitted, with the resources of the waiting trials. Both autoscalers
count pending tasks one by one. Such a task returns as soon as a new node can run it, and it ends
with the driver, however that ends. It avoids the nodes that are up, where it would take the cores
that a trial is about to get.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.cluster.autoscaler import NodeType
from sweep.cluster.placement import Node, Shape

# Pending tasks at most. Where the sizes of nodes are known, one task stands for all the trials
# that a node can hold.
PIECES_MOST = 256
_EPSILON = 1e-6  # tolerance of sums of fractions, as three thirds of a GPU

Piece = tuple[tuple[str, float], ...]  # resources that must be free together on one node, by name


class Demand:
    """The pending tasks that stand for trials."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._task = session.ray.remote(max_retries=0)(_do_nothing)
        self._pending: dict[Piece, list[Any]] = {}
        self._avoid: frozenset[str] = frozenset()

    def ask(self, pieces: Counter[Piece], avoid: frozenset[str] = frozenset()) -> None:
        """Ask for exactly these pieces from now on, not on the nodes with the ids `avoid`."""
        if avoid != self._avoid:
            # The nodes to avoid are an option of each task, so all are submitted again.
            self._withdraw(self._counts())
            self._avoid = avoid
        self._drop_finished()
        self._withdraw({piece: count - pieces[piece] for piece, count in self._counts().items()})
        for piece, count in pieces.items():
            missing = count - len(self._pending.get(piece, ()))
            if missing > 0:
                task = self._task.options(**self._options(piece))
                self._pending.setdefault(piece, []).extend(task.remote() for _ in range(missing))

    def _counts(self) -> dict[Piece, int]:
        return {piece: len(refs) for piece, refs in self._pending.items()}

    def _drop_finished(self) -> None:
        everything = [ref for refs in self._pending.values() for ref in refs]
        if not everything:
            return
        _, pending = self._session.ray.wait(everything, num_returns=len(everything), timeout=0)
        still = set(pending)
        self._pending = {
            piece: [ref for ref in refs if ref in still] for piece, refs in self._pending.items()
        }

    def _withdraw(self, counts: Mapping[Piece, int]) -> None:
        """Cancel so many tasks of each piece; a negative number cancels none."""
        for piece, count in counts.items():
            for _ in range(count):
                self._session.ray.cancel(self._pending[piece].pop())

    def _options(self, piece: Piece) -> dict[str, Any]:
        """Return Ray's options of a task that stands for a piece."""
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


def _do_nothing() -> None:
    """Run on a new node; only the time until then matters."""


def pieces(
    waiting: Mapping[Shape, int],
    joining: Iterable[Node],
    up: Sequence[Node],
    types: Sequence[NodeType] | None,
) -> Counter[Piece]:
    """Return what to ask for.

    With it all waiting trials can run at once, and no node is launched without a trial for it.
    `joining` are nodes that are up and not ready yet; they will hold some of the trials. `up` are
    all nodes that are up, `types` those that can be launched, None if unknown.
    """
    left = _beyond(Counter(waiting), joining, types or ())
    asked: Counter[Piece] = Counter()
    for shape, count in left.items():
        if types is not None and not shape.amount("GPU"):
            count = min(count, _most_without_gpu(shape, up, types))
        asked.update(_pieces_of(shape, count, up, types))
    return Counter(dict(_first(asked, PIECES_MOST)))


def _beyond(
    waiting: Counter[Shape], joining: Iterable[Node], types: Sequence[NodeType]
) -> Counter[Shape]:
    """Return the trials that the joining nodes cannot hold at once."""
    for node in joining:
        free, is_empty = dict(node.resources), True
        for shape, count in waiting.items():
            if _avoids(node, shape, types) or (shape.exclusive and not is_empty):
                continue
            held = min(count, _capacity(shape, free))
            waiting[shape] -= held
            for name, amount in shape.amounts:
                free[name] = free.get(name, 0.0) - held * amount
            is_empty = is_empty and not held
            if held and shape.exclusive:
                break
    return +waiting


def _avoids(node: Node, shape: Shape, types: Sequence[NodeType]) -> bool:
    """Return whether trials of a shape stay off a node because of its GPU."""
    wastes_gpu = node.resources.get("GPU") and not shape.amount("GPU")
    return bool(wastes_gpu and without_gpu(shape, types))


def _capacity(shape: Shape, free: Mapping[str, float]) -> int:
    """Return how many trials of a shape these free resources of a node can run at once."""
    if not shape.fits(free):
        return 0
    if shape.exclusive or not shape.amounts:
        return 1
    return min(int(free[name] / amount + _EPSILON) for name, amount in shape.amounts)


def _most_without_gpu(shape: Shape, up: Sequence[Node], types: Sequence[NodeType]) -> int:
    """Return how many more trials could run on nodes without a GPU, which are cheaper.

    Return no limit where no such node can hold them.
    """
    plain = without_gpu(shape, types)
    if not plain:
        return sys.maxsize
    possible = sum(kind.most * _capacity(_declared(shape, kind), kind.resources) for kind in plain)
    current = sum(_capacity(shape, node.resources) for node in up if not node.resources.get("GPU"))
    return max(0, possible - current)


def _pieces_of(
    shape: Shape, count: int, up: Sequence[Node], types: Sequence[NodeType] | None
) -> Counter[Piece]:
    """Return pieces that launch one node for as many trials as it can hold.

    An exclusive trial asks for all cores of the smallest node that can hold it, since it will take
    them. Where the sizes of new nodes are unknown, one trial asks only for what it needs: a node
    of any size may come.
    """
    if types is not None and not any("memory" in kind.resources for kind in types):
        shape = shape.without("memory")
    models: Sequence[Node | NodeType] = up if types is None else types
    fitting = [model.resources for model in models if shape.fits(model.resources)]
    if not fitting:
        return Counter({shape.amounts: count})
    size = min(fitting, key=lambda size: (size.get("GPU", 0.0), size.get("CPU", 0.0)))
    if shape.exclusive:
        whole = tuple(sorted((dict(shape.amounts) | {"CPU": size.get("CPU", 0.0)}).items()))
        single = 1 if types is None and count else 0
        return Counter({whole: count - single}) + Counter({shape.amounts: single})
    if types is None:
        return Counter({shape.amounts: count})
    together = _capacity(shape, size)
    full, rest = divmod(count, together)
    whole_nodes = Counter({_times(shape, together): full})
    return whole_nodes + Counter({_times(shape, rest): min(rest, 1)})


def _times(shape: Shape, factor: int) -> Piece:
    return tuple((name, factor * amount) for name, amount in shape.amounts)


def without_gpu(shape: Shape, types: Sequence[NodeType]) -> list[NodeType]:
    """Return the types without a GPU that could hold a trial."""
    return [kind for kind in types if not kind.resources.get("GPU") and could_hold(kind, shape)]


def could_hold(kind: NodeType, shape: Shape) -> bool:
    """Return whether a node of a type could hold a trial.

    A type that does not declare its memory is taken to have enough.
    """
    return _declared(shape, kind).fits(kind.resources)


def _declared(shape: Shape, kind: NodeType) -> Shape:
    return shape if "memory" in kind.resources else shape.without("memory")


def _first(asked: Counter[Piece], most: int) -> Iterable[tuple[Piece, int]]:
    """Yield pieces with their numbers, up to a total of `most`."""
    ends = itertools.accumulate(asked.values())
    for (piece, count), end in zip(asked.items(), ends, strict=True):
        kept = min(count, most - (end - count))
        if kept > 0:
            yield piece, kept
