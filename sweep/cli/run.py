"""The commands `sweep run` and `reproduce`: from a grid to its records, and one trial again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep import signals
from sweep.cli import output, runs, shares
from sweep.cli.plan import (
    AddSeeds,
    GridPath,
    Only,
    Out,
    RetryWhat,
    Sets,
    expand_grid,
    show_plan,
    statuses_to_retry,
)
from sweep.cli.tables import Column, Format, emit
from sweep.errors import FAILED, MISSING, UNAVAILABLE, SweepError, Unavailable
from sweep.status import Retry, Status, without_times

if TYPE_CHECKING:
    from sweep.analysis.run import Run
    from sweep.records.results import Results
    from sweep.run import Options

_M_ARENA_MAX = -8  # malloc.h

Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Join a Ray cluster: auto, host:port or ray://host:10001."
    ),
]
Timeout = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Kill trials after so long, as 90, 30m or 2h; else after the grid's timeout.",
    ),
]
Wait = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Wait so long for a node that can hold a trial, as 90, 30m or 2h; else 10 minutes"
        " if the cluster starts nodes itself, 1 minute on other clusters.",
    ),
]
MaxFailures = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Stop after N failed trials.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would run, as sweep plan does.")
]
MaxContention = Annotated[
    float,
    typer.Option(
        envvar="SWEEP_MAX_CONTENTION",
        metavar="SHARE",
        parser=shares.or_any("--max-contention"),
        help="A trial that has its node to itself is invalid, and tried again, if other processes"
        " took more than this share of its cores' time, as 50% or 0.5; any: whatever they took.",
    ),
]


def run(
    grid: GridPath,
    sets: Sets = None,
    only: Only = None,
    out: Out = runs.RESULTS,
    address: Address = None,
    retry: RetryWhat = None,
    add_seeds: AddSeeds = 0,
    timeout: Timeout = "",
    wait: Wait = "",
    max_failures: MaxFailures = None,
    max_contention: MaxContention = 0.5,
    dry_run: DryRun = False,
) -> int:
    """Run what a grid says and has no record yet, and end with what it found and the summary.

    Environments and data are made if they are missing. Run it again after a crash, a Ctrl-C, or
    with more values on an axis: nothing runs twice. Ends with 1 if trials failed, with 130 after
    Ctrl-C and 143 after SIGTERM, all records so far safe.

    Example: `sweep run grid.yaml --set batch_exponent=0,3 --add-seeds 2`
    """
    from sweep import run as sweeps
    from sweep.cli.display import display
    from sweep.records.results import Results
    from sweep.records.storage import Storage

    chosen, expansion = expand_grid(grid, sets, only, add_seeds, out)
    if dry_run:
        return show_plan(chosen, expansion, out, retry)
    spare_memory()
    results = Results(Storage(out).child(chosen.name))
    options = run_options(address, retry, timeout, wait, max_failures, max_contention)
    with interruptible(f"the records so far are safe in {results}; run the same command to go on"):
        with display(chosen.name) as watching:
            sweeps.run(chosen, expansion, results, options, watching)
        planned = len(expansion.trials)
        ended = results.ended(trial.id for trial in expansion.trials)
        # A million trials occupy gigabytes, which the summary needs: they are returned to the
        # system first.
        del expansion
        _call_glibc("malloc_trim", 0)
        return _conclude(results, planned, ended)


def run_options(
    address: str | None,
    retry: Retry | None,
    timeout: str,
    wait: str,
    max_failures: int | None,
    max_contention: float,
) -> Options:
    """Return the options of a sweep from those of the command line."""
    from sweep.grid import duration_s
    from sweep.run import Options

    return Options(
        address=address,
        retry=statuses_to_retry(retry),
        timeout_s=duration_s(timeout) if timeout else None,
        wait_s=duration_s(wait) if wait else None,
        max_failures=max_failures,
        max_contention=max_contention,
    )


def spare_memory() -> None:
    """Keep Ray's many threads from having heaps of their own, with memory that they do not use."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call_glibc("mallopt", _M_ARENA_MAX, 1)


