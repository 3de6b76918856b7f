"""A whole sweep: plan what is missing, have what it needs on every node, run it, and keep each record as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import __version__, adaptive, calibration, catalog, locks, process, resume, schedule
from sweep.analysis.summary import records_for, summarize
from sweep.cluster import Cluster, refusal
from sweep.errors import FAILED, SweepError
from sweep.estimate import LEARNT_FROM, Estimate, Remaining
from sweep.grid import Cell, Expansion, Grid, Trial
from sweep.heartbeat import Heartbeat, Observer
from sweep.node import hosts, provision, worker
from sweep.records.facts import RunFacts
from sweep.records.layout import CHECKPOINTS
from sweep.records.results import Record, Results, Writer
from sweep.status import Status
from sweep.texts import counted

_NOTICE_S = (
    900.0  # what a node may take beyond a trial's own time: an environment, an import, a kill
)
_TELL_EVERY_S = 1.0
_TOGETHER = 100  # records that are kept at once

RunAll = Callable[[Sequence[Trial]], Generator[list[Record]]]


@dataclass(frozen=True)
class Options:
    """How a sweep is run, apart from what it runs.

    `retry` are the statuses whose trials run again;
    `disturbed_attempts` is how often in one sweep a trial is tried that others disturb, `max_contention` the share of
    its cores' time that they may take from a trial that has the node to itself. `wait_s` is how long to wait for a node
    that can hold a trial; by default as long as `Cluster` does.
    """

    address: str | None = None
    retry: frozenset[str] = frozenset()
    timeout_s: float | None = None
    max_failures: int | None = None
    disturbed_attempts: int = 3
    max_contention: float | None = worker.MAX_CONTENTION
    wait_s: float | None = None


class TooManyFailures(SweepError):  # noqa: N818  what happened, as users say it
    """`--max-failures` was reached; the records so far are safe."""

    exit_code = FAILED


def run(
    grid: Grid, expansion: Expansion, results: Results, options: Options, observer: Observer
) -> None:
    """Run the trials that have no record yet and keep what they find.

    Raises SweepError for what keeps all of them from running, TooManyFailures, and KeyboardInterrupt; every record that
    was there by then is kept.
    """
    known = calibration.known(expansion.cells, options.address)
    for each in known:
        observer.note(
            f"noise floor of {each.workload} on {each.device}: {each.noise_floor:.2%}, {each.measured_at[:10]}"
        )
    others = [] if options.address else calibration.of_other_machines(expansion.cells)
    for each in others:
        observer.note(
            f"the noise floor of {each.workload} on {each.device} that was measured on {each.place} "
            f"({each.measured_at[:10]}) does not apply to this machine: sweep calibrate measures it here"
        )
    facts = _facts(grid, expansion, max((each.noise_floor for each in known), default=0.0))
    with results.open(facts) as writer, Heartbeat(writer.storage, observer) as heartbeat:
        for part, reason in writer.damaged:
            heartbeat.note(f"{part} was {reason}; it is set aside and its trials run again")
        statuses = writer.statuses()
        todo = schedule.plan(expansion.trials, statuses, options.retry, grid.order)
        for line in resume.said(writer, expansion.trials, todo, statuses):
            heartbeat.note(line)
        ledger = Ledger(expansion.trials, todo)
        ledger.learn(writer)
        heartbeat.planned(
            len(expansion.trials), len(expansion.trials) - len(todo), ledger.remaining_s()
        )
        sweep = _Sweep(grid, expansion.trials, writer, ledger, options, heartbeat)
        if todo := todo or sweep.further():
            sweep.run(todo)


class Ledger:
    """What is left to do, how it goes, and how long the rest will take."""

    def __init__(self, trials: Sequence[Trial], todo: Sequence[Trial]) -> None:
        self.failures = 0
        self._cells = {trial.cell.id: trial.cell for trial in trials}
        self._estimate = Estimate(catalog.workloads())
        self._remaining = Remaining(
            self._estimate, self._cells, Counter(trial.cell.id for trial in todo)
        )
        self._told: float | None = None
        self._told_at = float("-inf")

    def learn(self, results: Results) -> None:
        """From trials that ended before."""
        self._estimate.learn(results.records(LEARNT_FROM).to_pydict(), self._cells)
        for cell_id in self._cells:
            self._remaining.change(cell_id, 0)

    def ended(self, record: Record) -> None:
        cell_id = record["cell_id"]
        status = Status(record["status"])
        if status is Status.OK:
            self._estimate.observe(cell_id, self._cells[cell_id].settings, record["wall_s"])
        elif status.is_failure:
            self.failures += 1
        self._remaining.change(cell_id, -1)

    def again(self, trial: Trial) -> None:
        self._remaining.change(trial.cell.id, 1)

    def seconds(self, cell: Cell) -> float | None:
        """Expected time of one trial of a cell."""
        return self._estimate.seconds(cell.id, cell.settings)

    def remaining_s(self, at_once: int = 1) -> float | None:
        """Expected time of what is left, `at_once` trials at a time; anew every second at most."""
        if time.monotonic() - self._told_at > _TELL_EVERY_S:
            self._told = self._remaining.total_s()
            self._told_at = time.monotonic()
        return None if self._told is None else self._told / max(1, at_once)


class _Sweep:
    """One invocation: a cluster, and the trials that it runs."""

    def __init__(
        self,
        grid: Grid,
        planned: Sequence[Trial],
        writer: Writer,
        ledger: Ledger,
        options: Options,
        observer: Heartbeat,
    ) -> None:
        self._grid, self._planned, self._writer, self._ledger = grid, planned, writer, ledger
        self._options, self._observer = options, observer
        self._run_id = uuid.uuid4().hex
        self._since = time.monotonic()
        self._running: set[str] = set()
        self._heard: dict[str, float] = {}
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._other_niceness: set[Any] = (
            set()
        )  # nodes whose trials have one, and which the user was told of

    def run(self, todo: Sequence[Trial]) -> None:
        locks.work_for(locks.introduction(self._grid.name))
        needs = provision.needs(todo, self._grid.environments, self._run_id)
        if self._options.address is None:
            self._observer.phase("preparing environments and data")
            provided = provision.provide(needs, self._observer.note)
            self._warn(provided.warnings)
        self._observer.phase("joining the cluster" if self._options.address else "starting Ray")
        with contextlib.ExitStack() as leaving:
            leaving.callback(_clear_away, self._run_id)
            cluster = self._cluster()
            self._observer.cluster = cluster
            leaving.enter_context(cluster)
            if self._options.address is not None:
                self._observer.phase("preparing environments and data on the nodes")
                leaving.callback(cluster.call_on_leaving, hosts.end_run, self._run_id)
                self._provide_everywhere(cluster, needs)
            self._observer.phase("running trials")
            while todo:
                self._complete(
                    functools.partial(self._mapped, cluster), self._placeable(cluster, todo)
                )
                todo = self.further()
            self._observer.phase("leaving the cluster" if self._options.address else "ending Ray")

    def _cluster(self) -> Cluster:
        return Cluster(
            self._options.address, wait_s=self._options.wait_s, notify=self._observer.note
        )

    def further(self) -> list[Trial]:
        """Trials with more seeds where intervals are still too wide, as the grid's `until` wants them."""
        until = self._grid.until
        if until is None:
            return []
        left_s = until.max_time - (time.monotonic() - self._since) if until.max_time else math.inf
        sampling_states = self._sampling_states()
        decision = adaptive.decide(sampling_states, until, left_s)
        whole = [*self._planned, *adaptive.beyond(sampling_states, self._planned)]
        more = schedule.plan(adaptive.trials(decision, self._planned), order=self._grid.order)
        more = [
            dataclasses.replace(trial, position=len(whole) + place)
            for place, trial in enumerate(more)
        ]
        for trial in more:
            self._ledger.again(trial)
        self._writer.restate(trials=[*whole, *more], stopped=decision.reasons)
        self._observer.planned(len(whole) + len(more), len(whole), self._ledger.remaining_s())
        return more

    def _sampling_states(self) -> list[adaptive.SamplingState]:
        records = records_for(self._writer, None)
        cells = {trial.cell.id: trial.cell for trial in self._planned}
        return adaptive.sampling_states(
            cells.values(), records, summarize(records), self._ledger.seconds
        )

    def _complete(self, run_all: RunAll, todo: Sequence[Trial]) -> None:
        """Run the trials, and those that others disturb a few times again."""
        todo = self._carry_out(run_all, todo)
        for _ in range(1, self._options.disturbed_attempts):
            for trial in todo:
                self._ledger.again(trial)
                self._observer.again()
            todo = self._carry_out(run_all, todo)

    def _provide_everywhere(self, cluster: Cluster, needs: provision.Needs) -> None:
        count = f"{counted(len(needs.specifications), 'environment')} and {counted(len(needs.data), 'data set')}"
        here = counted(len(cluster.nodes), "node") if cluster.nodes else "every node that comes"
        self._observer.note(f"preparing {count} on {here}")
        cluster.prepare(provision.provide, needs)

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self._observer.note(f"warning: {warning}")

    def _placeable(self, cluster: Cluster, todo: Sequence[Trial]) -> list[Trial]:
        """What some node could hold; the rest is recorded as unsupported, with the reason."""
        lost = cluster.check(todo)
        if lost:
            why = refusal(lost, len(todo))
            self._observer.note(f"warning: {why.message}\nhint: {why.hint}")
        for first in range(0, len(lost), _TOGETHER):
            some = lost[first : first + _TOGETHER]
            self._keep(
                [
                    self._failure(each.trial, Status.UNSUPPORTED, f"it would {each.reason}")
                    for each in some
                ]
            )
        gone = {each.trial.id for each in lost}
        return [trial for trial in todo if trial.id not in gone]

    def _mapped(self, cluster: Cluster, todo: Sequence[Trial]) -> Generator[list[Record]]:
        checkpoints = self._writer.storage.child(CHECKPOINTS)
        run_trial = worker.RunTrial(
            run=self._grid.name,
            run_id=self._run_id,
            code_version=code_version(),
            timeout_s=self._options.timeout_s or self._grid.timeout_s,
            overrides=self._grid.environments,
            max_contention=self._options.max_contention,
            checkpoints=str(checkpoints.folder or checkpoints.uri),
            command=locks.introduction(self._grid.name),
        )
        limit_s = run_trial.timeout_s + _NOTICE_S if run_trial.timeout_s else None
        return cluster.map_together(
            _Heard(run_trial), todo, limit_s=limit_s, failure=self._failure, tell=self._hear
        )

    def _carry_out(self, run_all: RunAll, todo: Sequence[Trial]) -> list[Trial]:
        """Run the trials and keep their records; the disturbed ones come back to be run again."""
        disturbed: dict[str, int] = {}
        with contextlib.closing(run_all(todo)) as groups:
            for records in groups:
                self._keep(records)
                disturbed |= {
                    r["trial_id"]: r["attempt"] for r in records if r["status"] == Status.INVALID
                }
        again = (trial for trial in todo if trial.id in disturbed)
        return [dataclasses.replace(trial, attempt=disturbed[trial.id] + 1) for trial in again]

    def _keep(self, records: Sequence[Record]) -> None:
        """For good, before anything else is done with them."""
        self._writer.append_together(records)
        for record in records:
            self._running.discard(record["trial_id"])
            self._heard.pop(record["trial_id"], None)
            self._ledger.ended(record)
            self._observer.ended(record, self._ledger.remaining_s(len(self._running)))
            self._compare_niceness(record)
        most = self._options.max_failures
        if most is not None and self._ledger.failures >= most:
            hint = "the records are safe; see sweep status, then run it again with --retry failed"
            raise TooManyFailures(
                f"{self._ledger.failures} trials have failed, as many as --max-failures allows",
                hint,
            )

    def _compare_niceness(self, record: Record) -> None:
        """A trial runs at another niceness than this command where its node's Ray may not set it back."""
        niceness, node = record.get("niceness"), record.get("node")
        if niceness in (None, self._niceness) or node in self._other_niceness:
            return
        self._other_niceness.add(node)
        self._observer.note(
            f"warning: node {node} runs trials at niceness {niceness}, and this command has {self._niceness}: "
            "what others do there comes first\n"
            "hint: start Ray there with RAY_worker_niceness=0 in its environment"
        )

    def _hear(self, trial: Trial, facts: Mapping[str, Any] | None) -> None:
        """A trial has started, or says how far it is."""
        if facts is None:
            self._running.add(trial.id)
            self._observer.started(trial.settings["device"])
            return
        now = time.monotonic()
        if not facts or now - self._heard.get(trial.id, float("-inf")) >= _TELL_EVERY_S:
            self._heard[trial.id] = now
            self._writer.tell(trial.id, {"trial": trial.name, **facts})
            self._observer.detail(trial.name, facts)

    def _failure(self, trial: Trial, status: str, error: str) -> Record:
        """The record of a trial that could not speak for itself."""
        return worker.identity(trial) | {
            "run": self._grid.name,
            "code_version": code_version(),
            "status": status,
            "error": error,
        }


