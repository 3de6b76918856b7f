"""Dependencies: the files that a Python file imports from its own package and from `workloads`.

The files are parsed and not run. Imports are resolved as Python resolves them, wherever in the file
they are. Modules of other packages, such as NumPy, belong to the environment. An import whose name
is computed at run time is not found; one with a literal name is:
`importlib.import_module("package.part")`.
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
_IMPORTERS = ("import_module", "__import__")


class Source(NamedTuple):
    """What parsing a file yields: the modules it imports, and the version of what it measures.

    `imports` are full names; relative ones begin with as many dots as the import goes up.
    """

    imports: tuple[str, ...]
    measures: int


def files_of(path: Path, without: Path | None = None) -> dict[str, Path]:
    """Return a file and all files that it imports, directly or indirectly, by name.

    Names are the same wherever the files are installed. Imports from the folder `without` are left
    out, with all that these import.
    """
    top = _top(path)
    files: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files[file] = None
        own = (imported for imported in _imported(file) if _is_own(imported, top))
        waiting += [
            imported for imported in own if without is None or not imported.is_relative_to(without)
        ]
    return dict(sorted((_name(file, top), file) for file in files))


def is_of_sweep(path: Path) -> bool:
    """Return whether a file is one of `workloads` itself."""
    return path.is_relative_to(WORKLOADS)


def measures(path: Path) -> int:
    """Return the version of what a file of `workloads` measures: its MEASURES, 1 by default."""
    return _source(path).measures


def _top(path: Path) -> Path:
    """Return the outermost package that contains a file, or its folder."""
    folder = path.parent
    while (folder.parent / "__init__.py").is_file() and (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _is_own(path: Path, top: Path) -> bool:
    if is_of_sweep(path):
        return True
    # A single module in site-packages must not make everything beside it its own.
    if top.name in _INSTALLED:
        return path in _plugin_files(top)
    return path.is_relative_to(top)


@functools.lru_cache(maxsize=64)
def _plugin_files(folder: Path) -> frozenset[Path]:
    """Return the files of distributions that plug into sweep, in a folder shared by many."""
    plugins = (
        distribution
        for distribution in distributions(path=[str(folder)])
        if any(point.group.startswith("sweep.") for point in distribution.entry_points)
    )
    return frozenset(Path(str(file.locate())) for plugin in plugins for file in plugin.files or ())


def _name(path: Path, top: Path) -> str:
    root = WORKLOADS if is_of_sweep(path) else top
    prefix = "workloads" if is_of_sweep(path) else ""
    return str(Path(prefix, path.relative_to(root)))


def _imported(path: Path) -> list[Path]:
    """Return the files of the modules that a file imports, and of the packages around them."""
    candidates: dict[str, None] = {}
    for name in _source(path).imports:
        up = len(name) - len(name.lstrip("."))
        parts = [part for part in name.lstrip(".").split(".") if part]
        roots = [path.parents[up - 1]] if up else [path.parent, _top(path).parent]
        if parts[:1] == ["workloads"]:
            roots = [_ROOT]
        for root in roots:
            candidates.update(dict.fromkeys(_candidates(str(root), parts)))
    # A plan checks thousands of paths: os.path is several times faster than Path here.
    return [Path(file) for file in candidates if os.path.isfile(file)]  # noqa: PTH113


def _candidates(root: str, parts: list[str]) -> Iterator[str]:
    """Yield the files in which a module and the packages around it may be."""
    yield f"{root}/__init__.py"
    for part in parts:
        root = f"{root}/{part}"
        yield f"{root}.py"
        yield f"{root}/__init__.py"


def _source(path: Path) -> Source:
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _read(path: Path, size: int, modified_ns: int) -> Source:  # noqa: ARG001
    """Return what parsing a file yields; `size` and `modified_ns` are part of the cache's key."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # Running the file reports the mistake; here its content alone counts.
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
        elif isinstance(node, ast.Call) and _function_name(node) in _IMPORTERS and node.args:
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _function_name(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _version(node: ast.stmt) -> int | None:
    """Return 2 of the statement `MEASURES = 2`; None for any other."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
        return None
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    version = node.value.value
    return version if "MEASURES" in names and isinstance(version, int) else None
