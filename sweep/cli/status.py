"""The command `sweep status`: the state of a run, from its records and its driver's reports."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from sweep.cli import output, runs
from sweep.cli.display import duration, eta, progress
from sweep.cli.run import interruptible
from sweep.cli.tables import Column, Format, emit, plain
from sweep.errors import FAILED, MISSING, SweepError
from sweep.status import all_ok, retry_for
from sweep.texts import counted, having, printable

if TYPE_CHECKING:
    import pyarrow as pa

    from sweep.analysis.failures import Failure
    from sweep.analysis.run import Run
    from sweep.records.driver import Driver

_CAUSES = 10  # of failures
_RUNNING = 10  # trials that are named
# A driver does not report more often.
_WATCH_EVERY_S = 5.0
# At most this share of the time is spent on reading: the machine may be the one that is timed.
_SHARE = 0.1

# The states of a run without a driver; otherwise the state is that of its driver.
DONE, INCOMPLETE = ("done", "incomplete")
_PHRASES = {
    "running": "is running",
    "stopped": "was stopped",
    "dead": "is dead",
    "silent": "is not heard of",
    DONE: "is done",
    INCOMPLETE: "is not running",
}
# A driver that is silent may only be cut off from its storage.
_ACTIVE = ("running", "silent")


@dataclass(frozen=True)
class RunState:
    """The state of a run at one moment, `at` in seconds since the epoch.

    `recorded` and `missing` add up to `planned`.
    """

    run: str
    state: str
    at: float
    planned: int
    recorded: int
    missing: int
    statuses: Counter[str]
    causes: Sequence[Failure]
    driver: Driver | None
    progress: Mapping[str, Mapping[str, Any]]

    @property
    def is_active(self) -> bool:
        """Whether a driver may still add records."""
        return self.state in _ACTIVE

    @property
    def exit_code(self) -> int:
        """The exit code of the command: of failed trials, else of missing ones."""
        if not all_ok(self.statuses):
            return FAILED
        return MISSING if self.missing or not self.statuses else 0


def status(
    run: runs.NewestUnlessNamed = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again as it changes, until the sweep ends.")
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", help="How to write it; json has all that is known.")
    ] = (Format.TABLE),
) -> int:
    """Show how far a run is: its driver, trials by status, failures by cause, what is left.

    The run may be on another machine: what its driver reports is stored in the run. Ends with 1 if
    trials failed, with 4 if planned ones have no record yet, with 130 if Ctrl-C ends --watch.

    Example: `sweep status core-time --watch`
    """
    location = runs.locate(run)
    if not watch:
        loaded, run_state = _run_state(location)
        _show(run_state, form)
    else:
        if form not in (Format.TABLE, Format.JSON):
            raise SweepError(f"--watch cannot write {form}", "leave out --format, or write json")
        with interruptible("no longer watched; that changes nothing for the sweep"):
            loaded, run_state = _watch(location, form)
    runs.warn_damage(loaded)
    if form is Format.TABLE and not run_state.is_active and run_state.exit_code:
        output.say(_next_step(run_state))
    return run_state.exit_code


def _run_state(location: str) -> tuple[Run, RunState]:
    """Return the run and its present state."""
    from sweep.analysis import failures
    from sweep.analysis.run import Run

    run = Run(location)
    now = time.time()
    # The driver's report is read before the records: a trial that ends in between is counted as
    # a record, and never as neither.
    driver = run.results.driver()
    damaged = list(run.damaged)
    table = run.results.records([*failures.COLUMNS, "trial_id"])
    run.damaged.extend(damaged)
    planned, missing = _planned(run, table, driver)
    statuses = Counter(table["status"].to_pylist())
    state = _state(driver, now, bool(statuses) and not missing)
    return run, RunState(
        run=run.name,
        state=state,
        at=now,
        planned=planned,
        recorded=planned - missing,
        missing=missing,
        statuses=statuses,
        causes=failures.failures(table),
        driver=driver,
        progress=run.results.progress() if state in _ACTIVE else {},
    )


def _state(driver: Driver | None, now: float, is_complete: bool) -> str:
    """Return the driver's state; "done" if it has ended after its last trial."""
    state = str(driver.liveness(now)) if driver else INCOMPLETE
    # Trials that are run again have records already, so is_complete alone does not show them.
    has_unfinished = bool(driver and driver.ended < driver.planned)
    is_done = is_complete and state not in _ACTIVE and not has_unfinished
    return DONE if is_done else state


