"""Preparation: what each node has before its first trial, and which node is at fault.

An environment that cannot be built on any node is a fact about the environment, and its trials are
recorded so. An environment that can be built on some nodes only is a fault of the other nodes,
which get no trials. The two cases can be told apart only when another node has answered. So a node
that lacks something is not used while others are being prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Provided(Protocol):
    """The answer of a node: names of what it has, what failed with the reasons, and warnings."""

    @property
    def ready(self) -> frozenset[str]: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


class Preparation:
    """The answers of the nodes that are up."""

    def __init__(self) -> None:
        self._failed: dict[str, Mapping[str, str]] = {}  # by node
        self._ready: set[str] = set()  # what any node has had, also one that is gone

    def add(self, node_id: str, provided: Provided) -> None:
        """Take the answer of a node."""
        self._failed[node_id] = provided.failed
        self._ready |= provided.ready

    def forget(self, node_id: str) -> None:
        """Drop the answer of a node that is not used any more."""
        self._failed.pop(node_id, None)

    def fault(self, node_id: str) -> str | None:
        """Return why a node is at fault: it lacks what another node has. None where it is not."""
        failed = self._failed.get(node_id, {})
        return next((reason for name, reason in failed.items() if name in self._ready), None)

    def missing(self, node_id: str) -> Mapping[str, str]:
        """Return the names of what could not be provided on a node, with the reasons."""
        return self._failed.get(node_id, {})
