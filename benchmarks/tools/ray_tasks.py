"""Ray tasks that each start a process, since Ray reuses its workers and their state."""

import subprocess
import sys

import ray


@ray.remote(num_cpus=1)
def one(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


count, module, python, trial = int(sys.argv[1]), *sys.argv[2:5]
ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
ray.get([one.remote([python, trial, module]) for _ in range(count)])
