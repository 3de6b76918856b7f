"""AlexNet as in DeepPose: five convolutions and three dense layers.

Krizhevsky et al. 2012, Toshev and Szegedy 2014.
"""

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu

NETWORK = Network(
    name="alexnet",
    input=(3, CROP, CROP),
    output=(JOINTS, 2),
    layers=(
        Conv("conv1", 3, 96, kernel=11, stride=4),  # (3, 227, 227) -> (96, 55, 55)
        Relu(),
        MaxPool(3, 2),  # -> (96, 27, 27)
        Conv("conv2", 96, 256, kernel=5, pad=2),  # -> (256, 27, 27)
        Relu(),
        MaxPool(3, 2),  # -> (256, 13, 13)
        Conv("conv3", 256, 384, kernel=3, pad=1),  # -> (384, 13, 13)
        Relu(),
        Conv("conv4", 384, 384, kernel=3, pad=1),
        Relu(),
        Conv("conv5", 384, 256, kernel=3, pad=1),  # -> (256, 13, 13)
        Relu(),
        MaxPool(3, 2),  # -> (256, 6, 6)
        Flatten(),  # -> (9216,)
        Dense("fc6", 9216, 4096),
        Relu(),
        Dropout(0.5),
        Dense("fc7", 4096, 4096),
        Relu(),
        Dropout(0.5),
        Dense("fc8", 4096, 2 * JOINTS),
    ),
)
