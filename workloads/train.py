"""Train: DeepPose from its initial weights, with its learning curve and the time it takes.

Per iteration there are the loss before its update, and the seconds since the end of the last
iteration, waiting for data included. Time counts in iterations alone: validation and checkpoints
are excluded, and so is what a killed process did after its last checkpoint. `docs/training.md` says
more. `workloads/runtime/optimizers.py` has the update rules:

    momentum_sgd   v = momentum * v + g; p = p - learning_rate * v
                   learning_rate 0.01, momentum 0.9
    adam           Kingma and Ba 2015, algorithm 1
                   learning_rate 0.001, betas 0.9 and 0.999, epsilon 1e-8

An epoch has as many whole batches as the training examples give, in the order of (seed, epoch). The
rest, which differs between epochs, is left out. Dropout gets a new seed in each epoch. So an epoch
depends on the parameters and the optimiser's state at its beginning, on (seed, epoch), and on
nothing else.
"""

import math
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from workloads import accuracy, augmentation, core, deeppose, networks
from workloads.runtime import layers, optimizers, weights
from workloads.runtime.checkpoints import Checkpoint, Checkpoints
from workloads.runtime.loading import Loader
from workloads.runtime.refusals import Diverged, Unusable
from workloads.settings import COMMON, COMMON_CHOICES, DIFFERENTIATED, ON_A_NETWORK

PARAMETERS = {
    **DIFFERENTIATED,
    **ON_A_NETWORK,
    **COMMON,
    "epochs": 10,
    "optimizer": "momentum_sgd",
    "learning_rate": None,  # the rule's own where none is given
    "augment": False,
    "colour_noise": 0.1,  # deviation of the noise, in eigenvalues of the colours' covariance
    "examples": None,  # to train on: the first of them; all where none is given
    "validate_every": 1,  # epochs; the last is validated in any case
    "validation_share": 0.1,  # of the examples, where the data set has none for testing
    "pck_threshold": 0.2,  # of the larger side of the person's bounding box
    "target_loss": None,  # validation loss, the time to which is told
    "checkpoint_every": 1,  # epochs; 0: never
    "kept_poses": 12,  # validation examples whose predictions are kept
}

CHOICES = {**COMMON_CHOICES, "optimizer": ("momentum_sgd", "adam")}
LEAST = {"epochs": 1}
STEPS = ("epochs",)

REFERENCE = (
    "seed",
    "use_visibility",
    "parity_examples",
    "network",
)  # the settings that `reference_values` depends on
CHECK = ("batch_exponent", "validation_share", "examples")  # those that `check` depends on

# The shortest time between two reports of progress.
_PROGRESS_S = 0.5
# The same examples are held out for every seed: otherwise their difficulty would add variance.
_HELD_OUT_SEED = 0

# the columns that grow: one entry per iteration, per epoch, per validation
_LISTS = (
    "iteration",
    "elapsed_s",
    "loss",
    "iteration_s",
    "epoch_s",
    "data_wait_s",
    "validation_epoch",
    "validation_elapsed_s",
    "validation_loss",
    "validation_pck",
    "validation_pcp",
    "resumed_after",
)

reference_values = core.reference_values


