"""Run inside an environment by test_frameworks: `python inside.py FRAMEWORK DATA SETTINGS…` tells what it computes.

Settings are JSON; one line of JSON comes back for each. FRAMEWORK may be `aged-torch`: torch, made
to look like 0.1.10.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOUSE))

import numpy as np  # noqa: E402

from workloads import core, deeppose, networks  # noqa: E402
from workloads.runtime import folders, weights  # noqa: E402
from workloads.runtime.refusals import Refusal  # noqa: E402


def loaded(framework):
    """The framework's file, as the host loads it."""
    name = "workloads.frameworks." + framework
    path = HOUSE / "workloads" / "frameworks" / (framework + ".py")
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def told(framework, batch, settings):
    """All that the tests ask of one model."""
    framework.load(settings)
    tasks = len(list(Path("/proc/self/task").iterdir()))
    network = networks.get(settings["network"])
    given = weights.initial(network, settings["seed"])
    model = framework.Model(network, given, settings)
    for value in given.values():
        value.fill(np.nan)  # a model that shares memory with the file they are mapped from shows it
    found = core.evaluate(model, batch)
    placed = model.to_device(*batch)
    model.backward(model.forward(placed))
    norms = {name: core.norm({name: value}) for name, value in model.gradients().items()}
    model.backward(model.forward(placed))
    blind = batch._replace(visible=np.zeros_like(batch.visible))
    found.update(
        norms=norms,
        norm_of_two=core.norm(model.gradients()),
        blind=core.evaluate(model, blind),
        predicted=model.predict(batch.images).tolist(),
        dropless=[losses(model, placed, False) for _ in range(2)],
        dropping=list(dropping(model, placed, settings)),
        predicted_again=model.predict(batch.images).tolist(),
        dropout_left_on=model.dropout,
        shares_memory=shares_memory(placed, batch),
        facts=dict(framework.facts(), **model.facts(placed)),
        tasks=tasks,
    )
    return found


def shares_memory(placed, batch):
    """Whether the images on the device are the batch's own; None where they are not torch's."""
    if "torch" not in sys.modules:
        return None
    return bool(np.shares_memory(placed.images.data.numpy(), batch.images))


def losses(model, placed, dropout):
    """The loss with dropout or without."""
    model.dropout = dropout
    return model.item(model.forward(placed))


def dropping(model, placed, settings):
    """Two losses with dropout."""
    yield losses(model, placed, True)
    if settings.get("backend") == "ideep":
        time.sleep(1.1)  # every dropout of iDeep is seeded with the clock's whole seconds
    yield losses(model, placed, True)


def main(name, data, *settings):
    """Tells of every settings in turn."""
    if name == "aged-torch":
        sys.path.append(str(HOUSE / "tests"))
        import aged
        import torch

        aged.age(torch)
    folders.weights = str(Path(data, "weights"))
    framework = loaded(name.split("-")[-1])
    for each in map(json.loads, settings):
        try:
            found = told(framework, core.parity_batch(deeppose.Poses(data), each), each)
        except Refusal as refusal:
            found = {"refused": refusal.status, "reason": str(refusal)}
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
