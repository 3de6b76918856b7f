"""Workload train: curves that are the same everywhere, again and after a kill."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import NETWORK, SETTINGS, Told, data_set, model, trained

from sweep.catalog import workloads
from sweep.records.columns import SCHEMA
from workloads import deeppose, train
from workloads.frameworks import reference
from workloads.networks import alexnet
from workloads.runtime import layers, optimizers
from workloads.runtime.checkpoints import Checkpoint, Checkpoints
from workloads.runtime.refusals import Diverged, Unusable

CURVE = (
    "iteration",
    "loss",
    "validation_epoch",
    "validation_loss",
    "validation_pck",
    "validation_pcp",
)
ENDS = ("pck_by_joint", "pcp_by_limb", "pose_example", "pose_joints")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return data_set(tmp_path_factory.mktemp("poses"))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two trainings came to the same numbers, to the bit."""
    return all(one[name] == other[name] for name in CURVE + ENDS)


def test_the_catalog_reads_the_parameters_without_importing_the_workload() -> None:
    assert workloads()["train"].parameters == train.PARAMETERS
    assert workloads()["train"].reference == train.REFERENCE
    assert workloads()["train"].check == train.CHECK


def test_every_column_of_a_training_is_described(data: str) -> None:
    assert set(trained(data, epochs=1)) <= set(SCHEMA.names)


@pytest.mark.parametrize("optimizer", ["momentum_sgd", "adam"])
def test_the_loss_falls(data: str, optimizer: str) -> None:
    columns = trained(data, epochs=8, dropout=False, optimizer=optimizer)
    assert columns["loss"][-1] < columns["loss"][0] / 2
    assert columns["validation_loss"][-1] < columns["validation_loss"][0]


def test_there_is_an_entry_for_every_iteration_epoch_and_validation(data: str) -> None:
    columns = trained(data, epochs=5, validate_every=2)
    assert columns["iteration"] == list(range(1, 11))
    assert {len(columns[name]) for name in ("loss", "elapsed_s", "iteration_s")} == {10}
    assert {len(columns[name]) for name in ("epoch_s", "data_wait_s")} == {5}
    assert columns["validation_epoch"] == [2, 4, 5]
    assert len(columns["pose_joints"]) == 28 * len(columns["pose_example"]) == 28 * 4
    assert (columns["training_examples"], columns["validation_examples"]) == (11, 4)


def test_the_same_seed_gives_the_same_curve_and_another_one_another(data: str) -> None:
    first = trained(data, augment=True)
    assert same(first, trained(data, augment=True))
    assert first["repeatable"]
    assert not same(first, trained(data, augment=True, seed=4))
    assert not same(first, trained(data, augment=False))


def test_an_epoch_goes_through_the_order_of_its_seed_in_whole_batches(data: str) -> None:
    seen: list[np.ndarray] = []

    class Noting(deeppose.Poses):
        def batch(self, chosen: np.ndarray, use_visibility: bool = True) -> deeppose.Batch:
            seen.append(chosen)
            return super().batch(chosen, use_visibility)

    poses, settings = Noting(data), SETTINGS | {"epochs": 2, "validate_every": 9}
    split = train.divide(poses, settings)
    train.Training(model(), poses, split, settings, Told()).run()
    expected = [split.training[deeppose.order(11, 3, epoch)][:8].reshape(2, 4) for epoch in (0, 1)]
    assert np.array_equal(seen[:4], np.concatenate(expected))


def test_momentum_sgd_is_its_formula() -> None:
    value, velocity, gradients = 2.0, 0.0, (0.5, -1.0, 3.0)
    for gradient in gradients:
        velocity = 0.9 * velocity + gradient
        value -= 0.01 * velocity
    assert after_updates("momentum_sgd", gradients) == pytest.approx(value, rel=1e-6)


def test_adam_is_kingma_and_ba_s_algorithm() -> None:
    gradients = (1e-7, -2e-8, 3e-7)  # near epsilon, where its place matters
    value, first, second = 2.0, 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        value -= 0.001 * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)) ** 0.5 + 1e-8)
    assert after_updates("adam", gradients) == pytest.approx(value, rel=1e-7)


def after_updates(optimizer: str, gradients: tuple[float, ...]) -> float:
    """What a parameter of 2 becomes."""
    made = model(optimizer=optimizer, learning_rate=None)
    made.parameters["fc3.bias"][:] = 2
    for gradient in gradients:
        made._gradients.update(
            {name: np.full_like(value, gradient) for name, value in made.parameters.items()}
        )
        made.step()
    return float(made.parameters["fc3.bias"][0])


