"""Expansion: from a grid to its cells and trials; pure, bounded, and the same in any process on any machine."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.errors import SweepError, nearest
from sweep.grid import identity
from sweep.grid.axes import HOUSE, SEED
from sweep.grid.language import Grid
from sweep.grid.names import Framework, Names, Workload
from sweep.grid.quantities import Scalar
from sweep.grid.rules import Rule
from sweep.grid.trials import Cell, Exclusion, Expansion, Resources, Trial

MOST_TRIALS = 1_000_000

Axes = dict[str, Any]


def expand(
    grid: Grid,
    frameworks: Mapping[str, Framework],
    workloads: Mapping[str, Workload],
    only: Iterable[str] = (),
    *,
    data_sets: Collection[str] = (),
    metrics: Collection[str] = (),
) -> Expansion:
    """Every cell and trial of a grid, what is left out with the reason, and what its author may not have meant.

    `only` are globs on names. SweepError for words that neither the grid nor the catalog knows, for more than
    MOST_TRIALS trials, which is known before any is made, and where nothing is left.
    """
    names = Names(grid, frameworks, workloads, data_sets, metrics)
    _check_size(grid, names)
    cells = _Cells(grid, names, frameworks)
    for axes in _combinations(names, names.axes):
        cells.add(axes, names.seeds, may_be_excluded=True)
    for i, include in enumerate(names.includes):
        known = len(cells.found)
        for axes in _combinations(names, _included(grid, names, i, include)):
            cells.add(axes, [int(str(seed)) for seed in include.get(SEED, names.seeds)], may_be_excluded=False)
        if len(cells.found) == known and SEED not in include:
            cells.notes.append(f"include #{i + 1} adds no cell that is not there already")
    return _chosen(cells.expansion(), list(only), grid)


def _check_size(grid: Grid, names: Names) -> None:
    """Refuse by the product alone: conditions and exclusions could only be counted by making what they leave out."""
    total = _size(names, names.axes) * len(names.seeds)
    for i, include in enumerate(names.includes):
        total += _size(names, _included(grid, names, i, include)) * len(include.get(SEED, names.seeds))
    if total > MOST_TRIALS:
        hint = "take fewer values, or move axes together with zip; excluded cells count"
        raise grid.error(("axes",), f"{total:,} trials, more than the {MOST_TRIALS:,} that a grid can have", hint)


def _size(names: Names, axes: Mapping[str, Sequence[Scalar]]) -> int:
    zipped = {name for group in names.zips for name in group[1:]}
    return math.prod(len(values) for name, values in axes.items() if name not in zipped)


def _combinations(names: Names, axes: Mapping[str, Sequence[Scalar]]) -> Iterator[Axes]:
    """The product of all axes, those of a zip as one."""
    factors: dict[str, list[Axes]] = {}
    for name, values in axes.items():
        group = next((group for group in names.zips if name in group), [name])
        if name == group[0]:
            columns = (
                zip(*(axes[member] for member in group), strict=True) if len(group) > 1 else ((v,) for v in values)
            )
            factors[name] = [dict(zip(group, column, strict=True)) for column in columns]
    for options in itertools.product(*factors.values()):
        chosen: Axes = {}
        for option in options:
            chosen.update(option)
        yield chosen


def _included(
    grid: Grid, names: Names, place: int, include: Mapping[str, Sequence[Scalar]]
) -> dict[str, Sequence[Scalar]]:
    """The axes of an include: its own values, and all values where it has none; rows of a zip that fit."""
    axes = {**names.axes, **{name: values for name, values in include.items() if name != SEED}}
    for group in names.zips:
        given = [name for name in group if name in include]
        rows = list(zip(*(names.axes[name] for name in group), strict=True))
        fitting = [row for row in rows if all(row[group.index(name)] in include[name] for name in given)]
        if given and fitting:
            axes |= {name: [row[i] for row in fitting] for i, name in enumerate(group)}
        elif given and len(given) < len(group):
            missing = ", ".join(name for name in group if name not in given)
            message = f"include #{place + 1} gives {given[0]} a value that its zip does not have"
            raise grid.error(("include", place, given[0]), message, f"give {missing} as well")
        elif given and len({len(include[name]) for name in given}) > 1:
            message = f"include #{place + 1} gives zipped axes different numbers of values"
            raise grid.error(("include", place, given[0]), message, "give them as many values each")
    return axes


class _Cells:
    """The cells found so far, each once, and those left out."""

    def __init__(self, grid: Grid, names: Names, frameworks: Mapping[str, Framework]) -> None:
        self._grid, self._names, self._frameworks = grid, names, frameworks
        self._conditions = {axis: Rule(condition) for axis, condition in names.conditions.items()}
        rules = [Rule(condition) for condition in names.excludes]
        self._rules = [(i, rule) for i, rule in enumerate(rules, 1) if SEED not in rule.condition]
        self._seed_rules = [(i, rule) for i, rule in enumerate(rules, 1) if SEED in rule.condition]
        self._shapes: dict[tuple[str, ...], identity.Shape] = {}
        self._resources: dict[tuple[Any, ...], Resources] = {}
        self.found: dict[str, tuple[Cell, list[int]]] = {}
        self._excluded: dict[str, list[Exclusion]] = {}
        self.notes: list[str] = []

    def add(self, chosen: Axes, seeds: Sequence[int], may_be_excluded: bool) -> None:
        """A combination of axes with its seeds; twice the same is once."""
        axes = self._existing(chosen)
        shape = self._shape(axes)
        cell = Cell(shape.cell_id(axes), identity.name(axes), axes, shape.common)
        known = self.found.get(cell.id)
        if known and known[0].name != cell.name:
            raise SweepError(f"{cell.name} and {known[0].name} have the same id", "change a parameter by a little")
        if cell.id in self._excluded and may_be_excluded:
            return
        if reason := self._reason(axes, may_be_excluded):
            self._excluded[cell.id] = [Exclusion(cell.name, reason)]
            return
        left = self._not_excluded(cell, axes, seeds) if may_be_excluded and self._seed_rules else seeds
        if known:
            self.found[cell.id] = (cell, sorted({*known[1], *left}))
        elif left:
            self.found[cell.id] = (cell, sorted(left))
        if not may_be_excluded:
            self._let_back(cell, left)

    def expansion(self) -> Expansion:
        trials = [trial for cell, seeds in self.found.values() for trial in self._trials(cell, seeds)]
        exclusions = [exclusion for several in self._excluded.values() for exclusion in several]
        idle = [(i, rule) for i, rule in (*self._rules, *self._seed_rules) if not rule.matched]
        notes = [f"exclude rule {i} ({rule}) matches no cell" for i, rule in sorted(idle, key=lambda each: each[0])]
        return Expansion([cell for cell, _ in self.found.values()], trials, exclusions, [*self.notes, *notes])

    def _existing(self, chosen: Axes) -> Axes:
        """The axes that this cell has, in order; one whose condition does not hold is as if it had not been given."""
        for axis, rule in self._conditions.items():
            if axis in chosen and not rule.holds(chosen):
                del chosen[axis]
        parameters = self._names.parameters[chosen["workload"]]
        axes: Axes = {}
        for axis in self._names.order:
            if axis in HOUSE:
                axes[axis] = chosen[axis] if axis in chosen else HOUSE[axis][0]
            elif axis in parameters:
                axes[axis] = chosen[axis] if axis in chosen else parameters[axis]
        return axes

    def _shape(self, axes: Axes) -> identity.Shape:
        key = (axes["workload"], *axes)
        shape = self._shapes.get(key)
        if shape is None:
            parameters = self._names.parameters[axes["workload"]]
            common = {name: value for name, value in parameters.items() if name not in axes}
            shape = self._shapes[key] = identity.Shape(common, list(axes))
        return shape

    def _reason(self, axes: Axes, may_be_excluded: bool) -> str | None:
        """Why a cell is left out: by the grid's own rule, or since it cannot be."""
        if may_be_excluded:
            for i, rule in self._rules:
                if rule.holds(axes):
                    rule.matched += 1
                    return f"excluded by rule {i}: {rule}"
        name, _, version = axes["framework"].partition("==")
        return self._frameworks[name].unsupported(version or None, axes["backend"], axes["device"])

    def _not_excluded(self, cell: Cell, axes: Axes, seeds: Sequence[int]) -> list[int]:
        left = []
        for seed in seeds:
            found = next(((i, rule) for i, rule in self._seed_rules if rule.holds({**axes, SEED: seed})), None)
            if found is None:
                left.append(seed)
                continue
            found[1].matched += 1
            reason = f"excluded by rule {found[0]}: {found[1]}"
            self._excluded.setdefault(cell.id, []).append(Exclusion(f"{cell.name}/s{seed}", reason))
        return left

    def _let_back(self, cell: Cell, seeds: Sequence[int]) -> None:
        """What an include names is in, whatever excluded it."""
        back = {cell.name, *(f"{cell.name}/s{seed}" for seed in seeds)}
        if cell.id in self._excluded:
            self._excluded[cell.id] = [each for each in self._excluded[cell.id] if each.name not in back]

    def _trials(self, cell: Cell, seeds: Sequence[int]) -> Iterator[Trial]:
        axes, resources = dict(cell.axes), self._resources_of(cell)
        for trial_id, seed in zip(self._shape(axes).trial_ids(axes, seeds), seeds, strict=True):
            yield Trial(trial_id, cell, seed, resources)

    def _resources_of(self, cell: Cell) -> Resources:
        threads = cell.axes.get("threads", cell.common.get("threads"))
        key = (cell.axes["device"], cell.axes["workload"], threads)
        if key not in self._resources:
            self._resources[key] = self._grid.resources.of(*key)
        return self._resources[key]


def _chosen(expansion: Expansion, only: Sequence[str], grid: Grid) -> Expansion:
    """The trials whose name, or whose cell's, matches one of the globs."""
    if not expansion.trials:
        reasons = sorted({exclusion.reason for exclusion in expansion.exclusions})
        raise grid.error(("axes",), "nothing is left of the grid", "; ".join(reasons[:3]))
    if not only:
        return expansion
    matches = re.compile("|".join(fnmatch.translate(glob) for glob in only)).match
    cells = {cell.id for cell in expansion.cells if matches(cell.name)}
    trials = [trial for trial in expansion.trials if trial.cell.id in cells or matches(trial.name)]
    if not trials:
        said = " or ".join(repr(glob) for glob in only)
        hint = f"names look like {expansion.trials[0].name!r}; {nearest(only[0], _pieces(expansion))}"
        raise SweepError(f"no trial is called {said}", hint)
    left = {trial.cell.id for trial in trials}
    return Expansion([c for c in expansion.cells if c.id in left], trials, expansion.exclusions, expansion.notes)


def _pieces(expansion: Expansion) -> list[str]:
    return list(dict.fromkeys(cell.axes["framework"] for cell in expansion.cells))
