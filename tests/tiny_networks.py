"""Networks of a few numbers, which between them have every layer that AlexNet lacks; read by every Python."""

import numpy as np

from workloads.runtime.layers import (
    Attention,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    MaxPool,
    Network,
    Relu,
    Residual,
    Tokens,
    parameter_shapes,
)
from workloads.runtime.optimizers import MomentumSGD

NORMALISED = Network(
    name="normalised",
    input=(3, 11, 10),
    output=(3, 2),
    layers=(
        Conv("conv1", 3, 4, kernel=3, stride=1, pad=1, bias=False),  # -> (4, 11, 10)
        BatchNorm("bn1", 4),
        Relu(),
        MaxPool(3, 2, pad=1),  # -> (4, 6, 5)
        Conv("conv2", 4, 5, kernel=2),  # -> (5, 5, 4)
        BatchNorm("bn2", 5),
        AvgPool(2, 2),  # -> (5, 2, 2)
        Flatten(),
        Dense("fc3", 20, 7, bias=False),
        Dropout(0.5),
        Dense("fc4", 7, 6),
    ),
)
RESIDUAL = Network(
    name="residual",
    input=(3, 9, 9),
    output=(3, 2),
    layers=(
        Conv("conv1", 3, 4, kernel=3, pad=1, bias=False),
        BatchNorm("bn1", 4),
        Relu(),
        Residual(
            (
                Conv("conv2", 4, 4, kernel=3, pad=1, bias=False),
                BatchNorm("bn2", 4),
                Relu(),
                Conv("conv3", 4, 4, kernel=3, pad=1, bias=False),
                BatchNorm("bn3", 4),
            )
        ),
        Relu(),
        Residual(
            (Conv("conv4", 4, 6, kernel=3, stride=2, pad=1, bias=False), BatchNorm("bn4", 6)),
            (Conv("conv5", 4, 6, kernel=1, stride=2, bias=False), BatchNorm("bn5", 6)),
        ),  # -> (6, 5, 5)
        Relu(),
        GlobalAvgPool(),
        Dense("fc6", 6, 6),
    ),
)
TRANSFORMER = Network(
    name="transformer",
    input=(3, 10, 9),
    output=(3, 2),
    layers=(
        Conv("patches", 3, 8, kernel=3, stride=3),  # -> (8, 3, 3)
        Tokens("tokens", 9, 8),
        Residual((LayerNorm("norm1", 8), Attention("attention1", 8, heads=2))),
        Residual(
            (LayerNorm("norm2", 8), Dense("mlp1", 8, 12), Gelu(), Dense("mlp2", 12, 8)),
        ),
        LayerNorm("norm3", 8),
        GlobalAvgPool(),
        Dense("head", 8, 6),
    ),
)
EVERY = (NORMALISED, RESIDUAL, TRANSFORMER)


def weights(network):
    """Weights of which none is 0 or 1, as some are at first."""
    random = np.random.RandomState(2)
    return {
        name: random.uniform(-0.5, 0.5, shape).astype(np.float32)
        for name, shape in parameter_shapes(network).items()
    }


def batch(network, seed):
    """Images, targets and visibilities of four examples."""
    random = np.random.RandomState(seed)
    visible = (random.uniform(size=(4, network.output[0])) < 0.7).astype(np.float32)
    images = random.uniform(size=(4, *network.input)).astype(np.float32)
    return images, random.uniform(size=(4, *network.output)).astype(np.float32), visible


def told(framework, network, settings):
    """What a model says after two batches of training: loss, gradients, statistics, predictions; as lists."""
    model = framework.Model(network, weights(network), settings)
    model.set_optimizer(MomentumSGD())
    model.dropout = False
    images, targets, visible = batch(network, 1)
    before = model.predict(images)
    model.forward(model.to_device(*batch(network, 3)))
    loss = model.forward(model.to_device(images, targets, visible))
    model.backward(loss)
    found = {
        "loss": model.item(loss),
        "gradients": _lists(model.gradients()),
        "statistics": _lists(model.statistics()),
        "before": before.tolist(),
        "after": model.predict(images).tolist(),
        "training": model.training,
    }
    model.step()
    found["updated"] = model.predict(images).tolist()
    other = framework.Model(network, weights(network), settings)
    other.set_optimizer(MomentumSGD())
    other.restore({name: value.copy() for name, value in model.state().items()})
    found["restored"] = other.predict(images).tolist()
    model.reset_statistics()
    found["reset"] = _lists(model.statistics())
    return found


def _lists(arrays):
    return {name: array.tolist() for name, array in arrays.items()}