def test_an_optimizer_that_is_none_is_named() -> None:
    with pytest.raises(
        ValueError, match="there is no optimizer 'sgd': it is one of adam, momentum_sgd"
    ):
        optimizers.chosen("sgd", None)
    assert optimizers.chosen("adam", 0.5) == optimizers.Adam(learning_rate=0.5)


def test_a_loss_that_is_no_number_ends_the_trial_and_its_checkpoints(
    data: str, tmp_path: Path
) -> None:
    told = Told(tmp_path / "kept")
    message = r"the loss is (nan|inf) at iteration \d+, epoch \d"
    with pytest.raises(Diverged, match=message) as raised, np.errstate(all="ignore"):
        trained(data, told, learning_rate=1e6, epochs=9)
    assert raised.value.status == "failed"
    assert not (tmp_path / "kept").exists()


def test_too_few_examples_are_told_before_anything_is_trained(data: str) -> None:
    with pytest.raises(
        Unusable,
        match=r"poses\d+ has 11 examples to train on and a batch takes 16: lower batch_expo",
    ):
        train.divide(deeppose.Poses(data), SETTINGS | {"batch_exponent": 4})


def test_where_nothing_is_for_testing_the_same_share_is_held_out_for_every_seed(
    tmp_path: Path,
) -> None:
    poses = deeppose.Poses(data_set(tmp_path / "all", examples=20, tests=0))
    splits = [
        train.divide(poses, SETTINGS | {"seed": seed, "validation_share": 0.3}) for seed in (0, 1)
    ]
    assert np.array_equal(splits[0].validation, splits[1].validation)
    assert len(splits[0].validation) == 6
    assert sorted(np.concatenate(splits[0])) == list(range(20))
    with pytest.raises(Unusable, match="leaves no example to validate on"):
        train.divide(poses, SETTINGS | {"validation_share": 0.0})


def test_fewer_examples_may_be_trained_on(data: str) -> None:
    split = train.divide(deeppose.Poses(data), SETTINGS | {"examples": 5})
    assert [list(part) for part in split] == [[0, 1, 2, 3, 4], [11, 12, 13, 14]]


@pytest.mark.parametrize("use_visibility", [True, False])
def test_the_validation_loss_is_that_of_all_examples_in_one_batch(
    data: str, use_visibility: bool
) -> None:
    poses, settings = (
        deeppose.Poses(data),
        SETTINGS | {"batch_exponent": 1, "use_visibility": use_visibility},
    )
    split = train.Split(np.arange(8), np.arange(8, 15))  # seven: the last batch is not whole
    made = model()
    found = train.Training(made, poses, split, settings, Told()).validate()
    made.dropout = False
    whole = made.to_device(*poses.batch(split.validation, use_visibility))
    assert found.loss == pytest.approx(made.item(made.forward(whole)), rel=1e-5)


def test_time_goes_on_in_iterations_alone(data: str) -> None:
    ticks = itertools.count()
    columns = trained(data, clock=lambda: float(next(ticks)), epochs=2)
    steps = np.diff([0.0, *columns["elapsed_s"]])
    assert np.allclose(steps, columns["iteration_s"])
    assert np.allclose([steps[:2].sum(), steps[2:].sum()], columns["epoch_s"])
    assert columns["validation_elapsed_s"] == [columns["elapsed_s"][1], columns["elapsed_s"][3]]


