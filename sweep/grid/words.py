"""The catalog's words in a grid: values are looked up and converted to their parameter's type.

Combinations are not checked here: an impossible one is an exclusion (`sweep.grid.expansion`), not
an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from packaging.version import InvalidVersion, Version

from sweep import versions
from sweep.axes import AXES, CELL_AXES, NOT_AXES, default
from sweep.errors import nearest
from sweep.grid.language import Grid
from sweep.grid.quantities import Scalar, written
from sweep.grid.source import Keys

# Lower bounds of the parameters that sweep itself interprets; a workload declares its own.
_LEAST = {"threads": 1}
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9_.-]+?)\s*(?:==\s*(\S.*?)\s*)?")


class Framework(Protocol):
    """What the grid needs of a framework of the catalog."""

    @property
    def package(self) -> str: ...
    @property
    def devices(self) -> Sequence[str]: ...
    @property
    def backends(self) -> Mapping[str, Any]: ...
    @property
    def is_any_package(self) -> bool: ...
    def unsupported(self, version: str | None, backend: str, device: str) -> str | None: ...


class Workload(Protocol):
    """What the grid needs of a workload of the catalog."""

    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def choices(self) -> Mapping[str, Sequence[Any]]: ...
    @property
    def least(self) -> Mapping[str, int]: ...
    @property
    def exclusive(self) -> bool: ...
    @property
    def without(self) -> Collection[str]: ...
    @property
    def step(self) -> object: ...


class Network(Protocol):
    """What the grid needs of a network of the catalog."""

    def lacking(self, framework: Any, version: str | None) -> str | None: ...


class Words:
    """The frameworks, workloads and data sets that a grid may name.

    An unknown name is a SweepError with the nearest known one.
    """

    def __init__(
        self,
        grid: Grid,
        frameworks: Mapping[str, Framework],
        workloads: Mapping[str, Workload],
        data_sets: Collection[str] = (),
        networks: Collection[str] = (),
    ) -> None:
        self._grid, self._frameworks = grid, frameworks
        self._data_sets, self._networks = data_sets, networks
        self.all_workloads = workloads
        self.notes: list[str] = []
        self.backends = {
            backend for framework in frameworks.values() for backend in framework.backends
        }
        self.devices = {device for framework in frameworks.values() for device in framework.devices}
        self.workloads = self._named_workloads()
        own = [workloads[workload] for workload in self.workloads]
        self.defaults = {
            name: value
            for each in own
            for name, value in each.parameters.items()
            if name not in NOT_AXES
        }
        self._choices = {name: values for each in own for name, values in each.choices.items()}
        self._least = _LEAST | {name: bound for each in own for name, bound in each.least.items()}

    def values(self, keys: Keys, name: str, values: Sequence[Scalar]) -> Sequence[Scalar]:
        """Return the values of an axis, each once; a range of integers remains one."""
        if isinstance(values, range) and name in AXES and AXES[name].is_whole:
            # A range is ordered, so its ends decide: a million seeds are not checked one by one.
            for end in (values[0], values[-1]):
                self.value(keys, name, end)
            return values
        converted = [self.value(keys, name, value) for value in values]
        if name == "framework":
            self._note_duplicates(dict(zip(values, converted, strict=True)))
        return list(dict.fromkeys(converted))

    def _note_duplicates(self, versions_of: Mapping[Scalar, Scalar]) -> None:
        """Note spellings of one version: the author of the grid may have meant two."""
        for version in dict.fromkeys(versions_of.values()):
            spelled = [str(value) for value, known in versions_of.items() if known == version]
            if len(spelled) > 1:
                self.notes.append(
                    f"{' and '.join(spelled)} are one version, {version}, and count once"
                )

    def value(self, keys: Keys, name: str, value: Scalar) -> Scalar:
        """Return a value of the axis `name`, converted to the axis's type."""
        if name == "framework":
            return self.framework(keys, value)
        if name in AXES and (most := AXES[name].most) is not None:
            return self._whole(keys, value, most)
        if name in CELL_AXES:
            return self._word(keys, name, value)
        return self.parameter(keys, name, value, self.defaults[name])  # type: ignore[no-any-return]

    def framework(self, keys: Keys, value: Scalar) -> str:
        """Return a framework with its version normalised, such as `torch==2.13.0`."""
        match = _REQUIREMENT.fullmatch(str(value))
        name = match[1] if match else re.split(r"[^A-Za-z0-9_.-]", str(value).strip())[0]
        if name not in self._frameworks:
            raise self._grid.error(
                keys, f"there is no framework {name!r}", nearest(name, self._frameworks)
            )
        version = match[2] if match else None
        if not match or (version is None and self._frameworks[name].package):
            hint = f"write {name}==VERSION, an exact one, or a range as {name}>=VERSION"
            raise self._grid.error(keys, f"{written(value)} names no version", hint)
        if version is None:
            return name
        version = versions.normal(version)
        requirement = f"{name}=={version}"
        # With an environment of one's own, the version is only a name for it.
        override = self._grid.environments.get(requirement, {})
        is_own = any(override.get(key) for key in ("interpreter", "wheel", "lock"))
        if not _is_version(version) and not is_own:
            hint = (
                f"write {name}==VERSION, or"
                f" environments: {{{requirement}: {{interpreter: path/to/python}}}}"
            )
            raise self._grid.error(keys, f"{version!r} is no version", hint)
        return requirement

    def parameter(self, keys: Keys, name: str, value: Any, default: Any) -> Any:
        """Return the value in the type of the parameter's default; SweepError if it is invalid."""
        # YAML writes 1e3 as a float, and 1 for a parameter of fractions as an integer.
        if isinstance(value, float) and value.is_integer() and _is_int(default):
            value = int(value)
        if _is_int(value) and isinstance(default, float):
            value = float(value)
        wanted = _kind(default)
        if wanted and _kind(value) != wanted and not (value is None and isinstance(default, str)):
            raise self._grid.error(
                keys, f"{written(value)} is not {wanted}", f"the default is {written(default)}"
            )
        least = self._least.get(name)
        if least is not None and value is not None and (not _is_int(value) or value < least):
            raise self._grid.error(
                keys, f"{written(value)} is no whole number from {least} on", "write one"
            )
        if name == "data_path" and not isinstance(value, str | None):
            raise self._grid.error(
                keys, f"{written(value)} is no path", "name a folder or a zip archive, in quotes"
            )
        if value not in self._choices.get(name, [value]):
            raise self._grid.error(
                keys, f"{written(value)} is no {name}", nearest(str(value), self._choices[name])
            )
        is_data_set = name == "data" and self._data_sets and value is not None
        if is_data_set and value not in self._data_sets:
            raise self._grid.error(
                keys, f"there is no data set {value!r}", nearest(value, self._data_sets)
            )
        if name == "network" and self._networks and value not in self._networks:
            raise self._grid.error(
                keys, f"there is no network {value!r}", nearest(str(value), self._networks)
            )
        return value

    def _named_workloads(self) -> list[str]:
        """Return the workloads of the grid and its includes, in order."""
        file = self._grid.file
        if file.workload is not None and "workload" in file.axes:
            raise self._grid.error(
                ("workload",), "given twice, here and under axes", "keep one of them"
            )
        keys: Keys = ("axes", "workload") if file.workload is None else ("workload",)
        named: dict[Keys, Sequence[Scalar]] = {keys: self.workload_values}
        for i, include in enumerate(file.include):
            if "workload" in include:
                named["include", i, "workload"] = include["workload"]
        workloads = [
            self._word(keys, "workload", value)
            for keys, values in named.items()
            for value in values
        ]
        return list(dict.fromkeys(workloads))

    @property
    def workload_values(self) -> Sequence[Scalar]:
        """The values of the workload axis, whether given under `workload` or under `axes`."""
        file = self._grid.file
        if file.workload is not None:
            return file.workload
        return file.axes.get("workload", default("workload"))

    def _word(self, keys: Keys, name: str, value: Scalar) -> str:
        known: Collection[str] = {
            "workload": self.all_workloads,
            "backend": self.backends,
            "device": self.devices,
            "backward": AXES["backward"].values,
        }[name]
        if value not in known:
            raise self._grid.error(
                keys, f"there is no {name} {written(value)}", nearest(str(value), known)
            )
        return str(value)

    def _whole(self, keys: Keys, value: Any, most: int) -> int:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if not _is_int(number) or not 0 <= number <= most:
            message = f"{written(value)} is no whole number from 0 to {most:,}"
            raise self._grid.error(keys, message, "write one, without quotes")
        return int(number)


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Return the name of a value's type for users, or "" for None."""
    if value is None:
        return ""
    # bool is a subclass of int: it comes first.
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "keys with values",
    }
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a list")
