"""Forecast: how long a plan takes on given nodes, by placing its trials as a sweep would; nothing runs.

Each node counts from the beginning until its last trial has ended: that is what it costs, since an
idle node is given back. What nodes take to start, and to build environments, is not known here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sweep.cluster.placement import Node, Placement, Shape, Waiting
from sweep.errors import SweepError, nearest

NodeTypes = Mapping[str, tuple[int, Mapping[str, float]]]  # how many, and what each has, by name

_MOST_NODES = 10_000
_HINT = "write --nodes cpu=4,gpu-1=2 with the names of available_node_types"


@dataclass
class Usage:
    """What the nodes of one type do: seconds that they are up, added up, and trial seconds of these."""

    nodes: int
    up_s: float = 0.0
    trials: int = 0


@dataclass
class Forecast:
    """How long everything takes, by type of node; `unplaceable` trials fit on none of the nodes."""

    wall_s: float = 0.0
    types: dict[str, Usage] = field(default_factory=dict)
    unplaceable: int = 0


def forecast(trials: Iterable[Any], nodes: NodeTypes, seconds: Callable[[Any], float]) -> Forecast:
    """Run the trials on as many nodes of each type as `nodes` says, which also holds their resources, in thought.

    `seconds` tells how long a trial takes.
    """
    found = Forecast(types={name: Usage(count) for name, (count, _) in nodes.items()})
    type_of = {
        f"{name}-{place}": name for name, (count, _) in nodes.items() for place in range(count)
    }
    placement = Placement(
        {each: Node(each, each, nodes[name][1]) for each, name in type_of.items()}
    )
    for order, trial in enumerate(trials):
        placement.put(Waiting(order, Shape.of(trial.resources), trial.block, trial))
    found.unplaceable = placement.infeasible
    until = _run(placement, seconds, lambda node_id: _count(found.types[type_of[node_id]]))
    for node_id, end_s in until.items():
        found.types[type_of[node_id]].up_s += end_s
    found.wall_s = max(until.values(), default=0.0)
    return found


def node_types(file: Path, wanted: str) -> NodeTypes:
    """`cpu=4,gpu-1=2` as numbers and resources of nodes, by the types that a cluster file describes.

    Raises SweepError for what is no such text, and for types that the file does not have.
    """
    described = _described(file)
    chosen: dict[str, tuple[int, Mapping[str, float]]] = {}
    for part in wanted.split(","):
        name, _, count = (piece.strip() for piece in part.partition("="))
        if not count.isdecimal() or not 0 < int(count) <= _MOST_NODES:
            raise SweepError(f"--nodes {wanted}: {part!r} names no number of nodes", _HINT)
        if name not in described:
            raise SweepError(f"{file} has no node type {name!r}", nearest(name, described))
        # a type that says nothing of its memory has enough
        chosen[name] = (int(count), {"memory": math.inf, **described[name]})
    return chosen


def _run(
    placement: Placement, seconds: Callable[[Any], float], started: Callable[[str], None]
) -> dict[str, float]:
    """Start what can start, end what ends first, and so on; when the last trial of each node has ended."""
    now_s = 0.0
    running: list[tuple[float, int, str, Waiting]] = []
    until: dict[str, float] = {}
    while True:
        while (step := placement.next()) is not None:
            waiting, node = step
            started(node.id)
            heapq.heappush(
                running, (now_s + seconds(waiting.trial), waiting.order, node.id, waiting)
            )
        if not running:
            return until
        now_s, _, node_id, waiting = heapq.heappop(running)
        until[node_id] = now_s
        placement.release(waiting, node_id)


def _count(usage: Usage) -> None:
    usage.trials += 1


def _described(file: Path) -> dict[str, Mapping[str, float]]:
    """The resources of each type of node that a cluster file describes."""
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
        types = read["available_node_types"]
        resources = {str(name): dict(each["resources"]) for name, each in types.items()}
        return {
            name: each for name, each in resources.items() if any(each.values())
        }  # the head runs no trials
    except OSError as error:
        hint = "name the file that describes the cluster with --cluster"
        raise SweepError(f"{file} cannot be read: {error.strerror}", hint) from None
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError):
        hint = "a file for ray up has available_node_types, each with its resources"
        raise SweepError(f"{file} describes no types of nodes", hint) from None
