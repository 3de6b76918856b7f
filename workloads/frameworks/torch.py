# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "torch"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# native = {versions = ">=1.3", devices = ["cpu"], reason = "torch can do without oneDNN from 1.3 on, on the CPU"}
# onednn = {versions = ">=1.0", devices = ["cpu"], reason = "oneDNN came with torch 1.0, for the CPU"}
# script = {versions = ">=1.2", reason = "torch.jit.script takes the modules of torch.nn from 1.2 on"}
# inductor = {versions = ">=2.0", reason = "torch.compile came with torch 2.0"}
#
# [tool.sweep.layers]
# LayerNorm = {versions = ">=0.4", reason = "LayerNorm came with torch 0.4"}
# Gelu = {versions = ">=0.4", reason = "what Gelu is composed of is spoken from torch 0.4 on"}
# Tokens = {versions = ">=0.4", reason = "nothing broadcasts before torch 0.4"}
# Attention = {versions = ">=0.4", reason = "products of several matrices at once are spoken from torch 0.4 on"}
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
# [tool.sweep.recipes."<1.11"]         # 1.10 imports pkg_resources
# python = ["3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70"]
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
# [tool.sweep.recipes."<2.1"]          # torch.compile knows no Python 3.11
# python = ["3.10", "3.9", "3.8", "3.11"]
# requires = ["numpy<2", "setuptools<81"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.3"]          # built against NumPy 1; inductor imports pkg_resources
# python = ["3.11", "3.10", "3.9", "3.8"]
# requires = ["numpy<2", "setuptools<81"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.5"]          # inductor imports setuptools
# python = ["3.11", "3.12", "3.10", "3.9", "3.8"]
# requires = ["setuptools<81"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.13"]
# python = ["3.11", "3.12", "3.13", "3.10"]
# requires = ["setuptools<81"]
# cpu_build = true
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13", "3.10"]
# cpu_build = true                     # the index's own builds pull CUDA libraries: a CPU build is looked for first
# ///
"""PyTorch 0.1.10 and later."""

import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from workloads.runtime import layers, optimizers
from workloads.runtime.phases import StepDevice
from workloads.runtime.refusals import Unsupported

# of the columns of a record, those that this file alone gives
COLUMNS = {
    "dialect": {
        "meaning": "the interface that is spoken: tensor, or variable before 0.4",
        "per": "environment",
    },
    "convolutions": {
        "meaning": "what convolves: the name in the graph, or the backend that was chosen"
    },
    "onednn": {"meaning": "whether oneDNN is switched on"},
    "cuda": {"meaning": "version of CUDA", "per": "environment"},
    "cudnn": {"meaning": "version of cuDNN", "per": "environment"},
    "cudnn_benchmark": {"meaning": "whether cuDNN tries its algorithms out, read back"},
    "deterministic": {"meaning": "whether only what is deterministic may be taken, read back"},
    "tf32": {"meaning": "whether convolutions may round to TF32, read back"},
}

# Before 0.4 a tensor knows nothing of gradients: a Variable holds it, and the two never mix
DIALECT = "tensor" if hasattr(torch, "no_grad") else "variable"


def load(settings: Dict[str, Any]) -> None:
    """Set threads and flags, without touching a device. The last call counts.

    The number of threads is not set if OMP_NUM_THREADS agrees: setting it starts threads.
    """
    if settings.get("threads") and settings["threads"] != torch.get_num_threads():
        torch.set_num_threads(settings["threads"])
    if hasattr(torch._C, "_set_mkldnn_enabled"):
        torch._C._set_mkldnn_enabled(settings.get("backend", "default") != "native")
    if settings.get("device", "cpu") == "gpu":
        _set_cuda_flags(settings)


def facts() -> Dict[str, Any]:
    """Return facts about the imported framework, without touching a device."""
    return {"framework_build": "; ".join(["torch {}".format(torch.__version__)] + _build())}


class Batch(NamedTuple):
    """A batch on the device; `joints` is N of the loss, of shape () or, before 0.4, (1,)."""

    images: Any  # (batch, 3, 227, 227)
    targets: Any  # (batch, 14, 2)
    visible: Any  # (batch, 14, 1)
    joints: Any


