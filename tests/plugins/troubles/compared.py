"""Compared: a workload that is compared with the reference's values, and notes each time that they are computed."""

import os

PARAMETERS = {"note": "", "trouble": "none", "process": "fork", "threads": None}

REFERENCE = ("seed", "note", "trouble")


def run(framework, settings, data, reference, report):
    """Returns what it was given to be compared with."""
    return {"step_s": [0.01], "given": sorted(reference), "expected": reference["loss"]}


def reference_values(settings, data):
    """Slow enough for two to meet."""
    with open(settings["note"], "a") as file:
        file.write("computed {} {}\n".format(os.getpid(), sorted(settings)))
    if settings["trouble"] == "raises":
        raise ValueError("no such joint")
    import time

    time.sleep(0.3)
    return {"loss": 2.0 + settings["seed"], "gradient_norm": 5.0, "parameter_count": 3}
