# /// script
# requires-python = ">=3.8"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "autograd"
# devices = ["cpu"]
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.10"]
# requires = ["scipy"]
# ///
"""HIPS autograd: NumPy that can be differentiated. The network is made of nothing but slices and products.

The file is read by the environment's Python, not by sweep's, and may import NumPy, its framework
and `workloads`.
"""

from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple

import autograd.numpy as np
import numpy
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive

from workloads.runtime import layers
from workloads.runtime.refusals import Unsupported

Parameters = Dict[str, Any]


def load(settings: Dict[str, Any]) -> None:
    """Threads are those of NumPy's BLAS, set by environment variables before it is imported: nothing is left to do."""
    if settings.get("memory_format", "contiguous") != "contiguous":
        raise Unsupported("autograd knows no memory format but contiguous")


def facts() -> Dict[str, Any]:
    """What can be said of the framework once it is imported."""
    return {"framework_build": "autograd on NumPy {}".format(numpy.__version__)}


class Batch(NamedTuple):
    """A batch; `joints` is N of the loss."""

    images: numpy.ndarray  # (batch, 3, 227, 227)
    targets: numpy.ndarray  # (batch, 14, 2)
    visible: numpy.ndarray  # (batch, 14, 1)
    joints: float


class Loss(NamedTuple):
    """The loss, and the function from its gradient to those of the parameters."""

    value: float
    back: Callable[[Any], Parameters]


class Model:
    """The network as a function of its parameters."""

    def __init__(
        self, network: layers.Network, weights: Parameters, settings: Dict[str, Any]
    ) -> None:
        self.network = network
        self.training = True
        self.dropout = True
        self._parameters = dict(weights)
        self._gradients: Parameters = {}
        self._random = numpy.random.RandomState(settings.get("seed", 0))
        self._loss = {"autograd": composed_loss, "explicit": explicit_loss}[
            settings.get("backward", "autograd")
        ]

    def to_device(
        self, images: numpy.ndarray, targets: numpy.ndarray, visible: numpy.ndarray
    ) -> Batch:
        """The batch where the model takes it."""
        return Batch(images, targets, visible[:, :, None], max(float(visible.sum()), 1.0))

    def forward(self, batch: Batch) -> Loss:
        """The loss, with the way back."""
        back, value = make_vjp(
            lambda parameters: self._loss_of(parameters, batch), self._parameters
        )
        return Loss(float(value), back)

    def backward(self, loss: Loss) -> None:
        """Adds the loss's gradient to each parameter's."""
        found = loss.back(numpy.float32(1))
        if self._gradients:
            found = {name: self._gradients[name] + gradient for name, gradient in found.items()}
        self._gradients = found

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._gradients = {}

    def synchronize(self) -> None:
        """Nothing runs behind NumPy's back."""

    def item(self, loss: Loss) -> float:
        """The loss as a number."""
        return loss.value

    def gradients(self) -> Dict[str, numpy.ndarray]:
        """Gradient of every parameter by name."""
        return self._gradients

    def predict(self, images: numpy.ndarray) -> numpy.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), in evaluation mode."""
        training, self.training = self.training, False
        found = self._run(self._parameters, images)
        self.training = training
        return found.reshape((len(images),) + self.network.output)

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """What is in use for such a batch, read back."""
        return {"precision": str(batch.images.dtype)}

    def _loss_of(self, parameters: Parameters, batch: Batch) -> Any:
        prediction = np.reshape(self._run(parameters, batch.images), batch.targets.shape)
        return self._loss(prediction, batch)

    def _run(self, parameters: Parameters, x: Any) -> Any:
        for layer in self.network.layers:
            x = layers.meaning(WORDS, layer)(layer, self, parameters, x)
        return x


def composed_loss(prediction: Any, batch: Batch) -> Any:
    """The loss in operations of autograd, differentiated by it."""
    difference = (prediction - batch.targets) * batch.visible
    return np.sum(difference * difference) / batch.joints


@primitive
def explicit_loss(prediction: Any, batch: Batch) -> Any:
    """The loss as one operation with its own backward."""
    difference = (prediction - batch.targets) * batch.visible
    return numpy.sum(difference * difference) / batch.joints


defvjp(
    explicit_loss,
    lambda value, prediction, batch: (
        lambda gradient: (
            gradient
            * numpy.float32(2 / batch.joints)
            * (prediction - batch.targets)
            * batch.visible
        )
    ),
    argnums=(0,),
)


def convolution(layer: layers.Conv, model: Model, parameters: Parameters, x: Any) -> Any:
    """(batch, in, h, w) -> (batch, out, h', w'): the sum over the kernel's places of a product with a slice."""
    weight, bias = parameters[layer.name + ".weight"], parameters[layer.name + ".bias"]
    x = (
        np.pad(x, ((0, 0), (0, 0), (layer.pad, layer.pad), (layer.pad, layer.pad)), "constant")
        if layer.pad
        else x
    )
    y = sum(
        np.tensordot(weight[:, :, row, column], piece, ((1,), (1,)))
        for row, column, piece in _pieces(layer, x)
    )
    return np.transpose(y, (1, 0, 2, 3)) + bias[:, None, None]


def maximum(layer: layers.MaxPool, model: Model, parameters: Parameters, x: Any) -> Any:
    """(batch, c, h, w) -> (batch, c, h', w')"""
    return np.max(np.array([piece for _, _, piece in _pieces(layer, x)]), axis=0)


def dropping(layer: layers.Dropout, model: Model, parameters: Parameters, x: Any) -> Any:
    """What is not dropped is scaled up."""
    if not (model.training and model.dropout):
        return x
    kept = model._random.random_sample(x.shape) >= layer.ratio
    return x * (kept.astype(numpy.float32) / numpy.float32(1 - layer.ratio))


WORDS: Dict[type, Callable[..., Any]] = {
    layers.Conv: convolution,
    layers.Relu: lambda layer, model, parameters, x: np.maximum(x, 0),
    layers.MaxPool: maximum,
    layers.Flatten: lambda layer, model, parameters, x: np.reshape(x, (len(x), -1)),
    layers.Dense: lambda layer, model, parameters, x: (
        np.dot(x, parameters[layer.name + ".weight"].T) + parameters[layer.name + ".bias"]
    ),
    layers.Dropout: dropping,
}


def _pieces(layer: Any, x: Any) -> Iterator[Tuple[int, int, Any]]:
    """Row and column of each place in the window, with what all windows see there."""
    height, width = (layer.stride * ((n - layer.kernel) // layer.stride) + 1 for n in x.shape[2:])
    for row in range(layer.kernel):
        for column in range(layer.kernel):
            yield (
                row,
                column,
                x[:, :, row : row + height : layer.stride, column : column + width : layer.stride],
            )
