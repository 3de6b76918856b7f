"""The commands `sweep plan` and `schema`: what a grid would run, and what a grid may contain."""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli import output, paths, runs
from sweep.cli.tables import Column, Format, emit, emit_one_by_one
from sweep.errors import SweepError, nearest
from sweep.status import Retry
from sweep.texts import counted

if TYPE_CHECKING:
    from sweep.catalog import Framework, Workload
    from sweep.cluster.forecast import NodeTypes
    from sweep.estimate import Estimate
    from sweep.grid import Expansion, Grid, Trial
    from sweep.grid.ranges import Range
    from sweep.grid.source import Keys
    from sweep.node.provision import Needs
    from sweep.plugins import Registry
    from sweep.records.declared import Direction
    from sweep.records.results import Results

_REASONS = 10  # of exclusions
# From this similarity on, one name may be a misspelling of the other.
_ALIKE = 0.8
_NAMED = 50  # environments
_SHOWN = 1000  # trials that are listed for people


GridPath = Annotated[
    Path,
    typer.Argument(
        metavar="GRID", parser=paths.path, help="The grid file, or a step file.", show_default=False
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="AXIS=V1,V2", help="Other values for an axis or a parameter; repeatable."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB", help="Only trials with such a name, as `*/cpu/*/b5/*`; repeatable."
    ),
]
Out = Annotated[
    str,
    typer.Option(metavar="DIR|URI", help="Where runs are kept: a folder, or s3://bucket/prefix."),
]
AddSeeds = Annotated[int, typer.Option(metavar="N", min=0, help="N more seeds of every cell.")]
RetryWhat = Annotated[Retry | None, typer.Option("--retry", help="Run again what ended so.")]
_Format = Annotated[Format, typer.Option("--format", help="How to write the trials.")]
_Nodes = Annotated[
    str,
    typer.Option(
        "--nodes", metavar="TYPE=N,…", help="How long it takes on such nodes of a cluster file."
    ),
]
_ClusterFile = Annotated[
    Path,
    typer.Option(
        "--cluster", metavar="FILE", parser=paths.path, help="The cluster file with their types."
    ),
]


def plan(
    grid: GridPath,
    sets: Sets = None,
    only: Only = None,
    out: Out = runs.RESULTS,
    retry: RetryWhat = None,
    add_seeds: AddSeeds = 0,
    form: _Format = Format.TABLE,
    nodes: _Nodes = "",
    cluster: _ClusterFile = Path("cluster.yaml"),
) -> int:
    """Show what would run, in which order, what is left out, what must be built, and how long it
    takes.

    Nothing is run, built or written. Trials are on stdout, the rest on stderr. With --nodes it also
    shows how many hours of each type of node it takes, estimated from earlier trials of the run.

    Example: `sweep plan grid.yaml --nodes cpu=4,gpu-1=2`
    """
    chosen, expansion = expand_grid(grid, sets, only, add_seeds, out)
    types = _types(cluster, nodes) if nodes else {}
    return show_plan(chosen, expansion, out, retry, form, types)


def schema() -> None:
    """Print the JSON Schema of grid files, for editors that complete and check them.

    Example: `sweep schema > grid.schema.json`
    """
    from sweep import catalog
    from sweep import grid as grids

    document = grids.schema(catalog.frameworks(), catalog.workloads())
    output.emit(json.dumps(document, indent=1, ensure_ascii=False))


