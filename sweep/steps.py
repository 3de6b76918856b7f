"""Steps: files of the user's own that hold one step to be timed, and the copies that trials run.

A trial must run what was planned, while its author continues to edit the file. So a step is copied
when it is read, into a folder named by the digest of its content, and trials run the copy. The
alternative was to run the original after a check: an edit during a sweep would then fail every
trial that is still to come. Other nodes receive the same folder.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from sweep import atomic, axes, dependencies, digests, homes, literals, scripts
from sweep.axes import BATCH_SIZE
from sweep.dependencies import WORKLOADS
from sweep.errors import SweepError, nearest

# A workload whose name ends like this is a step.
SUFFIX = ".py"
MODULE = WORKLOADS / "step.py"

_FACTS = ".step.json"
_MOST_BYTES = 64 * 2**20
_HINT = "a step is a Python file with a function setup; see docs/own-step.md"
# A step takes batch_size instead of the exponent, and is the workload itself.
_NEVER_FOR_STEPS = ("batch_exponent", "workload")
# Names with a meaning in grids.
_RESERVED = ("data", "data_path", "network", "until")
_SKIPPED = "__pycache__"


@dataclass(frozen=True, eq=False)
class Step:
    """A step file. `path` is the copy that was read, `origin` is where its author edits it.

    `files` are all files that it consists of, by their names within its folder, its own included.
    `parameters` are its own with their defaults, `arguments` the names that `setup` takes. `grid`
    is the grid in its header, without the workload.
    """

    name: str
    path: Path
    origin: str
    digest: str
    summary: str
    files: Mapping[str, Path]
    parameters: Mapping[str, Any]
    arguments: tuple[str, ...]
    dependencies: tuple[str, ...]
    requires_python: str
    grid: Mapping[str, Any] = field(default_factory=dict)
    block: scripts.Block | None = None


class Bundle(NamedTuple):
    """A step as it is sent to another node."""

    name: str
    origin: str
    digest: str
    files: Mapping[str, bytes]


def is_step(workload: object) -> bool:
    """Return whether a workload of this name is a step file."""
    return isinstance(workload, str) and workload.endswith(SUFFIX)


def settings() -> dict[str, Any]:
    """Return the settings that every step has besides its own parameters, with defaults."""
    return dict(literals.value(MODULE, "SETTINGS"))


def read(path: Path) -> Step:
    """Return the step in a file, and keep a copy of it.

    SweepError with the file as it is named here, and the line, where it is no step.
    """
    if not path.is_file():
        hint = "name a Python file; sweep init writes one to begin with"
        raise SweepError(f"there is no step file {path}", hint)
    absolute = path.absolute()
    try:
        return stored(unpack(_bundled(absolute)), path.name)
    except SweepError as error:
        message = error.message.replace(str(absolute), str(path))
        raise SweepError(message, error.hint) from None


def stored(digest: str, name: str) -> Step:
    """Return a step whose copy is on this machine; SweepError if it is not."""
    folder = _store() / digest
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SweepError(
            f"the step {name} ({digest}) is not on this machine", "start sweep run again"
        ) from None
    gone = [each for each in facts["files"] if not (folder / each).is_file()]
    if gone:
        message = f"the copy of the step {name} in {folder} has lost {', '.join(gone)}"
        raise SweepError(
            message, "see whether a trial deletes it; sweep run begins with a new copy"
        )
    return _read(folder / name, facts["origin"], digest, tuple(facts["files"]))


def bundle(step: Step) -> Bundle:
    """Return a step with the content of its files."""
    return Bundle(
        step.name,
        step.origin,
        step.digest,
        {name: path.read_bytes() for name, path in step.files.items()},
    )


def unpack(bundle: Bundle) -> str:
    """Store a step on this machine and return its digest; nothing is written if it is stored."""
    folder = _store() / bundle.digest
    facts = json.dumps({"origin": bundle.origin, "files": list(bundle.files)})
    try:
        if _holds(folder, bundle) and (folder / _FACTS).read_text(encoding="utf-8") == facts:
            return bundle.digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in bundle.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            atomic.write(folder / name, content, durable=False)
        atomic.write(folder / _FACTS, facts.encode(), durable=False)
    except OSError as error:
        hint = f"set {homes.VARIABLE} to a folder that you can write to"
        raise SweepError(
            f"the step {bundle.name} cannot be kept in {folder}: {error}", hint
        ) from None
    return bundle.digest


def _store() -> Path:
    return homes.cache("steps")


def _holds(folder: Path, bundle: Bundle) -> bool:
    """Return whether the folder has these files with this content."""
    return all(
        (folder / name).is_file() and (folder / name).read_bytes() == content
        for name, content in bundle.files.items()
    )


def _bundled(path: Path) -> Bundle:
    """Return all files of a step, each read once: what is hashed is what runs."""
    files = {name: file.read_bytes() for name, file in _files(path)}
    if (size := sum(map(len, files.values()))) > _MOST_BYTES:
        raise SweepError(
            f"the files of {path} have {size:,} bytes,"
            f" more than the {_MOST_BYTES:,} that are sent to nodes",
            "name only what the step needs in [tool.sweep] files, or a smaller folder",
        )
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Bundle(path.name, str(path), digests.of_values(hashes), files)


def _files(path: Path) -> list[tuple[str, Path]]:
    """Return the step's file, its imports, and what its header names, by names in the folder."""
    folder = path.parent
    imported = dependencies.files_of(path).values()
    files = {file for file in imported if file.is_relative_to(folder)}
    files.update(_named_files(path, scripts.block(path, _HINT)))
    return sorted((file.relative_to(folder).as_posix(), file) for file in files)


