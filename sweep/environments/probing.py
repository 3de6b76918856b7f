"""Probes: a specification tried out, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweep.environments import building, store
from sweep.environments.failure import EnvironmentFailed
from sweep.environments.specification import Specification
from sweep.environments.store import Environment


@dataclass(frozen=True)
class Probe:
    """What trying `framework` showed: `works`, or else the `reason`; empty texts and 0 where it could not be built."""

    framework: str
    works: bool
    reason: str = ""
    python: str = ""
    numpy: str = ""
    size_bytes: int = 0
    environment: str = ""


def probe(
    spec: Specification,
    trial: Callable[[Environment], str],
    progress: Callable[[str], None],
    discard: bool = False,
) -> Probe:
    """Build `spec`, import the framework, run `trial` in it (it returns why it failed, or an empty text).

    With `discard` an environment that was not there before is removed again, with its downloads: disks are finite.
    """
    known = store.load(spec.id) is not None
    try:
        environment = building.prepare(spec, progress, keep_downloads=not discard)
    except EnvironmentFailed as error:
        return Probe(spec.framework, works=False, reason=error.message)
    try:
        reason = trial(environment)
    finally:
        if discard and not known:
            store.remove(spec.id)
    return Probe(
        framework=spec.framework,
        works=not reason,
        reason=reason or "; ".join(environment.notes),
        python=environment.python_version,
        numpy=environment.numpy,
        size_bytes=environment.size_bytes,
        environment=environment.id,
    )