def _planned(run: Run, table: pa.Table, driver: Driver | None) -> tuple[int, int]:
    """Return how many trials are planned, and how many of them have no record in this table.

    If the plan was deleted, the driver's report has the number; it writes the plan again at its
    end.
    """
    missing = len(run.without_record(table))
    if planned := len(run.planned):
        return planned, missing
    planned = max(len(table), driver.planned if driver else 0)
    return planned, planned - len(table)


def _watch(location: str, form: Format) -> tuple[Run, RunState]:
    """Show the state until the run is no longer active; return the last one.

    A terminal is redrawn. Elsewhere each change is a line.
    """
    if form is Format.TABLE and sys.stdout.isatty():
        with Live(console=output.stdout, auto_refresh=False) as live:
            for run, run_state in _states(location):  # noqa: B007  the last is returned
                live.update(Text("\n".join(_lines(run_state))), refresh=True)
        return run, run_state
    shown = ""
    for run, run_state in _states(location):  # noqa: B007
        headline = _headline(run_state)
        if headline == shown:
            continue
        shown = headline
        if form is Format.JSON:
            output.emit(json.dumps(_document(run_state)))
        else:
            output.emit(f"{_clock(run_state.at)} {headline}")
    return run, run_state


def _states(location: str) -> Iterator[tuple[Run, RunState]]:
    """Yield the state at intervals, at least once, and last when the run is not active."""
    while True:
        began = time.monotonic()
        run, run_state = _run_state(location)
        took_s = time.monotonic() - began
        yield run, run_state
        if not run_state.is_active:
            return
        # A run in a slow object store is read less often.
        time.sleep(max(_WATCH_EVERY_S, took_s / _SHARE))


def _show(run_state: RunState, form: Format) -> None:
    if form is Format.TABLE:
        output.emit("\n".join(_lines(run_state)))
        return
    if form is Format.JSON:
        output.emit(json.dumps(_document(run_state), indent=1, ensure_ascii=False))
        return
    counts = [*run_state.statuses.most_common(), ("missing", run_state.missing)]
    columns = [
        Column("status", [name for name, _ in counts], is_text=True),
        Column("trials", [str(n) for _, n in counts]),
    ]
    emit(form, columns, [{"status": name, "trials": n} for name, n in counts])


def _document(run_state: RunState) -> Any:
    """Return all that is known, for programs."""
    return plain(
        {
            "run": run_state.run,
            "state": run_state.state,
            "at": run_state.at,
            "planned": run_state.planned,
            "recorded": run_state.recorded,
            "missing": run_state.missing,
            "statuses": dict(run_state.statuses.most_common()),
            "failures": [each._asdict() for each in run_state.causes],
            "driver": _driver_facts(run_state.driver) if run_state.driver else None,
            "progress": [
                {"trial_id": trial_id, **facts}
                for trial_id, facts in sorted(run_state.progress.items())
            ],
        }
    )


def _driver_facts(driver: Driver) -> dict[str, Any]:
    return {**asdict(driver), "waiting": driver.waiting}


def _lines(run_state: RunState) -> list[str]:
    lines = [_headline(run_state)]
    lines += [
        f"  {cause.trials} {cause.status}: {cause.cause}" for cause in run_state.causes[:_CAUSES]
    ]
    if len(run_state.causes) > _CAUSES:
        lines.append(f"  and {counted(len(run_state.causes) - _CAUSES, 'other cause')}")
    if run_state.driver:
        lines += [f"  {printable(line)}" for line in _driver_lines(run_state, run_state.driver)]
    return lines