def _conclude(results: Results, planned: int, ended: Counter[str]) -> int:
    """Show the summary of the run and what to look at next; return the exit code.

    `ended` counts planned trials by status.
    """
    from sweep.analysis.run import NoRecords, Run
    from sweep.cli.answers import write_summaries

    try:
        run = Run(results.storage)
        found = _findings(run)
        if found:
            output.emit("\n".join(found))
            output.emit("")
        write_summaries(run.summary())
    except NoRecords:
        # All trials failed: sweep status shows how.
        pass
    except (BrokenPipeError, Unavailable) as error:
        # The trials have run: the exit code is theirs, not that of the output.
        output.warn(f"the summary was not shown: {error}; see sweep summarize {results}")
    failed = without_times(ended)
    if failed:
        output.say(f"{failed} of {planned} trials did not end well: sweep status {results}")
    output.say(f"records: {results}")
    if failed and failed == ended[Status.ENV_FAILED] == ended.total():
        return UNAVAILABLE
    if failed:
        return FAILED
    return MISSING if ended.total() < planned else 0


def _findings(run: Run) -> list[str]:
    """Return what the run found, in lines; warn if its cells cannot be compared as they are."""
    from sweep.analysis.run import NoRecords
    from sweep.cli import findings

    try:
        return findings.lines(run)
    except (NoRecords, Unavailable):
        raise
    except SweepError as error:
        output.warn(f"nothing is compared: {error}; {error.hint}")
        return []


def _call_glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc; do nothing with another C library."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)


@contextlib.contextmanager
def interruptible(what_is_left: str) -> Iterator[None]:
    """If Ctrl-C or a signal ends the block, say `what_is_left`; end with the signal's exit code."""
    try:
        yield
    except KeyboardInterrupt:
        output.say(f"{signals.cause()}: {what_is_left}")
        raise typer.Exit(signals.exit_code()) from None


def reproduce(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder, a URI, or a name under results/.")
    ],
    trial: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL", help="Its id, the beginning of its id, its name, or a glob."
        ),
    ],
) -> int:
    """Run one recorded trial again, on this machine, and show the new record beside the old one.

    The environment is the same. Nothing is added to the run. Ends with 1 if the trial does not end
    well.

    Example: `sweep reproduce core-time 'torch==2.13.0/core/cpu/autograd/b5/s0'`
    """
    from sweep.cli.inspect import find_trial
    from sweep.reproduction import changed
    from sweep.reproduction import reproduce as run_again

    loaded = runs.load(run)
    record = loaded.results.history(find_trial(loaded, trial))[-1]
    for what in changed(loaded.facts, record):
        output.warn(f"{what} is not known to be what it was when this trial ran")
    output.say(f"running {record['trial_name']} again")
    rerun = run_again(loaded.facts, record)
    if record["environment_id"] and rerun.get("environment_id") != record["environment_id"]:
        output.warn(
            f"its environment was {record['environment_id']};"
            f" now it ran in {rerun.get('environment_id')}"
        )
    _compare(record, rerun)
    return 0 if rerun["status"] == Status.OK else FAILED


def _compare(record: Mapping[str, Any], rerun: Mapping[str, Any]) -> None:
    names = [
        name for name in _COMPARED if record.get(name) is not None or rerun.get(name) is not None
    ]
    columns = [
        Column("", names, is_text=True),
        Column("recorded", [_value_text(name, record) for name in names], is_text=True),
        Column("now", [_value_text(name, rerun) for name in names], is_text=True),
    ]
    rows = [
        {"column": name, "recorded": record.get(name), "now": rerun.get(name)} for name in names
    ]
    emit(Format.TABLE, columns, rows)


_COMPARED = (
    *("status", "error", "node", "cpu_model", "device_name", "cores", "threads"),
    *("python", "numpy", "environment_id", "loss", "gradient_norm"),
    *("forward_s", "backward_s", "step_s", "validation_loss", "peak_rss_bytes", "wall_s"),
)


def _value_text(name: str, record: Mapping[str, Any]) -> str:
    """Return a column of a record as text; samples by their median, losses by the last one."""
    from statistics import median

    from sweep.analysis.quantities import quantity
    from sweep.records.columns import unit

    value = record.get(name)
    if value is None or value == "":
        return ""
    if name == "loss" or unit(name) == "norm":
        numbers = value if isinstance(value, list) else [value]
        return f"{numbers[-1]:.9g}" if numbers else ""
    if isinstance(value, list) and unit(name):
        return f"{quantity(median(value), unit(name))} (median of {len(value)})"
    return quantity(value, unit(name)) if unit(name) in ("s", "B") else str(value)
