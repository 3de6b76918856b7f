"""Literals: what a Python file assigns at its top level, read without running it.

Besides literals, a value may contain names that the file assigns itself, or imports from a module
of `workloads`: `{**COMMON, "epochs": 10}`, `dict(COMMON, epochs=10)`, `SHORT + ("long",)`. So
settings that workloads share are written once. Modules of other packages are refused: where the
file runs, only `workloads` and the environment exist.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.dependencies import WORKLOADS
from sweep.errors import SweepError

_HINT = (
    "it is read without running the file: literals, and names of literals in the file"
    " or in modules of workloads"
)
_PACKAGE = WORKLOADS.name


def value(path: Path, name: str) -> Any:
    """Return what is assigned to `name` at the top level, or None; SweepError if no literal."""
    return _value(path, name, ())


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file; SweepError if it is unreadable.

    The tree is cached: callers must not change it.
    """
    try:
        status = path.stat()
    except OSError:
        # Reading the file raises the error that says why.
        return _parsed(path, 0, 0)
    return _parsed(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, size: int, modified_ns: int) -> ast.Module:  # noqa: ARG001
    """Return the syntax tree; `size` and `modified_ns` are part of the cache's key.

    A file is asked for many literals, and parsing it takes far longer than finding one.
    """
    try:
        return ast.parse(text(path), filename=str(path))
    except SyntaxError as error:
        raise SweepError(
            f"{path}, line {error.lineno}: {error.msg}", "the file cannot be read as Python"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        # Null bytes are a ValueError; deep nesting raises one of the others.
        raise SweepError(f"{path}: {error}", "the file cannot be read as Python") from None


def text(path: Path) -> str:
    """Return the content of a file; SweepError if it is unreadable."""
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


class _NotLiteralError(Exception):
    """An expression that is more than literals and their names."""


def _value(path: Path, name: str, above: tuple[tuple[Path, str], ...]) -> Any:
    """Return what is assigned to `name`; `above` are the names whose values contain it."""
    module = parsed(path)
    expression = next(_assignments(module, name), None)
    if expression is None:
        return None
    try:
        return _Reader(path, module, (*above, (path, name))).read(expression)
    except (_NotLiteralError, ValueError, TypeError):
        raise SweepError(
            f"{name} in {path}, line {expression.lineno}, is no literal", _HINT
        ) from None


def _assignments(module: ast.Module, name: str) -> Iterator[ast.expr]:
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if name in _targets(node):
            yield node.value


class _Reader:
    """Evaluates expressions of one file."""

    def __init__(self, path: Path, module: ast.Module, above: tuple[tuple[Path, str], ...]) -> None:
        self._path, self._above = path, above
        self._names = set(assigned(module))
        self._imported = dict(_imports(module))

    def read(self, node: ast.expr) -> Any:
        """Return the value of an expression."""
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
        result: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            # `**COMMON` has no key.
            result |= self.read(item) if key is None else {self.read(key): self.read(item)}
        return result

    def _sum(self, node: ast.BinOp) -> Any:
        left, right = self.read(node.left), self.read(node.right)
        if isinstance(left, tuple) and isinstance(right, tuple):
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            return left + right
        raise _NotLiteralError

    def _call(self, node: ast.Call) -> dict[Any, Any]:
        """Return the value of `dict(COMMON, epochs=10)`; other calls are refused."""
        if not isinstance(node.func, ast.Name) or node.func.id != "dict":
            raise _NotLiteralError
        result: dict[Any, Any] = {}
        for argument in node.args:
            result |= self.read(argument)
        for keyword in node.keywords:
            item = self.read(keyword.value)
            result |= item if keyword.arg is None else {keyword.arg: item}
        return result

    def _named(self, node: ast.Name | ast.Attribute) -> Any:
        """Return the value of a name of this file, or of a module of `workloads`."""
        dotted = ast.unparse(node)
        # A name whose value contains itself.
        if (self._path, dotted) in self._above:
            raise _NotLiteralError
        if dotted in self._names:
            return _value(self._path, dotted, self._above)
        for name, origin in self._imported.items():
            if dotted == name or dotted.startswith(f"{name}."):
                return self._imported_value(origin + dotted.removeprefix(name))
        raise _NotLiteralError

    def _imported_value(self, full_name: str) -> Any:
        *modules, name = full_name.split(".")
        path = WORKLOADS.parent.joinpath(*modules).with_suffix(".py")
        if modules[:1] != [_PACKAGE] or not path.is_file() or (path, name) in self._above:
            raise _NotLiteralError
        result = _value(path, name, self._above)
        if result is None:
            raise _NotLiteralError
        return result


def assigned(module: ast.Module) -> Iterator[str]:
    """Yield the names that are assigned at the top level of a file."""
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _targets(node)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names that a file's imports define, with their full names."""
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
            )
