"""One trial on this node: from its environment, data and cores to its record.

Running a trial never raises. An error in it is a record with a status and the last log lines.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep import catalog, datasets, environments, homes, locks, measured
from sweep.axes import AXES, batch_size
from sweep.catalog import Workload
from sweep.environments import Environment, EnvironmentFailed
from sweep.errors import SweepError
from sweep.grid import Resources, Trial
from sweep.node import (
    checkpoints,
    disturbance,
    gpus,
    hosts,
    machine,
    parity,
    reference_values,
    slots,
)
from sweep.node.checkpoints import CheckpointStore
from sweep.node.disturbance import Limits
from sweep.node.gpus import Gpu, NoNvml
from sweep.node.outcome import Listener, Outcome
from sweep.records import columns
from sweep.status import Status
from sweep.steps import is_step
from sweep.versions import normal_requirement
from workloads.runtime import protocol

Record = dict[str, Any]

MAX_CONTENTION = Limits.max_contention
STEAL_MOST = Limits.steal_most
_ERROR_LINES = 20
# Of trials that ended so, no checkpoint is needed. An invalid trial runs again from its beginning.
_COMPLETE = frozenset({Status.OK, Status.INVALID})


@dataclass(frozen=True)
class RunTrial:
    """The function that a sweep maps over its trials. It is picklable, and the same on every node.

    `overrides` are the grid's `environments`, by framework requirement. `run_id` identifies the
    invocation: a build that has failed is not tried again in it. `progress` is called with a
    trial's name and the progress that it reports. `max_contention` and `steal_most` are the shares
    of core time that other processes and the hypervisor may take before an exclusive trial is
    `invalid`; None allows any.

    `checkpoints` is a folder, preferably one that all nodes share, or a URI in an object store. A
    trial keeps its state there under its id until it is complete. `command` describes this sweep
    to others that wait for what a trial holds.
    """

    run: str = ""
    run_id: str = ""
    code_version: str = ""
    timeout_s: float | None = None
    import_timeout_s: float = hosts.IMPORT_S
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    progress: Callable[[str, Mapping[str, Any]], None] | None = None
    max_contention: float | None = MAX_CONTENTION
    steal_most: float | None = STEAL_MOST
    checkpoints: str = ""
    command: str = ""

    def __call__(self, trial: Trial) -> Record:
        """Run a trial and return its record."""
        locks.work_for(self.command)
        started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        record = identity(trial) | {
            "run": self.run,
            "code_version": self.code_version,
            "started_at": started,
            "node": machine.node_name(),
            "cpu_model": machine.cpu_model(),
            "device_name": machine.cpu_model() if trial.settings["device"] == "cpu" else None,
            "machine": machine.facts_json(),
        }
        try:
            record |= self._outcome(trial)
        except EnvironmentFailed as error:
            parts = [part for part in (error.log_tail, error.message) if part]
            record |= {"status": Status.ENV_FAILED, "error": "\n".join(parts)}
        except SweepError as error:
            record |= {"status": Status.FAILED, "error": f"{error.message}\n{error.hint}".strip()}
        # Any other error, as of a full disk, must not end the sweep.
        except Exception:  # noqa: BLE001
            lines = traceback.format_exc().splitlines()[-_ERROR_LINES:]
            record |= {"status": Status.FAILED, "error": "\n".join(lines)}
        record["wall_s"] = time.perf_counter() - clock
        return record

    def specification(
        self, settings: Mapping[str, Any], workload: Workload
    ) -> environments.Specification:
        """Return the specification of the environment for these settings."""
        return specification(
            settings["framework"], settings["device"], settings["backend"], self.overrides, workload
        )

    def _outcome(self, trial: Trial) -> Record:
        """Provide what the trial needs, run it, and return its columns.

        The cores are leased last, since others may wait for them.
        """
        settings, cpu = dict(trial.settings), trial.resources.cpu
        workload, data = _workload(settings["workload"], trial.cell.content), _data(settings)
        spec = self.specification(settings, workload)
        environment = _environment(spec, self.run_id)
        reference_spec = reference_values.specification(self.overrides)
        measured.check(trial.cell.content, workload, settings, self.overrides, self.run_id)
        threads = settings.get("threads") or max(1, cpu)
        report_wait = functools.partial(self._report_wait, trial)
        request = protocol.Request(
            trial=trial.name,
            task=protocol.RUN,
            workload_file=str(workload.path),
            settings=settings | {"threads": threads} | _step(workload),
            cores=[],
            data=str(data.folder) if data else None,
            reference=reference_values.values(
                workload, settings, data, cpu, reference_spec, self.run_id, report_wait
            ),
            memory_bytes=trial.resources.memory,
            weights=str(homes.cache("weights")),
            network_file=reference_values.network_file(settings),
        )
        key = hosts.key(environment, spec, threads, settings["device"], self.run_id)
        record: Record = {
            "environment_id": environment.id,
            "packages": list(environment.packages),
            "data_id": data.id if data else None,
            "columns": {
                **_framework(settings["framework"].partition("==")[0]).columns,
                **workload.columns,
            },
        }
        depends_on = parity.DependsOn(trial, workload, environment, key, self.run_id)
        return record | self._run_on_cores(trial, request, key, depends_on)

    def _run_on_cores(
        self,
        trial: Trial,
        request: protocol.Request,
        key: hosts.Key,
        depends_on: parity.DependsOn,
    ) -> Record:
        """Lease cores, and prove parity and run the trial there, with its checkpoints."""
        report_wait = functools.partial(self._report_wait, trial)
        with checkpoints.open_store(self.checkpoints, trial.id) as store:
            request = request._replace(checkpoints=str(store.folder) if store.folder else None)
            resources = trial.resources
            with slots.lease(resources.cpu, resources.exclusive, say=report_wait) as lease:
                if lease.waited_s >= locks.PATIENCE_S:
                    self._report(trial, {})
                request = request._replace(cores=list(lease.cores))
                proof = parity.prove(depends_on, request, self._runner(key))
                record = self._timed(trial, request, key, lease, store, proof)
            record["log"] += store.close(over=record["status"] in _COMPLETE)
        return record

    def _timed(
        self,
        trial: Trial,
        request: protocol.Request,
        key: hosts.Key,
        lease: slots.Lease,
        store: CheckpointStore,
        proof: parity.Proof,
    ) -> Record:
        """Run the trial on its host; return its columns with status and error.

        A trial whose parity could not be proven has ended as that attempt did.
        """
        load = machine.runnable()
        watch = disturbance.Watch(
            lease.cores, functools.partial(_gpu, trial.settings["device"], key)
        )

        def on_event(event: str, facts: Mapping[str, Any]) -> None:
            watch.on_event(event)
            store.sync()
            if event == "progress":
                self._report(trial, facts)

        request = request._replace(parity=proof.columns)
        outcome = proof.failed or self._runner(key, on_event)(request)
        record = watch.columns(outcome.cpu_s) | _reported(outcome)
        record |= {"load_before": load, "waited_s": lease.waited_s, "log": outcome.log}
        record["status"], record["error"] = outcome.verdict(self.timeout_s)
        if record["status"] == Status.OK:
            record["status"], record["error"] = self._validity(
                record, outcome, request, trial.resources
            )
        return record

    def _runner(
        self, key: hosts.Key, on_event: Listener = lambda _event, _facts: None
    ) -> parity.Run:
        """Return what runs a request on the host of `key`, within the time limits of this sweep."""
        return lambda request: hosts.run(
            key, request, self.timeout_s, on_event, self.import_timeout_s
        )

    def _report(self, trial: Trial, facts: Mapping[str, Any]) -> None:
        """Report the progress of a trial; {} after a wait, before the trial itself reports."""
        if self.progress:
            self.progress(trial.name, facts)

    def _report_wait(self, trial: Trial, text: str) -> None:
        self._report(trial, {"waiting for": text.removeprefix("waiting for ")})

    def _validity(
        self,
        record: Record,
        outcome: Outcome,
        request: protocol.Request,
        resources: Resources,
    ) -> tuple[str, str]:
        """Return status and error of a trial that reports success."""
        if reserved := sorted(columns.OURS & outcome.columns.keys()):
            names = ", ".join(reserved)
            error = f"the workload returned columns that are not its own to tell: {names}"
            return Status.FAILED, error
        reason = disturbance.misplacement(record, request.cores, request.settings["threads"])
        if resources.exclusive and not reason:
            reason = disturbance.contamination(record, Limits(self.max_contention, self.steal_most))
        # A fraction of a GPU is shared with other trials on purpose.
        if resources.gpu >= 1 and not reason:
            reason = disturbance.gpu_contamination(record)
        return (Status.INVALID, reason) if reason else (Status.OK, "")


def identity(trial: Trial) -> Record:
    """Return the columns that identify the trial of a record."""
    settings = dict(trial.settings)
    name, _, version = str(settings["framework"]).partition("==")
    axes = {axis: settings[axis] for axis in trial.cell.axes if axis in settings}
    content = json.dumps(dict(trial.cell.content), sort_keys=True) if trial.cell.content else ""
    # An axis may have the name of a column of ours. Its value is then only in `settings`.
    return axes | {
        "trial_id": trial.id,
        "trial_name": trial.name,
        "cell_id": trial.cell.id,
        "cell_name": trial.cell.name,
        "settings": json.dumps(settings, sort_keys=True),
        "content": content,
        **{axis: settings.get(axis) for axis in AXES},
        "framework": name,
        "version": version,
        "batch_size": batch_size(settings),
        "attempt": trial.attempt,
        "block": trial.block,
        "position": trial.position,
    }


def specification(
    framework: str,
    device: str,
    backend: str,
    overrides: Mapping[str, Mapping[str, Any]],
    workload: Workload | None = None,
) -> environments.Specification:
    """Return the specification of a framework requirement such as `torch==2.13.0`.

    The grid's override for that requirement is applied. A step may add requirements of its own.
    """
    # Old records may spell the requirement differently.
    override = overrides.get(normal_requirement(framework), {})
    step = workload.step if workload else None
    own = (step.dependencies, step.requires_python) if step else ((), "")
    # JSON, since the argument of a cached function has to be hashable.
    return _specification(
        framework, device, backend, json.dumps(dict(override), sort_keys=True), *own
    )


@functools.lru_cache(maxsize=1024)
def _specification(
    framework: str,
    device: str,
    backend: str,
    override: str,
    requires: tuple[str, ...],
    pythons: str,
) -> environments.Specification:
    name, _, version = framework.partition("==")
    return environments.specify(
        _framework(name), version or None, device, backend, json.loads(override), requires, pythons
    )


def _reported(outcome: Outcome) -> Record:
    """Return the columns that host and trial report, without reserved ones of the trial's."""
    own = {name: value for name, value in outcome.columns.items() if name not in columns.OURS}
    host_columns: Record = {
        "host_id": outcome.host_id or None,
        "import_s": outcome.import_s,
        "python": outcome.ready.get("python"),
        "returncode": outcome.exit.get("returncode"),
        "user_s": outcome.exit.get("user_s"),
        "system_s": outcome.exit.get("system_s"),
        "involuntary_switches": outcome.exit.get("involuntary_switches"),
        "peak_rss_bytes": outcome.exit.get("max_rss_bytes"),
    }
    return host_columns | own


