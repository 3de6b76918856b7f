"""The vocabulary in which a network is written once, and what follows from it alone: shapes and initial weights.

Framework files say what each word means in their own native modules. Shapes here leave out the
batch: images are (channels, height, width), convolution weights (outputs, inputs, kernel, kernel),
dense weights (outputs, inputs).
"""

from collections import OrderedDict
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from workloads.runtime.refusals import Unsupported

Shape = Tuple[int, ...]
EPSILON = 1e-5  # of the normalisations
MOMENTUM = 0.1  # share of the batch in the running statistics
_DRAWN_AT_ONCE = 1 << 20  # bounds the float64 draws in memory to 8 MiB


class Conv(NamedTuple):
    """Square convolution with zero padding."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    bias: bool = True


class Dense(NamedTuple):
    """Matrix product over the last axis: (…, inputs) -> (…, outputs)"""

    name: str
    inputs: int
    outputs: int
    bias: bool = True


class Relu(NamedTuple):
    """Rectifier, not in place."""


class MaxPool(NamedTuple):
    """Maximum over square windows; windows that would stick out of the image are left out (floor, never ceil)."""

    kernel: int
    stride: int
    pad: int = 0  # with what is never the maximum


class AvgPool(NamedTuple):
    """Mean over square windows; windows that would stick out of the image are left out."""

    kernel: int
    stride: int


class GlobalAvgPool(NamedTuple):
    """Mean over all places: (channels, height, width) -> (channels,), tokens (count, width) -> (width,)"""


class BatchNorm(NamedTuple):
    """Each channel less its mean, by its deviation, times a weight plus a bias (Ioffe and Szegedy 2015).

    In training, mean and variance are the batch's, over examples and places: y = weight * (x -
    mean) / sqrt(variance + EPSILON) + bias. Running statistics follow them, running = (1 -
    MOMENTUM) * running + MOMENTUM * batch's, where the variance is the unbiased one; they begin as
    0 and 1. In evaluation the running statistics take the batch's place.
    """

    name: str
    channels: int
    initial: float = 1.0  # what its weights begin as


class LayerNorm(NamedTuple):
    """The last axis less its mean, by its deviation, times a weight plus a bias (Ba et al. 2016).

    The variance is the biased one, and EPSILON is added to it.
    """

    name: str
    width: int


class Gelu(NamedTuple):
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) (Hendrycks and Gimpel 2016)

    The approximation that every version of every framework has the functions for; the exact one
    takes an error function.
    """


class Tokens(NamedTuple):
    """(channels, height, width) -> (places, channels): each place a token, plus the weights of its position."""

    name: str
    places: int
    width: int


class Attention(NamedTuple):
    """Self-attention of several heads over tokens (count, width) (Vaswani et al. 2017).

    Queries, keys and values are one product, `<name>.qkv`, in this order, each head after the other
    within them: softmax(q . k / sqrt(width / heads)) . v of the heads, side by side, then the
    product `<name>.out`.
    """

    name: str
    width: int
    heads: int


class Residual(NamedTuple):
    """The output of the layers of `body` plus that of `shortcut`, or plus the input itself where that has none."""

    body: Tuple[Any, ...]
    shortcut: Tuple[Any, ...] = ()


class Flatten(NamedTuple):
    """(channels, height, width) -> (channels * height * width,)"""


class Dropout(NamedTuple):
    """Zeroes with probability `ratio` and scales what stays by 1 / (1 - ratio); in training, unless switched off."""

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
    for layer, _ in walk(network):
        for name, shape in _own_parameters(layer):
            found["{}.{}".format(layer.name, name)] = shape
    return found


def initial_statistics(network: Network) -> "OrderedDict[str, np.ndarray]":
    """Name -> running statistic before training, such as `bn1.running_mean`, of every BatchNorm in order."""
    found: "OrderedDict[str, np.ndarray]" = OrderedDict()
    for layer in batch_norms(network):
        found[layer.name + ".running_mean"] = np.zeros(layer.channels, np.float32)
        found[layer.name + ".running_var"] = np.ones(layer.channels, np.float32)
    return found


def batch_norms(network: Network) -> List[BatchNorm]:
    """Every BatchNorm, those in residuals too, in order."""
    return [layer for layer, _ in walk(network) if isinstance(layer, BatchNorm)]


def walk(network: Network) -> Iterator[Tuple[Any, Shape]]:
    """Every layer with the shape that it is given, in order; after a residual its body's, then its shortcut's."""
    return _walk(network.layers, network.input)


def meaning(words: Mapping[type, Any], layer: Any) -> Any:
    """What a framework's `words` say for a layer; Unsupported where they have none for it."""
    if type(layer) not in words:
        raise Unsupported("the framework has no word for layer {}".format(type(layer).__name__))
    return words[type(layer)]


def draw_weights(network: Network, seed: int) -> Dict[str, np.ndarray]:
    """Initial float32 weights, the same to the bit for every NumPy: LeCun et al. 1998, uniform in ±sqrt(3 / fan-in).

    Of variance 1 / fan-in, as Chainer's own. With twice that (He et al. 2015) predictions begin so
    far out that training by the study's rule, momentum SGD with learning rate 0.01, runs off to
    infinity in four iterations. Drawn in the order of the network by
    `RandomState(seed).random_sample`; biases are zero, and the weights of normalisations one.
    """
    random = np.random.RandomState(seed)
    drawn = OrderedDict(
        (name, _draw(random, shape)) for name, shape in parameter_shapes(network).items()
    )
    for layer, _ in walk(network):
        if isinstance(layer, (BatchNorm, LayerNorm)):
            drawn[layer.name + ".weight"].fill(getattr(layer, "initial", 1.0))
    return drawn


