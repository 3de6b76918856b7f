"""The doctor: what about a machine affects timings on it, how much, and how to fix it.

It decides from a snapshot of facts and takes no measurement itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sweep.analysis.quantities import quantity
from sweep.node.gpus import Gpu
from sweep.node.snapshot import Folder, Snapshot

Grade = Literal["ok", "note", "warning", "error"]
GRADES: tuple[Grade, ...] = ("error", "warning", "note", "ok")

# Thresholds of a warning and a note, in cores that others use and in the share of stolen time.
BUSY_MUCH, BUSY_SOME = 0.5, 0.1
STEAL_MUCH, STEAL_SOME = 0.02, 0.001
# Thresholds of an error and a warning.
MEMORY_LEAST_BYTES, MEMORY_LITTLE_BYTES = 2**29, 2 * 2**30
DISK_LEAST_BYTES, DISK_LITTLE_BYTES = 2**30, 10 * 2**30
FILES_FEW = 4096
CLOCK_SLOW_S = 1e-6
GPU_HOT_C = 80
SHARED_MEMORY_LEAST_BYTES = 100_000_000  # the object store of a Ray that sweep starts
_GOOD_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock")
_CPU = "/sys/devices/system/cpu"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, its effect on timings, and how to fix it.

    An `error` keeps trials from running or being recorded, a `warning` makes times wrong or wide, a
    `note` is for information.
    """

    subject: str
    grade: Grade
    found: str
    effect: str = ""
    fix: str = ""


def findings(snapshot: Snapshot) -> list[Finding]:
    """Return all findings, the most serious first."""
    found = [finding for look in _LOOKS for finding in look(snapshot)]
    return sorted(found, key=lambda finding: GRADES.index(finding.grade))


def _governor(snapshot: Snapshot) -> Iterator[Finding]:
    governor = snapshot.machine["governor"]
    if governor == "performance":
        yield Finding("CPU governor", "ok", governor)
    elif governor:
        effect = (
            "the clock follows the load: the first samples of a trial and short trials are slower"
        )
        yield Finding(
            "CPU governor",
            "warning",
            governor,
            effect,
            "sudo cpupower frequency-set -g performance",
        )
    else:
        where = "this kernel does not say"
        if snapshot.machine["hypervisor"]:
            where = "the hypervisor keeps it to itself"
        effect = "the clock may change unseen; blocks see to it that it changes for all cells alike"
        yield Finding(
            "CPU governor",
            "note",
            f"unknown: {where}",
            effect,
            "set it on the host, if that is yours",
        )


def _turbo(snapshot: Snapshot) -> Iterator[Finding]:
    no_turbo, boost = snapshot.machine["turbo_disabled"], snapshot.machine["boost"]
    if no_turbo == "0" or boost == "1":
        file = "intel_pstate/no_turbo" if no_turbo else "cpufreq/boost"
        effect = (
            "the clock depends on heat and on how many cores are busy:"
            " trials drift and neighbours are felt"
        )
        fix = f"echo {1 if no_turbo else 0} | sudo tee {_CPU}/{file}"
        yield Finding("turbo", "note", "on", effect, fix)
    elif no_turbo or boost:
        yield Finding("turbo", "ok", "off")


