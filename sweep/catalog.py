"""The catalog: the frameworks, workloads and networks that exist, read from their files.

The files are parsed and not imported: only the environments have what they import.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweep import dependencies, literals, plugins, scripts, steps
from sweep.dependencies import WORKLOADS as WORKLOADS
from sweep.errors import SweepError
from sweep.plugins import Registry
from sweep.records.declared import validate
from sweep.steps import Step

DEFAULT_BACKEND = "default"
T = TypeVar("T")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Table):
    """What a backend or device changes in a recipe, or the reason why it is impossible."""

    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    hint: str = ""
    reason: str = ""


class Recipe(_Table):
    """How an environment is built for the versions that match the recipe's specifier.

    `python` is in order of preference. `requires` may contain `{version}`. `build` constrains what
    source distributions are built with, and `environment` holds variables for that build.
    `cpu_build` says that builds from the index bring CUDA libraries and that CPU builds exist
    elsewhere. `hint` is for a user whose build failed.
    """

    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    cpu_build: bool = False
    hint: str = ""
    variants: dict[str, Variant] = Field(default_factory=dict)


class Backend(_Table):
    """Where a backend exists: versions of the framework (PEP 440) and devices.

    `reason` says why it does not exist elsewhere.
    """

    versions: str = ""
    devices: tuple[str, ...] = ("cpu", "gpu")
    reason: str = ""


class Layer(_Table):
    """Which versions of a framework (PEP 440) can compute a layer; `reason` is about the others."""

    versions: str
    reason: str


class _Header(_Table):
    package: str
    module: str = ""
    devices: tuple[str, ...] = ("cpu",)
    backends: dict[str, Backend] = Field(default_factory=dict)
    recipes: dict[str, Recipe] = Field(default_factory=dict)
    layers: dict[str, Layer] = Field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Framework:
    """A framework file.

    `package` is its distribution, "" if that is NumPy itself; `module` is the module to import.
    `backends` includes `default`. `recipes` are by PEP 440 specifier or "*"; the first that matches
    counts. `columns` is what the file states about its columns. `layers` are those that not every
    version has.
    """

    name: str
    path: Path
    package: str
    module: str
    requires_python: str
    dependencies: tuple[str, ...]
    devices: tuple[str, ...]
    backends: Mapping[str, Backend]
    recipes: Mapping[str, Recipe]
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    is_any_package: bool = False

    def recipe(self, version: str | None) -> Recipe:
        """Return the recipe for a version; without a valid PEP 440 version, that of "*"."""
        matching = (r for specifier, r in self.recipes.items() if _matches(specifier, version))
        return next(matching, Recipe())

    def unsupported(self, version: str | None, backend: str, device: str) -> str | None:
        """Return why this version cannot compute with that backend on that device, or None."""
        return unsupported(self, version, backend, device)


@dataclass(frozen=True, eq=False)
class Workload:
    """A workload file: its parameters with their defaults, and the first line of its docstring.

    `reference` are the settings that its `reference_values` depend on; empty if it has none.
    `parity_ignores` are the settings that its `parity` does not depend on; None if each trial
    checks parity by itself. `check` are the settings that its `check` depends on, which refuses the
    impossible before anything is timed; empty if it has none. `choices` are the values of
    parameters that have only a few. `least` are the lower bounds of integer parameters. `steps` are
    the settings whose sum is the number of steps, for estimates of time; empty for one step.
    `exclusive` says whether a trial has its node to itself unless the grid says otherwise.
    `columns` is what the file states about its own columns; see `records.columns.ColumnMetadata`.
    `without` are the built-in axes that it does not have. `step` is a user's own step file; `path`
    is then the module that runs it.
    """

    name: str
    path: Path
    parameters: Mapping[str, Any]
    summary: str = ""
    reference: tuple[str, ...] = ()
    parity_ignores: tuple[str, ...] | None = None
    check: tuple[str, ...] = ()
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    exclusive: bool = False
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    step: Step | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A network file: the first line of its docstring, and the names of its layers."""

    name: str
    path: Path
    summary: str = ""
    layers: frozenset[str] = frozenset()

    def lacking(self, framework: Framework, version: str | None) -> str | None:
        """Return why this version of a framework cannot compute the network, or None."""
        for name, layer in framework.layers.items():
            known = is_version(version)
            if name in self.layers and known and not _matches(layer.versions, version):
                return f"{self.name} needs {name}: {layer.reason}"
        return None


