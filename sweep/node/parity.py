"""Parity: the proof that a framework computes what the reference does, given once on a node.

A workload that names settings in PARITY_IGNORES has a function `parity`. It runs in a process of
its own before the first trial that needs it, and its result is kept. Each trial then checks a part
of it again. The first trial could have made the whole check itself, as it is the first to need
it, but then the trials of a cell would take their samples after different histories.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweep import atomic, catalog, dependencies, digests, homes
from sweep.catalog import Workload
from sweep.environments import Environment
from sweep.grid import Trial
from sweep.node import hosts, machine
from sweep.node.outcome import Outcome
from workloads.runtime import protocol

Run = Callable[[protocol.Request], Outcome]


class DependsOn(NamedTuple):
    """What the proof depends on beside the request."""

    trial: Trial
    workload: Workload
    environment: Environment
    host: hosts.Key
    run_id: str


class Proof(NamedTuple):
    """What the workload's `parity` returned, or the outcome of a process that did not get there.

    Neither for a workload whose trials check parity by themselves.
    """

    columns: dict[str, Any] | None = None
    failed: Outcome | None = None


def prove(depends_on: DependsOn, request: protocol.Request, run: Run) -> Proof:
    """Return the proof for the trial of this request: the kept one, or that of a new process.

    `run` runs a request on the cores of the trial.
    """
    ignored = depends_on.workload.parity_ignores
    if ignored is None:
        return Proof()
    settings = {name: value for name, value in request.settings.items() if name not in ignored}
    request = request._replace(task=protocol.PARITY, settings=settings)
    kept = _cache_file(depends_on, request)
    if kept.exists():
        return Proof(json.loads(kept.read_text()))
    outcome = run(request)
    columns = outcome.columns.get(protocol.PARITY)
    if columns is None:
        return Proof(failed=outcome)
    atomic.write(kept, json.dumps(columns).encode())
    return Proof(columns)


def _cache_file(depends_on: DependsOn, request: protocol.Request) -> Path:
    """Return the cache file, named by a hash of all that decides whether the check is passed."""
    trial, workload, environment, host, run_id = depends_on
    network = Path(request.network_file) if request.network_file else None
    inputs: Mapping[str, Any] = {
        "environment": [environment.id, str(environment.python), dict(trial.cell.content)],
        "code": _code_digest(workload.path, Path(host.framework_file), network, run_id),
        "settings": request.settings,
        "variables": host.variables,
        "data": request.data,
        "reference": request.reference,
        "memory": request.memory_bytes,
        "machine": [machine.identity(), machine.node_name()],
    }
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    return homes.cache("parity") / f"{name}.json"


@functools.lru_cache(maxsize=64)
def _code_digest(
    workload: Path,
    framework: Path,
    network: Path | None,
    run_id: str,  # noqa: ARG001  see below
) -> str:
    """Return a digest of the process's own code, workload, framework, network, and their imports.

    `run_id` makes a cache entry for each run, as files may change between two of them.
    """
    files: dict[str, Path] = {}
    for path in (catalog.WORKLOADS / "runtime" / "trial.py", workload, framework, network):
        if path is not None:
            files |= dependencies.files_of(path)
    return digests.of_files(files)
