"""Snapshot: a machine as the doctor finds it, read within a second or two; nothing is changed, nothing installed."""

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
_TIME_ERROR = 5  # what adjtimex returns while the clock follows no other
_READINGS = 2000


class Busy(NamedTuple):
    """A process that took CPU time while it was looked; `cores` is how many it kept busy."""

    pid: int
    name: str
    cores: float


class Folder(NamedTuple):
    """A folder that is written to, or will be: what for, and the room there."""

    purpose: str
    path: str
    free_bytes: int
    writable: bool


@dataclass(frozen=True)
class Snapshot:
    """What the doctor looks at. Where something cannot be read, it is None or empty.

    `machine` is `machine.facts()`, which every record carries; the rest is true of this moment only.
    """

    machine: Mapping[str, Any]
    runnable: float = 0.0
    steal_ratio: float = 0.0
    throttled: int = 0
    busy: tuple[Busy, ...] = ()
    memory_available_bytes: int | None = None
    swap_used_bytes: int = 0
    shared_memory_free_bytes: int | None = None
    open_files: int | None = None  # that this process may have, its soft limit
    folders: tuple[Folder, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    nvml_refusal: str = ""  # why there is a driver and NVML cannot be asked
    clock_read_s: float | None = None
    clock_synchronised: bool | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    pythons: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    index_refusal: str = ""
    environments: int = 0
    broken_plugins: tuple[
        tuple[str, str, str], ...
    ] = ()  # name, what is wrong with it, and what would help
    obstacles: tuple[Obstacle, ...] = ()  # what keeps a Ray of our own from starting
    ray_daemons: int = 0  # of Rays that run on this machine, ours or not


def take(results: Path, look_s: float = 1.0) -> Snapshot:
    """The snapshot of this machine, load and steal over `look_s`; `results` is where runs are written."""
    cores = machine.usable_cores()
    usage, times, throttled = machine.usage(cores), _cpu_times(), limits.throttled_periods()
    time.sleep(look_s)
    now, busy = machine.usage(cores), _busy(times, _cpu_times(), look_s)
    found, refusal = _gpus()
    configured = indexes.configured()
    return Snapshot(
        machine=machine.facts(),
        runnable=machine.runnable(),
        steal_ratio=(now.stolen_s - usage.stolen_s)
        / max(1e-9, (now.at_s - usage.at_s) * len(cores)),
        throttled=limits.throttled_periods() - throttled,
        busy=busy,
        memory_available_bytes=_available_bytes(),
        swap_used_bytes=psutil.swap_memory().used,
        shared_memory_free_bytes=_free_bytes(Path("/dev/shm")),  # noqa: S108  looked at only
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        folders=tuple(_folders(results)),
        gpus=tuple(found),
        nvml_refusal=refusal,
        clock_read_s=_clock_read_s(),
        clock_synchronised=_synchronised(),
        versions=_versions(),
        pythons=tuple(each.version for each in interpreters.everywhere(configured.variables)),
        indexes=tuple(configured.places),
        index_refusal=resolver.refusal(configured),
        environments=len(environments.environments()),
        broken_plugins=tuple(_broken_plugins()),
        obstacles=tuple(obstacles.obstacles()),
        ray_daemons=sum(
            1
            for each in psutil.process_iter(["name"])
            if each.info["name"] in ("raylet", "gcs_server")
        ),
    )


def _broken_plugins() -> Iterator[tuple[str, str, str]]:
    catalogs = (catalog.frameworks(), catalog.workloads(), catalog.networks(), datasets.datasets())
    for found in catalogs:
        for name, error in found.broken.items():
            yield name, error.message, error.hint


def _cpu_times() -> dict[tuple[int, str], float]:
    """CPU seconds so far of every process but this one."""
    found = {}
    for each in psutil.process_iter(["name", "cpu_times"]):
        if each.pid != os.getpid() and each.info["cpu_times"]:
            found[each.pid, each.info["name"]] = sum(each.info["cpu_times"][:2])
    return found


def _busy(
    before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float], span_s: float
) -> tuple[Busy, ...]:
    """Those that kept a twentieth of a core busy, the busiest first."""
    shares = (Busy(*key, (cpu_s - before.get(key, cpu_s)) / span_s) for key, cpu_s in after.items())
    return tuple(
        sorted((each for each in shares if each.cores >= 0.05), key=lambda each: -each.cores)
    )


def _available_bytes() -> int:
    """Memory that can be had without swapping, within this process's limit."""
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
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        yield Folder(purpose, str(path), _free_bytes(there) or 0, os.access(there, os.W_OK))


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _gpus() -> tuple[list[Gpu], str]:
    """The GPUs, or why a driver is there and they cannot be asked."""
    try:
        return gpus.read(gpus.library()), ""
    except NoNvml as why:
        return [], str(why) if gpus.has_driver() else ""


def _clock_read_s() -> float:
    """What one reading of the clock costs that times the samples."""
    start = time.perf_counter()
    for _ in range(_READINGS):
        time.perf_counter()
    return (time.perf_counter() - start) / _READINGS


def _synchronised() -> bool | None:
    """Whether the kernel says that a time service keeps its clock; None where it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(
            ctypes.create_string_buffer(1024)
        )  # no bit of `modes` set: a mere question
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _versions() -> dict[str, str]:
    found = {"sweep": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found
