"""Modules: what the module of a distribution is called, looked up where an installer has recorded it.

Building an environment runs this file by itself, in the environment: it imports the standard library alone.
"""

import csv
import os
import re
import sys
from collections import Counter
from typing import Iterator

_NOT_MODULES = frozenset(["test", "tests", "docs", "examples", "benchmarks"])


def module_of(distribution: str) -> str:
    """The name of the module that a distribution installs, as `sklearn` of `scikit-learn`.

    It is the one that is called like the distribution, else the public one with the most files. Python before 3.8 has
    no `importlib.metadata`, so what an installer records is read.
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
    """The lists of files of a distribution, wherever on the path it is installed."""
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
    """For each file of a list of files the module at the top that it belongs to."""
    if not os.path.isfile(record):
        return
    with open(record, newline="", encoding="utf-8") as lines:
        for row in csv.reader(lines):
            top, slash, _ = row[0].partition("/")
            name = top if slash else top.partition(".")[0]
            is_module = bool(slash) or top.endswith((".py", ".so"))
            if is_module and name.isidentifier():
                yield name
