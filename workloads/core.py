"""Core: the loss of one batch and its gradient, forward and backward timed sample by sample.

`docs/workloads.md` describes exactly what is timed.
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

# The settings that `parity` does not depend on.
PARITY_IGNORES = SAMPLED_STEPS + ("batch_exponent", "dropout", "include_data")

_COMPARED = ("loss", "gradient_norm", "statistics_norm")  # with the reference, where it has them

# Numbers summed at once: bounds the float64 copies of gradients to 8 MiB.
_SUMMED_AT_ONCE = 1 << 20


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: str,
    reference: Optional[Dict[str, float]],
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Time the framework on the prepared data set in folder `data`; return the record's columns.

    `reference` is what `reference_values` returned for the same settings and data; None skips the
    comparison. Raises NotComparable or Unsupported before anything is timed.
    """
    poses = deeppose.Poses(data)
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    batches = Batches(poses, model, settings)
    columns: Dict[str, Any] = {}
    if getattr(model, "compiles", False):
        columns["compile_s"] = compile_time(model, batches.first, settings["dropout"])
    passed = getattr(report, "parity", None)
    columns.update(parity_again(model, parity_batch(poses, settings), reference, passed, settings))
    report({"phase": "timing"})
    model.dropout = settings["dropout"]
    columns.update(samples(model, batches, settings))
    columns.update(framework.facts())
    columns.update(model.facts(batches.first))
    return columns


def reference_values(settings: Dict[str, Any], data: str) -> Dict[str, float]:
    """Return what `evaluate` finds of the parity batch in float64.

    Of `settings` only those in REFERENCE are given.
    """
    from workloads.frameworks import reference as numpy_reference

    network = networks.get(settings["network"])
    drawn = weights.initial(network, settings["seed"])
    model = numpy_reference.Model(network, drawn, {"precision": "float64", "backward": "explicit"})
    return evaluate(model, parity_batch(deeppose.Poses(data), settings))


def parity(
    framework: Any, settings: Dict[str, Any], data: str, reference: Optional[Dict[str, float]]
) -> Dict[str, Any]:
    """Make the parity check; return its columns and `first_loss`.

    `settings` lacks those of PARITY_IGNORES. Raises NotComparable or Unsupported.
    """
    poses = deeppose.Poses(data)
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    batch = parity_batch(poses, settings)
    found = parity_check(model, batch, reference, settings["parity_tolerance"])
    return dict(found, first_loss=first_loss(model, batch))


def parity_again(
    model: Any,
    batch: deeppose.Batch,
    reference: Optional[Dict[str, float]],
    passed: Optional[Dict[str, Any]],
    settings: Dict[str, Any],
) -> Dict[str, Any]:
    """Return the columns of the parity check, from `passed` if this process computes the same.

    `passed` is what `parity` returned in another process, or None. The loss of one example is
    compared: all weights and layers go into it, as this process has loaded them. Environment, code,
    settings and machine are the same, so the other process's gradient holds here too. If the loss
    differs, or nothing was passed, the whole check is made here.
    """
    if passed is not None:
        off = relative_difference(first_loss(model, batch), passed["first_loss"])
        if off <= settings["parity_tolerance"]:  # NaN is beyond every tolerance
            found = {name: value for name, value in passed.items() if name != "first_loss"}
            return dict(found, parity_recheck=off)
    return parity_check(model, batch, reference, settings["parity_tolerance"])


def first_loss(model: Any, batch: deeppose.Batch) -> float:
    """Return the loss of the first example of a batch, in training mode without dropout.

    It leaves running statistics as they are at first.
    """
    model.training, model.dropout = True, False
    first = deeppose.Batch(*(part[:1] for part in batch))
    loss = float(model.item(model.forward(model.to_device(*first))))
    model.synchronize()
    if hasattr(model, "reset_statistics"):
        model.reset_statistics()
    return loss


