"""Preparation: what each node could be given before its first trial, and whose fault it is where something is missing.

An environment that can be built on no node is a fact about the environment: its trials are recorded so. One that can
be built on some nodes and not on others is a fault of the others, which get no trials. Which of the two it is shows
only when another node has answered, so a node that lacks something is not used while others are being prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Provided(Protocol):
    """What a node answers: what it has, what it could not be given and why, both by name; and warnings."""

    @property
    def ready(self) -> frozenset[str]: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


class Preparation:
    """The answers of the nodes that are there."""

    def __init__(self) -> None:
        self._failed: dict[str, Mapping[str, str]] = {}  # by node
        self._ready: set[str] = set()  # what some node has been given; also one that has gone since

    def answered(self, node_id: str, provided: Provided) -> None:
        self._failed[node_id] = provided.failed
        self._ready |= provided.ready

    def forget(self, node_id: str) -> None:
        self._failed.pop(node_id, None)

    def fault(self, node_id: str) -> str | None:
        """Why a node is to blame: the first thing that it lacks and another node has; None where it is not."""
        failed = self._failed.get(node_id, {})
        return next((reason for thing, reason in failed.items() if thing in self._ready), None)

    def lacks(self, node_id: str) -> Mapping[str, str]:
        """What a node could not be given, with the reasons."""
        return self._failed.get(node_id, {})
