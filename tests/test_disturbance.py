"""What else a node did while a trial ran, and whether the trial's times can be trusted; the NVML is made up."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugged import OVERRIDES, PLUGINS, trial

from sweep.grid import Resources
from sweep.node import disturbance, gpus, hosts
from sweep.node.disturbance import Limits
from sweep.node.gpus import Gpu
from sweep.node.machine import Usage
from sweep.node.worker import RunTrial

COOL = Gpu(0, "H100", "550.1", True, 1980, 1980, 41, 80 * 2**30, 2**30, (), (), "GPU-12", 300.0)


class Nvml:
    """Two cards; each reading takes the next of what happens to the second."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU, NVML_PERF_POLICY_THERMAL = 1, 0, 1

    class NVMLError(Exception):
        pass

    def __init__(
        self, processes: list[list[int]], reasons: int = 0, overheated_ns: int = 0
    ) -> None:
        self.processes, self.reasons, self.overheated_ns = processes, reasons, overheated_ns
        self.readings = 0
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, device: int) -> str:
        return f"Card {device}"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.1"

    def nvmlDeviceGetUUID(self, device: int) -> str:
        return f"GPU-{device}{device}"

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(total=80 * 2**30, used=0)

    def nvmlDeviceGetClockInfo(self, device: int, which: int) -> int:
        return 1755

    def nvmlDeviceGetTemperature(self, device: int, sensor: int) -> int:
        return 66

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        return 412_500

    def nvmlDeviceGetMigMode(self, device: int) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: int) -> int:
        return self.reasons

    def nvmlDeviceGetViolationStatus(self, device: int, policy: int) -> SimpleNamespace:
        return SimpleNamespace(violationTime=self.readings * self.overheated_ns)

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[SimpleNamespace]:
        if device == 0:
            return [SimpleNamespace(pid=1)]
        self.readings += 1
        return [
            SimpleNamespace(pid=pid)
            for pid in self.processes[min(self.readings, len(self.processes)) - 1]
        ]

    def __getattr__(self, question: str) -> Any:
        def refuse(*arguments: Any) -> None:
            raise self.NVMLError("Not Supported")

        return refuse


# the cores


def test_what_is_not_the_trial_s_own_is_others() -> None:
    before, after = Usage(10.0, 1.0, 100.0), Usage(13.0, 1.4, 102.0)

    found = disturbance.shares(before, after, cores=2, own_s=2.0)

    assert found == {"contention_ratio": pytest.approx(0.25), "steal_ratio": pytest.approx(0.1)}


def test_nobody_took_less_than_nothing() -> None:
    """The kernel counts a core's time in ticks and a process's exactly: the two may disagree by a tick."""
    assert (
        disturbance.shares(Usage(1.0, 0.0, 0.0), Usage(1.9, 0.0, 1.0), 1, own_s=0.91)[
            "contention_ratio"
        ]
        == 0.0
    )


def test_a_trial_of_a_few_ticks_is_not_judged() -> None:
    assert disturbance.shares(Usage(1.0, 0.0, 0.0), Usage(1.01, 0.0, 0.005), 1, own_s=0.0) == {
        "contention_ratio": None,
        "steal_ratio": None,
    }
    assert (
        disturbance.contamination({"contention_ratio": None, "steal_ratio": None}, Limits()) == ""
    )


@pytest.mark.parametrize(
    ("record", "limits", "reason"),
    [
        ({"contention_ratio": 0.51}, Limits(), "other processes took 51% of its cores' time"),
        ({"contention_ratio": 0.49}, Limits(), ""),
        (
            {"contention_ratio": 0.2},
            Limits(max_contention=0.1),
            "other processes took 20% of its cores' time",
        ),
        ({"contention_ratio": 1.0}, Limits(max_contention=None), ""),
        ({"steal_ratio": 0.31}, Limits(), "the hypervisor took 31% of its cores' time"),
        ({"steal_ratio": 0.31}, Limits(steal_most=None), ""),
    ],
)
def test_a_trial_is_contaminated_beyond_the_limits_and_not_below(
    record: dict[str, float], limits: Limits, reason: str
) -> None:
    assert disturbance.contamination(record, limits) == reason


def test_a_worker_that_ran_elsewhere_or_with_other_threads_says_so() -> None:
    assert disturbance.misplacement({"cores": [0, 1], "threads": 2}, [0, 1], 2) == ""
    assert (
        disturbance.misplacement({"cores": [0, 1], "threads": None}, [0, 1], 2) == ""
    )  # nothing counts threads there
    assert (
        disturbance.misplacement({"cores": [0, 2]}, [0, 1], 2)
        == "it ran on cores [0, 2] and was bound to [0, 1]"
    )
    assert (
        disturbance.misplacement({"threads": 4}, [0, 1], 2)
        == "it computed with 4 threads and was given 2"
    )


# the GPU


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        *[
            (None, "Card 0"),
            ("1", "Card 1"),
            ("1,0", "Card 1"),
            ("GPU-11", "Card 1"),
            ("GPU-1", "Card 1"),
        ],
        *[("7", None), ("", None), ("MIG-4", None)],
    ],
)
def test_the_gpu_that_a_trial_sees_first_is_the_one_that_is_asked(
    visible: str | None, name: str | None
) -> None:
    found = gpus.first_visible(Nvml([[]]), visible)

    assert (found and found.name) == name


