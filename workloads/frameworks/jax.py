# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "jax"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# eager = {reason = "eager is there in every version"}
#
# [tool.sweep.recipes."<0.4.13"]
# hint = "jaxlib before 0.4.13 is on no package index"
#
# [tool.sweep.recipes."<0.4.26"]       # built against NumPy 1; of SciPy it needs what 1.13 took away
# python = ["3.11", "3.10", "3.9"]
# requires = ["jaxlib<={version}", "numpy<2", "scipy<1.13", "ml_dtypes<0.5"]
# variants.gpu = {reason = "jax before 0.4.31 has its CUDA build on no package index"}
#
# [tool.sweep.recipes."<0.4.31"]
# python = ["3.11", "3.12", "3.10", "3.9"]
# requires = ["jaxlib<={version}"]
# variants.gpu = {reason = "jax before 0.4.31 has its CUDA build on no package index"}
#
# [tool.sweep.recipes."<0.7"]
# python = ["3.11", "3.12", "3.13", "3.10"]
# requires = ["jaxlib<={version}"]
# variants.gpu = {requires = ["jax-cuda12-plugin[with-cuda]<={version}"]}
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13"]
# requires = ["jaxlib<={version}"]
# variants.gpu = {requires = ["jax-cuda12-plugin[with-cuda]<={version}"]}
# ///
"""JAX 0.4.13 and later: a loss and its vector-Jacobian product, each compiled as a whole by XLA."""

import functools
import itertools
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jax
import jaxlib
import numpy as np
from jax import lax
from jax import numpy as jnp

from workloads.runtime import layers, optimizers
from workloads.runtime.phases import StepDevice
from workloads.runtime.refusals import Unsupported

# of the columns of a record, those that this file alone gives
COLUMNS = {
    "cuda": {"meaning": "version of the platform, CUDA's among it", "per": "environment"},
    "deterministic": {"meaning": "whether only what is deterministic may be taken, read back"},
    "tf32": {"meaning": "whether products may round to TF32, read back"},
}


def load(settings: Dict[str, Any]) -> None:
    """Set platform and threads, without touching a device.

    The last call before a device is touched counts. XLA starts as many threads as the process has
    cores, unless NPROC says otherwise, when the first array is made.
    """
    if settings.get("threads"):
        os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(settings["threads"])
    if settings.get("deterministic"):
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
        )
    # without a GPU "cuda" alone ends in an assertion, with a CPU to fall back to in words
    jax.config.update(
        "jax_platforms", "cuda,cpu" if settings.get("device", "cpu") == "gpu" else "cpu"
    )
    jax.config.update(
        "jax_default_matmul_precision", "tensorfloat32" if settings.get("tf32") else "float32"
    )


def facts() -> Dict[str, Any]:
    """Return facts about the imported framework, without touching a device."""
    return {"framework_build": "jax {}, jaxlib {}".format(jax.__version__, jaxlib.__version__)}


class Batch(NamedTuple):
    """A batch on the device; `joints` is N of the loss."""

    images: Any  # (batch, 3, 227, 227), with channels_last (batch, 227, 227, 3)
    targets: Any  # (batch, 14, 2)
    visible: Any  # (batch, 14, 1)
    joints: Any


class Loss(NamedTuple):
    """The loss, and the function of the backward pass with what it needs."""

    value: Any
    back: Callable[[Any], Any]