def check(settings: Dict[str, Any], data: str) -> None:
    """Raise Unusable if nothing can be trained on the data; `settings` has those in CHECK alone."""
    divide(deeppose.Poses(data), settings)


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: str,
    reference: Optional[Dict[str, float]],
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Train on the prepared data set in folder `data`; return the record's columns.

    `reference` is as for `core.run`. Raises Unusable, NotComparable or Unsupported before training
    begins, and Diverged if the loss becomes NaN or infinite.
    """
    poses = deeppose.Poses(data)
    split = divide(poses, settings)
    rule = optimizers.chosen(settings["optimizer"], settings["learning_rate"])
    framework.load(settings)
    network = networks.get(settings["network"])
    model = framework.Model(network, weights.initial(network, settings["seed"]), settings)
    batch = core.parity_batch(poses, settings)
    columns: Dict[str, Any] = core.parity_check(
        model, batch, reference, settings["parity_tolerance"]
    )
    report({"phase": "training"})
    model.set_optimizer(rule)
    columns.update(Training(model, poses, split, settings, report).run())
    columns.update(framework.facts())
    columns.update(model.facts(model.to_device(*batch)))
    return columns


class Split(NamedTuple):
    """Indices of the examples to train on and to validate on."""

    training: np.ndarray
    validation: np.ndarray


class Validation(NamedTuple):
    """The result of the network on the validation examples."""

    loss: float
    predicted: np.ndarray  # (n, 14, 2) in units of the crop
    pck: accuracy.Share
    pcp: accuracy.Share


def divide(poses: deeppose.Poses, settings: Dict[str, Any]) -> Split:
    """Return the split of a data set into training and validation.

    It is the data set's own split. If that has no test examples, a share of all is held out, the
    same for every seed. Unusable if a batch is larger than the training set, or if nothing is left
    for validation.
    """
    tests = poses.split() != 0
    if not tests.any():
        held_out = round(len(poses) * settings["validation_share"])
        tests[np.random.RandomState(_HELD_OUT_SEED).permutation(len(poses))[:held_out]] = True
    split = Split(np.flatnonzero(~tests)[: settings["examples"]], np.flatnonzero(tests))
    if not len(split.validation):
        raise Unusable(
            "the data set in {} leaves no example to validate on: raise validation_share".format(
                poses.folder
            )
        )
    if len(split.training) < core.batch_size(settings):
        raise Unusable(
            "the data set in {} has {} examples to train on"
            " and a batch takes {}: lower batch_exponent".format(
                poses.folder, len(split.training), core.batch_size(settings)
            )
        )
    return split


class Training:
    """One training, from its beginning or its last checkpoint.

    `model` has its initial weights and its optimizer.
    """

    def __init__(
        self,
        model: Any,
        poses: deeppose.Poses,
        split: Split,
        settings: Dict[str, Any],
        report: Callable[[Dict[str, Any]], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.poses, self.split, self.settings = model, poses, split, settings
        self.size = core.batch_size(settings)
        self.iterations = len(split.training) // self.size  # of an epoch
        self.curve: Dict[str, List[Any]] = {name: [] for name in _LISTS}
        self._clock = clock
        self._pace = Pace(report, clock, settings["epochs"], self.iterations)
        folder = getattr(report, "checkpoints", None)
        self._checkpoints = Checkpoints(folder, _identity(poses, settings)) if folder else None

    def run(self) -> Dict[str, Any]:
        """Train all epochs and return the columns."""
        first = self._resumed() + 1
        validation = None
        loader = self.loader(first)
        try:
            for epoch in range(first, self.settings["epochs"] + 1):
                self.train(epoch, loader)
                validation = self._validated(epoch)
                self._keep(epoch)
        finally:
            loader.close()
        return dict(self.curve, **self._found(validation or self.validate()))

    def loader(self, first: int) -> Loader:
        """Return a loader of the batches from epoch `first` on; the caller closes it."""
        return Loader(self._reader(), self._wanted(first))

    def train(self, epoch: int, loader: Loader) -> None:
        """Run the iterations of an epoch on the batches of `loader`."""
        curve, model = self.curve, self.model
        model.seed_dropout(_dropout_seed(self.settings["seed"], epoch))
        model.dropout = self.settings["dropout"]
        before = curve["elapsed_s"][-1] if curve["elapsed_s"] else 0.0
        waited, start = 0.0, self._clock()
        last = start
        for _ in range(self.iterations):
            batch = model.to_device(*loader.next())
            ready = self._clock()
            value = step(model, batch)
            now = self._clock()
            waited += ready - last
            curve["iteration"].append(len(curve["iteration"]) + 1)
            curve["elapsed_s"].append(before + now - start)
            curve["iteration_s"].append(now - last)
            curve["loss"].append(value)
            self._refuse_what_is_no_number(value, epoch)
            self._pace.tell(epoch, len(curve["iteration"]), value)
            last = now
        curve["epoch_s"].append(last - start)
        curve["data_wait_s"].append(waited)

    def validate(self) -> Validation:
        """Evaluate the network as it is now on the validation examples, without dropout."""
        poses, examples = self.poses, self.split.validation
        parts = [
            examples[start : start + self.size] for start in range(0, len(examples), self.size)
        ]
        predicted, targets, counted = [], [], []
        for part in parts:
            # The last part is filled up: compiled networks take batches of one size.
            batch = poses.batch(np.resize(part, self.size), self.settings["use_visibility"])
            predicted.append(self.model.predict(batch.images)[: len(part)])
            targets.append(batch.targets[: len(part)])
            counted.append(batch.visible[: len(part)])
        found, true = np.concatenate(predicted).astype(np.float64), np.concatenate(targets)
        visible = poses.visible[examples]
        return Validation(
            loss=loss(found, true, np.concatenate(counted)),
            predicted=found,
            pck=accuracy.pck(found, true, visible, self.settings["pck_threshold"]),
            pcp=accuracy.pcp(found, true, visible),
        )

    def _validated(self, epoch: int) -> Optional[Validation]:
        """Validate if it is due, and append the results to the curve."""
        if epoch % self.settings["validate_every"] and epoch != self.settings["epochs"]:
            return None
        found = self.validate()
        self._refuse_what_is_no_number(found.loss, epoch)
        self.curve["validation_epoch"].append(epoch)
        self.curve["validation_elapsed_s"].append(self.curve["elapsed_s"][-1])
        self.curve["validation_loss"].append(found.loss)
        self.curve["validation_pck"].append(found.pck.overall)
        self.curve["validation_pcp"].append(found.pcp.overall)
        return found

    def _refuse_what_is_no_number(self, value: float, epoch: int) -> None:
        if math.isfinite(value):
            return
        if self._checkpoints:
            # Resuming from a checkpoint would only diverge again.
            self._checkpoints.clear()
        raise Diverged(
            "the loss is {} at iteration {}, epoch {}".format(
                value, self.curve["iteration"][-1], epoch
            )
        )

    def _keep(self, epoch: int) -> None:
        """Save a checkpoint if it is due; none after the last epoch."""
        every = self.settings["checkpoint_every"]
        if not self._checkpoints or not every or epoch % every or epoch == self.settings["epochs"]:
            return
        losses = self.curve["validation_loss"]
        best = self.curve["validation_epoch"][-1:] == [epoch] and losses[-1] == min(losses)
        try:
            self._checkpoints.save(
                Checkpoint(self.model.state(), {"epoch": epoch, "curve": self.curve}), best
            )
        except OSError as error:
            # The disk may be full: training goes on without the checkpoint.
            sys.stderr.write("no checkpoint after epoch {}: {}\n".format(epoch, error))

    def _resumed(self) -> int:
        """Restore the last checkpoint; return its epoch, or 0 if there is none."""
        checkpoint = self._checkpoints.last() if self._checkpoints else None
        if checkpoint is None:
            return 0
        self.model.restore(checkpoint.arrays)
        self.curve.update(checkpoint.told["curve"])
        epoch = int(checkpoint.told["epoch"])
        self.curve["resumed_after"].append(epoch)
        return epoch

    def _wanted(self, first: int) -> Iterator[Tuple[int, np.ndarray]]:
        """Yield epoch, from 1, and indices of each batch to come."""
        training = self.split.training
        for epoch in range(first, self.settings["epochs"] + 1):
            order = training[deeppose.order(len(training), self.settings["seed"], epoch - 1)]
            for number in range(self.iterations):
                yield epoch, order[number * self.size : (number + 1) * self.size]

    def _reader(self) -> Callable[[Tuple[int, np.ndarray]], deeppose.Batch]:
        """Return the function that makes a batch from epoch and indices."""
        use_visibility = self.settings["use_visibility"]
        if not self.settings["augment"]:
            return lambda wanted: self.poses.batch(wanted[1], use_visibility)
        augmented = augmentation.Augmented(
            self.poses, self.settings["seed"], self.settings["colour_noise"]
        )
        return lambda wanted: augmented.batch(wanted[1], wanted[0] - 1, use_visibility)

    def _found(self, last: Validation) -> Dict[str, Any]:
        """Return the columns that have one value, at the end of training."""
        found: Dict[str, Any] = {
            "parameter_count": sum(
                int(np.prod(shape))
                for shape in layers.parameter_shapes(self.model.network).values()
            ),
            "training_examples": len(self.split.training),
            "validation_examples": len(self.split.validation),
            "pck_by_joint": last.pck.by_kind,
            "pcp_by_limb": last.pcp.by_kind,
            "repeatable": self.model.deterministic,
        }
        found.update(time_to(self.settings["target_loss"], self.curve))
        found.update(
            kept_poses(
                self.poses, self.split.validation, last.predicted, self.settings["kept_poses"]
            )
        )
        return found


class Pace:
    """Reports the progress of training, at most a few times a second."""

    def __init__(
        self,
        report: Callable[[Dict[str, Any]], None],
        clock: Callable[[], float],
        epochs: int,
        iterations: int,
    ) -> None:
        self._report, self._clock = report, clock
        self._epochs, self._total = epochs, epochs * iterations
        self._start = self._said = clock()
        self._first: Optional[int] = None

    def tell(self, epoch: int, iteration: int, value: float) -> None:
        """Call after each iteration; the time left is extrapolated from those of this process."""
        now = self._clock()
        self._first = iteration - 1 if self._first is None else self._first
        if now - self._said < _PROGRESS_S:
            return
        self._said = now
        left_s = (now - self._start) / (iteration - self._first) * (self._total - iteration)
        self._report(
            {"epoch": epoch, "epochs": self._epochs, "loss": value, "eta_s": round(left_s, 1)}
        )


def step(model: Any, batch: Any) -> float:
    """Run one iteration: loss, gradient, update. The device is idle when the loss is returned."""
    model.zero_grad()
    found = model.forward(batch)
    model.backward(found)
    model.step()
    return float(model.item(found))


def loss(predicted: np.ndarray, true: np.ndarray, visible: np.ndarray) -> float:
    """Return the loss of `deeppose` over all these examples at once, in float64."""
    difference = (predicted - true) * visible[:, :, None]
    return float((difference * difference).sum(dtype=np.float64) / max(float(visible.sum()), 1.0))


def time_to(target_loss: Optional[float], curve: Dict[str, List[Any]]) -> Dict[str, Any]:
    """Return the epochs and seconds until a validation loss of `target_loss` or less, else {}."""
    for number, value in enumerate(curve["validation_loss"]):
        if target_loss is not None and value <= target_loss:
            return {
                "target_epoch": curve["validation_epoch"][number],
                "target_s": curve["validation_elapsed_s"][number],
            }
    return {}


def kept_poses(
    poses: deeppose.Poses, examples: np.ndarray, predicted: np.ndarray, most: int
) -> Dict[str, List[Any]]:
    """Return predictions of some validation examples, in pixels of the prepared images.

    The examples are spread evenly.
    """
    some = np.linspace(0, len(examples) - 1, min(most, len(examples))).astype(int)
    pixels = (
        predicted[some] * deeppose.CROP + poses.corners(examples[some])[:, None, :]
    )  # (some, 14, 2)
    return {
        "pose_example": examples[some].tolist(),
        "pose_joints": pixels.reshape(-1).round(2).tolist(),
    }


def _dropout_seed(seed: int, epoch: int) -> int:
    return int(np.random.RandomState((seed, epoch, 3)).randint(2**31 - 1))


def _identity(poses: deeppose.Poses, settings: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a checkpoint must agree with to be used."""
    return {"settings": settings, "data": poses.meta()["id"]}
