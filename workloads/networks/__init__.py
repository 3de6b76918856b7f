"""Networks by name: what a trial computes.

Each is a file of this folder, or of a plug-in, that assigns NETWORK.
"""

import importlib
from typing import Any, Dict  # noqa: F401  of a comment that says a type

_PLUGGED = {}  # type: Dict[str, Any]


def get(name: str) -> Any:
    """Return the network called `name`: an added one, else that of the file in this folder."""
    if name in _PLUGGED:
        return _PLUGGED[name]
    return importlib.import_module("workloads.networks." + name).NETWORK


def add(name: str, network: Any) -> None:
    """Register a network of a plug-in, whose file is elsewhere, in this process."""
    _PLUGGED[name] = network
