"""A sweep on a cluster whose parts are killed while it runs, and an account of what was lost.

    python tests/cluster/storm.py                        # kill a node and the driver; a minute
    python tests/cluster/storm.py --trials 2000 --every 4  # a soak: a kill every few seconds
    python tests/cluster/storm.py --autoscaler v2        # the cluster launches the nodes itself

Each node is a raylet on this machine with its own temporary files, cores and locks. Every kill is a
SIGKILL, for a node one for each of its processes at once. Losses are counted from the plan and the
records, and by a search for leftover processes and files. The exit code is 1 where anything is lost
or left.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from growing import Growing, NodeType
from raylets import HEAD, Raylets
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tiny import Account, Sweep
from trials import until

from sweep.records.results import Results

NODES = ("one", "two", "three", "four", "five", "six", "seven", "eight")
DISASTERS = (("node", 0.2), ("driver", 0.5))  # with the share of records before each
# Relative frequencies.
SOAK = {
    "trial": 8,
    "fork server": 4,
    "Ray worker": 4,
    "node": 2,
    "driver": 1,
}
RUNS_MOST = 300
LOOK_S = 0.3


class Fault(NamedTuple):
    """What was killed, its number of processes, and the trials that had a record by then."""

    part: str
    name: str
    after_s: float
    processes: int
    recorded: frozenset[str]


class Outcome(NamedTuple):
    """The state after the sweep. `crashed` are records of killed trials, which ran again."""

    faults: list[Fault]
    runs: int
    took_s: float
    account: Account
    recorded: frozenset[str]
    crashed: int
    moved: int
    orphans: list[str]
    locks: list[str]
    temporary_files: list[str]

    @property
    def clean(self) -> bool:
        return self.account.clean and not (self.orphans or self.locks or self.temporary_files)

    def lost(self, faults: Iterable[Fault]) -> int:
        """Return how many trials had a record at one of these faults and have none now."""
        return len(frozenset().union(*(fault.recorded for fault in faults)) - self.recorded)


@dataclass
class Storm:
    """A sweep, its nodes, and the faults so far."""

    sweep: Sweep
    nodes: Raylets | Growing
    chance: random.Random
    watch: Callable[[int, str], None]
    faults: list[Fault] = field(default_factory=list)
    runs: int = 0
    recorded_before: int = 0  # records that were there when the driver was started
    began: float = field(default_factory=time.monotonic)

    def disasters(self) -> None:
        """Kill a node and later the driver; then restore the node and run the command again."""
        driver = self.start()
        for part, share in DISASTERS:
            wanted = share * self.sweep.count
            while len(self.look()) < wanted and driver.poll() is None:
                time.sleep(LOOK_S)
            self.strike(part)
        ended(driver)
        self.restore()
        self.finish()

    def soak(self, every_s: float) -> None:
        """Kill something at random intervals, until a run has ended well."""
        while self.runs < RUNS_MOST:
            driver = self.start()
            while not until(
                lambda: driver.poll() is not None,  # noqa: B023
                self.chance.uniform(0.5, 1.5) * every_s,
            ):
                part = self.chance.choices(list(SOAK), list(SOAK.values()))[0]
                until(lambda: self.strike(part) or driver.poll() is not None)  # noqa: B023
                self.restore()
            if ended(driver) == 0:
                return

    def start(self) -> subprocess.Popen[str]:
        """Start `sweep run`, for the first time or again."""
        self.runs += 1
        self.recorded_before = len(self.sweep.recorded)
        return self.sweep.start("--address", self.nodes.address, "--retry", "all")

    def look(self) -> set[str]:
        """Return the trials that have a record by now."""
        recorded = self.sweep.recorded
        self.watch(len(recorded), "")
        return recorded

    def strike(self, part: str) -> bool:
        """Kill a part of this kind; return False where there is none now."""
        recorded, processes, name = self.look(), 1, ""
        if part == "node":
            names = self.nodes.names
            if not names:
                return False
            name = self.chance.choice(names)
            processes = self.nodes.kill(name)
        elif part == "driver" and len(recorded) <= self.recorded_before:
            # On a slow machine, no driver would otherwise reach its first record.
            return False
        elif self.sweep.strike(part) is None:
            return False
        self.faults.append(
            Fault(part, name, time.monotonic() - self.began, processes, frozenset(recorded))
        )
        self.watch(len(recorded), f"{part} {name} killed".replace("  ", " "))
        return True

    def restore(self) -> None:
        """Start the killed nodes again."""
        self.nodes.add(
            *(name for name in self.sweep.nodes if name not in (HEAD, *self.nodes.names))
        )

    def finish(self) -> None:
        """Run the sweep to its end without faults."""
        driver = self.start()
        while driver.poll() is None:
            self.look()
            time.sleep(LOOK_S)
        ended(driver)
        self.look()

    def outcome(self) -> Outcome:
        """Return the state, when the cluster has ended and its last processes are gone."""
        took_s = time.monotonic() - self.began
        until(lambda: not self.sweep.leavings(), 30)
        results = Results(self.sweep.results)
        return Outcome(
            faults=self.faults,
            runs=self.runs,
            took_s=took_s,
            account=Account.of(results),
            recorded=frozenset(self.sweep.recorded),
            crashed=Counter(results.attempts(["status"])["status"].to_pylist())["crashed"],
            moved=sum(attempt > 1 for _, attempt in results.statuses().values()),
            orphans=self.sweep.orphans(),
            locks=self.sweep.locks(),
            temporary_files=self.sweep.temporary_files(),
        )


def ended(driver: subprocess.Popen[str]) -> int:
    """Wait for the driver's end, and return its exit code."""
    driver.communicate(timeout=300)
    return driver.returncode


