"""Workload core: what is checked, what is timed, in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small import Told
from test_deeppose import prepared

from sweep.catalog import workloads
from workloads import core, deeppose
from workloads.frameworks import reference
from workloads.networks import alexnet
from workloads.runtime import layers
from workloads.runtime.refusals import NotComparable, Unsupported

SETTINGS = core.PARAMETERS | {
    "framework": "torch==2.13.0",
    "workload": "core",
    "backend": "default",
    "backward": "autograd",
    "device": "cpu",
    "batch_exponent": 1,
    "seed": 3,
    "samples": 3,
    "warmup": 1,
    "parity_examples": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(prepared(tmp_path_factory.mktemp("poses")))


@pytest.fixture(scope="module")
def expected(data: str) -> dict[str, float]:
    return core.reference_values(SETTINGS, data)


def trial(
    module: Any, data: str, reference: dict[str, float] | None, **settings: Any
) -> dict[str, Any]:
    return core.run(module, SETTINGS | settings, data, reference, lambda event: None)


class Recorder:
    """A framework that computes next to nothing and notes what is asked of it."""

    def __init__(self, loss: float = 2.0, compiles: bool = False) -> None:
        self.loss = loss
        self.compiles = compiles
        self.asked: list[Any] = []
        self.dropout = False
        self.Model = lambda network, weights, settings: self

    def load(self, settings: dict[str, Any]) -> None:
        self.asked.append("load")

    def to_device(self, images: np.ndarray, targets: np.ndarray, visible: np.ndarray) -> Any:
        self.asked.append(("place", len(images)))
        return SimpleNamespace(images=images, targets=targets, visible=visible)

    def forward(self, batch: Any) -> float:
        self.asked.append(("forward", len(batch.images), self.dropout))
        return self.loss

    def backward(self, loss: float) -> None:
        assert loss is self.loss
        self.asked.append("backward")

    def zero_grad(self) -> None:
        self.asked.append("clear")

    def synchronize(self) -> None:
        pass

    def item(self, loss: float) -> float:
        return loss

    def gradients(self) -> dict[str, np.ndarray]:
        return {"a": np.array([[3.0, 0.0]]), "b": np.array([4.0])}

    def facts(self, batch: Any = None) -> dict[str, Any]:
        return {"framework_build": "none"} if batch is None else {"threads": 1}


def test_the_catalog_reads_the_parameters_without_importing_the_workload() -> None:
    assert workloads()["core"].parameters == core.PARAMETERS


def test_the_reference_agrees_with_its_own_reference(data: str, expected: dict[str, float]) -> None:
    columns = trial(reference, data, expected, framework="reference==1.26.4")
    assert columns["loss_check"] < 1e-5
    assert columns["grad_check"] < 1e-4
    assert [len(columns[name]) for name in ("forward_s", "backward_s", "step_s", "warmup_s")] == [
        3,
        3,
        3,
        1,
    ]
    assert columns["framework_build"].startswith("NumPy")
    assert "data_s" not in columns


def test_both_backwards_give_the_same_loss_and_gradient(
    data: str, expected: dict[str, float]
) -> None:
    autograd, explicit = (
        trial(reference, data, expected, backward=name) for name in ("autograd", "explicit")
    )
    assert autograd["loss"] == explicit["loss"]
    assert autograd["gradient_norm"] == pytest.approx(explicit["gradient_norm"], rel=1e-6)


def test_the_parity_check_sees_the_same_examples_whatever_the_batch_size(
    data: str, expected: dict[str, float]
) -> None:
    assert core.reference_values(SETTINGS | {"batch_exponent": 2}, data) == expected
    assert core.reference_values(SETTINGS | {"seed": 4}, data) != expected


def test_the_reference_is_precise_beyond_float32(data: str, expected: dict[str, float]) -> None:
    poses = deeppose.Poses(data)
    weights = layers.draw_weights(alexnet.NETWORK, SETTINGS["seed"])
    model = reference.Model(alexnet.NETWORK, weights, {"precision": "float64"})
    batch = core.parity_batch(poses, SETTINGS)
    squared = (model.predict(batch.images) - batch.targets) ** 2 * batch.visible[:, :, None]
    assert expected["loss"] == pytest.approx(squared.sum() / batch.visible.sum(), rel=1e-12)


def test_a_loss_that_is_not_the_reference_s_is_not_comparable() -> None:
    for loss in (2.001, float("nan"), float("inf")):
        with pytest.raises(
            NotComparable, match=r"loss is .*, the reference's 2: .* more than tolerance 0\.0001"
        ):
            core.parity_check(Recorder(loss), batch(), {"loss": 2.0, "gradient_norm": 5.0}, 1e-4)


def test_a_gradient_that_is_not_the_reference_s_is_not_comparable() -> None:
    with pytest.raises(NotComparable, match="gradient norm is 5, the reference's 5"):
        core.parity_check(Recorder(), batch(), {"loss": 2.0, "gradient_norm": 5.001}, 1e-4)
    found = core.parity_check(Recorder(), batch(), {"loss": 2.0, "gradient_norm": 5.001}, 1e-3)
    assert (found["loss"], found["gradient_norm"], found["parameter_count"]) == (2, 5, 3)
    assert (found["loss_check"], found["grad_check"]) == (0, pytest.approx(2e-4, rel=1e-3))


PASSED = {"loss": 7.0, "loss_check": 1e-7, "grad_check": 2e-7, "first_loss": 2.0}
REFERENCE = {"loss": 2.0, "gradient_norm": 5.0}
TOLERANCE = {"parity_tolerance": 1e-4}


def test_a_passed_parity_check_is_looked_at_again_by_the_loss_of_one_example() -> None:
    framework = Recorder(2.0001)
    found = core.parity_again(framework, batch(), REFERENCE, PASSED, TOLERANCE)

    assert found.pop("parity_recheck") == pytest.approx(5e-5)
    assert found == {"loss": 7.0, "loss_check": 1e-7, "grad_check": 2e-7}
    assert framework.asked == [("place", 1), ("forward", 1, False)]


@pytest.mark.parametrize("loss", [2.001, float("nan")])
def test_a_process_that_computes_another_loss_makes_the_whole_check(loss: float) -> None:
    with pytest.raises(NotComparable, match="the reference's 2"):
        core.parity_again(Recorder(loss), batch(), REFERENCE, PASSED, TOLERANCE)
    found = core.parity_again(
        Recorder(loss), batch(), None, PASSED, TOLERANCE
    )  # what it found itself, not what another process did
    assert (found["loss_check"], "parity_recheck" in found) == (None, False)


def test_parity_gives_what_a_trial_of_the_same_settings_looks_at_again(
    data: str, expected: dict[str, float]
) -> None:
    needed = {k: v for k, v in SETTINGS.items() if k not in core.PARITY_IGNORES}
    proof = core.parity(reference, needed, data, expected)
    report = Told()
    report.parity = proof
    again = core.run(reference, SETTINGS | {"samples": 1}, data, expected, report)

    assert again["parity_recheck"] < 1e-6
    assert again["grad_check"] == proof["grad_check"] < 1e-4


def test_without_reference_values_nothing_is_claimed() -> None:
    found = core.parity_check(Recorder(), batch(), None, 1e-4)
    assert (found["loss"], found["loss_check"], found["grad_check"]) == (2, None, None)


def batch() -> deeppose.Batch:
    zeros = np.zeros((2, 14, 2), np.float32)
    return deeppose.Batch(zeros, zeros, zeros[:, :, 0])


def test_the_parity_check_is_passed_without_dropout_and_samples_are_taken_with_it(
    data: str,
) -> None:
    framework = Recorder()
    trial(framework, data, {"loss": 2.0, "gradient_norm": 5.0})
    forwards = [asked for asked in framework.asked if asked[0] == "forward"]
    assert forwards == [("forward", 2, False)] + [("forward", 2, True)] * 4
    assert framework.asked[0] == "load"
    framework = Recorder()
    trial(framework, data, {"loss": 2.0, "gradient_norm": 5.0}, dropout=False)
    assert ("forward", 2, True) not in framework.asked


def test_gradients_are_cleared_before_every_forward(data: str) -> None:
    framework = Recorder()
    trial(framework, data, {"loss": 2.0, "gradient_norm": 5.0})
    steps = [asked if isinstance(asked, str) else asked[0] for asked in framework.asked]
    sampled = steps[len(steps) - 12 :]
    assert sampled == ["clear", "forward", "backward"] * 4


def test_one_batch_stays_on_the_device_unless_data_is_included(data: str) -> None:
    framework = Recorder()
    columns = trial(framework, data, None)
    assert framework.asked.count(("place", 2)) == 2  # the trial's and the parity check's
    framework = Recorder()
    columns = trial(framework, data, None, include_data=True)
    assert framework.asked.count(("place", 2)) == 2 + 4
    assert len(columns["data_s"]) == 3
    for data_s, forward_s, backward_s, step_s in zip(
        columns["data_s"],
        columns["forward_s"],
        columns["backward_s"],
        columns["step_s"],
        strict=True,
    ):
        assert data_s > 0
        assert forward_s > 0
        assert data_s + forward_s + backward_s <= step_s + 1e-9


def test_batches_read_anew_are_those_of_the_seed_s_order(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    taken = deeppose.Poses.batch

    def noting(self: Any, chosen: np.ndarray, use_visibility: bool = True) -> Any:
        read.append(chosen.tolist())
        return taken(self, chosen, use_visibility)

    monkeypatch.setattr(deeppose.Poses, "batch", noting)
    trial(Recorder(), data, None, include_data=True)
    assert read[-4:] == [deeppose.batch_indices(5, 2, 3, number).tolist() for number in range(4)]


def test_a_batch_may_be_larger_than_the_data_set(data: str, expected: dict[str, float]) -> None:
    framework = Recorder()
    trial(framework, data, {"loss": 2.0, "gradient_norm": 5.0}, batch_exponent=4)
    assert ("forward", 16, True) in framework.asked


def test_the_first_step_of_a_backend_that_compiles_is_kept_apart(data: str) -> None:
    assert "compile_s" not in trial(Recorder(), data, None)
    framework = Recorder(compiles=True)
    assert trial(framework, data, None)["compile_s"] > 0
    assert next(asked for asked in framework.asked if asked[0] == "forward") == ("forward", 2, True)


def test_without_samples_only_the_parity_check_is_passed(
    data: str, expected: dict[str, float]
) -> None:
    columns = trial(reference, data, expected, samples=0, warmup=0)
    assert {name: columns[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert columns["step_s"] == []


def test_what_the_framework_refuses_is_refused_before_anything_is_timed(data: str) -> None:
    with pytest.raises(Unsupported):
        trial(reference, data, None, device="gpu")


def test_norms_are_summed_in_float64() -> None:
    assert core.norm({"a": np.full(3_000_000, 0.1, np.float32)}) == pytest.approx(
        0.1 * 3e6**0.5, rel=1e-7
    )


@pytest.mark.parametrize(
    ("found", "wanted", "off"), [(0, 0, 0), (1, 0, float("inf")), (1.5, 1, 0.5), (-1, 1, 2)]
)
def test_differences_are_relative_to_what_is_expected(
    found: float, wanted: float, off: float
) -> None:
    assert core.relative_difference(found, wanted) == off
