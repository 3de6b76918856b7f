"""Reference values: loss and gradient that every framework is compared with, computed once by the reference and kept.

The reference's environment also answers whether a workload's settings and data can go together at all.
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
from sweep.status import Status
from workloads.runtime import protocol

_REFERENCE = "reference"
_TIMEOUT_S = 3600.0


def specification(overrides: Mapping[str, Mapping[str, Any]]) -> Specification:
    """The environment that reference values are computed in: any NumPy will do, in float64."""
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
    """What the workload's `reference_values` gives for these settings and data; None for one that compares nothing.

    Computed in the environment of `spec`, once on this machine however many processes ask, while no exclusive trial
    runs; `say` hears what is waited for. Raises SweepError.
    """
    if not workload.reference:
        return None
    asked = {name: settings[name] for name in workload.reference if name in settings}
    network = network_file(asked)
    kept = _file(workload.path, network, asked, data, run_id)
    if not kept.exists():
        with locks.held(kept.with_suffix(".lock"), "the reference values", say):
            if not kept.exists():
                computed = _computed(workload, asked, data, cpu, spec, run_id, say)
                atomic.write(kept, json.dumps(computed).encode())
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def network_file(settings: Mapping[str, Any]) -> str | None:
    """The file of the network that the settings name; None where they name none."""
    name = settings.get("network")
    return _network_file(name) if isinstance(name, str) else None


def check(
    workload: Workload,
    settings: Mapping[str, Any],
    data: Prepared | None,
    spec: Specification,
    run_id: str,
) -> None:
    """Raises SweepError with the workload's own words where it refuses these settings on that data.

    On no core of its own: it is over in a moment, and does not wait for the trials of another sweep.
    """
    host = hosts.key(environments.prepare(spec, run_id=run_id), spec, 1, run_id=run_id)
    status, error = _answer(host, protocol.CHECK, workload, settings, data, cores=()).verdict(
        _TIMEOUT_S
    )
    if status != Status.OK:
        raise SweepError(error)


@functools.lru_cache(maxsize=64)
def _network_file(name: str) -> str | None:
    """None for a word that names no network: a workload may call something else so."""
    networks = catalog.networks()
    return str(networks[name].path) if name in networks else None


@functools.lru_cache(maxsize=64)
def _specification(override: str) -> Specification:
    return environments.specify(catalog.known(_REFERENCE), None, override=json.loads(override))


def _computed(
    workload: Workload,
    asked: Mapping[str, Any],
    data: Prepared | None,
    cpu: int,
    spec: Specification,
    run_id: str,
    say: locks.Say,
) -> dict[str, Any]:
    host = hosts.key(environments.prepare(spec, run_id=run_id), spec, max(1, cpu), run_id=run_id)
    with slots.lease(cpu, exclusive=False, say=say) as lease:
        outcome = _answer(host, protocol.REFERENCE_VALUES, workload, asked, data, lease.cores)
    status, error = outcome.verdict(_TIMEOUT_S)
    if status != Status.OK:
        raise SweepError(
            f"the reference values could not be computed: {error}", "see docs/workloads.md"
        )
    return outcome.columns


def _answer(
    host: hosts.Key,
    task: str,
    workload: Workload,
    asked: Mapping[str, Any],
    data: Prepared | None,
    cores: Sequence[int],
) -> hosts.Outcome:
    request = protocol.Request(
        trial=task.replace("_", " "),
        task=task,
        workload_file=str(workload.path),
        settings=dict(asked),
        cores=list(cores),
        data=str(data.folder) if data else None,
        network_file=network_file(asked),
    )
    return hosts.run(host, request, _TIMEOUT_S)


def _file(
    workload: Path,
    network: str | None,
    asked: Mapping[str, Any],
    data: Prepared | None,
    run_id: str,
) -> Path:
    """Named by all that the values depend on: settings, data and the code that computes them."""
    code = _code(workload, Path(network) if network else None, run_id)
    told = json.dumps([asked, data.id if data else "", code], sort_keys=True)
    folder = homes.cache("reference")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


@functools.lru_cache(maxsize=64)
def _code(workload: Path, network: Path | None, run_id: str) -> str:  # noqa: ARG001  it is looked at anew in each run
    """Digest of the code that decides the values: the workload's, the network's, the reference's, and what they import.

    Their NumPy is not in it: the values are in float64, whose last digits are far below every tolerance.
    """
    files = dependencies.found(workload) | dependencies.found(catalog.known(_REFERENCE).path)
    return digests.of_files(files | (dependencies.found(network) if network else {}))