def _draw(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    weights = np.zeros(shape, np.float32)
    if len(shape) > 1:
        bound = (3.0 / _size(shape[1:])) ** 0.5
        flat = weights.reshape(-1)
        for start in range(0, flat.size, _DRAWN_AT_ONCE):
            part = flat[start : start + _DRAWN_AT_ONCE]
            part[:] = (2 * random.random_sample(part.size) - 1) * bound
    return weights


def _own_parameters(layer: Any) -> List[Tuple[str, Shape]]:
    """Name and shape of the weights of one layer, without those of layers in it."""
    if isinstance(layer, Conv):
        weight = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)  # type: Shape
    elif isinstance(layer, Dense):
        weight = (layer.outputs, layer.inputs)
    elif isinstance(layer, (BatchNorm, LayerNorm)):
        size = layer.channels if isinstance(layer, BatchNorm) else layer.width
        return [("weight", (size,)), ("bias", (size,))]
    elif isinstance(layer, Attention):
        inner = _own_parameters(Dense("qkv", layer.width, 3 * layer.width))
        outer = _own_parameters(Dense("out", layer.width, layer.width))
        return [("qkv." + name, shape) for name, shape in inner] + [
            ("out." + name, shape) for name, shape in outer
        ]
    elif isinstance(layer, Tokens):
        return [("positions", (layer.places, layer.width))]
    else:
        return []
    return [("weight", weight)] + ([("bias", weight[:1])] if layer.bias else [])


def _walk(layers: Sequence[Any], shape: Shape) -> Iterator[Tuple[Any, Shape]]:
    for layer in layers:
        yield layer, shape
        if isinstance(layer, Residual):
            for each in (layer.body, layer.shortcut):
                for inner in _walk(each, shape):
                    yield inner
        shape = _after(layer, shape)


def _after(layer: Any, shape: Shape) -> Shape:
    if type(layer) not in _AFTER:
        raise ValueError("{!r} is no word of the vocabulary".format(layer))
    return _AFTER[type(layer)](layer, shape)


def _same(layer: Any, shape: Shape) -> Shape:
    return shape


def _after_conv(layer: Conv, shape: Shape) -> Shape:
    _fit(layer, layer.inputs, shape[0])
    return (layer.outputs,) + _windows(layer, shape, layer.pad)


def _after_dense(layer: Dense, shape: Shape) -> Shape:
    _fit(layer, layer.inputs, shape[-1])
    return shape[:-1] + (layer.outputs,)


def _after_batch_norm(layer: BatchNorm, shape: Shape) -> Shape:
    _fit(layer, layer.channels, shape[0])
    return shape


def _after_layer_norm(layer: Any, shape: Shape) -> Shape:
    _fit(layer, layer.width, shape[-1])
    return shape


def _after_attention(layer: Attention, shape: Shape) -> Shape:
    if layer.width % layer.heads:
        raise ValueError(
            "{} has {} heads, which do not share a width of {} evenly".format(
                layer.name, layer.heads, layer.width
            )
        )
    return _after_layer_norm(layer, shape)


def _after_tokens(layer: Tokens, shape: Shape) -> Shape:
    _fit(layer, layer.width, shape[0])
    _fit(layer, layer.places, _size(shape[1:]))
    return (layer.places, layer.width)


def _after_residual(layer: Residual, shape: Shape) -> Shape:
    body, shortcut = (_after_all(each, shape) for each in (layer.body, layer.shortcut))
    if body != shortcut:
        raise ValueError("a residual adds {} and {}".format(body, shortcut))
    return body


def _after_all(layers: Sequence[Any], shape: Shape) -> Shape:
    for layer in layers:
        shape = _after(layer, shape)
    return shape


def _fit(layer: Any, taken: int, given: int) -> None:
    if taken != given:
        raise ValueError("{} takes {} inputs and is given {}".format(layer.name, taken, given))


def _windows(layer: Any, shape: Shape, pad: int) -> Shape:
    return tuple((n + 2 * pad - layer.kernel) // layer.stride + 1 for n in shape[1:])


_AFTER: Dict[type, Callable[[Any, Shape], Shape]] = {
    Conv: _after_conv,
    Dense: _after_dense,
    Relu: _same,
    Gelu: _same,
    Dropout: _same,
    MaxPool: lambda layer, shape: shape[:1] + _windows(layer, shape, layer.pad),
    AvgPool: lambda layer, shape: shape[:1] + _windows(layer, shape, 0),
    GlobalAvgPool: lambda layer, shape: shape[:1] if len(shape) == 3 else shape[-1:],
    Flatten: lambda layer, shape: (_size(shape),),
    BatchNorm: _after_batch_norm,
    LayerNorm: _after_layer_norm,
    Tokens: _after_tokens,
    Attention: _after_attention,
    Residual: _after_residual,
}


def _size(shape: Shape) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
