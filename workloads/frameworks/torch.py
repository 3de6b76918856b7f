# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "torch"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# native = {devices = ["cpu"], reason = "oneDNN is for the CPU"}
# onednn = {versions = ">=1.0", devices = ["cpu"], reason = "oneDNN came with torch 1.0, for the CPU"}
# script = {versions = ">=1.0", reason = "torch.jit came with torch 1.0"}
# inductor = {versions = ">=2.0", reason = "torch.compile came with torch 2.0"}
#
# [tool.sweep.recipes."<1.0"]
# python = ["3.6"]
# requires = ["numpy<1.20", "pyyaml<6"]
# hint = "torch before 1.0 is on no package index: name one with environments: {torch==VERSION: {wheel: FILE-OR-URL}}"
#
# [tool.sweep.recipes."<1.4"]
# python = ["3.7", "3.6"]
# requires = ["numpy<1.22"]
#
# [tool.sweep.recipes."<1.8"]
# python = ["3.7", "3.8", "3.6"]
# requires = ["numpy<1.22"]
#
# [tool.sweep.recipes."<1.11"]
# python = ["3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24"]
#
# [tool.sweep.recipes."<1.13"]
# python = ["3.10", "3.9", "3.8", "3.7"]
# requires = ["numpy<1.24"]
#
# [tool.sweep.recipes."<2.0"]
# python = ["3.10", "3.11", "3.9", "3.8", "3.7"]
# requires = ["numpy<1.27"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.3"]          # built against NumPy 1
# python = ["3.11", "3.10", "3.9", "3.8"]
# requires = ["numpy<2"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.5"]
# python = ["3.11", "3.12", "3.10", "3.9", "3.8"]
# cpu_build = true
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13", "3.10"]
# cpu_build = true                     # the index's own builds pull CUDA libraries: a CPU build is looked for first
# ///
"""PyTorch 0.1.10 and later."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  as everybody says it
from torch import nn

from workloads.runtime import layers
from workloads.runtime.refusals import Unsupported

# Before 0.4 a tensor knows nothing of gradients: a Variable holds it, and the two never mix
DIALECT = "tensor" if hasattr(torch, "no_grad") else "variable"


def load(settings: Dict[str, Any]) -> None:
    """Sets threads and flags; touches no device and starts no thread. The last call counts."""
    if settings.get("threads"):
        torch.set_num_threads(settings["threads"])
    _set_onednn(settings.get("backend", "default"))
    if settings.get("device") == "gpu":
        _set_cuda(settings)


def facts() -> Dict[str, Any]:
    """What can be said of the framework once it is imported, without touching a device."""
    shown = torch.__config__.show().split("\n") if hasattr(torch, "__config__") else []
    shown = [line.strip(" -") for line in shown if line.strip()]
    return {"framework_build": "; ".join(["torch {}".format(torch.__version__)] + shown)}


class Batch(NamedTuple):
    """A batch on the device; `joints` is N of the loss, of shape () where there are such shapes, else (1,)."""

    images: Any  # (batch, 3, 227, 227)
    targets: Any  # (batch, 14, 2)
    visible: Any  # (batch, 14, 1)
    joints: Any


class Model(object):
    """The network in torch.nn, the loss in the dialect of the version at hand.

    `settings["dialect"]` may be "variable", to speak the dialect before 0.4 to a later version that still knows it.
    """

    def __init__(self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]) -> None:
        self.device = settings.get("device", "cpu")
        if self.device == "gpu" and not torch.cuda.is_available():
            raise Unsupported("torch {} sees no CUDA device".format(torch.__version__))
        self.network = network
        self.backend = settings.get("backend", "default")
        self.compiles = self.backend in ("inductor", "script")
        self._channels_last = _wants_channels_last(settings)
        self._old = settings.get("dialect", DIALECT) == "variable"
        words, self._parameters = _modules(network, weights)
        self._modules = self._on_device(nn.Sequential(*words))
        self._loss = LOSSES[("variable " if self._old else "") + settings.get("backward", "autograd")]
        self._run = _compiled(self._modules, self._loss, self.backend)
        self.dropout = True

    @property
    def dropout(self) -> bool:
        """Whether dropout drops; nothing else in the network tells training from evaluation."""
        return bool(self._modules.training)

    @dropout.setter
    def dropout(self, on: bool) -> None:
        self._modules.train(on)

    def place(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """The batch as tensors on the device; on the CPU they share the arrays' memory."""
        joints = np.array(max(float(visible.sum()), 1.0), np.float32)
        return Batch(
            images=self._tensor(images, image=True),
            targets=self._tensor(targets),
            visible=self._tensor(visible[:, :, None]),
            joints=self._tensor(joints.reshape(1) if self._old else joints),
        )

    def forward(self, batch: Batch) -> Any:
        """The loss, with its graph."""
        return self._run(batch.images, batch.targets, batch.visible, batch.joints)

    def backward(self, loss: Any) -> None:
        """Adds the loss's gradient to each parameter's."""
        loss.backward()

    def clear_gradients(self) -> None:
        """As each dialect's optimisers do: forgotten, or zeroed before 0.4."""
        for _, parameter in self._parameters:
            if not self._old:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.data.zero_()

    def synchronize(self) -> None:
        """Waits until the device is done."""
        if self.device == "gpu":
            torch.cuda.synchronize()

    def loss_value(self, loss: Any) -> float:
        """The loss as a number."""
        return float(loss.data[0] if self._old else loss.item())

    def gradients(self) -> Dict[str, np.ndarray]:
        """Gradient of every parameter by name, on the host."""
        return {name: parameter.grad.data.cpu().numpy() for name, parameter in self._parameters}

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), without dropout or a graph."""
        dropout, self.dropout = self.dropout, False
        if self._old:
            found = self._modules(_variable(self._tensor(images, image=True).data, volatile=True))
        else:
            with torch.no_grad():
                found = self._modules(self._tensor(images, image=True))
        self.dropout = dropout
        return found.data.cpu().numpy().reshape((len(images),) + self.network.output)

    def facts(self) -> Dict[str, Any]:
        """What was in use, read back."""
        found = {"threads": torch.get_num_threads(), "dialect": "variable" if self._old else "tensor"}
        found.update(_cuda_facts() if self.device == "gpu" else _onednn_facts())
        if self._channels_last is not None:
            found["memory_format"] = "channels_last"
        return found
