"""LeNet-5 for poses (LeCun et al. 1998): two convolutions and three dense layers, on the image shrunk by maxima."""

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import Conv, Dense, Flatten, MaxPool, Network, Relu

NETWORK = Network(
    name="lenet",
    input=(3, CROP, CROP),
    output=(JOINTS, 2),
    layers=(
        MaxPool(7, 7),  # (3, 227, 227) -> (3, 32, 32)
        Conv("conv1", 3, 6, kernel=5),  # -> (6, 28, 28)
        Relu(),
        MaxPool(2, 2),  # -> (6, 14, 14)
        Conv("conv2", 6, 16, kernel=5),  # -> (16, 10, 10)
        Relu(),
        MaxPool(2, 2),  # -> (16, 5, 5)
        Flatten(),  # -> (400,)
        Dense("fc3", 400, 120),
        Relu(),
        Dense("fc4", 120, 84),
        Relu(),
        Dense("fc5", 84, 2 * JOINTS),
    ),
)
