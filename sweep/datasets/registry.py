"""The registry of data sets: those of this package and those of plug-ins, by name."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from importlib.metadata import EntryPoint

import sweep.datasets
from sweep import dependencies, digests
from sweep.datasets.dataset import DataSet
from sweep.errors import SweepError
from sweep.plugins import Registry, imported, located, points

_ENTRY_POINTS = "sweep.datasets"


def datasets() -> Registry[DataSet]:
    """Return every data set by name, of this package and of plug-ins."""
    built_in = _built_in()
    plugins = Registry(
        {name: functools.partial(_plug_in, point) for name, point in points(_ENTRY_POINTS).items()}
    )
    every = built_in | {dataset.name: dataset for dataset in plugins.values()}
    found = Registry({name: functools.partial(every.__getitem__, name) for name in every})
    found.broken = plugins.broken
    return found


def get(name: str) -> DataSet:
    """Return the data set called `name`; SweepError with the nearest name if there is none."""
    return datasets().named(name, "data set")


def _built_in() -> dict[str, DataSet]:
    modules = (
        importlib.import_module(f"{sweep.datasets.__name__}.{module.name}")
        for module in pkgutil.iter_modules(sweep.datasets.__path__)
    )
    return {module.DATASET.name: module.DATASET for module in modules if hasattr(module, "DATASET")}


def _plug_in(point: EntryPoint) -> DataSet:
    found = imported(point)
    # The entry point names either the module that defines DATASET or the DataSet itself.
    dataset = getattr(found, "DATASET", found)
    if not isinstance(dataset, DataSet):
        raise SweepError(
            f"entry point {_ENTRY_POINTS} {point.name} = {point.value} is no data set",
            "it must name a DataSet",
        )
    return dataclasses.replace(
        dataset, code=digests.of_files(dependencies.files_of(located(point)))
    )
