"""GPUs of this machine, read through NVML; no setting is changed."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DRIVER = Path("/proc/driver/nvidia/version")
# Bits of nvmlDeviceGetCurrentClocksEventReasons that mean a lower speed than the clocks promise.
_SLOWED = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "power brake",
}


class NoNvml(Exception):  # noqa: N818  a state of the machine
    """NVML is not available. The message is the reason, to follow `because`."""


@dataclass(frozen=True)
class Gpu:
    """The state of one GPU at one moment.

    `slowed_by` has the reasons for clocks below the requested ones, `processes` the ids of the
    processes that use the GPU. `overheated_s` counts from the load of the driver. `split` is true
    where MIG partitions the GPU; the partitions share its clocks.
    """

    index: int
    name: str
    driver: str
    persistent: bool
    clock_mhz: int
    highest_clock_mhz: int
    temperature_c: int
    memory_bytes: int
    memory_used_bytes: int
    slowed_by: tuple[str, ...]
    processes: tuple[int, ...]
    uuid: str = ""
    power_w: float | None = None
    overheated_s: float = 0.0
    split: bool = False


def has_driver() -> bool:
    """Return whether NVIDIA's driver is loaded, even if this process may not use it."""
    return _DRIVER.exists()


def library() -> Any:
    """Return the module `pynvml`. Raises NoNvml."""
    try:
        import pynvml
    except ImportError:
        raise NoNvml("nvidia-ml-py is not installed") from None
    return pynvml


def read(nvml: Any) -> list[Gpu]:
    """Return every GPU that `nvml`, the module `pynvml`, lists. Raises NoNvml."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    finally:
        nvml.nvmlShutdown()


def first_visible(nvml: Any, visible: str | None) -> Gpu | None:
    """Return the first GPU that a process with this CUDA_VISIBLE_DEVICES sees.

    Return None where NVML cannot tell which GPU that is. NVML stays open, since this is called
    often. Raises NoNvml.
    """
    first = "0" if visible is None else visible.partition(",")[0].strip()
    try:
        _open(nvml)
        for index in range(nvml.nvmlDeviceGetCount()):
            gpu = _gpu(nvml, index)
            # CUDA accepts an index, or the beginning of a UUID.
            if first == str(index) or (first.startswith("GPU-") and gpu.uuid.startswith(first)):
                return gpu
    except nvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    return None


@functools.lru_cache(maxsize=1)
def _open(nvml: Any) -> None:
    nvml.nvmlInit()


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    ask = _OptionalQuery(nvml, device)
    # Memory, name and driver are on every device. All else may be missing and has a default.
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", default=0)
    users = [
        *ask("nvmlDeviceGetComputeRunningProcesses", default=()),
        *ask("nvmlDeviceGetGraphicsRunningProcesses", default=()),
    ]
    return Gpu(
        index=index,
        name=_decoded(nvml.nvmlDeviceGetName(device)),
        driver=_decoded(nvml.nvmlSystemGetDriverVersion()),
        persistent=bool(ask("nvmlDeviceGetPersistenceMode", default=1)),
        clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM, default=0),
        highest_clock_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM, default=0),
        temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU, default=0),
        memory_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        slowed_by=tuple(reason for bit, reason in _SLOWED.items() if reasons & bit),
        processes=tuple(sorted({int(user.pid) for user in users})),
        uuid=_decoded(ask("nvmlDeviceGetUUID", default="")),
        power_w=_from_thousandths(ask("nvmlDeviceGetPowerUsage", default=None)),
        overheated_s=_overheated_s(
            ask("nvmlDeviceGetViolationStatus", nvml.NVML_PERF_POLICY_THERMAL, default=None)
        ),
        split=bool(ask("nvmlDeviceGetMigMode", default=(0, 0))[0]),
    )


@dataclass(frozen=True)
class _OptionalQuery:
    """Queries of a device that not every device supports."""

    nvml: Any
    device: Any

    def __call__(self, function: str, *arguments: Any, default: Any) -> Any:
        with contextlib.suppress(self.nvml.NVMLError):
            return getattr(self.nvml, function)(self.device, *arguments)
        return default


def _from_thousandths(number: float | None) -> float | None:
    """Return the unit from thousandths of it, as watts from milliwatts."""
    return None if number is None else number / 1000


def _overheated_s(violation: Any) -> float:
    """Return how long heat has lowered the clocks, in seconds; NVML counts nanoseconds."""
    return 0.0 if violation is None else violation.violationTime / 1e9


def _decoded(text: str | bytes) -> str:
    """Return text as str; old versions of the binding return bytes."""
    return text.decode() if isinstance(text, bytes) else text
