# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "chainer"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# numpy = {devices = ["cpu"], reason = "NumPy is for the CPU; on a GPU it is backend cupy"}
# ideep = {versions = ">=4", devices = ["cpu"], reason = "iDeep came with Chainer 4, for the CPU"}
# cupy = {versions = ">=2", devices = ["gpu"], reason = "CuPy became a package of its own with Chainer 2, for the GPU"}
#
# [tool.sweep.recipes."<2"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {reason = "Chainer 1 carries a CuPy of its own that only builds with a CUDA toolkit of its day"}
#
# [tool.sweep.recipes."<3"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {requires = ["cupy>=1,<2"], hint = "CuPy 1 is source only: it builds where CUDA 8's nvcc is on PATH"}
#
# [tool.sweep.recipes."<4"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {requires = ["cupy>=2,<3"], hint = "CuPy 2 is source only: it builds where CUDA 9's nvcc is on PATH"}
#
# [tool.sweep.recipes."<5"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py<2"]}
# variants.gpu = {python = ["3.6"], requires = ["cupy-cuda91=={version}"]}
#
# [tool.sweep.recipes."<6"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.6", "3.7"], requires = ["cupy-cuda92=={version}"]}
#
# [tool.sweep.recipes."<7"]
# python = ["3.6", "3.7"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.6", "3.7"], requires = ["cupy-cuda101=={version}"]}
#
# [tool.sweep.recipes."<7.8"]          # imports numpy.distutils
# python = ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70", "protobuf<3.21"]
# build = ["setuptools<81"]
# variants.ideep = {python = ["3.7", "3.6"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.7", "3.6"], requires = ["cupy-cuda101=={version}"]}
#
# [tool.sweep.recipes."*"]             # the last CuPy that fits is 7.8.0
# python = ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70", "protobuf<3.21"]
# build = ["setuptools<81"]
# variants.ideep = {python = ["3.7", "3.6"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.8", "3.7", "3.6"], requires = ["cupy-cuda102==7.8.0"]}
# ///
"""Chainer 1.19 to 7.8.1."""

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import chainer
import chainer.functions as F  # noqa: N812  as everybody says it
import chainer.links as L  # noqa: N812
import numpy as np

from workloads.runtime import layers
from workloads.runtime.refusals import Unsupported

# Chainer 3 brought functions that are differentiated in Variables; those before, in arrays
NODES = hasattr(chainer, "FunctionNode")


def load(settings: Dict[str, Any]) -> None:
    """Sets Chainer's configuration; touches no device. The last call counts.

    Threads are those of NumPy's BLAS and of iDeep, set by environment variables before either is imported.
    """
    if settings.get("memory_format", "contiguous") != "contiguous":
        raise Unsupported("Chainer knows no memory format but contiguous")
    if settings.get("device", "cpu") == "gpu" and settings.get("tf32"):
        raise Unsupported("Chainer knows no TF32")
    if hasattr(chainer, "config"):  # from 2 on; before, flags are arguments of functions
        chainer.config.use_ideep = "auto" if _backend(settings) == "ideep" else "never"
        chainer.config.autotune = bool(settings.get("cudnn_benchmark"))
        chainer.config.cudnn_deterministic = bool(settings.get("deterministic"))


def facts() -> Dict[str, Any]:
    """What can be said of the framework once it is imported; no device is touched."""
    return {"framework_build": "Chainer {}, NumPy {}".format(chainer.__version__, np.__version__)}


class Batch(NamedTuple):
    """A batch of arrays on the device; `joints` is N of the loss."""

    images: Any  # (batch, 3, 227, 227)
    targets: Any  # (batch, 14, 2)
    visible: Any  # (batch, 14, 1)
    joints: float


class Model:
    """The network in chainer.links and chainer.functions."""

    def __init__(self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]) -> None:
        self.network = network
        self.backend = _backend(settings)
        self.dropout = True
        self._device = DEVICES[self.backend](settings.get("device", "cpu"))
        self._links = _links(network, weights)
        self._chain = chainer.Chain(**self._links)
        self._device.move(self._chain)
        self._loss = {"autograd": composed_loss, "explicit": explicit_loss}[settings.get("backward", "autograd")]

    def place(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """The batch as arrays on the device; on the CPU they are the arrays given."""
        send = self._device.send
        joints = max(float(visible.sum()), 1.0)
        return Batch(images=send(images), targets=send(targets), visible=send(visible[:, :, None]), joints=joints)

    def forward(self, batch: Batch) -> Any:
        """The loss, with its graph."""
        prediction = F.reshape(self._run(batch.images), batch.targets.shape)
        return self._loss(prediction, batch.targets, batch.visible, batch.joints)

    def backward(self, loss: Any) -> None:
        """Adds the loss's gradient to each parameter's."""
        loss.backward()

    def clear_gradients(self) -> None:
        """Forgets the gradients."""
        self._chain.cleargrads()

    def synchronize(self) -> None:
        """Waits until the device is done."""
        self._device.synchronize()

    def loss_value(self, loss: Any) -> float:
        """The loss as a number."""
        return float(loss.data)

    def gradients(self) -> Dict[str, np.ndarray]:
        """Gradient of every parameter by name, on the host."""
        found = {}
        for name, link in self._links.items():
            found[name + ".weight"] = self._device.fetch(link.W.grad)
            found[name + ".bias"] = self._device.fetch(link.b.grad)
        return found

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), without dropout and without a graph."""
        dropout, self.dropout = self.dropout, False
        if hasattr(chainer, "no_backprop_mode"):
            with chainer.no_backprop_mode():
                found = self._run(self._device.send(images))
        else:
            found = self._run(chainer.Variable(self._device.send(images), volatile="on"))
        self.dropout = dropout
        return self._device.fetch(found.data).reshape((len(images),) + self.network.output)

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """What is in use for such a batch, read back."""
        weights = next(iter(self._links.values())).W.data
        found = {"chainer_backend": self.backend, "arrays": type(weights).__module__ + "." + type(weights).__name__}
        found.update(self._device.facts())
        return found

    def _run(self, x: Any) -> Any:
        for layer in self.network.layers:
            x = WORDS[type(layer)](layer, self, x)
        return x