def expand_grid(
    path: Path,
    sets: Iterable[str] | None = None,
    only: Iterable[str] | None = None,
    add_seeds: int = 0,
    out: str = runs.RESULTS,
) -> tuple[Grid, Expansion]:
    """Return a grid file and its expansion; names are looked up, and notes are shown as warnings.

    Ranges of versions are resolved once per run: the run of this name under `out` may have them.
    """
    from sweep import catalog, datasets, measured
    from sweep import grid as grids

    grid = with_versions(grids.load(path, sets or ()).add_seeds(add_seeds), out)
    # Broken plug-ins are warned of below, and stop only the grids that name them.
    frameworks, workloads = catalog.frameworks(), catalog.workloads()
    networks, data_sets = catalog.networks(), datasets.datasets()
    _add_steps(grid, workloads)
    _add_packages(grid, frameworks)
    metrics = directions_of([*frameworks.values(), *workloads.values()])
    undirected = [name for name, direction in metrics.items() if direction == "none"]
    expansion = grids.expand(
        grid,
        frameworks,
        workloads,
        only or (),
        data_sets=data_sets,
        networks=networks,
        metrics=list(metrics),
        undirected=undirected,
        content=measured.contents_of(workloads, grid.environments),
    )
    for registry in (frameworks, workloads, networks, data_sets):
        for name, error in registry.broken.items():
            output.warn(f"{name} cannot be used, and this grid does not: {error.message}")
    for note in expansion.notes:
        output.warn(note)
    return grid, expansion


def with_versions(grid: Grid, out: str) -> Grid:
    """Return the grid with its ranges replaced by versions.

    They are those that its run has recorded, else those that the indexes have now.
    """
    wanted = grid.ranges()
    if not wanted:
        return grid
    run = results_of(grid.name, out)
    kept = run.facts().versions if run else {}
    versions = dict(kept)
    shown: set[str] = set()
    for keys, each in wanted:
        text = str(each)
        if text in shown:
            continue
        shown.add(text)
        versions[text] = kept.get(text) or _look_up(grid, keys, each)
        since = f", as {grid.name} has taken them since it began" if text in kept else ""
        count = counted(len(versions[text]), "version")
        output.say(f"{text} is {count}{since}: {', '.join(versions[text])}")
    return grid.with_versions(versions)


def _look_up(grid: Grid, keys: Keys, wanted: Range) -> Sequence[str]:
    """Return the versions of a range from the configured indexes; warn of those that fail."""
    from sweep import catalog
    from sweep.environments import indexes, releases

    frameworks = catalog.frameworks()
    _add_packages(grid, frameworks)
    if wanted.framework not in frameworks:
        hint = nearest(wanted.framework, frameworks)
        raise grid.error(keys, f"there is no framework {wanted.framework!r}", hint)
    framework = frameworks[wanted.framework]
    listed = releases.releases(framework.package or "numpy", indexes.configured())
    for index in listed.unanswered:
        output.warn(f"{index}: versions that only it has are not in {wanted}")
    try:
        return releases.chosen(wanted, framework, listed, grid.environments)
    except SweepError as error:
        raise grid.error(keys, error.message, error.hint) from None


def _add_steps(grid: Grid, workloads: Registry[Workload]) -> None:
    """Add the steps of a grid to the workloads that it may name."""
    from sweep import catalog, steps

    for name, path in grid.steps.items():
        if not path.is_file():
            raise grid.error_at_workload(f"there is no step file {path}")
        workloads[name] = catalog.of_step(steps.read(path))


def _add_packages(grid: Grid, frameworks: Registry[Framework]) -> None:
    """Add packages that the grid names to its frameworks; only steps may use them."""
    from sweep import catalog

    if not grid.steps:
        return
    for name in grid.packages():
        if name in frameworks:
            continue
        if close := difflib.get_close_matches(name, frameworks, n=1, cutoff=_ALIKE):
            output.warn(
                f"{name} is taken for the package of that name, as sweep knows no such framework;"
                f" did you mean {close[0]!r}?"
            )
        frameworks[name] = catalog.any_package(name)


def directions_of(files: Iterable[Framework | Workload]) -> dict[str, Direction]:
    """Return which direction of each metric is better, for built-in columns and the files'."""
    from sweep.records.columns import METRICS, directions

    stated = {name: facts for file in files for name, facts in file.columns.items()}
    return directions(METRICS, stated)


def statuses_to_retry(what: Retry | None) -> frozenset[str]:
    """Return the statuses whose trials `--retry` repeats."""
    return what.statuses if what else frozenset()


