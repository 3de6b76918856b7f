"""Forecast: how long a plan takes on given nodes, by a simulation of its placement.

Each node counts from the beginning until its last trial has ended. That is what it costs, since an
idle node is given back. The time to launch nodes and to build environments is not included.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sweep.cluster.placement import Node, Placement, QueuedTrial, Shape
from sweep.errors import SweepError, nearest

NodeTypes = Mapping[str, tuple[int, Mapping[str, float]]]  # name -> (number, resources of each)

_MOST_NODES = 10_000
_HINT = "write --nodes cpu=4,gpu-1=2 with the names of available_node_types"


@dataclass
class Usage:
    """What the nodes of one type do. `up_s` is summed over the nodes."""

    nodes: int
    up_s: float = 0.0
    trials: int = 0


@dataclass
class Forecast:
    """The time of the whole plan, and the usage by node type.

    `infeasible` is the number of trials that fit on none of the nodes.
    """

    wall_s: float = 0.0
    types: dict[str, Usage] = field(default_factory=dict)
    infeasible: int = 0


def forecast(trials: Iterable[Any], nodes: NodeTypes, seconds: Callable[[Any], float]) -> Forecast:
    """Simulate the trials on these nodes; `seconds` returns the duration of a trial."""
    result = Forecast(types={name: Usage(count) for name, (count, _) in nodes.items()})
    type_of = {
        f"{name}-{number}": name for name, (count, _) in nodes.items() for number in range(count)
    }
    placement = Placement(
        {node_id: Node(node_id, node_id, nodes[name][1]) for node_id, name in type_of.items()}
    )
    for order, trial in enumerate(trials):
        placement.put(QueuedTrial(order, Shape.of(trial.resources), trial.block, trial))
    result.infeasible = placement.infeasible

    def count_trial(node_id: str) -> None:
        result.types[type_of[node_id]].trials += 1

    ends = _simulate(placement, seconds, count_trial)
    for node_id, end_s in ends.items():
        result.types[type_of[node_id]].up_s += end_s
    result.wall_s = max(ends.values(), default=0.0)
    return result


def node_types(file: Path, wanted: str) -> NodeTypes:
    """Parse `cpu=4,gpu-1=2` into numbers of nodes, with the resources from a cluster file.

    Raises SweepError where the text is malformed, and for types that the file does not have.
    """
    described = _described_types(file)
    chosen: dict[str, tuple[int, Mapping[str, float]]] = {}
    for part in wanted.split(","):
        name, _, count = (piece.strip() for piece in part.partition("="))
        if not count.isdecimal() or not 0 < int(count) <= _MOST_NODES:
            raise SweepError(f"--nodes {wanted}: {part!r} names no number of nodes", _HINT)
        if name not in described:
            raise SweepError(f"{file} has no node type {name!r}", nearest(name, described))
        # A type that does not declare its memory is taken to have enough.
        chosen[name] = (int(count), {"memory": math.inf, **described[name]})
    return chosen


def _simulate(
    placement: Placement, seconds: Callable[[Any], float], on_start: Callable[[str], None]
) -> dict[str, float]:
    """Run all trials in simulated time; return by node when its last trial ends."""
    now_s = 0.0
    running: list[tuple[float, int, str, QueuedTrial]] = []
    ends: dict[str, float] = {}
    while True:
        while (placed := placement.next()) is not None:
            queued, node = placed
            on_start(node.id)
            end_s = now_s + seconds(queued.trial)
            heapq.heappush(running, (end_s, queued.order, node.id, queued))
        if not running:
            return ends
        now_s, _, node_id, queued = heapq.heappop(running)
        ends[node_id] = now_s
        placement.release(queued, node_id)


def _described_types(file: Path) -> dict[str, Mapping[str, float]]:
    """Return the resources of each node type in a cluster file that can run trials."""
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        types = config["available_node_types"]
        resources = {str(name): dict(kind["resources"]) for name, kind in types.items()}
        # The head declares no resources, so that it runs no trials.
        return {name: amounts for name, amounts in resources.items() if any(amounts.values())}
    except OSError as error:
        hint = "name the file that describes the cluster with --cluster"
        raise SweepError(f"{file} cannot be read: {error.strerror}", hint) from None
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError):
        hint = "a file for ray up has available_node_types, each with its resources"
        raise SweepError(f"{file} describes no types of nodes", hint) from None
