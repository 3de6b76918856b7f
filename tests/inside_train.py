"""Run inside an environment: `python inside_train.py FRAMEWORK DATA SETTINGS…` trains and tells the columns.

Settings are JSON; with `reference` the workload is infer, else a small network is trained. One line
of JSON comes back for each.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from inside import loaded

from workloads import deeppose, infer, train
from workloads.runtime import layers, optimizers
from workloads.runtime.layers import Conv, Dense, Dropout, Flatten, MaxPool, Network, Relu

NETWORK = Network(
    name="small",
    input=(3, 227, 227),
    output=(14, 2),
    layers=(
        Conv("conv1", 3, 4, kernel=11, stride=8),  # -> (4, 28, 28)
        Relu(),
        MaxPool(3, 3),  # -> (4, 9, 9)
        Flatten(),
        Dense("fc2", 324, 64),
        Relu(),
        Dropout(0.5),
        Dense("fc3", 64, 28),
    ),
)


class Report:
    """Where a workload says how far it is, and the folder of its checkpoints."""

    def __init__(self, checkpoints):
        self.checkpoints = checkpoints

    def __call__(self, facts):
        """Nobody listens."""


def trained(framework, data, settings):
    """The columns of one trial."""
    if "reference" in settings:
        return infer.run(framework, settings, data, settings.pop("reference"), Report(None))
    framework.load(settings)
    model = framework.Model(NETWORK, layers.draw_weights(NETWORK, settings["seed"]), settings)
    model.set_optimizer(optimizers.chosen(settings["optimizer"], settings["learning_rate"]))
    poses = deeppose.Poses(data)
    report = Report(settings.pop("checkpoints", None))
    return train.Training(model, poses, train.divide(poses, settings), settings, report).run()


def main(name, data, *settings):
    """Tells of every settings in turn."""
    framework = loaded(name)
    for each in map(json.loads, settings):
        print(json.dumps(trained(framework, data, each)))
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
