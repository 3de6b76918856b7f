"""Checks of what a grid says beside its space: environments, resources and contrasts name what there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sweep.axes import SEED
from sweep.errors import nearest
from sweep.grid.language import Claim, Grid, Published
from sweep.grid.quantities import Scalar, written
from sweep.grid.rules import VERSION
from sweep.grid.source import Keys
from sweep.grid.space import Space
from sweep.grid.words import Words
from sweep.selection import is_value


def check(grid: Grid, words: Words, space: Space, metrics: Collection[str]) -> None:
    """SweepError for the first name that is not there; where `metrics` are given, claims must be about one of them."""
    for requirement in grid.file.environments:
        words.framework(("environments", requirement), requirement)
    _check_known(grid, "device", grid.file.resources.device, words.devices)
    _check_known(grid, "workload", grid.file.resources.workload, words.all_workloads)
    stated: dict[str, Sequence[Claim | Published]] = {"claims": grid.claims, "published": grid.file.published}
    for key, contrasts in stated.items():
        for i, contrast in enumerate(contrasts):
            _check_contrast(grid, space, (key, i), contrast)
            if metrics and contrast.metric not in metrics:
                hint = nearest(contrast.metric, metrics)
                raise grid.error((key, i, "metric"), f"there is no metric {contrast.metric!r}", hint)


def unused_environments(grid: Grid, frameworks: Iterable[str]) -> list[str]:
    """Overrides for versions that no cell has."""
    used = {*frameworks, *(grid.environments if grid.is_overridden("framework") else ())}
    return [f"no cell has {name}, which environments speaks of" for name in grid.environments if name not in used]


def _check_known(grid: Grid, key: str, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise grid.error(("resources", key, name), f"there is no {key} {name!r}", nearest(name, known))


def _check_contrast(grid: Grid, space: Space, keys: Keys, contrast: Claim | Published) -> None:
    axes = [*space.order, VERSION]
    settings = [*axes, *(name for parameters in space.parameters.values() for name in parameters)]
    for axis, pair in contrast.compare.items():
        _check_values(grid, space, (*keys, "compare", axis), pair, axes)
    for name, wanted in contrast.where.items():
        _check_values(grid, space, (*keys, "where", name), wanted if isinstance(wanted, list) else [wanted], settings)


def _check_values(grid: Grid, space: Space, keys: Keys, wanted: Sequence[Scalar], known: Sequence[str]) -> None:
    """Each wanted value must be one of the grid, unless the command line has put others in their place."""
    axis = str(keys[-1])
    if axis not in known or axis == SEED:
        raise grid.error(keys, f"{axis!r} is no axis of this grid", nearest(axis, known))
    values = space.values_of(axis)
    if not values or grid.is_overridden(axis):
        return
    for each in wanted:
        if not any(is_value(value, each) for value in values):
            words = {part for value in values for part in (str(value), str(value).partition("==")[0])}
            raise grid.error(keys, f"no cell has {axis} {written(each)}", nearest(str(each), words))
