"""Workload `core` and other steps, one step each in turns.

`python turns.py FILE` reads a JSON file: `house`, the folder of `workloads`; `data`, a prepared
data set; `framework`; `batch_exponent`; `threads`; `rounds`, in each of which every contender
takes one step, in an order that changes; and `others`. These are a hand-written `loop` around the
step of `core`, a hand-written `loop and step`, and the `timer` of torch.utils.benchmark around
the step of `core`. It prints JSON: the seconds of each step by contender.
"""

import gc
import importlib
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from loop import times

ONE = {"samples": 1, "warmup": 0}
UNCOUNTED = 3  # rounds before those that count


def ready(asked):
    """Return a model and a batch as in a trial, its sampling function, and one of its steps."""
    from workloads import core, deeppose
    from workloads.networks import alexnet
    from workloads.runtime import layers

    framework = importlib.import_module("workloads.frameworks." + asked["framework"])
    settings = dict(
        core.PARAMETERS,
        seed=0,
        batch_exponent=asked["batch_exponent"],
        threads=asked["threads"],
        **ONE,
    )
    framework.load(settings)
    model = framework.Model(alexnet.NETWORK, layers.draw_weights(alexnet.NETWORK, 0), settings)
    poses = deeppose.Poses(asked["data"])
    core.evaluate(model, core.parity_batch(poses, settings))
    model.dropout = settings["dropout"]
    batches = core.Batches(poses, model, settings)

    def take():
        loss = model.forward(batches.first)
        model.backward(loss)
        return loss

    return lambda: core.samples(model, batches, settings)["step_s"], (model.zero_grad, take)


def by_timer(clear, take, threads):
    """Return a function that times one step with torch.utils.benchmark."""
    from torch.utils.benchmark import Timer

    timer = Timer(
        "loss = take()",
        setup="clear()",
        globals={"clear": clear, "take": take},
        num_threads=threads,
    )
    return lambda: [timer.timeit(1).median]


def main(asked):
    """Time every contender's steps, round by round."""
    sys.path.insert(0, asked["house"])
    by_sweep, same = ready(asked)
    contenders = {"sweep": by_sweep}
    if "loop" in asked["others"]:
        contenders["loop"] = lambda: times(*same, **ONE)
    if "loop and step" in asked["others"]:
        own = importlib.import_module(asked["framework"] + "_step").step(
            2 ** asked["batch_exponent"]
        )
        contenders["loop and step"] = lambda: times(*own, **ONE)
    if "timer" in asked["others"]:
        contenders["timer"] = by_timer(*same, asked["threads"])
    found = {who: [] for who in contenders}
    gc.collect()
    gc.freeze()  # looking for garbage before each step would take longer than the step
    for _ in range(UNCOUNTED + asked["rounds"]):
        for who in random.sample(sorted(contenders), len(contenders)):
            found[who].extend(contenders[who]())
    print(json.dumps({who: steps[UNCOUNTED:] for who, steps in found.items()}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