class Model:
    """The network in torch.nn and the loss, in the interface of the imported version.

    With `settings["dialect"]` of "variable" it uses the interface before 0.4 on a later version
    that still has it.
    """

    def __init__(
        self, network: layers.Network, weights: Dict[str, np.ndarray], settings: Dict[str, Any]
    ) -> None:
        self.network = network
        self.backend = settings.get("backend", "default")
        self.on_gpu = settings.get("device", "cpu") == "gpu"
        self.compiles = self.backend in ("inductor", "script")
        self.events = Events() if self.on_gpu else None
        self.deterministic = not self.on_gpu
        self._rule: Any = None
        self._optimizer: Any = None
        self._updates = 0
        self._corrects_epsilon = True
        self._old = settings.get("dialect", DIALECT) == "variable"
        self._channels_last = settings.get("memory_format", "contiguous") == "channels_last"
        self._refuse_what_is_missing()
        self._modules = self._placed_modules(weights)
        self._parameters = list(
            zip(weights, self._modules.parameters())
        )  # a scripted module's own are in any order
        self._norms = _batch_norms(self._modules, network)  # a scripted module shares their arrays
        dropouts = [
            name for name, module in self._modules.named_modules() if type(module) is nn.Dropout
        ]
        if self.backend == "script":
            self._modules = torch.jit.script(self._modules)
        named = dict(self._modules.named_modules())
        self._dropouts = [named[name] for name in dropouts]
        self._dropout = True
        compiled = _inductor if self.backend == "inductor" else lambda run: run
        self._predict = compiled(self._modules)
        self._loss = compiled(self._loss_function(settings.get("backward", "autograd")))

    @property
    def training(self) -> bool:
        """Whether the mode is that of training and not of evaluation."""
        return bool(self._modules.training)

    @training.setter
    def training(self, trains: bool) -> None:
        self._modules.train(trains)
        for module in self._dropouts:
            module.train(trains and self._dropout)

    @property
    def dropout(self) -> bool:
        """Whether dropout drops in training."""
        return self._dropout

    @dropout.setter
    def dropout(self, drops: bool) -> None:
        self._dropout = drops
        self.training = self.training

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Batch:
        """Return the batch as tensors on the device.

        On the CPU they share the arrays' memory from 0.4 on.
        """
        joints = np.array(max(float(visible.sum()), 1.0), np.float32)
        return Batch(
            images=self._images(images),
            targets=self._tensor(targets),
            visible=self._tensor(visible[:, :, None]),
            joints=self._tensor(joints.reshape(1) if self._old else joints),
        )

    def forward(self, batch: Batch) -> Any:
        """Return the loss, with its graph."""
        return self._loss(batch.images, batch.targets, batch.visible, batch.joints)

    def backward(self, loss: Any) -> None:
        """Add the loss's gradient to the gradient of each parameter."""
        loss.backward()

    def zero_grad(self) -> None:
        """Discard the gradients, or zero them before 0.4, as the version's own optimisers do."""
        for _, parameter in self._parameters:
            if not self._old:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.data.zero_()

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def item(self, loss: Any) -> float:
        """Return the loss as a number."""
        return float(loss.data[0] if self._old else loss.item())

    def gradients(self) -> Dict[str, np.ndarray]:
        """Return the gradient of every parameter by name, on the host."""
        return {name: parameter.grad.data.cpu().numpy() for name, parameter in self._parameters}

    def statistics(self) -> Dict[str, np.ndarray]:
        """Running statistics by name, on the host."""
        return {name: value.cpu().numpy() for name, value in self._running()}

    def reset_statistics(self) -> None:
        """Sets running statistics to what they are before training."""
        initial = layers.initial_statistics(self.network)
        for name, value in self._running():
            value.copy_(torch.from_numpy(initial[name]))

    def infer(self, batch: Batch) -> Any:
        """The last layer's output on the device, in evaluation mode, without a graph."""
        return self._without_graph(batch.images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Joints (batch, 14, 2) of images (batch, 3, 227, 227), in evaluation mode and without a graph."""
        training, self.training = self.training, False
        found = self._without_graph(self._images(images))
        self.training = training
        return found.data.cpu().numpy().reshape((len(images),) + self.network.output)

    def set_optimizer(self, rule: Any) -> None:
        """Set the rule of further updates, and reset its state."""
        self._rule, self._updates = rule, 0
        self._corrects_epsilon = _corrects_epsilon()
        self._optimizer = OPTIMIZERS[type(rule)](
            [parameter for _, parameter in self._parameters], rule
        )

    def step(self) -> None:
        """Update every parameter in place from the gradients."""
        self._updates += 1
        if isinstance(self._rule, optimizers.Adam) and not self._corrects_epsilon:
            self._optimizer.param_groups[0]["eps"] = optimizers.uncorrected_epsilon(
                self._rule, self._updates
            )
        self._optimizer.step()

    def seed_dropout(self, seed: int) -> None:
        """Seed the generator of dropout."""
        torch.manual_seed(seed)
        if self.on_gpu:
            torch.cuda.manual_seed(seed)

    def state(self) -> Dict[str, np.ndarray]:
        """All that the updates to come depend on: parameters and the optimiser's state; on the CPU not copied."""
        found = dict(self.statistics(), updates=np.array(self._updates))
        for name, parameter in self._parameters:
            found[name] = parameter.data.cpu().numpy()
            for key, value in self._optimizer.state[parameter].items():
                found["{}/{}".format(name, key)] = (
                    value.cpu().numpy() if torch.is_tensor(value) else np.array(value)
                )
        return found

    def restore(self, state: Dict[str, np.ndarray]) -> None:
        """Restore a `state` of the same rule."""
        self._updates = int(state["updates"])
        for name, value in self._running():
            value.copy_(torch.from_numpy(state[name]))
        for name, parameter in self._parameters:
            parameter.data.copy_(torch.from_numpy(state[name]))
            own = [key for key in state if key.startswith(name + "/")]
            self._optimizer.state[parameter] = {
                key[len(name) + 1 :]: self._moment(state[key]) for key in own
            }

    def facts(self, batch: Batch) -> Dict[str, Any]:
        """Return what is in use for such a batch, read back from the framework."""
        found = {
            "threads": torch.get_num_threads(),
            "dialect": "variable" if self._old else "tensor",
        }
        found["convolutions"] = self._convolutions(batch.images)
        found.update(_cuda_facts() if self.on_gpu else {"onednn": _onednn_in_use()})
        return found

    def _without_graph(self, images: Any) -> Any:
        if self._old:
            return self._predict(torch.autograd.Variable(images.data, volatile=True))
        with torch.no_grad():
            return self._predict(images)

    def _running(self) -> Iterator[Tuple[str, Any]]:
        """Name and tensor of each running statistic."""
        for name, module in self._norms:
            yield name + ".running_mean", module.running_mean
            yield name + ".running_var", module.running_var

    def _moment(self, value: np.ndarray) -> Any:
        """Return state as the optimiser keeps it: numbers on the host, or its counter's tensor."""
        if value.ndim == 0 and value.dtype.kind == "i":
            return int(value)
        tensor = self._from_numpy(value)
        return tensor.cuda() if self.on_gpu and value.ndim else tensor

    def _refuse_what_is_missing(self) -> None:
        version = "torch {}".format(torch.__version__)
        if self.on_gpu and not torch.cuda.is_available():
            raise Unsupported(version + " sees no CUDA device")
        if self._channels_last and not _knows_channels_last():
            raise Unsupported(version + " knows no channels_last")
        if self.backend == "inductor" and not hasattr(torch, "compile"):
            raise Unsupported(version + " has no torch.compile")
        if self.backend == "script" and not hasattr(nn, "Flatten"):
            raise Unsupported(version + " cannot script the modules of torch.nn")
        if self.backend == "native" and _onednn_in_use():
            raise Unsupported(version + " cannot switch oneDNN off")
        if self.backend == "onednn" and not _onednn_in_use():
            raise Unsupported(version + " is built without oneDNN")

    def _placed_modules(self, weights: Dict[str, np.ndarray]) -> Any:
        with _without_draws():
            modules = _sequence(self.network.layers)
        for parameter, value in zip(modules.parameters(), weights.values()):
            parameter.data.copy_(torch.from_numpy(value))
        if self.on_gpu:
            modules.cuda()
        if self._channels_last:
            modules.to(memory_format=torch.channels_last)
        return modules

    def _loss_function(self, backward: str) -> Callable[..., Any]:
        modules, loss = self._modules, LOSSES["variable" if self._old else "tensor", backward]

        def run(images: Any, targets: Any, visible: Any, joints: Any) -> Any:
            return loss(modules(images).view_as(targets), targets, visible, joints)

        return run

    def _convolutions(self, images: Any) -> Optional[str]:
        """None for a network that convolves nothing."""
        parameters = dict(self._parameters)
        found = [pair for pair in layers.walk(self.network) if isinstance(pair[0], layers.Conv)]
        if not found:
            return None
        if hasattr(torch._C, "_select_conv_backend"):
            return _chosen_convolutions(found, parameters, images)
        layer, shape = found[0]
        x = self._tensor(np.zeros((1,) + shape, np.float32))
        weight, bias = (parameters.get(layer.name + kind) for kind in (".weight", ".bias"))
        return _graph_name(nn.functional.conv2d(x, weight, bias, stride=layer.stride))

    def _images(self, images: np.ndarray) -> Any:
        placed = self._tensor(images)
        return (
            placed.contiguous(memory_format=torch.channels_last) if self._channels_last else placed
        )

    def _from_numpy(self, array: np.ndarray) -> Any:
        """Return the array as a tensor on the CPU, which shares its memory from 0.4 on.

        Before 0.4, the backward thread frees the array of the last tensor that shares it without
        Python's interpreter lock, and the process crashes. Therefore the tensor gets its own memory
        there.
        """
        tensor = torch.from_numpy(array)
        return tensor.clone() if self._old else tensor

    def _tensor(self, array: np.ndarray) -> Any:
        tensor = torch.from_numpy(array).cuda() if self.on_gpu else self._from_numpy(array)
        return torch.autograd.Variable(tensor) if self._old else tensor


class Events:
    """The GPU's own clock."""

    def record(self) -> Any:
        """Mark a point of the GPU's work."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_s(self, first: Any, last: Any) -> float:
        """Return the seconds between two marks that the GPU has passed."""
        return float(first.elapsed_time(last)) / 1000


def composed_loss(prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
    """The loss in operations of torch, differentiated by autograd."""
    difference = (prediction - targets) * visible  # (batch, 14, 2)
    return (difference * difference).sum() / joints


class ExplicitLoss(torch.autograd.Function):
    """The loss as one operation with its own backward."""

    @staticmethod
    def forward(ctx: Any, prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
        difference = (prediction - targets) * visible
        ctx.save_for_backward(difference, joints)
        return (difference * difference).sum() / joints

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        difference, joints = ctx.saved_tensors
        return gradient * (2 / joints) * difference, None, None, None


def composed_loss_of_variables(prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
    """`composed_loss` before 0.4, where nothing broadcasts; the loss is of shape (1,)."""
    difference = (prediction - targets) * visible.expand_as(prediction)
    return (difference * difference).sum() / joints


class ExplicitLossOfVariables(torch.autograd.Function):
    """`ExplicitLoss` before 0.4: an instance per call, on tensors, where a sum is a number."""

    def forward(self, prediction: Any, targets: Any, visible: Any, joints: Any) -> Any:
        self.difference = (prediction - targets) * visible.expand_as(prediction)
        self.joints = float(joints[0])
        return prediction.new([float((self.difference * self.difference).sum()) / self.joints])

    def backward(self, gradient: Any) -> Any:
        return self.difference * (float(gradient[0]) * 2 / self.joints), None, None, None


LOSSES = {
    ("tensor", "autograd"): composed_loss,
    ("tensor", "explicit"): lambda *inputs: ExplicitLoss.apply(*inputs),
    ("variable", "autograd"): composed_loss_of_variables,
    ("variable", "explicit"): lambda *inputs: ExplicitLossOfVariables()(*inputs),
}


OPTIMIZERS: Dict[type, Callable[..., Any]] = {
    optimizers.MomentumSGD: lambda parameters, rule: torch.optim.SGD(
        parameters, lr=rule.learning_rate, momentum=rule.momentum
    ),
    optimizers.Adam: lambda parameters, rule: torch.optim.Adam(
        parameters, lr=rule.learning_rate, betas=rule.betas, eps=rule.epsilon
    ),
}


class Flatten(nn.Module):
    """nn.Flatten, which came with 1.2."""

    def forward(self, x: Any) -> Any:  # (batch, c, h, w) -> (batch, c * h * w)
        return x.view(x.size(0), -1)


class GlobalAvgPool(nn.Module):
    """(batch, c, h, w) -> (batch, c), or (batch, tokens, width) -> (batch, width)"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 3:
            return x.mean(1)
        return nn.functional.adaptive_avg_pool2d(x, 1).view(x.size(0), x.size(1))


class GlobalAvgPoolOfVariables(nn.Module):
    """`GlobalAvgPool` of images alone, before 0.4."""

    def forward(self, x: Any) -> Any:
        return nn.functional.avg_pool2d(x, x.size(2)).view(x.size(0), x.size(1))


class ComposedGelu(nn.Module):
    """nn.GELU by the hyperbolic tangent, which came with 1.12."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


class Tokens(nn.Module):
    """(batch, width, h, w) -> (batch, h * w, width), plus the weights of each position."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(count, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.size(0), x.size(1), -1).transpose(1, 2) + self.positions


class Attention(nn.Module):
    """Self-attention in matrix products: (batch, count, width) -> (batch, count, width)"""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apart = self.qkv(x).view(x.size(0), x.size(1), 3, self.heads, self.size)
        heads = apart.permute(2, 0, 3, 1, 4)  # (3, batch, heads, count, size)
        mixed = self.attend(heads[0], heads[1], heads[2])
        return self.out(mixed.transpose(1, 2).contiguous().view(x.size()))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Softmax of the products of queries and keys, times values."""
        scores = torch.matmul(query, key.transpose(2, 3)) * self.size**-0.5
        return torch.matmul(nn.functional.softmax(scores, dim=-1), value)


class FusedAttention(Attention):
    """`Attention` by the function that came with 2.0."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(query, key, value)


class Residual(nn.Module):
    """The sum of two sequences, of which the second may be empty."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


def _sequence(several: Sequence[Any]) -> nn.Sequential:
    return nn.Sequential(*[layers.meaning(WORDS, layer)(layer) for layer in several])


def _batch_norms(modules: nn.Module, network: layers.Network) -> List[Tuple[str, Any]]:
    found = [module for module in modules.modules() if isinstance(module, nn.BatchNorm2d)]
    return [(layer.name, module) for layer, module in zip(layers.batch_norms(network), found)]


def _gelu() -> nn.Module:
    try:
        return nn.GELU(approximate="tanh")
    except (AttributeError, TypeError):  # the module, or its argument, came later
        return ComposedGelu()


def _attention(layer: layers.Attention) -> nn.Module:
    is_there = hasattr(nn.functional, "scaled_dot_product_attention")
    return (FusedAttention if is_there else Attention)(layer.width, layer.heads)


WORDS: Dict[type, Callable[[Any], nn.Module]] = {
    layers.Conv: lambda layer: nn.Conv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.pad,
        bias=layer.bias,
    ),
    layers.Relu: lambda layer: nn.ReLU(),
    layers.MaxPool: lambda layer: nn.MaxPool2d(
        layer.kernel, stride=layer.stride, padding=layer.pad
    ),  # floors, as everywhere
    layers.Flatten: lambda layer: nn.Flatten() if hasattr(nn, "Flatten") else Flatten(),
    layers.Dense: lambda layer: nn.Linear(layer.inputs, layer.outputs, bias=layer.bias),
    layers.Dropout: lambda layer: nn.Dropout(layer.ratio),
    layers.AvgPool: lambda layer: nn.AvgPool2d(layer.kernel, stride=layer.stride),
    layers.GlobalAvgPool: lambda layer: (
        GlobalAvgPool() if hasattr(torch, "no_grad") else GlobalAvgPoolOfVariables()
    ),
    layers.BatchNorm: lambda layer: nn.BatchNorm2d(
        layer.channels, eps=layers.EPSILON, momentum=layers.MOMENTUM
    ),
    layers.LayerNorm: lambda layer: nn.LayerNorm(layer.width, eps=layers.EPSILON),
    layers.Gelu: lambda layer: _gelu(),
    layers.Tokens: lambda layer: Tokens(layer.places, layer.width),
    layers.Attention: _attention,
    layers.Residual: lambda layer: Residual(_sequence(layer.body), _sequence(layer.shortcut)),
}


@contextlib.contextmanager
def _without_draws() -> Iterator[None]:
    """Leave the memory of convolutions and products made here as it is.

    Their weights are set next: drawing unused weights takes longer than a step.
    """
    kinds = [_with_reset(nn.Conv2d), _with_reset(nn.Linear)]
    own = [kind.reset_parameters for kind in kinds]
    for kind in kinds:
        kind.reset_parameters = lambda self: None
    try:
        yield
    finally:
        for kind, reset in zip(kinds, own):
            kind.reset_parameters = reset


def _with_reset(kind: Any) -> Any:
    """Return the class that defines a module's `reset_parameters`."""
    return next(each for each in kind.__mro__ if "reset_parameters" in vars(each))


def _inductor(run: Callable[..., Any]) -> Callable[..., Any]:
    """Compile in this process, for every trial, without caches of earlier trials or helpers."""
    import torch._inductor.config as config

    config.compile_threads = 1
    if hasattr(config, "force_disable_caches"):
        config.force_disable_caches = True
    else:  # in the working folder, which goes with the host
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(
            prefix="inductor-", dir=os.getcwd()
        )
    return torch.compile(run, dynamic=False)


def _corrects_epsilon() -> bool:
    """Return whether this torch's Adam is the published one.

    Before 1.3 it adds epsilon to the uncorrected value. This is tested by running it, which also
    does the imports of a first step.
    """
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1, eps=1)
    parameter.sum().backward()
    optimizer.step()
    return (
        abs(float(parameter.data[0])) > 0.25
    )  # 1 / (1 + 1), or 1 / (1 + 1 / sqrt(1 - beta2)) = 0.03


