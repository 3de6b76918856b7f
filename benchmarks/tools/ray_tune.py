"""Ray Tune with a grid search over seeds."""

import subprocess
import sys
import tempfile

import ray
from ray import tune

count, module, python, trial = int(sys.argv[1]), *sys.argv[2:5]


def one(settings):
    subprocess.run([python, trial, module], check=True, stdout=subprocess.DEVNULL)
    return {"seed": settings["seed"]}


ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
with tempfile.TemporaryDirectory() as folder:
    tuner = tune.Tuner(
        tune.with_resources(one, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(count)))},
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    assert len(tuner.fit()) == count
