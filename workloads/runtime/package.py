"""Package: any package of the index as a framework, for steps of a user's own.

Nothing is known of the package: whether its import starts threads, which devices it has, how they are waited for. So
every trial has an interpreter of its own, and a value that knows how to be waited for is.
"""

import importlib
from typing import Any, Dict

from workloads.runtime import modules
from workloads.runtime.phases import StepDevice

PROCESS = "spawn"  # its import may start threads, which no fork survives

_module = None  # type: Any


def import_module(distribution: str) -> None:
    """Imports the module that a distribution installs, of which `facts` tells."""
    global _module
    _module = importlib.import_module(modules.module_of(distribution))


def load(settings: Dict[str, Any]) -> None:
    """Nothing to set: threads are set by environment variables before anything is imported."""


def facts() -> Dict[str, Any]:
    """What the package says of itself."""
    if _module is None:
        return {}
    version = getattr(_module, "__version__", "")
    return {"framework_build": "{} {}".format(_module.__name__, version).strip()}


def step_device(settings: Dict[str, Any]) -> StepDevice:
    """Where a step computes, as far as it is known."""
    return StepDevice(settings.get("device", "cpu"), _wait_for, None, dict)


def _wait_for(value: Any) -> None:
    """Waits for a value that says how."""
    wait = getattr(value, "block_until_ready", None)
    if wait is not None:
        wait()