def unleash(
    trials: int,
    nodes: int,
    nap_s: float,
    every_s: float,
    seed: int,
    watch: Callable[[int, str], None],
    autoscaler: str = "",
) -> Outcome:
    """Run a sweep on a cluster with faults; return the state afterwards.

    Without `every_s`, one node and the driver are killed.
    """
    sweep = Sweep(-(-trials // 4), nap_s=nap_s)  # four cells
    sweep.nodes = [HEAD, *NODES[:nodes]]
    try:
        with cluster(sweep, nodes, autoscaler) as under_it:
            storm = Storm(sweep, under_it, random.Random(seed), watch)
            storm.restore()
            storm.soak(every_s) if every_s else storm.disasters()
            if isinstance(under_it, Growing):
                sweep.nodes = under_it.started
        return storm.outcome()
    finally:
        sweep.remove()


def cluster(sweep: Sweep, nodes: int, autoscaler: str) -> Raylets | Growing:
    """Return a cluster of nodes, or one with an autoscaler of that version and no node yet."""
    if not autoscaler:
        return Raylets(sweep.tmp, sweep.folder / "r", PYTHONPATH=sweep.environment["PYTHONPATH"])
    folder = sweep.folder / "g"
    folder.mkdir()
    kind = NodeType(nodes, {"CPU": 2})
    return Growing(folder, autoscaler == "v2", nodes=sweep.tmp, cpu=kind)


def table(outcome: Outcome) -> Table:
    """Return a table of the faults and the records that each has cost."""
    drawn = Table(
        "SIGKILL of", "times", "processes killed", "records by then", "of them lost", box=MARKDOWN
    )
    for part in dict.fromkeys(fault.part for fault in outcome.faults):
        faults = [fault for fault in outcome.faults if fault.part == part]
        names = " ".join([part, *(fault.name for fault in faults[:1] if len(faults) == 1)])
        counts = sorted(len(fault.recorded) for fault in faults)
        there = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        killed = sum(fault.processes for fault in faults)
        drawn.add_row(names, str(len(faults)), str(killed), there, str(outcome.lost(faults)))
    return drawn


def verdict(outcome: Outcome) -> Table:
    """Return a table of the records of planned trials, and of what is left besides."""
    account = outcome.account
    drawn = Table("when all is over", "", box=MARKDOWN)
    lost = {
        "trials planned": account.planned,
        "with an ok record": account.planned - account.lost,
        "lost": account.lost,
        "recorded twice": account.double,
        "with the figures of another trial": account.wrong,
        "records of trials that were not planned": account.unplanned,
        "damaged files of records": account.damaged,
        "orphan processes": len(outcome.orphans),
        "locks": len(outcome.locks),
        "temporary files": len(outcome.temporary_files),
    }
    for what, count in lost.items():
        drawn.add_row(what, str(count))
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, len(NODES) + 1))
    parser.add_argument("--nap", type=float, default=0.2, help="seconds that a trial takes")
    parser.add_argument(
        "--every", type=float, default=0.0, metavar="S", help="kill something every S seconds or so"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--autoscaler",
        choices=("v1", "v2"),
        default="",
        help="start no node: the cluster does that",
    )
    options = parser.parse_args()
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("records", total=-(-options.trials // 4) * 4)

        def watch(recorded: int, said: str) -> None:
            progress.update(bar, completed=recorded)
            if said:
                progress.console.print(f"{recorded:5} records: {said}")

        outcome = unleash(
            options.trials,
            options.nodes,
            options.nap,
            options.every,
            options.seed,
            watch,
            options.autoscaler,
        )
    console.print(
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}: "
        f"{outcome.account.planned} trials on {options.nodes} nodes, "
        f"{outcome.runs} times `sweep run`, {outcome.took_s:.0f} s\n"
        f"{outcome.moved} trials ran again, "
        f"{outcome.crashed} records say that their trial was killed\n",
        highlight=False,
    )
    console.print(table(outcome), verdict(outcome), highlight=False)
    for left in [*outcome.orphans, *outcome.locks, *outcome.temporary_files]:
        console.print(f"left: {left}", style="red")
    console.print("nothing was lost" if outcome.clean else "[red]something was lost[/red]")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
