"""Expansion: from a grid to its cells and trials; pure, bounded, and the same in any process on any machine."""

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

# of a workload, a framework with its version, a data set and a network, if there are any
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
    """Every cell and trial of a grid, what is left out with the reason, and what its author may not have meant.

    `only` are globs on names; `undirected` are metrics of which neither more nor less is better; `content` says what a
    workload, a framework and a data set are beside their names. SweepError for words that neither the grid nor the
    catalog knows, for more than MOST_TRIALS trials, which is known before any is made, and where nothing is left.
    """
    words = Words(grid, frameworks, workloads, data_sets, networks)
    space = Space(grid, words)
    check(grid, words, space, metrics, undirected)
    products = [(Product(space, space.axes), space.seeds)]
    for i, include in enumerate(space.includes):
        axes = _included(grid, space, i, include)
        products.append((Product(space, axes, named=include), space.seeds_of(include)))
    _check_size(grid, products)
    cells = _Cells(grid, space, frameworks, workloads, networks, functools.cache(content))
    for place, (product, seeds) in enumerate(products):
        for chosen in product:
            cells.add(chosen, seeds, by_include=place > 0)
    return _chosen(cells.expansion(words.notes), list(only), grid)


def _check_size(grid: Grid, products: Sequence[tuple[Product, Sequence[int]]]) -> None:
    """Refuse what is too large before any of it is made; excluded cells could only be counted by making them."""
    total = sum(product.size(MOST_TRIALS) * len(seeds) for product, seeds in products)
    if total > MOST_TRIALS:
        hint = "take fewer values, or move axes together with zip; excluded cells count"
        raise grid.error(
            ("axes",), f"{total:,} trials, more than the {MOST_TRIALS:,} that a grid can have", hint
        )


def _included(
    grid: Grid, space: Space, place: int, include: Mapping[str, Sequence[Scalar]]
) -> dict[str, Sequence[Scalar]]:
    """The axes of an include: its own values, and all values where it has none; rows of a zip that fit."""
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
            raise grid.error(("include", place, given[0]), message, f"give {missing} as well")
        elif given and len({len(include[name]) for name in given}) > 1:
            message = "zipped axes with different numbers of values"
            raise grid.error(("include", place, given[0]), message, "give them as many values each")
    return axes


