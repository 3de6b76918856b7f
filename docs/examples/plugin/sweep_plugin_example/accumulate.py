"""Accumulate: the gradient of one batch, computed in parts that add up, as where memory is short.

Columns are those of core, without the split into forward and backward, and `parts` as it came out.
"""

import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from workloads import core, deeppose, networks
from workloads.runtime import weights
from workloads.settings import (
    COMMON,
    COMMON_CHOICES,
    ON_A_NETWORK,
    SAMPLED_LEAST,
    SAMPLED_STEPS,
)

PARAMETERS = {
    **ON_A_NETWORK,
    **COMMON,
    "parts": 2,  # that a batch is computed in, of an example at least
    "samples": 20,
    "warmup": 3,
    "use_visibility": True,
}
CHOICES = COMMON_CHOICES
LEAST = {**SAMPLED_LEAST, "parts": 1}
STEPS = SAMPLED_STEPS
REFERENCE = (
    "seed",
    "use_visibility",
    "parity_examples",
    "network",
)  # the settings that `reference_values` depends on


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: str,
    reference: Optional[Dict[str, float]],
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Times the framework on the prepared data set in folder `data`; gives the record's columns."""
    poses = deeppose.Poses(data)
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    checked = core.parity_check(
        model, core.parity_batch(poses, settings), reference, settings["parity_tolerance"]
    )
    model.dropout = True
    parts = [model.to_device(*batch) for batch in _parts(poses, settings)]
    steps = [_step_time(model, parts) for _ in range(settings["warmup"] + settings["samples"])]
    columns = {
        "parts": len(parts),
        "warmup_s": steps[: settings["warmup"]],
        "step_s": steps[settings["warmup"] :],
    }
    return dict(checked, **dict(framework.facts(), **dict(model.facts(parts[0]), **columns)))


def reference_values(settings: Dict[str, Any], data: str) -> Dict[str, float]:
    """What the parity check compares with: core's own."""
    return core.reference_values(settings, data)


def _parts(poses: deeppose.Poses, settings: Dict[str, Any]) -> List[deeppose.Batch]:
    size = core.batch_size(settings)
    chosen = deeppose.batch_indices(len(poses), size, settings["seed"], 0)
    return [
        poses.batch(part, settings["use_visibility"])
        for part in np.array_split(chosen, min(settings["parts"], size))
    ]


def _step_time(model: Any, parts: List[Any]) -> float:
    model.zero_grad()
    model.synchronize()
    start = time.perf_counter()
    for part in parts:
        model.backward(model.forward(part))
    model.synchronize()
    return time.perf_counter() - start
