"""Snapshot: the state of a machine for `sweep doctor`, read within a second or two.

Nothing is changed or installed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from sweep import __version__, catalog, datasets, environments
from sweep.datasets import store as data
from sweep.environments import indexes, interpreters, resolver
from sweep.node import gpus, limits, machine, obstacles
from sweep.node.gpus import Gpu, NoNvml
from sweep.node.obstacles import Obstacle

_PACKAGES = ("ray", "numpy", "pyarrow", "uv", "psutil")
_TIME_ERROR = 5  # adjtimex returns it while no time service sets the clock
_TIMEX_BYTES = 1024  # more than the size of `struct timex` on any architecture
_CLOCK_READINGS = 2000
_LEAST_BUSY = 0.05  # of a core


class Busy(NamedTuple):
    """A process that used CPU time during the snapshot, as a number of busy cores."""

    pid: int
    name: str
    cores: float


class Folder(NamedTuple):
    """A folder that sweep writes to: its purpose, the free space, and whether it can be written."""

    purpose: str
    path: str
    free_bytes: int
    writable: bool


@dataclass(frozen=True)
class Snapshot:
    """What `sweep doctor` examines. A value that cannot be read is None or empty.

    `machine` is `machine.facts()`, which every record has. The rest is the state at this moment.
    `nvml_refusal` is why NVML is not available although there is a driver. `broken_plugins` have
    name, error and hint. `ray_daemons` counts those of every Ray on this machine.
    """

    machine: Mapping[str, Any]
    runnable: float = 0.0
    steal_ratio: float = 0.0
    throttled: int = 0
    busy: tuple[Busy, ...] = ()
    memory_available_bytes: int | None = None
    swap_used_bytes: int = 0
    shared_memory_free_bytes: int | None = None
    open_files: int | None = None  # this process's soft limit
    folders: tuple[Folder, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    nvml_refusal: str = ""
    clock_read_s: float | None = None
    clock_synchronised: bool | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    pythons: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    index_refusal: str = ""
    environments: int = 0
    broken_plugins: tuple[tuple[str, str, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    ray_daemons: int = 0


def take(results: Path, look_s: float = 1.0) -> Snapshot:
    """Return a snapshot of this machine; load and steal are measured over `look_s` seconds.

    `results` is the folder for runs.
    """
    cores = machine.usable_cores()
    # The kernel's counters start at boot, so each is read twice.
    usage, times, throttled = machine.usage(cores), _cpu_times(), limits.throttled_periods()
    time.sleep(look_s)
    now, busy = machine.usage(cores), _busy(times, _cpu_times(), look_s)
    available_s = max(1e-9, (now.at_s - usage.at_s) * len(cores))
    found, refusal = _gpus()
    configured = indexes.configured()
    return Snapshot(
        machine=machine.facts(),
        runnable=machine.runnable(),
        steal_ratio=(now.stolen_s - usage.stolen_s) / available_s,
        throttled=limits.throttled_periods() - throttled,
        busy=busy,
        memory_available_bytes=_available_bytes(),
        swap_used_bytes=psutil.swap_memory().used,
        shared_memory_free_bytes=_free_bytes(Path("/dev/shm")),  # noqa: S108  only examined
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        folders=tuple(_folders(results)),
        gpus=tuple(found),
        nvml_refusal=refusal,
        clock_read_s=_clock_read_s(),
        clock_synchronised=_synchronised(),
        versions=_versions(),
        pythons=tuple(python.version for python in interpreters.everywhere(configured.variables)),
        indexes=tuple(configured.places),
        index_refusal=resolver.refusal(configured),
        environments=len(environments.environments()),
        broken_plugins=tuple(_broken_plugins()),
        obstacles=tuple(obstacles.obstacles()),
        ray_daemons=_ray_daemons(),
    )


def _ray_daemons() -> int:
    processes = psutil.process_iter(["name"])
    return sum(1 for process in processes if process.info["name"] in ("raylet", "gcs_server"))


def _broken_plugins() -> Iterator[tuple[str, str, str]]:
    catalogs = (catalog.frameworks(), catalog.workloads(), catalog.networks(), datasets.datasets())
    for registry in catalogs:
        for name, error in registry.broken.items():
            yield name, error.message, error.hint


def _cpu_times() -> dict[tuple[int, str], float]:
    """Return the CPU seconds of every other process, by id and name."""
    times = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        if process.pid != os.getpid() and process.info["cpu_times"]:
            user_s, system_s = process.info["cpu_times"][:2]
            times[process.pid, process.info["name"]] = user_s + system_s
    return times


def _busy(
    before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float], span_s: float
) -> tuple[Busy, ...]:
    """Return the processes that kept a part of a core busy, the busiest first."""
    shares = (Busy(*key, (cpu_s - before.get(key, cpu_s)) / span_s) for key, cpu_s in after.items())
    busy = [process for process in shares if process.cores >= _LEAST_BUSY]
    return tuple(sorted(busy, key=lambda process: -process.cores))


def _available_bytes() -> int:
    """Return the memory that can be had without swapping, within this process's limit."""
    memory = psutil.virtual_memory()
    return int(min(memory.available, machine.memory_bytes()))


def _folders(results: Path) -> Iterable[Folder]:
    chosen = {
        "environments": environments.root(),
        "data": data.root(),
        "results": results.absolute(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for purpose, path in chosen.items():
        # A folder that does not exist yet will be created in this one.
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        can_write = os.access(existing, os.W_OK)
        yield Folder(purpose, str(path), _free_bytes(existing) or 0, can_write)


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _gpus() -> tuple[list[Gpu], str]:
    """Return the GPUs, and why they cannot be read although there is a driver."""
    try:
        return gpus.read(gpus.library()), ""
    except NoNvml as why:
        return [], str(why) if gpus.has_driver() else ""


def _clock_read_s() -> float:
    """Return the duration of one reading of the clock that times the samples."""
    start = time.perf_counter()
    for _ in range(_CLOCK_READINGS):
        time.perf_counter()
    return (time.perf_counter() - start) / _CLOCK_READINGS


def _synchronised() -> bool | None:
    """Return whether a time service sets the kernel's clock; None where that is unknown."""
    try:
        # No bit of `modes` is set, so that adjtimex changes nothing.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _versions() -> dict[str, str]:
    versions = {"sweep": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return versions
