"""Learning: workload train on a network that is small enough for tests, in NumPy."""

from workloads import deeppose, train
from workloads.frameworks import reference as numpy
from workloads.runtime import layers, optimizers
from workloads.runtime.layers import Conv, Dense, Flatten, MaxPool, Network

PARAMETERS = {"poses": "", "epochs": 12, "diverges": False, "process": "fork", "threads": None}

NETWORK = Network(
    name="small",
    input=(3, 227, 227),
    output=(14, 2),
    layers=(
        Conv("conv1", 3, 4, kernel=11, stride=8),
        MaxPool(3, 3),
        Flatten(),
        Dense("fc2", 324, 28),
    ),
)


def run(framework, settings, data, reference, report):
    """The columns of a training on the prepared data set in folder `poses`."""
    chosen = dict(train.PARAMETERS, seed=0, batch_exponent=1, epochs=settings["epochs"])
    model = numpy.Model(NETWORK, layers.draw_weights(NETWORK, chosen["seed"]), {})
    model.set_optimizer(optimizers.MomentumSGD(1e6 if settings["diverges"] else 1e-4))
    poses = deeppose.Poses(settings["poses"])
    return train.Training(model, poses, train.divide(poses, chosen), chosen, report).run()
