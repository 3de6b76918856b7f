"""The machine: facts about a node and its load, read from the kernel; nothing is changed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from sweep.node import limits

_CPUS = Path("/sys/devices/system/cpu")
_MACHINE_ID = Path("/etc/machine-id")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Core(NamedTuple):
    """A logical CPU, with its NUMA node, socket and physical core."""

    number: int
    numa_node: int
    socket: int
    physical: int


@dataclass(frozen=True)
class Usage:
    """CPU seconds of some cores since boot. `at_s` is the monotonic time of the reading."""

    busy_s: float  # in user and kernel mode, for any process
    stolen_s: float  # given by the hypervisor to other virtual machines
    at_s: float


def node_name() -> str:
    return socket.gethostname()


def identity() -> str:
    """Return 12 hexadecimal digits that identify this machine.

    They are a hash of machine id, CPU model, number of cores and architecture. The host name is
    left out: machines are renamed, and each container has a host name of its own.
    """
    parts = (
        "".join(_lines(_MACHINE_ID)).strip(),
        cpu_model(),
        str(os.cpu_count()),
        platform.machine(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=1)
def cpu_model() -> str:
    """Return the CPU's model name. `platform.processor()` is empty on Linux."""
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "cpu model"}:
            return value.strip()
    return platform.machine()


def usable_cores() -> list[int]:
    """Return the cores that this process may run on: control group and inherited affinity."""
    return sorted(os.sched_getaffinity(0))


def topology(cores: list[int]) -> list[Core]:
    """Return socket, NUMA node and physical core of each core."""
    return [_core(core) for core in cores]


def usage(cores: list[int]) -> Usage:
    """Return the counters of `cores` since boot; only differences are meaningful."""
    busy = stolen = 0.0
    wanted = {f"cpu{core}" for core in cores}
    for line in _lines(Path("/proc/stat")):
        name, *fields = line.split()
        if name in wanted:
            # The guest times further on are already part of `user` and `nice`.
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                float(f) / _TICKS for f in fields[:8]
            )
            busy += user + nice + system + irq + softirq
            stolen += steal
    return Usage(busy, stolen, time.monotonic())


def runnable() -> float:
    """Return how many tasks are runnable at this moment, without this process."""
    # The fourth field is `runnable/total`.
    fields = _text(Path("/proc/loadavg")).split()
    return max(0.0, float(fields[3].split("/")[0]) - 1.0) if len(fields) > 3 else 0.0


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's or its control group's limit."""
    total = int(psutil.virtual_memory().total)
    return min(total, limits.memory_bytes() or total)


def container() -> str:
    """Return the kind of container that this process runs in, or ""."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    marks = {
        "docker": "/.dockerenv",
        "podman": "/run/.containerenv",
        "apptainer": "/.singularity.d",
    }
    systemd_kind = os.environ.get("container", "")  # noqa: SIM112  systemd's own spelling
    return next((kind for kind, mark in marks.items() if Path(mark).exists()), systemd_kind)


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory.

    Those of the machine and of this control group are added; only differences are meaningful.
    """
    counters = [*_lines(Path("/proc/vmstat")), *_lines(Path("/sys/fs/cgroup/memory.events"))]
    return sum(int(line.split()[1]) for line in counters if line.startswith("oom_kill "))


@functools.lru_cache(maxsize=1)
def facts_json() -> str:
    """Return `facts` as JSON, for the column `machine` of a record; read once."""
    return json.dumps(facts(), sort_keys=True)


def facts() -> dict[str, Any]:
    """Return facts about this machine that bear on timings and rarely change."""
    cpu_flags = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("flags")]
    clock_source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "usable_cores": len(usable_cores()),
        "physical_cores": psutil.cpu_count(logical=False),
        "numa_nodes": len({core.numa_node for core in topology(usable_cores())}),
        "memory_bytes": memory_bytes(),
        "swap_bytes": psutil.swap_memory().total,
        "cpu_quota": limits.cpu_quota(),
        "container": container(),
        "governor": _governors(),
        "turbo_disabled": _text(_CPUS / "intel_pstate/no_turbo").strip(),
        "boost": _text(_CPUS / "cpufreq/boost").strip(),
        "smt": _text(_CPUS / "smt/control").strip(),
        "isolated_cores": _text(_CPUS / "isolated").strip(),
        "clock_source": _text(clock_source).strip(),
        "transparent_huge_pages": _selected(_text(huge_pages)),
        "address_randomisation": _text(Path("/proc/sys/kernel/randomize_va_space")).strip(),
        "nvidia_driver": _text(Path("/proc/driver/nvidia/version")).partition("\n")[0].strip(),
        "hypervisor": any("hypervisor" in line for line in cpu_flags),
    }


def _governors() -> str:
    """Return the frequency governors of all usable cores, each once, as in `performance`."""
    governors = {
        _text(_CPUS / f"cpu{core}/cpufreq/scaling_governor").strip() for core in usable_cores()
    }
    return " ".join(sorted(governors))


@functools.cache
def _core(number: int) -> Core:
    """Return a core's place in the machine; cached, as some machines have hundreds of cores."""
    return Core(
        number=number,
        numa_node=_numa_node(number),
        socket=_number(_CPUS / f"cpu{number}/topology/physical_package_id"),
        physical=_number(_CPUS / f"cpu{number}/topology/core_id", number),
    )


def _selected(text: str) -> str:
    """Return the choice in brackets: `madvise` from `always [madvise] never`."""
    return text.partition("[")[2].partition("]")[0]


def _numa_node(core: int) -> int:
    nodes = list((_CPUS / f"cpu{core}").glob("node[0-9]*"))
    return int(nodes[0].name.removeprefix("node")) if nodes else 0


def _number(path: Path, default: int = 0) -> int:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else default


def _text(path: Path) -> str:
    """Return a kernel file's text, or "" where this kernel or container does not have it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()
