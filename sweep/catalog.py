"""The catalog: which frameworks, workloads and networks there are, read from their files without importing them."""

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
from sweep.errors import SweepError, nearest
from sweep.plugins import Found
from sweep.records.stated import checked
from sweep.steps import Step

DEFAULT_BACKEND = "default"
T = TypeVar("T")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Table):
    """What a backend or a device changes in a recipe: other Pythons, more requirements; or the reason it cannot be."""

    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    hint: str = ""
    reason: str = ""


class Recipe(_Table):
    """How an environment is built for the versions that match its specifier.

    `python` is in order of preference; `requires` may say `{version}`; `build` constrains what source distributions are
    built with, in `environment`'s variables; `cpu_build` says that the index's own builds bring CUDA libraries and that
    CPU builds may be had elsewhere; `hint` is for a user whose build failed.
    """

    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    cpu_build: bool = False
    hint: str = ""
    variants: dict[str, Variant] = Field(default_factory=dict)


class Backend(_Table):
    """Where a backend exists: versions of the framework (PEP 440) and devices; `reason` is said where it does not."""

    versions: str = ""
    devices: tuple[str, ...] = ("cpu", "gpu")
    reason: str = ""


class Layer(_Table):
    """Which versions of a framework (PEP 440) can compute a layer; `reason` is said of the others."""

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
    """One framework file. `package` is its distribution, empty where that is NumPy itself; `module` is the import."""

    name: str
    path: Path
    package: str
    module: str
    requires_python: str
    dependencies: tuple[str, ...]
    devices: tuple[str, ...]
    backends: Mapping[str, Backend]  # `default` is one of them
    recipes: Mapping[
        str, Recipe
    ]  # PEP 440 specifier (or "*") -> recipe; the first that matches counts
    columns: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # what the file states of its columns
    layers: Mapping[str, Layer] = field(default_factory=dict)  # those that not every version has
    is_any_package: bool = False  # nothing is known of it but its name: for steps alone

    def recipe(self, version: str | None) -> Recipe:
        """The recipe for `version`; a version that is no PEP 440 version, or none, matches "*" alone."""
        matching = (r for specifier, r in self.recipes.items() if _matches(specifier, version))
        return next(matching, Recipe())

    def unsupported(self, version: str | None, backend: str, device: str) -> str | None:
        """Why this version cannot compute with that backend on that device, or None where it can."""
        return unsupported(self, version, backend, device)


@dataclass(frozen=True, eq=False)
class Workload:
    """One workload file: its parameters with their defaults, and the first line of its docstring.

    `reference`: the settings that its `reference_values` depends on; empty where it has none to be compared with.
    `check`: those that its `check` depends on, which says before anything is timed what cannot be; empty likewise.
    `choices`: the values of those parameters that have only a few.
    `least`: the smallest value of those parameters that are whole numbers with a lower bound.
    `steps`: the settings whose sum says how many steps a trial has, for estimates of its time; empty where it is one.
    `exclusive`: whether a trial has its node to itself unless the grid says otherwise.
    `columns`: what the file states of the columns that it alone gives; see `records.columns.ColumnMetadata`.
    `without`: the built-in axes that it does not have.
    `step`: the user's own file, of a step; `path` is then the module that runs it.
    """

    name: str
    path: Path
    parameters: Mapping[str, Any]
    summary: str = ""
    reference: tuple[str, ...] = ()
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
    """One network file: the first line of its docstring, and the names of the layers that it is made of."""

    name: str
    path: Path
    summary: str = ""
    layers: frozenset[str] = frozenset()

    def lacking(self, framework: Framework, version: str | None) -> str | None:
        """Why this version of a framework cannot compute the network; None where nothing is known against it."""
        for name, layer in framework.layers.items():
            known = is_version(version)
            if name in self.layers and known and not _matches(layer.versions, version):
                return f"{self.name} needs {name}: {layer.reason}"
        return None


