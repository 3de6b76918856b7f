"""What residual networks have in common (He et al. 2016): how they begin, their four stages, and how they end."""

from typing import Any, Callable, List, Sequence, Tuple

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import (
    BatchNorm,
    Conv,
    Dense,
    GlobalAvgPool,
    MaxPool,
    Network,
    Relu,
    Residual,
)

# What the last normalisation of a residual begins as. With 1, float32 gradients of ResNet-50 differ
# from float64 ones by up to 4e-4, with this by 3e-6. Goyal et al. 2017 begin with 0, where the
# other weights of the residual have no gradient that a parity check could look at.
LAST = 0.25

Body = Callable[[str, int, int, int], Tuple[Any, ...]]
_WIDTHS = (64, 128, 256, 512)


def resnet(name: str, counts: Sequence[int], wider: int, body: Body) -> Network:
    """A network of `counts` residuals a stage.

    `body(name, inputs, width, stride)` gives the layers of one, which end in `wider` times its
    width of channels.
    """
    beginning = normalised("1", 3, 64, 7, stride=2)  # (3, 227, 227) -> (64, 114, 114)
    beginning += (Relu(), MaxPool(3, 2, pad=1))  # -> (64, 57, 57)
    ending = (GlobalAvgPool(), Dense("fc", wider * _WIDTHS[-1], 2 * JOINTS))
    stages = tuple(_stages(counts, wider, body))  # -> (512 * wider, 8, 8)
    return Network(name, (3, CROP, CROP), (JOINTS, 2), beginning + stages + ending)


def normalised(
    name: str, inputs: int, outputs: int, kernel: int, stride: int = 1, initial: float = 1.0
) -> Tuple[Any, ...]:
    """A convolution that keeps the image's size but for its stride, and its normalisation."""
    pad = kernel // 2
    convolution = Conv("conv" + name, inputs, outputs, kernel, stride=stride, pad=pad, bias=False)
    return convolution, BatchNorm("bn" + name, outputs, initial)


def _stages(counts: Sequence[int], wider: int, body: Body) -> List[Any]:
    """Each stage but the first halves the image; a shortcut is a convolution of 1 x 1 where the shape changes."""
    layers = []  # type: List[Any]
    inputs = 64
    for stage, (width, count) in enumerate(zip(_WIDTHS, counts), 2):
        for number in range(1, count + 1):
            name = "{}_{}".format(stage, number)
            stride = 2 if number == 1 and stage > 2 else 1
            outputs = wider * width
            changes = inputs != outputs
            shortcut = normalised(name + "s", inputs, outputs, 1, stride) if changes else ()
            layers += [Residual(body(name, inputs, width, stride), shortcut), Relu()]
            inputs = outputs
    return layers
