"""`sweep status`: how a run stands, now or as it changes, told from its records and what its driver says of itself."""

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
from sweep.cli.display import duration, progress
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

_CAUSES = 10
_RUNNING = 10  # trials that are named
_WATCH_EVERY_S = 5.0  # a driver says no more often how it stands
_SHARE = 0.1  # of the time, at most, that is spent on reading: it may be a machine that is measured

DONE, INCOMPLETE = (
    "done",
    "incomplete",
)  # of a run that no driver is left of; else it stands as its driver does
_SAID = {
    "running": "is running",
    "stopped": "was stopped",
    "dead": "is dead",
    "silent": "is not heard of",
    DONE: "is done",
    INCOMPLETE: "is not running",
}
_GOES_ON = ("running", "silent")


@dataclass(frozen=True)
class RunState:
    """How a run stands at one moment, `at` seconds since the epoch; `recorded` and `missing` add up to `planned`."""

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
    def goes_on(self) -> bool:
        return self.state in _GOES_ON

    @property
    def exit_code(self) -> int:
        if not all_ok(self.statuses):
            return FAILED
        return MISSING if self.missing or not self.statuses else 0


def status(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="A folder, a URI, or a name under results/; the newest one if left out.",
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Tell it again as it changes, until the sweep ends.")
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", help="How to write it; json has all that is known.")
    ] = (Format.TABLE),
) -> int:
    """Show how far a run is: whether it runs, where and since when, trials by status, failures by cause, what is left.

    It may run on another machine: what its driver says of itself lies in the run. Ends with 1 where trials failed, with
    4 where planned ones have no record yet, with 130 where Ctrl-C ends --watch.

    Example: `sweep status core-time --watch`
    """
    place = runs.place_of(run)
    if not watch:
        loaded, run_state = _run_state(place)
        _tell(run_state, form)
    else:
        if form not in (Format.TABLE, Format.JSON):
            raise SweepError(f"--watch cannot write {form}", "leave out --format, or write json")
        with interruptible("no longer watched; that changes nothing for the sweep"):
            loaded, run_state = _watch(place, form)
    runs.tell_damage(loaded)
    if form is Format.TABLE and not run_state.goes_on and run_state.exit_code:
        output.say(_what_next(run_state))
    return run_state.exit_code


def _run_state(place: str) -> tuple[Run, RunState]:
    """How the run stands now. The driver is read first: what ends meanwhile is then a record."""
    from sweep.analysis import failures
    from sweep.analysis.run import Run

    run = Run(place)
    now = time.time()
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
        progress=run.results.progress() if state in _GOES_ON else {},
    )


def _state(driver: Driver | None, now: float, is_complete: bool) -> str:
    """How the driver stands; of one that has ended after its last trial only that the run is done is of interest."""
    state = str(driver.liveness(now)) if driver else INCOMPLETE
    is_left = bool(driver and driver.ended < driver.planned)  # also of trials that are run again
    return DONE if is_complete and state not in _GOES_ON and not is_left else state


def _planned(run: Run, table: pa.Table, driver: Driver | None) -> tuple[int, int]:
    """How many trials are planned, and how many of them have no record in this table.

    Where the plan was deleted the driver still knows how many it has; it writes the plan again at its end.
    """
    missing = len(run.without_record(table))
    if planned := len(run.planned):
        return planned, missing
    planned = max(len(table), driver.planned if driver else 0)
    return planned, planned - len(table)


def _watch(place: str, form: Format) -> tuple[Run, RunState]:
    """Tell how the run stands until nobody runs it: redrawn on a terminal, else a line for each change."""
    if form is Format.TABLE and sys.stdout.isatty():
        with Live(console=output.stdout, auto_refresh=False) as live:
            for run, run_state in _followed(place):  # noqa: B007  the last is what is returned
                live.update(Text("\n".join(_lines(run_state))), refresh=True)
        return run, run_state
    told = ""
    for run, run_state in _followed(place):  # noqa: B007
        text = _headline(run_state)
        if text != told:
            told = text
            output.emit(
                json.dumps(_document(run_state))
                if form is Format.JSON
                else f"{_clock(run_state.at)} {text}"
            )
    return run, run_state


