"""The vocabulary in which a network is written once, and what follows from it alone: shapes and initial weights.

Framework files say what each word means in their own native modules. Shapes here leave out the batch: images are
(channels, height, width), convolution weights (outputs, inputs, kernel, kernel), dense weights (outputs, inputs).
"""

from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

Shape = Tuple[int, ...]
_DRAWN_AT_ONCE = 1 << 20  # bounds the float64 draws in memory to 8 MiB


class Conv(NamedTuple):
    """Square convolution with zero padding and a bias."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0


class Dense(NamedTuple):
    """Matrix product with a bias."""

    name: str
    inputs: int
    outputs: int


class Relu(NamedTuple):
    """Rectifier, not in place."""


class MaxPool(NamedTuple):
    """Maximum over square windows; windows that would stick out of the image are left out (floor, never ceil)."""

    kernel: int
    stride: int


class Flatten(NamedTuple):
    """(channels, height, width) -> (channels * height * width,)"""


class Dropout(NamedTuple):
    """Zeroes with probability `ratio` and scales what stays by 1 / (1 - ratio); does nothing when switched off."""

    ratio: float


class Network(NamedTuple):
    """Layers in order; `output` is the shape a prediction is given in, of as many numbers as the last layer's."""

    name: str
    input: Shape
    output: Shape
    layers: Tuple[Any, ...]


def shapes(network: Network) -> List[Shape]:
    """Shape after each layer; raises ValueError where a layer does not fit what comes before it."""
    found: List[Shape] = []
    shape = network.input
    for layer in network.layers:
        shape = _after(layer, shape)
        found.append(shape)
    if _size(shape) != _size(network.output):
        raise ValueError("{} ends in {}, not in {}".format(network.name, shape, network.output))
    return found


def parameter_shapes(network: Network) -> "OrderedDict[str, Shape]":
    """Name -> shape of every weight and bias, such as `conv1.weight`, in the order of the network."""
    found: "OrderedDict[str, Shape]" = OrderedDict()
    for layer in network.layers:
        if isinstance(layer, Conv):
            found[layer.name + ".weight"] = (
                layer.outputs,
                layer.inputs,
                layer.kernel,
                layer.kernel,
            )
        elif isinstance(layer, Dense):
            found[layer.name + ".weight"] = (layer.outputs, layer.inputs)
        else:
            continue
        found[layer.name + ".bias"] = (layer.outputs,)
    return found


def draw_weights(network: Network, seed: int) -> Dict[str, np.ndarray]:
    """Initial float32 weights, the same to the bit for every NumPy: LeCun et al. 1998, uniform in ±sqrt(3 / fan-in).

    Of variance 1 / fan-in, as Chainer's own. With twice that (He et al. 2015) predictions begin so far out that
    training by the study's rule, momentum SGD with learning rate 0.01, runs off to infinity in four iterations.
    Drawn in the order of the network by `RandomState(seed).random_sample`; biases are zero.
    """
    random = np.random.RandomState(seed)
    return OrderedDict(
        (name, _draw(random, shape)) for name, shape in parameter_shapes(network).items()
    )


def _draw(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    weights = np.zeros(shape, np.float32)
    if len(shape) > 1:
        bound = (3.0 / _size(shape[1:])) ** 0.5
        flat = weights.reshape(-1)
        for start in range(0, flat.size, _DRAWN_AT_ONCE):
            part = flat[start : start + _DRAWN_AT_ONCE]
            part[:] = (2 * random.random_sample(part.size) - 1) * bound
    return weights


def _after(layer: Any, shape: Shape) -> Shape:
    if isinstance(layer, Flatten):
        return (_size(shape),)
    if isinstance(layer, (Conv, Dense)) and layer.inputs != shape[0]:
        raise ValueError(
            "{} takes {} inputs and is given {}".format(layer.name, layer.inputs, shape[0])
        )
    if isinstance(layer, Dense):
        return (layer.outputs,)
    if isinstance(layer, Conv):
        return (layer.outputs,) + tuple(
            (n + 2 * layer.pad - layer.kernel) // layer.stride + 1 for n in shape[1:]
        )
    if isinstance(layer, MaxPool):
        return shape[:1] + tuple((n - layer.kernel) // layer.stride + 1 for n in shape[1:])
    if isinstance(layer, (Relu, Dropout)):
        return shape
    raise ValueError("{!r} is no word of the vocabulary".format(layer))


def _size(shape: Shape) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
