"""What the frameworks compute: the reference against finite differences, all others against the reference."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_deeppose import prepared

from sweep import process
from sweep.catalog import frameworks
from sweep.environments import EnvironmentFailed, prepare, specify
from workloads import core
from workloads.frameworks import reference
from workloads.runtime import layers, protocol
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu
from workloads.runtime.refusals import Unsupported

HOUSE = Path(__file__).resolve().parent.parent
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
    model = reference.Model(
        SMALL, weights, {"precision": "float64", "backward": backward, "seed": 3}
    )
    model.dropout = dropout
    return model


def random_weights() -> dict[str, np.ndarray]:
    random = np.random.RandomState(2)
    return {
        name: random.uniform(-0.5, 0.5, shape)
        for name, shape in layers.parameter_shapes(SMALL).items()
    }


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("backward", ["autograd", "explicit"])
def test_the_reference_gradient_is_what_finite_differences_give(
    backward: str, dropout: bool
) -> None:
    weights = random_weights()

    def loss_at(changed: dict[str, np.ndarray]) -> float:
        model = small_model(backward, changed, dropout)  # the same seed, so the same dropout
        return model.item(model.forward(model.to_device(*small_batch())))

    model = small_model(backward, weights, dropout)
    model.backward(model.forward(model.to_device(*small_batch())))
    for name, gradient in model.gradients().items():
        assert gradient.shape == weights[name].shape
        measured = np.zeros_like(gradient)
        for place in np.ndindex(*gradient.shape):
            step = np.zeros_like(gradient)
            step[place] = 1e-6
            up, down = (
                weights | {name: weights[name] + step},
                weights | {name: weights[name] - step},
            )
            measured[place] = (loss_at(up) - loss_at(down)) / 2e-6
        assert np.allclose(gradient, measured, rtol=1e-5, atol=1e-7), name


def test_the_loss_is_the_masked_squared_error_per_visible_joint() -> None:
    images, targets, visible = small_batch()
    model = small_model("explicit", random_weights(), dropout=False)
    squared = ((model.predict(images) - targets) ** 2).sum(axis=2)
    found = model.item(model.forward(model.to_device(images, targets, visible)))
    assert found == pytest.approx((squared * visible).sum() / visible.sum())
    assert model.item(model.forward(model.to_device(images, targets, 0 * visible))) == 0


def test_maxima_are_the_first_of_equal_ones_and_windows_never_stick_out() -> None:
    x = np.array(
        [[[[1.0, 1.0, 0.0, 9.0], [1.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 9.0], [9.0, 9.0, 9.0, 9.0]]]]
    )
    y, back = reference.maximum(MaxPool(3, 2), small_model("explicit", random_weights(), False), x)
    assert y.tolist() == [[[[1.0]]]]
    of_x, _ = back(np.array([[[[5.0]]]]), True)
    assert of_x[0, 0, 0, 0] == 5
    assert of_x.sum() == 5


def test_gradients_add_up_until_they_are_cleared() -> None:
    model = small_model("explicit", random_weights(), dropout=False)
    once, twice = {}, {}
    for found in (once, twice):
        model.backward(model.forward(model.to_device(*small_batch())))
        found.update({name: value.copy() for name, value in model.gradients().items()})
    assert all(np.allclose(twice[name], 2 * once[name]) for name in once)
    model.zero_grad()
    assert not model.gradients()


@pytest.mark.parametrize("settings", [{"device": "gpu"}, {"memory_format": "channels_last"}])
def test_the_reference_refuses_what_it_lacks(settings: dict[str, str]) -> None:
    with pytest.raises(Unsupported, match="reference"):
        reference.load(settings)


BASE = {"seed": 5, "batch_exponent": 1, "parity_examples": 2, "use_visibility": True, "threads": 2}
BASE |= {"network": "alexnet"}

CHANNELS_LAST = {"memory_format": "channels_last"}


def case(name: str, version: str, backend: str, *asked: dict[str, Any], mark: str = "") -> Any:
    """An environment, and what is asked in it beside both backwards."""
    marks = [getattr(pytest.mark, mark), pytest.mark.network] if mark else []
    options = [str(value) for settings in asked for value in settings.values() if value != backend]
    return pytest.param(
        name,
        version,
        backend,
        asked or ({},),
        id="-".join([name, version, backend, *options]),
        marks=marks,
    )


ENVIRONMENTS = [
    case("torch", "2.13.0", "default", {}, {"backend": "native"}),
    case("torch", "2.13.0", "default", {"backend": "script"}, CHANNELS_LAST, mark="exhaustive"),
    case("torch", "1.0.1", "default", {}, {"dialect": "variable"}, mark="slow"),
    case("chainer", "1.19.0", "default", mark="slow"),
    case("chainer", "1.24.0", "default"),
    case("chainer", "3.5.0", "default", mark="exhaustive"),
    case("chainer", "5.4.0", "default", mark="exhaustive"),
    case("chainer", "7.8.1", "default"),
    case("chainer", "7.8.1", "ideep", {"backend": "ideep"}),
    case("jax", "0.10.2", "default"),
    case("jax", "0.6.2", "default", {"backend": "eager"}, mark="exhaustive"),
    case("jax", "0.4.30", "default", CHANNELS_LAST, mark="exhaustive"),
    case("jax", "0.4.13", "default", mark="exhaustive"),
]


def python_of(framework: str, version: str, backend: str) -> Path:
    """The interpreter of an environment, built where it is not there."""
    try:
        return prepare(specify(frameworks()[framework], version, "cpu", backend)).python
    except EnvironmentFailed as failed:
        pytest.skip(f"{framework}=={version}: {failed.message}")


def ask(
    python: Path, framework: str, data: Path, settings: list[dict[str, Any]], timeout_s: float = 280
) -> list[dict[str, Any]]:
    inside = Path(__file__).with_name("inside.py")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    ended = process.run(
        [str(python), "-I", "-B", str(inside), framework, str(data), *map(json.dumps, settings)],
        env=kept | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "2"},
        timeout_s=timeout_s,
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
@pytest.mark.parametrize(("framework", "version", "backend", "asked"), ENVIRONMENTS)
def test_every_version_and_backend_computes_what_the_reference_does(
    framework: str,
    version: str,
    backend: str,
    asked: tuple[dict[str, Any], ...],
    data: Path,
    expected: dict[str, float],
) -> None:
    settings = [
        BASE | extra | {"backward": backward}
        for extra in asked
        for backward in ("autograd", "explicit")
    ]
    answers = ask(python_of(framework, version, backend), framework, data, settings)
    for each, found in zip(settings, answers, strict=True):
        computes_the_same(found, answers[0], expected, f"{framework}=={version} {each}")
    assert answers[0]["tasks"] == 1, "a thread that runs before the fork is gone after it"


def computes_the_same(
    found: dict[str, Any], first: dict[str, Any], expected: dict[str, float], which: str
) -> None:
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4), which
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4), which
    assert found["norms"] == pytest.approx(first["norms"], rel=1e-3), which
    assert found["norm_of_two"] == pytest.approx(2 * expected["gradient_norm"], rel=1e-4), which
    assert (found["blind"]["loss"], found["blind"]["gradient_norm"]) == (0, 0), which
    assert np.allclose(found["predicted"], first["predicted"], atol=1e-4), which
    assert found["predicted"] == found["predicted_again"], which
    assert found["dropless"][0] == found["dropless"][1] == pytest.approx(found["loss"]), which
    fewest = (
        2 if "'ideep'" in which else 3
    )  # whose masks come from the clock and may be the same twice
    assert fewest <= len({*found["dropping"], found["loss"]}) <= 3, which
    assert found["dropout_left_on"], which
    assert found["facts"].get("threads") in (2, None), which


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.network
def test_torch_before_0_4_is_spoken_to_in_its_own_words_alone(
    data: Path, expected: dict[str, float]
) -> None:
    """torch 1.0.1 still understands them; what came after 0.1.10 is hidden from those who ask in workloads/."""
    settings = [BASE | {"backward": backward} for backward in ("autograd", "explicit")]
    answers = ask(python_of("torch", "1.0.1", "default"), "aged-torch", data, settings)
    for found in answers:
        computes_the_same(found, answers[0], expected, "aged torch")
        assert found["facts"]["dialect"] == "variable"
        assert not found["shares_memory"]
        assert found["facts"]["framework_build"] == "torch 0.1.10_2"


OWNED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from workloads.networks import alexnet
from workloads.frameworks import torch as framework
from workloads.runtime import layers
weights = layers.draw_weights(alexnet.NETWORK, 0)
arrays = [np.ones(shape, np.float32) for shape in ((1, 3, 227, 227), (1, 14, 2), (1, 14))]
moment = np.ones((2, 2), np.float32)
shared = {}
for dialect in ("variable", "tensor"):
    model = framework.Model(alexnet.NETWORK, weights, {"dialect": dialect})
    placed = model.to_device(*arrays)
    pairs = [(placed.images, arrays[0]), (placed.targets, arrays[1]), (placed.visible, arrays[2])]
    pairs += [(model._moment(moment), moment)]
    shared[dialect] = [bool(np.shares_memory(tensor.data.numpy(), array)) for tensor, array in pairs]
print(json.dumps(shared))
"""