def show_plan(
    grid: Grid,
    expansion: Expansion,
    out: str = runs.RESULTS,
    retry: Retry | None = None,
    form: Format = Format.TABLE,
    nodes: NodeTypes | None = None,
) -> int:
    """Show what would run: trials on stdout, all else on stderr.

    With `nodes`, it also shows how long the trials take on these nodes.
    """
    from sweep import resume, schedule

    results = results_of(grid.name, out)
    statuses = results.statuses() if results else {}
    todo = schedule.plan(expansion.trials, statuses, statuses_to_retry(retry), grid.order)
    estimate = _estimate(results, expansion)
    for line in _summary(grid, expansion, todo, estimate):
        output.say(line)
    if results:
        for change in resume.change_lines(results, expansion.trials, todo, statuses):
            output.say(change)
    if nodes and todo:
        for line in _on_nodes(todo, nodes, estimate):
            output.say(line)
    _list(todo, estimate, form)
    return 0


def _list(todo: Sequence[Trial], estimate: Estimate, form: Format) -> None:
    """Write every trial as it is made; the table for people has the first ones."""
    rows = (_row(trial, estimate) for trial in todo)
    if form in (Format.JSON, Format.CSV, Format.CSV_RAW):
        emit_one_by_one(form, rows)
        return
    shown = list(itertools.islice(rows, _SHOWN if form is Format.TABLE else None))
    if shown or form is not Format.TABLE:
        emit(form, _columns(shown), shown)
    if left := len(todo) - len(shown):
        output.say(f"and {counted(left, 'trial')} more: --format csv lists all")


def results_of(name: str, out: str) -> Results | None:
    """Return the results of the run of this name, or None if there are none yet."""
    # Importing PyArrow takes longer than all the rest of a plan: here it is not needed.
    if "://" not in out and not paths.path(out).joinpath(name).is_dir():
        return None
    from sweep.records.results import Results
    from sweep.records.storage import Storage

    results = Results(Storage(out).child(name))
    return results if results.exists() else None


def _estimate(results: Results | None, expansion: Expansion) -> Estimate:
    """Return an estimate of times, from the run's own records."""
    from sweep import catalog
    from sweep.estimate import LEARNT_FROM, Estimate

    estimate = Estimate(catalog.workloads_of(expansion.cells))
    if results:
        estimate.learn(
            results.records(LEARNT_FROM).to_pydict(), {cell.id: cell for cell in expansion.cells}
        )
    return estimate


def _summary(
    grid: Grid, expansion: Expansion, todo: Sequence[Trial], estimate: Estimate
) -> Iterator[str]:
    from sweep.cli.display import duration
    from sweep.node import provision

    cells, total = len(expansion.cells), len(expansion.trials)
    blocks = len({trial.seed for trial in expansion.trials})
    done = f", {total - len(todo):,} done, {len(todo):,} to run" if len(todo) < total else ""
    counts = f"{counted(cells, 'cell')}, {counted(total, 'trial')} in {counted(blocks, 'block')}"
    yield f"{grid.name}: {counts}{done}"
    yield from _reasons(expansion)
    yield from _too_large(todo)
    if not todo:
        return
    needs = provision.needs(todo, grid.environments)
    for state, specs in _environments(needs).items():
        more = f" and {len(specs) - _NAMED:,} more" if len(specs) > _NAMED else ""
        yield f"environments {state}: {', '.join(specs[:_NAMED])}{more}"
    if data := _data(needs):
        yield f"data: {', '.join(data)}"
    yield from _data_warnings(needs)
    if (seconds := _total_s(todo, estimate)) is not None:
        yield f"time: about {duration(seconds)}, one trial after the other"
    else:
        yield "time: not known before trials like these have ended"


def _reasons(expansion: Expansion) -> Iterator[str]:
    """Yield what is left out, by reason, the most frequent first."""
    counts = Counter(exclusion.reason for exclusion in expansion.exclusions)
    for reason, count in counts.most_common(_REASONS):
        yield f"left out, {count}: {reason}"
    if len(counts) > _REASONS:
        rest = counts.total() - sum(count for _, count in counts.most_common(_REASONS))
        yield f"left out, {rest}: {counted(len(counts) - _REASONS, 'more reason')}"


