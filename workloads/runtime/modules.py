"""Modules: the name of the module that a distribution installs, from the installer's records.

Building an environment runs this file by itself, in the environment: it imports the standard
library alone.
"""

import csv
import os
import re
import sys
from collections import Counter
from typing import Iterator

_NOT_MODULES = frozenset(["test", "tests", "docs", "examples", "benchmarks"])


def module_of(distribution: str) -> str:
    """Return the module that a distribution installs, such as `sklearn` of `scikit-learn`.

    It is the one called like the distribution, else the public one with the most files. Python
    before 3.8 has no `importlib.metadata`, so the installer's records are read.
    """
    own_name = re.sub(r"[-.]", "_", distribution)
    found = Counter()  # type: Counter[str]
    for record in _records(distribution):
        found.update(_top_names(record))
    alike = [name for name in found if name.lower() == own_name.lower()]
    public = {
        name: count
        for name, count in found.items()
        if not name.startswith("_") and name not in _NOT_MODULES
    }
    if alike or not public:
        return alike[0] if alike else own_name
    return max(sorted(public), key=public.__getitem__)


def _records(distribution: str) -> Iterator[str]:
    """Yield the file lists of a distribution, wherever on the path it is installed."""
    for folder in filter(os.path.isdir, sys.path):
        for entry in sorted(os.listdir(folder)):
            name, _, kind = entry.rpartition(".")
            if kind == "dist-info" and _canonical(name.partition("-")[0]) == _canonical(
                distribution
            ):
                yield os.path.join(folder, entry, "RECORD")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _top_names(record: str) -> Iterator[str]:
    """Yield, for each file of a list, the top-level module that it belongs to."""
    if not os.path.isfile(record):
        return
    with open(record, newline="", encoding="utf-8") as lines:
        for row in csv.reader(lines):
            top, slash, _ = row[0].partition("/")
            name = top if slash else top.partition(".")[0]
            is_module = bool(slash) or top.endswith((".py", ".so"))
            if is_module and name.isidentifier():
                yield name
