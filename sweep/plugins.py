"""Plug-ins: files of other people's packages, named by entry points and found without running anything of theirs."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import SweepError

T = TypeVar("T")


class Found(dict[str, T]):
    """What there is, by name. What is there and broken is not among it, and whoever looks it up is told why.

    So one broken plug-in stops what uses it and nothing else. `broken` holds the reasons by name.
    """

    def __init__(self, readers: Mapping[str, Callable[[], T]]) -> None:
        super().__init__()
        self.broken: dict[str, SweepError] = {}
        for name, read in sorted(readers.items()):
            try:
                self[name] = read()
            except SweepError as error:
                self.broken[name] = error

    def __contains__(self, name: object) -> bool:
        self._refuse_broken(name)
        return super().__contains__(name)

    def __missing__(self, name: str) -> T:
        self._refuse_broken(name)
        raise KeyError(name)

    def _refuse_broken(self, name: object) -> None:
        if isinstance(name, str) and name in self.broken:
            error = self.broken[name]
            raise SweepError(f"{name} cannot be used: {error.message}", error.hint)


def points(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)}


def located(point: EntryPoint) -> Path:
    """The file of the module that an entry point names; SweepError where there is none."""
    module = point.value.partition(":")[0].strip()
    spec = _spec(module)
    if spec and spec.origin and Path(spec.origin).is_file():
        return Path(spec.origin)
    raise SweepError(
        f"entry point {point.group} names {point.value}, which is no file",
        f"install again, or uninstall, {_package(point)}",
    )


def imported(point: EntryPoint) -> Any:
    """What an entry point names, its module run; SweepError where that fails, in whatever way."""
    try:
        with nothing_written():
            return point.load()
    except Exception as error:  # noqa: BLE001  somebody else's code may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise SweepError(
            f"entry point {point.group} names {point.value}, which cannot be imported: {reason}",
            f"mend it, install it again, or uninstall {_package(point)}",
        ) from None


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """Python writes no bytecode beside what is imported meanwhile: its folder may be a user's source tree."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _spec(module: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, which imports the packages that a module lies in; this one runs nothing of theirs.

    Every finder is asked, those of editable installs too. Namespaces are imported, which have no code: the finder of
    one within another looks for the outer one among what is imported.
    """
    words = module.split(".")
    spec = _found(words[0], None)
    only_namespaces = True
    for count in range(1, len(words)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        only_namespaces = only_namespaces and spec.origin is None
        if only_namespaces:
            importlib.import_module(".".join(words[:count]))
        spec = _found(".".join(words[: count + 1]), spec.submodule_search_locations)
    return spec


def _found(module: str, path: Any) -> ModuleSpec | None:
    """The module among these places, or the folder of its name, which is a namespace within a package."""
    for finder in sys.meta_path:
        with contextlib.suppress(KeyError):  # a namespace within a package that is not imported
            if spec := finder.find_spec(module, path):
                return spec
    folders = [Path(place, module.rpartition(".")[2]) for place in path or ()]
    if there := [str(folder) for folder in folders if folder.is_dir()]:
        spec = ModuleSpec(module, None, is_package=True)
        spec.submodule_search_locations = there
        return spec
    return None


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "the package that declares it"