@pytest.mark.framework
def test_tensors_on_the_cpu_have_memory_of_their_own_before_torch_0_4() -> None:
    """Where the backward thread of torch 0.1.12 freed an array that it shared, the process crashed."""
    python = python_of("torch", "2.13.0", "default")
    told = subprocess.run(
        [python, "-c", OWNED, str(HOUSE)], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == {"variable": [False] * 4, "tensor": [True] * 4}


@pytest.mark.framework
def test_what_is_in_use_is_read_back(data: Path) -> None:
    python = python_of("torch", "2.13.0", "default")
    default, native = ask(python, "torch", data, [BASE, BASE | {"backend": "native", "threads": 1}])
    assert default["facts"] | {
        "framework_build": "",
        "onednn": True,
        "convolutions": "Mkldnn",
        "threads": 2,
    } == (default["facts"] | {"framework_build": ""})
    assert (native["facts"]["onednn"], native["facts"]["convolutions"]) == (False, "Slow2d")
    assert native["facts"]["threads"] == 1
    assert (
        "oneDNN" in default["facts"]["framework_build"]
        or "MKL-DNN" in default["facts"]["framework_build"]
    )
    [ideep] = ask(
        python_of("chainer", "7.8.1", "ideep"), "chainer", data, [BASE | {"backend": "ideep"}]
    )
    assert ideep["facts"]["arrays"].endswith("mdarray")
    assert ideep["facts"]["use_ideep"] == "auto"


@pytest.mark.framework
def test_what_a_version_lacks_is_refused_with_its_reason(data: Path) -> None:
    chainer = ask(
        python_of("chainer", "7.8.1", "default"),
        "chainer",
        data,
        [
            BASE | extra
            for extra in ({"backend": "ideep"}, {"backend": "chainerx"}, {"device": "gpu"})
        ],
    )
    assert [found["refused"] for found in chainer] == ["unsupported"] * 3
    assert ["iDeep" in chainer[0]["reason"], "ChainerX" in chainer[1]["reason"]] == [True, True]
    [torch] = ask(
        python_of("torch", "2.13.0", "default"), "torch", data, [BASE | {"device": "gpu"}]
    )
    assert "sees no CUDA device" in torch["reason"]
    [jax] = ask(python_of("jax", "0.10.2", "default"), "jax", data, [BASE | {"device": "gpu"}])
    assert (jax["refused"], "sees no such device" in jax["reason"]) == ("unsupported", True)


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.network
def test_what_torch_1_0_lacks_is_refused_with_its_reason(data: Path) -> None:
    lacking = [{"backend": "native"}, {"backend": "inductor"}, {"backend": "script"}, CHANNELS_LAST]
    found = ask(
        python_of("torch", "1.0.1", "default"), "torch", data, [BASE | extra for extra in lacking]
    )
    assert [answer["reason"] for answer in found] == [
        "torch 1.0.1 cannot switch oneDNN off",
        "torch 1.0.1 has no torch.compile",
        "torch 1.0.1 cannot script the modules of torch.nn",
        "torch 1.0.1 knows no channels_last",
    ]


@pytest.mark.framework
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backward", ["autograd", "explicit"])
def test_what_inductor_compiles_computes_what_the_reference_does(
    backward: str, data: Path, expected: dict[str, float]
) -> None:
    settings = BASE | {"backend": "inductor", "backward": backward}
    [found] = ask(python_of("torch", "2.13.0", "default"), "torch", data, [settings], timeout_s=550)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)


