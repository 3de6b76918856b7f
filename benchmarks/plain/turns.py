"""Workload `core`, a loop by hand around its step, and others around a step by hand, in turns. `python turns.py FILE`

FILE is JSON: `house`, the folder that `workloads` lies in; `data`, a prepared data set; `framework`, `batch_exponent`,
`threads`; `rounds`, in each of which every one takes `samples` steps after one that does not count, in an order that
changes. `timer`: torch.utils.benchmark takes part. Comes out as JSON: seconds of each step, by who took it and round.
"""

import importlib
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from loop import times

WARMUP = 1


def ready(asked):
    """A model and a batch as a trial has them; what takes so many samples as the trial does, and one step of it."""
    from workloads import core, deeppose
    from workloads.runtime import layers

    framework = importlib.import_module("workloads.frameworks." + asked["framework"])
    settings = dict(core.PARAMETERS, seed=0, batch_exponent=asked["batch_exponent"], threads=asked["threads"])
    settings.update(samples=asked["samples"], warmup=WARMUP)
    framework.load(settings)
    model = framework.Model(deeppose.NETWORK, layers.draw_weights(deeppose.NETWORK, 0), settings)
    poses = deeppose.Poses(asked["data"])
    core.evaluate(model, core.gate_batch(poses, settings))
    model.dropout = settings["dropout"]
    batches = core.Batches(poses, model, settings)

    def take():
        loss = model.forward(batches.first)
        model.backward(loss)
        return loss

    return lambda: core.samples(model, batches, settings)["step_s"], (model.clear_gradients, take)


def by_timer(clear, take, asked):
    """The same of torch.utils.benchmark."""
    from torch.utils.benchmark import Timer

    timer = Timer(
        "loss = take()", setup="clear()", globals={"clear": clear, "take": take}, num_threads=asked["threads"]
    )
    return lambda: [timer.timeit(1).median for _ in range(WARMUP + asked["samples"])][WARMUP:]


def main(asked):
    """Everyone's steps, round by round, the first of which does not count."""
    sys.path.insert(0, asked["house"])
    clear, take = importlib.import_module(asked["framework"] + "_step").step(2 ** asked["batch_exponent"])
    by_sweep, same = ready(asked)
    contenders = {
        "sweep": by_sweep,
        "loop": lambda: times(*same, asked["samples"], WARMUP),
        "by hand": lambda: times(clear, take, asked["samples"], WARMUP),
    }
    if asked["timer"]:
        contenders["timer"] = by_timer(*same, asked)
    found = {who: [] for who in contenders}
    for _ in range(asked["rounds"] + 1):
        for who in random.sample(sorted(contenders), len(contenders)):
            found[who].append(contenders[who]())
    print(json.dumps({who: rounds[1:] for who, rounds in found.items()}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
