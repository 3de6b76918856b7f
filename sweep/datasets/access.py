"""Access to prepared data sets: find the original files, resolve the options, prepare once."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep import locks
from sweep.datasets import preparation, registry, store
from sweep.datasets.dataset import DataSet, Source
from sweep.datasets.files import open_files
from sweep.datasets.preparation import Progress
from sweep.datasets.store import Prepared
from sweep.errors import SweepError, nearest
from sweep.plugins import nothing_written

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def prepare(
    name: str,
    path: str | Path | None = None,
    *,
    at_least: int = 1,
    progress: Progress | None = None,
    say: locks.Say = locks.silent,
    **options: Any,
) -> Prepared:
    """Return the prepared arrays of a data set; prepare them first if they do not exist.

    `path` is the folder or zip archive with the original files. Without it, the first of these
    is used: the folder in `SWEEP_<NAME>_DIR`, the newest prepared set of this name, a fetched
    archive. `say` is called with a message while another process prepares the same set.
    SweepError if there are no files, if a file is damaged, or if fewer than `at_least` examples
    remain.
    """
    dataset = registry.get(name)
    resolved = _resolve_options(dataset, options)
    # The data set of a plug-in may import more of its package while it reads.
    with nothing_written():
        prepared = _prepare(dataset, _origin(dataset, path), resolved, progress or _silent, say)
    if prepared.examples < at_least:
        fix = "use a larger data set"
        fix += " (option examples)" if "examples" in dataset.options else " or a smaller batch"
        raise SweepError(
            f"data set {name} in {prepared.folder} holds {prepared.examples} examples"
            f" and {at_least} are needed",
            fix,
        )
    return prepared


def archive_path(dataset: DataSet) -> Path | None:
    """Return where `sweep data fetch` puts the archive; None for a data set without an archive."""
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

    # Reading a large annotation file takes seconds: it is read at most once, and not at all if
    # the store remembers the id of these files and holds that set.
    @functools.cache
    def source() -> Source:
        return dataset.read(**options) if dataset.generated else dataset.read(origin, **options)

    def identity() -> str:
        return store.identify(dataset, options, source())

    fingerprint = _fingerprint(dataset, origin, options) if origin else ""
    dataset_id = store.remembered(fingerprint, identity) if fingerprint else identity()
    if prepared := store.find(dataset_id):
        return prepared
    facts = {
        "name": dataset.name,
        "version": dataset.version,
        "code": dataset.code,
        "source": str(origin or "generated"),
        "options": dict(options),
    }
    return store.make(dataset_id, facts, source(), progress, say)


def _fingerprint(dataset: DataSet, origin: Path, options: Mapping[str, Any]) -> str:
    """Return a text that changes when the files, the options or the preparing code change."""
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
    """Return the absolute path of the original files; None to use a set prepared before."""
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
    archive = archive_path(dataset)
    is_fetched = archive is not None and archive.is_file()
    # A prepared set wins over a fetched archive: it may have been made from files elsewhere.
    return archive if is_fetched and not store.everything(dataset.name) else None


def _newest(dataset: DataSet, options: Mapping[str, Any]) -> Prepared:
    for prepared in store.everything(dataset.name):
        if _is_current(prepared.meta(), dataset, options):
            return prepared
    from_files = f"sweep data prepare {dataset.name} --path DIR"
    fix = from_files
    if dataset.archive:
        fix = (
            f"sweep data fetch {dataset.name}; sweep data prepare {dataset.name}"
            f" (or, with the original files at hand, {from_files})"
        )
    raise SweepError(f"data set {dataset.name} is not prepared on this machine", fix)


def _is_current(meta: Mapping[str, Any], dataset: DataSet, options: Mapping[str, Any]) -> bool:
    """Return whether a prepared set was made with these options by the present code."""
    made_by = (meta.get("version", 1), meta.get("code", ""))
    return bool(meta["options"] == options and made_by == (dataset.version, dataset.code))


def _variable(dataset: DataSet) -> str:
    return f"SWEEP_{dataset.name.upper().replace('-', '_')}_DIR"


def _resolve_options(dataset: DataSet, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every option: the checked given ones over the defaults."""
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
                f"it must be {_TYPE_NAMES[wanted]}",
            )
    return dict(dataset.options) | dict(given)


def _silent(stage: str, done: int, of: int) -> None:
    pass
