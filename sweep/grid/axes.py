"""The axes of the house: their order, and what they are where a grid leaves them out."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from sweep.grid.quantities import Scalar

SEED = "seed"

HOUSE: MappingProxyType[str, Sequence[Scalar]] = MappingProxyType(
    {
        "workload": ("core",),
        "framework": (),  # no default: a grid says what it compares
        "backend": ("default",),
        "backward": ("autograd",),
        "device": ("cpu",),
        "batch_exponent": (5,),
    }
)
SEEDS: Sequence[int] = range(5)  # an interval takes three processes, five make a fair one
BACKWARDS = ("autograd", "explicit")

NOT_AXES = ("data_path", "until")  # a path says where, not what; stopping is the sweep's matter and no trial's
