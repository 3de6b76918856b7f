"""Expansion of a grid to its cells and trials.

It is pure and bounded, and gives the same result in every process on every machine.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sweep.axes import CELL_AXES, FEWEST_SEEDS, SEED, default
from sweep.errors import SweepError, nearest
from sweep.grid import batches
from sweep.grid.checks import check, unmet_conditions, unused_environments
from sweep.grid.identity import Shape, cell_name
from sweep.grid.language import Grid
from sweep.grid.product import Axes, Product
from sweep.grid.quantities import Scalar
from sweep.grid.rules import Rule
from sweep.grid.space import Space
from sweep.grid.trials import Cell, Exclusion, Expansion, Resources, Trial
from sweep.grid.words import Framework, Network, Words, Workload
from sweep.versions import normal_requirement

# Arguments: workload, framework with its version, data set or None, network or None.
Content = Callable[[str, str, str | None, str | None], Mapping[str, str]]

MOST_TRIALS = 1_000_000


def expand(
    grid: Grid,
    frameworks: Mapping[str, Framework],
    workloads: Mapping[str, Workload],
    only: Iterable[str] = (),
    *,
    data_sets: Collection[str] = (),
    networks: Mapping[str, Network] = MappingProxyType({}),
    metrics: Collection[str] = (),
    undirected: Collection[str] = (),
    content: Content = lambda _workload, _framework, _data, _network: {},
) -> Expansion:
    """Return every cell and trial of a grid, the exclusions with reasons, and notes.

    Notes point at what the author may not have meant. `only` are globs on names. `metrics` are the
    known ones, `undirected` those of which neither more nor less is better. `content` returns what
    a workload, a framework and a data set hold besides their names. SweepError for names that
    neither the grid nor the catalog has, for more than MOST_TRIALS trials, and if nothing is left.
    """
    words = Words(grid, frameworks, workloads, data_sets, networks)
    grid = batches.respelled(grid, [workloads[name] for name in words.workloads])
    space = Space(grid, words)
    check(grid, words, space, metrics, undirected)
    products = [(Product(space, space.axes), space.seeds)]
    for i, include in enumerate(space.includes):
        axes = _included(grid, space, i, include)
        products.append((Product(space, axes, named=include), space.seeds_of(include)))
    # A product of large axes would fill the memory before anything could be reported.
    _check_size(grid, products)
    # Trials share their content: a wheel or a folder is hashed once per grid, not once per cell.
    cells = _Cells(grid, space, frameworks, workloads, networks, functools.cache(content))
    for number, (product, seeds) in enumerate(products):
        for chosen in product:
            cells.add(chosen, seeds, by_include=number > 0)
    return _selected(cells.expansion(words.notes), list(only), grid)


def _check_size(grid: Grid, products: Sequence[tuple[Product, Sequence[int]]]) -> None:
    """Refuse a grid that is too large before any cell is made.

    Excluded cells count: to tell them apart, each cell would have to be made.
    """
    total = sum(product.size(MOST_TRIALS) * len(seeds) for product, seeds in products)
    if total > MOST_TRIALS:
        hint = "take fewer values, or move axes together with zip; excluded cells count"
        raise grid.error(
            ("axes",), f"{total:,} trials, more than the {MOST_TRIALS:,} that a grid can have", hint
        )


def _included(
    grid: Grid, space: Space, number: int, include: Mapping[str, Sequence[Scalar]]
) -> dict[str, Sequence[Scalar]]:
    """Return the axes of an include: its own values, and all values of the axes it leaves out.

    Of zipped axes, it takes the rows that contain its values.
    """
    axes = {**space.axes, **{name: values for name, values in include.items() if name != SEED}}
    for group in space.zips:
        given = [name for name in group if name in include]
        rows = list(zip(*(space.axes[name] for name in group), strict=True))
        fitting = [
            row for row in rows if all(row[group.index(name)] in include[name] for name in given)
        ]
        if given and fitting:
            axes |= {name: [row[i] for row in fitting] for i, name in enumerate(group)}
        elif given and len(given) < len(group):
            missing = ", ".join(name for name in group if name not in given)
            message = "a value that its zip does not have"
            raise grid.error(("include", number, given[0]), message, f"give {missing} as well")
        elif given and len({len(include[name]) for name in given}) > 1:
            message = "zipped axes with different numbers of values"
            hint = "give them as many values each"
            raise grid.error(("include", number, given[0]), message, hint)
    return axes


class _Cells:
    """The cells so far and the exclusions, by the id that a cell has from its settings alone.

    Products and includes may yield the same cell: it counts once.
    """

    def __init__(
        self,
        grid: Grid,
        space: Space,
        frameworks: Mapping[str, Framework],
        workloads: Mapping[str, Workload],
        networks: Mapping[str, Network],
        content: Content,
    ) -> None:
        self._grid, self._space, self._content = grid, space, content
        self._frameworks, self._workloads, self._networks = frameworks, workloads, networks
        rules = [Rule(condition, i) for i, condition in enumerate(space.excludes, 1)]
        self._rules = [rule for rule in rules if SEED not in rule.wanted]
        self._seed_rules = [rule for rule in rules if SEED in rule.wanted]
        self._usual_axes: dict[str, Axes] = {}
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._resources: dict[tuple[Any, ...], Resources] = {}
        self._excluded: dict[str, list[Exclusion]] = {}
        self._trials: dict[str, Sequence[Trial]] = {}

    def add(self, chosen: Axes, seeds: Sequence[int], by_include: bool = False) -> None:
        """Add a combination of axes with its seeds, unless it is excluded.

        Rules of `exclude` do not apply to an include.
        """
        axes = self._complete(chosen)
        shape, name = self._shape(axes), cell_name(axes)
        # The id without content decides whether two combinations are one cell: it costs no file
        # access.
        identity = shape.identity(axes)
        key = identity.cell_id
        before = self._trials.get(key, ())
        if before and before[0].cell.name != name:
            raise SweepError(
                f"{name} and {before[0].cell.name} have the same id",
                "change a parameter by a little",
            )
        if key in self._excluded and not by_include:
            return
        reason = None if by_include else self._excluding(axes)
        reason = reason or self._impossible(axes, shape)
        if reason:
            self._excluded[key] = [Exclusion(name, reason)]
            return
        # The content is asked for only now: the wheel of an excluded cell need not exist.
        content = self._content(
            axes["workload"],
            axes["framework"],
            axes.get("data", shape.common.get("data")),
            axes.get("network", shape.common.get("network")),
        )
        if content:
            identity = shape.identity(axes, content)
        cell = Cell(identity.cell_id, name, axes, shape.common, content)
        # Rules about seeds leave out trials, not cells: they can only be applied once the cell is
        # known.
        if self._seed_rules and not by_include:
            seeds = self._not_excluded(key, cell, seeds)
        resources = self._resources_of(axes, shape)
        trials = [Trial(identity.trial_id(seed), cell, seed, resources) for seed in seeds]
        if by_include:
            self._readmit(key, cell, seeds)
            trials = _united([*before, *trials])
        if trials:
            self._trials[key] = trials

    def expansion(self, notes: Sequence[str]) -> Expansion:
        """Return all cells and trials, with `notes` and those on the cells."""
        trials = [trial for several in self._trials.values() for trial in several]
        exclusions = [exclusion for several in self._excluded.values() for exclusion in several]
        cells = [several[0].cell for several in self._trials.values()]
        names = Counter(cell.name for cell in cells)
        if len(names) < len(cells):
            ambiguous = next(name for name, count in names.items() if count > 1)
            raise SweepError(
                f"two different cells are called {ambiguous}",
                "write values of one axis in one type",
            )
        return Expansion(cells, trials, exclusions, list(dict.fromkeys([*notes, *self._notes()])))

    def _notes(self) -> list[str]:
        frameworks = (several[0].cell.axes["framework"] for several in self._trials.values())
        notes = unused_environments(self._grid, frameworks)
        idle = [rule for rule in (*self._rules, *self._seed_rules) if not rule.matched]
        idle.sort(key=lambda rule: rule.number)
        notes += [f"exclude rule {rule.number} ({rule}) leaves nothing out" for rule in idle]
        notes += unmet_conditions(self._grid, self._space)
        for (_, _, threads), resources in self._resources.items():
            if threads and threads > resources.cpu:
                notes.append(
                    f"{threads} threads on {resources.cpu} cores:"
                    " resources.cpu is less than threads"
                )
        seeds = max(map(len, self._trials.values()), default=0)
        if self._grid.claims and seeds < FEWEST_SEEDS and not self._grid.until:
            more = FEWEST_SEEDS - seeds
            notes.append(
                f"claims need {FEWEST_SEEDS} seeds, for an interval, and there are {seeds}:"
                f" use --add-seeds {more}"
            )
        return notes

    def _complete(self, chosen: Axes) -> Axes:
        """Return all axes of a cell, in order.

        An axis that the combination lacks gets its default, or its value as a parameter.
        """
        usual = self._usual(chosen["workload"])
        return {axis: chosen.get(axis, value) for axis, value in usual.items()}

    def _usual(self, workload: str) -> Axes:
        """Return the axes that cells of a workload have, each with its default."""
        if workload not in self._usual_axes:
            parameters = self._space.parameters[workload]
            self._usual_axes[workload] = {
                axis: next(iter(default(axis)), None) if axis in CELL_AXES else parameters[axis]
                for axis in self._space.order
                if self._space.has(workload, axis)
            }
        return self._usual_axes[workload]

    def _shape(self, axes: Axes) -> Shape:
        key = (axes["workload"], *axes)
        shape = self._shapes.get(key)
        if shape is None:
            parameters = self._space.parameters[axes["workload"]]
            common = {name: value for name, value in parameters.items() if name not in axes}
            shape = self._shapes[key] = Shape(common, list(axes))
        return shape

    def _excluding(self, axes: Axes) -> str | None:
        return next((rule.leave_out() for rule in self._rules if rule.holds(axes)), None)

    def _impossible(self, axes: Axes, shape: Shape) -> str | None:
        name, _, version = axes["framework"].partition("==")
        framework = self._frameworks[name]
        if framework.is_any_package and self._workloads[axes["workload"]].step is None:
            return f"{name} has no framework file, and only a step of one's own can do without"
        reason = framework.unsupported(version or None, axes["backend"], axes["device"])
        network = self._networks.get(str(axes.get("network", shape.common.get("network"))))
        if reason or network is None:
            return reason
        return network.lacking(framework, version or None)

    def _not_excluded(self, key: str, cell: Cell, seeds: Sequence[int]) -> list[int]:
        """Return the seeds that no rule about seeds excludes."""
        left = []
        for seed in seeds:
            axes = {**cell.axes, SEED: seed}
            rule = next((rule for rule in self._seed_rules if rule.holds(axes)), None)
            if rule:
                exclusion = Exclusion(f"{cell.name}/s{seed}", rule.leave_out())
                self._excluded.setdefault(key, []).append(exclusion)
            else:
                left.append(seed)
        return left

    def _readmit(self, key: str, cell: Cell, seeds: Sequence[int]) -> None:
        """Drop the exclusions of trials that an include names."""
        admitted = {cell.name, *(f"{cell.name}/s{seed}" for seed in seeds)}
        remaining = [
            exclusion for exclusion in self._excluded.pop(key, []) if exclusion.name not in admitted
        ]
        if remaining:
            self._excluded[key] = remaining

    def _resources_of(self, axes: Axes, shape: Shape) -> Resources:
        threads = axes["threads"] if "threads" in axes else shape.common.get("threads")
        key = (axes["device"], axes["workload"], threads)
        if key not in self._resources:
            exclusive = self._workloads[axes["workload"]].exclusive
            self._resources[key] = self._grid.file.resources.of(*key, exclusive)
        return self._resources[key]


def _united(trials: Iterable[Trial]) -> list[Trial]:
    """Return each seed once, in order."""
    return sorted({trial.seed: trial for trial in trials}.values(), key=lambda trial: trial.seed)


def _selected(expansion: Expansion, only: Sequence[str], grid: Grid) -> Expansion:
    """Return the trials whose name, or whose cell's name, matches one of the globs."""
    # The first reasons usually explain why nothing is left.
    if not expansion.trials:
        reasons = sorted({exclusion.reason for exclusion in expansion.exclusions})
        raise grid.error(("axes",), "nothing is left of the grid", "; ".join(reasons[:3]))
    if not only:
        return expansion
    matches = re.compile("|".join(fnmatch.translate(_respelled(glob)) for glob in only)).match
    named = {cell.id for cell in expansion.cells if matches(cell.name)}
    trials = [trial for trial in expansion.trials if trial.cell.id in named or matches(trial.name)]
    if not trials:
        globs = " or ".join(repr(glob) for glob in only)
        frameworks = list(dict.fromkeys(cell.axes["framework"] for cell in expansion.cells))
        hint = f"names look like {expansion.trials[0].name!r}; {nearest(only[0], frameworks)}"
        raise SweepError(f"no trial is called {globs}", hint)
    remaining = {trial.cell.id for trial in trials}
    cells = [cell for cell in expansion.cells if cell.id in remaining]
    return Expansion(cells, trials, expansion.exclusions, expansion.notes)


def _respelled(glob: str) -> str:
    """Return a glob with its framework version normalised, as names of cells have it."""
    framework, slash, rest = glob.partition("/")
    return f"{normal_requirement(framework)}{slash}{rest}"
