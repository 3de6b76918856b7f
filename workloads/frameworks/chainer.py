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
# chainerx = {versions = ">=6", reason = "ChainerX came with Chainer 6"}
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
# variants.chainerx = {reason = "ChainerX is on no package index: build it yourself and name it with interpreter:"}
# variants.gpu = {python = ["3.6", "3.7"], requires = ["cupy-cuda101=={version}"]}
#
# [tool.sweep.recipes."<7.8"]          # imports numpy.distutils
# python = ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70", "protobuf<3.21"]
# build = ["setuptools<81"]
# variants.ideep = {python = ["3.7", "3.6"], requires = ["ideep4py>=2,<3"]}
# variants.chainerx = {reason = "ChainerX is on no package index: build it yourself and name it with interpreter:"}
# variants.gpu = {python = ["3.7", "3.6"], requires = ["cupy-cuda101=={version}"]}
#
# [tool.sweep.recipes."*"]             # the last CuPy that fits is 7.8.0
# python = ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70", "protobuf<3.21"]
# build = ["setuptools<81"]
# variants.ideep = {python = ["3.7", "3.6"], requires = ["ideep4py>=2,<3"]}
# variants.chainerx = {reason = "ChainerX is on no package index: build it yourself and name it with interpreter:"}
# variants.gpu = {python = ["3.8", "3.7", "3.6"], requires = ["cupy-cuda102==7.8.0"]}
# ///
"""Chainer 1.19 to 7.8.1."""

from collections import OrderedDict
from typing import Any, Dict, Iterator, NamedTuple, Sequence, Tuple

import chainer
import chainer.functions as F  # noqa: N812  as everybody says it
import chainer.links as L  # noqa: N812
import numpy as np

from workloads.runtime import layers, optimizers
from workloads.runtime.phases import StepDevice
from workloads.runtime.refusals import Unsupported

# of the columns of a record, those that this file alone gives
COLUMNS = {
    "arrays": {"meaning": "type of the arrays that hold the weights"},
    "ideep": {"meaning": "backend ideep: version of iDeep", "per": "environment"},
    "use_ideep": {"meaning": "backend ideep: when iDeep is taken, as Chainer is configured"},
    "chainerx": {"meaning": "backend chainerx: its device"},
    "cupy": {"meaning": "on a GPU: version of CuPy", "per": "environment"},
    "cuda": {"meaning": "version of CUDA", "per": "environment"},
    "cudnn": {"meaning": "version of cuDNN", "per": "environment"},
    "cudnn_benchmark": {"meaning": "whether cuDNN tries its algorithms out, read back"},
    "deterministic": {"meaning": "whether only what is deterministic may be taken, read back"},
    "tf32": {"meaning": "whether products may round to TF32: never"},
}

# With Chainer 3 a function became a node whose backward takes and gives Variables; before, arrays
Function: Any = getattr(chainer, "FunctionNode", chainer.Function)


def load(settings: Dict[str, Any]) -> None:
    """Set Chainer's configuration, without touching a device. The last call counts.

    The threads of NumPy's BLAS and of iDeep are set by environment variables before their import.
    """
    if settings.get("memory_format", "contiguous") != "contiguous":
        raise Unsupported("Chainer knows no memory format but contiguous")
    if settings.get("device", "cpu") == "gpu" and settings.get("tf32"):
        raise Unsupported("Chainer knows no TF32")
    _configure(
        "use_ideep", "auto" if settings.get("backend") == "ideep" else "never", without="never"
    )
    _configure("autotune", bool(settings.get("cudnn_benchmark")), without=False)
    _configure("cudnn_deterministic", bool(settings.get("deterministic")), without=False)


def facts() -> Dict[str, Any]:
    """Return facts about the imported framework, without touching a device."""
    return {"framework_build": "Chainer {}, NumPy {}".format(chainer.__version__, np.__version__)}


class Batch(NamedTuple):
    """A batch of arrays on the device; `joints` is N of the loss."""

    images: Any  # (batch, 3, 227, 227)
    targets: Any  # (batch, 14, 2)
    visible: Any  # (batch, 14, 1)
    joints: float