# Groups of entry points by which plug-ins are found.
ENTRY_POINTS = ("sweep.frameworks", "sweep.workloads", "sweep.networks", "sweep.datasets")


def frameworks() -> Registry[Framework]:
    """Return every framework by name, of the tree and from entry points `sweep.frameworks`."""
    in_tree = dict(_in_tree(WORKLOADS / "frameworks"))
    return Registry(_readers(read_framework, in_tree, "sweep.frameworks"))


def get_framework(framework: str) -> Framework:
    """Return the framework called `framework`; SweepError with the nearest name otherwise."""
    return frameworks().named(framework, "framework")


@functools.lru_cache(maxsize=256)
def any_package(name: str) -> Framework:
    """Return a package of the index as a framework.

    Its recipe is the package itself, on the newest Python that has it.
    """
    return Framework(
        name=name,
        path=WORKLOADS / "runtime" / "package.py",
        package=name,
        module="",
        requires_python="",
        dependencies=(),
        devices=("cpu", "gpu"),
        backends={DEFAULT_BACKEND: Backend()},
        recipes={},
        is_any_package=True,
    )


def framework_or_package(name: str) -> Framework:
    """Return the framework called `name`, else the package of that name.

    The grid has checked whether a package may be its framework.
    """
    every = frameworks()
    return every[name] if name in every else any_package(name)


def of_step(step: Step) -> Workload:
    """Return a step file as a workload."""
    parameters = steps.settings() | dict(step.parameters)
    return Workload(
        name=step.name,
        path=steps.MODULE,
        parameters=parameters,
        summary=step.summary,
        choices=_choices(steps.MODULE, parameters),
        least=_least(steps.MODULE, parameters),
        steps=_steps(steps.MODULE, parameters),
        exclusive=_exclusive(steps.MODULE),
        without=frozenset({"batch_exponent", "backward"}.difference(step.arguments)),
        step=step,
    )


def workload_of(name: str, content: Mapping[str, str]) -> Workload:
    """Return the workload of a trial, a step as it was when the trial was planned.

    SweepError if it does not exist.
    """
    if not steps.is_step(name):
        return get_workload(name)
    return of_step(steps.stored(content.get("workload", "").partition(",")[0], name))


class Planned(Protocol):
    """What the catalog needs of a cell; see `sweep.grid`."""

    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def content(self) -> Mapping[str, str]: ...


def workloads_of(cells: Iterable[Planned]) -> Mapping[str, Workload]:
    """Return every workload, and the steps that these cells use, by name."""
    found = workloads()
    contents = {str(cell.settings["workload"]): cell.content for cell in cells}
    for name, content in contents.items():
        if steps.is_step(name):
            found[name] = workload_of(name, content)
    return found


def workloads() -> Registry[Workload]:
    """Return every workload by name, of the tree and from entry points `sweep.workloads`.

    A workload of the tree is a file with PARAMETERS.
    """
    in_tree = {name: path for name, path in _in_tree(WORKLOADS) if _may_be_workload(path)}
    return Registry(_readers(read_workload, in_tree, "sweep.workloads"))


def get_workload(name: str) -> Workload:
    """Return the workload called `name`; SweepError with the nearest name otherwise."""
    return workloads().named(name, "workload")


def networks() -> Registry[Network]:
    """Return every network by name, of the tree and from entry points `sweep.networks`."""
    in_tree = dict(_in_tree(WORKLOADS / "networks"))
    return Registry(_readers(read_network, in_tree, "sweep.networks"))


def get_network(name: str) -> Network:
    """Return the network called `name`; SweepError with the nearest name otherwise."""
    return networks().named(name, "network")


