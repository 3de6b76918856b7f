"""The vocabulary of layers: shapes, and weights that are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from workloads.networks import alexnet
from workloads.runtime import layers
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu


def network(
    *words: object, input_shape: tuple[int, ...] = (2, 13, 13), output: tuple[int, ...] = (4,)
) -> Network:
    return Network("small", input_shape, output, words)


def test_the_network_is_the_alexnet_of_the_study() -> None:
    found = layers.shapes(alexnet.NETWORK)
    named = [
        pair for pair in zip(alexnet.NETWORK.layers, found, strict=True) if hasattr(pair[0], "name")
    ]
    assert {layer.name: shape for layer, shape in named} == {
        "conv1": (96, 55, 55),
        "conv2": (256, 27, 27),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (28,),
    }
    pools = [
        shape
        for layer, shape in zip(alexnet.NETWORK.layers, found, strict=True)
        if isinstance(layer, MaxPool)
    ]
    assert pools == [(96, 27, 27), (256, 13, 13), (256, 6, 6)]
    assert (
        sum(np.prod(shape) for shape in layers.parameter_shapes(alexnet.NETWORK).values())
        == 58_396_060
    )


def test_windows_that_stick_out_of_the_image_are_left_out() -> None:
    assert layers.shapes(network(MaxPool(3, 2), output=(2, 6, 6), input_shape=(2, 14, 14))) == [
        (2, 6, 6)
    ]
    assert layers.shapes(network(Conv("c", 2, 5, kernel=4, stride=3), output=(5, 4, 4))) == [
        (5, 4, 4)
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((Conv("c", 3, 4, 3),), "c takes 3 inputs and is given 2"),
        ((Flatten(), Dense("d", 100, 4)), "d takes 100 inputs and is given 338"),
        ((Flatten(), Dense("d", 338, 5)), r"ends in \(5,\), not in \(4,\)"),
        (("conv",), "'conv' is no word"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(words: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        layers.shapes(network(*words))


def test_weights_are_drawn_in_the_order_of_the_network_whatever_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = network(Conv("a", 2, 3, 3), Relu(), Flatten(), Dropout(0.5), Dense("b", 363, 4))
    whole = layers.draw_weights(small, seed=7)
    monkeypatch.setattr(layers, "_DRAWN_AT_ONCE", 10)
    parts = layers.draw_weights(small, seed=7)
    stream = np.random.RandomState(7)
    expected = (2 * stream.random_sample(54) - 1) * (3 / 18) ** 0.5
    assert list(whole) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert np.array_equal(whole["a.weight"], expected.astype(np.float32).reshape(3, 2, 3, 3))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert not whole["a.bias"].any()
    assert not whole["b.bias"].any()


def test_weights_of_the_network_are_the_same_bits_in_every_numpy() -> None:
    weights = layers.draw_weights(alexnet.NETWORK, seed=0)
    digest = hashlib.sha256()
    for value in weights.values():
        assert value.dtype == np.float32
        digest.update(value.tobytes())
    assert digest.hexdigest() == "820fe484b739c4d66a4ecaf20b9aa84a57f0175af1b2a996db3c1d8cd27cea3f"


def test_the_variance_of_weights_is_one_by_their_fan_in() -> None:
    weights = layers.draw_weights(alexnet.NETWORK, seed=1)
    for name in ("conv3.weight", "fc7.weight"):
        fan_in = np.prod(weights[name].shape[1:])
        assert weights[name].var() == pytest.approx(1 / fan_in, rel=0.01)
