"""What the doctor says of machines, made up and real."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.doctor import Finding, findings, worst
from sweep.node import gpus, limits
from sweep.node.gpus import Gpu
from sweep.node.snapshot import Busy, Folder, Snapshot

GIB = 2**30
FIT = Snapshot(
    machine={
        "kernel": "6.1",
        "logical_cores": 8,
        "usable_cores": 8,
        "physical_cores": 8,
        "numa_nodes": 1,
        "memory_bytes": 64 * GIB,
        "swap_bytes": 0,
        "cpu_quota": None,
        "container": "",
        "governor": "performance",
        "turbo_disabled": "1",
        "boost": "",
        "smt": "off",
        "isolated_cores": "2-7",
        "clock_source": "tsc",
        "transparent_huge_pages": "madvise",
        "address_randomisation": "2",
        "hypervisor": False,
    },
    memory_available_bytes=60 * GIB,
    shared_memory_free_bytes=32 * GIB,
    open_files=65536,
    folders=(Folder("results", "/data/results", 500 * GIB, True),),
    clock_read_s=4e-8,
    clock_synchronised=True,
    versions={"sweep": "1", "ray": "2.60.0"},
    pythons=("3.11.7",),
)
GPU = Gpu(0, "H100", "550.1", True, 1980, 1980, 40, 80 * GIB, 0, (), ())


def moment(**changes: Any) -> Snapshot:
    return dataclasses.replace(FIT, **changes)


def machine(**changes: Any) -> Snapshot:
    return moment(machine={**FIT.machine, **changes})


def about(snapshot: Snapshot, subject: str) -> list[Finding]:
    return [finding for finding in findings(snapshot) if finding.subject == subject]


ILLS = [
    (machine(governor="powersave"), "CPU governor", "warning", "cpupower frequency-set -g performance"),
    (machine(governor=""), "CPU governor", "note", "host"),
    (machine(turbo_disabled="0"), "turbo", "note", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
    (machine(turbo_disabled="", boost="1"), "turbo", "note", "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"),
    (machine(smt="on", physical_cores=4), "SMT", "note", "smt/control"),
    (machine(isolated_cores=""), "isolated cores", "note", "isolcpus"),
    (machine(cpu_quota=1.5), "cores", "warning", "--cpuset-cpus"),
    (machine(usable_cores=1), "cores", "warning", "core to spare"),
    (machine(numa_nodes=2), "memory nodes", "note", "resources"),
    (machine(hypervisor=True), "virtual machine", "note", "sweep calibrate"),
    (machine(container="docker"), "container", "note", "on the host"),
    (machine(address_randomisation="0"), "address randomisation", "warning", "randomize_va_space=2"),
    (machine(transparent_huge_pages="always"), "transparent huge pages", "note", "madvise"),
    (machine(clock_source="hpet"), "clock", "warning", "tsc"),
    (moment(clock_read_s=3e-6), "clock", "warning", "tsc"),
    (moment(clock_synchronised=False), "time of day", "note", "set-ntp"),
    (moment(busy=(Busy(77, "make", 1.9),)), "load", "warning", "kill 77"),
    (moment(runnable=3.0), "load", "note", "wait"),
    (moment(steal_ratio=0.2), "stolen time", "warning", "dedicated"),
    (moment(steal_ratio=0.005), "stolen time", "note", "dedicated"),
    (moment(memory_available_bytes=GIB), "memory", "warning", "ps aux"),
    (moment(memory_available_bytes=GIB // 4), "memory", "error", "ps aux"),
    (moment(swap_used_bytes=GIB), "swap", "warning", "swapoff"),
    (moment(shared_memory_free_bytes=2**26), "shared memory", "warning", "--shm-size"),
    (moment(open_files=1024), "open files", "note", "ulimit -n"),
    (moment(nvml_refusal="nvidia-ml-py is not installed"), "GPUs", "warning", "[gpu]"),
    (moment(gpus=(GPU,)), "GPU 0", "note", "--lock-gpu-clocks"),
    (moment(gpus=(dataclasses.replace(GPU, processes=(9, 12)),)), "GPU 0", "warning", "kill 9 12"),
    (moment(gpus=(dataclasses.replace(GPU, persistent=False),)), "GPU 0", "warning", "-pm 1"),
    (moment(gpus=(dataclasses.replace(GPU, slowed_by=("heat",)),)), "GPU 0", "warning", "cool"),
    (moment(folders=(Folder("results", "/r", 1, True),)), "disk for results", "error", "--out"),
    (moment(folders=(Folder("data", "/d", 5 * GIB, True),)), "disk for data", "warning", "SWEEP_DATA_DIR"),
    (moment(folders=(Folder("data", "/d", 50 * GIB, False),)), "disk for data", "error", "SWEEP_DATA_DIR"),
    (moment(pythons=()), "Pythons", "warning", "python install"),
    (moment(pythons=(), index_refusal="dns error"), "Pythons", "error", "python install"),
    (moment(index_refusal="dns error", environments=3), "package indexes", "warning", "index-url"),
    (moment(versions={"ray": ""}), "Ray", "error", "pip install"),
    (moment(ray_daemons=2), "Ray", "note", "--address auto"),
]  # fmt: skip


def test_a_fit_machine_gives_no_cause_for_concern() -> None:
    assert {finding.grade for finding in findings(FIT)} == {"ok"}


@pytest.mark.parametrize(
    ("snapshot", "subject", "grade", "fix"), ILLS, ids=[f"{ill[1]}-{ill[2]}" for ill in ILLS]
)
def test_an_ill_is_named_with_its_effect_and_the_command_against_it(
    snapshot: Snapshot, subject: str, grade: str, fix: str
) -> None:
    matching = [
        finding
        for finding in about(snapshot, subject)
        if finding.grade == grade and fix in finding.fix
    ]
    assert matching
    assert matching[0].effect
    others = [
        finding
        for finding in findings(snapshot)
        if finding.subject not in (subject, "package indexes")
    ]
    assert {finding.grade for finding in others} == {"ok"}


@pytest.mark.parametrize("snapshot", [FIT, *(ill[0] for ill in ILLS)])
def test_no_advice_ends_every_ray_of_the_machine(snapshot: Snapshot) -> None:
    assert not [finding for finding in findings(snapshot) if "ray stop" in finding.fix]


def test_the_gravest_comes_first_and_names_the_whole() -> None:
    snapshot = dataclasses.replace(
        machine(governor="powersave", smt="on"), memory_available_bytes=1
    )
    found = findings(snapshot)
    assert [finding.grade for finding in found[:3]] == ["error", "warning", "note"]
    assert worst(found) == "error"
    assert worst([]) == "ok"


def test_a_throttling_quota_says_how_often_it_stopped_trials() -> None:
    snapshot = dataclasses.replace(machine(cpu_quota=2.0), throttled=7)
    assert "7 times" in about(snapshot, "cores")[0].effect


def test_the_doctor_looks_at_this_machine_and_leaves_it_alone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sweep",
        "doctor",
        "--format",
        "json",
        "--out",
        str(tmp_path / "not" / "there"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    grades = {finding["grade"] for finding in found}
    assert done.returncode == (5 if "error" in grades else 0), done.stderr
    assert {"load", "memory", "clock", "cores", "Ray", "package indexes", "disk for results"} <= {
        f["subject"] for f in found
    }
    assert all(
        finding["fix"] and finding["effect"] for finding in found if finding["grade"] != "ok"
    )
    assert not (tmp_path / "not").exists()


def control_groups(root: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "membership").write_text(membership)
    return root, root / "membership"


def test_the_tightest_limit_of_all_groups_around_a_process_counts(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "nr_periods 9\nnr_throttled 4\n",
        "pod/cpu.max": "150000 100000\n",
        "pod/memory.max": "max\n",
        "pod/one/cpu.max": "max 100000\n",
        "pod/one/memory.max": "1073741824\n",
    }
    where = control_groups(tmp_path, files, "0::/pod/one\n")
    assert limits.cpu_quota(*where) == 1.5
    assert limits.memory_bytes(*where) == GIB
    assert limits.throttled_periods(*where) == 4


def test_limits_of_the_old_control_groups_are_read_too(tmp_path: Path) -> None:
    files = {
        "cpu/job/cpu.cfs_quota_us": "50000",
        "cpu/job/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    where = control_groups(tmp_path, files, "4:memory:/elsewhere\n1:cpu:/job\n")
    assert limits.cpu_quota(*where) == 0.5
    assert limits.memory_bytes(*where) is None


class Nvml:
    """As much of the binding as is asked; the card knows no clocks, as some do not."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(total=80 * GIB, used=3 * GIB)

    def nvmlDeviceGetName(self, device: int) -> bytes:
        return b"H100"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.1"

    def nvmlDeviceGetPersistenceMode(self, device: int) -> int:
        return 0

    def nvmlDeviceGetTemperature(self, device: int, sensor: int) -> int:
        return 41

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: int) -> int:
        return 0x1 | 0x40

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=12), SimpleNamespace(pid=9)]

    def refuse(self, *arguments: int) -> None:
        raise self.NVMLError("Not Supported")

    def __getattr__(self, question: str) -> Any:
        return self.refuse


def test_a_gpu_tells_what_it_can_and_is_let_go() -> None:
    nvml = Nvml()
    assert gpus.read(nvml) == [
        Gpu(
            0,
            "H100",
            "550.1",
            False,
            0,
            0,
            41,
            80 * GIB,
            3 * GIB,
            ("heat, by the hardware",),
            (9, 12),
        )
    ]
    assert nvml.open == 0


def test_a_driver_that_does_not_answer_says_so() -> None:
    nvml = Nvml()
    nvml.nvmlInit = nvml.refuse  # type: ignore[method-assign]
    with pytest.raises(gpus.NoNvml, match="Not Supported"):
        gpus.read(nvml)
