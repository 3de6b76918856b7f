"""ResNet-50 (He et al. 2016): sixteen residuals that narrow, convolve by 3 x 3 and widen, with batch normalisation."""

from typing import Any, Tuple

from workloads.networks._resnet import LAST, normalised, resnet
from workloads.runtime.layers import Relu


def _bottleneck(name: str, inputs: int, width: int, stride: int) -> Tuple[Any, ...]:
    """The stride is that of the convolution of 3 x 3, as in torchvision."""
    narrow = normalised(name + "a", inputs, width, 1)
    convolve = normalised(name + "b", width, width, 3, stride)
    widen = normalised(name + "c", width, 4 * width, 1, initial=LAST)
    return narrow + (Relu(),) + convolve + (Relu(),) + widen


NETWORK = resnet("resnet50", (3, 4, 6, 3), 4, _bottleneck)
