"""Time the parts of a trial of `core` before its samples, in processes forked from this one.

`parts.py JSON`: `house` is the folder of `workloads`, `data` a prepared data set, `weights` the
folder of initial weights, `count` the number of processes; `framework` and `settings` are those of
the trial. Prints JSON: the seconds of each part.
"""

import gc
import importlib
import json
import os
import sys
import time


def parts(asked, framework):
    """Seconds of each part, in the order in which a trial does them; the whole check comes last."""
    from workloads import core, deeppose, networks
    from workloads.runtime import folders, kernel, layers, weights

    kernel.fix_memory_thresholds()
    folders.weights = asked["weights"]
    settings = dict(core.PARAMETERS, **asked["settings"])
    found = {}

    def timed(name, call):
        start = time.perf_counter()
        value = call()
        found[name] = time.perf_counter() - start
        return value

    framework.load(settings)
    network = networks.get(settings["network"])
    poses = timed("opening the data", lambda: deeppose.Poses(asked["data"]))
    drawn = timed("mapping the weights", lambda: weights.initial(network, settings["seed"]))
    model = timed("building the model", lambda: framework.Model(network, drawn, settings))
    timed("reading the batch", lambda: core.Batches(poses, model, settings))
    batch = core.parity_batch(poses, settings)
    timed("looking at parity again", lambda: core.first_loss(model, batch))
    timed("once: the parity check", lambda: core.evaluate(model, batch))
    timed("once: drawing the weights", lambda: layers.draw_weights(network, settings["seed"]))
    return found


def in_a_fork(asked, framework):
    """What `parts` gives in a process of its own."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(parts(asked, framework)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        found = json.load(told)
    os.wait()
    return found


def main(asked):
    """Forks as often as asked."""
    sys.path.insert(0, asked["house"])
    framework = importlib.import_module("workloads.frameworks." + asked["framework"])
    gc.collect()
    gc.freeze()
    each = [in_a_fork(asked, framework) for _ in range(asked["count"])]
    print(json.dumps({name: [one[name] for one in each] for name in each[0]}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
