"""Environments: isolated Pythons, each with one version of one framework, built by uv.

spec = specify(frameworks()["torch"], "2.13.0", device="cpu", backend="default")
environment = prepare(spec)  # loaded or built; raises EnvironmentFailed
environment.python  # the interpreter for workers
"""

from sweep.environments.building import Plan, lock, plan, prepare
from sweep.environments.failure import EnvironmentFailed
from sweep.environments.specification import Specification, check_there, specify
from sweep.environments.store import Environment, environments, remove, root, unfinished

__all__ = [
    "Environment",
    "EnvironmentFailed",
    "Plan",
    "Specification",
    "check_there",
    "environments",
    "lock",
    "plan",
    "prepare",
    "remove",
    "root",
    "specify",
    "unfinished",
]
