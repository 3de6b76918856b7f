"""What the frameworks compute: the reference against finite differences, all others against the reference."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_deeppose import prepared

from sweep import process
from sweep.catalog import frameworks
from sweep.environments import EnvironmentFailed, prepare, specify, store
from workloads import core
from workloads.frameworks import reference
from workloads.runtime import layers
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu
from workloads.runtime.refusals import Unsupported

SMALL = Network(
    name="small",
    input=(2, 17, 16),
    output=(3, 2),
    layers=(
        Conv("conv1", 2, 4, kernel=3, stride=2, pad=1),  # (2, 17, 16) -> (4, 9, 8)
        Relu(),
        MaxPool(3, 2),  # -> (4, 4, 3)
        Conv("conv2", 4, 5, kernel=2, pad=1),  # -> (5, 5, 4)
        Relu(),
        Flatten(),
        Dense("fc3", 100, 11),
        Relu(),
        Dropout(0.5),
        Dense("fc4", 11, 6),
    ),
)


def small_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.RandomState(1)
    visible = (random.uniform(size=(4, 3)) < 0.7).astype(float)
    return random.uniform(size=(4, *SMALL.input)), random.uniform(size=(4, 3, 2)), visible


def small_model(backward: str, weights: dict[str, np.ndarray], dropout: bool) -> reference.Model:
    model = reference.Model(SMALL, weights, {"precision": "float64", "backward": backward, "seed": 3})
    model.dropout = dropout
    return model


def random_weights() -> dict[str, np.ndarray]:
    random = np.random.RandomState(2)
    return {name: random.uniform(-0.5, 0.5, shape) for name, shape in layers.parameter_shapes(SMALL).items()}


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("backward", ["autograd", "explicit"])
def test_the_reference_gradient_is_what_finite_differences_give(backward: str, dropout: bool) -> None:
    weights = random_weights()

    def loss_at(changed: dict[str, np.ndarray]) -> float:
        model = small_model(backward, changed, dropout)  # the same seed, so the same dropout
        return model.loss_value(model.forward(model.place(*small_batch())))

    model = small_model(backward, weights, dropout)
    model.backward(model.forward(model.place(*small_batch())))
    for name, gradient in model.gradients().items():
        assert gradient.shape == weights[name].shape
        measured = np.zeros_like(gradient)
        for place in np.ndindex(*gradient.shape):
            step = np.zeros_like(gradient)
            step[place] = 1e-6
            up, down = weights | {name: weights[name] + step}, weights | {name: weights[name] - step}
            measured[place] = (loss_at(up) - loss_at(down)) / 2e-6
        assert np.allclose(gradient, measured, rtol=1e-5, atol=1e-7), name


def test_the_loss_is_the_masked_squared_error_per_visible_joint() -> None:
    images, targets, visible = small_batch()
    model = small_model("explicit", random_weights(), dropout=False)
    squared = ((model.predict(images) - targets) ** 2).sum(axis=2)
    found = model.loss_value(model.forward(model.place(images, targets, visible)))
    assert found == pytest.approx((squared * visible).sum() / visible.sum())
    assert model.loss_value(model.forward(model.place(images, targets, 0 * visible))) == 0


def test_maxima_are_the_first_of_equal_ones_and_windows_never_stick_out() -> None:
    x = np.array([[[[1.0, 1.0, 0.0, 9.0], [1.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 9.0], [9.0, 9.0, 9.0, 9.0]]]])
    y, back = reference.maximum(MaxPool(3, 2), small_model("explicit", random_weights(), False), x)
    assert y.tolist() == [[[[1.0]]]]
    of_x, _ = back(np.array([[[[5.0]]]]), True)
    assert of_x[0, 0, 0, 0] == 5
    assert of_x.sum() == 5


def test_gradients_add_up_until_they_are_cleared() -> None:
    model = small_model("explicit", random_weights(), dropout=False)
    once, twice = {}, {}
    for found in (once, twice):
        model.backward(model.forward(model.place(*small_batch())))
        found.update({name: value.copy() for name, value in model.gradients().items()})
    assert all(np.allclose(twice[name], 2 * once[name]) for name in once)
    model.clear_gradients()
    assert not model.gradients()


@pytest.mark.parametrize("settings", [{"device": "gpu"}, {"memory_format": "channels_last"}])
def test_the_reference_refuses_what_it_lacks(settings: dict[str, str]) -> None:
    with pytest.raises(Unsupported, match="reference"):
        reference.load(settings)


BASE = {"seed": 5, "batch_exponent": 1, "gate_examples": 2, "use_visibility": True, "threads": 2}

CHANNELS_LAST = {"memory_format": "channels_last"}

# framework, version, backend whose environment it takes, what is asked in it beside both backwards
ENVIRONMENTS: list[tuple[str, str, str, list[dict[str, Any]]]] = [
    ("torch", "2.13.0", "default", [{}, {"backend": "native"}, {"backend": "script"}, CHANNELS_LAST]),
    ("torch", "1.0.1", "default", [{}, {"dialect": "variable"}]),
    ("chainer", "1.19.0", "default", [{}]),
    ("chainer", "1.24.0", "default", [{}]),
    ("chainer", "3.5.0", "default", [{}]),
    ("chainer", "5.4.0", "default", [{}]),
    ("chainer", "7.8.1", "default", [{}]),
    ("chainer", "7.8.1", "ideep", [{"backend": "ideep"}]),
]
LARGE = {"torch==1.0.1": "0.6 GB"}


def python_of(framework: str, version: str, backend: str) -> Path:
    """The interpreter of an environment, built where that takes little."""
    spec = specify(frameworks()[framework], version, "cpu", backend)
    name = f"{framework}=={version}"
    if name in LARGE and store.load(spec.id) is None and not os.environ.get("SWEEP_TEST_LARGE"):
        pytest.skip(f"{name} is {LARGE[name]} to download: SWEEP_TEST_LARGE=1 does it, or `sweep env build {name}`")
    try:
        return prepare(spec).python
    except EnvironmentFailed as failed:
        pytest.skip(f"{name}: {failed.message}")


def ask(python: Path, framework: str, data: Path, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    inside = Path(__file__).with_name("inside.py")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    ended = process.run(
        [str(python), "-I", "-B", str(inside), framework, str(data), *map(json.dumps, settings)],
        env=kept | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "2"},
        timeout_s=250,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("poses"))


@pytest.fixture(scope="module")
def expected(data: Path) -> dict[str, float]:
    return core.reference_values(BASE, str(data))


@pytest.mark.framework
@pytest.mark.parametrize(
    ("framework", "version", "backend", "asked"), ENVIRONMENTS, ids=["-".join(case[:3]) for case in ENVIRONMENTS]
)
def test_every_version_and_backend_computes_what_the_reference_does(
    framework: str,
    version: str,
    backend: str,
    asked: list[dict[str, Any]],
    data: Path,
    expected: dict[str, float],
) -> None:
    settings = [BASE | extra | {"backward": backward} for extra in asked for backward in ("autograd", "explicit")]
    answers = ask(python_of(framework, version, backend), framework, data, settings)
    for each, found in zip(settings, answers, strict=True):
        case = f"{framework}=={version} {each}"
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4), case
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4), case
        assert found["norms"] == pytest.approx(answers[0]["norms"], rel=1e-3), case
        assert found["norm_of_two"] == pytest.approx(2 * expected["gradient_norm"], rel=1e-4), case
        assert found["blind"] == {"loss": 0, "gradient_norm": 0}, case
        assert np.allclose(found["predicted"], answers[0]["predicted"], atol=1e-4), case
        assert found["predicted"] == found["predicted_again"], case
        assert found["dropless"][0] == found["dropless"][1] == pytest.approx(found["loss"]), case
        assert len({*found["dropping"], found["loss"]}) == 3, case
        assert found["dropout_left_on"], case
    assert answers[0]["tasks"] == 1, "a thread that runs before the fork is gone after it"


@pytest.mark.framework
def test_what_is_in_use_is_read_back(data: Path) -> None:
    python = python_of("torch", "2.13.0", "default")
    default, native = ask(python, "torch", data, [BASE, BASE | {"backend": "native", "threads": 1}])
    assert default["facts"] | {"framework_build": "", "onednn": True, "convolutions": "Mkldnn", "threads": 2} == (
        default["facts"] | {"framework_build": ""}
    )
    assert (native["facts"]["onednn"], native["facts"]["convolutions"]) == (False, "Slow2d")
    assert native["facts"]["threads"] == 1
    assert "oneDNN" in default["facts"]["framework_build"] or "MKL-DNN" in default["facts"]["framework_build"]
    [ideep] = ask(python_of("chainer", "7.8.1", "ideep"), "chainer", data, [BASE | {"backend": "ideep"}])
    assert ideep["facts"]["arrays"].endswith("mdarray")
    assert ideep["facts"]["use_ideep"] == "auto"


@pytest.mark.framework
def test_what_a_version_lacks_is_refused_with_its_reason(data: Path) -> None:
    chainer = ask(
        python_of("chainer", "7.8.1", "default"),
        "chainer",
        data,
        [BASE | extra for extra in ({"backend": "ideep"}, {"backend": "chainerx"}, {"device": "gpu"})],
    )
    assert [found["refused"] for found in chainer] == ["unsupported"] * 3
    assert ["iDeep" in chainer[0]["reason"], "ChainerX" in chainer[1]["reason"]] == [True, True]
    [torch] = ask(python_of("torch", "2.13.0", "default"), "torch", data, [BASE | {"device": "gpu"}])
    assert "sees no CUDA device" in torch["reason"]


@pytest.mark.framework
def test_what_torch_1_0_lacks_is_refused_with_its_reason(data: Path) -> None:
    lacking = [{"backend": "native"}, {"backend": "inductor"}, {"backend": "script"}, CHANNELS_LAST]
    found = ask(python_of("torch", "1.0.1", "default"), "torch", data, [BASE | extra for extra in lacking])
    assert [answer["reason"] for answer in found] == [
        "torch 1.0.1 cannot switch oneDNN off",
        "torch 1.0.1 has no torch.compile",
        "torch 1.0.1 cannot script the modules of torch.nn",
        "torch 1.0.1 knows no channels_last",
    ]


@pytest.mark.framework
@pytest.mark.slow
def test_what_inductor_compiles_computes_what_the_reference_does(data: Path, expected: dict[str, float]) -> None:
    settings = [BASE | {"backend": "inductor", "backward": backward} for backward in ("autograd", "explicit")]
    for found in ask(python_of("torch", "2.13.0", "default"), "torch", data, settings):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
