"""One trial on this node: environment, data, reference values, cores, a worker process; what came of it, a record.

A trial never raises. What goes wrong in it is a record with a status and the last lines of what was said.
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

from sweep import catalog, datasets, environments, locks, measured
from sweep.axes import AXES, batch_size
from sweep.catalog import Workload
from sweep.environments import Environment, EnvironmentFailed
from sweep.errors import SweepError
from sweep.grid import Resources, Trial
from sweep.node import checkpoints, disturbance, gpus, hosts, machine, reference_values, slots
from sweep.node.checkpoints import Kept
from sweep.node.disturbance import Limits
from sweep.node.gpus import Gpu, NoNvml
from sweep.records import columns
from sweep.status import Status
from sweep.versions import normal_requirement
from workloads.runtime import protocol

Record = dict[str, Any]

MAX_CONTENTION = Limits.max_contention
STEAL_MOST = Limits.steal_most
_ERROR_LINES = 20
_RAN_TO_ITS_END = frozenset({Status.OK, Status.INVALID})


@dataclass(frozen=True)
class RunTrial:
    """The function that a sweep maps over its trials; picklable, and the same on every node.

    `overrides` are the grid's `environments`, by framework requirement; `run_id` tells one invocation from the next,
    so that a build that failed is not tried again in it; `progress` hears what long trials say of themselves.
    `max_contention` and `steal_most` are the shares of its cores' time that others and the hypervisor may take of an
    exclusive trial before it is `invalid`; None: any. `checkpoints` is a folder, best one that all nodes share, or the
    URI of one in an object store, where a long trial keeps its state under its id, until it has run to its end.
    `command` is what others are told who wait for what a trial holds.
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
            record |= {
                "status": Status.ENV_FAILED,
                "error": "\n".join(filter(None, [error.log_tail, error.message])),
            }
        except SweepError as error:
            record |= {"status": Status.FAILED, "error": f"{error.message}\n{error.hint}".strip()}
        except Exception:  # noqa: BLE001  the one place where a trial ends: a full disk, say, must not end the sweep
            record |= {
                "status": Status.FAILED,
                "error": "\n".join(traceback.format_exc().splitlines()[-_ERROR_LINES:]),
            }
        record["wall_s"] = time.perf_counter() - clock
        return record

    def specification(self, settings: Mapping[str, Any]) -> environments.Specification:
        """The environment that a trial with these settings runs in."""
        return specification(
            settings["framework"], settings["device"], settings["backend"], self.overrides
        )

    def _outcome(self, trial: Trial) -> Record:
        """Everything that can be had before the cores are leased is had before: others wait for them."""
        settings, cpu = dict(trial.settings), trial.resources.cpu
        spec = self.specification(settings)
        environment, numpy = (
            _environment(spec, self.run_id),
            reference_values.specification(self.overrides),
        )
        workload, data = _workload(settings["workload"]), _data(settings)
        measured.check(trial.cell.content, workload, settings, self.overrides, self.run_id)
        threads = settings.get("threads") or max(1, cpu)

        def waiting(what: str) -> None:
            self._tell(trial, {"waiting for": what.removeprefix("waiting for ")})

        request = protocol.Request(
            trial=trial.name,
            task=protocol.RUN,
            workload_file=str(workload.path),
            settings=settings | {"threads": threads},
            cores=[],
            data=str(data.folder) if data else None,
            reference=reference_values.values(
                workload, settings, data, cpu, numpy, self.run_id, waiting
            ),
            memory_bytes=trial.resources.memory,
            network_file=reference_values.network_file(settings),
        )
        key = hosts.key(environment, spec, threads, settings["device"], self.run_id)
        found: Record = {
            "environment_id": environment.id,
            "packages": list(environment.packages),
            "data_id": data.id if data else None,
            "columns": {**_framework(settings["framework"]).columns, **workload.columns},
        }
        with checkpoints.kept(self.checkpoints, trial.id) as kept:
            request = request._replace(checkpoints=str(kept.folder) if kept.folder else None)
            with slots.lease(cpu, trial.resources.exclusive, say=waiting) as lease:
                if lease.waited_s >= locks.PATIENCE_S:
                    self._tell(trial, {})
                found |= self._timed(
                    trial, request._replace(cores=list(lease.cores)), key, lease, kept
                )
            # an invalid one is to be run again as a whole
            found["log"] += kept.close(over=found["status"] in _RAN_TO_ITS_END)
        return found

    def _timed(
        self,
        trial: Trial,
        request: protocol.Request,
        key: hosts.Key,
        lease: slots.Lease,
        kept: Kept,
    ) -> Record:
        load = machine.runnable()
        watch = disturbance.Watch(
            lease.cores, functools.partial(_gpu, trial.settings["device"], key)
        )

        def hear(event: str, facts: Mapping[str, Any]) -> None:
            watch.hear(event)
            kept.look()
            if event == "progress":
                self._tell(trial, facts)

        outcome = hosts.run(key, request, self.timeout_s, hear, self.import_timeout_s)
        record = watch.columns(outcome.cpu_s) | _told(outcome)
        record |= {"load_before": load, "waited_s": lease.waited_s, "log": outcome.log}
        record["status"], record["error"] = outcome.verdict(self.timeout_s)
        if record["status"] == Status.OK:
            record["status"], record["error"] = self._judged(
                record, outcome, request, trial.resources
            )
        return record

    def _tell(self, trial: Trial, facts: Mapping[str, Any]) -> None:
        """How far the trial is; nothing where it no longer waits and has not begun to tell."""
        if self.progress:
            self.progress(trial.name, facts)

    def _judged(
        self,
        record: Record,
        outcome: hosts.Outcome,
        request: protocol.Request,
        resources: Resources,
    ) -> tuple[str, str]:
        """Status and error of a trial that says that all is well."""
        if stray := sorted(columns.OURS & outcome.columns.keys()):
            return (
                Status.FAILED,
                f"the workload returned columns that are not its own to tell: {', '.join(stray)}",
            )
        reason = disturbance.misplacement(record, request.cores, request.settings["threads"])
        if resources.exclusive and not reason:
            reason = disturbance.contamination(record, Limits(self.max_contention, self.steal_most))
        if resources.gpu >= 1 and not reason:
            reason = disturbance.gpu_contamination(record)
        return (Status.INVALID, reason) if reason else (Status.OK, "")