def test_a_gpu_tells_its_power_and_how_long_it_was_too_hot() -> None:
    nvml = Nvml([[]], overheated_ns=250_000_000)
    found = [gpus.first_visible(nvml, "1") for _ in range(2)]

    assert [(gpu.power_w, gpu.overheated_s, gpu.clock_mhz, gpu.split) for gpu in found if gpu] == [
        (412.5, 0.25, 1755, False),
        (412.5, 0.5, 1755, False),
    ]
    assert nvml.open == 1


def test_a_driver_that_does_not_answer_is_no_gpu() -> None:
    nvml = Nvml([[]])
    nvml.nvmlDeviceGetCount = nvml.no_such_question  # type: ignore[method-assign]

    with pytest.raises(gpus.NoNvml, match="Not Supported"):
        gpus.first_visible(nvml, None)


def columns(before: Gpu = COOL, working: Gpu | None = None, after: Gpu = COOL) -> dict[str, Any]:
    return disturbance.gpu_columns(
        before, working or dataclasses.replace(COOL, processes=(7,)), after, span_s=10.0
    )


def test_a_gpu_that_was_the_trial_s_alone_and_cool_contaminates_nothing() -> None:
    found = columns()

    assert (found["gpu_others"], found["gpu_slowed_by"], found["gpu_overheated_ratio"]) == (
        0,
        "",
        0.0,
    )
    assert (found["device_name"], found["gpu_uuid"], found["gpu_driver"]) == (
        "H100",
        "GPU-12",
        "550.1",
    )
    assert disturbance.gpu_contamination(found) == ""
    assert disturbance.gpu_contamination({}) == ""


@pytest.mark.parametrize(
    ("when", "processes", "reason"),
    [
        ("before", (9,), "1 other process was on its GPU"),
        ("working", (7, 9, 11), "2 other processes were on its GPU"),
        ("after", (9,), "1 other process was on its GPU"),
    ],
)
def test_others_on_the_gpu_contaminate_a_trial_whenever_they_are_seen(
    when: str, processes: tuple[int, ...], reason: str
) -> None:
    assert (
        disturbance.gpu_contamination(
            columns(**{when: dataclasses.replace(COOL, processes=processes)})
        )
        == reason
    )


def test_on_a_gpu_that_is_split_nobody_knows_who_else_is_there() -> None:
    split = dataclasses.replace(COOL, processes=(1, 2, 3), split=True)
    found = columns(split, split, split)

    assert (found["gpu_others"], found["gpu_split"]) == (None, True)
    assert disturbance.gpu_contamination(found) == ""


def test_heat_contaminates_and_the_power_limit_does_not() -> None:
    """Many GPUs work at their power limit for ever: the next attempt would find the same."""
    hot = columns(
        working=dataclasses.replace(
            COOL, processes=(7,), slowed_by=("heat, by the driver", "power limit")
        )
    )
    limited = columns(working=dataclasses.replace(COOL, processes=(7,), slowed_by=("power limit",)))

    assert disturbance.gpu_contamination(hot) == "its GPU was slowed by: heat, by the driver"
    assert limited["gpu_slowed_by"] == "power limit"
    assert disturbance.gpu_contamination(limited) == ""


def test_heat_that_has_passed_is_still_counted() -> None:
    found = columns(after=dataclasses.replace(COOL, overheated_s=2.5))

    assert found["gpu_overheated_ratio"] == pytest.approx(0.25)
    assert (
        disturbance.gpu_contamination(found)
        == "heat held its GPU's clocks down for 25% of its time"
    )


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a trial on the second card of a made-up NVML; its worker computes nothing there."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    def run(nvml: Any, trouble: str = "none", gpu: float = 1.0) -> dict[str, Any]:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        each = dataclasses.replace(
            trial(trouble, device="gpu"), resources=Resources(cpu=1, gpu=gpu, exclusive=False)
        )
        return RunTrial(overrides=OVERRIDES, timeout_s=60.0)(each)

    yield run
    hosts.close_all()


def test_a_trial_on_a_gpu_tells_what_it_was_and_how_it_went(on_gpu: Any) -> None:
    record = on_gpu(Nvml([[], [42], []]), "tells")

    assert (record["status"], record["error"]) == ("ok", "")
    assert (record["device_name"], record["gpu_uuid"], record["gpu_others"]) == (
        "Card 1",
        "GPU-11",
        0,
    )
    assert (record["gpu_clock_mhz"], record["gpu_power_w"], record["gpu_temperature_c"]) == (
        1755,
        412.5,
        66,
    )
    assert '"CUDA_VISIBLE_DEVICES": "1"' in record["variables"]
    assert '"CUDA_DEVICE_ORDER": "PCI_BUS_ID"' in record["variables"]  # as NVML and Ray count them


def test_a_trial_whose_gpu_others_use_is_invalid_unless_it_asked_to_share(on_gpu: Any) -> None:
    alone, shared = on_gpu(Nvml([[9], [42, 9], [9]])), on_gpu(Nvml([[9], [42, 9], [9]]), gpu=0.5)

    assert (alone["status"], alone["error"]) == ("invalid", "1 other process was on its GPU")
    assert alone["step_s"]  # kept
    assert shared["status"] == "ok"
    assert shared["gpu_others"] == 1


def test_a_trial_that_crashes_on_a_gpu_is_crashed(on_gpu: Any) -> None:
    assert on_gpu(Nvml([[]]), "crashes")["status"] == "crashed"


def test_without_nvml_a_trial_on_a_gpu_goes_on_and_does_not_claim_a_cpu_computed(
    on_gpu: Any,
) -> None:
    record = on_gpu(None)  # as where nvidia-ml-py is not installed

    assert record["status"] == "ok"
    assert record["device_name"] is None
    assert "gpu_uuid" not in record
