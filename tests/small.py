"""A training small enough for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from inside_train import NETWORK
from test_deeppose import prepared

from workloads import deeppose, train
from workloads.frameworks import reference
from workloads.runtime import layers, optimizers

SETTINGS = train.PARAMETERS | {
    "framework": "reference==1.26.4",
    "workload": "train",
    "backend": "default",
    "backward": "autograd",
    "device": "cpu",
    "batch_exponent": 2,
    "seed": 3,
    "epochs": 3,
    "parity_examples": 2,
    "threads": 1,
}
COLOUR = {
    "mean": [0.5, 0.5, 0.5],
    "eigenvalues": [0.2, 0.02, 0.005],
    "eigenvectors": [[0.6, 0.6, 0.53], [-0.7, 0.7, 0.1], [0.4, 0.4, -0.82]],
}


def data_set(folder: Path, examples: int = 15, tests: int = 4) -> str:
    """A prepared data set of noise, as a whole: the last examples are for testing."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared(folder, examples)
    np.save(folder / "split.npy", (np.arange(examples) >= examples - tests).astype(np.uint8))
    pairs = [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)]
    (folder / "meta.json").write_text(
        json.dumps({"id": "noise-1", "flip_pairs": pairs, "colour": COLOUR})
    )
    return str(folder)


def model(**settings: Any) -> reference.Model:
    """The small network in NumPy, with its rule."""
    chosen = SETTINGS | settings
    made = reference.Model(NETWORK, layers.draw_weights(NETWORK, chosen["seed"]), chosen)
    made.set_optimizer(optimizers.chosen(chosen["optimizer"], chosen["learning_rate"]))
    return made


class Told(list[dict[str, Any]]):
    """A report that keeps what it is told."""

    def __init__(self, checkpoints: Path | None = None) -> None:
        self.checkpoints = str(checkpoints) if checkpoints else None
        self.parity: dict[str, Any] | None = None

    def __call__(self, facts: dict[str, Any]) -> None:
        self.append(facts)


def trained(data: str, report: Any = None, clock: Any = None, **settings: Any) -> dict[str, Any]:
    """The columns of a training of the small network."""
    chosen, poses = SETTINGS | settings, deeppose.Poses(data)
    clocks = {"clock": clock} if clock else {}
    split = train.divide(poses, chosen)
    return train.Training(
        model(**settings), poses, split, chosen, Told() if report is None else report, **clocks
    ).run()
