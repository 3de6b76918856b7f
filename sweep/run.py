"""The sweep: plan what has no record, prepare every node for it, run it, keep each record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import __version__, calibration, locks, process, resume, schedule
from sweep.additions import Additions, MoreSeeds, NoAdditions
from sweep.cluster import Cluster, InfeasibleTrial, infeasible_error
from sweep.environments import Specification
from sweep.errors import FAILED, SweepError
from sweep.grid import Expansion, Grid, Trial
from sweep.heartbeat import Heartbeat, Observer
from sweep.ledger import Ledger
from sweep.node import hosts, provision, worker
from sweep.records.facts import RunFacts
from sweep.records.layout import CHECKPOINTS
from sweep.records.results import Record, Results, Writer
from sweep.rounds import Round, Rounds
from sweep.status import Status
from sweep.texts import counted

# What a node may need beyond a trial's own time: to build an environment, import it, kill a trial.
_NOTICE_S = 900.0
_TELL_EVERY_S = 1.0
_TOGETHER = 100  # records that are kept at once


@dataclass(frozen=True)
class Options:
    """How a sweep is run, apart from what it runs.

    address: the Ray cluster to join; None starts a Ray of this machine alone.
    retry: the statuses whose trials run again.
    timeout_s: the longest that a trial may take, in seconds; None takes the grid's.
    max_failures: how many failed trials end the sweep.
    disturbed_attempts: how often a trial runs at most, where other processes disturb it.
    max_contention: the share of its cores' time that other processes may take from a trial that has
        its node to itself.
    wait_s: how long to wait for a node that can hold a trial; None waits as long as `Cluster` does.
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
    grid: Grid,
    expansion: Expansion,
    results: Results,
    options: Options,
    observer: Observer,
    additions: Additions | None = None,
) -> None:
    """Run the trials that have no record yet and keep what they find.

    `additions` decide what runs beyond these: more seeds as the grid's `until` wants, unless given.
    Raises SweepError for what keeps all of them from running, TooManyFailures, and
    KeyboardInterrupt. Every record that was there by then is kept.
    """
    facts = _facts(grid, expansion, _noise_floor(expansion, options, observer))
    with results.open(facts) as writer, Heartbeat(writer.storage, observer) as heartbeat:
        todo = _without_records(grid, expansion, writer, options, heartbeat)
        additions = additions or _additions(grid, expansion.trials)
        ledger = Ledger(additions.cells, todo)
        ledger.learn(writer)
        done = len(expansion.trials) - len(todo)
        heartbeat.planned(len(expansion.trials), done, ledger.remaining_s())

        adding = _Adding(additions, writer, ledger, heartbeat)
        rounds = Rounds(todo, options.disturbed_attempts, adding.further)
        upcoming = iter(rounds)
        first = next(upcoming, None)
        if first is None:  # every trial has a record: neither environments nor Ray are needed
            return
        keeper = _Keeper(grid, writer, ledger, heartbeat, options.max_failures)
        run_id = uuid.uuid4().hex
        provider = _Provider(grid, run_id, options, heartbeat)
        with _cluster(grid, provider, first.trials, run_id, options, heartbeat) as cluster:
            for each in itertools.chain([first], upcoming):
                provider.provide(each.trials, cluster)
                placeable = keeper.begin(each, cluster)
                with contextlib.closing(
                    cluster.map_together(
                        _run_trial(grid, writer, run_id, options),
                        placeable,
                        limit_s=_limit_s(grid, options),
                        failure=keeper.failure,
                        on_progress=keeper.hear,
                    )
                ) as groups:
                    for records in groups:
                        keeper.keep(records)
                        rounds.learn(records)
            heartbeat.phase("leaving the cluster" if options.address else "ending Ray")


def _noise_floor(expansion: Expansion, options: Options, observer: Observer) -> float:
    """Return the greatest noise floor measured on this machine for these cells; 0 without one."""
    here = calibration.applicable(expansion.cells, options.address)
    for each in here:
        observer.note(
            f"noise floor of {each.workload} on {each.device}: "
            f"{each.noise_floor:.2%}, {each.measured_at[:10]}"
        )
    elsewhere = [] if options.address else calibration.of_other_machines(expansion.cells)
    for each in elsewhere:
        observer.note(
            f"the noise floor of {each.workload} on {each.device} that was measured on "
            f"{each.place} ({each.measured_at[:10]}) does not apply to this machine: "
            "sweep calibrate measures it here"
        )
    return max((each.noise_floor for each in here), default=0.0)


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