class Model:
    """The network as a pure function of its parameters.

    The backend `default` compiles it; `eager` runs operation by operation.
    """

    events = None  # JAX lets nobody at the GPU's own clock

    def __init__(
        self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]
    ) -> None:
        self.network = network
        self.training = True
        self.dropout = True
        self.compiles = settings.get("backend", "default") == "default"
        self._channels_last = settings.get("memory_format", "contiguous") == "channels_last"
        self._device = _device(settings)
        self._parameters = {
            name: jax.device_put(
                jnp.array(value), self._device
            )  # a copy: XLA would use a mapped file
            for name, value in weights.items()
        }
        self._gradients: Dict[str, Any] = {}
        self._statistics: Dict[str, Any] = {}
        self.reset_statistics()
        self._random = jax.random.PRNGKey(settings.get("seed", 0))
        self._calls = 0
        self.deterministic = self._device.platform == "cpu"
        self._rule: Any = None
        self._updates = 0
        self._moments: Dict[str, Tuple[Any, ...]] = {}
        self._update: Any = None
        self._last: Any = ()  # what the device was last asked for
        loss = {"autograd": composed_loss, "explicit": explicit_loss}[
            settings.get("backward", "autograd")
        ]
        self._compiled = compiled = jax.jit if self.compiles else lambda run: run
        self._forward = {
            (training, drops): compiled(
                functools.partial(_loss_and_back, self._run, loss, training, drops)
            )
            for training, drops in itertools.product((False, True), repeat=2)
        }
        self._backward = compiled(lambda back, gradient: back(gradient)[0])
        self._predict = compiled(
            lambda parameters, statistics, images: self._run(
                Pass(parameters, statistics, None, False), images
            )
        )

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """Return the batch as arrays on the device."""
        joints = np.float32(max(float(visible.sum()), 1.0))
        return Batch(
            *(self._sent(x) for x in (self._laid_out(images), targets, visible[:, :, None], joints))
        )

    def forward(self, batch: Batch) -> Loss:
        """Return the loss, with its backward pass."""
        self._calls += 1
        mode = self.training, self.training and self.dropout
        value, back, self._statistics = self._forward[mode](
            self._parameters, self._statistics, batch, self._random, self._calls
        )
        self._last = value, self._statistics
        return Loss(value, back)

    def backward(self, loss: Loss) -> None:
        """Add the loss's gradient to the gradient of each parameter."""
        found = self._backward(loss.back, np.float32(1))
        if self._gradients:
            found = {name: self._gradients[name] + gradient for name, gradient in found.items()}
        self._gradients = self._last = found

    def zero_grad(self) -> None:
        """Discard the gradients."""
        self._gradients = {}

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        jax.block_until_ready(self._last)

    def item(self, loss: Loss) -> float:
        """Return the loss as a number."""
        return float(loss.value)

    def gradients(self) -> Dict[str, np.ndarray]:
        """Return the gradient of every parameter by name, on the host, in the network's order."""
        return {name: np.asarray(self._gradients[name]) for name in self._parameters}

    def statistics(self) -> Dict[str, np.ndarray]:
        """Running statistics by name, on the host."""
        return {name: np.asarray(value) for name, value in self._statistics.items()}

    def reset_statistics(self) -> None:
        """Sets running statistics to what they are before training."""
        initial = layers.initial_statistics(self.network)
        self._statistics = {name: self._sent(value) for name, value in initial.items()}

    def infer(self, batch: Batch) -> Any:
        """The last layer's output on the device, in evaluation mode, without a graph."""
        self._last = self._predict(self._parameters, self._statistics, batch.images)
        return self._last

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), in evaluation mode and without a graph."""
        placed = self._sent(self._laid_out(images))
        found = self._predict(self._parameters, self._statistics, placed)
        return np.asarray(found).reshape((len(images),) + self.network.output)

    def set_optimizer(self, rule: Any) -> None:
        """Set the rule of further updates, and reset its state."""
        self._rule, self._updates, self._update = (
            rule,
            0,
            self._compiled(functools.partial(_updated, rule)),
        )
        count = MOMENTS[type(rule)]
        self._moments = {
            name: (jnp.zeros_like(value),) * count for name, value in self._parameters.items()
        }

    def step(self) -> None:
        """Update every parameter from the gradients."""
        self._updates += 1
        corrections = tuple(
            1 - beta**self._updates for beta in getattr(self._rule, "betas", ())
        )  # not in float32
        updated = self._update(corrections, self._parameters, self._gradients, self._moments)
        self._parameters, self._moments = self._last = updated

    def seed_dropout(self, seed: int) -> None:
        """Seed the generator of dropout."""
        self._random, self._calls = jax.random.PRNGKey(seed), 0

    def state(self) -> Dict[str, np.ndarray]:
        """Return all that further updates depend on: parameters and the rule's state."""
        found = {name: np.asarray(value) for name, value in self._parameters.items()}
        found.update(self.statistics())
        for name, moments in self._moments.items():
            found.update(
                {
                    "{}/{}".format(name, place): np.asarray(each)
                    for place, each in enumerate(moments)
                }
            )
        return dict(found, updates=np.array(self._updates))

    def restore(self, state: Dict[str, np.ndarray]) -> None:
        """Restore a `state` of the same rule."""
        self._updates = int(state["updates"])
        self._statistics = {name: self._sent(state[name]) for name in self._statistics}
        for name, moments in self._moments.items():
            own = ["{}/{}".format(name, place) for place in range(len(moments))]
            self._moments[name] = tuple(self._sent(state[each]) for each in own)
            self._parameters[name] = self._sent(state[name])

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """Return what is in use for such a batch, read back from the framework."""
        return _device_facts(self._device)

    def _run(self, run: "Pass", x: Any) -> Any:
        run.channels_last = self._channels_last
        return sequence(self.network.layers, run, x)

    def _laid_out(self, images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if self._channels_last else images

    def _sent(self, array: Any) -> Any:
        return jax.device_put(array, self._device)


class Pass:
    """One way through the network, as it is traced: what its layers read, and the statistics that they leave.

    `random` is the dropouts' key, or None where they do nothing. `statistics` are updated in training.
    """

    def __init__(
        self, parameters: Dict[str, Any], statistics: Dict[str, Any], random: Any, training: bool
    ) -> None:
        self.parameters, self.statistics = parameters, dict(statistics)
        self.training, self.channels_last = training, False
        self._random, self._layers = random, 0

    def key(self) -> Any:
        """The next layer's own."""
        self._layers += 1
        return None if self._random is None else jax.random.fold_in(self._random, self._layers - 1)


def composed_loss(prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
    """The loss in operations of JAX, differentiated by it."""
    difference = (prediction - targets) * visible  # (batch, 14, 2)
    return (difference * difference).sum() / joints


@jax.custom_vjp
def explicit_loss(prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
    """The loss as one operation with its own backward."""
    return composed_loss(prediction, targets, visible, joints)


def _explicit_forward(prediction: Any, targets: Any, visible: Any, joints: Any) -> Tuple[Any, Any]:
    difference = (prediction - targets) * visible
    return (difference * difference).sum() / joints, (difference, joints)


def _explicit_backward(kept: Any, gradient: Any) -> Tuple[Any, None, None, None]:
    difference, joints = kept
    return gradient * (2 / joints) * difference, None, None, None


explicit_loss.defvjp(_explicit_forward, _explicit_backward)


def _loss_and_back(
    run: Callable[..., Any],
    loss: Any,
    training: bool,
    drops: bool,
    parameters: Any,
    statistics: Any,
    batch: Batch,
    random: Any,
    call: Any,
) -> Tuple[Any, Any, Any]:
    """The loss, its vector-Jacobian product, which carries what the way back needs, and the statistics thereafter."""
    own = jax.random.fold_in(random, call) if drops else None

    def of_parameters(parameters: Any) -> Any:
        through = Pass(parameters, statistics, own, training)
        prediction = run(through, batch.images).reshape(batch.targets.shape)
        value = loss(prediction, batch.targets, batch.visible, batch.joints)
        return value, through.statistics

    return jax.vjp(of_parameters, parameters, has_aux=True)


def sequence(several: Sequence[Any], run: Pass, x: Any) -> Any:
    """Layers one after the other."""
    for layer in several:
        x = layers.meaning(WORDS, layer)(layer, run, x, run.key())
    return x


def convolution(layer: layers.Conv, run: Pass, x: Any, random: Any) -> Any:
    """Images in the layout asked for, weights (outputs, inputs, kernel, kernel) in either."""
    images = "NHWC" if run.channels_last else "NCHW"
    pads = [(layer.pad, layer.pad)] * 2
    y = lax.conv_general_dilated(
        x,
        run.parameters[layer.name + ".weight"],
        [layer.stride] * 2,
        pads,
        dimension_numbers=(images, "OIHW", images),
    )
    return y + _of_channels(run, run.parameters[layer.name + ".bias"]) if layer.bias else y


def maximum(layer: layers.MaxPool, run: Pass, x: Any, random: Any) -> Any:
    """Windows that would stick out are left out."""
    pads = [(n, n) for n in _per_axis(layer.pad, run.channels_last, others=0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, *_windows(layer, run), pads)


def averaging(layer: layers.AvgPool, run: Pass, x: Any, random: Any) -> Any:
    """Windows that would stick out are left out, as VALID says."""
    return lax.reduce_window(x, 0.0, lax.add, *_windows(layer, run), "VALID") / layer.kernel**2


def averaging_all(layer: layers.GlobalAvgPool, run: Pass, x: Any, random: Any) -> Any:
    """(batch, c, h, w) -> (batch, c), or (batch, tokens, width) -> (batch, width)"""
    if x.ndim == 3:
        return x.mean(axis=1)
    return x.mean(axis=(1, 2) if run.channels_last else (2, 3))


def batch_normalisation(layer: layers.BatchNorm, run: Pass, x: Any, random: Any) -> Any:
    """By the batch's statistics in training, which the running ones follow; by the running ones in evaluation."""
    mean_name, variance_name = layer.name + ".running_mean", layer.name + ".running_var"
    mean, variance = run.statistics[mean_name], run.statistics[variance_name]
    if run.training:
        axes = (0, 1, 2) if run.channels_last else (0, 2, 3)
        count = x.size // layer.channels
        old_mean, old_variance = mean, variance
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        unbiased = variance * (count / max(count - 1, 1))
        run.statistics[mean_name] = old_mean + layers.MOMENTUM * (mean - old_mean)
        run.statistics[variance_name] = old_variance + layers.MOMENTUM * (unbiased - old_variance)
    scale = run.parameters[layer.name + ".weight"] * lax.rsqrt(variance + layers.EPSILON)
    centred = x - _of_channels(run, mean)
    bias = run.parameters[layer.name + ".bias"]
    return centred * _of_channels(run, scale) + _of_channels(run, bias)


def layer_normalisation(layer: layers.LayerNorm, run: Pass, x: Any, random: Any) -> Any:
    """(batch, …, width), each vector by itself."""
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = lax.rsqrt(x.var(axis=-1, keepdims=True) + layers.EPSILON)
    weight, bias = (run.parameters[layer.name + kind] for kind in (".weight", ".bias"))
    return centred * deviation * weight + bias


def tokens(layer: layers.Tokens, run: Pass, x: Any, random: Any) -> Any:
    """(batch, width, h, w) -> (batch, h * w, width), plus the weights of each position."""
    last = x if run.channels_last else x.transpose(0, 2, 3, 1)
    return (
        last.reshape(len(x), layer.places, layer.width) + run.parameters[layer.name + ".positions"]
    )


def attention(layer: layers.Attention, run: Pass, x: Any, random: Any) -> Any:
    """(batch, count, width) -> (batch, count, width)"""
    batch, count, width = x.shape
    size = width // layer.heads
    apart = _product(run, layer.name + ".qkv", x).reshape(batch, count, 3, layer.heads, size)
    query, key, value = apart.transpose(2, 0, 3, 1, 4)  # each (batch, heads, count, size)
    share = jax.nn.softmax(jnp.matmul(query, key.swapaxes(2, 3)) * size**-0.5)
    joined = jnp.matmul(share, value).transpose(0, 2, 1, 3).reshape(x.shape)
    return _product(run, layer.name + ".out", joined)


def residual(layer: layers.Residual, run: Pass, x: Any, random: Any) -> Any:
    """The sum of two ways."""
    return sequence(layer.body, run, x) + sequence(layer.shortcut, run, x)


def flattening(layer: layers.Flatten, run: Pass, x: Any, random: Any) -> Any:
    """(batch, c, h, w) -> (batch, c * h * w), in this order in either layout."""
    return (x.transpose(0, 3, 1, 2) if run.channels_last else x).reshape(len(x), -1)


def product(layer: layers.Dense, run: Pass, x: Any, random: Any) -> Any:
    """(batch, …, in) -> (batch, …, out)"""
    return _product(run, layer.name, x, layer.bias)


def dropping(layer: layers.Dropout, run: Pass, x: Any, random: Any) -> Any:
    """What is not dropped is scaled up."""
    if random is None:
        return x
    kept = jax.random.bernoulli(random, 1 - layer.ratio, x.shape)
    return jnp.where(kept, x / (1 - layer.ratio), 0)


def _product(run: Pass, name: str, x: Any, bias: bool = True) -> Any:
    y = jnp.dot(x, run.parameters[name + ".weight"].T)
    return y + run.parameters[name + ".bias"] if bias else y


def _of_channels(run: Pass, values: Any) -> Any:
    """One number a channel, as images of the layout at hand take it."""
    return values if run.channels_last else values[:, None, None]


def _updated(
    rule: Any, corrections: Any, parameters: Any, gradients: Any, moments: Any
) -> Tuple[Any, Any]:
    """Return parameters and moments after an update; JAX has no optimisers of its own."""
    each = {
        name: UPDATES[type(rule)](
            rule, corrections, parameters[name], gradients[name], *moments[name]
        )
        for name in parameters
    }
    return {name: value for name, (value, *_) in each.items()}, {
        name: tuple(own) for name, (_, *own) in each.items()
    }


def momentum_sgd(
    rule: optimizers.MomentumSGD, corrections: Any, value: Any, gradient: Any, velocity: Any
) -> Tuple[Any, ...]:
    """Return the parameter and its velocity after an update."""
    velocity = rule.momentum * velocity + gradient
    return value - rule.learning_rate * velocity, velocity


def adam(
    rule: optimizers.Adam, corrections: Any, value: Any, gradient: Any, first: Any, second: Any
) -> Tuple[Any, ...]:
    """Return the parameter and its two moments after an update."""
    first = rule.beta1 * first + (1 - rule.beta1) * gradient
    second = rule.beta2 * second + (1 - rule.beta2) * gradient * gradient
    spread = jnp.sqrt(second / corrections[1]) + rule.epsilon
    return value - rule.learning_rate * first / corrections[0] / spread, first, second


UPDATES: Dict[type, Callable[..., Any]] = {
    optimizers.MomentumSGD: momentum_sgd,
    optimizers.Adam: adam,
}
MOMENTS: Dict[type, int] = {optimizers.MomentumSGD: 1, optimizers.Adam: 2}

WORDS: Dict[type, Callable[..., Any]] = {
    layers.Conv: convolution,
    layers.Relu: lambda layer, run, x, random: jax.nn.relu(x),
    layers.MaxPool: maximum,
    layers.Flatten: flattening,
    layers.Dense: product,
    layers.Dropout: dropping,
    layers.AvgPool: averaging,
    layers.GlobalAvgPool: averaging_all,
    layers.BatchNorm: batch_normalisation,
    layers.LayerNorm: layer_normalisation,
    layers.Gelu: lambda layer, run, x, random: jax.nn.gelu(x, approximate=True),
    layers.Tokens: tokens,
    layers.Attention: attention,
    layers.Residual: residual,
}


def xla_threads() -> Optional[int]:
    """Return the threads of XLA's pool on the CPU, None in versions that do not name them."""
    return (
        sum(_thread_name(thread) == "tf_XLAEigen" for thread in os.listdir("/proc/self/task"))
        or None
    )


def _thread_name(thread: str) -> str:
    try:
        with open("/proc/self/task/{}/comm".format(thread)) as name:
            return name.read().strip()
    except OSError:
        return ""  # it has ended meanwhile


def _device(settings: Dict[str, Any]) -> Any:
    on_gpu = settings.get("device", "cpu") == "gpu"
    try:
        return jax.devices("gpu" if on_gpu else "cpu")[0]
    except RuntimeError as error:
        raise Unsupported(
            "jax {} sees no such device: {}".format(jax.__version__, error)
        ) from error


def _device_facts(device: Any) -> Dict[str, Any]:
    """Return what is in use, read back."""
    found: Dict[str, Any] = {"threads": xla_threads()}
    if device.platform == "cpu":
        return found
    memory = device.memory_stats() or {}
    return dict(
        found,
        device_name=device.device_kind,
        cuda=device.client.platform_version,
        peak_device_bytes=memory.get("peak_bytes_in_use"),
        tf32=jax.config.jax_default_matmul_precision == "tensorfloat32",
        deterministic="--xla_gpu_deterministic_ops=true" in os.environ.get("XLA_FLAGS", ""),
    )


def step_device(settings: Dict[str, Any]) -> StepDevice:
    """Return where a step of the user's own computes; only values can be waited for."""
    device = _device(settings)
    return StepDevice(device.platform, jax.block_until_ready, None, lambda: _device_facts(device))


def _windows(layer: Any, run: Pass) -> Tuple[List[int], List[int]]:
    """Kernel and stride along every axis."""
    return _per_axis(layer.kernel, run.channels_last), _per_axis(layer.stride, run.channels_last)


def _per_axis(n: int, channels_last: bool, others: int = 1) -> List[int]:
    return [others, n, n, others] if channels_last else [others, others, n, n]
