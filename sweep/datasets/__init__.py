"""Data sets, prepared once per node as arrays that every framework reads.

A data set is a module that defines `DATASET`: a file of this package, or a plug-in named by an
entry point `sweep.datasets`.
"""

from sweep.datasets.access import archive_path, prepare
from sweep.datasets.dataset import DataSet
from sweep.datasets.registry import datasets, get
from sweep.datasets.store import Prepared

__all__ = ["DataSet", "Prepared", "archive_path", "datasets", "get", "prepare"]