def _without_records(
    grid: Grid, expansion: Expansion, writer: Writer, options: Options, heartbeat: Heartbeat
) -> list[Trial]:
    """Return the planned trials to run: without a record, or with one that is to be retried."""
    for part, reason in writer.damaged:
        heartbeat.note(f"{part} was {reason}; it is set aside and its trials run again")
    statuses = writer.statuses()
    todo = schedule.plan(expansion.trials, statuses, options.retry, grid.order)
    for line in resume.change_lines(writer, expansion.trials, todo, statuses):
        heartbeat.note(line)
    return todo


class _Provider:
    """Gives nodes what trials need before any is timed: environments, data, reference values."""

    def __init__(self, grid: Grid, run_id: str, options: Options, heartbeat: Heartbeat) -> None:
        self._grid, self._run_id = grid, run_id
        self._joined = options.address is not None
        self._heartbeat = heartbeat
        self._trials: dict[str, Trial] = {}  # one of each cell that was provided for
        self._provided: set[Specification] = set()

    def provide(self, trials: Sequence[Trial], cluster: Cluster | None = None) -> None:
        """Provide what these trials need and no earlier ones did; without a cluster, here."""
        cells = {trial.cell.id: trial for trial in trials}
        # A round that repeats trials, or adds seeds, has no cell that was not provided for.
        if cells.keys() <= self._trials.keys():
            return
        self._trials |= cells
        # What was provided before is asked for again: a node that joins now has none of it.
        every = self._trials.values()
        needs = provision.needs(every, self._grid.environments, self._run_id)
        if self._provided.issuperset(needs.specifications):
            return
        self._provided |= set(needs.specifications)
        where = " on the nodes" if self._joined else ""
        self._heartbeat.phase(f"preparing environments and data{where}")
        if self._joined and cluster is not None:
            self._provide_everywhere(cluster, needs)
        else:
            for warning in provision.provide(needs, self._heartbeat.note).warnings:
                self._heartbeat.note(f"warning: {warning}")
        self._heartbeat.phase("running trials")

    def _provide_everywhere(self, cluster: Cluster, needs: provision.Needs) -> None:
        environments = counted(len(needs.specifications), "environment")
        data = counted(len(needs.data), "data set")
        here = counted(len(cluster.nodes), "node") if cluster.nodes else "every node that comes"
        self._heartbeat.note(f"preparing {environments} and {data} on {here}")
        cluster.prepare(provision.provide, needs)


@contextlib.contextmanager
def _cluster(
    grid: Grid,
    provider: _Provider,
    trials: Sequence[Trial],
    run_id: str,
    options: Options,
    heartbeat: Heartbeat,
) -> Iterator[Cluster]:
    """A cluster whose nodes have what the trials need."""
    joined = options.address is not None
    locks.work_for(locks.introduction(grid.name))
    if not joined:  # before Ray starts: what cannot be had ends the sweep sooner
        provider.provide(trials)
    heartbeat.phase("joining the cluster" if joined else "starting Ray")
    with contextlib.ExitStack() as leaving:
        # Last of all: hosts of this machine that Ray's workers took with them leave their folders.
        leaving.callback(_clear_away, run_id)
        cluster = Cluster(options.address, wait_s=options.wait_s, notify=heartbeat.note)
        heartbeat.cluster = cluster
        leaving.enter_context(cluster)
        if joined:
            leaving.callback(cluster.call_on_leaving, hosts.end_run, run_id)
            provider.provide(trials, cluster)
        heartbeat.phase("running trials")
        yield cluster


def _clear_away(run_id: str) -> None:
    """Remove the folders of a run's hosts, also where the user presses Ctrl-C once more."""
    try:
        hosts.remove_abandoned(run_id, patience_s=2.0)
    except KeyboardInterrupt:
        hosts.remove_abandoned(run_id, patience_s=0.5)
        raise


@dataclass(frozen=True)
class _RunAndTell:
    """What runs on the nodes: a trial that tells how far it is."""

    run_trial: worker.RunTrial

    def __call__(self, trial: Trial, tell: Callable[[Mapping[str, Any]], None]) -> Record:
        return dataclasses.replace(self.run_trial, progress=lambda _, facts: tell(facts))(trial)


def _run_trial(grid: Grid, writer: Writer, run_id: str, options: Options) -> _RunAndTell:
    checkpoints = writer.storage.child(CHECKPOINTS)
    return _RunAndTell(
        worker.RunTrial(
            run=grid.name,
            run_id=run_id,
            code_version=code_version(),
            timeout_s=options.timeout_s or grid.timeout_s,
            overrides=grid.environments,
            max_contention=options.max_contention,
            checkpoints=str(checkpoints.folder or checkpoints.uri),
            command=locks.introduction(grid.name),
        )
    )


def _limit_s(grid: Grid, options: Options) -> float | None:
    """How long the cluster waits for a trial, in seconds, before it takes its worker for lost."""
    timeout_s = options.timeout_s or grid.timeout_s
    return timeout_s + _NOTICE_S if timeout_s else None


