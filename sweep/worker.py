"""One trial on this node: environment, data, reference values, cores, a worker process; what came of it, a record.

A trial never raises. What goes wrong in it is a record with a status and the last lines of what was said.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import filelock
import platformdirs

from sweep import catalog, datasets, environments, hosts, machine, process, slots
from sweep.environments import Environment, EnvironmentFailed
from sweep.errors import SweepError
from workloads.runtime import protocol

Record = dict[str, Any]

FOREIGN_MOST = 0.5  # share of the leased cores' time that others may use before a trial is contaminated
STEAL_MOST = 0.3  # share that the hypervisor may take
_REFERENCE = "reference"
_REFERENCE_TIMEOUT_S = 3600.0


class Trial(Protocol):
    """What is needed of a trial; see `sweep.grid`."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def cell(self) -> Any: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def resources(self) -> Any: ...
    @property
    def block(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def attempt(self) -> int: ...


@dataclass(frozen=True)
class RunTrial:
    """The function that a sweep maps over its trials; picklable, and the same on every node.

    `overrides` are the grid's `environments`, by framework requirement; `run_id` tells one invocation from the next,
    so that a build that failed is not tried again in it; `progress` hears what long trials say of themselves.
    """

    run: str = ""
    run_id: str = ""
    code_version: str = ""
    timeout_s: float | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    progress: Callable[[str, Mapping[str, Any]], None] | None = None

    def __call__(self, trial: Trial) -> Record:
        started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        record = identity(trial) | {
            "run": self.run,
            "code_version": self.code_version,
            "started_at": started,
            "node": machine.node_name(),
            "cpu_model": machine.cpu_model(),
            "device_name": machine.cpu_model(),
            "machine": machine.facts_json(),
        }
        try:
            record |= self._outcome(trial)
        except EnvironmentFailed as error:
            record |= {"status": "env_failed", "error": "\n".join(filter(None, [error.log_tail, error.message]))}
        except SweepError as error:
            record |= {"status": "failed", "error": f"{error.message}\n{error.hint}".strip()}
        record["wall_s"] = time.perf_counter() - clock
        return record

    def specification(self, settings: Mapping[str, Any]) -> environments.Specification:
        """The environment that a trial with these settings runs in."""
        return specification(settings["framework"], settings["device"], settings["backend"], _frozen(self.overrides))

    def _outcome(self, trial: Trial) -> Record:
        settings = dict(trial.settings)
        spec = self.specification(settings)
        environment = _environment(spec, self.run_id)
        data = _data(settings)
        found: Record = {"environment_id": environment.id, "packages": list(environment.packages)}
        with slots.lease(trial.resources.cpu, trial.resources.exclusive) as lease:
            threads = settings.get("threads") or len(lease.cores)
            request = protocol.Request(
                trial=trial.name,
                task=protocol.RUN,
                workload_file=str(_workload(settings["workload"]).path),
                settings=settings | {"threads": threads},
                cores=list(lease.cores),
                data=str(data.folder) if data else None,
                reference=self._reference_values(settings, data, lease, threads),
                memory_bytes=trial.resources.memory,
            )
            key = _key(environment, spec, settings["framework"], threads)
            return found | {"data_id": data.id if data else None} | self._timed(trial, request, key, lease)

    def _timed(self, trial: Trial, request: protocol.Request, key: hosts.Key, lease: slots.Lease) -> Record:
        load, kills = machine.runnable(), machine.out_of_memory_kills()
        before = machine.usage(list(lease.cores))
        outcome = hosts.run(key, request, self.timeout_s, functools.partial(self._progress, trial.name))
        after = machine.usage(list(lease.cores))
        ran_out = machine.out_of_memory_kills() > kills
        record = _facts(outcome) | {"load_before": load, "log": outcome.exit.get("log", "")}
        record["status"], record["error"] = _verdict(outcome, self.timeout_s, ran_out)
        record |= disturbance(before, after, len(lease.cores), outcome.exit)
        if record["status"] == "ok" and (reason := contaminated(record, lease.cores, request.settings["threads"])):
            record["status"], record["error"] = "invalid", reason
        return record

    def _progress(self, name: str, facts: Mapping[str, Any]) -> None:
        if self.progress:
            self.progress(name, facts)

    def _reference_values(
        self, settings: dict[str, Any], data: Any, lease: slots.Lease, threads: int
    ) -> dict[str, float] | None:
        """What the fairness gate compares with: computed once for these settings and data, and cached."""
        workload = _workload(settings["workload"])
        if "gate_examples" not in workload.parameters or _name(settings) == _REFERENCE:
            return None
        own: dict[str, Any] = {
            key: settings[key]
            for key in ("batch_exponent", "seed", "use_visibility", "gate_examples")
            if key in settings
        }
        cached = _reference_file(workload.path, own, data.id if data else "")
        if not cached.exists():
            with filelock.FileLock(cached.with_suffix(".lock")):
                if not cached.exists():
                    _write_whole(cached, json.dumps(self._computed(settings, data, lease, threads)))
        values: dict[str, float] = json.loads(cached.read_text())
        return values

    def _computed(self, settings: dict[str, Any], data: Any, lease: slots.Lease, threads: int) -> dict[str, Any]:
        spec = specification(_REFERENCE, "cpu", "default", _frozen(self.overrides))
        request = protocol.Request(
            trial="reference values",
            task=protocol.REFERENCE_VALUES,
            workload_file=str(_workload(settings["workload"]).path),
            settings=settings | {"framework": _REFERENCE, "backend": "default", "device": "cpu", "process": "fork"},
            cores=list(lease.cores),
            data=str(data.folder) if data else None,
        )
        key = _key(_environment(spec, self.run_id), spec, _REFERENCE, threads)
        outcome = hosts.run(key, request, _REFERENCE_TIMEOUT_S)
        status, error = _verdict(outcome, _REFERENCE_TIMEOUT_S, False)
        if status != "ok":
            raise SweepError(f"the reference values could not be computed: {error}", "see sweep env list")
        columns = outcome.outcome["columns"]
        return {name: columns[name] for name in ("loss", "gradient_norm")}


def identity(trial: Trial) -> Record:
    """The columns that say which trial a record is of."""
    settings = dict(trial.settings)
    name, _, version = str(settings["framework"]).partition("==")
    exponent = settings.get("batch_exponent")
    return {
        "trial_id": trial.id,
        "trial_name": trial.name,
        "cell_id": trial.cell.id,
        "cell_name": trial.cell.name,
        "settings": json.dumps(settings, sort_keys=True),
        **{axis: settings[axis] for axis in trial.cell.axes if axis in settings},
        **{key: settings.get(key) for key in ("workload", "backend", "backward", "device", "batch_exponent", "seed")},
        "framework": name,
        "version": version,
        "batch_size": 2**exponent if exponent is not None else None,
        "attempt": trial.attempt,
        "block": trial.block,
        "position": trial.position,
    }


def specification(
    framework: str, device: str, backend: str, overrides: Mapping[str, Mapping[str, Any]] | str
) -> environments.Specification:
    """The environment of a framework requirement such as `torch==2.13.0`, with the grid's override for it, if any."""
    return _specification(framework, device, backend, overrides if isinstance(overrides, str) else _frozen(overrides))


@functools.lru_cache(maxsize=1024)
def _specification(framework: str, device: str, backend: str, overrides: str) -> environments.Specification:
    name, _, version = framework.partition("==")
    known = catalog.known(name)
    override = json.loads(overrides).get(framework)
    return environments.specify(known, version or None, device, backend, override)


def _frozen(overrides: Mapping[str, Mapping[str, Any]]) -> str:
    return json.dumps({key: dict(value) for key, value in overrides.items()}, sort_keys=True)


def disturbance(before: machine.Usage, after: machine.Usage, cores: int, exited: Mapping[str, Any]) -> Record:
    """What the leased cores did for others while the trial ran, as shares of their time."""
    span = max(1e-9, (after.at_s - before.at_s) * cores)
    own = (exited.get("user_s") or 0.0) + (exited.get("system_s") or 0.0)
    return {
        "steal_ratio": (after.stolen_s - before.stolen_s) / span,
        "foreign_ratio": max(0.0, after.busy_s - before.busy_s - own) / span,
    }


def contaminated(record: Mapping[str, Any], cores: tuple[int, ...], threads: int) -> str:
    """Why a trial's times cannot be trusted, or nothing."""
    if record.get("cores") and list(record["cores"]) != list(cores):
        return f"it ran on cores {record['cores']} and was bound to {list(cores)}"
    if record.get("threads") and record["threads"] != threads:
        return f"it computed with {record['threads']} threads and was given {threads}"
    if record["foreign_ratio"] > FOREIGN_MOST:
        return f"other processes took {record['foreign_ratio']:.0%} of its cores' time"
    if record["steal_ratio"] > STEAL_MOST:
        return f"the hypervisor took {record['steal_ratio']:.0%} of its cores' time"
    return ""


def _facts(outcome: hosts.Outcome) -> Record:
    """The columns that host and trial told, the trial's own word last."""
    exited: Record = outcome.exit
    columns: Record = outcome.outcome.get("columns", {})
    told: Record = {
        "import_s": outcome.ready.get("import_s"),
        "python": outcome.ready.get("python"),
        "returncode": exited.get("returncode"),
        "user_s": exited.get("user_s"),
        "system_s": exited.get("system_s"),
        "involuntary_switches": exited.get("involuntary_switches"),
        "peak_rss_bytes": exited.get("max_rss_bytes"),
    }
    return told | columns


def _verdict(outcome: hosts.Outcome, timeout_s: float | None, ran_out: bool) -> tuple[str, str]:
    """Status and error of a trial, from what was heard of it."""
    tail = "\n".join(str(outcome.exit.get("log", "")).strip().splitlines()[-20:])
    if outcome.unimportable:
        return "env_failed", outcome.unimportable
    if outcome.timed_out:
        return "timeout", f"{tail}\nkilled after the {timeout_s:g} s that it was given".strip()
    if outcome.died:
        return ("oom" if ran_out else "crashed"), outcome.died
    if outcome.outcome:
        return outcome.outcome["status"], outcome.outcome.get("error", "")
    returncode = outcome.exit.get("returncode", 0)
    if ran_out and returncode == -9:
        return "oom", f"{tail}\nthe kernel killed the worker: the machine ran out of memory".strip()
    return "crashed", f"{tail}\nworker {'ended with ' if returncode >= 0 else ''}{process.ended(returncode)}".strip()


@functools.lru_cache(maxsize=256)
def _environment(spec: environments.Specification, run_id: str) -> Environment:
    return environments.prepare(spec, run_id=run_id)


def _key(environment: Environment, spec: environments.Specification, framework: str, threads: int) -> hosts.Key:
    file = catalog.known(framework.partition("==")[0]).path
    variables = tuple(sorted(hosts.variables(threads).items()))
    return hosts.Key(str(environment.python), not spec.interpreter, str(file), variables)


@functools.lru_cache(maxsize=64)
def _workload(name: str) -> catalog.Workload:
    return catalog.workloads()[name]


def _data(settings: Mapping[str, Any]) -> Any:
    if not settings.get("data"):
        return None
    return _prepared(settings["data"], settings.get("data_path"), 2 ** (settings.get("batch_exponent") or 0))


@functools.lru_cache(maxsize=64)
def _prepared(name: str, path: str | None, at_least: int) -> Any:
    return datasets.prepare(name, path, at_least=at_least)


def _name(settings: Mapping[str, Any]) -> str:
    return str(settings["framework"]).partition("==")[0]


def _reference_file(workload: Path, settings: Mapping[str, Any], data_id: str) -> Path:
    """Named by all that the values depend on: settings, data and the code that computes them."""
    told = json.dumps([settings, data_id, _code(workload)], sort_keys=True)
    folder = platformdirs.user_cache_path("sweep") / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


@functools.lru_cache(maxsize=64)
def _code(workload: Path) -> str:
    """Hash of what decides the reference's values."""
    root = catalog.WORKLOADS
    files = [workload, root / "deeppose.py", root / "runtime/layers.py", root / "frameworks/reference.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)
