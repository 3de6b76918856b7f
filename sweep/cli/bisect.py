"""The command `sweep bisect`: find the version that changed the speed, with few trials."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli import output, runs, shares
from sweep.cli.changes import Changes
from sweep.cli.plan import (
    GridPath,
    Only,
    Out,
    RetryWhat,
    Sets,
    directions_of,
    expand_grid,
    results_of,
    show_plan,
    with_versions,
)
from sweep.cli.run import (
    Address,
    DryRun,
    MaxContention,
    MaxFailures,
    Timeout,
    Wait,
    interruptible,
    run_options,
    spare_memory,
)
from sweep.cli.tables import Format
from sweep.errors import MISSING, SweepError, nearest

if TYPE_CHECKING:
    from sweep.additions import Bisection
    from sweep.grid import Cell, Expansion, Grid, Trial
    from sweep.records.results import Results

MARGIN = 0.05


class Every(enum.StrEnum):
    """Which releases between two versions are searched."""

    MINOR = "minor"
    PATCH = "patch"


def bisect(
    grid: GridPath,
    start: Annotated[
        str, typer.Option("--from", metavar="VALUE", help="The first value, as torch==1.13.1.")
    ],
    end: Annotated[
        str, typer.Option("--to", metavar="VALUE", help="The last value, as torch==2.13.0.")
    ],
    over: Annotated[
        str,
        typer.Option(
            help="The axis to search; of others the grid lists the values in their order."
        ),
    ] = "framework",
    every: Annotated[
        Every,
        typer.Option(help="Releases between two versions: the newest of each minor one, or all."),
    ] = Every.MINOR,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            parser=shares.of("--margin"),
            help="Changes below it are not looked for, as 5% or 0.05; 5% or the machine's noise "
            "floor if left out.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What to look at: step_s, forward_s …; the workload's own if left out."),
    ] = None,
    max_seeds: Annotated[
        int,
        typer.Option(
            metavar="N", min=3, help="At most so many seeds of a value in one step of the search."
        ),
    ] = 30,
    sets: Sets = None,
    only: Only = None,
    out: Out = runs.RESULTS,
    address: Address = None,
    retry: RetryWhat = None,
    timeout: Timeout = "",
    wait: Wait = "",
    max_failures: MaxFailures = None,
    max_contention: MaxContention = 0.5,
    dry_run: DryRun = False,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How to write what is found; sentences if left out."),
    ] = None,
) -> int:
    """Find the versions between which something changed, by how much, and what else changed there.

    Proves first that the ends differ, then halves; a version that cannot be measured is stepped
    around. The trials are those of an ordinary run of the grid's name: what is there is used, and
    the same command goes on after Ctrl-C. Ends with 3 where something could not be decided, with 1
    where an end gives no times.

    Example: `sweep bisect grid.yaml --from torch==1.13.1 --to torch==2.13.0 --set batch_exponent=5`
    """
    from sweep import grid as grids
    from sweep import run as sweeps
    from sweep.bisection import Found
    from sweep.cli.display import display
    from sweep.records.results import Results
    from sweep.records.storage import Storage

    written = with_versions(grids.load(grid, sets or []), out)
    values = _values(written, over, (start, end), every)
    chosen, expansion = expand_grid(grid, [*(sets or []), f"{over}={values}"], only, 0, out)
    chosen = replace(chosen, versions={**written.versions, **chosen.versions})
    search = _search(chosen, expansion, over, (start, end), margin, metric, max_seeds, address)
    planned = _planned(expansion, search, results_of(chosen.name, out))
    if dry_run:
        return show_plan(chosen, planned, out, retry)
    spare_memory()
    results = Results(Storage(out).child(chosen.name))
    options = run_options(address, retry, timeout, wait, max_failures, max_contention)
    with interruptible(f"the records so far are safe in {results}; run the same command to go on"):
        with display(chosen.name) as watching:
            sweeps.run(chosen, planned, results, options, watching, search)
        found = search.state(results)
        if not isinstance(found, Found):
            output.say("the search is not finished: run the same command again to go on")
            return MISSING
        told = Changes(search, results, found, over)
        told.write(form)
        output.say(f"records: {results}")
        return told.code


def _values(written: Grid, over: str, ends: tuple[str, str], every: Every) -> str:
    """Return the values to search, as `--set` takes them: those of the grid, or a version range."""
    start, end = (_spelled(each) for each in ends)
    given = list(written.file.axes.get(over, ()))
    if not given and over != "framework":
        hint = f"list them under axes, or search another: {', '.join(written.file.axes)}"
        raise SweepError(f"{written.path} lists no values of {over!r} to search", hint)
    places = {_spelled(value): place for place, value in reversed(list(enumerate(given)))}
    if start in places and end in places:
        listed = _between(given, places[start], places[end], ends)
        # A grid with only the two ends does not say which versions lie between them.
        if over != "framework" or len(listed) > 2:
            return json.dumps(listed)[1:-1]
    if over != "framework":
        missing = next(each for each in (start, end) if each not in places)
        message = f"{over} has no value {missing} in {written.path}"
        raise SweepError(message, nearest(missing, places))
    return _versions_between(start, end, every)


def _spelled(value: Any) -> str:
    from sweep.selection import shown
    from sweep.versions import normal_requirement

    return normal_requirement(shown(value))


def _between(values: Sequence[Any], first: int, last: int, ends: tuple[str, str]) -> list[Any]:
    if first >= last:
        raise SweepError(
            f"{ends[1]} does not come after {ends[0]} in the grid", "exchange --from and --to"
        )
    return list(values[first : last + 1])


def _versions_between(start: str, end: str, every: Every) -> str:
    """Return a range of versions with both ends."""
    from packaging.version import InvalidVersion, Version

    (framework, _, first), (other, _, last) = (each.partition("==") for each in (start, end))
    if framework != other:
        hint = (
            "list the values in the grid in the order in which to search them, and name two of them"
        )
        raise SweepError(f"{start} and {end} are no versions of one framework", hint)
    for each, version in ((start, first), (end, last)):
        if not version:
            raise SweepError(f"{each} names no version", f"write {each}==VERSION")
    try:
        is_ordered = Version(first) < Version(last)
    except InvalidVersion as error:
        hint = f"write {framework}==VERSION, or list values of your own in the grid in their order"
        raise SweepError(f"{error}", hint) from None
    if not is_ordered:
        raise SweepError(f"{end} is no later version than {start}", "exchange --from and --to")
    every_patch = " every patch" if every is Every.PATCH else ""
    return json.dumps([start, f"{framework}>={first},<={last}{every_patch}", end])[1:-1]


def _search(
    grid: Grid,
    expansion: Expansion,
    over: str,
    ends: tuple[str, str],
    margin: float | None,
    metric: str | None,
    most_blocks: int,
    address: str | None,
) -> Bisection:
    """Return the search over the cells of an expansion, one per value of the axis."""
    from sweep import calibration
    from sweep.additions import Bisection

    if metric is not None:
        _check_metric(metric, expansion)
    models = _models(expansion, over)
    for each, model in zip(ends, (models[0], models[-1]), strict=True):
        if _spelled(model.cell.axes[over]) != _spelled(each):
            raise _left_out(expansion, each)
    if margin is None:
        floors = (each.noise_floor for each in calibration.applicable(expansion.cells, address))
        margin = max([MARGIN, *floors])
    return Bisection(models, margin, metric, most_blocks, grid.order)


def _check_metric(metric: str, expansion: Expansion) -> None:
    from sweep import catalog

    workloads = catalog.workloads_of(expansion.cells)
    known = directions_of([*catalog.frameworks().values(), *workloads.values()])
    if metric not in known:
        raise SweepError(f"there is no metric {metric!r}", nearest(metric, known))


def _models(expansion: Expansion, over: str) -> list[Trial]:
    """Return a trial per value, in the grid's order; SweepError if a value has several cells."""
    from sweep.selection import shown, varying

    models = list({trial.cell.id: trial for trial in expansion.trials}.values())
    cells = [model.cell for model in models]
    if any(over not in cell.axes for cell in cells):
        raise SweepError(f"{over!r} is no axis of this grid", nearest(over, cells[0].axes))
    others = [name for name in varying([cell.axes for cell in cells]) if name != over]
    if len({shown(cell.axes[over]) for cell in cells}) < len(cells):
        values = "; ".join(f"{name}: {_listed(cells, name)}" for name in others)
        first = next(iter(cells)).axes
        hint = " ".join(f"--set {name}={shown(first[name])}" for name in others)
        message = f"a search is of one cell for each {over}, and the grid has several ({values})"
        raise SweepError(message, f"choose one, as with {hint}")
    return models


def _listed(cells: Sequence[Cell], name: str) -> str:
    from sweep.selection import shown

    return ", ".join(dict.fromkeys(shown(cell.axes.get(name)) for cell in cells))


def _left_out(expansion: Expansion, end: str) -> SweepError:
    """Return the error about an end that has no cell."""
    name = _spelled(end)
    reason = next((each.reason for each in expansion.exclusions if each.name.startswith(name)), "")
    return SweepError(
        f"{end} is left out of the grid{reason and ': '}{reason}", "choose another end"
    )


def _planned(expansion: Expansion, search: Bisection, results: Results | None) -> Expansion:
    """Return the expansion with the trials of the search instead of the grid's."""
    return replace(expansion, trials=search.planned(results))
