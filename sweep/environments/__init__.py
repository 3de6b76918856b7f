"""Environments: isolated Pythons, each with one framework version, specified purely and built by uv.

spec = specify(frameworks()["torch"], "2.13.0", device="cpu", backend="default")
environment = prepare(spec)        # found, or built once; EnvironmentFailed says why not
environment.python                 # start workers with it
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