def test_progress_is_told_with_the_time_that_is_left_twice_a_second_at_most() -> None:
    told, now = Told(), 0.0
    pace = train.Pace(told, lambda: now, epochs=2, iterations=50)
    for iteration in range(1, 101):
        now += 0.1
        pace.tell(1 + (iteration - 1) // 50, iteration, 0.25)
    assert len(told) <= 20
    assert told[0] == {"epoch": 1, "epochs": 2, "loss": 0.25, "eta_s": pytest.approx(9.5, abs=0.2)}
    assert told[-1]["eta_s"] < 0.6


def test_the_time_to_a_loss_is_that_of_the_first_validation_that_saw_it() -> None:
    curve = {"validation_loss": [3.0, 1.0, 2.0, 0.5], "validation_epoch": [10, 20, 30, 40]}
    curve["validation_elapsed_s"] = [1.0, 2.0, 3.0, 4.0]
    assert train.time_to(1.0, curve) == {"target_epoch": 20, "target_s": 2.0}
    assert train.time_to(0.1, curve) == train.time_to(None, curve) == {}


def test_kept_poses_are_in_pixels_of_the_prepared_images(data: str) -> None:
    poses, examples = deeppose.Poses(data), np.arange(11, 15)
    exact = (poses.joints[examples] - poses.corners(examples)[:, None, :]) / deeppose.CROP
    kept = train.kept_poses(poses, examples, exact, most=3)
    assert kept["pose_example"] == [11, 12, 14]
    assert np.allclose(
        np.reshape(kept["pose_joints"], (3, 14, 2)), poses.joints[[11, 12, 14]], atol=0.01
    )


# checkpoints


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adam", "augment": True, "checkpoint_every": 2}]
)
def test_a_training_that_dies_goes_on_as_if_it_had_not(
    data: str, tmp_path: Path, settings: dict[str, Any]
) -> None:
    class Dying(Told):
        def __call__(self, facts: dict[str, Any]) -> None:
            raise KeyboardInterrupt

    whole = trained(data, epochs=6, **settings)
    ticks = itertools.count()
    with pytest.raises(KeyboardInterrupt):
        trained(
            data, Dying(tmp_path), clock=lambda: next(ticks) / 50, epochs=6, **settings
        )  # in the fourth epoch
    before = Checkpoints(
        str(tmp_path), train._identity(deeppose.Poses(data), SETTINGS | settings | {"epochs": 6})
    )
    kept = before.last()
    assert kept is not None
    columns = trained(data, Told(tmp_path), epochs=6, **settings)
    assert columns["resumed_after"] == [kept.told["epoch"]]
    assert 0 < kept.told["epoch"] < 6
    assert same(whole, columns)
    assert (
        columns["elapsed_s"][: len(kept.told["curve"]["elapsed_s"])]
        == kept.told["curve"]["elapsed_s"]
    )
    assert np.all(np.diff(columns["elapsed_s"]) > 0)


def test_a_killed_process_loses_nothing_that_was_checkpointed(data: str, tmp_path: Path) -> None:
    kill_and_compare([sys.executable, "-B"], "reference", data, tmp_path)


def kill_and_compare(
    python: list[str], framework: str, data: str, folder: Path, **settings: Any
) -> None:
    """Kills a training in its own process at a random moment and holds what comes of going on against a whole one."""
    chosen = SETTINGS | {"epochs": 12} | settings
    inside = str(Path(__file__).with_name("inside_train.py"))
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def started(**extra: Any) -> subprocess.Popen[bytes]:
        command = [*python, inside, framework, data, json.dumps(chosen | extra)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)

    whole = json.loads(started().communicate()[0])
    killed = started(checkpoints=str(folder / "kept"))
    while not (folder / "kept" / "last.npz").exists() and killed.poll() is None:
        time.sleep(0.001)
    time.sleep(random.random() * sum(whole["epoch_s"][1:]) / 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    resumed = json.loads(started(checkpoints=str(folder / "kept")).communicate()[0])
    assert resumed["resumed_after"]
    assert same(whole, resumed)
    assert len(resumed["elapsed_s"]) == len(resumed["iteration"]) == len(whole["iteration"])
    assert np.all(np.diff(resumed["elapsed_s"]) > 0)


def test_the_last_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path / "kept"), {"seed": 0})
    for epoch, best in ((1, True), (2, False), (3, False)):
        kept.save(Checkpoint({"a.weight": np.full(3, epoch)}, {"epoch": epoch}), best)
    last = kept.last()
    assert last is not None
    assert (last.told, last.arrays["a.weight"].tolist()) == ({"epoch": 3}, [3, 3, 3])
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["best.npz", "last.npz"]
    assert np.load(tmp_path / "kept" / "best.npz")["a.weight"].tolist() == [1, 1, 1]


def test_a_checkpoint_that_is_damaged_or_another_trial_s_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(str(tmp_path), {"seed": 0})
    assert kept.last() is None
    kept.save(Checkpoint({"a": np.arange(1000)}, {"epoch": 1}), best=False)
    assert Checkpoints(str(tmp_path), {"seed": 1}).last() is None
    assert "is of another trial" in capsys.readouterr().err
    content = bytearray((tmp_path / "last.npz").read_bytes())
    content[300] ^= 1
    (tmp_path / "last.npz").write_bytes(content)
    assert kept.last() is None
    assert "cannot be read, begun anew" in capsys.readouterr().err
    (tmp_path / "last.npz").write_bytes(content[:500])
    assert kept.last() is None


