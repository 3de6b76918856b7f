"""Settings that workloads share: names, defaults and choices, each written once.

A workload adds its own to them: `PARAMETERS = {**COMMON, "epochs": 10}`.
"""

from typing import Any, Dict

# of every workload, a step of a user's own among them
COMPUTED: Dict[str, Any] = {
    # Threads of the framework and its BLAS; None: as many as the trial has cores.
    "threads": None,
    "process": "fork",  # "spawn": a new interpreter for every trial
    "tf32": False,
    "cudnn_benchmark": False,
    "deterministic": False,
}
COMPUTED_CHOICES = {"process": ("fork", "spawn")}

# of workloads that compute with a network of ours on a data set
COMMON: Dict[str, Any] = {
    **COMPUTED,
    "data": "synthetic",
    "data_path": None,
    "parity_examples": 8,  # that the parity check looks at
    "parity_tolerance": 1e-4,  # relative, of the parity check
    "memory_format": "contiguous",
}
COMMON_CHOICES = {**COMPUTED_CHOICES, "memory_format": ("contiguous", "channels_last")}

# of workloads that time one thing again and again
SAMPLED = {
    "samples": 100,
    "warmup": 10,  # samples before those, kept apart
}
SAMPLED_LEAST = {"samples": 1, "warmup": 0}
SAMPLED_STEPS = ("samples", "warmup")  # their sum is how many batches a trial computes

# of workloads that differentiate the loss
DIFFERENTIATED = {
    "use_visibility": True,
    "dropout": True,
}

# of workloads that compute a network
ON_A_NETWORK = {
    "network": "alexnet",  # a file of `workloads/networks`, or of a plug-in
}