def _set_cuda_flags(settings: Dict[str, Any]) -> None:
    torch.backends.cudnn.benchmark = bool(settings.get("cudnn_benchmark"))
    torch.backends.cudnn.deterministic = bool(settings.get("deterministic"))
    if hasattr(torch.backends.cudnn, "allow_tf32"):
        torch.backends.cudnn.allow_tf32 = bool(settings.get("tf32"))
        torch.backends.cuda.matmul.allow_tf32 = bool(settings.get("tf32"))


def _cuda_facts() -> Dict[str, Any]:
    cudnn = torch.backends.cudnn
    return {
        "device_name": torch.cuda.get_device_name(torch.cuda.current_device()),
        "peak_device_bytes": getattr(torch.cuda, "max_memory_allocated", lambda: None)(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "cudnn_benchmark": bool(cudnn.benchmark),
        "deterministic": bool(cudnn.deterministic),
        "tf32": bool(getattr(cudnn, "allow_tf32", False)),
    }


def _onednn_in_use() -> bool:
    if hasattr(torch._C, "_get_mkldnn_enabled"):
        built = torch._C._has_mkldnn if hasattr(torch._C, "_has_mkldnn") else torch._C.has_mkldnn
        return bool(built and torch._C._get_mkldnn_enabled())
    image = torch.autograd.Variable(torch.zeros(1, 1, 1, 1))
    return "Mkldnn" in _graph_name(nn.Conv2d(1, 1, 1)(image))


def _knows_channels_last() -> bool:
    """Return whether channels_last works: the word existed before its meaning."""
    try:
        nn.Conv2d(1, 1, 1).to(memory_format=torch.channels_last)
    except (AttributeError, TypeError):
        return False
    return True


def _graph_name(value: Any) -> str:
    """Return the graph's name of what computed `value`, such as MkldnnConvolutionBackward."""
    return type(value.grad_fn if hasattr(value, "grad_fn") else value.creator).__name__


def _chosen_convolutions(
    convolutions: List[Tuple[layers.Conv, layers.Shape]], parameters: Dict[str, Any], images: Any
) -> str:
    """Which of its implementations torch chooses for the convolutions of a batch such as `images`."""
    chosen = set()
    for layer, shape in convolutions:
        weight, bias = (parameters.get(layer.name + kind) for kind in (".weight", ".bias"))
        x = torch.empty((len(images),) + shape, device=images.device)
        sizes = [layer.stride] * 2, [layer.pad] * 2, [1, 1], False, [0, 0], 1
        chosen.add(str(torch._C._select_conv_backend(x, weight, bias, *sizes)).split(".")[-1])
    return " ".join(sorted(chosen))


def _build() -> List[str]:
    """Return compiler, libraries and instruction set of this build, if it names them."""
    if not hasattr(torch, "__config__"):
        return []
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()[1:]]
    return [line for line in lines if line and not line.startswith("Build settings")]


def step_device(settings: Dict[str, Any]) -> StepDevice:
    """Return where a step of the user's own computes."""
    on_gpu = settings.get("device", "cpu") == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise Unsupported("torch {} sees no CUDA device".format(torch.__version__))

    def synchronize(_: Any) -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def facts() -> Dict[str, Any]:
        return dict(
            _cuda_facts() if on_gpu else {"onednn": _onednn_in_use()},
            threads=torch.get_num_threads(),
        )

    return StepDevice("cuda" if on_gpu else "cpu", synchronize, Events() if on_gpu else None, facts)
