"""Package: any package of the index as a framework, for steps of the user's own.

Nothing is known of the package: whether its import starts threads, which devices it has, how to
wait for them. So every trial has its own interpreter, and values are waited for if they have a
method for it.
"""

import importlib
from typing import Any, Dict

from workloads.runtime import modules
from workloads.runtime.phases import StepDevice

# The import may start threads, which do not survive a fork.
PROCESS = "spawn"

_module = None  # type: Any


def import_module(distribution: str) -> None:
    """Import the module that a distribution installs; `facts` describes it."""
    global _module
    _module = importlib.import_module(modules.module_of(distribution))


def load(settings: Dict[str, Any]) -> None:
    """Nothing to set: threads are set by environment variables before anything is imported."""


def facts() -> Dict[str, Any]:
    """Return the package's own name and version."""
    if _module is None:
        return {}
    version = getattr(_module, "__version__", "")
    return {"framework_build": "{} {}".format(_module.__name__, version).strip()}


def step_device(settings: Dict[str, Any]) -> StepDevice:
    """Return where a step computes, as far as it is known."""
    return StepDevice(settings.get("device", "cpu"), _wait_for, None, dict)


def _wait_for(value: Any) -> None:
    """Wait for a value that has a method for it."""
    wait = getattr(value, "block_until_ready", None)
    if wait is not None:
        wait()
