"""VGG-16 (Simonyan and Zisserman 2015, configuration D): thirteen convolutions of 3 x 3, three dense layers."""

from typing import Any, List

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


def _stages() -> List[Any]:
    """(3, 227, 227) -> (512, 7, 7): each stage ends by halving the image."""
    layers = []  # type: List[Any]
    channels = 3
    for stage, (outputs, count) in enumerate(_STAGES, 1):
        for number in range(1, count + 1):
            layers.append(Conv("conv{}_{}".format(stage, number), channels, outputs, 3, pad=1))
            layers.append(Relu())
            channels = outputs
        layers.append(MaxPool(2, 2))
    return layers


NETWORK = Network(
    name="vgg16",
    input=(3, CROP, CROP),
    output=(JOINTS, 2),
    layers=tuple(_stages())
    + (
        Flatten(),  # (512, 7, 7) -> (25088,)
        Dense("fc6", 25088, 4096),
        Relu(),
        Dropout(0.5),
        Dense("fc7", 4096, 4096),
        Relu(),
        Dropout(0.5),
        Dense("fc8", 4096, 2 * JOINTS),
    ),
)
