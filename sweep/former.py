"""Former names: what settings and columns were called before schema version 2.

Records of then are read under the names of now. Ids are still computed from the former names, so that a run that was
begun then goes on.
"""

SCHEMA_VERSION = 2  # the first without them

COLUMNS = {"foreign_ratio": "contention_ratio"}
SETTINGS = {"gate_examples": "parity_examples", "tolerance": "parity_tolerance"}

# settings of some workloads that came later, with the value that their trials had before: it does not count in ids
ADDED = {"network": "alexnet"}
ADDED_TO = ("core", "train", "infer")

IN_IDS = {now: former for former, now in SETTINGS.items()}