def _gpu(device: str, key: hosts.Key) -> Gpu | None:
    """Return the first GPU that a trial sees; None on the CPU, and where NVML is not available."""
    if device != "gpu":
        return None
    with contextlib.suppress(NoNvml):
        return gpus.first_visible(gpus.library(), dict(key.variables).get("CUDA_VISIBLE_DEVICES"))
    return None


@functools.lru_cache(maxsize=256)
def _environment(spec: environments.Specification, run_id: str) -> Environment:
    return environments.prepare(spec, run_id=run_id)


def _step(workload: Workload) -> dict[str, Any]:
    """Return the settings of the module that runs steps: the file, and its original path."""
    step = workload.step
    return {"step": {"file": str(step.path), "origin": step.origin}} if step else {}


def _workload(name: str, content: Mapping[str, str]) -> Workload:
    """Read a step from this machine's copy each time, since a trial may have damaged it."""
    return catalog.workload_of(name, content) if is_step(name) else _known_workload(name)


@functools.lru_cache(maxsize=64)
def _known_workload(name: str) -> Workload:
    return catalog.get_workload(name)


# Reading the catalog takes a tenth of a second, and a grid may name thousands of versions.
@functools.lru_cache(maxsize=64)
def _framework(name: str) -> catalog.Framework:
    return catalog.framework_or_package(name)


def _data(settings: Mapping[str, Any]) -> datasets.Prepared | None:
    if not settings.get("data"):
        return None
    return _prepared(settings["data"], settings.get("data_path"), batch_size(settings) or 1)


@functools.lru_cache(maxsize=64)
def _prepared(name: str, path: str | None, at_least: int) -> datasets.Prepared:
    return datasets.prepare(name, path, at_least=at_least)