def _smt(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.machine["smt"] == "on":
        effect = "two threads share a core's units: what runs beside a trial can halve its speed"
        fix = (
            f"echo off | sudo tee {_CPU}/smt/control, or give trials no more threads than"
            " there are physical cores"
        )
        yield Finding(
            "SMT", "note", f"on, {snapshot.machine['physical_cores']} physical cores", effect, fix
        )
    else:
        yield Finding("SMT", "ok", "off" if snapshot.machine["smt"] else "not known to this kernel")


def _isolation(snapshot: Snapshot) -> Iterator[Finding]:
    isolated = snapshot.machine["isolated_cores"]
    if isolated:
        yield Finding("isolated cores", "ok", isolated)
        return
    effect = (
        "the kernel may put other work on the cores of a trial;"
        " contention_ratio records how much it did"
    )
    yield Finding(
        "isolated cores",
        "note",
        "none",
        effect,
        "boot with isolcpus=… and start sweep with taskset -c …",
    )


def _cores(snapshot: Snapshot) -> Iterator[Finding]:
    usable, present, quota = (
        snapshot.machine["usable_cores"],
        snapshot.machine["logical_cores"],
        snapshot.machine["cpu_quota"],
    )
    found = f"{usable} of {present}"
    if quota and quota < usable:
        stopped = (
            f"; it stopped trials {snapshot.throttled} times just now" if snapshot.throttled else ""
        )
        effect = (
            f"a quota stops the process for part of each tenth of a second{stopped}:"
            " samples fall into two groups"
        )
        fix = "give the container cores instead of time: docker run --cpuset-cpus=0-3, not --cpus"
        yield Finding("cores", "warning", f"{found}, with the time of {quota:g}", effect, fix)
    elif usable < 2:
        effect = "sweep, Ray and the kernel share the core of the trial"
        yield Finding("cores", "warning", found, effect, "use a machine with a core to spare")
    else:
        yield Finding("cores", "ok", found)


def _load(snapshot: Snapshot) -> Iterator[Finding]:
    busy = sum(each.cores for each in snapshot.busy)
    if busy < BUSY_SOME and snapshot.runnable < 1:
        yield Finding("load", "ok", f"{busy:.2f} cores busy")
        return
    named = ", ".join(f"{each.name} ({each.pid}) {each.cores:.1f}" for each in snapshot.busy[:3])
    users = f": {named}" if named else f", {snapshot.runnable:g} tasks want one"
    found = f"{busy:.1f} cores busy{users}"
    grade: Grade = "warning" if busy >= BUSY_MUCH else "note"
    effect = (
        "trials share cores and caches with it: times are longer and vary; the worst become invalid"
    )
    fix = (
        f"end it, if it is yours: kill {snapshot.busy[0].pid}"
        if snapshot.busy
        else "wait until it has ended"
    )
    yield Finding("load", grade, found, effect, fix)


def _steal(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.steal_ratio < STEAL_SOME:
        yield Finding("stolen time", "ok", f"{snapshot.steal_ratio:.1%}")
        return
    grade: Grade = "warning" if snapshot.steal_ratio >= STEAL_MUCH else "note"
    effect = "the hypervisor runs others on these cores: samples are longer by as much, at random"
    yield Finding(
        "stolen time",
        grade,
        f"{snapshot.steal_ratio:.1%}",
        effect,
        "use a machine of one's own, or a dedicated host",
    )


def _virtual(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.machine["hypervisor"]:
        effect = (
            "neighbours share caches and memory bandwidth, which no counter here shows; days differ"
        )
        fix = (
            "measure its noise floor: sweep calibrate GRID; compare within one run, not across days"
        )
        yield Finding("virtual machine", "note", "yes", effect, fix)
    if container := snapshot.machine["container"]:
        effect = "governor, turbo and swap are the host's to set; times are as outside"
        yield Finding(
            "container", "note", container, effect, "run the commands named here on the host"
        )


def _memory_nodes(snapshot: Snapshot) -> Iterator[Finding]:
    nodes = snapshot.machine["numa_nodes"]
    if nodes < 2:
        yield Finding("memory nodes", "ok", "1")
        return
    effect = "memory of the other node is slower by up to a half: processes fall into groups"
    fix = (
        "ask for no more cores than one node has, in resources: {cpu: …};"
        " sweep then keeps a trial on one"
    )
    yield Finding("memory nodes", "note", str(nodes), effect, fix)


def _memory(snapshot: Snapshot) -> Iterator[Finding]:
    available = snapshot.memory_available_bytes
    if available is None:
        return
    total = quantity(snapshot.machine["memory_bytes"], "B", 3)
    found = f"{quantity(available, 'B', 3)} of {total} to be had"
    if available >= MEMORY_LITTLE_BYTES:
        yield Finding("memory", "ok", found)
        return
    grade: Grade = "error" if available < MEMORY_LEAST_BYTES else "warning"
    effect = "the kernel takes caches away from trials and then kills them (status oom)"
    yield Finding(
        "memory",
        grade,
        found,
        effect,
        "end what holds it (ps aux --sort=-rss), or ask for smaller batches",
    )


def _swap(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.swap_used_bytes > 2**20:
        effect = "pages of a trial may be on disk: single samples take a thousand times as long"
        found = f"{quantity(snapshot.swap_used_bytes, 'B', 3)} in use"
        yield Finding("swap", "warning", found, effect, "sudo swapoff -a")
    elif snapshot.machine["swap_bytes"]:
        yield Finding("swap", "ok", "there, and empty")
    else:
        yield Finding("swap", "ok", "none")


def _randomisation(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.machine["address_randomisation"] in ("0", "1"):
        effect = (
            "every process gets the same layout of memory:"
            " one lucky or unlucky one counts as the truth"
        )
        fix = "sudo sysctl kernel.randomize_va_space=2"
        yield Finding("address randomisation", "warning", "off or partial", effect, fix)
    else:
        yield Finding("address randomisation", "ok", "on")


def _huge_pages(snapshot: Snapshot) -> Iterator[Finding]:
    chosen = snapshot.machine["transparent_huge_pages"]
    if chosen == "always":
        effect = "whether a trial's arrays got huge pages is luck, and worth some per cent"
        fix = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
        yield Finding("transparent huge pages", "note", chosen, effect, fix)
    else:
        yield Finding("transparent huge pages", "ok", chosen or "not known to this kernel")


def _clock(snapshot: Snapshot) -> Iterator[Finding]:
    source, read_s = snapshot.machine["clock_source"], snapshot.clock_read_s or 0.0
    found = f"{source or 'unknown'}, {quantity(read_s, 's', 2)} a reading"
    if read_s > CLOCK_SLOW_S or (source and source not in _GOOD_CLOCKS):
        effect = "reading it is a call into the kernel: short samples hold mostly that"
        clocks = _CPU.replace("cpu", "clocksource")
        fix = f"echo tsc | sudo tee {clocks}/clocksource0/current_clocksource"
        yield Finding("clock", "warning", found, effect, fix)
    else:
        yield Finding("clock", "ok", found)


def _time_service(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.clock_synchronised is None:
        return
    if snapshot.clock_synchronised:
        yield Finding("time of day", "ok", "kept by a time service")
        return
    effect = (
        "samples are not touched, they are taken by another clock;"
        " started_at of several nodes may disagree"
    )
    yield Finding(
        "time of day", "note", "not kept by a time service", effect, "sudo timedatectl set-ntp true"
    )


def _gpus(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.nvml_refusal:
        effect = (
            "heat, clocks and other users of the GPUs go unseen:"
            " contaminated trials pass for good ones"
        )
        fix = "see nvidia-smi"
        if "installed" in snapshot.nvml_refusal:
            fix = "pip install 'sweep-frameworks[gpu]'"
        yield Finding("GPUs", "warning", f"not to be asked: {snapshot.nvml_refusal}", effect, fix)
    elif not snapshot.gpus:
        yield Finding("GPUs", "ok", "none")
    for gpu in snapshot.gpus:
        yield from _gpu(gpu)


def _gpu(gpu: Gpu) -> Iterator[Finding]:
    subject, clocks = f"GPU {gpu.index}", f"{gpu.clock_mhz} of {gpu.highest_clock_mhz} MHz"
    if gpu.processes:
        who = " ".join(map(str, gpu.processes))
        effect = "others compute on it: times are longer and vary, memory is short"
        yield Finding(
            subject,
            "warning",
            f"in use by process {who}",
            effect,
            f"end them, if they are yours: kill {who}",
        )
    if gpu.slowed_by or gpu.temperature_c >= GPU_HOT_C:
        why = ", ".join(gpu.slowed_by) or f"{gpu.temperature_c} °C"
        effect = "it computes below its clock, and the longer the more: trials drift"
        yield Finding(
            subject,
            "warning",
            f"slowed at {clocks}: {why}",
            effect,
            f"cool it, or {_lock_fix(gpu)}",
        )
    if not gpu.persistent:
        effect = "the driver is loaded anew for each process: the first steps take seconds"
        yield Finding(
            subject,
            "warning",
            "persistence mode is off",
            effect,
            f"sudo nvidia-smi -i {gpu.index} -pm 1",
        )
    effect = (
        "the clock rises and falls with load and heat; whether it is locked the driver does not say"
    )
    found = f"{gpu.name}, driver {gpu.driver}, {clocks}, {gpu.temperature_c} °C"
    yield Finding(subject, "note", found, effect, _lock_fix(gpu))


def _lock_fix(gpu: Gpu) -> str:
    """Return the command that locks a GPU's clock at a rate it can sustain; `-rgc` undoes it."""
    clock_mhz = gpu.highest_clock_mhz * 3 // 4
    return (
        f"lock its clock: sudo nvidia-smi -i {gpu.index} --lock-gpu-clocks={clock_mhz},{clock_mhz}"
    )


def _open_files(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.open_files is None:
        return
    # -1 means no limit.
    if 0 <= snapshot.open_files < FILES_FEW:
        effect = (
            "none on times; Ray runs out of them on a cluster of dozens of nodes, and trials crash"
        )
        yield Finding(
            "open files", "note", f"at most {snapshot.open_files}", effect, "ulimit -n 65536"
        )
    else:
        yield Finding(
            "open files",
            "ok",
            f"at most {snapshot.open_files}" if snapshot.open_files > 0 else "no limit",
        )


def _folders(snapshot: Snapshot) -> Iterator[Finding]:
    for folder in snapshot.folders:
        yield _room(folder)


_SETTINGS = {"environments": "SWEEP_ENV_DIR", "data": "SWEEP_DATA_DIR", "temporary files": "TMPDIR"}


def _room(folder: Folder) -> Finding:
    subject = f"disk for {folder.purpose}"
    found = f"{quantity(folder.free_bytes, 'B', 3)} free at {folder.path}"
    setting = _SETTINGS.get(folder.purpose)
    elsewhere = f"{setting}=FOLDER sweep run …" if setting else "sweep run … --out FOLDER"
    if not folder.writable:
        return Finding(
            subject,
            "error",
            f"{folder.path} cannot be written to",
            "no trial can run, or be kept",
            elsewhere,
        )
    if folder.free_bytes >= DISK_LITTLE_BYTES:
        return Finding(subject, "ok", found)
    grade: Grade = "error" if folder.free_bytes < DISK_LEAST_BYTES else "warning"
    effect = "none on times; an environment takes 0.3 to 6 GB, and a full disk ends the run"
    return Finding(subject, grade, found, effect, f"sweep env rm …, or {elsewhere}")


def _shared_memory(snapshot: Snapshot) -> Iterator[Finding]:
    free = snapshot.shared_memory_free_bytes
    if free is not None and free < SHARED_MEMORY_LEAST_BYTES:
        effect = "Ray keeps its objects on disk instead, and writes there while trials run"
        found = f"{quantity(free, 'B', 3)} free"
        yield Finding(
            "shared memory",
            "warning",
            found,
            effect,
            "docker run --shm-size=1g, or mount -o remount,size=1G /dev/shm",
        )


def _pythons(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.pythons:
        yield Finding("Pythons", "ok", ", ".join(snapshot.pythons))
        return
    grade: Grade = "error" if snapshot.index_refusal else "warning"
    effect = "no environment can be built until uv has installed one"
    yield Finding(
        "Pythons", grade, "none found", effect, "pyenv install 3.11, or uv python install 3.11"
    )


def _indexes(snapshot: Snapshot) -> Iterator[Finding]:
    where = ", ".join(snapshot.indexes) or "uv's own index"
    if not snapshot.index_refusal:
        yield Finding("package indexes", "ok", where)
        return
    held = (
        f"; {snapshot.environments} environments are there already" if snapshot.environments else ""
    )
    effect = f"none on times; no environment can be built{held}"
    fix = "check the network, or name an index: pip config set global.index-url URL"
    yield Finding("package indexes", "warning", f"{where}: {snapshot.index_refusal}", effect, fix)


def _plugins(snapshot: Snapshot) -> Iterator[Finding]:
    for name, error, hint in snapshot.broken_plugins:
        effect = f"grids that use {name} do not run; all others do"
        yield Finding("plug-ins", "warning", f"{name} cannot be used: {error}", effect, hint)


def _local_ray(snapshot: Snapshot) -> Iterator[Finding]:
    for what, hint in snapshot.obstacles:
        yield Finding("local Ray", "error", what, "no trial can run without a cluster", hint)


def _ray(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.versions.get("ray"):
        effect = "trials of a cluster, and several at once on this machine, need it"
        yield Finding("Ray", "error", "not installed", effect, "pip install 'ray[default]'")
    elif snapshot.ray_daemons:
        effect = "its daemons wake up many times a second, and its trials may be somebody's"
        # `ray stop` would end every Ray of this user on the machine, those of other sweeps too.
        fix = "join it with --address auto, or wait until whoever started it has ended it"
        yield Finding(
            "Ray", "note", f"{snapshot.versions['ray']}, and one runs on this machine", effect, fix
        )
    else:
        yield Finding("Ray", "ok", f"{snapshot.versions['ray']}, none runs now")


def _versions(snapshot: Snapshot) -> Iterator[Finding]:
    versions = [f"{name} {number}" for name, number in snapshot.versions.items() if number]
    found = ", ".join([*versions, f"Linux {snapshot.machine['kernel']}"])
    yield Finding("versions", "ok", found)


_LOOKS = (
    *(_load, _steal, _governor, _turbo, _smt, _cores, _isolation, _memory_nodes, _virtual),
    *(_memory, _swap, _shared_memory, _huge_pages, _randomisation, _clock, _time_service),
    *(_gpus, _open_files, _folders, _pythons, _indexes, _plugins, _local_ray, _ray, _versions),
)


def worst(found: Iterable[Finding]) -> Grade:
    """Return the most serious grade among findings."""
    return min((finding.grade for finding in found), key=GRADES.index, default="ok")
