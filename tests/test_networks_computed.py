"""What layers compute, beyond those of AlexNet: the reference against finite differences, others against the reference."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_deeppose import prepared
from test_frameworks import ENVIRONMENTS, python_of
from tiny_networks import EVERY, NORMALISED, TRANSFORMER, batch, told, weights

from sweep import process
from workloads import core, deeppose, networks
from workloads.frameworks import reference
from workloads.runtime import layers
from workloads.runtime.layers import Network
from workloads.runtime.refusals import NotComparable, Unsupported

EXACT = {"precision": "float64", "seed": 3}
BY_NAME = {network.name: network for network in EVERY}
BATCH = deeppose.Batch(*batch(NORMALISED, 1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BY_NAME)
def test_the_gradient_of_every_layer_is_what_finite_differences_give(
    name: str, training: bool
) -> None:
    """At some places of each weight; dropout drops the same in every model of one seed."""
    network = BY_NAME[name]
    given = {name: value.astype(float) for name, value in weights(network).items()}

    def model_and_loss(changed: dict[str, np.ndarray]) -> tuple[reference.Model, Any]:
        model = reference.Model(network, changed, EXACT)
        model.training = training
        return model, model.forward(model.to_device(*batch(network, 1)))

    model, loss = model_and_loss(given)
    model.backward(loss)
    random = np.random.RandomState(0)
    for weight, gradient in model.gradients().items():
        assert gradient.shape == given[weight].shape
        for place in random.permutation(gradient.size)[:4]:
            step = np.zeros(gradient.size)
            step[place] = 1e-6
            step = step.reshape(gradient.shape)
            up, down = (
                model_and_loss(given | {weight: given[weight] + sign * step})[1].value
                for sign in (1, -1)
            )
            measured = (up - down) / 2e-6
            assert gradient.reshape(-1)[place] == pytest.approx(measured, rel=1e-5, abs=1e-7)


def test_every_layer_of_the_vocabulary_is_in_a_tiny_network() -> None:
    found = {type(layer) for network in EVERY for layer, _ in layers.walk(network)}
    assert found == {*reference.WORDS}


def test_running_statistics_follow_the_batches_in_training_alone() -> None:
    model = reference.Model(NORMALISED, weights(NORMALISED), EXACT)
    images, *others = batch(NORMALISED, 1)
    convolved, _ = reference.convolution(NORMALISED.layers[0], model, images.astype(float))
    model.predict(images)
    assert not model.statistics()["bn1.running_mean"].any()
    model.forward(model.to_device(images, *others))
    found = model.statistics()
    assert np.allclose(found["bn1.running_mean"], 0.1 * convolved.mean(axis=(0, 2, 3)))
    unbiased = convolved.transpose(1, 0, 2, 3).reshape(4, -1).var(axis=1, ddof=1)
    assert np.allclose(found["bn1.running_var"], 0.9 + 0.1 * unbiased)


def test_the_mode_is_the_model_s_and_dropout_a_part_of_it() -> None:
    def losses(training: bool, dropout: bool) -> list[float]:
        model = reference.Model(NORMALISED, weights(NORMALISED), EXACT)
        model.training, model.dropout = training, dropout
        placed = model.to_device(*BATCH)
        return [model.item(model.forward(placed)) for _ in range(2)]

    dropping, without = losses(True, True), losses(True, False)
    evaluated = losses(False, True)
    assert dropping[0] != dropping[1]
    assert without[0] == without[1] != evaluated[0]
    assert evaluated == losses(False, False)


def test_the_parity_check_is_of_running_statistics_too(monkeypatch: pytest.MonkeyPatch) -> None:
    right = core.evaluate(reference.Model(NORMALISED, weights(NORMALISED), EXACT), BATCH)
    model = reference.Model(NORMALISED, weights(NORMALISED), {})
    passed = core.parity_check(model, BATCH, right, 1e-4)
    assert passed["statistics_check"] < 1e-6
    initial = layers.initial_statistics(NORMALISED)
    assert all(np.array_equal(initial[name], found) for name, found in model.statistics().items())
    monkeypatch.setattr(layers, "MOMENTUM", 0.2)
    with pytest.raises(NotComparable, match="statistics norm is"):
        core.parity_check(model, BATCH, right, 1e-4)


def test_a_framework_without_running_statistics_is_not_comparable_where_there_are_some() -> None:
    right = core.evaluate(reference.Model(NORMALISED, weights(NORMALISED), EXACT), BATCH)
    model = reference.Model(TRANSFORMER, weights(TRANSFORMER), EXACT)
    other = deeppose.Batch(*batch(TRANSFORMER, 1))
    right.update(core.evaluate(model, other))
    with pytest.raises(NotComparable, match="statistics norm is nan"):
        core.parity_check(model, other, right, 1e-4)


def test_a_layer_that_a_framework_has_no_word_for_is_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(reference.WORDS, layers.AvgPool)
    model = reference.Model(NORMALISED, weights(NORMALISED), EXACT)
    with pytest.raises(Unsupported, match="no word for layer AvgPool"):
        model.predict(batch(NORMALISED, 1)[0])


@pytest.fixture(scope="module")
def exact() -> dict[str, Any]:
    """What the reference says of each tiny network, in float64."""
    return {name: told(reference, network, EXACT) for name, network in BY_NAME.items()}


@pytest.mark.framework
@pytest.mark.parametrize(("framework", "version", "backend", "asked"), ENVIRONMENTS)
def test_every_version_and_backend_computes_every_layer_as_the_reference_does(
    framework: str,
    version: str,
    backend: str,
    asked: tuple[dict[str, Any], ...],
    exact: dict[str, Any],
) -> None:
    settings = [json.dumps(each | {"threads": 1}) for each in asked]
    agree(python_of(framework, version, backend), framework, settings, exact)


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.network
def test_torch_before_0_4_computes_the_layers_of_images(exact: dict[str, Any]) -> None:
    """torch 1.0.1, from which what came after 0.1.10 is hidden."""
    settings = [json.dumps({"backward": backward}) for backward in ("autograd", "explicit")]
    agree(python_of("torch", "1.0.1", "default"), "aged-torch", settings, exact)


def agree(python: Path, framework: str, settings: list[str], exact: dict[str, Any]) -> None:
    """An environment's answers are the reference's."""
    inside = Path(__file__).with_name("inside_networks.py")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python), "-I", "-B", str(inside), framework, *settings]
    ended = process.run(command, env=kept | threads, timeout_s=250)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert len(ended.stdout.splitlines()) == len(settings)
    for line in ended.stdout.splitlines():
        for network, found in json.loads(line).items():
            assert found["training"] is True
            assert found["restored"] == found["updated"]
            assert_close(found, exact[network], network)


def assert_close(found: dict[str, Any], exact: dict[str, Any], network: str) -> None:
    """Every number, relative to the largest of its kind."""
    one, other = dict(_arrays(found)), dict(_arrays(exact))
    assert one.keys() == other.keys()
    largest: dict[str, float] = {}
    for (kind, _), value in other.items():
        largest[kind] = max(largest.get(kind, 0.0), float(np.abs(value).max()))
    for key, value in other.items():
        assert np.abs(one[key] - value).max() <= 1e-4 * largest[key[0]], (network, key)


def _arrays(answer: dict[str, Any]) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    for kind, value in answer.items():
        parts = value if isinstance(value, dict) else {"": value}
        for name, numbers in parts.items():
            yield (kind, name), np.array(numbers, float)


PARAMETERS = {  # as torchvision and timm have them, but for what stands after the last pooling
    "vgg16": 14_714_688 + (25_088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 28,
    "resnet18": 11_176_512 + (512 + 1) * 28,
    "resnet50": 23_508_032 + (2048 + 1) * 28,
    "vit": 5_524_416 - 2 * 192 + (192 + 1) * 28,  # without the class token and its position
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_the_parameters_of_its_paper(name: str) -> None:
    shapes = layers.parameter_shapes(networks.get(name))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == PARAMETERS[name]


CHECKED = """
import json, sys
sys.path[:0] = [{house!r}, {tests!r}]
from inside import loaded
from workloads import core, deeppose, networks
from workloads.runtime import layers
framework, data, *names = sys.argv[1:]
framework = loaded(framework)
for name in names:
    settings = {{"seed": 5, "parity_examples": 8, "use_visibility": True, "network": name}}
    network = networks.get(name)
    framework.load(settings)
    model = framework.Model(network, layers.draw_weights(network, 5), settings)
    print(json.dumps(core.evaluate(model, core.parity_batch(deeppose.Poses(data), settings))))
