"""A multilayer perceptron on the pixels: dense layers, of which the first has most weights."""

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import Dense, Flatten, Network, Relu

NETWORK = Network(
    name="mlp",
    input=(3, CROP, CROP),
    output=(JOINTS, 2),
    layers=(
        Flatten(),  # (3, 227, 227) -> (154587,)
        Dense("fc1", 3 * CROP * CROP, 128),
        Relu(),
        Dense("fc2", 128, 128),
        Relu(),
        Dense("fc3", 128, 128),
        Relu(),
        Dense("fc4", 128, 2 * JOINTS),
    ),
)
