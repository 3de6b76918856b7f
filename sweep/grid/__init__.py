"""The grid: what a YAML file says is to be measured, as plain values; cells and trials are derived from it.

grid = load("grid.yaml", ["batch_exponent=0,1"])               # read and validated; SweepError says where it is wrong
expansion = expand(grid, catalog.frameworks(), catalog.workloads())
expansion.trials                                               # in the order of the grid; `sweep.schedule` shuffles
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from sweep.errors import SweepError
from sweep.grid import quantities, ranges
from sweep.grid import source as sources
from sweep.grid.expansion import MOST_TRIALS, expand
from sweep.grid.identity import identify
from sweep.grid.language import Grid, build
from sweep.grid.overrides import overridden
from sweep.grid.quantities import Scalar
from sweep.grid.schema import schema
from sweep.grid.trials import Cell, Exclusion, Expansion, Resources, Trial

Versions = Mapping[str, Sequence[str]]  # that ranges stand for, by the text of the range

__all__ = [
    "MOST_TRIALS",
    "Cell",
    "Exclusion",
    "Expansion",
    "Grid",
    "Resources",
    "Trial",
    "axes",
    "document",
    "duration_s",
    "expand",
    "identify",
    "load",
    "parse",
    "schema",
    "share",
]


def load(path: str | Path, sets: Iterable[str] = ()) -> Grid:
    """The grid in a file, with `--set`'s `axis=value1,value2` laid over it; SweepError with file, line and key."""
    return _grid(sources.read(path), path, list(sets))


def parse(
    text: str, sets: Iterable[str] = (), path: str | Path = "", versions: Versions | None = None
) -> Grid:
    """The grid that a text says; paths in it are relative to that of its file.

    `versions` are those that its ranges of versions stand for, as `run.yaml` keeps them.
    """
    return _grid(sources.Source(text), path, list(sets)).with_versions(versions or {})


def document(text: str, sets: Iterable[str] = ()) -> dict[str, Any]:
    """What a grid says as plain values, not validated: so it can be told even of grids of older versions."""
    source = sources.Source(text)
    return overridden(source, sets) if isinstance(source.values, dict) else {}


def axes(
    text: str, sets: Iterable[str] = (), versions: Versions | None = None
) -> dict[str, Sequence[Scalar]]:
    """The axes of a grid with their values, in its order; of the rest nothing is looked at."""
    given = document(text, sets).get("axes")
    if not isinstance(given, dict):
        return {}
    try:
        found = {name: quantities.values(each) for name, each in given.items()}
    except PydanticCustomError as error:
        raise _said(error) from None
    if "framework" in found:
        found["framework"] = ranges.written_out(found["framework"], versions or {})
    return found


def duration_s(text: str) -> float:
    """Seconds of `90`, `30m` or `1h 30m`; SweepError for what is no duration."""
    try:
        return quantities.duration_s(sources.scalar(text))
    except PydanticCustomError as error:
        raise _said(error) from None


def share(given: str | float) -> float:
    """The share that `0.05` or `5%` is; SweepError for what is none, and for `5`."""
    try:
        return quantities.share(given)
    except PydanticCustomError as error:
        raise _said(error) from None


def _said(error: PydanticCustomError) -> SweepError:
    return SweepError(error.message(), (error.context or {})["hint"])


def _grid(source: sources.Source, path: str | Path, sets: list[str]) -> Grid:
    if source.values is None:
        raise SweepError(
            f"{source.name} is empty", "a grid says at least axes: {framework: [torch==VERSION]}"
        )
    if not isinstance(source.values, dict):
        raise SweepError(
            f"{source.name} holds {source.kind}",
            "a grid is keys with values, as axes: {framework: […]}",
        )
    return build(source, overridden(source, sets), path, sets)
