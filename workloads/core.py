"""Core: the loss of one batch and its gradient, forward and backward timed sample by sample.

`docs/workloads.md` says what exactly is timed.
"""

import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from workloads import deeppose, networks
from workloads.runtime import timing, weights
from workloads.runtime.refusals import NotComparable
from workloads.settings import (
    COMMON,
    COMMON_CHOICES,
    DIFFERENTIATED,
    ON_A_NETWORK,
    SAMPLED,
    SAMPLED_LEAST,
    SAMPLED_STEPS,
)

PARAMETERS = {
    **SAMPLED,
    **DIFFERENTIATED,
    **ON_A_NETWORK,
    **COMMON,
    "include_data": False,  # whether a sample begins with reading its batch
}

CHOICES = COMMON_CHOICES
LEAST = SAMPLED_LEAST
STEPS = SAMPLED_STEPS
EXCLUSIVE = True  # other trials on the node would change what is timed

REFERENCE = (
    "seed",
    "use_visibility",
    "parity_examples",
    "network",
)  # the settings that `reference_values` depends on

_SUMMED_AT_ONCE = 1 << 20  # bounds the float64 copies of gradients to 8 MiB


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: str,
    reference: Optional[Dict[str, float]],
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Times the framework on the prepared data set in folder `data`; gives the record's columns.

    `reference` is what `reference_values` gave for the same settings and data; without it nothing is compared. Raises
    NotComparable or Unsupported before anything is timed.
    """
    poses = deeppose.Poses(data)
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    batches = Batches(poses, model, settings)
    columns: Dict[str, Any] = {}
    if getattr(model, "compiles", False):
        columns["compile_s"] = compile_time(model, batches.first, settings["dropout"])
    columns.update(
        parity_check(model, parity_batch(poses, settings), reference, settings["parity_tolerance"])
    )
    report({"phase": "timing"})
    model.dropout = settings["dropout"]
    columns.update(samples(model, batches, settings))
    columns.update(framework.facts())
    columns.update(model.facts(batches.first))
    return columns


def reference_values(settings: Dict[str, Any], data: str) -> Dict[str, float]:
    """Loss and gradient norm, in float64, of what the parity check looks at; of `settings` only REFERENCE is there."""
    from workloads.frameworks import reference as numpy_reference

    network = networks.get(settings["network"])
    drawn = weights.initial(network, settings["seed"])
    model = numpy_reference.Model(network, drawn, {"precision": "float64", "backward": "explicit"})
    return evaluate(model, parity_batch(deeppose.Poses(data), settings))


def parity_check(
    model: Any, batch: deeppose.Batch, reference: Optional[Dict[str, float]], tolerance: float
) -> Dict[str, Optional[float]]:
    """Loss and gradient norm without dropout, and how far they are from the reference's.

    NotComparable where that is more than `parity_tolerance`, relative.
    """
    found = evaluate(model, batch)
    if reference is None:
        unchecked: Dict[str, Optional[float]] = {"loss_check": None, "grad_check": None}
        return {**found, **unchecked}
    off = {
        name: relative_difference(found[name], reference[name])
        for name in ("loss", "gradient_norm")
    }
    for name, difference in off.items():
        if not difference <= tolerance:  # NaN is beyond every tolerance
            raise NotComparable(
                "{} is {:.9g}, the reference's {:.9g}: they differ by {:.1e}, more than tolerance {:g}".format(
                    name.replace("_", " "), found[name], reference[name], difference, tolerance
                )
            )
    return {**found, "loss_check": off["loss"], "grad_check": off["gradient_norm"]}


def evaluate(model: Any, batch: deeppose.Batch) -> Dict[str, float]:
    """Loss and global gradient norm of a batch, without dropout, and the parameters' count; leaves no gradients."""
    model.dropout = False
    model.zero_grad()
    loss = model.forward(model.to_device(*batch))
    model.backward(loss)
    model.synchronize()
    gradients = model.gradients()
    found = {
        "loss": model.item(loss),
        "gradient_norm": norm(gradients),
        "parameter_count": sum(gradient.size for gradient in gradients.values()),
    }
    model.zero_grad()
    return found


def parity_batch(poses: deeppose.Poses, settings: Dict[str, Any]) -> deeppose.Batch:
    """The first `parity_examples` examples of the seed's order, whatever the batch size.

    A rectifier or maximum that float32 tips the other way weighs too much in a batch of one.
    """
    chosen = deeppose.batch_indices(len(poses), settings["parity_examples"], settings["seed"], 0)
    return poses.batch(chosen, settings["use_visibility"])


def batch_size(settings: Dict[str, Any]) -> int:
    """2 to the power of axis `batch_exponent`."""
    return int(2 ** settings["batch_exponent"])


def norm(arrays: Dict[str, np.ndarray]) -> float:
    """Euclidean norm of all the arrays' numbers together, summed in float64."""
    total = 0.0
    for array in arrays.values():
        flat = array.reshape(-1)
        for start in range(0, flat.size, _SUMMED_AT_ONCE):
            part = flat[start : start + _SUMMED_AT_ONCE].astype(np.float64)
            total += float(np.dot(part, part))
    return float(total**0.5)


def relative_difference(found: float, expected: float) -> float:
    """|found - expected| / |expected|; 0 where they are equal, infinite where only `expected` is 0."""
    if found == expected:
        return 0.0
    return abs(found - expected) / abs(expected) if expected else float("inf")


class Batches:
    """Where samples get their batches: `first` over and over, or with `include_data` one after the other, read anew."""

    def __init__(self, poses: deeppose.Poses, model: Any, settings: Dict[str, Any]) -> None:
        self.poses = poses
        self.model = model
        self.use_visibility = settings["use_visibility"]
        self.read_s: List[float] = []
        count = settings["warmup"] + settings["samples"] if settings["include_data"] else 0
        size, seed = batch_size(settings), settings["seed"]
        self.first = self._read(deeppose.batch_indices(len(poses), size, seed, 0))
        self._to_come = iter(
            [deeppose.batch_indices(len(poses), size, seed, number) for number in range(count)]
        )

    def next(self) -> Any:
        """The next sample's batch."""
        chosen = next(self._to_come, None)
        if chosen is None:
            return self.first
        start = time.perf_counter()
        placed = self._read(chosen)
        self.model.synchronize()
        self.read_s.append(time.perf_counter() - start)
        return placed

    def _read(self, chosen: np.ndarray) -> Any:
        """Crops, normalises, lays out and transfers the examples `chosen`."""
        return self.model.to_device(*self.poses.batch(chosen, self.use_visibility))


def samples(model: Any, batches: Batches, settings: Dict[str, Any]) -> Dict[str, Any]:
    """The samples' columns; with `include_data` also `data_s`, which is part of `step_s` and not of `forward_s`."""
    columns: Dict[str, Any] = timing.measure(
        forward=lambda: model.forward(batches.next()),
        backward=model.backward,
        prepare=model.zero_grad,
        synchronize=model.synchronize,
        samples=settings["samples"],
        warmup=settings["warmup"],
        events=getattr(model, "events", None),
    )
    if settings["include_data"]:
        columns["data_s"] = batches.read_s[settings["warmup"] :]
        columns["forward_s"] = [
            whole - data for whole, data in zip(columns["forward_s"], columns["data_s"])
        ]
    return columns


def compile_time(model: Any, batch: Any, dropout: bool) -> float:
    """Seconds of the first step, in which backends that compile do so; a step's own time is in it."""
    model.dropout = dropout
    model.zero_grad()
    start = time.perf_counter()
    model.backward(model.forward(batch))
    model.synchronize()
    return time.perf_counter() - start
