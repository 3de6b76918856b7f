"""Names: every word of a grid looked up in the catalog, and every value brought into its parameter's type.

Nothing here looks at combinations: what cannot go together is an exclusion (`sweep.grid.expansion`), not an error.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from packaging.version import InvalidVersion, Version

from sweep.errors import SweepError, nearest
from sweep.grid.axes import BACKWARDS, HOUSE, NOT_AXES, SEED, SEEDS
from sweep.grid.language import Grid
from sweep.grid.quantities import Scalar
from sweep.grid.rules import VERSION
from sweep.selection import is_value

_MOST_SEED = 2**32 - 1  # what numpy.random.RandomState takes
_MOST_EXPONENT = 30
_LEAST = {"samples": 1, "warmup": 0, "threads": 1, "epochs": 1}
_FRAMEWORK = re.compile(r"\s*([A-Za-z0-9_.-]+?)\s*(?:==\s*(\S.*?)\s*)?")


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


class Names:
    """A grid's axes, seeds, rules and parameters in known words and right types. Raises SweepError for any other."""

    def __init__(
        self,
        grid: Grid,
        frameworks: Mapping[str, Framework],
        workloads: Mapping[str, Workload],
        data_sets: Collection[str] = (),
        metrics: Collection[str] = (),
    ) -> None:
        self._grid, self._frameworks, self._workloads = grid, frameworks, workloads
        self._data_sets = data_sets
        self.workloads = self._known_workloads()
        self._defaults = {k: v for w in self.workloads for k, v in workloads[w].parameters.items() if k not in NOT_AXES}
        self.axes = self._known_axes()
        self.seeds: Sequence[int] = [
            *map(int, map(str, self._values(("axes", SEED), SEED, grid.file.axes.get(SEED, SEEDS))))
        ]
        self.includes = self._known_includes()
        extra = dict.fromkeys(name for include in self.includes for name in include if name not in (*self.axes, SEED))
        self.order = [*self.axes, *extra]
        self.zips = self._known_zips()
        self.conditions = self._known_conditions()
        self.excludes = [self._known_rule(("exclude", i), rule) for i, rule in enumerate(grid.file.exclude)]
        self.parameters = {workload: self._parameters_of(workload) for workload in self.workloads}
        self._check_environments()
        self._check_resources()
        self._check_claims(metrics)

    def _known_workloads(self) -> list[str]:
        """Those of the grid and its includes, in order."""
        grid = self._grid
        if grid.file.workload is not None and "workload" in grid.file.axes:
            raise grid.error(("workload",), "workload is given twice, here and as an axis", "keep one of them")
        places: list[tuple[tuple[str | int, ...], Sequence[Scalar]]] = [
            (("axes", "workload") if grid.file.workload is None else ("workload",), self._workload_values())
        ]
        places += [
            (("include", i, "workload"), each["workload"])
            for i, each in enumerate(grid.file.include)
            if "workload" in each
        ]
        for place, values in places:
            for value in values:
                if value not in self._workloads:
                    raise grid.error(place, f"there is no workload {value!r}", nearest(str(value), self._workloads))
        return list(dict.fromkeys(str(value) for _, values in places for value in values))

    def _workload_values(self) -> Sequence[Scalar]:
        given = self._grid.file.workload
        return given if given is not None else self._grid.file.axes.get("workload", HOUSE["workload"])

    def _known_axes(self) -> dict[str, Sequence[Scalar]]:
        """Every axis but the seed with its values, those of the house first."""
        grid = self._grid
        for name in grid.file.axes:
            if name not in (*HOUSE, SEED, *self._defaults):
                raise self._unknown(("axes", name), name, (*HOUSE, SEED, *self._defaults))
            if name in grid.file.parameters:
                raise grid.error(("axes", name), f"{name} is both an axis and a parameter", "keep one of them")
        given = {"workload": self._workload_values()} | {k: v for k, v in grid.file.axes.items() if k != SEED}
        if not given.get("framework") and not any("framework" in each for each in grid.file.include):
            raise grid.error(("axes",), "no framework is given", "write framework: [torch==VERSION, …] under axes")
        names = [*HOUSE, *(name for name in given if name not in HOUSE)]
        return {name: self._values(("axes", name), name, given.get(name, HOUSE.get(name, ()))) for name in names}

    def _unknown(self, place: tuple[str | int, ...], name: str, known: Sequence[str]) -> SweepError:
        workloads = " or ".join(self.workloads)
        return self._grid.error(
            place, f"{name!r} is neither an axis nor a parameter of {workloads}", nearest(name, known)
        )

    def _known_includes(self) -> list[dict[str, Sequence[Scalar]]]:
        found = []
        for i, include in enumerate(self._grid.file.include):
            for name in include:
                if name not in (*HOUSE, SEED, *self._defaults):
                    raise self._unknown(("include", i, name), name, (*HOUSE, SEED, *self._defaults))
            if not include:
                raise self._grid.error(("include", i), "an empty include", "name at least one axis")
            found.append({name: self._values(("include", i, name), name, given) for name, given in include.items()})
        return found

    def _values(self, place: tuple[str | int, ...], name: str, values: Sequence[Scalar]) -> Sequence[Scalar]:
        if isinstance(values, range) and name in (SEED, "batch_exponent", *self._defaults):
            for end in {values[0], values[-1]}:
                self._value(place, name, end)
            return values if name not in self._defaults else [self._value(place, name, value) for value in values]
        return list(dict.fromkeys(self._value(place, name, value) for value in values))

    def _value(self, place: tuple[str | int, ...], name: str, value: Scalar) -> Scalar:
        if name == "framework":
            return self._framework(place, value)
        if name == SEED:
            return self._whole(place, name, value, 0, _MOST_SEED)
        if name == "batch_exponent":
            return self._whole(place, name, value, 0, _MOST_EXPONENT)
        if name in HOUSE:
            return self._word(place, name, value)
        return self._parameter(place, name, value, self._defaults[name])  # type: ignore[no-any-return]

    def _framework(self, place: tuple[str | int, ...], value: Scalar) -> str:
        """`torch==2.13.0`, its blanks taken out."""
        grid, frameworks = self._grid, self._frameworks
        match = _FRAMEWORK.fullmatch(str(value))
        name = match[1] if match else re.split(r"[^A-Za-z0-9_.-]", str(value))[0]
        if name not in frameworks:
            raise grid.error(place, f"there is no framework {name!r}", nearest(name, frameworks))
        version = match[2] if match else None
        if match is None or (version is None and frameworks[name].package):
            raise grid.error(
                place, f"{value!r} names no version", f"write {name}=={version or 'VERSION'}, one exact version"
            )
        if version is None:
            return name
        requirement = f"{name}=={version}"
        override = self._grid.environments.get(requirement, {})
        if not _is_version(version) and not (override.get("interpreter") or override.get("wheel")):
            hint = f"write {name}==VERSION, or environments: {{{requirement}: {{interpreter: path/to/python}}}}"
            raise grid.error(place, f"{version!r} is no version", hint)
        return requirement

    def _word(self, place: tuple[str | int, ...], name: str, value: Scalar) -> str:
        catalog = self._frameworks.values()
        known: Collection[str] = {
            "workload": self._workloads.keys(),
            "backend": {backend for framework in catalog for backend in framework.backends},
            "device": {device for framework in catalog for device in framework.devices},
            "backward": BACKWARDS,
        }[name]
        if value not in known:
            raise self._grid.error(place, f"there is no {name} {value!r}", nearest(str(value), known))
        return str(value)

    def _whole(self, place: tuple[str | int, ...], name: str, value: Any, least: int, most: int) -> int:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise self._grid.error(place, f"{name} {value!r} is no whole number from {least} to {most:,}", "write one")
        return number

    def _parameter(self, place: tuple[str | int, ...], name: str, value: Any, default: Any) -> Any:
        """The value in the type of the parameter's default."""
        if isinstance(value, float) and value.is_integer() and _is(default, int):
            value = int(value)
        if _is(value, int) and isinstance(default, float):
            value = float(value)
        wanted = _kind(default)
        if wanted and _kind(value) != wanted and not (value is None and isinstance(default, str)):
            raise self._grid.error(place, f"{name} is {value!r} and must be {wanted}", f"its default is {default!r}")
        if name in _LEAST and value is not None and (not _is(value, int) or value < _LEAST[name]):
            raise self._grid.error(place, f"{name} is {value!r}", f"write a whole number from {_LEAST[name]} on")
        if name == "data" and self._data_sets and value is not None and value not in self._data_sets:
            raise self._grid.error(place, f"there is no data set {value!r}", nearest(str(value), self._data_sets))
        return value

    def _known_zips(self) -> list[list[str]]:
        grid, seen = self._grid, set[str]()
        for i, group in enumerate(grid.file.zip):
            for name in group:
                if name == SEED or name not in grid.file.axes:
                    known = [axis for axis in grid.file.axes if axis != SEED]
                    raise grid.error(
                        ("zip", i), f"zip: {name!r} is no axis that could move with others", nearest(name, known)
                    )
                if name in seen:
                    raise grid.error(
                        ("zip", i), f"zip: {name!r} is in it twice", "put all that move together in one group"
                    )
                seen.add(name)
            lengths = {name: len(grid.file.axes[name]) for name in group}
            if len(set(lengths.values())) > 1:
                said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
                raise grid.error(("zip", i), f"zip: axes of different lengths: {said}", "give them as many values each")
        return grid.file.zip

    def _known_conditions(self) -> dict[str, Mapping[str, Sequence[Scalar]]]:
        """The conditions of `when`, those that others hang on first."""
        grid = self._grid
        for axis, condition in grid.file.when.items():
            if axis not in grid.file.axes or axis in ("framework", "workload", SEED):
                known = [name for name in grid.file.axes if name not in ("framework", "workload", SEED)]
                raise grid.error(
                    ("when", axis), f"when: {axis!r} is no axis that could be left out", nearest(axis, known)
                )
            self._known_rule(("when", axis), condition, seed=False)
        try:
            order = list(graphlib.TopologicalSorter(grid.file.when).static_order())
        except graphlib.CycleError as error:
            circle = " → ".join(error.args[1][::-1])
            raise grid.error(("when",), f"when: conditions in a circle, {circle}", "take one of them out") from None
        return {axis: grid.file.when[axis] for axis in order if axis in grid.file.when}

    def _known_rule(
        self, place: tuple[str | int, ...], rule: Mapping[str, Sequence[Scalar]], seed: bool = True
    ) -> Mapping[str, Sequence[Scalar]]:
        known = [*self.order, VERSION, *([SEED] if seed else [])]
        for name in rule:
            if name not in known:
                raise self._grid.error((*place, name), f"{name!r} is no axis of this grid", nearest(name, known))
        if not rule:
            raise self._grid.error(place, "an empty rule", "name an axis with the values that it is about")
        return rule

    def _parameters_of(self, workload: str) -> dict[str, Any]:
        """Defaults of a workload under what the grid says, for all workloads or for this one by name."""
        grid, defaults = self._grid, self._workloads[workload].parameters
        found = dict(defaults)
        for name, value in grid.file.parameters.items():
            if name in self._workloads and isinstance(value, dict):
                if name == workload:
                    found |= self._own_parameters(workload, value)
            elif name in defaults:
                found[name] = self._parameter(("parameters", name), name, value, defaults[name])
            elif name != "until" and name not in self._defaults:
                raise self._unknown_parameter(("parameters", name), name, self.workloads)
        return found

    def _own_parameters(self, workload: str, given: Mapping[str, Any]) -> dict[str, Any]:
        defaults, place = self._workloads[workload].parameters, ("parameters", workload)
        for name in given:
            if name not in defaults:
                raise self._unknown_parameter((*place, name), name, [workload])
        return {name: self._parameter((*place, name), name, value, defaults[name]) for name, value in given.items()}

    def _unknown_parameter(self, place: tuple[str | int, ...], name: str, workloads: Sequence[str]) -> SweepError:
        if name in (*HOUSE, SEED):
            return self._grid.error(place, f"{name} is an axis and no parameter", "move it under axes")
        known = dict.fromkeys(each for workload in workloads for each in self._workloads[workload].parameters)
        return self._grid.error(place, f"{' or '.join(workloads)} has no parameter {name!r}", nearest(name, known))

    def _check_environments(self) -> None:
        for name in self._grid.environments:
            self._framework(("environments", name), name)

    def _check_resources(self) -> None:
        rules = self._grid.file.resources
        for key, given, known in (
            ("device", rules.device, {device for each in self._frameworks.values() for device in each.devices}),
            ("workload", rules.workload, self._workloads),
        ):
            for name in given:
                if name not in known:
                    raise self._grid.error(
                        ("resources", key, name), f"there is no {key} {name!r}", nearest(name, known)
                    )

    def _check_claims(self, metrics: Collection[str]) -> None:
        grid = self._grid
        for i, claim in enumerate(grid.file.claims):
            axis, pair = next(iter(claim.compare.items()))
            self._check_claimed(("claims", i, "compare"), claim.name, axis, pair, [*self.order, VERSION])
            parameters = [name for each in self.parameters.values() for name in each]
            for name, wanted in claim.where.items():
                listed = wanted if isinstance(wanted, list) else [wanted]
                known = [*self.order, VERSION, *parameters]
                self._check_claimed(("claims", i, "where"), claim.name, name, listed, known)
            if metrics and claim.metric not in metrics:
                message = f"claim {claim.name!r}: there is no metric {claim.metric!r}"
                raise grid.error(("claims", i, "metric"), message, nearest(claim.metric, metrics))

    def _check_claimed(
        self, place: tuple[str | int, ...], claim: str, axis: str, wanted: Sequence[Scalar], known: Sequence[str]
    ) -> None:
        """Each wanted value must be one of the grid, unless the command line has put others in their place."""
        grid = self._grid
        if axis not in known:
            message = f"claim {claim!r}: {axis!r} is no axis of this grid"
            raise grid.error((*place, axis), message, nearest(axis, known))
        if axis == VERSION or axis not in self.axes or grid.is_overridden(axis):
            return
        values = [*self.axes[axis], *(value for include in self.includes for value in include.get(axis, ()))]
        for each in wanted:
            if not any(is_value(value, each) for value in values):
                message = f"claim {claim!r}: no cell has {axis} {each!r}"
                raise grid.error((*place, axis), message, nearest(str(each), values))


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """What a value is, in words; empty for nothing."""
    if value is None:
        return ""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "key: value"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a list")
