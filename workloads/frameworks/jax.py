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
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

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
            drops: compiled(functools.partial(_loss_and_back, self._run, loss, drops))
            for drops in (False, True)
        }
        self._backward = compiled(lambda back, gradient: back(gradient)[0])
        self._predict = compiled(lambda parameters, images: self._run(parameters, images, None))

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """Return the batch as arrays on the device."""
        joints = np.float32(max(float(visible.sum()), 1.0))
        return Batch(
            *(self._sent(x) for x in (self._laid_out(images), targets, visible[:, :, None], joints))
        )

    def forward(self, batch: Batch) -> Loss:
        """Return the loss, with its backward pass."""
        self._calls += 1
        value, back = self._forward[self.dropout](
            self._parameters, batch, self._random, self._calls
        )
        self._last = value
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

    def infer(self, batch: Batch) -> Any:
        """The last layer's output on the device, without a graph or dropout."""
        self._last = self._predict(self._parameters, batch.images)
        return self._last

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), without dropout and without a graph."""
        found = self._predict(self._parameters, self._sent(self._laid_out(images)))
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
        for name, moments in self._moments.items():
            own = ["{}/{}".format(name, place) for place in range(len(moments))]
            self._moments[name] = tuple(self._sent(state[each]) for each in own)
            self._parameters[name] = self._sent(state[name])

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """Return what is in use for such a batch, read back from the framework."""
        return _device_facts(self._device)

    def _run(self, parameters: Dict[str, Any], x: Any, random: Any) -> Any:
        """The network's output; `random` is the dropouts' key, or None where they do nothing."""
        for number, layer in enumerate(self.network.layers):
            own = jax.random.fold_in(random, number) if random is not None else None
            x = WORDS[type(layer)](layer, parameters, x, own, self._channels_last)
        return x

    def _laid_out(self, images: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if self._channels_last else images

    def _sent(self, array: Any) -> Any:
        return jax.device_put(array, self._device)


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
    drops: bool,
    parameters: Any,
    batch: Batch,
    random: Any,
    call: Any,
) -> Tuple[Any, Any]:
    """The loss and its vector-Jacobian product, a function that carries what the way back needs."""
    own = jax.random.fold_in(random, call) if drops else None

    def of_parameters(parameters: Any) -> Any:
        prediction = run(parameters, batch.images, own).reshape(batch.targets.shape)
        return loss(prediction, batch.targets, batch.visible, batch.joints)

    return jax.vjp(of_parameters, parameters)


def convolution(
    layer: layers.Conv, parameters: Any, x: Any, random: Any, channels_last: bool
) -> Any:
    """Images in the layout asked for, weights (outputs, inputs, kernel, kernel) in either."""
    images = "NHWC" if channels_last else "NCHW"
    pads = [(layer.pad, layer.pad)] * 2
    y = lax.conv_general_dilated(
        x,
        parameters[layer.name + ".weight"],
        [layer.stride] * 2,
        pads,
        dimension_numbers=(images, "OIHW", images),
    )
    bias = parameters[layer.name + ".bias"]
    return y + (bias if channels_last else bias[:, None, None])


def maximum(
    layer: layers.MaxPool, parameters: Any, x: Any, random: Any, channels_last: bool
) -> Any:
    """Windows that would stick out are left out, as VALID says."""
    kernel, stride = (_per_axis(n, channels_last) for n in (layer.kernel, layer.stride))
    return lax.reduce_window(x, -jnp.inf, lax.max, kernel, stride, "VALID")


def flattening(
    layer: layers.Flatten, parameters: Any, x: Any, random: Any, channels_last: bool
) -> Any:
    """(batch, c, h, w) -> (batch, c * h * w), in this order in either layout."""
    return (x.transpose(0, 3, 1, 2) if channels_last else x).reshape(len(x), -1)


def product(layer: layers.Dense, parameters: Any, x: Any, random: Any, channels_last: bool) -> Any:
    """(batch, in) -> (batch, out)"""
    return jnp.dot(x, parameters[layer.name + ".weight"].T) + parameters[layer.name + ".bias"]


def dropping(
    layer: layers.Dropout, parameters: Any, x: Any, random: Any, channels_last: bool
) -> Any:
    """What is not dropped is scaled up."""
    if random is None:
        return x
    kept = jax.random.bernoulli(random, 1 - layer.ratio, x.shape)
    return jnp.where(kept, x / (1 - layer.ratio), 0)


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
    layers.Relu: lambda layer, parameters, x, random, channels_last: jax.nn.relu(x),
    layers.MaxPool: maximum,
    layers.Flatten: flattening,
    layers.Dense: product,
    layers.Dropout: dropping,
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


def _per_axis(n: int, channels_last: bool) -> List[int]:
    return [1, n, n, 1] if channels_last else [1, 1, n, n]
