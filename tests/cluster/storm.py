"""A sweep on a cluster of several nodes that is broken while it runs, and an account of what was lost.

    python tests/cluster/storm.py                              # a node and the driver are killed; a minute
    python tests/cluster/storm.py --trials 2000 --every 4      # a soak: something dies every few seconds
    python tests/cluster/storm.py --autoscaler v2              # from no node: the cluster starts and ends them itself

Each node is a raylet on this machine with temporary files, cores and locks of its own. Every kill is a SIGKILL; a
node's is one for each of its processes at once. What is lost is counted from the plan and the records, and by looking
for processes and files that nobody needs any more. Ends with 1 where anything is lost or left.
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
DISASTERS = (("node", 0.2), ("driver", 0.5))  # and the share of records after which they come
SOAK = {
    "trial": 8,
    "fork server": 4,
    "Ray worker": 4,
    "node": 2,
    "driver": 1,
}  # how often each is drawn
RUNS_MOST = 300
LOOK_S = 0.3


class Fault(NamedTuple):
    """What was killed, of how many processes it was, and which trials had a record by then."""

    part: str
    name: str
    after_s: float
    processes: int
    recorded: frozenset[str]


class Outcome(NamedTuple):
    """What is there when all is over. `crashed` are records of trials that were killed, and so ran again."""

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
        """Trials that had a record when one of these faults came, and have none now."""
        return len(frozenset().union(*(fault.recorded for fault in faults)) - self.recorded)


@dataclass
class Storm:
    """A sweep, the nodes that it runs on, and what has been done to both."""

    sweep: Sweep
    nodes: Raylets | Growing
    chance: random.Random
    watch: Callable[[int, str], None]
    faults: list[Fault] = field(default_factory=list)
    runs: int = 0
    recorded_before: int = 0  # records that were there when the driver was started
    began: float = field(default_factory=time.monotonic)

    def disasters(self) -> None:
        """A node dies, later the driver; the node comes back, and the same command goes on."""
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
        """Something dies every so often, until a run has ended with every record there."""
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
        """`sweep run`, for the first time or again."""
        self.runs += 1
        self.recorded_before = len(self.sweep.recorded)
        return self.sweep.start("--address", self.nodes.address, "--retry", "all")

    def look(self) -> set[str]:
        """The trials that have a record by now."""
        recorded = self.sweep.recorded
        self.watch(len(recorded), "")
        return recorded

    def strike(self, part: str) -> bool:
        """Kill one of these; false where there is none now."""
        recorded, processes, name = self.look(), 1, ""
        if part == "node":
            names = self.nodes.names
            if not names:
                return False
            name = self.chance.choice(names)
            processes = self.nodes.kill(name)
        elif part == "driver" and len(recorded) <= self.recorded_before:
            return False  # on a slow machine none would ever live to its first record
        elif self.sweep.strike(part) is None:
            return False
        self.faults.append(
            Fault(part, name, time.monotonic() - self.began, processes, frozenset(recorded))
        )
        self.watch(len(recorded), f"{part} {name} killed".replace("  ", " "))
        return True

    def restore(self) -> None:
        """Nodes that were killed come back, as others of their kind would."""
        self.nodes.add(
            *(name for name in self.sweep.nodes if name not in (HEAD, *self.nodes.names))
        )

    def finish(self) -> None:
        """Undisturbed, to the end."""
        driver = self.start()
        while driver.poll() is None:
            self.look()
            time.sleep(LOOK_S)
        ended(driver)
        self.look()

    def outcome(self) -> Outcome:
        """When the cluster is gone, too, and what is dying has had a moment to die."""
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
    """Its exit code, when it has ended."""
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
    """A cluster, a sweep on it, what befalls both, and what is left; without `every_s` a node and the driver die."""
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
    """Nodes that are there, or an autoscaler of that version and no node yet."""
    if not autoscaler:
        return Raylets(sweep.tmp, sweep.folder / "r", PYTHONPATH=sweep.environment["PYTHONPATH"])
    folder = sweep.folder / "g"
    folder.mkdir()
    kind = NodeType(nodes, {"CPU": 2})
    return Growing(folder, autoscaler == "v2", nodes=sweep.tmp, cpu=kind)


def table(outcome: Outcome) -> Table:
    """The faults, and what each did to records."""
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
    """What is there of the plan, and what is there beside it."""
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
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}: {outcome.account.planned} trials on {options.nodes} nodes, "
        f"{outcome.runs} times `sweep run`, {outcome.took_s:.0f} s\n"
        f"{outcome.moved} trials ran again, {outcome.crashed} records say that their trial was killed\n",
        highlight=False,
    )
    console.print(table(outcome), verdict(outcome), highlight=False)
    for left in [*outcome.orphans, *outcome.locks, *outcome.temporary_files]:
        console.print(f"left: {left}", style="red")
    console.print("nothing was lost" if outcome.clean else "[red]something was lost[/red]")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
