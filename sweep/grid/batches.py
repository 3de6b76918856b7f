"""Batches: `batch_size` and `batch_exponent` mean one axis, and a grid may write either.

Workloads of sweep have batches of 2**n examples, and the axis `batch_exponent`, so that sizes are spread evenly and ids
stay what they were. A step of one's own takes any `batch_size`. What a grid writes is turned into what its workloads
have, before anything is looked up, so that both spellings give the same ids.
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
    """What is needed of a workload of the catalog."""

    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def without(self) -> Collection[str]: ...


def respelled(grid: Grid, workloads: Sequence[Workload]) -> Grid:
    """The grid with the spelling that its workloads have; with both where some have the one and some the other."""
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
            _axes(grid, ("include", place), each, wanted) for place, each in enumerate(file.include)
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
    """Axes in the spelling that is wanted, in the order that they had."""
    if not wanted or not _is_one_spelling(axes):
        return dict(axes)
    found: dict[str, Sequence[Scalar]] = {}
    for name, values in axes.items():
        for spelling in _names([name], wanted):
            is_other = spelling != name
            found[spelling] = (
                [_other(grid, (*keys, name), name, value) for value in values]
                if is_other
                else values
            )
    return found


def _names(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Names of axes in the spelling that is wanted."""
    if not wanted or not _is_one_spelling(names):
        return list(names)
    return [
        each for name in names for each in (wanted if name in (EXPONENT, BATCH_SIZE) else [name])
    ]


def _is_one_spelling(names: Collection[str]) -> bool:
    return (EXPONENT in names) != (BATCH_SIZE in names)


def _other(grid: Grid, keys: Keys, name: str, value: Any) -> int:
    """A value of one spelling in the other: the batch size of an exponent, the exponent of a batch size."""
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