class _Cells:
    """The cells found so far, each once, and those left out: by the id that their settings alone would give."""

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
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._resources: dict[tuple[Any, ...], Resources] = {}
        self._excluded: dict[str, list[Exclusion]] = {}
        self.found: dict[str, Sequence[Trial]] = {}

    def add(self, chosen: Axes, seeds: Sequence[int], by_include: bool = False) -> None:
        """A combination of axes with its seeds; twice the same is once. What an include names no rule leaves out."""
        axes = self._complete(chosen)
        shape, name = self._shape(axes), cell_name(axes)
        identity = shape.identity(axes)
        key = identity.cell_id
        known = self.found.get(key, ())
        if known and known[0].cell.name != name:
            raise SweepError(
                f"{name} and {known[0].cell.name} have the same id",
                "change a parameter by a little",
            )
        if key in self._excluded and not by_include:
            return
        reason = (
            self._impossible(axes, shape)
            if by_include
            else self._excluding(axes) or self._impossible(axes, shape)
        )
        if reason:
            self._excluded[key] = [Exclusion(name, reason)]
            return
        # what is left out is not looked at: its wheel need not be there
        content = self._content(
            axes["workload"],
            axes["framework"],
            axes.get("data", shape.common.get("data")),
            axes.get("network", shape.common.get("network")),
        )
        if content:
            identity = shape.identity(axes, content)
        cell = Cell(identity.cell_id, name, axes, shape.common, content)
        left = (
            self._not_excluded(key, cell, seeds) if self._seed_rules and not by_include else seeds
        )
        resources = self._resources_of(axes, shape)
        trials = [Trial(identity.trial_id(seed), cell, seed, resources) for seed in left]
        if by_include:
            self._let_back(key, cell, left)
            trials = _united([*known, *trials])
        if trials:
            self.found[key] = trials

    def expansion(self, notes: Sequence[str]) -> Expansion:
        trials = [trial for several in self.found.values() for trial in several]
        exclusions = [exclusion for several in self._excluded.values() for exclusion in several]
        cells = [several[0].cell for several in self.found.values()]
        if len({cell.name for cell in cells}) < len(cells):
            twice = next(
                name for name, count in Counter(cell.name for cell in cells).items() if count > 1
            )
            raise SweepError(
                f"two different cells are called {twice}", "write values of one axis in one type"
            )
        return Expansion(cells, trials, exclusions, list(dict.fromkeys([*notes, *self._notes()])))

    def _notes(self) -> list[str]:
        notes = unused_environments(
            self._grid, (several[0].cell.axes["framework"] for several in self.found.values())
        )
        idle = sorted(
            (rule for rule in (*self._rules, *self._seed_rules) if not rule.matched),
            key=lambda r: r.number,
        )
        notes += [f"exclude rule {rule.number} ({rule}) leaves nothing out" for rule in idle]
        notes += unmet_conditions(self._grid, self._space)
        for (_, _, threads), resources in self._resources.items():
            if threads and threads > resources.cpu:
                notes.append(
                    f"{threads} threads on {resources.cpu} cores: resources.cpu is less than threads"
                )
        seeds = max(map(len, self.found.values()), default=0)
        if self._grid.claims and seeds < FEWEST_SEEDS and not self._grid.until:
            more = FEWEST_SEEDS - seeds
            notes.append(
                f"claims need {FEWEST_SEEDS} seeds, for an interval, and there are {seeds}: use --add-seeds {more}"
            )
        return notes

    def _complete(self, chosen: Axes) -> Axes:
        """All axes of a cell, in order; one that it does not have has its default, or its value as a parameter."""
        parameters = self._space.parameters[chosen["workload"]]
        return {
            axis: chosen[axis]
            if axis in chosen
            else default(axis)[0]
            if axis in CELL_AXES
            else parameters[axis]
            for axis in self._space.order
            if axis in CELL_AXES or axis in parameters
        }

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
        reason = framework.unsupported(version or None, axes["backend"], axes["device"])
        network = self._networks.get(str(axes.get("network", shape.common.get("network"))))
        if reason or network is None:
            return reason
        return network.lacking(framework, version or None)

    def _not_excluded(self, key: str, cell: Cell, seeds: Sequence[int]) -> list[int]:
        left = []
        for seed in seeds:
            axes = {**cell.axes, SEED: seed}
            if reason := next(
                (rule.leave_out() for rule in self._seed_rules if rule.holds(axes)), None
            ):
                self._excluded.setdefault(key, []).append(Exclusion(f"{cell.name}/s{seed}", reason))
            else:
                left.append(seed)
        return left

    def _let_back(self, key: str, cell: Cell, seeds: Sequence[int]) -> None:
        """No longer left out, now that an include names them."""
        back = {cell.name, *(f"{cell.name}/s{seed}" for seed in seeds)}
        out = [each for each in self._excluded.pop(key, []) if each.name not in back]
        if out:
            self._excluded[key] = out

    def _resources_of(self, axes: Axes, shape: Shape) -> Resources:
        key = (
            axes["device"],
            axes["workload"],
            axes["threads"] if "threads" in axes else shape.common.get("threads"),
        )
        if key not in self._resources:
            exclusive = self._workloads[axes["workload"]].exclusive
            self._resources[key] = self._grid.file.resources.of(*key, exclusive)
        return self._resources[key]


def _united(trials: Iterable[Trial]) -> list[Trial]:
    """Each seed once, in order."""
    return sorted({trial.seed: trial for trial in trials}.values(), key=lambda trial: trial.seed)


def _chosen(expansion: Expansion, only: Sequence[str], grid: Grid) -> Expansion:
    """The trials whose name, or whose cell's, matches one of the globs."""
    if not expansion.trials:
        reasons = sorted({exclusion.reason for exclusion in expansion.exclusions})
        raise grid.error(("axes",), "nothing is left of the grid", "; ".join(reasons[:3]))
    if not only:
        return expansion
    matches = re.compile("|".join(fnmatch.translate(_respelled(glob)) for glob in only)).match
    cells = {cell.id for cell in expansion.cells if matches(cell.name)}
    trials = [trial for trial in expansion.trials if trial.cell.id in cells or matches(trial.name)]
    if not trials:
        said = " or ".join(repr(glob) for glob in only)
        hint = (
            f"names look like {expansion.trials[0].name!r}; {nearest(only[0], _pieces(expansion))}"
        )
        raise SweepError(f"no trial is called {said}", hint)
    left = {trial.cell.id for trial in trials}
    return Expansion(
        [c for c in expansion.cells if c.id in left], trials, expansion.exclusions, expansion.notes
    )


def _respelled(glob: str) -> str:
    """A glob that begins with a framework and its version, the version spelled as names have it."""
    framework, slash, rest = glob.partition("/")
    return f"{normal_requirement(framework)}{slash}{rest}"


def _pieces(expansion: Expansion) -> list[str]:
    return list(dict.fromkeys(cell.axes["framework"] for cell in expansion.cells))