ENTRY_POINTS = (
    "sweep.frameworks",
    "sweep.workloads",
    "sweep.networks",
    "sweep.datasets",
)  # by which plug-ins are found


def frameworks() -> Found[Framework]:
    """Every framework by name, in the tree and from entry points `sweep.frameworks`."""
    in_tree = dict(_in_tree(WORKLOADS / "frameworks"))
    return Found(_readers(read_framework, in_tree, "sweep.frameworks"))


def known(framework: str) -> Framework:
    """The framework called `framework`; SweepError with the nearest name where there is none."""
    every = frameworks()
    if framework not in every:
        raise SweepError(f"there is no framework {framework!r}", nearest(framework, every))
    return every[framework]


@functools.lru_cache(maxsize=256)
def any_package(name: str) -> Framework:
    """A package of the index as a framework: its recipe is the package itself, on the newest Python that has it."""
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


def known_or_any(framework: str) -> Framework:
    """The framework called `framework`, or the package of that name: whether that can be is looked at in the grid."""
    every = frameworks()
    return every[framework] if framework in every else any_package(framework)


def of_step(step: Step) -> Workload:
    """A step file as a workload."""
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
    """The workload of a trial, a step as it was when the trial was planned; SweepError where it is not there."""
    if not steps.is_step(name):
        return known_workload(name)
    return of_step(steps.stored(content.get("workload", "").partition(",")[0], name))


class Planned(Protocol):
    """What is needed of a cell; see `sweep.grid`."""

    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def content(self) -> Mapping[str, str]: ...


def workloads_of(cells: Iterable[Planned]) -> Mapping[str, Workload]:
    """Every workload, and the steps that these cells are of, by name."""
    contents = {str(cell.settings["workload"]): cell.content for cell in cells}
    return workloads() | {
        name: workload_of(name, each) for name, each in contents.items() if steps.is_step(name)
    }


def workloads() -> Found[Workload]:
    """Every workload, in the tree (files with PARAMETERS) and from entry points `sweep.workloads`, by name."""
    in_tree = {name: path for name, path in _in_tree(WORKLOADS) if _may_be_workload(path)}
    return Found(_readers(read_workload, in_tree, "sweep.workloads"))


def known_workload(name: str) -> Workload:
    """The workload called `name`; SweepError with the nearest name where there is none."""
    every = workloads()
    if name not in every:
        raise SweepError(f"there is no workload {name!r}", nearest(name, every))
    return every[name]


def networks() -> Found[Network]:
    """Every network by name, in the tree and from entry points `sweep.networks`."""
    in_tree = dict(_in_tree(WORKLOADS / "networks"))
    return Found(_readers(read_network, in_tree, "sweep.networks"))


def known_network(name: str) -> Network:
    """The network called `name`; SweepError with the nearest name where there is none."""
    every = networks()
    if name not in every:
        raise SweepError(f"there is no network {name!r}", nearest(name, every))
    return every[name]


@functools.lru_cache(maxsize=65536)
def unsupported(framework: Framework, version: str | None, backend: str, device: str) -> str | None:
    """Why this combination cannot be, or None where it can."""
    if backend not in framework.backends:
        return f"{framework.name} has no backend {backend!r}"
    if device not in framework.devices:
        return f"{framework.name} knows no device {device!r}"
    of_ones_own = version is not None and not is_version(version)
    for variant in () if of_ones_own else (backend, device):
        if reason := framework.recipe(version).variants.get(variant, Variant()).reason:
            return reason
    entry = framework.backends[backend]
    if device in entry.devices and (
        _matches(entry.versions or "*", version) or not is_version(version)
    ):
        return None
    return (
        entry.reason or f"{framework.name} {version or ''} has no backend {backend!r} on {device!r}"
    )


def is_version(version: str | None) -> TypeGuard[str]:
    """False for `mybuild`, an environment of the user's own: nothing is known against it."""
    try:
        return version is not None and bool(Version(version))
    except InvalidVersion:
        return False