@functools.lru_cache(maxsize=65536)
def unsupported(framework: Framework, version: str | None, backend: str, device: str) -> str | None:
    """Return why this combination is impossible, or None."""
    if backend not in framework.backends:
        return f"{framework.name} has no backend {backend!r}"
    if device not in framework.devices:
        return f"{framework.name} knows no device {device!r}"
    # A version such as `mybuild` is an environment of the user's own, about which nothing is known.
    is_own_build = version is not None and not is_version(version)
    if not is_own_build:
        variants = framework.recipe(version).variants
        for name in (backend, device):
            if name in variants and variants[name].reason:
                return variants[name].reason
    entry = framework.backends[backend]
    exists = not is_version(version) or _matches(entry.versions or "*", version)
    if device in entry.devices and exists:
        return None
    return (
        entry.reason or f"{framework.name} {version or ''} has no backend {backend!r} on {device!r}"
    )


def is_version(version: str | None) -> TypeGuard[str]:
    """Return whether a text is a PEP 440 version; False for an environment of the user's own."""
    try:
        return version is not None and bool(Version(version))
    except InvalidVersion:
        return False


def read_framework(path: Path, name: str) -> Framework:
    """Return the framework file at `path`; SweepError with what is wrong in its header."""
    block = scripts.block(path, _HEADER_HINT)
    if block is None:
        raise SweepError(f"{path} has no recipe blocks", _HEADER_HINT)
    document = block.values
    try:
        header = _Header.model_validate(document.get("tool", {}).get("sweep"))
        of_backends = [each.versions for each in header.backends.values()]
        of_layers = [each.versions for each in header.layers.values()]
        for specifier in [*header.recipes, *of_backends, *of_layers]:
            SpecifierSet("" if specifier == "*" else specifier)
    except (ValidationError, InvalidSpecifier) as error:
        raise SweepError(
            f"the recipe in {path} is wrong: {_first_line(error)}", _HEADER_HINT
        ) from None
    return Framework(
        name=name,
        path=path,
        package=header.package,
        module=header.module or header.package or "numpy",
        requires_python=document.get("requires-python", ""),
        dependencies=tuple(document.get("dependencies", ())),
        devices=header.devices,
        backends={DEFAULT_BACKEND: Backend(devices=header.devices)} | header.backends,
        recipes=header.recipes,
        columns=_columns(path),
        layers=header.layers,
    )


def read_network(path: Path, name: str) -> Network:
    """Return the network file at `path`; SweepError if it assigns no NETWORK."""
    module = literals.parsed(path)
    if "NETWORK" not in literals.assigned(module):
        raise SweepError(
            f"{path} assigns no NETWORK",
            "a network file ends with NETWORK = Network(…) of workloads.runtime.layers",
        )
    docstring = ast.get_docstring(module) or ""
    files = dependencies.files_of(path).values()
    used = frozenset(name for file in files for name in _imported_layers(literals.parsed(file)))
    return Network(name, path, docstring.partition("\n")[0], used)


