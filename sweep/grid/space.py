"""The space of a grid: its axes, seeds and rules, not yet expanded.

Every name is known, and every value has its type.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.axes import AXES, BATCH_SIZE, CELL_AXES, SEED, batch_size, default
from sweep.errors import SweepError, nearest
from sweep.grid.conditions import Alternatives, why_no_version
from sweep.grid.language import Grid
from sweep.grid.quantities import Scalar
from sweep.grid.source import Keys
from sweep.grid.words import Words
from sweep.selection import VERSION, framework_version

Included = Mapping[str, Sequence[Scalar]]
Condition = Mapping[str, Alternatives]

# Axes that exist in every cell, so that no condition may be attached to them.
_UNCONDITIONAL = ("framework", "workload", SEED)


class Space:
    """What a grid spans; SweepError for unknown axes and contradictory rules.

    `axes` holds every axis of the product except the seed, the built-in ones first. `order` adds
    the axes that only includes name.
    """

    def __init__(self, grid: Grid, words: Words) -> None:
        self._grid, self._words = grid, words
        own = [words.all_workloads[name] for name in words.workloads]
        had = (axis for axis in AXES if any(axis not in workload.without for workload in own))
        self._nameable = (*had, *words.defaults)
        self.axes = self._axes()
        self.seeds = self._seeds(("axes", SEED), grid.file.axes.get(SEED, default(SEED)))
        self.includes = [self._include(i, each) for i, each in enumerate(grid.file.include)]
        included = dict.fromkeys(name for include in self.includes for name in include)
        only_included = [name for name in included if name not in self.axes and name != SEED]
        self.order = [*self.axes, *only_included]
        self.zips = self._zips()
        self.conditions = self._conditions()
        self.excludes = [
            self._rule(("exclude", i), each, SEED) for i, each in enumerate(grid.file.exclude)
        ]
        self.parameters = {workload: self._parameters(workload) for workload in words.workloads}

    def values_of(self, axis: str) -> list[Scalar]:
        """Return every value that an axis takes anywhere in the grid.

        The values of the axis "version" are the versions of the frameworks.
        """
        if axis == VERSION:
            return [framework_version(framework) for framework in self.values_of("framework")]
        if axis == BATCH_SIZE and axis not in self.order:
            exponents = self.values_of("batch_exponent")
            return [batch_size({"batch_exponent": exponent}) for exponent in exponents]
        included = [value for include in self.includes for value in include.get(axis, ())]
        return [*self.axes.get(axis, ()), *included]

    def has(self, workload: str, axis: str) -> bool:
        """Return whether cells of a workload have an axis.

        A built-in axis may not apply to the workload; any other must be one of its parameters.
        """
        if axis in CELL_AXES:
            return axis not in self._words.all_workloads[workload].without
        return axis in self.parameters[workload]

    def seeds_of(self, include: Included) -> Sequence[int]:
        return [int(str(seed)) for seed in include[SEED]] if SEED in include else self.seeds

    def _axes(self) -> dict[str, Sequence[Scalar]]:
        grid = self._grid
        for name in grid.file.axes:
            self._check_nameable(("axes", name), name)
            if name in grid.file.parameters:
                raise grid.error(("axes", name), "both an axis and a parameter", "keep one of them")
        given = {"workload": self._words.workload_values}
        given |= {name: values for name, values in grid.file.axes.items() if name != SEED}
        if "framework" not in given and not any("framework" in each for each in grid.file.include):
            hint = (
                "write framework: [torch==VERSION, …] under axes,"
                " or use --set framework=torch==VERSION"
            )
            raise grid.error(("axes",), "no framework is given", hint)
        names = [*CELL_AXES, *(name for name in given if name not in CELL_AXES)]
        return {
            name: self._words.values(("axes", name), name, given.get(name) or default(name))
            for name in names
        }

    def _seeds(self, keys: Keys, given: Sequence[Scalar]) -> Sequence[int]:
        return [int(str(seed)) for seed in self._words.values(keys, SEED, given)]

    def _include(self, index: int, given: Included) -> Included:
        if not given:
            raise self._grid.error(("include", index), "no axis is named", "name at least one")
        for name in given:
            self._check_nameable(("include", index, name), name)
        self._check_has_effect(index, given)
        return {
            name: self._words.values(("include", index, name), name, values)
            for name, values in given.items()
        }

    def _check_has_effect(self, index: int, include: Included) -> None:
        """Refuse a parameter that none of the include's workloads has: it would do nothing."""
        workloads = [
            str(workload) for workload in include.get("workload", self._words.workload_values)
        ]
        known = {
            name
            for workload in workloads
            for name in self._words.all_workloads[workload].parameters
        }
        for name in include:
            if name not in AXES and name not in known:
                message = f"{name!r} is no parameter of {' or '.join(workloads)}"
                raise self._grid.error(("include", index, name), message, nearest(name, known))

    def _check_nameable(self, keys: Keys, name: str) -> None:
        if name == "data_path":
            raise self._grid.error(
                keys, "says where data lie and makes no cells", "move it under parameters"
            )
        if name not in self._nameable:
            workloads = " or ".join(self._words.workloads)
            message = f"{name!r} is neither an axis nor a parameter of {workloads}"
            raise self._grid.error(keys, message, nearest(name, self._nameable))

    def _zips(self) -> list[list[str]]:
        grid, seen = self._grid, set[str]()
        for i, group in enumerate(grid.file.zip):
            for name in group:
                if name == SEED or name not in grid.file.axes:
                    known = [axis for axis in grid.file.axes if axis != SEED]
                    raise grid.error(
                        ("zip", i),
                        f"{name!r} is no axis that could move with others",
                        nearest(name, known),
                    )
                if name in seen:
                    raise grid.error(
                        ("zip", i),
                        f"{name!r} is named twice",
                        "put all that move together in one group",
                    )
                seen.add(name)
            if len(group) < 2:
                raise grid.error(("zip", i), "one axis has none to move with", "name at least two")
            lengths = {name: len(self.axes[name]) for name in group}
            if len(set(lengths.values())) > 1:
                listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
                raise grid.error(
                    ("zip", i),
                    f"axes of different lengths: {listed}",
                    "give them as many values each",
                )
        return grid.file.zip

    def _conditions(self) -> dict[str, Condition]:
        grid, given = self._grid, self._grid.file.when
        for axis, condition in given.items():
            if axis not in grid.file.axes or axis in _UNCONDITIONAL:
                known = [name for name in grid.file.axes if name not in _UNCONDITIONAL]
                hint = nearest(axis, known) if known else "give it values under axes"
                raise grid.error(
                    ("when", axis), f"{axis!r} is no axis that could be left out", hint
                )
            self._rule(("when", axis), condition)
        # Axes that move together are one factor of the product, which exists or not as a whole.
        for i, group in enumerate(self.zips):
            if any(given.get(name) != given.get(group[0]) for name in group):
                message = f"{' and '.join(group)} move together and do not exist together"
                raise grid.error(("zip", i), message, "give them the same condition under when")
        try:
            # Axes are laid out in the order of their conditions, which a cycle does not have.
            graphlib.TopologicalSorter(given).prepare()
        except graphlib.CycleError as error:
            circle = " → ".join(error.args[1][::-1])
            raise grid.error(
                ("when",), f"conditions in a circle: {circle}", "take one of them out"
            ) from None
        return dict(given)

    def _rule(self, keys: Keys, rule: Condition, *more: str) -> Condition:
        known = [*self.order, VERSION, BATCH_SIZE, *more]
        for name, alternatives in rule.items():
            if name not in known:
                raise self._grid.error(
                    (*keys, name), f"{name!r} is no axis of this grid", nearest(name, known)
                )
            if reason := why_no_version(name, alternatives):
                raise self._grid.error((*keys, name), *reason)
        if not rule:
            raise self._grid.error(
                keys, "no axis is named", "name one with the values that the rule is about"
            )
        return rule

    def _parameters(self, workload: str) -> dict[str, Any]:
        """Return a workload's parameters: its defaults, overlaid with the grid's values.

        The grid's values are for all workloads, or in a table for this one by name.
        """
        words, given = self._words, self._grid.file.parameters
        defaults = words.all_workloads[workload].parameters
        parameters = dict(defaults)
        for name, value in given.items():
            if name == "until" or _is_table_of(words, name, value):
                continue
            if not any(name in words.all_workloads[each].parameters for each in words.workloads):
                raise self._unknown_parameter(("parameters", name), words.workloads)
            if name in defaults:
                keys: Keys = ("parameters", name)
                parameters[name] = words.parameter(keys, name, value, defaults[name])
        if not _is_table_of(words, workload, given.get(workload)):
            return parameters
        for name, value in given[workload].items():
            keys = ("parameters", workload, name)
            if name not in defaults:
                raise self._unknown_parameter(keys, [workload])
            parameters[name] = words.parameter(keys, name, value, defaults[name])
        return parameters

    def _unknown_parameter(self, keys: Keys, workloads: Sequence[str]) -> SweepError:
        name = str(keys[-1])
        if name in AXES:
            return self._grid.error(keys, "this is an axis and no parameter", "move it under axes")
        known = dict.fromkeys(
            p for each in workloads for p in self._words.all_workloads[each].parameters
        )
        message = f"{' or '.join(workloads)} has no parameter {name!r}"
        return self._grid.error(keys, message, nearest(name, [*known, *AXES]))


def _is_table_of(words: Words, name: str, value: Any) -> bool:
    """Return whether this entry of `parameters` is for one workload alone."""
    return isinstance(value, dict) and name in words.all_workloads
