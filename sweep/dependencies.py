"""Dependencies: the files that a Python file imports from its own package, and from `workloads`, found by reading.

Nothing is run: imports are looked up as Python would, wherever in the file they stand. What lies elsewhere, as NumPy,
belongs to the environment. An import whose name is only made while the file runs is not seen; one that is written out,
as `importlib.import_module("package.part")`, is.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = _ROOT / "workloads"
_INSTALLED = ("site-packages", "dist-packages")


class Source(NamedTuple):
    """What a file says without being run: modules that it imports, and the version of what it measures.

    `imports` are full names, or begin with as many dots as the import goes up.
    """

    imports: tuple[str, ...]
    measures: int


def found(path: Path, without: Path | None = None) -> dict[str, Path]:
    """The file itself and all that it imports, directly or not, by name: the same names wherever they are installed.

    Imports from a folder `without` are left aside, with all that these import.
    """
    top = _top(path)
    files: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        here = waiting.pop()
        if here not in files:
            files[here] = None
            own = (each for each in _imported(here) if _is_own(each, top))
            waiting += [each for each in own if without is None or not each.is_relative_to(without)]
    return dict(sorted((_name(each, top), each) for each in files))


def is_of_sweep(path: Path) -> bool:
    """Whether a file is one of `workloads` itself."""
    return path.is_relative_to(WORKLOADS)


def measures(path: Path) -> int:
    """The version of what a file of `workloads` measures: its MEASURES, 1 where it says nothing."""
    return _source(path).measures


def _top(path: Path) -> Path:
    """The outermost package that a file is in, or the folder that it lies in."""
    folder = path.parent
    while (folder.parent / "__init__.py").is_file() and (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _is_own(path: Path, top: Path) -> bool:
    if is_of_sweep(path):
        return True
    return path in _distributed(top) if top.name in _INSTALLED else path.is_relative_to(top)


@functools.lru_cache(maxsize=64)
def _distributed(folder: Path) -> frozenset[Path]:
    """Files of distributions that plug into sweep, in a folder where everybody's lie side by side."""
    plugged = (
        d
        for d in distributions(path=[str(folder)])
        if any(e.group.startswith("sweep.") for e in d.entry_points)
    )
    return frozenset(Path(str(file.locate())) for each in plugged for file in each.files or ())


def _name(path: Path, top: Path) -> str:
    root = WORKLOADS if is_of_sweep(path) else top
    prefix = "workloads" if is_of_sweep(path) else ""
    return str(Path(prefix, path.relative_to(root)))


def _imported(path: Path) -> list[Path]:
    """Files of the modules that a file imports, those of the packages around them included."""
    places: dict[str, None] = {}
    for name in _source(path).imports:
        up = len(name) - len(name.lstrip("."))
        parts = [part for part in name.lstrip(".").split(".") if part]
        roots = [path.parents[up - 1]] if up else [path.parent, _top(path).parent]
        if parts[:1] == ["workloads"]:
            roots = [_ROOT]
        for root in roots:
            places.update(dict.fromkeys(_places(str(root), parts)))
    return [Path(place) for place in places if os.path.isfile(place)]  # noqa: PTH113  a thousand of them, and quick


def _places(root: str, parts: list[str]) -> Iterator[str]:
    """Where a module may lie, and the packages that it is in."""
    yield f"{root}/__init__.py"
    for part in parts:
        root = f"{root}/{part}"
        yield f"{root}.py"
        yield f"{root}/__init__.py"


def _source(path: Path) -> Source:
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _read(path: Path, size: int, modified_ns: int) -> Source:  # noqa: ARG001  the last two are the cache's key
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # it counts as it is; who runs it tells what is wrong with it
        return Source((), 1)
    versions = [_version(node) for node in tree.body]
    return Source(tuple(dict.fromkeys(_imports(tree))), next(filter(None, versions), 1))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            stop = "" if base.endswith(".") else "."
            yield from (f"{base}{stop}{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and _called(node) in ("import_module", "__import__")
            and node.args
        ):
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _version(node: ast.stmt) -> int | None:
    """The literal of `MEASURES = 2`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
        return None
    named = any(isinstance(target, ast.Name) and target.id == "MEASURES" for target in node.targets)
    return node.value.value if named and isinstance(node.value.value, int) else None