def identity(trial: Trial) -> Record:
    """The columns that say which trial a record is of."""
    settings = dict(trial.settings)
    name, _, version = str(settings["framework"]).partition("==")
    axes = {axis: settings[axis] for axis in trial.cell.axes if axis in settings}
    return axes | {  # an axis may be called as a column of ours: it is in `settings` then
        "trial_id": trial.id,
        "trial_name": trial.name,
        "cell_id": trial.cell.id,
        "cell_name": trial.cell.name,
        "settings": json.dumps(settings, sort_keys=True),
        "content": json.dumps(dict(trial.cell.content), sort_keys=True)
        if trial.cell.content
        else "",
        **{axis: settings.get(axis) for axis in AXES},
        "framework": name,
        "version": version,
        "batch_size": batch_size(settings),
        "attempt": trial.attempt,
        "block": trial.block,
        "position": trial.position,
    }


def specification(
    framework: str, device: str, backend: str, overrides: Mapping[str, Mapping[str, Any]]
) -> environments.Specification:
    """The environment of a framework requirement such as `torch==2.13.0`, with the grid's override for it, if any."""
    override = overrides.get(normal_requirement(framework), {})  # records of old spell it otherwise
    return _specification(framework, device, backend, json.dumps(dict(override), sort_keys=True))


@functools.lru_cache(maxsize=1024)
def _specification(
    framework: str, device: str, backend: str, override: str
) -> environments.Specification:
    name, _, version = framework.partition("==")
    return environments.specify(
        catalog.known(name), version or None, device, backend, json.loads(override)
    )


def _told(outcome: hosts.Outcome) -> Record:
    """The columns that host and trial told: the trial's own word last, but of what is not its to tell."""
    columns_told = {
        name: value for name, value in outcome.columns.items() if name not in columns.OURS
    }
    told: Record = {
        "host_id": outcome.host_id or None,
        "import_s": outcome.import_s,
        "python": outcome.ready.get("python"),
        "returncode": outcome.exit.get("returncode"),
        "user_s": outcome.exit.get("user_s"),
        "system_s": outcome.exit.get("system_s"),
        "involuntary_switches": outcome.exit.get("involuntary_switches"),
        "peak_rss_bytes": outcome.exit.get("max_rss_bytes"),
    }
    return told | columns_told


def _gpu(device: str, key: hosts.Key) -> Gpu | None:
    """The GPU that a trial sees first; None for a trial on the CPU, and where NVML cannot be asked."""
    if device != "gpu":
        return None
    with contextlib.suppress(NoNvml):
        return gpus.first_visible(gpus.library(), dict(key.variables).get("CUDA_VISIBLE_DEVICES"))
    return None


@functools.lru_cache(maxsize=256)
def _environment(spec: environments.Specification, run_id: str) -> Environment:
    return environments.prepare(spec, run_id=run_id)


@functools.lru_cache(maxsize=64)
def _workload(name: str) -> Workload:
    return catalog.known_workload(name)


@functools.lru_cache(maxsize=64)
def _framework(requirement: str) -> catalog.Framework:
    return catalog.known(requirement.partition("==")[0])


def _data(settings: Mapping[str, Any]) -> datasets.Prepared | None:
    if not settings.get("data"):
        return None
    return _prepared(settings["data"], settings.get("data_path"), batch_size(settings) or 1)


@functools.lru_cache(maxsize=64)
def _prepared(name: str, path: str | None, at_least: int) -> datasets.Prepared:
    return datasets.prepare(name, path, at_least=at_least)