def _followed(place: str) -> Iterator[tuple[Run, RunState]]:
    """At least once; the last time when the run does not go on any more."""
    while True:
        began = time.monotonic()
        run, run_state = _run_state(place)
        took_s = time.monotonic() - began
        yield run, run_state
        if not run_state.goes_on:
            return
        time.sleep(max(_WATCH_EVERY_S, took_s / _SHARE))


def _tell(run_state: RunState, form: Format) -> None:
    if form is Format.TABLE:
        output.emit("\n".join(_lines(run_state)))
        return
    if form is Format.JSON:
        output.emit(json.dumps(_document(run_state), indent=1, ensure_ascii=False))
        return
    told = [*run_state.statuses.most_common(), ("missing", run_state.missing)]
    columns = [
        Column("status", [name for name, _ in told], is_text=True),
        Column("trials", [str(n) for _, n in told]),
    ]
    emit(form, columns, [{"status": name, "trials": n} for name, n in told])


def _document(run_state: RunState) -> Any:
    """All that is known, for programs."""
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
            "driver": _of_driver(run_state.driver) if run_state.driver else None,
            "progress": [
                {"trial_id": trial_id, **facts}
                for trial_id, facts in sorted(run_state.progress.items())
            ],
        }
    )


def _of_driver(driver: Driver) -> dict[str, Any]:
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
    return f"{run_state.run} {_SAID[run_state.state]}: {planned}: {', '.join(counts) or 'none'}"


def _driver_lines(run_state: RunState, driver: Driver) -> Iterator[str]:
    """What the driver says of itself, or how it ended."""
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
    yield f"{driver.phase} since {_clock(driver.phase_since)}" + (
        f"; last heard of at {heard}" if overdue else ""
    )
    yield from _work_lines(driver)
    yield from _running_lines(run_state, driver)
    yield from (f"{_clock(message['at'])} {message['text']}" for message in driver.messages)


def _work_lines(driver: Driver) -> Iterator[str]:
    """What runs, what waits, on what, and what for."""
    eta = (
        "ETA once a trial has ended"
        if driver.remaining_s is None
        else f"ETA {duration(driver.remaining_s)}"
    )
    yield f"{counted(driver.running, 'trial')} running, {driver.waiting:,} waiting, {eta}"
    for node in driver.nodes:
        has = ", ".join(f"{name} {amount}" for name, amount in _resources(node["resources"]))
        yield f"node {node['name']} ({has}): {counted(node['running'], 'trial')} running"
    yield from (f"not used: {refused}" for refused in driver.refused_nodes)
    for what, count in driver.asked_for.items():
        yield f"nodes are asked for, for {counted(count, 'trial')} of {what}"


def _resources(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a node has, memory in GiB."""
    for name, amount in said.items():
        if not isinstance(amount, int | float):
            continue
        yield name, f"{amount / 2**30:.0f} GiB" if name == "memory" else f"{amount:g}"


def _running_lines(run_state: RunState, driver: Driver) -> Iterator[str]:
    """The trials that run, with what they say of themselves."""
    said = {
        str(facts.get("trial", trial_id)): facts for trial_id, facts in run_state.progress.items()
    }
    nodes = {str(each["trial"]): f" on {each['node']}" for each in driver.trials}
    names = sorted(nodes.keys() | said.keys(), key=lambda name: (name not in said, name))
    for name in names[:_RUNNING]:
        facts = {
            key: value
            for key, value in said.get(name, {}).items()
            if key not in ("trial", "trial_id")
        }
        told = f": {progress(facts)}" if facts else ""
        yield f"running {name}{nodes.get(name, '')}{told}"
    if driver.running > _RUNNING:
        yield f"and {driver.running - _RUNNING} more"


def _clock(at: float) -> str:
    """A time of day, with its date where that is not today's."""
    when = dt.datetime.fromtimestamp(at).astimezone()
    is_today = when.date() == dt.datetime.now().astimezone().date()
    return f"{when:%H:%M:%S}" if is_today else f"{when:%Y-%m-%d %H:%M:%S}"


def _what_next(run_state: RunState) -> str:
    wanted = retry_for(run_state.statuses)
    retry = f" with --retry {wanted}" if wanted else ""
    if not run_state.missing:
        return f"hint: sweep run on its grid runs them again{retry}"
    also = f" and,{retry}, what failed" if retry else ""
    return f"hint: sweep run on its grid runs what is missing{also}"
