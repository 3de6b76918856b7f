"""Reference values: loss and gradient that frameworks are compared with.

The NumPy reference computes them once, and they are cached. Its environment also checks whether a
workload accepts its settings and data.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep import atomic, catalog, dependencies, digests, environments, homes, locks
from sweep.catalog import Workload
from sweep.datasets import Prepared
from sweep.environments import Specification
from sweep.errors import SweepError
from sweep.node import hosts, slots
from sweep.node.outcome import Outcome
from sweep.status import Status
from workloads.runtime import protocol

_REFERENCE = "reference"
_TIMEOUT_S = 3600.0


def specification(overrides: Mapping[str, Mapping[str, Any]]) -> Specification:
    """Return the environment for reference values; any NumPy serves, as they are in float64."""
    return _specification(json.dumps(dict(overrides.get(_REFERENCE, {})), sort_keys=True))


def values(
    workload: Workload,
    settings: Mapping[str, Any],
    data: Prepared | None,
    cpu: int,
    spec: Specification,
    run_id: str,
    say: locks.Say = locks.silent,
) -> dict[str, Any] | None:
    """Return the result of the workload's `reference_values` for these settings and data.

    Return None for a workload without a reference. The values are computed in the environment of
    `spec`, once on this machine for all processes, and while no exclusive trial runs. `say` is
    called with what is waited for. Raises SweepError where the computation fails.
    """
    if not workload.reference:
        return None
    relevant = {name: settings[name] for name in workload.reference if name in settings}
    cached = _cache_file(workload.path, network_file(relevant), relevant, data, run_id)
    if not cached.exists():
        with locks.held(cached.with_suffix(".lock"), "the reference values", say):
            # Another process may have computed them while this one waited for the lock.
            if not cached.exists():
                computed = _compute(workload, relevant, data, cpu, spec, run_id, say)
                atomic.write(cached, json.dumps(computed).encode())
    result: dict[str, Any] = json.loads(cached.read_text())
    return result


def network_file(settings: Mapping[str, Any]) -> str | None:
    """Return the file of the network that the settings name, None without one."""
    name = settings.get("network")
    return _network_file(name) if isinstance(name, str) else None


def check(
    workload: Workload,
    settings: Mapping[str, Any],
    data: Prepared | None,
    spec: Specification,
    run_id: str,
) -> None:
    """Raise SweepError with the workload's message where it refuses these settings or the data.

    The check is short, so it leases no cores and does not wait for the trials of another sweep.
    """
    host = hosts.key(environments.prepare(spec, run_id=run_id), spec, 1, run_id=run_id)
    outcome = _run(host, protocol.CHECK, workload, settings, data, cores=())
    status, error = outcome.verdict(_TIMEOUT_S)
    if status != Status.OK:
        raise SweepError(error)


@functools.lru_cache(maxsize=64)
def _network_file(name: str) -> str | None:
    """Return a network's file; None for another name, since a workload may use the key itself."""
    networks = catalog.networks()
    return str(networks[name].path) if name in networks else None


@functools.lru_cache(maxsize=64)
def _specification(override: str) -> Specification:
    return environments.specify(
        catalog.get_framework(_REFERENCE), None, override=json.loads(override)
    )


def _compute(
    workload: Workload,
    settings: Mapping[str, Any],
    data: Prepared | None,
    cpu: int,
    spec: Specification,
    run_id: str,
    say: locks.Say,
) -> dict[str, Any]:
    host = hosts.key(environments.prepare(spec, run_id=run_id), spec, max(1, cpu), run_id=run_id)
    with slots.lease(cpu, exclusive=False, say=say) as lease:
        outcome = _run(host, protocol.REFERENCE_VALUES, workload, settings, data, lease.cores)
    status, error = outcome.verdict(_TIMEOUT_S)
    if status != Status.OK:
        raise SweepError(
            f"the reference values could not be computed: {error}", "see docs/workloads.md"
        )
    return outcome.columns


def _run(
    host: hosts.Key,
    task: str,
    workload: Workload,
    settings: Mapping[str, Any],
    data: Prepared | None,
    cores: Sequence[int],
) -> Outcome:
    request = protocol.Request(
        trial=task.replace("_", " "),
        task=task,
        workload_file=str(workload.path),
        settings=dict(settings),
        cores=list(cores),
        data=str(data.folder) if data else None,
        weights=str(homes.cache("weights")),
        network_file=network_file(settings),
    )
    return hosts.run(host, request, _TIMEOUT_S)


def _cache_file(
    workload: Path,
    network: str | None,
    settings: Mapping[str, Any],
    data: Prepared | None,
    run_id: str,
) -> Path:
    """Return the cache file, named by a hash of settings, data and the code that computes."""
    code = _code_digest(workload, Path(network) if network else None, run_id)
    inputs = json.dumps([settings, data.id if data else "", code], sort_keys=True)
    folder = homes.cache("reference")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.json"


@functools.lru_cache(maxsize=64)
def _code_digest(workload: Path, network: Path | None, run_id: str) -> str:  # noqa: ARG001  see below
    """Return a digest of the workload, the network, the reference, and all their imports.

    `run_id` makes a cache entry for each run, as files may change between two of them.
    The version of NumPy is left out: the values are in float64, and its versions differ by far
    less than every tolerance.
    """
    files = dependencies.files_of(workload) | dependencies.files_of(
        catalog.get_framework(_REFERENCE).path
    )
    return digests.of_files(files | (dependencies.files_of(network) if network else {}))
