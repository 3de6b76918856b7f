# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = ""                 # no distribution of its own: NumPy is the framework, and its version is the version
# devices = ["cpu"]
#
# [tool.sweep.recipes."<1.16"]
# python = ["3.6"]
#
# [tool.sweep.recipes."<1.20"]
# python = ["3.7", "3.6", "3.8"]
#
# [tool.sweep.recipes."<1.26"]
# python = ["3.9", "3.10", "3.8"]
#
# [tool.sweep.recipes."<2.3"]
# python = ["3.11", "3.12", "3.10"]
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13", "3.10", "3.9", "3.8", "3.7", "3.6"]
# ///
"""NumPy without a framework: the reference that frameworks are checked against."""

from collections import OrderedDict
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from workloads.runtime import layers, optimizers
from workloads.runtime.refusals import Unsupported

# of the columns of a record, the one that this file alone gives
COLUMNS = {"precision": {"meaning": "type of the numbers that it computes with"}}

# What a layer leaves for the way back: takes the gradient of its output, and whether that of its input is needed;
# gives the gradient of its input (None where not needed) and those of its parameters by name.
Back = Callable[[np.ndarray, bool], Tuple[Any, Dict[str, np.ndarray]]]


def load(settings: Dict[str, Any]) -> None:
    """Do nothing: environment variables set the threads of NumPy's BLAS before its import."""
    if settings.get("device", "cpu") != "cpu":
        raise Unsupported("the reference runs on the CPU alone")
    if settings.get("memory_format", "contiguous") != "contiguous":
        raise Unsupported("the reference knows no memory format but contiguous")


def facts() -> Dict[str, Any]:
    """Return facts about NumPy."""
    return {"framework_build": "NumPy {}".format(np.__version__)}


class Batch(NamedTuple):
    """A batch in the model's precision; `joints` is N of the loss."""

    images: np.ndarray  # (batch, 3, 227, 227)
    targets: np.ndarray  # (batch, 14, 2)
    visible: np.ndarray  # (batch, 14, 1)
    joints: float


class Loss(NamedTuple):
    """The loss and the way back from it: the loss's own, then the network's."""

    value: float
    of_prediction: Callable[[], np.ndarray]
    back: Back


class Model:
    """The network in NumPy. `settings["precision"]` may be float64, for reference values."""

    def __init__(
        self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]
    ) -> None:
        layers.shapes(network)
        self.network = network
        self.precision = np.dtype(settings.get("precision", "float32"))
        self.parameters = OrderedDict(
            (name, value.astype(self.precision)) for name, value in weights.items()
        )
        self.training = True
        self.dropout = True
        self.deterministic = True
        self._statistics = layers.initial_statistics(network)
        self.reset_statistics()
        self.random = np.random.RandomState(settings.get("seed", 0))
        self._rule: Any = None
        self._updates = 0
        self._moments: "OrderedDict[str, Dict[str, np.ndarray]]" = OrderedDict()
        self._loss = {"autograd": composed_loss, "explicit": explicit_loss}[
            settings.get("backward", "autograd")
        ]
        self._gradients: "OrderedDict[str, np.ndarray]" = OrderedDict()

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """Return the batch in the model's precision."""
        return Batch(
            images=images.astype(self.precision, copy=False),
            targets=targets.astype(self.precision, copy=False),
            visible=visible.astype(self.precision, copy=False)[:, :, None],
            joints=max(float(visible.sum()), 1.0),
        )

    def forward(self, batch: Batch) -> Loss:
        """Prediction and loss."""
        output, back = self._run(batch.images)
        value, of_prediction = self._loss(output.reshape(batch.targets.shape), batch)
        return Loss(value, of_prediction, back)

    def backward(self, loss: Loss) -> None:
        """Add the loss's gradient to the gradient of each parameter."""
        gradient: Any = loss.of_prediction()
        gradient = gradient.reshape(len(gradient), -1)
        _, own = loss.back(gradient, False)
        for name, value in own.items():
            before = self._gradients.get(name)
            self._gradients[name] = value if before is None else before + value

    def zero_grad(self) -> None:
        """Discard the gradients."""
        self._gradients.clear()

    def synchronize(self) -> None:
        """Do nothing: NumPy computes synchronously."""

    def item(self, loss: Loss) -> float:
        """Return the loss as a number."""
        return float(loss.value)

    def gradients(self) -> Dict[str, np.ndarray]:
        """Return the gradient of every parameter by name."""
        return self._gradients

    def statistics(self) -> Dict[str, np.ndarray]:
        """Running statistics by name."""
        return self._statistics

    def reset_statistics(self) -> None:
        """Sets running statistics to what they are before training."""
        for name, value in layers.initial_statistics(self.network).items():
            self._statistics[name] = value.astype(self.precision)

    def infer(self, batch: Batch) -> np.ndarray:
        """The last layer's output, in evaluation mode, without a way back."""
        return self._run(batch.images)[0]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), in evaluation mode."""
        training, self.training = self.training, False
        output, _ = self._run(images.astype(self.precision, copy=False))
        self.training = training
        return output.reshape((len(images),) + self.network.output)

    def set_optimizer(self, rule: Any) -> None:
        """Set the rule of further updates, and reset its state."""
        self._rule, self._updates = rule, 0
        self._moments = OrderedDict((name, {}) for name in self.parameters)

    def step(self) -> None:
        """Update every parameter in place from the gradients."""
        self._updates += 1
        for name, value in self.parameters.items():
            UPDATES[type(self._rule)](
                self._rule, self._updates, value, self._gradients[name], self._moments[name]
            )

    def seed_dropout(self, seed: int) -> None:
        """Seed the generator of dropout."""
        self.random.seed(seed)

    def state(self) -> Dict[str, np.ndarray]:
        """All that the updates to come depend on: parameters and the rule's state."""
        found = dict(self.parameters, updates=np.array(self._updates), **self._statistics)
        for name, moments in self._moments.items():
            found.update({"{}/{}".format(name, moment): value for moment, value in moments.items()})
        return found

    def restore(self, state: Dict[str, np.ndarray]) -> None:
        """Restore a `state` of the same rule."""
        self._updates = int(state["updates"])
        self._statistics.update({name: state[name] for name in self._statistics})
        for name in self.parameters:
            self.parameters[name] = state[name]
            own = [key for key in state if key.startswith(name + "/")]
            self._moments[name] = {key[len(name) + 1 :]: state[key] for key in own}

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """Return what is in use for such a batch."""
        return {"precision": self.precision.name}

    def _run(self, x: np.ndarray) -> Tuple[np.ndarray, Back]:
        return sequence(self.network.layers, self, x)


