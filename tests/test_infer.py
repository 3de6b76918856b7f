"""Workload infer: what is checked, what is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small import SETTINGS, Told, data_set

from sweep.catalog import workloads
from sweep.records.columns import SCHEMA
from workloads import deeppose, infer
from workloads.frameworks import reference
from workloads.runtime.refusals import NotComparable

ASKED = (
    SETTINGS
    | infer.PARAMETERS
    | {"parity_examples": 2, "samples": 3, "warmup": 1, "batch_exponent": 1}
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return data_set(tmp_path_factory.mktemp("poses"))


@pytest.fixture(scope="module")
def expected(data: str) -> dict[str, Any]:
    return infer.reference_values(ASKED, data)


def test_the_catalog_reads_the_parameters_without_importing_the_workload() -> None:
    assert workloads()["infer"].parameters == infer.PARAMETERS
    assert workloads()["infer"].reference == infer.REFERENCE


def test_the_reference_predicts_as_its_own_reference_does(
    data: str, expected: dict[str, Any]
) -> None:
    columns = infer.run(reference, ASKED, data, expected, Told())
    assert columns["prediction_check"] < 1e-5
    assert [len(columns[name]) for name in ("forward_s", "step_s", "warmup_s", "valid")] == [
        3,
        3,
        1,
        3,
    ]
    assert columns["images_per_s"] == pytest.approx(2 / np.mean(columns["forward_s"]))
    assert "backward_s" not in columns
    assert set(columns) - {"precision"} <= set(SCHEMA.names)


def test_a_passed_parity_check_is_looked_at_again_by_one_prediction(
    data: str, expected: dict[str, Any]
) -> None:
    report = Told()
    report.parity = infer.parity(reference, ASKED, data, expected)
    again = infer.run(reference, ASKED, data, expected, report)
    assert again["parity_recheck"] < 1e-6
    assert again["prediction_check"] == report.parity["prediction_check"]

    report.parity["first_prediction"][0] += 1  # another process computed something else
    whole = infer.run(reference, ASKED, data, expected, report)
    assert "parity_recheck" not in whole
    assert whole["prediction_check"] < 1e-5


def test_the_mode_is_evaluation_and_nothing_goes_back(data: str) -> None:
    class Noting(reference.Model):
        def infer(self, batch: Any) -> np.ndarray:
            seen.append((self.training, len(batch.images)))
            return super().infer(batch)

        def backward(self, loss: Any) -> None:
            raise AssertionError("nothing is to go back")

    class Framework:
        Model = Noting
        load, facts = staticmethod(reference.load), staticmethod(reference.facts)

    seen: list[tuple[bool, int]] = []
    infer.run(Framework, ASKED, data, None, Told())
    assert seen == [(False, 2)] * 4


def test_predictions_that_are_not_the_reference_s_are_not_comparable() -> None:
    told = {"predictions": [0.5, -2.0]}
    assert infer.parity_check(np.array([[0.5, -2.0001]]), told, 1e-4) == {
        "prediction_check": pytest.approx(5e-5)
    }
    for wrong in (-2.001, float("nan")):
        with pytest.raises(
            NotComparable, match=r"off the reference's by .* more than tolerance 0\.0001"
        ):
            infer.parity_check(np.array([0.5, wrong]), told, 1e-4)
    assert infer.parity_check(np.array([0.5]), None, 1e-4) == {"prediction_check": None}


def test_the_parity_check_sees_the_same_images_whatever_the_batch_size(data: str) -> None:
    poses = deeppose.Poses(data)
    small, large = (infer.parity_images(poses, ASKED | {"batch_exponent": n}) for n in (0, 5))
    assert np.array_equal(small, large)
    assert small.shape == (2, 3, 227, 227)


@pytest.mark.framework
def test_frameworks_predict_as_the_reference_does(data: str, expected: dict[str, Any]) -> None:
    from test_train import python_of, told_by

    for framework, version in (("torch", "2.13.0"), ("chainer", "7.8.1"), ("jax", "0.10.2")):
        asked = ASKED | {"reference": expected}
        [columns] = told_by(python_of(framework, version), framework, data, asked)
        assert columns["prediction_check"] < 1e-4
        assert len(columns["forward_s"]) == 3