def read_framework(path: Path, name: str) -> Framework:
    """The framework file at `path`; SweepError names what is wrong with its header."""
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
    """The network file at `path`; SweepError where it assigns no NETWORK."""
    module = literals.parsed(path)
    if "NETWORK" not in literals.assigned(module):
        raise SweepError(
            f"{path} assigns no NETWORK",
            "a network file ends with NETWORK = Network(…) of workloads.runtime.layers",
        )
    docstring = ast.get_docstring(module) or ""
    files = dependencies.found(path).values()
    used = frozenset(name for file in files for name in _imported_layers(literals.parsed(file)))
    return Network(name, path, docstring.partition("\n")[0], used)


def _imported_layers(module: ast.Module) -> Iterator[str]:
    """Names that a file takes from workloads.runtime.layers, by `from` or as attributes of `layers`."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module == "workloads.runtime.layers":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "layers":
            yield node.attr


def read_workload(path: Path, name: str) -> Workload:
    """The workload file at `path`; SweepError where it declares no PARAMETERS."""
    parameters = literals.value(path, "PARAMETERS")
    if not isinstance(parameters, dict) or not all(isinstance(key, str) for key in parameters):
        raise SweepError(
            f"{path} declares no PARAMETERS",
            'a workload opens with PARAMETERS = {"samples": 100, …}, literals only',
        )
    docstring = ast.get_docstring(literals.parsed(path)) or ""
    reference, check = (tuple(literals.value(path, name) or ()) for name in ("REFERENCE", "CHECK"))
    return Workload(
        name=name,
        path=path,
        parameters=parameters,
        summary=docstring.partition("\n")[0],
        reference=reference,
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
            hint = "CHOICES names parameters with the values that they may have, the default among them"
            raise SweepError(f"CHOICES in {path} is wrong about {parameter!r}", hint)
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
    """What the file states of its columns, in COLUMNS; SweepError where it cannot be."""
    given = literals.value(path, "COLUMNS")
    if not given:
        return {}
    hint = 'write COLUMNS = {"images_per_s": {"unit": "images/s", "direction": "more", "meaning": "…"}}'
    if not isinstance(given, dict) or not all(isinstance(said, dict) for said in given.values()):
        raise SweepError(f"COLUMNS in {path} is no dict of dicts", hint)
    found = {}
    for name, said in given.items():
        try:
            found[str(name)] = checked(said)
        except ValueError as error:
            raise SweepError(f"COLUMNS in {path} is wrong about {name!r}: {error}", hint) from None
    return found


_HEADER_HINT = "a framework file opens with a `# /// script` block holding [tool.sweep]; see docs/environments.md"


def _in_tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.glob("*.py"):
        if not path.stem.startswith("_"):
            yield path.stem, path


def _may_be_workload(path: Path) -> bool:
    """Whether a file in the tree has PARAMETERS, or cannot be read to see whether it has."""
    try:
        return literals.value(path, "PARAMETERS") is not None
    except SweepError:
        return True


def _readers(
    read: Callable[[Path, str], T], files: Mapping[str, Path], group: str
) -> Mapping[str, Callable[[], T]]:
    """What reads each file, in the tree and of plug-ins, which come first."""

    def of_plugin(point: EntryPoint) -> T:
        return read(plugins.located(point), point.name)

    in_tree = {name: functools.partial(read, path, name) for name, path in files.items()}
    return in_tree | {
        name: functools.partial(of_plugin, point) for name, point in plugins.points(group).items()
    }


def _matches(specifier: str, version: str | None) -> bool:
    if specifier == "*":
        return True
    return is_version(version) and SpecifierSet(specifier).contains(
        Version(version), prereleases=True
    )


def _first_line(error: ValidationError | InvalidSpecifier) -> str:
    if isinstance(error, InvalidSpecifier):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "[tool.sweep]"
    return f"{place}: {first['msg']}"
