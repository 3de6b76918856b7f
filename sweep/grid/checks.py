"""Checks of a grid against its own space: every name in it exists.

They cover environments, resources and contrasts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from sweep.axes import BATCH_SIZE, SEED
from sweep.errors import nearest
from sweep.grid.conditions import Conditions, Unmet, why_no_version
from sweep.grid.language import Claim, Grid, Published
from sweep.grid.quantities import Scalar
from sweep.grid.source import Keys, dotted
from sweep.grid.space import Condition, Space
from sweep.grid.words import Words
from sweep.selection import VERSION


def check(
    grid: Grid,
    words: Words,
    space: Space,
    metrics: Collection[str],
    undirected: Collection[str] = (),
) -> None:
    """Raise SweepError for the first unknown name.

    Claims must be about one of `metrics`, if these are given. A claim must not expect something to
    be faster by one of the metrics in `undirected`: neither more nor less of these is better.
    """
    for requirement in grid.file.environments:
        words.framework(("environments", requirement), requirement)
    _check_resource_keys(grid, "device", grid.file.resources.device, words.devices)
    _check_resource_keys(grid, "workload", grid.file.resources.workload, words.all_workloads)
    contrasts: dict[str, Sequence[Claim | Published]] = {
        "claims": grid.claims,
        "published": grid.file.published,
    }
    for key, listed in contrasts.items():
        for i, contrast in enumerate(listed):
            _check_contrast(grid, space, (key, i), contrast)
            if metrics and contrast.metric not in metrics:
                hint = nearest(contrast.metric, metrics)
                raise grid.error(
                    (key, i, "metric"), f"there is no metric {contrast.metric!r}", hint
                )
    for i, claim in enumerate(grid.claims):
        if claim.expect.is_ordered and claim.metric in undirected:
            raise grid.error(
                ("claims", i, "metric"),
                f"neither more nor less {claim.metric} is better: nothing is faster by it",
                "expect equivalent or ratio, or name another metric",
            )


def unused_environments(grid: Grid, frameworks: Iterable[str]) -> list[str]:
    """Return a note for each environment override whose version no cell has."""
    # `--set framework=...` replaces the versions that the file's overrides are for.
    if grid.is_overridden("framework"):
        return []
    used = set(frameworks)
    return [
        f"no cell has {name}, which environments speaks of"
        for name in grid.environments
        if name not in used
    ]


def _check_resource_keys(
    grid: Grid, key: str, given: Iterable[str], known: Collection[str]
) -> None:
    for name in given:
        if name not in known:
            raise grid.error(
                ("resources", key, name), f"there is no {key} {name!r}", nearest(name, known)
            )


def unmet_conditions(grid: Grid, space: Space) -> list[str]:
    """Return a note for each value that `when` and `exclude` name and no cell has.

    An exclude rule that matches nothing at all is left out here: `Rule.matched` shows it.
    """
    notes = []
    for axis, condition in space.conditions.items():
        notes += [_note(("when", axis), unmet) for unmet in _unmet(grid, space, condition)]
    for i, condition in enumerate(space.excludes):
        notes += [
            _note(("exclude", i), unmet)
            for unmet in _unmet(grid, space, condition)
            if not unmet.is_all
        ]
    return notes


def _unmet(grid: Grid, space: Space, condition: Condition) -> Iterator[Unmet]:
    conditions = Conditions(condition)
    for axis in conditions.wanted:
        if not _is_replaced(grid, axis):
            known: Sequence[Scalar] = space.seeds if axis == SEED else space.values_of(axis)
            yield from conditions.unmet_by(axis, known)


def _note(keys: Keys, unmet: Unmet) -> str:
    return f"{dotted((*keys, unmet.axis))}: no cell has {unmet}; {unmet.hint}"


def _check_contrast(grid: Grid, space: Space, keys: Keys, contrast: Claim | Published) -> None:
    axes = [*space.order, VERSION]
    settings = [
        *axes,
        BATCH_SIZE,
        *(name for parameters in space.parameters.values() for name in parameters),
    ]
    for axis, pair in contrast.compare.items():
        _check_values(grid, space, (*keys, "compare", axis), Conditions({axis: pair}), axes)
    for name, wanted in contrast.where.items():
        _check_values(grid, space, (*keys, "where", name), Conditions({name: wanted}), settings)


def _check_values(
    grid: Grid, space: Space, keys: Keys, conditions: Conditions, known: Sequence[str]
) -> None:
    """Check that each wanted value is one of the grid's.

    Values are not checked if the command line has replaced those of the axis.
    """
    axis = str(keys[-1])
    if axis not in known or axis == SEED:
        raise grid.error(keys, f"{axis!r} is no axis of this grid", nearest(axis, known))
    if reason := why_no_version(axis, conditions.wanted[axis]):
        raise grid.error(keys, *reason)
    # With --set, the file's claims may speak of values that this run leaves out on purpose.
    if _is_replaced(grid, axis):
        return
    parameters = [each[axis] for each in space.parameters.values() if axis in each]
    for unmet in conditions.unmet_by(axis, space.values_of(axis) or parameters):
        raise grid.error(keys, f"no cell has {unmet}", unmet.hint)


def _is_replaced(grid: Grid, axis: str) -> bool:
    return grid.is_overridden("framework" if axis == VERSION else axis)