def test_what_a_killed_writer_left_is_swept_out(tmp_path: Path) -> None:
    (tmp_path / "last.npz.partial").write_bytes(b"half")
    assert Checkpoints(str(tmp_path), {}).last() is None
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_checkpoint_does_not_end_a_training(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    columns = trained(data, Told(tmp_path / "file" / "kept"), epochs=2)
    assert len(columns["epoch_s"]) == 2
    assert "no checkpoint after epoch 1" in capsys.readouterr().err


# in the frameworks


def test_state_and_restore_carry_everything_over() -> None:
    random_state = np.random.RandomState(0)
    batch = (
        random_state.uniform(size=(2, 3, 227, 227)),
        random_state.uniform(size=(2, 14, 2)),
        np.ones((2, 14)),
    )
    one, other = model(optimizer="adam"), model(optimizer="adam", seed=9)
    one.dropout = other.dropout = False
    train.step(one, one.to_device(*batch))
    other.restore({name: value.copy() for name, value in one.state().items()})
    assert train.step(one, one.to_device(*batch)) == train.step(other, other.to_device(*batch))
    assert all(
        np.array_equal(value, other.parameters[name]) for name, value in one.parameters.items()
    )


def python_of(framework: str, version: str) -> str:
    from test_frameworks import python_of as built

    return str(built(framework, version, "default"))


def told_by(
    python: str, framework: str, data: str, *settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """The columns of trainings in an environment, one after the other in one process."""
    ended = subprocess.run(
        [python, "-I", "-B", str(Path(__file__).with_name("inside_train.py")), framework, data]
        + [json.dumps(SETTINGS | each) for each in settings],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


SLOW = [pytest.mark.slow, pytest.mark.network]  # large to download, or long to compile
IN_FRAMEWORKS = [
    pytest.param("torch", "2.13.0", {}, id="torch-2.13.0"),
    pytest.param("torch", "1.0.1", {"dialect": "variable"}, id="torch-1.0.1", marks=SLOW),
    pytest.param("chainer", "7.8.1", {}, id="chainer-7.8.1"),
    pytest.param("chainer", "1.24.0", {}, id="chainer-1.24.0"),
    pytest.param(
        "jax", "0.10.2", {}, id="jax-0.10.2", marks=[pytest.mark.exhaustive, pytest.mark.network]
    ),
]


@pytest.fixture(scope="module")
def more_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return data_set(tmp_path_factory.mktemp("more"), examples=44)


@pytest.mark.framework
@pytest.mark.parametrize(("framework", "version", "extra"), IN_FRAMEWORKS)
def test_without_dropout_every_framework_learns_the_reference_s_curve(
    framework: str, version: str, extra: dict[str, Any], more_data: str
) -> None:
    asked = [
        {"optimizer": "momentum_sgd", "backward": "explicit", "augment": True},
        {"optimizer": "adam", "use_visibility": False},
    ]
    settings = [extra | each | {"dropout": False, "epochs": 5} for each in asked]
    for each, found in zip(
        settings,
        told_by(python_of(framework, version), framework, more_data, *settings),
        strict=True,
    ):
        expected = trained(more_data, **each)
        assert len(found["loss"]) == 50
        assert expected["loss"][-1] < expected["loss"][0] / 2
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert found["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-4)
        assert found["validation_pck"] == pytest.approx(expected["validation_pck"], abs=0.02)


@pytest.mark.framework
@pytest.mark.parametrize(("framework", "version", "extra"), IN_FRAMEWORKS)
def test_the_same_seed_gives_the_same_curve_in_a_framework_with_dropout(
    framework: str, version: str, extra: dict[str, Any], data: str
) -> None:
    twice = extra | {"epochs": 4}
    first, second, other = told_by(
        python_of(framework, version), framework, data, twice, twice, twice | {"seed": 4}
    )
    assert first["repeatable"]
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize(("framework", "version", "extra"), IN_FRAMEWORKS)
def test_a_killed_process_of_a_framework_goes_on_as_if_it_had_not_been(
    framework: str, version: str, extra: dict[str, Any], data: str, tmp_path: Path
) -> None:
    python = [python_of(framework, version), "-I", "-B"]
    kill_and_compare(python, framework, data, tmp_path, optimizer="adam", **extra)


@pytest.mark.slow
def test_the_whole_workload_trains_the_real_network(data: str) -> None:
    settings = SETTINGS | {"epochs": 2, "batch_exponent": 0, "checkpoint_every": 0}
    values = train.reference_values(settings, data)
    columns = train.run(reference, settings, data, values, Told())
    assert columns["grad_check"] < 1e-4
    assert columns["parameter_count"] == sum(
        w.size for w in layers.draw_weights(alexnet.NETWORK, 0).values()
    )
    assert len(columns["loss"]) == 22
    assert NETWORK.output == alexnet.NETWORK.output
