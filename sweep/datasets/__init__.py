"""Data sets: prepared once per node as arrays that every framework reads alike.

A data set is a file of this package, or a plug-in named by an entry point `sweep.datasets`, that defines `DATASET`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from sweep import dependencies, digests, locks
from sweep.datasets import preparation, store
from sweep.datasets.dataset import DataSet, Source
from sweep.datasets.files import open_files
from sweep.datasets.preparation import Progress
from sweep.datasets.store import Prepared
from sweep.errors import SweepError, nearest
from sweep.plugins import Found, imported, located, nothing_written, points

__all__ = ["DataSet", "Prepared", "datasets", "known", "prepare"]


def datasets() -> Found[DataSet]:
    """Every data set by name, of this package and of plug-ins."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    )
    own = {module.DATASET.name: module.DATASET for module in modules if hasattr(module, "DATASET")}
    others = Found(
        {
            name: functools.partial(_plug_in, point)
            for name, point in points("sweep.datasets").items()
        }
    )
    every = own | {dataset.name: dataset for dataset in others.values()}
    found = Found({name: functools.partial(every.__getitem__, name) for name in every})
    found.broken = others.broken
    return found


def known(name: str) -> DataSet:
    """The data set called `name`; SweepError with the nearest name where there is none."""
    every = datasets()
    if name not in every:
        raise SweepError(f"there is no data set {name!r}", nearest(name, every))
    return every[name]


def prepare(
    name: str,
    path: str | Path | None = None,
    *,
    at_least: int = 1,
    progress: Progress | None = None,
    say: locks.Say = locks.silent,
    **options: Any,
) -> Prepared:
    """The prepared arrays of a data set, made now if need be.

    `path` is the folder or zip archive with the original files; without it `SWEEP_<NAME>_DIR` counts, then the newest
    that was prepared under this name, then an archive fetched before. `say` hears what is waited for. SweepError where
    none of them is, where a file is bad, and where fewer than `at_least` examples are left.
    """
    dataset = known(name)
    chosen = _resolve(dataset, options)
    with nothing_written():  # a plug-in may import more of its package only now
        prepared = _prepare(dataset, _origin(dataset, path), chosen, progress or _silent, say)
    if prepared.examples < at_least:
        raise SweepError(
            f"data set {name} in {prepared.folder} holds {prepared.examples} examples and {at_least} are needed",
            "use a larger data set"
            + (" (option examples)" if "examples" in dataset.options else " or a smaller batch"),
        )
    return prepared


def fetched(dataset: DataSet) -> Path | None:
    """Where `sweep data fetch` puts the data set's archive; None for one that has no archive."""
    return store.root() / "archives" / dataset.archive.file if dataset.archive else None


def _prepare(
    dataset: DataSet,
    origin: Path | None,
    options: Mapping[str, Any],
    progress: Progress,
    say: locks.Say,
) -> Prepared:
    if origin is None and not dataset.generated:
        return _newest(dataset, options)

    @functools.cache
    def source() -> Source:
        return dataset.read(**options) if dataset.generated else dataset.read(origin, **options)

    def identity() -> str:
        return store.identify(dataset, options, source())

    id = (  # noqa: A001
        store.remembered(_fingerprint(dataset, origin, options), identity) if origin else identity()
    )
    if found := store.find(id):
        return found
    facts = {
        "name": dataset.name,
        "version": dataset.version,
        "code": dataset.code,
        "source": str(origin or "generated"),
    }
    facts |= {"options": dict(options)}
    return store.make(id, facts, source(), progress, say)


def _fingerprint(dataset: DataSet, origin: Path, options: Mapping[str, Any]) -> str:
    return repr(
        [
            preparation.VERSION,
            *dataset.made_by,
            dataset.name,
            sorted(options.items()),
            str(origin),
            open_files(origin).fingerprint(),
        ]
    )


def _origin(dataset: DataSet, path: str | Path | None) -> Path | None:
    """The original files, absolute; None where only what was prepared before is left to use."""
    if dataset.generated:
        if path is not None:
            raise SweepError(
                f"data set {dataset.name} is generated and reads no files, but got {path}",
                "leave the path out",
            )
        return None
    chosen = path or os.environ.get(_variable(dataset))
    if chosen:
        return Path(chosen).expanduser().absolute()
    archive = fetched(dataset)
    return archive if archive and archive.is_file() and not store.everything(dataset.name) else None


def _newest(dataset: DataSet, options: Mapping[str, Any]) -> Prepared:
    found = [p for p in store.everything(dataset.name) if _is_of(p.meta(), dataset, options)]
    if not found:
        fetch = f"sweep data fetch {dataset.name}; sweep data prepare {dataset.name}"
        here = f"sweep data prepare {dataset.name} --path DIR"
        raise SweepError(
            f"data set {dataset.name} is not prepared on this machine",
            f"{fetch} (or, with the original files at hand, {here})" if dataset.archive else here,
        )
    return found[0]


def _is_of(meta: Mapping[str, Any], dataset: DataSet, options: Mapping[str, Any]) -> bool:
    alike = (meta.get("version", 1), meta.get("code", "")) == (dataset.version, dataset.code)
    return bool(meta["options"] == options and alike)


def _variable(dataset: DataSet) -> str:
    return f"SWEEP_{dataset.name.upper().replace('-', '_')}_DIR"


def _resolve(dataset: DataSet, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options with their values: those given, checked, over the defaults."""
    for option, value in given.items():
        if option not in dataset.options:
            raise SweepError(
                f"data set {dataset.name} has no option {option!r}",
                nearest(option, dataset.options),
            )
        wanted = type(dataset.options[option])
        if type(value) is not wanted:
            raise SweepError(
                f"option {option} of data set {dataset.name} is {value!r}",
                f"it must be {_NAMES[wanted]}",
            )
    return dict(dataset.options) | dict(given)


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _plug_in(point: EntryPoint) -> DataSet:
    found = imported(point)
    dataset = getattr(found, "DATASET", found)
    if not isinstance(dataset, DataSet):
        raise SweepError(
            f"entry point sweep.datasets {point.name} = {point.value} is no data set",
            "it must name a DataSet",
        )
    return dataclasses.replace(dataset, code=digests.of_files(dependencies.found(located(point))))


def _silent(stage: str, done: int, of: int) -> None:
    pass
