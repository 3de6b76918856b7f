"""Probes: try a specification and report whether it works."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep import process
from sweep.catalog import WORKLOADS, Framework
from sweep.environments import building, store
from sweep.environments.failure import EnvironmentFailed, tail
from sweep.environments.specification import Specification
from sweep.environments.store import Environment

_TIMEOUT_S = 600
_REFUSED = "workloads.runtime.refusals.Unsupported: "


@dataclass(frozen=True)
class Probe:
    """The result of trying a framework. `reason` is the failure, or a note on the build.

    Texts are empty and the size is 0 where the environment could not be built.
    """

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
    """Build `spec`, import the framework, and run `trial`, which returns an error message or "".

    With `discard`, an environment that did not exist before is removed again with its downloads,
    to save disk space.
    """
    existed = store.load(spec.id) is not None
    try:
        environment = building.prepare(spec, progress, keep_downloads=not discard)
    except EnvironmentFailed as error:
        return Probe(spec.framework, works=False, reason=error.message)
    try:
        reason = trial(environment)
    finally:
        if discard and not existed:
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


def step(environment: Environment, framework: Framework, backend: str, device: str) -> str:
    """Run forward and backward of the DeepPose network; return an error message or ""."""
    settings = {
        "framework": environment.framework,
        "backend": backend,
        "device": device,
        "backward": "autograd",
        "seed": 0,
        "batch_exponent": 0,
        "threads": 1,
    }
    launcher = str(WORKLOADS / "__main__.py")
    command = [str(environment.python), "-I", "-B", launcher, "--step", str(framework.path)]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {
        "OMP_NUM_THREADS": "1"
    }
    with tempfile.TemporaryDirectory(prefix="sweep-") as empty:
        ended = process.run([*command, json.dumps(settings)], variables, _TIMEOUT_S, Path(empty))
    if ended.timed_out:
        return f"one step takes more than {_TIMEOUT_S} s"
    if ended.returncode < 0:
        return f"killed by signal {-ended.returncode}"
    last = (tail(ended.stderr).splitlines() or ["it failed without a word"])[-1]
    return "" if ended.returncode == 0 else last.removeprefix(_REFUSED)
