"""The grid: a YAML file that says what to measure, and the cells and trials it expands to.

grid = load("grid.yaml", ["batch_exponent=0,1"])  # validated; SweepError with the line
expansion = expand(grid, catalog.frameworks(), catalog.workloads())
expansion.trials  # in the order of the grid; `sweep.schedule` shuffles them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from sweep import steps
from sweep.errors import SweepError
from sweep.grid import quantities, ranges, stepfiles
from sweep.grid import source as sources
from sweep.grid.expansion import MOST_TRIALS, expand
from sweep.grid.identity import identify
from sweep.grid.language import Grid, build
from sweep.grid.overrides import overridden
from sweep.grid.quantities import Scalar
from sweep.grid.schema import schema
from sweep.grid.trials import Cell, Exclusion, Expansion, Resources, Trial

# The versions that each range of versions was resolved to, by the text of the range.
Versions = Mapping[str, Sequence[str]]

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
    """Return the grid in a file, overlaid with `--set` options such as `axis=value1,value2`.

    The grid of a step file is in its header. SweepError with file, line and key if it is invalid.
    """
    source = stepfiles.source(Path(path)) if steps.is_step(str(path)) else sources.read(path)
    return _grid(source, path, list(sets))


def parse(
    text: str, sets: Iterable[str] = (), path: str | Path = "", versions: Versions | None = None
) -> Grid:
    """Return the grid in a text; relative paths in it are relative to the folder of `path`.

    `versions` are those that its ranges of versions were resolved to, as `run.yaml` keeps them.
    """
    return _grid(sources.Source(text), path, list(sets)).with_versions(versions or {})


def document(text: str, sets: Iterable[str] = ()) -> dict[str, Any]:
    """Return a grid as plain values, without validation.

    Grids of older versions, which the present schema may refuse, can thus be shown.
    """
    source = sources.Source(text)
    return overridden(source, sets) if isinstance(source.values, dict) else {}


def axes(
    text: str, sets: Iterable[str] = (), versions: Versions | None = None
) -> dict[str, Sequence[Scalar]]:
    """Return the axes of a grid with their values, in its order; nothing else is validated."""
    given = document(text, sets).get("axes")
    if not isinstance(given, dict):
        return {}
    try:
        values = {name: quantities.values(each) for name, each in given.items()}
    except PydanticCustomError as error:
        raise _sweep_error(error) from None
    if "framework" in values:
        values["framework"] = ranges.resolved(values["framework"], versions or {})
    return values


def duration_s(text: str) -> float:
    """Return the seconds of `90`, `30m` or `1h 30m`; SweepError if it is no duration."""
    try:
        return quantities.duration_s(sources.scalar(text))
    except PydanticCustomError as error:
        raise _sweep_error(error) from None


def share(given: str | float) -> float:
    """Return the share in `0.05` or `5%`; SweepError for anything else, such as `5`."""
    try:
        return quantities.share(given)
    except PydanticCustomError as error:
        raise _sweep_error(error) from None


def _sweep_error(error: PydanticCustomError) -> SweepError:
    return SweepError(error.message(), (error.context or {})["hint"])


def _grid(source: sources.Source, path: str | Path, sets: list[str]) -> Grid:
    if source.values is None:
        raise SweepError(
            f"{source.name} is empty",
            "a grid has at least axes: {framework: [torch==VERSION]}",
        )
    if not isinstance(source.values, dict):
        raise SweepError(
            f"{source.name} holds {source.kind}",
            "a grid is keys with values, as axes: {framework: […]}",
        )
    return build(source, overridden(source, sets), path, sets)