def _headline(run_state: RunState) -> str:
    counts = [f"{n} {name}" for name, n in run_state.statuses.most_common()]
    if run_state.missing:
        counts.append(f"{run_state.missing} without a record")
    unplanned = run_state.statuses.total() - run_state.recorded
    if unplanned > 0:
        counts.append(f"{unplanned} of them no longer planned")
    planned = f"{run_state.recorded:,} of {having(run_state.planned, 'planned trial')} a record"
    return f"{run_state.run} {_PHRASES[run_state.state]}: {planned}: {', '.join(counts) or 'none'}"


def _driver_lines(run_state: RunState, driver: Driver) -> Iterator[str]:
    """Yield what the driver reports, or how it ended."""
    who = f"process {driver.pid} on {driver.host}"
    heard = f"{_clock(driver.heard_at)}, {duration(max(0.0, run_state.at - driver.heard_at))} ago"
    yield f"{driver.command}: {who}, started at {_clock(driver.started_at)}"
    if run_state.state == "stopped":
        yield f"it ended at {_clock(driver.heard_at)} while {driver.phase}: {driver.end}"
        return
    if run_state.state == "dead":
        yield f"it died while {driver.phase}: last heard of at {heard}"
        return
    overdue = run_state.state == "silent" or driver.is_overdue(run_state.at)
    last = f"; last heard of at {heard}" if overdue else ""
    yield f"{driver.phase} since {_clock(driver.phase_since)}{last}"
    yield from _work_lines(driver)
    yield from _running_lines(run_state, driver)
    yield from (f"{_clock(message['at'])} {message['text']}" for message in driver.messages)


def _work_lines(driver: Driver) -> Iterator[str]:
    """Yield the running and waiting trials, the nodes, and what is waited for."""
    remaining = eta(driver.remaining_s)
    yield f"{counted(driver.running, 'trial')} running, {driver.waiting:,} waiting, {remaining}"
    for node in driver.nodes:
        has = ", ".join(f"{name} {amount}" for name, amount in _resources(node["resources"]))
        yield f"node {node['name']} ({has}): {counted(node['running'], 'trial')} running"
    yield from (f"not used: {refused}" for refused in driver.refused_nodes)
    for what, count in driver.asked_for.items():
        yield f"nodes are asked for, for {counted(count, 'trial')} of {what}"


def _resources(reported: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the resources of a node as text, memory in GiB."""
    for name, amount in reported.items():
        if not isinstance(amount, int | float):
            continue
        yield name, f"{amount / 2**30:.0f} GiB" if name == "memory" else f"{amount:g}"


def _running_lines(run_state: RunState, driver: Driver) -> Iterator[str]:
    """Yield the running trials with the progress that they report."""
    reports = {
        str(facts.get("trial", trial_id)): facts for trial_id, facts in run_state.progress.items()
    }
    nodes = {str(trial["trial"]): f" on {trial['node']}" for trial in driver.trials}
    # Trials that report progress come first: they are the long ones.
    names = sorted(nodes.keys() | reports.keys(), key=lambda name: (name not in reports, name))
    for name in names[:_RUNNING]:
        facts = {
            key: value
            for key, value in reports.get(name, {}).items()
            if key not in ("trial", "trial_id")
        }
        reported = f": {progress(facts)}" if facts else ""
        yield f"running {name}{nodes.get(name, '')}{reported}"
    if driver.running > _RUNNING:
        yield f"and {driver.running - _RUNNING} more"


def _clock(at: float) -> str:
    """Return a time of day, with its date if that is not today."""
    when = dt.datetime.fromtimestamp(at).astimezone()
    is_today = when.date() == dt.datetime.now().astimezone().date()
    return f"{when:%H:%M:%S}" if is_today else f"{when:%Y-%m-%d %H:%M:%S}"


def _next_step(run_state: RunState) -> str:
    wanted = retry_for(run_state.statuses)
    retry = f" with --retry {wanted}" if wanted else ""
    if not run_state.missing:
        return f"hint: sweep run on its grid runs them again{retry}"
    also = f" and,{retry}, what failed" if retry else ""
    return f"hint: sweep run on its grid runs what is missing{also}"
