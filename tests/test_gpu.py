"""What the frameworks do on a real GPU: `pytest -m gpu` on a machine that has one. Nothing here is faked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_deeppose import prepared
from test_frameworks import BASE, CHANNELS_LAST

from sweep import catalog, environments
from sweep.node import gpus, hosts
from sweep.node.outcome import Outcome
from workloads import core
from workloads.runtime import protocol

pytestmark = [pytest.mark.gpu, pytest.mark.framework, pytest.mark.network]

ON_GPU = {
    "device": "gpu",
    "samples": 5,
    "warmup": 2,
    "include_data": False,
    "dropout": True,
    "parity_tolerance": 1e-3,
}
ENVIRONMENTS = [
    ("torch==2.13.0", "default"),
    ("torch==1.13.1", "default"),
    ("jax==0.10.2", "default"),
    ("chainer==7.8.1", "cupy"),
]
NEWEST_FOR_CUDA_10 = (7, 5)  # compute capability: Turing
FILLS_THE_GPU = """
import numpy as np
from workloads.networks import alexnet
from workloads.runtime import layers
PARAMETERS = {}
def run(framework, settings, data, reference, report):
    framework.load(settings)
    model = framework.Model(alexnet.NETWORK, layers.draw_weights(alexnet.NETWORK, 0), settings)
    images = np.zeros((512, 3, 227, 227), np.float32)
    kept = []
    while True:
        kept.append(model.to_device(images, np.zeros((512, 14, 2), np.float32), np.ones((512, 14), np.float32)))
        model.synchronize()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not gpus.has_driver():
        pytest.skip("this machine has no CUDA device")
    return prepared(tmp_path_factory.mktemp("poses"))


def ran(framework: str, backend: str, data: Path, workload: Path, **settings: Any) -> Outcome:
    """A trial on the first GPU, in a host as sweeps use it."""
    name, _, version = framework.partition("==")
    if name == "chainer" and capability() > NEWEST_FOR_CUDA_10:
        pytest.skip("CuPy 7 ends with CUDA 10.2, which has no code for this GPU: see docs/gpu.md")
    spec = environments.specify(catalog.get_framework(name), version, "gpu", backend)
    every = (
        core.PARAMETERS | BASE | ON_GPU | settings | {"framework": framework, "backend": backend}
    )
    cores, expected = sorted(os.sched_getaffinity(0))[:2], core.reference_values(every, str(data))
    request = protocol.Request(
        framework, protocol.RUN, str(workload), every, cores, str(data), expected
    )
    return hosts.run(hosts.key(environments.prepare(spec), spec, 2, "gpu"), request, 600)


@pytest.mark.parametrize(("framework", "backend"), ENVIRONMENTS)
@pytest.mark.parametrize("backward", ["autograd", "explicit"])
def test_a_gpu_computes_what_the_reference_does_and_tells_what_it_used(
    framework: str, backend: str, backward: str, data: Path
) -> None:
    outcome = ran(framework, backend, data, core_file(), backward=backward)

    assert outcome.verdict(600)[0] == "ok", outcome.verdict(600)[1]
    found = outcome.columns
    assert max(found["loss_check"], found["grad_check"]) < 1e-3
    assert found["peak_device_bytes"] > 200e6, "the weights alone are more"
    assert found["device_name"]
    assert found.get("tf32") in (False, None)
    assert all(seconds > 0 for seconds in found["step_s"])
    if found["device_s"]:
        assert all(found["valid"]), "the GPU's clock and the wall's agree"


@pytest.mark.parametrize(
    "settings", [{"tf32": True}, {"cudnn_benchmark": True}, {"deterministic": True}, CHANNELS_LAST]
)
def test_flags_are_read_back_from_torch(settings: dict[str, Any], data: Path) -> None:
    outcome = ran("torch==2.13.0", "default", data, core_file(), tolerance=1e-2, **settings)

    assert outcome.verdict(600)[0] == "ok", outcome.verdict(600)[1]
    assert (
        outcome.columns | {k: v for k, v in settings.items() if k != "memory_format"}
        == outcome.columns
    )


@pytest.mark.parametrize(("framework", "backend"), ENVIRONMENTS)
def test_a_gpu_that_is_full_is_oom(
    framework: str, backend: str, data: Path, tmp_path: Path
) -> None:
    workload = tmp_path / "fills.py"
    workload.write_text(FILLS_THE_GPU)

    outcome = ran(framework, backend, data, workload)

    assert outcome.verdict(600)[0] == "oom", outcome.verdict(600)[1]


def capability() -> tuple[int, int]:
    """Of the first GPU, as NVML tells it."""
    nvml = pytest.importorskip(
        "pynvml", reason="nvidia-ml-py is not installed: pip install '.[gpu]'"
    )
    nvml.nvmlInit()
    found = nvml.nvmlDeviceGetCudaComputeCapability(nvml.nvmlDeviceGetHandleByIndex(0))
    nvml.nvmlShutdown()
    return int(found[0]), int(found[1])


def core_file() -> Path:
    return catalog.workloads()["core"].path