def _imported_layers(module: ast.Module) -> Iterator[str]:
    """Yield the names that a file imports from workloads.runtime.layers, or uses of `layers`."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module == "workloads.runtime.layers":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "layers":
            yield node.attr


def read_workload(path: Path, name: str) -> Workload:
    """Return the workload file at `path`; SweepError if it declares no PARAMETERS."""
    parameters = literals.value(path, "PARAMETERS")
    if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
        raise SweepError(
            f"{path} declares no PARAMETERS",
            'a workload opens with PARAMETERS = {"samples": 100, …}, literals only',
        )
    docstring = ast.get_docstring(literals.parsed(path)) or ""
    ignored = literals.value(path, "PARITY_IGNORES")
    reference, check = (tuple(literals.value(path, name) or ()) for name in ("REFERENCE", "CHECK"))
    return Workload(
        name=name,
        path=path,
        parameters=parameters,
        summary=docstring.partition("\n")[0],
        reference=reference,
        parity_ignores=tuple(ignored) if ignored is not None else None,
        check=check,
        choices=_choices(path, parameters),
        least=_least(path, parameters),
        steps=_steps(path, parameters),
        exclusive=_exclusive(path),
        columns=_columns(path),
    )


def _choices(path: Path, parameters: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    choices: dict[str, Sequence[Any]] = literals.value(path, "CHOICES") or {}
    for parameter, values in choices.items():
        if parameter not in parameters or parameters[parameter] not in values:
            raise SweepError(
                f"CHOICES in {path} is wrong about {parameter!r}",
                "CHOICES names parameters with the values that they may have,"
                " the default among them",
            )
    return choices


def _least(path: Path, parameters: Mapping[str, Any]) -> dict[str, int]:
    least = literals.value(path, "LEAST") or {}
    hint = (
        'LEAST names parameters with the smallest whole number that they may be, as {"samples": 1}'
    )
    if not isinstance(least, dict):
        raise SweepError(f"LEAST in {path} is no dict", hint)
    for parameter, bound in least.items():
        default = parameters.get(parameter)
        is_known = parameter in parameters and (default is None or _is_whole(default))
        if not is_known or not _is_whole(bound) or (default is not None and default < bound):
            raise SweepError(f"LEAST in {path} is wrong about {parameter!r}", hint)
    return least


def _steps(path: Path, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    steps = literals.value(path, "STEPS") or ()
    hint = 'STEPS names the parameters whose sum is the number of steps, as ("samples", "warmup")'
    if not isinstance(steps, tuple | list):
        raise SweepError(f"STEPS in {path} is no list of parameters", hint)
    for parameter in steps:
        if not _is_whole(parameters.get(parameter)):
            raise SweepError(f"STEPS in {path} is wrong about {parameter!r}", hint)
    return tuple(steps)


def _exclusive(path: Path) -> bool:
    exclusive = literals.value(path, "EXCLUSIVE") or False
    if not isinstance(exclusive, bool):
        raise SweepError(
            f"EXCLUSIVE in {path} is {exclusive!r}", "write EXCLUSIVE = True, or leave it out"
        )
    return exclusive


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _columns(path: Path) -> dict[str, dict[str, str]]:
    """Return what the file states about its columns in COLUMNS; SweepError if that is invalid."""
    given = literals.value(path, "COLUMNS")
    if not given:
        return {}
    hint = (
        'write COLUMNS = {"images_per_s":'
        ' {"unit": "images/s", "direction": "more", "meaning": "…"}}'
    )
    if not isinstance(given, dict) or not all(isinstance(facts, dict) for facts in given.values()):
        raise SweepError(f"COLUMNS in {path} is no dict of dicts", hint)
    columns = {}
    for name, facts in given.items():
        try:
            columns[str(name)] = validate(facts)
        except ValueError as error:
            raise SweepError(f"COLUMNS in {path} is wrong about {name!r}: {error}", hint) from None
    return columns


_HEADER_HINT = (
    "a framework file opens with a `# /// script` block holding [tool.sweep];"
    " see docs/environments.md"
)


def _in_tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.glob("*.py"):
        if not path.stem.startswith("_"):
            yield path.stem, path


def _may_be_workload(path: Path) -> bool:
    """Return whether a file has PARAMETERS, or is unreadable, so that it may have them."""
    try:
        return literals.value(path, "PARAMETERS") is not None
    except SweepError:
        return True


def _readers(
    read: Callable[[Path, str], T], files: Mapping[str, Path], group: str
) -> Mapping[str, Callable[[], T]]:
    """Return a function per name that reads its file; plug-ins replace files of the tree."""

    def of_plugin(point: EntryPoint) -> T:
        return read(plugins.located(point), point.name)

    # Registry calls these one by one and keeps the error of each file: a broken one stops only
    # what uses it.
    in_tree = {name: functools.partial(read, path, name) for name, path in files.items()}
    return in_tree | {
        name: functools.partial(of_plugin, point) for name, point in plugins.points(group).items()
    }


def _matches(specifier: str, version: str | None) -> bool:
    if specifier == "*":
        return True
    if not is_version(version):
        return False
    return SpecifierSet(specifier).contains(Version(version), prereleases=True)


def _first_line(error: ValidationError | InvalidSpecifier) -> str:
    if isinstance(error, InvalidSpecifier):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "[tool.sweep]"
    return f"{place}: {first['msg']}"