@pytest.mark.parametrize(
    "said",
    [
        "OutOfMemoryError CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
        "RuntimeError cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/generic/THCStorage.cu:58",
        "OutOfMemoryError out of memory to allocate 316628992 bytes (total 84490674176 bytes)",
        "OutOfMemoryError Out of memory allocating 316,628,992 bytes (allocated so far: 84,490,674,176 bytes).",
        "XlaRuntimeError RESOURCE_EXHAUSTED: Out of memory while trying to allocate 316628992 bytes.",
        "JaxRuntimeError RESOURCE_EXHAUSTED: Failed to allocate request for 302.0MiB (316628992B) on device ordinal 0",
        "CUDARuntimeError cudaErrorMemoryAllocation: CUDA_ERROR_OUT_OF_MEMORY",
        "RuntimeError cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory",
        "RuntimeError $ Torch: not enough memory: you tried to allocate 2GB. Buy new RAM! at /TH/THGeneral.c:270",
    ],
)
def test_what_frameworks_say_when_memory_runs_out_is_understood(said: str) -> None:
    assert protocol.tells_of_memory(said)


def test_the_page_of_frameworks_is_what_was_found_by_trying_them() -> None:
    """Run `python docs/frameworks_table.py` where this fails."""
    script = Path(__file__).parent.parent / "docs" / "frameworks_table.py"
    table = runpy.run_path(str(script))
    page = table["page"](table["read_rows"]())
    assert script.with_name("frameworks.md").read_text(encoding="utf-8") == page


def test_what_was_run_is_not_forgotten_for_a_look_at_the_index() -> None:
    merged = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "frameworks_table.py"))[
        "merged"
    ]
    ran = {"framework": "torch==1.0.1", "backend": "default", "tried": "step", "works": True}
    found, gone = ran | {"tried": "resolve"}, ran | {"tried": "resolve", "works": False}

    assert merged([ran], [found]) == [ran]
    assert merged([ran], [gone]) == [gone]
    assert merged([found], [ran]) == [ran]
    assert merged([ran], [ran | {"backend": "native"}]) == [ran, ran | {"backend": "native"}]
