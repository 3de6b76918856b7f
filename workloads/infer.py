"""Infer: DeepPose's prediction for one batch on the device, forward only, sample by sample.

The network is in evaluation mode, as in use after training, and no graph is kept. A sample,
`forward_s`, goes from the batch on the device to the prediction on the device. `images_per_s` is
the batch size divided by the mean of the samples. `docs/training.md` says more.
"""

from typing import Any, Callable, Dict, List, Optional

import numpy as np

from workloads import core, deeppose, networks
from workloads.runtime import timing, weights
from workloads.runtime.refusals import NotComparable
from workloads.settings import (
    COMMON,
    COMMON_CHOICES,
    ON_A_NETWORK,
    SAMPLED,
    SAMPLED_LEAST,
    SAMPLED_STEPS,
)

PARAMETERS = {
    **SAMPLED,
    **ON_A_NETWORK,
    **COMMON,
}  # the parity check compares predictions, `parity_tolerance` is relative to the largest of them

CHOICES = COMMON_CHOICES
LEAST = SAMPLED_LEAST
STEPS = SAMPLED_STEPS
EXCLUSIVE = True  # other trials on the node would change what is timed

REFERENCE = (
    "seed",
    "parity_examples",
    "network",
)  # the settings that `reference_values` depends on
PARITY_IGNORES = SAMPLED_STEPS + ("batch_exponent",)  # those that `parity` does not depend on


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: str,
    reference: Optional[Dict[str, Any]],
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Time predictions on the prepared data set in folder `data`; return the record's columns.

    `reference` is what `reference_values` returned for the same settings and data; None skips the
    comparison. Raises NotComparable or Unsupported before anything is timed.
    """
    poses = deeppose.Poses(data)
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    images = parity_images(poses, settings)
    columns = parity_again(model, images, reference, getattr(report, "parity", None), settings)
    report({"phase": "timing"})
    model.training = False
    chosen = deeppose.batch_indices(len(poses), core.batch_size(settings), settings["seed"], 0)
    batch = model.to_device(*poses.batch(chosen))
    columns.update(samples(model, batch, settings))
    columns.update(framework.facts())
    columns.update(model.facts(batch))
    return columns


def reference_values(settings: Dict[str, Any], data: str) -> Dict[str, Any]:
    """Return predictions in float64 for the images of the parity check, as one list."""
    from workloads.frameworks import reference as numpy_reference

    network = networks.get(settings["network"])
    drawn = weights.initial(network, settings["seed"])
    model = numpy_reference.Model(network, drawn, {"precision": "float64"})
    predicted = model.predict(parity_images(deeppose.Poses(data), settings))
    return {"predictions": predicted.reshape(-1).tolist()}


def parity(
    framework: Any, settings: Dict[str, Any], data: str, reference: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Make the parity check; return its columns and `first_prediction`.

    `settings` lacks those of PARITY_IGNORES. Raises NotComparable or Unsupported.
    """
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    predicted = model.predict(parity_images(deeppose.Poses(data), settings))
    found = parity_check(predicted, reference, settings["parity_tolerance"])
    return dict(found, first_prediction=predicted[0].reshape(-1).tolist())


def parity_again(
    model: Any,
    images: np.ndarray,
    reference: Optional[Dict[str, Any]],
    passed: Optional[Dict[str, Any]],
    settings: Dict[str, Any],
) -> Dict[str, Any]:
    """Do as `core.parity_again`, with the prediction for the first image."""
    if passed is not None:
        first = model.predict(images[:1])
        off = largest_difference(first, passed["first_prediction"])
        if off <= settings["parity_tolerance"]:  # NaN is beyond every tolerance
            return {"prediction_check": passed["prediction_check"], "parity_recheck": off}
    return dict(parity_check(model.predict(images), reference, settings["parity_tolerance"]))


def parity_check(
    predicted: np.ndarray, reference: Optional[Dict[str, Any]], tolerance: float
) -> Dict[str, Optional[float]]:
    """How far predictions are from the reference's, relative to the largest of these.

    Raises NotComparable beyond `tolerance`.
    """
    if reference is None:
        return {"prediction_check": None}
    off = largest_difference(predicted, reference["predictions"])
    # `not <=` also refuses NaN.
    if not off <= tolerance:
        raise NotComparable(
            "predictions are off the reference's by {:.1e} of the largest,"
            " more than tolerance {:g}".format(off, tolerance)
        )
    return {"prediction_check": off}


def largest_difference(predicted: np.ndarray, expected: List[float]) -> float:
    """Return the largest difference, relative to the largest of the expected numbers."""
    numbers = np.array(expected)
    return float(np.abs(predicted.reshape(-1) - numbers).max() / np.abs(numbers).max())


def parity_images(poses: deeppose.Poses, settings: Dict[str, Any]) -> np.ndarray:
    """Return the first `parity_examples` images in the seed's order, whatever the batch size."""
    chosen = deeppose.batch_indices(len(poses), settings["parity_examples"], settings["seed"], 0)
    return poses.batch(chosen).images


def samples(model: Any, batch: Any, settings: Dict[str, Any]) -> Dict[str, Any]:
    """Return the columns of the samples; a step is its forward pass."""
    columns: Dict[str, Any] = timing.measure(
        forward=lambda: model.infer(batch),
        backward=lambda prediction: None,  # noqa: ARG005  nothing goes back
        prepare=lambda: None,
        synchronize=model.synchronize,
        samples=settings["samples"],
        warmup=settings["warmup"],
        events=getattr(model, "events", None),
    )
    del columns["backward_s"]
    columns["step_s"] = columns["forward_s"]
    if columns["forward_s"]:
        columns["images_per_s"] = core.batch_size(settings) / float(np.mean(columns["forward_s"]))
    return columns
