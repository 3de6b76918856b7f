"""Plug-ins: files of other packages, named by entry points and located without running them."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from sweep.errors import SweepError, nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """Items by name, with the reason for each broken one.

    A broken plug-in is no item: looking it up raises the reason. So it stops only what uses it.
    `broken` holds the reasons by name.
    """

    def __init__(self, readers: Mapping[str, Callable[[], T]]) -> None:
        super().__init__()
        self.broken: dict[str, SweepError] = {}
        for name, read in sorted(readers.items()):
            try:
                self[name] = read()
            except SweepError as error:
                self.broken[name] = error

    def named(self, name: str, kind: str) -> T:
        """Return the item called `name`; SweepError with the nearest name if there is no such `kind`."""
        if name not in self:
            raise SweepError(f"there is no {kind} {name!r}", nearest(name, self))
        return self[name]

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
    """Return the entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)}


def located(point: EntryPoint) -> Path:
    """Return the file of the module that an entry point names; SweepError if there is none."""
    module = point.value.partition(":")[0].strip()
    spec = _spec(module)
    if spec and spec.origin and Path(spec.origin).is_file():
        return Path(spec.origin)
    raise SweepError(
        f"entry point {point.group} names {point.value}, which is no file",
        f"install again, or uninstall, {_package(point)}",
    )


def imported(point: EntryPoint) -> Any:
    """Import what an entry point names and return it; SweepError if that fails in any way."""
    try:
        with nothing_written():
            return point.load()
    # The code of others may raise anything.
    except Exception as error:  # noqa: BLE001
        reason = f"{type(error).__name__}: {error}"
        raise SweepError(
            f"entry point {point.group} names {point.value}, which cannot be imported: {reason}",
            f"mend it, install it again, or uninstall {_package(point)}",
        ) from None


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """Stop Python from writing bytecode: a plug-in's folder may be its author's source tree."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _spec(module: str) -> ModuleSpec | None:
    """Return the spec of a module without running the packages that contain it.

    `importlib.util.find_spec` would import these packages. Every finder is asked, also those of
    editable installs. Namespace packages are imported, since they have no code: the finder of a
    nested one looks for the outer one among the imported modules.
    """
    parts = module.split(".")
    spec = _find_spec(parts[0], None)
    only_namespaces = True
    for count in range(1, len(parts)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        only_namespaces = only_namespaces and spec.origin is None
        if only_namespaces:
            importlib.import_module(".".join(parts[:count]))
        spec = _find_spec(".".join(parts[: count + 1]), spec.submodule_search_locations)
    return spec


def _find_spec(module: str, path: Any) -> ModuleSpec | None:
    """Return the spec of a module on a path, or of a folder of its name as a namespace package."""
    for finder in sys.meta_path:
        # Finders raise KeyError for a namespace package within a package that is not imported.
        with contextlib.suppress(KeyError):
            if spec := finder.find_spec(module, path):
                return spec
    folders = [Path(parent, module.rpartition(".")[2]) for parent in path or ()]
    existing = [str(folder) for folder in folders if folder.is_dir()]
    if not existing:
        return None
    spec = ModuleSpec(module, None, is_package=True)
    spec.submodule_search_locations = existing
    return spec


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "the package that declares it"