def _too_large(todo: Sequence[Trial]) -> Iterator[str]:
    """Yield a warning about trials that need more cores than this machine has."""
    from sweep.node import limits

    cores = limits.core_count()
    wanted = [trial.resources.cpu for trial in todo if trial.resources.cpu > cores]
    if wanted:
        yield (
            f"warning: {len(wanted):,} of {counted(len(todo), 'trial')} want up to {max(wanted)}"
            f" cores and this machine has {cores}: lower threads or resources.cpu, unless they run"
            " on larger nodes"
        )


def _environments(needs: Needs) -> dict[str, list[str]]:
    """Return the environments that the trials need, by whether they exist."""
    from sweep.environments.store import load

    states: dict[str, list[str]] = {}
    for spec in needs.specifications:
        state = "built" if load(spec.id) else "to build"
        if spec.interpreter:
            state = "of your own"
        purpose = " for GPUs" if spec in needs.gpu_only else ""
        states.setdefault(state, []).append(f"{spec.framework}{purpose}")
    return states


def _data(needs: Needs) -> list[str]:
    """Return the data sets that the trials need, and which must be prepared by hand."""
    from sweep import datasets
    from sweep.datasets import store

    listed = []
    for name, path in needs.data:
        is_available = datasets.get(name).generated or path or store.everything(name)
        listed.append(name if is_available else f"{name} (not prepared on this machine)")
    return listed


def _data_warnings(needs: Needs) -> Iterator[str]:
    """Yield warnings about the data sets that are prepared here and have no path in the grid."""
    from sweep.datasets import store

    for name in dict.fromkeys(name for name, path in needs.data if not path):
        warnings = [prepared.warning() for prepared in store.everything(name)[:1]]
        yield from (f"warning: {warning}" for warning in warnings if warning)


def _types(file: Path, wanted: str) -> NodeTypes:
    from sweep.cluster.forecast import node_types

    return node_types(file, wanted)


def _on_nodes(todo: Sequence[Trial], nodes: NodeTypes, estimate: Estimate) -> Iterator[str]:
    """Yield how long the trials take on these nodes, and how many hours of each type that is."""
    from sweep.cli.display import duration
    from sweep.cluster.forecast import forecast

    seconds = {
        trial.cell.id: estimate.seconds(trial.cell.id, trial.cell.settings) for trial in todo
    }
    unknown = sum(seconds[trial.cell.id] is None for trial in todo)
    if unknown:
        yield f"on these nodes: not known, as no trial like {unknown:,} of these has ended yet"
        return
    result = forecast(todo, nodes, lambda trial: seconds[trial.cell.id] or 0.0)
    named = ", ".join(f"{usage.nodes} {name}" for name, usage in result.types.items())
    yield (
        f"on {named}: about {duration(result.wall_s)},"
        " without what nodes take to start and to build environments"
    )
    for name, usage in result.types.items():
        yield f"  {name}: {usage.up_s / 3600:.3g} node-hours for {counted(usage.trials, 'trial')}"
    if result.infeasible:
        yield f"warning: {counted(result.infeasible, 'trial')} fit on none of these nodes"


def _total_s(todo: Sequence[Trial], estimate: Estimate) -> float | None:
    left = Counter(trial.cell.id for trial in todo)
    cells = {trial.cell.id: trial.cell for trial in todo}
    return estimate.total_s(
        (cell_id, cells[cell_id].settings, count) for cell_id, count in left.items()
    )


def _row(trial: Trial, estimate: Estimate) -> dict[str, Any]:
    return {
        "position": trial.position,
        "block": trial.block,
        "id": trial.id,
        "name": trial.name,
        "attempt": trial.attempt,
        "estimated_s": estimate.seconds(trial.cell.id, trial.cell.settings),
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    from sweep.cli.display import duration

    times = [
        duration(row["estimated_s"]) if row["estimated_s"] is not None else "?" for row in rows
    ]
    return [
        Column("id", [row["id"] for row in rows], is_text=True),
        Column("trial", [row["name"] for row in rows], is_text=True),
        Column("block", [str(row["block"]) for row in rows], rank=1),
        Column("position", [str(row["position"]) for row in rows], rank=2),
        Column("estimate", times, rank=3),
    ]
