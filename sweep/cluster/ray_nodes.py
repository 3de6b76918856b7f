"""Ray's description of its nodes (`ray.nodes()`), read as `Node`s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sweep.cluster.placement import Node

RayNode = Mapping[str, Any]  # one entry of `ray.nodes()`


def raylet_addresses(listed: Iterable[RayNode]) -> dict[str, tuple[str, int]]:
    """Return host and port of each node's raylet, by node id."""
    return {
        node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in listed
    }


def usable(listed: list[dict[str, Any]]) -> Iterator[Node]:
    """Yield the nodes that can run anything, under names that users know."""
    shared = Counter(name for node in listed for name in set(_names(node)))
    for node in listed:
        resources = {
            name: amount
            for name, amount in node["Resources"].items()
            if not name.startswith("node:") and name != "object_store_memory"
        }
        if resources.get("CPU") or resources.get("GPU"):
            names = _names(node)
            # Where every name is shared, the start of the id tells the nodes apart.
            fallback = f"{names[0]}#{node['NodeID'][:6]}"
            name = next((name for name in names if shared[name] == 1), fallback)
            yield Node(node["NodeID"], name, resources)


def _names(node: RayNode) -> list[str]:
    """Return the names of a node, the best first: given at its start, host name, address."""
    address, given = node["NodeManagerAddress"], node["NodeName"]
    names = [node["NodeManagerHostname"], address]
    return [given, *names] if given not in ("", address) else names
