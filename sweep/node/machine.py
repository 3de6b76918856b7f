"""The machine: what a node is, and what else happens on it; read from the kernel, changed never."""

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
    """A logical CPU with the socket, memory node and physical core it belongs to."""

    number: int
    numa_node: int
    socket: int
    physical: int


@dataclass(frozen=True)
class Usage:
    """CPU seconds of some cores since the machine started."""

    busy_s: float  # in user and kernel mode, for whoever
    stolen_s: float  # taken by the hypervisor for others
    at_s: float  # when they were read, on the monotonic clock


def node_name() -> str:
    return socket.gethostname()


def identity() -> str:
    """12 hexadecimal digits of this machine: its id, CPU, cores and architecture.

    The host name is no part of it: a machine is renamed, and a container has a name of its own.
    """
    told = (
        "".join(_lines(_MACHINE_ID)).strip(),
        cpu_model(),
        str(os.cpu_count()),
        platform.machine(),
    )
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=1)
def cpu_model() -> str:
    """The CPU's model name; `platform.processor()` is empty on Linux."""
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "cpu model"}:
            return value.strip()
    return platform.machine()


def usable_cores() -> list[int]:
    """The cores that this process may run on: what its control group and starter allow."""
    return sorted(os.sched_getaffinity(0))


def topology(cores: list[int]) -> list[Core]:
    return [_core(core) for core in cores]


def usage(cores: list[int]) -> Usage:
    """The counters of `cores`; take the difference of two readings."""
    busy = stolen = 0.0
    wanted = {f"cpu{core}" for core in cores}
    for line in _lines(Path("/proc/stat")):
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                float(f) / _TICKS for f in fields[:8]
            )
            busy += user + nice + system + irq + softirq
            stolen += steal
    return Usage(busy, stolen, time.monotonic())


def runnable() -> float:
    """Tasks that want a core at this very moment, this process left out."""
    fields = _text(Path("/proc/loadavg")).split()
    return max(0.0, float(fields[3].split("/")[0]) - 1.0) if len(fields) > 3 else 0.0


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or its control group's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    return min(total, limits.memory_bytes() or total)


def container() -> str:
    """The kind of container that this process runs in; empty outside of one."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    marks = {
        "docker": "/.dockerenv",
        "podman": "/run/.containerenv",
        "apptainer": "/.singularity.d",
    }
    said = os.environ.get("container", "")  # noqa: SIM112  systemd's own spelling
    return next((kind for kind, mark in marks.items() if Path(mark).exists()), said)


def out_of_memory_kills() -> int:
    """How often the kernel has killed a process for want of memory: on the machine, and in this control group."""
    counters = [*_lines(Path("/proc/vmstat")), *_lines(Path("/sys/fs/cgroup/memory.events"))]
    return sum(int(line.split()[1]) for line in counters if line.startswith("oom_kill "))


@functools.lru_cache(maxsize=1)
def facts_json() -> str:
    """Slow facts of the node for the record's column `machine`, read once."""
    return json.dumps(facts(), sort_keys=True)


def facts() -> dict[str, Any]:
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
        "clock_source": _text(
            Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        ).strip(),
        "transparent_huge_pages": _chosen(
            _text(Path("/sys/kernel/mm/transparent_hugepage/enabled"))
        ),
        "address_randomisation": _text(Path("/proc/sys/kernel/randomize_va_space")).strip(),
        "nvidia_driver": _text(Path("/proc/driver/nvidia/version")).partition("\n")[0].strip(),
        "hypervisor": any(
            "hypervisor" in line
            for line in _lines(Path("/proc/cpuinfo"))
            if line.startswith("flags")
        ),
    }


def _governors() -> str:
    """Those of all usable cores, `performance` where they agree."""
    found = {
        _text(_CPUS / f"cpu{core}/cpufreq/scaling_governor").strip() for core in usable_cores()
    }
    return " ".join(sorted(found))


@functools.cache
def _core(number: int) -> Core:
    """Read once: some machines have hundreds of them."""
    return Core(
        number=number,
        numa_node=_numa_node(number),
        socket=_number(_CPUS / f"cpu{number}/topology/physical_package_id"),
        physical=_number(_CPUS / f"cpu{number}/topology/core_id", number),
    )


def _chosen(text: str) -> str:
    """`always [madvise] never` -> `madvise`."""
    return text.partition("[")[2].partition("]")[0]


def _numa_node(core: int) -> int:
    nodes = list((_CPUS / f"cpu{core}").glob("node[0-9]*"))
    return int(nodes[0].name.removeprefix("node")) if nodes else 0


def _number(path: Path, default: int = 0) -> int:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else default


def _text(path: Path) -> str:
    """A file of the kernel's; empty where this kernel or container has it not."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()
