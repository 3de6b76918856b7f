"""ResNet-18 (He et al. 2016): eight residuals of two convolutions of 3 x 3, each followed by batch normalisation."""

from typing import Any, Tuple

from workloads.networks._resnet import LAST, normalised, resnet
from workloads.runtime.layers import Relu


def _basic(name: str, inputs: int, width: int, stride: int) -> Tuple[Any, ...]:
    first = normalised(name + "a", inputs, width, 3, stride)
    return first + (Relu(),) + normalised(name + "b", width, width, 3, initial=LAST)


NETWORK = resnet("resnet18", (2, 2, 2, 2), 1, _basic)
