"""Provision: the environments and data sets that a node needs before its first trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sweep import catalog, datasets, environments, steps
from sweep.axes import batch_size
from sweep.environments import EnvironmentFailed, Specification
from sweep.node import gpus, hosts, reference_values
from sweep.node.worker import specification
from sweep.steps import Bundle, Step

Say = Callable[[str], None]
Data = tuple[str, str | None]  # name and path


class Check(NamedTuple):
    """A check of a workload's settings against a data set; `settings` are JSON."""

    workload: str
    settings: str
    data: Data
    reference: Specification


class Provided(NamedTuple):
    """The result: ids of environments that are ready, of those that failed, and warnings.

    `failed` has the reason for each id.
    """

    ready: frozenset[str]
    failed: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """Environments and data sets of some trials. `run_id` identifies the invocation.

    `data` maps data sets to the number of examples that they must have at least. `gpu_only` are
    the environments that no trial on a CPU needs. `steps` are the step files with their content.
    """

    specifications: tuple[Specification, ...]
    data: Mapping[Data, int]
    checks: tuple[Check, ...] = ()
    run_id: str = ""
    gpu_only: frozenset[Specification] = frozenset()
    steps: tuple[Bundle, ...] = ()


def needs(
    trials: Iterable[Any], overrides: Mapping[str, Mapping[str, Any]], run_id: str = ""
) -> Needs:
    """Return what these trials and their reference values need, in the order of the trials."""
    cells = {trial.cell.id: trial.cell for trial in trials}.values()
    workloads = catalog.workloads_of(cells)
    devices: dict[Specification, set[str]] = {}
    data: dict[Data, int] = {}
    checks: dict[Check, None] = {}  # used as an ordered set
    files: dict[str, Step] = {}
    for cell in cells:
        settings, workload = cell.settings, workloads[cell.settings["workload"]]
        if workload.step:
            files[workload.name] = workload.step
        spec = specification(
            settings["framework"], settings["device"], settings["backend"], overrides, workload
        )
        devices.setdefault(spec, set()).add(settings["device"])
        if workload.reference or workload.check:
            devices.setdefault(reference_values.specification(overrides), set()).add("cpu")
        if settings.get("data"):
            key = (settings["data"], settings.get("data_path"))
            data[key] = max(data.get(key, 1), batch_size(settings) or 1)
            if workload.check:
                relevant = {name: settings[name] for name in workload.check if name in settings}
                relevant_json = json.dumps(relevant, sort_keys=True)
                reference = reference_values.specification(overrides)
                checks[Check(workload.name, relevant_json, key, reference)] = None
    gpu_only = frozenset(spec for spec, used in devices.items() if used == {"gpu"})
    bundles = tuple(steps.bundle(step) for step in files.values())
    return Needs(tuple(devices), data, tuple(checks), run_id, gpu_only, bundles)


def provide(needs: Needs, say: Say = lambda _: None) -> Provided:
    """Build environments and prepare data sets on this node, then check settings against the data.

    A failed environment is remembered for the run, and its trials fail with that reason. Raises
    SweepError where a data set cannot be prepared, or where a workload refuses it: the user should
    correct that before anything is timed.
    """
    for bundle in needs.steps:
        steps.unpack(bundle)
    ready, failed = _environments(needs, say)
    prepared = {
        (name, path): datasets.prepare(
            name, path, at_least=least, progress=_stages(name, say), say=say
        )
        for (name, path), least in needs.data.items()
    }
    if checks := [check for check in needs.checks if check.reference.id not in failed]:
        _run_checks(checks, prepared, needs.run_id)
    warnings = [data_set.warning() for data_set in prepared.values()]
    return Provided(ready, failed, tuple(warning for warning in warnings if warning))


def _environments(needs: Needs, say: Say) -> tuple[frozenset[str], dict[str, str]]:
    """Build the environments that trials on this node may use; return ready and failed ids."""
    ready, failed = set(), {}
    for spec in needs.specifications:
        # No trial on a GPU comes to a node without one, and such environments take gigabytes.
        if spec in needs.gpu_only and not gpus.has_driver():
            continue
        try:
            environments.prepare(spec, say, needs.run_id)
            ready.add(spec.id)
        except EnvironmentFailed as error:
            failed[spec.id] = error.message
            say(f"env_failed: {error.message}")
    return frozenset(ready), failed


def _run_checks(
    checks: Iterable[Check], prepared: Mapping[Data, datasets.Prepared], run_id: str
) -> None:
    """Raise SweepError at the first check in which a workload refuses settings or data."""
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
    """Return a progress function that reports each stage once, unless it is over at once."""
    reported: set[str] = set()

    def progress(stage: str, done: int, of: int) -> None:
        if stage not in reported and done < of:
            reported.add(stage)
            say(f"data set {name}: {stage}, {of} examples")

    return progress