class Model:
    """The network in chainer.links and chainer.functions."""

    def __init__(
        self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]
    ) -> None:
        self.network = network
        self.training = True
        self.dropout = True
        self._device = _device(settings)
        self.events = self._device if isinstance(self._device, Gpu) else None
        self.deterministic = type(self._device) is Host
        self._rule: Any = None
        self._optimizer: Any = None
        self.links = _links(network, weights)
        self._parameters = OrderedDict((name, _parameter(self.links, name)) for name in weights)
        self.reset_statistics()  # running variances begin as 0 before Chainer 2
        self._chain = chainer.Chain(**self.links)
        self._device.move(self._chain)
        self.zero_grad()  # a parameter's first gradient is NaN
        self._loss = {"autograd": composed_loss, "explicit": explicit_loss}[
            settings.get("backward", "autograd")
        ]

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """Return the batch as arrays on the device; on the CPU they are the given arrays."""
        send = self._device.send
        joints = max(float(visible.sum()), 1.0)
        return Batch(
            images=send(images),
            targets=send(targets),
            visible=send(visible[:, :, None]),
            joints=joints,
        )

    def forward(self, batch: Batch) -> Any:
        """Return the loss, with its graph."""
        prediction = F.reshape(self._run(batch.images), batch.targets.shape)
        return self._loss(prediction, batch.targets, batch.visible, batch.joints)

    def backward(self, loss: Any) -> None:
        """Add the loss's gradient to the gradient of each parameter."""
        loss.backward()

    def zero_grad(self) -> None:
        """Discard the gradients."""
        self._chain.cleargrads()

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        self._device.synchronize()

    def item(self, loss: Any) -> float:
        """Return the loss as a number."""
        return float(loss.data)

    def gradients(self) -> Dict[str, np.ndarray]:
        """Gradient of every parameter by name, on the host."""
        return {
            name: self._device.fetch(parameter.grad) for name, parameter in self._parameters.items()
        }

    def statistics(self) -> Dict[str, np.ndarray]:
        """Running statistics by name, on the host."""
        return {name: self._device.fetch(value).copy() for name, value in self._running()}

    def reset_statistics(self) -> None:
        """Sets running statistics to what they are before training."""
        for name, value in self._running():
            value.fill(0 if name.endswith(".running_mean") else 1)

    def infer(self, batch: Batch) -> Any:
        """The last layer's output on the device, in evaluation mode, without a graph."""
        with chainer.no_backprop_mode():
            return self._run(batch.images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), in evaluation mode and without a graph."""
        training, self.training = self.training, False
        with chainer.no_backprop_mode():
            found = self._run(self._device.send(images))
        self.training = training
        return self._device.fetch(found.data).reshape((len(images),) + self.network.output)

    def set_optimizer(self, rule: Any) -> None:
        """Set the rule of further updates, and reset its state."""
        self._rule = rule
        self._optimizer = OPTIMIZERS[type(rule)](rule)
        self._optimizer.setup(self._chain)

    def step(self) -> None:
        """Update every parameter in place from the gradients."""
        if isinstance(
            self._rule, optimizers.Adam
        ):  # Chainer adds epsilon to what is not corrected yet
            self._optimizer.eps = optimizers.uncorrected_epsilon(self._rule, self._optimizer.t + 1)
        self._optimizer.update()

    def seed_dropout(self, seed: int) -> None:
        """Seed the generator of dropout."""
        self._device.seed(seed)

    def state(self) -> Dict[str, np.ndarray]:
        """Return all that further updates depend on: parameters and the optimiser's state."""
        saved = chainer.serializers.DictionarySerializer()
        saved["parameters"].save(self._chain)
        saved["optimizer"].save(self._optimizer)
        return dict(saved.target)

    def restore(self, state: Dict[str, np.ndarray]) -> None:
        """Restore a `state` of the same rule."""
        saved = chainer.serializers.NpzDeserializer(state)
        self._device.release(self._chain)
        saved["parameters"].load(self._chain)
        self._device.move(self._chain)
        if hasattr(
            self._optimizer, "prepare"
        ):  # before Chainer 2 state is there only once it is prepared
            self._optimizer.prepare()
        saved["optimizer"].load(self._optimizer)

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """What is in use for such a batch, read back."""
        weights = next(iter(self._parameters.values())).data
        return dict(
            self._device.facts(),
            arrays="{}.{}".format(type(weights).__module__, type(weights).__name__),
        )

    def _running(self) -> Iterator[Tuple[str, Any]]:
        """Name and array of each running statistic."""
        for layer in layers.batch_norms(self.network):
            yield layer.name + ".running_mean", self.links[layer.name].avg_mean
            yield layer.name + ".running_var", self.links[layer.name].avg_var

    def _run(self, x: Any) -> Any:
        if hasattr(chainer, "config"):  # before Chainer 2 a link is told the mode in each call
            chainer.config.train = self.training
        return sequence(self.network.layers, self, x)


