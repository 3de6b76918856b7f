"""Former names of settings and columns, from before schema version 2.

Records of that time are read under the new names. Ids are still computed from the former names, so
that a run that was begun then can be resumed.
"""

SCHEMA_VERSION = 2  # the first version with the new names

COLUMNS = {"foreign_ratio": "contention_ratio"}
SETTINGS = {"gate_examples": "parity_examples", "tolerance": "parity_tolerance"}

# Settings that were added to workloads later, with the value that trials had before. That value is
# left out of ids, so that earlier trials keep theirs.
ADDED = {"network": "alexnet"}
ADDED_TO = ("core", "train", "infer")

IN_IDS = {now: former for former, now in SETTINGS.items()}