class _Adding:
    """Adds trials to the plan while the sweep runs, as its additions decide."""

    def __init__(
        self, additions: Additions, writer: Writer, ledger: Ledger, heartbeat: Heartbeat
    ) -> None:
        self._additions = additions
        self._writer, self._ledger, self._heartbeat = writer, ledger, heartbeat

    def further(self) -> Sequence[Trial]:
        """Trials to run now, none where all is done; the run's plan is brought up to date."""
        added = self._additions.following(self._writer, self._ledger.seconds)
        if added is None:
            return []
        before, more = added.before, added.trials
        for trial in more:
            self._ledger.added(trial)
        self._writer.restate(trials=[*before, *more], stopped=added.stopped)
        remaining_s = self._ledger.remaining_s()
        self._heartbeat.planned(len(before) + len(more), len(before), remaining_s)
        return more


def _additions(grid: Grid, planned: Sequence[Trial]) -> Additions:
    """More seeds where the grid says `until`, else none."""
    cells = list({trial.cell.id: trial.cell for trial in planned}.values())
    if grid.until is None:
        return NoAdditions(cells)
    return MoreSeeds(cells, planned, grid.until, grid.order)


class _Keeper:
    """Keeps each record first, then tells everybody who follows the sweep."""

    def __init__(
        self,
        grid: Grid,
        writer: Writer,
        ledger: Ledger,
        heartbeat: Heartbeat,
        max_failures: int | None,
    ) -> None:
        self._name, self._max_failures = grid.name, max_failures
        self._writer, self._ledger, self._heartbeat = writer, ledger, heartbeat
        self._running: set[str] = set()  # trial ids
        self._told_at: dict[str, float] = {}
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._warned_nodes: set[Any] = set()

    def begin(self, upcoming: Round, cluster: Cluster) -> list[Trial]:
        """Return the trials of a round that fit on some node; record the others as unsupported."""
        if upcoming.repeats:
            for trial in upcoming.trials:
                self._ledger.added(trial)
                self._heartbeat.again()
        infeasible = cluster.find_infeasible(upcoming.trials)
        if infeasible:
            why = infeasible_error(infeasible, len(upcoming.trials))
            self._heartbeat.note(f"warning: {why.message}\nhint: {why.hint}")
        for first in range(0, len(infeasible), _TOGETHER):
            self.keep([self._unsupported(each) for each in infeasible[first : first + _TOGETHER]])
        left_out = {each.trial.id for each in infeasible}
        return [trial for trial in upcoming.trials if trial.id not in left_out]

    def keep(self, records: Sequence[Record]) -> None:
        """Write the records, then count them; raises TooManyFailures."""
        self._writer.append_together(records)
        for record in records:
            self._running.discard(record["trial_id"])
            self._told_at.pop(record["trial_id"], None)
            self._ledger.ended(record)
            self._heartbeat.ended(record, self._ledger.remaining_s(len(self._running)))
            self._compare_niceness(record)
        if self._max_failures is not None and self._ledger.failures >= self._max_failures:
            raise TooManyFailures(
                f"{self._ledger.failures} trials have failed, as many as --max-failures allows",
                "the records are safe; see sweep status, then run it again with --retry failed",
            )

    def hear(self, trial: Trial, facts: Mapping[str, Any] | None) -> None:
        """Take what a trial reports: None at its start, then how far it is, empty at its end."""
        if facts is None:
            self._running.add(trial.id)
            self._heartbeat.started(trial.settings["device"])
            return
        now = time.monotonic()
        if not facts or now - self._told_at.get(trial.id, float("-inf")) >= _TELL_EVERY_S:
            self._told_at[trial.id] = now
            self._writer.tell(trial.id, {"trial": trial.name, **facts})
            self._heartbeat.detail(trial.name, facts)

    def failure(self, trial: Trial, status: str, error: str) -> Record:
        """The record of a trial whose worker could not write one."""
        return worker.identity(trial) | {
            "run": self._name,
            "code_version": code_version(),
            "status": status,
            "error": error,
        }

    def _unsupported(self, infeasible: InfeasibleTrial) -> Record:
        reason = f"it would {infeasible.reason}"
        return self.failure(infeasible.trial, Status.UNSUPPORTED, reason)

    def _compare_niceness(self, record: Record) -> None:
        """Warn once of a node whose trials have another niceness than this command."""
        niceness, node = record.get("niceness"), record.get("node")
        if niceness in (None, self._niceness) or node in self._warned_nodes:
            return
        self._warned_nodes.add(node)
        self._heartbeat.note(
            f"warning: node {node} runs trials at niceness {niceness}, and this command has "
            f"{self._niceness}: what others do there comes first\n"
            "hint: start Ray there with RAY_worker_niceness=0 in its environment"
        )


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
