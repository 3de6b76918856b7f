"""Ray tasks, each of which starts a process: Ray's own workers are used again, and hold what ran before."""

import subprocess
import sys

import ray


@ray.remote(num_cpus=1)
def one(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


count, module, python, trial = int(sys.argv[1]), *sys.argv[2:5]
ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
ray.get([one.remote([python, trial, module]) for _ in range(count)])