def composed_loss(prediction: Any, targets: Any, visible: Any, joints: float) -> Any:
    """The loss in functions of Chainer, differentiated by it."""
    difference = (prediction - targets) * F.broadcast_to(visible, targets.shape)  # (batch, 14, 2)
    return F.sum(difference * difference) / joints


def explicit_loss(prediction: Any, targets: Any, visible: Any, joints: float) -> Any:
    """The loss as one function with its own backward."""
    if hasattr(Function, "apply"):
        return ExplicitLoss(joints).apply((prediction, targets, visible))[0]
    return ExplicitLoss(joints)(prediction, targets, visible)


class ExplicitLoss(Function):
    """The loss as one function with its own backward; an instance per call."""

    def __init__(self, joints: float) -> None:
        super().__init__()
        self.joints = joints

    def forward(self, inputs: Any) -> Any:
        prediction, targets, visible = inputs
        self.difference = (prediction - targets) * visible
        total = (self.difference * self.difference).sum(
            keepdims=True
        )  # an array, where NumPy would give a number
        return ((total / self.joints).reshape(()),)

    def backward(self, inputs: Any, gradients: Any) -> Any:
        """Return the gradients.

        `inputs` are arrays; in a node, they are indices of inputs that need a gradient: the
        prediction's alone.
        """
        if isinstance(gradients[0], chainer.Variable):
            return (chainer.Variable(gradients[0].data * (2 / self.joints) * self.difference),)
        return gradients[0] * (2 / self.joints) * self.difference, None, None


OPTIMIZERS: Dict[type, Any] = {
    optimizers.MomentumSGD: lambda rule: chainer.optimizers.MomentumSGD(
        lr=rule.learning_rate, momentum=rule.momentum
    ),
    optimizers.Adam: lambda rule: chainer.optimizers.Adam(
        alpha=rule.learning_rate, beta1=rule.beta1, beta2=rule.beta2, eps=rule.epsilon
    ),
}


def sequence(several: Sequence[Any], model: Model, x: Any) -> Any:
    """Layers one after the other."""
    for layer in several:
        x = layers.meaning(WORDS, layer)(layer, model, x)
    return x


def product(layer: layers.Dense, model: Model, x: Any) -> Any:
    """(batch, in) -> (batch, out), or the same of tokens (batch, count, in), as rows."""
    if len(x.shape) == 2:
        return model.links[layer.name](x)
    return _by_rows(model.links[layer.name], x, layer.outputs)


def dropping(layer: layers.Dropout, model: Model, x: Any) -> Any:
    """What is not dropped is scaled up."""
    if not (model.training and model.dropout):
        return x
    return F.dropout(x, ratio=layer.ratio)


def averaging_all(layer: layers.GlobalAvgPool, model: Model, x: Any) -> Any:
    """(batch, c, h, w) -> (batch, c), or (batch, tokens, width) -> (batch, width)"""
    if len(x.shape) == 3:
        return F.sum(x, axis=1) / x.shape[1]
    return F.reshape(F.average_pooling_2d(x, x.shape[2:]), x.shape[:2])


def batch_normalisation(layer: layers.BatchNorm, model: Model, x: Any) -> Any:
    """The mode is Chainer's own, or before Chainer 2 an argument."""
    link = model.links[layer.name]
    return link(x) if hasattr(chainer, "config") else link(x, test=not model.training)


