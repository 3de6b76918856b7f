"""Provision: what a node must have before the first of its trials is timed: environments and data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sweep import catalog, datasets, environments
from sweep.axes import batch_size
from sweep.environments import EnvironmentFailed, Specification
from sweep.node import gpus, hosts, reference_values
from sweep.node.worker import specification

Say = Callable[[str], None]
Data = tuple[str, str | None]  # name and path


class Check(NamedTuple):
    """What a workload wants to have looked at before anything is timed; `settings` are JSON."""

    workload: str
    settings: str
    data: Data
    reference: Specification


class Provided(NamedTuple):
    """What came of it: ids of the environments that are there, of those that failed with the reason, and warnings."""

    ready: frozenset[str]
    failed: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """Environments and data sets of some trials; `run_id` tells one invocation from the next.

    `data` holds each data set and its least number of examples; `gpu_only` are the environments that no trial on a CPU
    needs.
    """

    specifications: tuple[Specification, ...]
    data: Mapping[Data, int]
    checks: tuple[Check, ...] = ()
    run_id: str = ""
    gpu_only: frozenset[Specification] = frozenset()


def needs(
    trials: Iterable[Any], overrides: Mapping[str, Mapping[str, Any]], run_id: str = ""
) -> Needs:
    """What these trials need, and what they are compared with, each thing once, in the order in which they come."""
    workloads = catalog.workloads()
    devices: dict[Specification, set[str]] = {}
    data: dict[Data, int] = {}
    checks: dict[Check, None] = {}
    for cell in {trial.cell.id: trial.cell for trial in trials}.values():
        settings, workload = cell.settings, workloads[cell.settings["workload"]]
        spec = specification(
            settings["framework"], settings["device"], settings["backend"], overrides
        )
        devices.setdefault(spec, set()).add(settings["device"])
        if workload.reference or workload.check:
            devices.setdefault(reference_values.specification(overrides), set()).add("cpu")
        if settings.get("data"):
            key = (settings["data"], settings.get("data_path"))
            data[key] = max(data.get(key, 1), batch_size(settings) or 1)
            if workload.check:
                asked = {name: settings[name] for name in workload.check if name in settings}
                told = json.dumps(asked, sort_keys=True)
                checks[
                    Check(workload.name, told, key, reference_values.specification(overrides))
                ] = None
    gpu_only = frozenset(spec for spec, used in devices.items() if used == {"gpu"})
    return Needs(tuple(devices), data, tuple(checks), run_id, gpu_only)


def provide(needs: Needs, say: Say = lambda _: None) -> Provided:
    """Have it all on this node.

    A node without a GPU gets no environments for one: gigabytes that no trial would come to.
    A failed environment is remembered for the run, so that its trials say so at once. Raises SweepError where data
    cannot be had, or a workload cannot do with it: that is for the user to put right before anything is timed.
    """
    ready, failed = _environments(needs, say)
    prepared = {
        (name, path): datasets.prepare(
            name, path, at_least=least, progress=_stages(name, say), say=say
        )
        for (name, path), least in needs.data.items()
    }
    if checks := [check for check in needs.checks if check.reference.id not in failed]:
        _look_at(checks, prepared, needs.run_id)
    return Provided(
        ready, failed, tuple(filter(None, (each.warning() for each in prepared.values())))
    )


def _environments(needs: Needs, say: Say) -> tuple[frozenset[str], dict[str, str]]:
    """Every environment that a trial could come to here: those that are there now, and those that failed."""
    ready, failed = set(), {}
    for spec in needs.specifications:
        if spec in needs.gpu_only and not gpus.has_driver():
            continue
        try:
            environments.prepare(spec, say, needs.run_id)
            ready.add(spec.id)
        except EnvironmentFailed as error:
            failed[spec.id] = error.message
            say(f"env_failed: {error.message}")
    return frozenset(ready), failed


def _look_at(
    checks: Iterable[Check], prepared: Mapping[Data, datasets.Prepared], run_id: str
) -> None:
    """Raises SweepError at the first that a workload refuses."""
    workloads = catalog.workloads()
    try:
        for check in checks:
            settings, data = json.loads(check.settings), prepared[check.data]
            reference_values.check(
                workloads[check.workload], settings, data, check.reference, run_id
            )
    finally:
        hosts.close_all()


def _stages(name: str, say: Say) -> Callable[[str, int, int], None]:
    """Says each stage of a preparation once, and not those that are over at once."""
    told: set[str] = set()

    def progress(stage: str, done: int, of: int) -> None:
        if stage not in told and done < of:
            told.add(stage)
            say(f"data set {name}: {stage}, {of} examples")

    return progress