def parity_check(
    model: Any, batch: deeppose.Batch, reference: Optional[Dict[str, float]], tolerance: float
) -> Dict[str, Optional[float]]:
    """Return loss, gradient norm and running statistics without dropout, compared with the reference's.

    NotComparable if a relative difference exceeds `tolerance`.
    """
    found = evaluate(model, batch)
    if reference is None:
        unchecked: Dict[str, Optional[float]] = {"loss_check": None, "grad_check": None}
        return {**found, **unchecked}
    off = {}
    for name in _COMPARED:
        if name not in reference:
            continue
        # NaN stands for the statistics of a framework that keeps none.
        value = found.get(name, float("nan"))
        difference = off[name] = relative_difference(value, reference[name])
        # `not <=` also refuses NaN.
        if not difference <= tolerance:
            raise NotComparable(
                "{} is {:.9g}, the reference's {:.9g}:"
                " they differ by {:.1e}, more than tolerance {:g}".format(
                    name.replace("_", " "), value, reference[name], difference, tolerance
                )
            )
    checks = {"loss_check": off["loss"], "grad_check": off["gradient_norm"]}
    if "statistics_norm" in off:
        checks["statistics_check"] = off["statistics_norm"]
    return {**found, **checks}


def evaluate(model: Any, batch: deeppose.Batch) -> Dict[str, float]:
    """Return loss, global gradient norm and number of parameters of a batch, without dropout.

    It computes in training mode. If the network has running statistics, their norm after this
    batch is returned too. It leaves no gradients, and the statistics as they are at first.
    """
    model.training, model.dropout = True, False
    keeps_statistics = hasattr(model, "reset_statistics")
    if keeps_statistics:
        model.reset_statistics()
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
    if keeps_statistics and model.statistics():
        found["statistics_norm"] = norm(model.statistics())
        model.reset_statistics()
    return found


def parity_batch(poses: deeppose.Poses, settings: Dict[str, Any]) -> deeppose.Batch:
    """Return the first `parity_examples` examples in the seed's order, whatever the batch size.

    With one example, a single ReLU or max-pool decided differently in float32 can exceed the
    tolerance.
    """
    chosen = deeppose.batch_indices(len(poses), settings["parity_examples"], settings["seed"], 0)
    return poses.batch(chosen, settings["use_visibility"])


def batch_size(settings: Dict[str, Any]) -> int:
    """Return 2 to the power of `batch_exponent`."""
    return int(2 ** settings["batch_exponent"])


def norm(arrays: Dict[str, np.ndarray]) -> float:
    """Return the Euclidean norm of all the arrays' numbers together, summed in float64."""
    total = 0.0
    for array in arrays.values():
        flat = array.reshape(-1)
        for start in range(0, flat.size, _SUMMED_AT_ONCE):
            part = flat[start : start + _SUMMED_AT_ONCE].astype(np.float64)
            total += float(np.dot(part, part))
    return float(total**0.5)


def relative_difference(found: float, expected: float) -> float:
    """Return |found - expected| / |expected|; 0 if equal, infinite if only `expected` is 0."""
    if found == expected:
        return 0.0
    return abs(found - expected) / abs(expected) if expected else float("inf")


class Batches:
    """The batches of samples.

    It is `first` in every sample; with `include_data`, each sample reads the next one.
    """

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
        """Return the next sample's batch."""
        chosen = next(self._to_come, None)
        if chosen is None:
            return self.first
        start = time.perf_counter()
        placed = self._read(chosen)
        self.model.synchronize()
        self.read_s.append(time.perf_counter() - start)
        return placed

    def _read(self, chosen: np.ndarray) -> Any:
        """Crop, normalise, lay out and transfer the examples `chosen`."""
        return self.model.to_device(*self.poses.batch(chosen, self.use_visibility))


def samples(model: Any, batches: Batches, settings: Dict[str, Any]) -> Dict[str, Any]:
    """Return the samples' columns.

    With `include_data` there is also `data_s`, which is part of `step_s` and not of `forward_s`.
    """
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
    """Return the seconds of the first step, in which some backends compile.

    The time of a step itself is part of it.
    """
    model.dropout = dropout
    model.zero_grad()
    start = time.perf_counter()
    model.backward(model.forward(batch))
    model.synchronize()
    return time.perf_counter() - start