def layer_normalisation(layer: layers.LayerNorm, model: Model, x: Any) -> Any:
    """By Chainer's own link of rows, or composed where it has none."""
    if hasattr(L, "LayerNormalization"):
        return _by_rows(model.links[layer.name], x, layer.width)
    weight = model.links[layer.name + "_weight"].W
    bias = model.links[layer.name + "_bias"].W
    rows = F.reshape(x, (x.size // layer.width, layer.width))
    centred = rows - _spread(F.sum(rows, axis=1) / layer.width, rows)
    variance = F.sum(centred * centred, axis=1) / layer.width
    normal = centred / _spread(F.sqrt(variance + layers.EPSILON), rows)
    scaled = normal * F.broadcast_to(weight, rows.shape) + F.broadcast_to(bias, rows.shape)
    return F.reshape(scaled, x.shape)


def gaussian_unit(layer: layers.Gelu, model: Model, x: Any) -> Any:
    """Composed: Chainer has none of its own."""
    return 0.5 * x * (1 + F.tanh((x + 0.044715 * x * x * x) * 0.7978845608028654))


def tokens(layer: layers.Tokens, model: Model, x: Any) -> Any:
    """(batch, width, h, w) -> (batch, h * w, width), plus the weights of each position."""
    listed = F.transpose(F.reshape(x, (x.shape[0], layer.width, layer.places)), (0, 2, 1))
    return listed + F.broadcast_to(model.links[layer.name].W, listed.shape)


def attention(layer: layers.Attention, model: Model, x: Any) -> Any:
    """(batch, count, width) -> (batch, count, width)"""
    batch, count, width = x.shape
    heads, size = layer.heads, width // layer.heads
    together = _by_rows(model.links[layer.name + "_qkv"], x, 3 * width)
    apart = F.transpose(F.reshape(together, (batch, count, 3, heads, size)), (2, 0, 3, 1, 4))
    query, key, value = (
        F.reshape(apart[place], (batch * heads, count, size)) for place in range(3)
    )
    scores = F.reshape(
        _products(query, key, transb=True) * size**-0.5, (batch * heads * count, count)
    )
    mixed = _products(F.reshape(F.softmax(scores), (batch * heads, count, count)), value)
    joined = F.transpose(F.reshape(mixed, (batch, heads, count, size)), (0, 2, 1, 3))
    return _by_rows(model.links[layer.name + "_out"], F.reshape(joined, x.shape), width)


def residual(layer: layers.Residual, model: Model, x: Any) -> Any:
    """The sum of two ways."""
    return sequence(layer.body, model, x) + sequence(layer.shortcut, model, x)


def _by_rows(link: Any, x: Any, outputs: int) -> Any:
    """A link of rows, on tokens: (batch, count, in) -> (batch, count, outputs)"""
    batch, count, inputs = x.shape
    return F.reshape(link(F.reshape(x, (batch * count, inputs))), (batch, count, outputs))


def _spread(of_rows: Any, rows: Any) -> Any:
    """One number a row, all along it."""
    return F.broadcast_to(F.reshape(of_rows, (rows.shape[0], 1)), rows.shape)


def _products(one: Any, other: Any, transb: bool = False) -> Any:
    """Products of matrices, example by example; `matmul` takes them from Chainer 3 on."""
    multiply = F.matmul if hasattr(chainer, "FunctionNode") else F.batch_matmul
    return multiply(one, other, transb=transb)


WORDS: Dict[type, Any] = {
    layers.Conv: lambda layer, model, x: model.links[layer.name](x),
    layers.Relu: lambda layer, model, x: F.relu(x),
    layers.MaxPool: lambda layer, model, x: F.max_pooling_2d(
        x, layer.kernel, stride=layer.stride, pad=layer.pad, cover_all=False
    ),
    layers.Flatten: lambda layer, model, x: F.reshape(x, (x.shape[0], x.size // x.shape[0])),
    layers.Dense: product,
    layers.Dropout: dropping,
    layers.AvgPool: lambda layer, model, x: F.average_pooling_2d(
        x, layer.kernel, stride=layer.stride
    ),
    layers.GlobalAvgPool: averaging_all,
    layers.BatchNorm: batch_normalisation,
    layers.LayerNorm: layer_normalisation,
    layers.Gelu: gaussian_unit,
    layers.Tokens: tokens,
    layers.Attention: attention,
    layers.Residual: residual,
}


class Host:
    """NumPy's arrays."""

    def move(self, chain: Any) -> None:
        """Move the parameters of `chain` to the device."""

    def release(self, chain: Any) -> None:
        """Takes the parameters of `chain` out of layouts that nothing can be loaded into."""

    def send(self, array: np.ndarray) -> Any:
        """Return the array on the device."""
        return array

    def fetch(self, array: Any) -> np.ndarray:
        """Return the array on the host."""
        return np.asarray(array)

    def synchronize(self) -> None:
        """Wait until the device is idle."""

    def seed(self, seed: int) -> None:
        """Seed the generator of dropout."""
        np.random.seed(seed)

    def facts(self) -> Dict[str, Any]:
        """Return what is in use, read back."""
        return {}


class Ideep(Host):
    """Parameters in the layouts of Intel's iDeep, inputs in NumPy's; backend ideep."""

    def __init__(self) -> None:
        try:
            import ideep4py
        except ImportError as error:
            raise Unsupported("iDeep cannot be imported: {}".format(error)) from error
        if not chainer.backends.intel64.is_ideep_available():
            raise Unsupported(
                "Chainer {} does not go with the iDeep found".format(chainer.__version__)
            )
        self.version = getattr(ideep4py, "__version__", "1")

    def move(self, chain: Any) -> None:
        chain.to_intel64()

    def release(self, chain: Any) -> None:
        # loading into iDeep's blocked layouts leaves weights in another order
        chain.to_cpu()

    def facts(self) -> Dict[str, Any]:
        return {"ideep": self.version, "use_ideep": chainer.config.use_ideep}


class Gpu(Host):
    """CuPy's arrays; backend cupy."""

    def __init__(self) -> None:
        if not chainer.cuda.available:
            raise Unsupported(
                "Chainer {} sees no CUDA device through CuPy".format(chainer.__version__)
            )
        self.cupy = chainer.cuda.cupy

    def move(self, chain: Any) -> None:
        chain.to_gpu()

    def send(self, array: np.ndarray) -> Any:
        return chainer.cuda.to_gpu(array)

    def fetch(self, array: Any) -> np.ndarray:
        return chainer.cuda.to_cpu(array)

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def seed(self, seed: int) -> None:
        self.cupy.random.seed(seed)

    def record(self) -> Any:
        """Mark a point of the GPU's work on its own clock."""
        event = self.cupy.cuda.Event()
        event.record()
        return event

    def elapsed_s(self, first: Any, last: Any) -> float:
        """Return the seconds between two marks that the GPU has passed."""
        return float(self.cupy.cuda.get_elapsed_time(first, last)) / 1000

    def facts(self) -> Dict[str, Any]:
        found = {
            "cupy": self.cupy.__version__,
            "cuda": str(self.cupy.cuda.runtime.runtimeGetVersion()),
        }
        if chainer.cuda.cudnn_enabled:
            found["cudnn"] = str(self.cupy.cuda.cudnn.getVersion())
        if hasattr(self.cupy, "get_default_memory_pool"):
            found["peak_device_bytes"] = self.cupy.get_default_memory_pool().total_bytes()
        configured = getattr(chainer, "config", None)
        found["cudnn_benchmark"] = getattr(configured, "autotune", False)
        found["deterministic"] = getattr(configured, "cudnn_deterministic", False)
        return dict(found, tf32=False, device_name=self._name())

    def _name(self) -> str:
        runtime, device = self.cupy.cuda.runtime, self.cupy.cuda.Device()
        if hasattr(runtime, "getDeviceProperties"):
            return str(runtime.getDeviceProperties(device.id)["name"].decode())
        return "CUDA device of compute capability {}".format(device.compute_capability)


class ChainerX(Host):
    """ChainerX's arrays, on the CPU or a GPU; backend chainerx."""

    def __init__(self, specifier: str) -> None:
        try:
            self.device = chainer.get_device(specifier)
        except (AttributeError, RuntimeError) as error:
            raise Unsupported(
                "Chainer {} has no ChainerX: {}".format(chainer.__version__, error)
            ) from error
        self.device.use()

    def move(self, chain: Any) -> None:
        chain.to_device(self.device)

    def send(self, array: np.ndarray) -> Any:
        return self.device.send(array)

    def fetch(self, array: Any) -> np.ndarray:
        return chainer.get_device("@numpy").send(array)

    def synchronize(self) -> None:
        self.device.device.synchronize()

    def facts(self) -> Dict[str, Any]:
        return {"chainerx": self.device.name}


def _device(settings: Dict[str, Any]) -> Host:
    on_gpu = settings.get("device", "cpu") == "gpu"
    backend = settings.get("backend", "default")
    if backend == "chainerx":
        return ChainerX("cuda:0" if on_gpu else "native:0")
    if backend == "ideep":
        return Ideep()
    return Gpu() if on_gpu else Host()


def _links(network: layers.Network, weights: Dict[str, np.ndarray]) -> "OrderedDict[str, Any]":
    """Return links by name, built with their weights: drawing unused weights takes seconds."""
    found: "OrderedDict[str, Any]" = OrderedDict()
    for layer, _ in layers.walk(network):
        if isinstance(layer, layers.Conv):
            found[layer.name] = L.Convolution2D(
                layer.inputs,
                layer.outputs,
                layer.kernel,
                stride=layer.stride,
                pad=layer.pad,
                **_initial(layer, weights),
            )
        elif isinstance(layer, layers.Dense):
            found[layer.name] = _linear(layer, weights)
        elif isinstance(layer, layers.BatchNorm):
            link = L.BatchNormalization(
                layer.channels, decay=1 - layers.MOMENTUM, eps=layers.EPSILON
            )
            found[layer.name] = _with_weights(link, layer, weights)
        elif isinstance(layer, layers.LayerNorm):
            found.update(_layer_norm(layer, weights))
        elif isinstance(layer, layers.Tokens):
            found[layer.name] = L.Parameter(weights[layer.name + ".positions"].copy())
        elif isinstance(layer, layers.Attention):
            for part, outputs in (("qkv", 3 * layer.width), ("out", layer.width)):
                dense = layers.Dense("{}.{}".format(layer.name, part), layer.width, outputs)
                found["{}_{}".format(layer.name, part)] = _linear(dense, weights)
    return found


def _linear(layer: layers.Dense, weights: Dict[str, np.ndarray]) -> Any:
    return L.Linear(layer.inputs, layer.outputs, **_initial(layer, weights))


def _initial(layer: Any, weights: Dict[str, np.ndarray]) -> Dict[str, Any]:
    """Arguments of a link that say its weights, and whether it has a bias."""
    given = {"initialW": weights[layer.name + ".weight"]}
    if not layer.bias:
        return dict(given, nobias=True)
    return dict(given, initial_bias=weights[layer.name + ".bias"])


def _layer_norm(layer: layers.LayerNorm, weights: Dict[str, np.ndarray]) -> Dict[str, Any]:
    """Chainer's own link, or its two parameters where it has none."""
    if hasattr(L, "LayerNormalization"):
        link = L.LayerNormalization(layer.width, eps=layers.EPSILON)
        return {layer.name: _with_weights(link, layer, weights)}
    return {
        "{}_{}".format(layer.name, kind): L.Parameter(
            weights["{}.{}".format(layer.name, kind)].copy()
        )
        for kind in ("weight", "bias")
    }


def _with_weights(link: Any, layer: Any, weights: Dict[str, np.ndarray]) -> Any:
    """A link of a normalisation, which cannot be made with its weights in every version."""
    link.gamma.data[...] = weights[layer.name + ".weight"]
    link.beta.data[...] = weights[layer.name + ".bias"]
    return link


_PARAMETERS = {  # of links by what the network calls them
    "weight": ("W", "gamma"),
    "bias": ("b", "beta"),
    "positions": ("W",),
}


def _parameter(links: Dict[str, Any], name: str) -> Any:
    """The parameter that the network calls `attention1.qkv.weight`, which Chainer calls `W` of a link."""
    path, _, kind = name.rpartition(".")
    path = path.replace(".", "_")
    if path not in links:
        return links["{}_{}".format(path, kind)].W
    return next(getattr(links[path], own) for own in _PARAMETERS[kind] if hasattr(links[path], own))


def _configure(flag: str, value: Any, without: Any) -> None:
    """Set a flag of chainer.config; without the flag, do as `without` says."""
    if hasattr(getattr(chainer, "config", None), flag):
        setattr(chainer.config, flag, value)
    elif value != without:
        raise Unsupported("Chainer {} knows no {}".format(chainer.__version__, flag))


def step_device(settings: Dict[str, Any]) -> StepDevice:
    """Return where a step of the user's own computes."""
    device = _device(settings)
    events = device if isinstance(device, Gpu) else None
    return StepDevice(
        settings.get("device", "cpu"), lambda _: device.synchronize(), events, device.facts
    )
