"""One forward and backward pass of a network on one random example, checked against the reference.

`sweep env build --probe` runs it to see whether a framework works in its environment.
"""

import json
from typing import List

import numpy as np

from workloads import core, deeppose, networks
from workloads.frameworks import reference
from workloads.runtime import layers
from workloads.runtime.trial import load_file
from workloads.settings import COMMON, ON_A_NETWORK


def main(arguments: List[str]) -> None:
    """Run the step; the arguments are a framework's file and its settings as JSON.

    Raises what the framework raises, or Refusal.
    """
    path, settings = arguments[0], json.loads(arguments[1])
    batch = example()
    network = networks.get(ON_A_NETWORK["network"])
    weights = layers.draw_weights(network, 0)
    exact = reference.Model(network, weights, {"precision": "float64", "backward": "explicit"})
    expected = core.evaluate(exact, batch)
    framework = load_file(path)
    framework.load(settings)
    core.parity_check(
        framework.Model(network, weights, settings),
        batch,
        expected,
        COMMON["parity_tolerance"],
    )


def example() -> deeppose.Batch:
    """Return a batch of one random example with a fixed seed."""
    random = np.random.RandomState(0)
    images = random.random_sample((1, 3, deeppose.CROP, deeppose.CROP)).astype(np.float32)
    targets = random.random_sample((1, deeppose.JOINTS, 2)).astype(np.float32)
    return deeppose.Batch(images, targets, np.ones((1, deeppose.JOINTS), np.float32))