"""


@pytest.mark.framework
@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("framework", "version", "backend", "asked"), [
    case for case in ENVIRONMENTS if case.values[2] == "default" and "exhaustive" not in str(case.marks)
])  # fmt: skip
def test_every_network_passes_the_parity_check(
    framework: str, version: str, backend: str, asked: Any, tmp_path: Path
) -> None:
    data = prepared(tmp_path, 8)
    here = Path(__file__).resolve().parent
    script = CHECKED.format(house=str(here.parent), tests=str(here))
    names = ["mlp", "vgg16", "resnet18", "resnet50", "vit"]
    python = str(python_of(framework, version, backend))
    ended = process.run([python, "-c", script, framework, str(data), *names], timeout_s=3000)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for name, line in zip(names, ended.stdout.splitlines(), strict=True):
        expected = _reference(name, data)
        found = json.loads(line)
        for value, wanted in expected.items():
            assert found[value] == pytest.approx(wanted, rel=1e-4), (name, value)


_KNOWN: dict[str, dict[str, float]] = {}


def _reference(name: str, data: Path) -> dict[str, float]:
    if name not in _KNOWN:  # the data are the same in every test
        settings = {"seed": 5, "parity_examples": 8, "use_visibility": True, "network": name}
        _KNOWN[name] = core.reference_values(settings, str(data))
    return _KNOWN[name]


def network_of(*several: Any, shape: tuple[int, ...] = (4, 6, 6)) -> Network:
    return Network("wrong", shape, (4,), several)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([layers.Residual((layers.Conv("c", 4, 5, 1),))], r"adds \(5, 6, 6\) and \(4, 6, 6\)"),
        ([layers.BatchNorm("b", 3)], "b takes 3 inputs and is given 4"),
        ([layers.Tokens("t", 35, 4)], "t takes 35 inputs and is given 36"),
        ([layers.Tokens("t", 36, 4), layers.LayerNorm("n", 36)], "n takes 36 .* given 4"),
        ([layers.Tokens("t", 36, 4), layers.Attention("a", 4, 3)], "a has 3 heads"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(words: list[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        layers.shapes(network_of(*words))


def test_weights_of_normalisations_begin_as_the_network_says() -> None:
    drawn = layers.draw_weights(networks.get("resnet18"), 0)
    assert {*drawn["bn1.weight"].tolist()} == {1.0}
    assert {*drawn["bn2_1b.weight"].tolist()} == {0.25}
    assert {*layers.draw_weights(TRANSFORMER, 0)["norm1.weight"].tolist()} == {1.0}
