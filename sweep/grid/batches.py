"""Batches: `batch_size` and `batch_exponent` are two spellings of one axis; a grid may use either.

Workloads of sweep have the axis `batch_exponent`, with batches of 2**n examples: sizes are spread
evenly, and ids remain those of earlier versions. A step of the user's own has any `batch_size`. The
spelling of the grid is converted to that of its workloads before anything is looked up, so that
both give the same ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from sweep.axes import BATCH_SIZE
from sweep.grid.language import Grid
from sweep.grid.quantities import Scalar
from sweep.grid.source import Keys

EXPONENT = "batch_exponent"
_MOST_EXPONENT = 30


class Workload(Protocol):
    """What this module needs of a workload of the catalog."""

    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def without(self) -> Collection[str]: ...


def respelled(grid: Grid, workloads: Sequence[Workload]) -> Grid:
    """Return the grid with the spelling of its workloads; with both spellings if these differ."""
    has = {
        EXPONENT: any(EXPONENT not in workload.without for workload in workloads),
        BATCH_SIZE: any(BATCH_SIZE in workload.parameters for workload in workloads),
    }
    wanted = [name for name, is_there in has.items() if is_there]
    file = grid.file
    axes, parameters = file.axes, file.parameters
    if wanted == [EXPONENT] and BATCH_SIZE in parameters and BATCH_SIZE not in axes:
        size = parameters[BATCH_SIZE]
        axes = {**axes, EXPONENT: [_other(grid, ("parameters", BATCH_SIZE), BATCH_SIZE, size)]}
        parameters = {name: value for name, value in parameters.items() if name != BATCH_SIZE}
    changes = {
        "axes": _axes(grid, ("axes",), axes, wanted),
        "include": [
            _axes(grid, ("include", i), include, wanted) for i, include in enumerate(file.include)
        ],
        "zip": [_names(group, wanted) for group in file.zip],
        "when": {
            name: condition
            for axis, condition in file.when.items()
            for name in _names([axis], wanted)
        },
        "parameters": parameters,
    }
    return dataclasses.replace(grid, file=file.model_copy(update=changes))


def _axes(
    grid: Grid, keys: Keys, axes: Mapping[str, Sequence[Scalar]], wanted: Sequence[str]
) -> dict[str, Sequence[Scalar]]:
    """Return axes in the wanted spelling, in the same order."""
    if not wanted or not _is_one_spelling(axes):
        return dict(axes)
    converted: dict[str, Sequence[Scalar]] = {}
    for name, values in axes.items():
        for spelling in _names([name], wanted):
            converted[spelling] = values
            if spelling != name:
                path = (*keys, name)
                converted[spelling] = [_other(grid, path, name, value) for value in values]
    return converted


def _names(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return names of axes in the wanted spelling."""
    if not wanted or not _is_one_spelling(names):
        return list(names)
    converted: list[str] = []
    for name in names:
        converted += wanted if name in (EXPONENT, BATCH_SIZE) else [name]
    return converted


def _is_one_spelling(names: Collection[str]) -> bool:
    return (EXPONENT in names) != (BATCH_SIZE in names)


def _other(grid: Grid, keys: Keys, name: str, value: Any) -> int:
    """Return a value in the other spelling: the size of an exponent, or the exponent of a size."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise grid.error(keys, f"{value!r} is not an integer", "write one, without quotes")
    if name == EXPONENT:
        if not 0 <= value <= _MOST_EXPONENT:
            message = f"{value} is not an integer from 0 to {_MOST_EXPONENT}"
            raise grid.error(keys, message, "the batch size is 2**n")
        return int(2**value)
    if value < 1 or value & (value - 1):
        lower = 2 ** (max(1, value).bit_length() - 1)
        hint = f"take {lower} or {2 * lower}; a step of one's own takes any number"
        raise grid.error(
            keys, f"{value} is no power of 2, which batches of this workload are", hint
        )
    return value.bit_length() - 1
