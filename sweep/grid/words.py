"""Words: values of a grid looked up in the catalog and brought into their parameter's type.

What cannot go together is no matter here: that is an exclusion (`sweep.grid.expansion`), not an error.
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

_LEAST = {"threads": 1}  # of the parameters that sweep itself acts on
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9_.-]+?)\s*(?:==\s*(\S.*?)\s*)?")


class Framework(Protocol):
    """What is needed of a framework of the catalog."""

    @property
    def package(self) -> str: ...
    @property
    def devices(self) -> Sequence[str]: ...
    @property
    def backends(self) -> Mapping[str, Any]: ...
    def unsupported(self, version: str | None, backend: str, device: str) -> str | None: ...


class Workload(Protocol):
    """What is needed of a workload of the catalog."""

    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def choices(self) -> Mapping[str, Sequence[Any]]: ...
    @property
    def least(self) -> Mapping[str, int]: ...
    @property
    def exclusive(self) -> bool: ...


class Network(Protocol):
    """What is needed of a network of the catalog."""

    def lacking(self, framework: Any, version: str | None) -> str | None: ...


class Words:
    """The catalog, as a grid speaks of it. What is looked up and not there is a SweepError with the nearest word."""

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
        self.workloads = self._of_the_grid()
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
        """The values of an axis, each once; a range of seeds or batch exponents stays one."""
        if isinstance(values, range) and name in AXES and AXES[name].is_whole:
            for end in (values[0], values[-1]):
                self.value(keys, name, end)
            return values
        found = {value: self.value(keys, name, value) for value in values}
        if name == "framework":
            self._note_doubles(found)
        return list(dict.fromkeys(self.value(keys, name, value) for value in values))

    def _note_doubles(self, found: Mapping[Scalar, Scalar]) -> None:
        """Spellings that turn out to be one version: whoever wrote both may have meant two."""
        for version in dict.fromkeys(found.values()):
            spelled = [str(value) for value, known in found.items() if known == version]
            if len(spelled) > 1:
                self.notes.append(
                    f"{' and '.join(spelled)} are one version, {version}, and count once"
                )

    def value(self, keys: Keys, name: str, value: Scalar) -> Scalar:
        if name == "framework":
            return self.framework(keys, value)
        if name in AXES and (most := AXES[name].most) is not None:
            return self._whole(keys, value, most)
        if name in CELL_AXES:
            return self._word(keys, name, value)
        return self.parameter(keys, name, value, self.defaults[name])  # type: ignore[no-any-return]

    def framework(self, keys: Keys, value: Scalar) -> str:
        """`torch==2.13.0`, whichever way it is spelled."""
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
        override = self._grid.environments.get(requirement, {})
        if not _is_version(version) and not any(
            override.get(key) for key in ("interpreter", "wheel", "lock")
        ):
            hint = f"write {name}==VERSION, or environments: {{{requirement}: {{interpreter: path/to/python}}}}"
            raise self._grid.error(keys, f"{version!r} is no version", hint)
        return requirement

    def parameter(self, keys: Keys, name: str, value: Any, default: Any) -> Any:
        """The value in the type of the parameter's default."""
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
        if (
            name == "data"
            and self._data_sets
            and value is not None
            and value not in self._data_sets
        ):
            raise self._grid.error(
                keys, f"there is no data set {value!r}", nearest(value, self._data_sets)
            )
        if name == "network" and self._networks and value not in self._networks:
            raise self._grid.error(
                keys, f"there is no network {value!r}", nearest(str(value), self._networks)
            )
        return value

    def _of_the_grid(self) -> list[str]:
        """The workloads of the grid and its includes, in order."""
        file = self._grid.file
        if file.workload is not None and "workload" in file.axes:
            raise self._grid.error(
                ("workload",), "given twice, here and under axes", "keep one of them"
            )
        keys: Keys = ("axes", "workload") if file.workload is None else ("workload",)
        named: dict[Keys, Sequence[Scalar]] = {keys: self.workload_values}
        named |= {
            ("include", i, "workload"): e["workload"]
            for i, e in enumerate(file.include)
            if "workload" in e
        }
        return list(
            dict.fromkeys(
                self._word(k, "workload", value) for k, values in named.items() for value in values
            )
        )

    @property
    def workload_values(self) -> Sequence[Scalar]:
        file = self._grid.file
        return (
            file.axes.get("workload", default("workload"))
            if file.workload is None
            else file.workload
        )

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
    """What a value is, in words; empty for nothing."""
    if value is None:
        return ""
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "keys with values",
    }
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a list")