def _named_files(path: Path, block: scripts.Block | None) -> Iterator[Path]:
    """Yield the files that the header names, those of folders one by one."""
    given = _table(block).get("files", [])
    line = block.line_of("tool.sweep", "files") if block else None
    if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
        raise _error(path, line, "files is no list of paths", 'write files = ["model.py", "data"]')
    for name in given:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            hint = (
                "paths begin at the step's folder and stay in it:"
                " copy the file there, or move the step"
            )
            raise _error(path, line, f"files names {name!r}, outside the step's folder", hint)
        place = path.parent / name
        if not place.exists():
            raise _error(
                path,
                line,
                f"files names {name!r}, which is not there",
                f"put it into {path.parent}",
            )
        yield from [place] if place.is_file() else _below(place)


def _below(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(
            each for each in folders if each != _SKIPPED and not each.startswith(".")
        )
        yield from (Path(top, name) for name in names if not name.startswith("."))


def _read(path: Path, origin: str, digest: str, files: tuple[str, ...]) -> Step:
    """Return a step from its copy; SweepErrors name the file that its author edits."""
    try:
        return _parse(path, Path(origin), digest, files)
    except SweepError as error:
        raise SweepError(error.message.replace(str(path), origin), error.hint) from None


def _parse(path: Path, origin: Path, digest: str, files: tuple[str, ...]) -> Step:
    module, block = literals.parsed(path), scripts.block(path, _HINT)
    setup = _Setup(origin, module)
    document = block.values if block else {}
    return Step(
        name=path.name,
        path=path,
        origin=str(origin),
        digest=digest,
        summary=(ast.get_docstring(module) or "").partition("\n")[0],
        files={name: path.parent / name for name in files},
        parameters=setup.parameters(_parameters(path, origin)),
        arguments=tuple(setup.lines),
        dependencies=_dependencies(origin, block),
        requires_python=_specifier(origin, str(document.get("requires-python", "")), block),
        grid={key: value for key, value in _table(block).items() if key != "files"},
        block=block,
    )


def _table(block: scripts.Block | None) -> Mapping[str, Any]:
    table: Any = block.values.get("tool", {}).get("sweep", {}) if block else {}
    return table if isinstance(table, dict) else {}


def _dependencies(path: Path, block: scripts.Block | None) -> tuple[str, ...]:
    given = block.values.get("dependencies", []) if block else []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        line = block.line_of("", "dependencies") if block else None
        raise _error(
            path,
            line,
            "dependencies is no list of requirements",
            'write dependencies = ["einops>=0.7"]',
        )
    return tuple(given)


def _specifier(path: Path, given: str, block: scripts.Block | None) -> str:
    try:
        SpecifierSet(given)
    except InvalidSpecifier:
        line = block.line_of("", "requires-python") if block else None
        raise _error(
            path, line, f"requires-python is {given!r}", 'write requires-python = ">=3.10"'
        ) from None
    return given


def _parameters(path: Path, origin: Path) -> dict[str, Any]:
    """Return PARAMETERS, whose names must be identifiers with a scalar each."""
    found: Any = literals.value(path, "PARAMETERS")
    line = next(
        (node.lineno for node in literals.parsed(path).body if _assigns(node, "PARAMETERS")), None
    )
    if found is None:
        return {}
    hint = (
        'write PARAMETERS = {"width": 256, "compile": False}:'
        " names with a number, a text, True, False or None each"
    )
    if not isinstance(found, dict):
        raise _error(origin, line, "PARAMETERS is no dict", hint)
    for name, value in found.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise _error(
                origin,
                line,
                f"PARAMETERS names {name!r}, which cannot be an argument of setup",
                hint,
            )
        _check_parameter(origin, line, name, value, hint)
    return dict(found)


def _check_parameter(path: Path, line: int | None, name: str, value: Any, hint: str) -> None:
    if name in _RESERVED:
        message = f"the parameter {name!r} would be taken for a word of grids"
        raise _error(path, line, message, f"call it otherwise, as 'my_{name}'")
    if name in axes.AXES:
        message = f"the parameter {name!r} is there for every step, and has no default of its own"
        raise _error(path, line, message, f"leave it out: setup may take {name!r} without it")
    if not isinstance(value, str | int | float | bool | None):
        raise _error(path, line, f"the parameter {name!r} is of type {type(value).__name__}", hint)


def _assigns(node: ast.stmt, name: str) -> bool:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


class _Setup:
    """The arguments of `setup`: the line of each, and the literals that are their defaults."""

    def __init__(self, path: Path, module: ast.Module) -> None:
        functions = [
            node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        found = [node for node in functions if node.name == "setup"]
        if not found:
            close = difflib.get_close_matches("setup", [node.name for node in functions], n=1)
            aside = f"; {close[0]!r} is there" if close else ""
            raise SweepError(f"{path} has no function setup{aside}", _STARTER)
        self._path, self._node = path, found[-1]
        if isinstance(self._node, ast.AsyncFunctionDef):
            raise _error(path, self._node.lineno, "setup is async", "write def setup(…)")
        self.lines, self._defaults = self._arguments(self._node.args)

    def parameters(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return PARAMETERS and the arguments' defaults; SweepError if an argument has no value."""
        found = {
            name: value for name, value in self._defaults.items() if name not in axes.AXES
        } | dict(own)
        if BATCH_SIZE in self.lines:
            found.setdefault(BATCH_SIZE, 2 ** int(axes.default("batch_exponent")[0]))
        for name in _RESERVED:
            if name in self._defaults:
                _check_parameter(self._path, self.lines[name], name, self._defaults[name], "")
        given = [name for name in axes.AXES if name not in _NEVER_FOR_STEPS]
        known = [*given, *settings(), *found]
        for name, line in self.lines.items():
            if name not in known:
                words = [*known, BATCH_SIZE]
                raise _error(
                    self._path,
                    line,
                    f"setup takes {name!r}, which nothing sets",
                    _unknown(name, words),
                )
        return found

    def _arguments(self, arguments: ast.arguments) -> tuple[dict[str, int], dict[str, Any]]:
        if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
            hint = "write the settings that it takes by name, as def setup(width, device, seed)"
            raise _error(
                self._path, self._node.lineno, "setup takes more than named arguments", hint
            )
        positional = arguments.args
        defaults = [
            *[None] * (len(positional) - len(arguments.defaults)),
            *arguments.defaults,
            *arguments.kw_defaults,
        ]
        pairs = list(zip([*positional, *arguments.kwonlyargs], defaults, strict=True))
        lines = {argument.arg: argument.lineno for argument, _ in pairs}
        return lines, {
            argument.arg: self._literal(argument.arg, node)
            for argument, node in pairs
            if node is not None
        }

    def _literal(self, name: str, node: ast.expr) -> Any:
        hint = "give it a number, a text, True, False or None, so that it can be set and be an axis"
        try:
            value = ast.literal_eval(node)
        except ValueError:
            raise _error(
                self._path, node.lineno, f"the default of setup's {name!r} is no literal", hint
            ) from None
        if not isinstance(value, str | int | float | bool | None):
            raise _error(
                self._path, node.lineno, f"the default of setup's {name!r} is no single value", hint
            )
        return value


_STARTER = "write def setup(device, seed): … return step; sweep init writes such a file"


def _unknown(name: str, known: list[str]) -> str:
    """Return a hint about a name that `setup` takes and nothing sets."""
    if name == "batch_exponent":
        return f"take {BATCH_SIZE!r}, the number of examples itself"
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return nearest(name, known)
    others = ", ".join(sorted(set(known)))
    return f'name it in PARAMETERS = {{"{name}": …}} with a default; known besides: {others}'


def _error(path: Path, line: int | None, message: str, hint: str) -> SweepError:
    where = f"{path}, line {line}" if line else str(path)
    return SweepError(f"{where}: {message}", hint)