def composed_loss(prediction: np.ndarray, batch: Batch) -> Tuple[float, Callable[[], np.ndarray]]:
    """The loss as elementary operations, each with its own derivative, as autograd does."""
    difference = prediction - batch.targets  # (batch, 14, 2)
    masked = difference * batch.visible
    squared = masked * masked
    value = squared.sum() / batch.joints

    def of_prediction() -> np.ndarray:
        of_squared = np.full_like(squared, 1 / batch.joints)
        of_masked = of_squared * masked + of_squared * masked
        return of_masked * batch.visible

    return value, of_prediction


def explicit_loss(prediction: np.ndarray, batch: Batch) -> Tuple[float, Callable[[], np.ndarray]]:
    """The same loss as one operation with its own backward."""
    difference = (prediction - batch.targets) * batch.visible
    value = (difference * difference).sum() / batch.joints
    return value, lambda: 2 / batch.joints * difference


def sequence(several: Sequence[Any], model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """Layers one after the other."""
    backs: List[Back] = []
    for layer in several:
        x, back = layers.meaning(WORDS, layer)(layer, model, x)
        backs.append(back)

    def back_through_all(gradient: np.ndarray, needs_input: bool) -> Any:
        own: Dict[str, np.ndarray] = {}
        of_x: Any = gradient
        for number in reversed(range(len(backs))):
            of_x, of_layer = backs[number](of_x, needs_input or number > 0)
            own.update(of_layer)
        return of_x, own

    return x, back_through_all


def convolution(layer: layers.Conv, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, in, h, w) -> (batch, out, h', w'), one matrix product per image (im2col).

    The backward pass extracts the patches again, which costs less than keeping them.
    """
    weight = model.parameters[layer.name + ".weight"]
    kernels = weight.reshape(layer.outputs, -1)  # (out, in * k * k)
    padded = _padded(x, layer.pad)
    area = _area(layer, padded)
    y = np.empty((len(x), layer.outputs) + area, x.dtype)
    for image, result in zip(padded, y):
        np.dot(kernels, _patches(image, layer, area), out=result.reshape(layer.outputs, -1))
    if layer.bias:
        y += model.parameters[layer.name + ".bias"][:, None, None]

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        of_y = gradient.reshape(len(x), layer.outputs, -1)
        of_kernels = np.zeros_like(kernels)
        of_padded = np.zeros_like(padded if needs_input else padded[:0])
        for number, image in enumerate(padded):
            of_kernels += np.dot(of_y[number], _patches(image, layer, area).T)
            if needs_input:
                _add_patches(of_padded[number], np.dot(kernels.T, of_y[number]), layer, area)
        own = {layer.name + ".weight": of_kernels.reshape(weight.shape)}
        if layer.bias:
            own[layer.name + ".bias"] = of_y.sum(axis=(0, 2))
        return (_unpadded(of_padded, layer.pad) if needs_input else None), own

    return y, back


def rectifier(layer: layers.Relu, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """max(x, 0), with slope 0 at 0."""
    y = np.maximum(x, 0)
    return y, lambda gradient, needs_input: (gradient * (y > 0), {})


def maximum(layer: layers.MaxPool, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, c, h, w) -> (batch, c, h', w'): of equal values the first in its window takes the gradient."""
    padded = _padded(x, layer.pad, -np.inf)
    area = _area(layer, padded)
    y = np.full(x.shape[:2] + area, -np.inf, x.dtype)
    origin = np.zeros(y.shape, np.uint8)  # which place of its window each maximum is from
    for number, (_, _, place) in enumerate(_places(layer, area)):
        larger = padded[place] > y
        np.copyto(y, padded[place], where=larger)
        np.copyto(origin, np.uint8(number), where=larger)

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        of_padded = np.zeros_like(padded)
        for number, (_, _, place) in enumerate(_places(layer, area)):
            of_padded[place] += gradient * (origin == number)
        return _unpadded(of_padded, layer.pad), {}

    return y, back


def averaging(layer: layers.AvgPool, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, c, h, w) -> (batch, c, h', w')"""
    area, share = _area(layer, x), x.dtype.type(1.0 / layer.kernel**2)
    y = np.zeros(x.shape[:2] + area, x.dtype)
    for _, _, place in _places(layer, area):
        y += x[place]

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        of_x = np.zeros_like(x)
        for _, _, place in _places(layer, area):
            of_x[place] += gradient * share
        return of_x, {}

    return y * share, back


def averaging_all(
    layer: layers.GlobalAvgPool, model: Model, x: np.ndarray
) -> Tuple[np.ndarray, Back]:
    """(batch, c, h, w) -> (batch, c), or (batch, tokens, width) -> (batch, width)"""
    axes = (2, 3) if x.ndim == 4 else (1,)
    share = x.dtype.type(float(x.shape[0] * x.shape[1 if x.ndim == 4 else 2]) / x.size)

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        spread = gradient[:, :, None, None] if x.ndim == 4 else gradient[:, None, :]
        return np.zeros_like(x) + spread * share, {}

    return x.sum(axis=axes) * share, back


def batch_normalisation(
    layer: layers.BatchNorm, model: Model, x: np.ndarray
) -> Tuple[np.ndarray, Back]:
    """By the batch's statistics in training, which the running ones follow; by the running ones in evaluation."""
    axes = (0,) + tuple(range(2, x.ndim))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    weight = model.parameters[layer.name + ".weight"].reshape(shape)
    bias = model.parameters[layer.name + ".bias"].reshape(shape)
    if model.training:
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        _follow(model.statistics(), layer.name, mean, variance, x.size // layer.channels)
    else:
        mean = model.statistics()[layer.name + ".running_mean"]
        variance = model.statistics()[layer.name + ".running_var"]
    by_batch = model.training
    inverse = 1 / np.sqrt(variance + x.dtype.type(layers.EPSILON)).reshape(shape)
    normal = (x - mean.reshape(shape)) * inverse

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        own = {
            layer.name + ".weight": (gradient * normal).sum(axis=axes),
            layer.name + ".bias": gradient.sum(axis=axes),
        }
        of_normal = gradient * weight
        of_x = _of_normalised(of_normal, normal, axes) if by_batch else of_normal
        return of_x * inverse, own

    return normal * weight + bias, back


def _follow(
    statistics: Dict[str, np.ndarray],
    name: str,
    mean: np.ndarray,
    variance: np.ndarray,
    count: int,
) -> None:
    """Running statistics after a batch, whose variance was divided by `count` and not by one less."""
    unbiased = variance * (float(count) / max(count - 1, 1))
    for key, value in ((name + ".running_mean", mean), (name + ".running_var", unbiased)):
        statistics[key] = statistics[key] + layers.MOMENTUM * (value - statistics[key])


def layer_normalisation(
    layer: layers.LayerNorm, model: Model, x: np.ndarray
) -> Tuple[np.ndarray, Back]:
    """(batch, …, width), each vector by itself."""
    weight, bias = model.parameters[layer.name + ".weight"], model.parameters[layer.name + ".bias"]
    variance = x.var(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(variance + x.dtype.type(layers.EPSILON))
    normal = (x - x.mean(axis=-1, keepdims=True)) * inverse

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        others = tuple(range(x.ndim - 1))
        own = {
            layer.name + ".weight": (gradient * normal).sum(axis=others),
            layer.name + ".bias": gradient.sum(axis=others),
        }
        return _of_normalised(gradient * weight, normal, (-1,)) * inverse, own

    return normal * weight + bias, back


def _of_normalised(gradient: np.ndarray, normal: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """The gradient of what was normalised over `axes`, still to be divided by its deviation."""
    mean = gradient.mean(axis=axes, keepdims=True)
    along = (gradient * normal).mean(axis=axes, keepdims=True)
    return gradient - mean - normal * along


def gaussian_unit(layer: layers.Gelu, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """By the hyperbolic tangent."""
    scale = x.dtype.type((2 / np.pi) ** 0.5)
    bend = x.dtype.type(0.044715)
    curve = np.tanh(scale * (x + bend * x**3))

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        slope = scale * (1 + 3 * bend * x * x) * (1 - curve * curve)
        return gradient * ((1 + curve) + x * slope) / 2, {}

    return x / 2 * (1 + curve), back


def tokens(layer: layers.Tokens, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, width, h, w) -> (batch, h * w, width)"""
    listed = x.reshape(len(x), layer.width, layer.places).transpose(0, 2, 1)

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        own = {layer.name + ".positions": gradient.sum(axis=0)}
        return gradient.transpose(0, 2, 1).reshape(x.shape), own

    return listed + model.parameters[layer.name + ".positions"], back


def attention(layer: layers.Attention, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, count, width) -> (batch, count, width)"""
    inner = layers.Dense(layer.name + ".qkv", layer.width, 3 * layer.width)
    outer = layers.Dense(layer.name + ".out", layer.width, layer.width)
    batch, count, width = x.shape
    size = width // layer.heads
    scale = x.dtype.type(size**-0.5)
    together, back_inner = product(inner, model, x)
    apart = together.reshape(batch, count, 3, layer.heads, size).transpose(2, 0, 3, 1, 4)
    query, key, value = apart  # (batch, heads, count, size)
    share = _softmax(np.matmul(query, key.swapaxes(2, 3)) * scale)  # (batch, heads, count, count)
    joined = np.matmul(share, value).transpose(0, 2, 1, 3).reshape(x.shape)
    y, back_outer = product(outer, model, joined)

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        of_joined, own = back_outer(gradient, True)
        of_mixed = of_joined.reshape(batch, count, layer.heads, size).transpose(0, 2, 1, 3)
        of_share = np.matmul(of_mixed, value.swapaxes(2, 3))
        along = (of_share * share).sum(axis=-1, keepdims=True)
        of_scores = share * (of_share - along) * scale
        of_apart = np.empty_like(apart)
        of_apart[0] = np.matmul(of_scores, key)
        of_apart[1] = np.matmul(of_scores.swapaxes(2, 3), query)
        of_apart[2] = np.matmul(share.swapaxes(2, 3), of_mixed)
        of_together = of_apart.transpose(1, 3, 0, 2, 4).reshape(batch, count, 3 * width)
        of_x, of_inner = back_inner(of_together, True)
        return of_x, dict(own, **of_inner)

    return y, back


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def residual(layer: layers.Residual, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """The sum of two ways."""
    y, back_body = sequence(layer.body, model, x)
    beside, back_shortcut = sequence(layer.shortcut, model, x)

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        of_x, own = back_body(gradient, needs_input)
        of_x_beside, own_beside = back_shortcut(gradient, needs_input)
        own.update(own_beside)
        return (of_x + of_x_beside if needs_input else None), own

    return y + beside, back


def flattening(layer: layers.Flatten, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, c, h, w) -> (batch, c * h * w)"""
    return x.reshape(len(x), -1), lambda gradient, needs_input: (gradient.reshape(x.shape), {})


def product(layer: layers.Dense, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """(batch, …, in) -> (batch, …, out)"""
    weight = model.parameters[layer.name + ".weight"]

    def back(gradient: np.ndarray, needs_input: bool) -> Any:
        rows = gradient.reshape(-1, gradient.shape[-1])
        own = {layer.name + ".weight": np.dot(rows.T, x.reshape(-1, x.shape[-1]))}
        if layer.bias:
            own[layer.name + ".bias"] = rows.sum(axis=0)
        return (np.dot(gradient, weight) if needs_input else None), own

    y = np.dot(x, weight.T)
    return (y + model.parameters[layer.name + ".bias"] if layer.bias else y), back


def dropping(layer: layers.Dropout, model: Model, x: np.ndarray) -> Tuple[np.ndarray, Back]:
    """What is not dropped is scaled up, so that the expectation stays."""
    if not (model.training and model.dropout):
        return x, lambda gradient, needs_input: (gradient, {})
    kept = model.random.random_sample(x.shape) >= layer.ratio
    mask = kept.astype(x.dtype) / x.dtype.type(1 - layer.ratio)
    return x * mask, lambda gradient, needs_input: (gradient * mask, {})


def momentum_sgd(
    rule: optimizers.MomentumSGD,
    update: int,
    value: np.ndarray,
    gradient: np.ndarray,
    moments: Dict[str, np.ndarray],
) -> None:
    """Update one parameter once."""
    velocity = moments.setdefault("velocity", np.zeros_like(value))
    velocity *= rule.momentum
    velocity += gradient
    value -= rule.learning_rate * velocity


def adam(
    rule: optimizers.Adam,
    update: int,
    value: np.ndarray,
    gradient: np.ndarray,
    moments: Dict[str, np.ndarray],
) -> None:
    """Update one parameter once."""
    first, second = (moments.setdefault(name, np.zeros_like(value)) for name in ("first", "second"))
    first += (1 - rule.beta1) * (gradient - first)
    second += (1 - rule.beta2) * (gradient * gradient - second)
    spread = np.sqrt(second) / (1 - rule.beta2**update) ** 0.5 + rule.epsilon
    value -= rule.learning_rate / (1 - rule.beta1**update) * first / spread


UPDATES: Dict[type, Any] = {optimizers.MomentumSGD: momentum_sgd, optimizers.Adam: adam}

WORDS: Dict[type, Any] = {
    layers.Conv: convolution,
    layers.Relu: rectifier,
    layers.MaxPool: maximum,
    layers.Flatten: flattening,
    layers.Dense: product,
    layers.Dropout: dropping,
    layers.AvgPool: averaging,
    layers.GlobalAvgPool: averaging_all,
    layers.BatchNorm: batch_normalisation,
    layers.LayerNorm: layer_normalisation,
    layers.Gelu: gaussian_unit,
    layers.Tokens: tokens,
    layers.Attention: attention,
    layers.Residual: residual,
}


def _patches(image: np.ndarray, layer: layers.Conv, area: layers.Shape) -> np.ndarray:
    """(in, h, w) -> (in * k * k, h' * w')"""
    patches = np.empty((len(image), layer.kernel, layer.kernel) + area, image.dtype)
    for row, column, place in _places(layer, area):
        patches[:, row, column] = image[place]
    return patches.reshape(-1, area[0] * area[1])


def _add_patches(
    image: np.ndarray, patches: np.ndarray, layer: layers.Conv, area: layers.Shape
) -> None:
    """Add the transpose of `_patches` to `image`."""
    patches = patches.reshape((len(image), layer.kernel, layer.kernel) + area)
    for row, column, place in _places(layer, area):
        image[place] += patches[:, row, column]


def _places(layer: Any, area: layers.Shape) -> Iterator[Tuple[int, int, Any]]:
    """Row, column and slices of each place in the window, over all windows at once."""
    height, width = (layer.stride * (n - 1) + 1 for n in area)
    for row in range(layer.kernel):
        for column in range(layer.kernel):
            yield (
                row,
                column,
                (
                    Ellipsis,
                    slice(row, row + height, layer.stride),
                    slice(column, column + width, layer.stride),
                ),
            )


def _area(layer: Any, x: np.ndarray) -> layers.Shape:
    return tuple((n - layer.kernel) // layer.stride + 1 for n in x.shape[2:])


def _padded(x: np.ndarray, pad: int, value: float = 0.0) -> np.ndarray:
    if not pad:
        return x
    sides = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    return np.pad(x, sides, "constant", constant_values=value)


def _unpadded(x: np.ndarray, pad: int) -> np.ndarray:
    return x[:, :, pad:-pad, pad:-pad] if pad else x
