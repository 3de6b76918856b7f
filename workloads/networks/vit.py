"""A small vision transformer (ViT-Ti/16; Dosovitskiy et al. 2021, Touvron et al. 2021): patches of 16 x 16, twelve blocks.

Predictions are of the mean of all tokens, as Beyer et al. 2022 do it, and not of a token of their
own. Of the crop of 227 pixels a side the patches cover 224.
"""

from typing import Any, List

from workloads.deeppose import CROP, JOINTS
from workloads.runtime.layers import (
    Attention,
    Conv,
    Dense,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    Network,
    Residual,
    Tokens,
)

_PATCH, _WIDTH, _HEADS, _BLOCKS = 16, 192, 3, 12
_HIDDEN = 4 * _WIDTH
_COUNT = (CROP // _PATCH) ** 2  # 196


def _blocks() -> List[Any]:
    """Attention among tokens, then each token by itself; both beside what they add to."""
    layers = []  # type: List[Any]
    for number in range(1, _BLOCKS + 1):
        attending = (
            LayerNorm("norm{}a".format(number), _WIDTH),
            Attention("attention{}".format(number), _WIDTH, _HEADS),
        )
        by_itself = (
            LayerNorm("norm{}b".format(number), _WIDTH),
            Dense("dense{}a".format(number), _WIDTH, _HIDDEN),
            Gelu(),
            Dense("dense{}b".format(number), _HIDDEN, _WIDTH),
        )
        layers += [Residual(attending), Residual(by_itself)]
    return layers


NETWORK = Network(
    name="vit",
    input=(3, CROP, CROP),
    output=(JOINTS, 2),
    layers=(
        Conv("patches", 3, _WIDTH, kernel=_PATCH, stride=_PATCH),  # (3, 227, 227) -> (192, 14, 14)
        Tokens("tokens", _COUNT, _WIDTH),  # -> (196, 192)
    )
    + tuple(_blocks())
    + (LayerNorm("norm", _WIDTH), GlobalAvgPool(), Dense("fc", _WIDTH, 2 * JOINTS)),
)
