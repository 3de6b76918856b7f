"""GPUs: what NVML says of those of this machine; asked only, never set."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DRIVER = Path("/proc/driver/nvidia/version")
# bits of nvmlDeviceGetCurrentClocksEventReasons that mean less speed than the clocks promise
_SLOWED = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "power brake",
}


class NoNvml(Exception):  # noqa: N818  a state of the machine
    """NVML cannot be asked; the message says why, in words that follow `because`."""


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment. `slowed_by`: why its clocks are lower than asked for; `processes`: ids of its users.

    `overheated_s` counts since the driver was loaded; `split`: by MIG, into several that share its clocks.
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
    """Whether the kernel has NVIDIA's driver, whoever may use it."""
    return _DRIVER.exists()


def library() -> Any:
    """The module `pynvml`. Raises NoNvml."""
    try:
        import pynvml
    except ImportError:
        raise NoNvml("nvidia-ml-py is not installed") from None
    return pynvml


def read(nvml: Any) -> list[Gpu]:
    """Every GPU that `nvml`, the module `pynvml`, knows of. Raises NoNvml."""
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
    """The first GPU that a process with this CUDA_VISIBLE_DEVICES sees; None where NVML cannot tell which that is.

    Unlike `read` it leaves NVML open, so that it may be asked often. Raises NoNvml.
    """
    first = "0" if visible is None else visible.partition(",")[0].strip()
    try:
        _opened(nvml)
        for index in range(nvml.nvmlDeviceGetCount()):
            found = _gpu(nvml, index)
            if first == str(index) or (first.startswith("GPU-") and found.uuid.startswith(first)):
                return found
    except nvml.NVMLError as error:
        raise NoNvml(str(error)) from None
    return None


@functools.lru_cache(maxsize=1)
def _opened(nvml: Any) -> None:
    nvml.nvmlInit()


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    ask = _Asked(nvml, device)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", default=0)
    users = [
        *ask("nvmlDeviceGetComputeRunningProcesses", default=()),
        *ask("nvmlDeviceGetGraphicsRunningProcesses", default=()),
    ]
    return Gpu(
        index=index,
        name=_words(nvml.nvmlDeviceGetName(device)),
        driver=_words(nvml.nvmlSystemGetDriverVersion()),
        persistent=bool(ask("nvmlDeviceGetPersistenceMode", default=1)),
        clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM, default=0),
        highest_clock_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM, default=0),
        temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU, default=0),
        memory_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        slowed_by=tuple(word for bit, word in _SLOWED.items() if reasons & bit),
        processes=tuple(sorted({int(user.pid) for user in users})),
        uuid=_words(ask("nvmlDeviceGetUUID", default="")),
        power_w=_thousandth(ask("nvmlDeviceGetPowerUsage", default=None)),
        overheated_s=_overheated_s(
            ask("nvmlDeviceGetViolationStatus", nvml.NVML_PERF_POLICY_THERMAL, default=None)
        ),
        split=bool(ask("nvmlDeviceGetMigMode", default=(0, 0))[0]),
    )


@dataclass(frozen=True)
class _Asked:
    """A question to a device that not every device answers."""

    nvml: Any
    device: Any

    def __call__(self, question: str, *arguments: Any, default: Any) -> Any:
        with contextlib.suppress(self.nvml.NVMLError):
            return getattr(self.nvml, question)(self.device, *arguments)
        return default


def _thousandth(number: float | None) -> float | None:
    return None if number is None else number / 1000


def _overheated_s(violation: Any) -> float:
    """The time that heat has held the clocks down, which NVML counts in nanoseconds."""
    return 0.0 if violation is None else violation.violationTime / 1e9


def _words(text: str | bytes) -> str:
    """Old versions of the binding return bytes."""
    return text.decode() if isinstance(text, bytes) else text