def _clear_away(run_id: str) -> None:
    """The folders of a run's hosts that end with Ray's workers, also where the user presses Ctrl-C again."""
    try:
        hosts.remove_abandoned(run_id, patience_s=2.0)
    except KeyboardInterrupt:
        hosts.remove_abandoned(run_id, patience_s=0.5)
        raise


@dataclass(frozen=True)
class _Heard:
    """What runs on the nodes: a trial that tells how far it is."""

    run_trial: worker.RunTrial

    def __call__(self, trial: Trial, tell: Callable[[Mapping[str, Any]], None]) -> Record:
        return dataclasses.replace(self.run_trial, progress=lambda _, facts: tell(facts))(trial)


@functools.cache
def code_version() -> str:
    """The version of sweep, with the commit where it runs from a checkout."""
    house = Path(__file__).resolve().parent.parent
    if not (house / ".git").exists():
        return __version__
    try:
        ended = process.run(
            ["git", "-C", str(house), "describe", "--always", "--dirty"],
            env={"PATH": "/usr/bin:/bin"},
        )
    except OSError:  # no git: then the version must do
        return __version__
    commit = ended.stdout.strip()
    return f"{__version__}+{commit}" if commit and not ended.returncode else __version__


def _facts(grid: Grid, expansion: Expansion, noise_floor: float) -> RunFacts:
    return RunFacts(
        name=grid.name,
        grid=grid.text,
        grid_path=grid.path,
        overrides=grid.sets,
        versions=grid.versions,
        code_version=code_version(),
        noise_floor=noise_floor,
        trials=expansion.trials,
        exclusions=expansion.exclusions,
    )
