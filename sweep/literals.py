"""Literals: what a Python file assigns at its top, read without running it.

Beside literals, a value may be made of names that the file assigns itself, or imports from a module of `workloads`:
`{**COMMON, "epochs": 10}`, `dict(COMMON, epochs=10)`, `SHORT + ("long",)`. So settings that workloads share are written
once. A module of any other package cannot be named: where the file runs, only `workloads` and the environment are
there.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.dependencies import WORKLOADS
from sweep.errors import SweepError

_HINT = "it is read without running the file: literals, and names of literals in the file or in modules of workloads"
_PACKAGE = WORKLOADS.name


def value(path: Path, name: str) -> Any:
    """What is assigned to `name` at the top of the file, None where nothing is; SweepError where it is no literal."""
    return _assigned(path, name, ())


def parsed(path: Path) -> ast.Module:
    """The file as Python reads it, not to be changed; SweepError where it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return _parsed(path, 0, 0)  # which says why it cannot be read
    return _parsed(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, size: int, modified_ns: int) -> ast.Module:  # noqa: ARG001  the last two are the cache's key
    """Many literals are asked of one file, and reading it takes far longer than finding them."""
    try:
        return ast.parse(text(path), filename=str(path))
    except SyntaxError as error:
        raise SweepError(
            f"{path}, line {error.lineno}: {error.msg}", "the file cannot be read as Python"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested too deep
        raise SweepError(f"{path}: {error}", "the file cannot be read as Python") from None


def text(path: Path) -> str:
    """What is in the file; SweepError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SweepError(
            f"{path} cannot be read: {error.strerror}", "look at its permissions"
        ) from None
    except UnicodeDecodeError as error:
        raise SweepError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from None


class _NoLiteral(Exception):  # noqa: N818  told to the user as a SweepError, where the name is known
    """An expression that is more than literals and their names."""


def _assigned(path: Path, name: str, above: tuple[tuple[Path, str], ...]) -> Any:
    """`above` are the names that this one is part of."""
    module = parsed(path)
    found = next(_assignments(module, name), None)
    if found is None:
        return None
    try:
        return _Reader(path, module, (*above, (path, name))).read(found)
    except (_NoLiteral, ValueError, TypeError):
        raise SweepError(f"{name} in {path}, line {found.lineno}, is no literal", _HINT) from None


def _assignments(module: ast.Module, name: str) -> Iterator[ast.expr]:
    for node in module.body:
        targets: Sequence[ast.expr] = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        assigned = getattr(node, "value", None)
        if assigned is not None and any(
            isinstance(target, ast.Name) and target.id == name for target in targets
        ):
            yield assigned


class _Reader:
    """Expressions of one file as values."""

    def __init__(self, path: Path, module: ast.Module, above: tuple[tuple[Path, str], ...]) -> None:
        self._path, self._above = path, above
        self._names = set(assigned(module))
        self._imported = dict(_imports(module))

    def read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name | ast.Attribute):
            return self._named(node)
        if isinstance(node, ast.Dict):
            return self._dict(node)
        if isinstance(node, ast.Tuple | ast.List):
            listed = [self.read(each) for each in node.elts]
            return tuple(listed) if isinstance(node, ast.Tuple) else listed
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._sum(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return ast.literal_eval(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, each in zip(node.keys, node.values, strict=True):
            found |= self.read(each) if key is None else {self.read(key): self.read(each)}
        return found

    def _sum(self, node: ast.BinOp) -> Any:
        left, right = self.read(node.left), self.read(node.right)
        if isinstance(left, tuple) and isinstance(right, tuple):
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            return left + right
        raise _NoLiteral

    def _call(self, node: ast.Call) -> dict[Any, Any]:
        """`dict(COMMON, epochs=10)` and no other call."""
        if not isinstance(node.func, ast.Name) or node.func.id != "dict":
            raise _NoLiteral
        found: dict[Any, Any] = {}
        for first in node.args:
            found |= self.read(first)
        for keyword in node.keywords:
            each = self.read(keyword.value)
            found |= each if keyword.arg is None else {keyword.arg: each}
        return found

    def _named(self, node: ast.Name | ast.Attribute) -> Any:
        """A name of this file, or of a module of `workloads`."""
        dotted = ast.unparse(node)
        if (self._path, dotted) in self._above:
            raise _NoLiteral  # it is made of itself
        if dotted in self._names:
            return _assigned(self._path, dotted, self._above)
        for name, origin in self._imported.items():
            if dotted == name or dotted.startswith(f"{name}."):
                return self._of_workloads(origin + dotted.removeprefix(name))
        raise _NoLiteral

    def _of_workloads(self, full_name: str) -> Any:
        parts = full_name.split(".")
        path = WORKLOADS.parent.joinpath(*parts[:-1]).with_suffix(".py")
        if parts[0] != _PACKAGE or not path.is_file():
            raise _NoLiteral
        found = (
            None if (path, parts[-1]) in self._above else _assigned(path, parts[-1], self._above)
        )
        if found is None:
            raise _NoLiteral
        return found


def assigned(module: ast.Module) -> Iterator[str]:
    """Names to which something is assigned at the top of a file."""
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that the file gives to modules and to what they hold, with the full names of these."""
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
            )
