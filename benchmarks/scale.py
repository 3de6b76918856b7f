"""The cost of a sweep of a million trials on a thousand nodes, in the one process that drives it.

Each stage runs in a process of its own, at a tenth of the size and at full size, to show costs
that grow faster than the number of trials. The nodes and their time are simulated, since only the
driver is measured. Nodes die under their trials and come back, and trials fail. Records are real
files: as many as can be appended in a minute. The run that is resumed has the files that folding
leaves. No other tool runs such a sweep. The targets follow from a thousand nodes with seven
trials of a minute each in flight: 8.2 ms a trial, and 2 GiB.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.summarize import ROWS_PER_PART, keep, part
from sweep import catalog, grid, schedule
from sweep.cli.display import LineDisplay
from sweep.cluster.autoscaler import NodeType
from sweep.cluster.demand import pieces
from sweep.cluster.mapping import MapExecution
from sweep.cluster.placement import Node, Shape
from sweep.estimate import Estimate, Remaining
from sweep.grid import Cell, Resources, Trial

CORES, GPUS, SEEDS = 16, 8, 5
TRIAL_S, RETURN_S = 60.0, 120.0
LAUNCH_S, IDLE_S = 180.0, 600.0  # of nodes that an autoscaler starts and ends
TRIALS_PER_DEATH = 1000
LOOK_S = 0.02  # what has happened within it is heard of together
TRIALS, NODES, GROWN, APPENDED = 1_000_000, 1000, 256, 10_000
MOST_S, MOST_BYTES = TRIAL_S / 7300, 2 * 2**30


class Cost(NamedTuple):
    """The cost of a stage: CPU seconds of the driver, peak memory, and a note."""

    seconds: float
    peak_rss_bytes: int
    told: str


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the figures of each stage at a tenth of the size, then at full size.

    The CPU time of a trial is the same in both if the cost grows in proportion.
    """
    for name in STAGES:
        whole = (APPENDED if name.startswith("append") else TRIALS) // (10 if quick else 1)
        tenth, cost = (measured(name, trials) for trials in (whole // 10, whole))
        what = f"{name}: CPU time per trial"
        yield Figure(what, f"{OURS}, {whole:,} trials", cost.seconds / whole, note=cost.told)
        small = f"{OURS}, {whole // 10:,} trials"
        yield Figure(what, small, tenth.seconds / (whole // 10), note=tenth.told)
        yield target(what, MOST_S)
        what = f"{name}: memory at its most"
        yield Figure(what, f"{OURS}, {whole:,} trials", cost.peak_rss_bytes, "B")
        yield Figure(what, small, tenth.peak_rss_bytes, "B")
        yield target(what, MOST_BYTES, "B")


# planning


def planning(trials: int) -> str:
    """Read, expand and order a grid, and order it again when half of its trials have records."""
    planned = schedule.plan(_expansion(trials).trials)
    done = {trial.id: ("ok", 1) for trial in planned[: len(planned) // 2]}
    left = schedule.plan(planned, done)
    return f"{len(planned):,} planned, {len(left):,} left of a half-done run"


def _expansion(trials: int) -> grid.Expansion:
    cells = max(1, trials // SEEDS // 8)
    text = f"""
name: scale
axes:
  framework: [torch==2.13.0, chainer==7.8.1]
  backward: [autograd, explicit]
  threads: [1, 2]
  samples: {{range: [1, {cells}]}}
  seed: {{range: [0, {SEEDS - 1}]}}
"""
    return grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())


# scheduling, on nodes that are simulated


class _Lost(Exception):  # noqa: N818  as Ray says it
    pass


class _TaskError(Exception):
    pass


class _Exceptions:
    RayTaskError, RayError = _TaskError, _Lost


@dataclass(eq=False)
class _InFlight:
    """A stand-in for Ray's reference to a running trial: it reports the start, then the result."""

    trial: Any
    node: Node
    answers: list[Any] = field(default_factory=list)
    over: bool = False

    def __next__(self) -> Any:
        if not self.answers:
            raise StopIteration
        return self.answers.pop(0)


class Simulation:
    """A cluster whose nodes die and come back in simulated time, for a `MapExecution`."""

    attempts = 3
    wait_s = 1e9
    expecting = True  # a node that died comes back
    refusals: tuple[str, ...] = ()

    def __init__(self, nodes: int, is_growing: bool = False) -> None:
        """Start with these nodes, or at most as many on demand that stop when idle."""
        self.random = random.Random(0)
        self._nodes = {} if is_growing else {node.id: node for node in map(_node, range(nodes))}
        gpu_nodes = -(-nodes // 10)
        self._types = (
            (
                NodeType("gpu", _node(0).resources, gpu_nodes),
                NodeType("cpu", _node(1).resources, nodes - gpu_nodes),
            )
            if is_growing
            else ()
        )
        self._launching: list[Node] = []
        self.launched = 0
        self._events: list[tuple[float, int, str, Any]] = []
        self._flights: dict[str, set[_InFlight]] = {name: set() for name in self._nodes}
        self._count = self.deaths = self.changes = 0
        self.now_s, self.most_under_way = 0.0, 0
        self.running: dict[str, str] = {}
        self._unheard: dict[_InFlight, None] = {}
        self.session = self.ray = self
        self.is_client, self.cores, self.lost = False, None, False
        self.exceptions = _Exceptions

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        return lambda function: function

    def at(self, _task: Any, node: Node, **_: Any) -> Any:
        return _Bound(self, node)

    def get(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, flight: _InFlight, **_: Any) -> None:
        flight.over = True

    def request_nodes(self, shapes: Callable[[], Any]) -> None:
        """Start a node for each demand, up to the limit of its type."""
        waiting = Counter(shapes())
        if not self._types:
            return
        for piece, count in pieces(
            waiting, self._launching, [*self.nodes, *self._launching], self._types
        ).items():
            kind = self._types[0 if "GPU" in dict(piece) else 1]
            there = sum(
                1 for node in [*self.nodes, *self._launching] if node.resources == kind.resources
            )
            for _ in range(min(count, kind.most - there)):
                self.launched += 1
                node = Node(f"n{self.launched}", f"{kind.name}-{self.launched}", kind.resources)
                self._flights[node.id] = set()
                self._launching.append(node)
                self._at(LAUNCH_S * (1 + self.random.random()), "joins", node)

    def is_dead(self, node: Node) -> bool:
        return node.id not in self._nodes

    def avoids_gpus(self, _shape: Shape) -> bool:
        return False

    def count_start(self, node: Node) -> None:
        """Do nothing: every node starts its trials."""

    def probe(self, node: Node) -> None:
        """Do nothing: the death of a node is known at once."""

    def begin(self, trial: Any, node: Node) -> _InFlight:
        flight = _InFlight(trial, node)
        self._flights[node.id].add(flight)
        self._at(0.01, "says", (flight, ("started", None)))
        self._at(
            TRIAL_S * math.exp(self.random.gauss(0, 0.5)),
            "says",
            (flight, ("record", {"trial_id": trial.id, "status": "ok"})),
        )
        if self.random.random() < 1 / TRIALS_PER_DEATH:
            self._at(self.random.random() * TRIAL_S, "dies", node)
        return flight

    def wait(self, refs: list[Any]) -> list[Any]:
        """Advance the time to the next event, and return what is ready then."""
        self.most_under_way = max(self.most_under_way, len(refs))
        heard = self._unheard
        until_s = self._events[0][0] + LOOK_S if self._events else 0.0
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, kind, what = heapq.heappop(self._events)
            if kind == "says" and not what[0].over:
                flight, answer = what
                flight.answers.append(answer)
                heard[flight] = None
                if answer[0] == "record":
                    self._flights[flight.node.id].discard(flight)
                    if self._types and not self._flights[flight.node.id]:
                        self._at(IDLE_S, "idles", flight.node)
            elif kind == "dies" and what.id in self._nodes:
                heard |= dict.fromkeys(self._die(what))
            elif kind == "joins":
                self._join(what)
            elif kind == "idles" and what.id in self._nodes and not self._flights[what.id]:
                del self._nodes[what.id]
                self.changes += 1
        speaking = [flight for flight in heard if not flight.over]
        self._unheard = {
            flight: None for flight in speaking if len(flight.answers) > 1
        }  # each is heard once at a time
        return speaking

    def _join(self, node: Node) -> None:
        self._nodes[node.id] = node
        self.changes += 1
        if node in self._launching:
            self._launching.remove(node)

    def _die(self, node: Node) -> Iterator[_InFlight]:
        """End a node: half of its trials return an error, the others never answer."""
        del self._nodes[node.id]
        self.deaths += 1
        self.changes += 1
        if not self._types:
            self._at(RETURN_S, "joins", node)
        for flight in self._flights[node.id]:
            if self.random.random() < 0.5:
                flight.answers.append(_Lost())
                yield flight
        self._flights[node.id] = set()

    def _at(self, delay_s: float, kind: str, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._count, kind, what))


class _Bound(NamedTuple):
    simulation: Simulation
    node: Node

    def remote(self, trial: Any) -> _InFlight:
        return self.simulation.begin(trial, self.node)


def _node(number: int) -> Node:
    """Return a node; every tenth has GPUs."""
    gpus = {"GPU": float(GPUS)} if number % 10 == 0 else {}
    return Node(f"n{number}", f"node-{number}", {"CPU": float(CORES), "memory": 64e9, **gpus})


def scheduling(trials: int, nodes: int, is_growing: bool = False) -> str:
    """Run every trial through `MapExecution`: place, start, move after a death, take its record."""
    simulation = Simulation(nodes, is_growing)
    statuses: dict[str, int] = {}

    def pair(trial: Trial) -> int:
        return int(trial.cell.axes["pair"])

    groups = MapExecution(
        simulation, _nothing, _trials(trials), None, _failure, pair, None
    ).groups()
    for record in itertools.chain.from_iterable(groups):
        statuses[record["status"]] = statuses.get(record["status"], 0) + 1
        simulation.expecting = sum(statuses.values()) < trials
    told = ", ".join(f"{count:,} {status}" for status, count in statuses.items())
    came = f"{simulation.launched:,} nodes came, " if is_growing else ""
    under_way = f"up to {simulation.most_under_way:,} under way"
    return f"{told}; {came}{simulation.deaths:,} nodes died; {under_way}"


def _nothing(_: Any) -> dict[str, Any]:
    raise AssertionError("the nodes are simulated")


def _failure(trial: Any, status: str, _error: str) -> dict[str, Any]:
    return {"trial_id": trial.id, "status": status}


def _trials(count: int) -> Iterator[Trial]:
    """Return trials in pairs of frameworks.

    Of ten, one has its node to itself, one takes a GPU, and the others share a node.
    """
    shapes = [
        Resources(2, exclusive=True),
        Resources(2, gpu=1.0, exclusive=False),
        *[Resources(2, exclusive=False)] * 8,
    ]
    for number in range(count):
        pair = number // 2
        cell = Cell(f"{number:012x}", f"cell-{number}", {"pair": pair}, {})
        yield Trial(f"{number:016x}", cell, 0, shapes[pair % 10], position=number)


# records


def appending(trials: int, folder: Path, together: int = 1) -> str:
    """Write records in batches, each durable before the next, with the logs of failed trials."""
    from sweep.records.facts import RunFacts
    from sweep.records.results import Results

    with Results(folder).open(RunFacts("scale", "")) as results:
        for number in range(0, trials, together):
            results.append_together([_record(number + place) for place in range(together)])
    files = sum(1 for path in (folder / "records").iterdir() if path.suffix == ".parquet")
    logs = sum(1 for _ in (folder / "logs").iterdir())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{files} parts, {logs:,} logs, {size / trials / 1024:.1f} KiB a trial"


def _record(number: int) -> dict[str, Any]:
    noise = random.Random(number)
    failed = number % 100 == 0
    steps = [] if failed else [0.1 * math.exp(noise.gauss(0, 0.02)) for _ in range(30)]
    return {
        "trial_id": f"{number:016x}",
        "trial_name": (
            f"torch==2.13.0/core/cpu/autograd/b5/width={number // SEEDS}/s{number % SEEDS}"
        ),
        "cell_id": f"{number // SEEDS:012x}",
        "settings": json.dumps(
            {"framework": "torch==2.13.0", "width": number // SEEDS, "seed": number % SEEDS}
        ),
        "status": "crashed" if failed else "ok",
        "error": "worker killed by SIGSEGV" if failed else "",
        "started_at": 1_700_000_000 + number,
        "step_s": steps,
        "forward_s": [step / 3 for step in steps],
        "backward_s": [step * 2 / 3 for step in steps],
        "valid": [True] * len(steps),
        **({"log": "Fatal Python error: Segmentation fault\n"} if failed else {}),
    }


def resuming(trials: int, folder: Path) -> str:
    """Do what a second `sweep run` does before its first trial: lock, read, plan the rest."""
    from sweep.records.facts import RunFacts
    from sweep.records.results import Results

    expansion = _expansion(trials)
    facts = RunFacts("scale", "", trials=expansion.trials)
    start = time.perf_counter()
    with Results(folder).open(facts) as results:
        statuses = results.statuses()
        read_s = time.perf_counter() - start
        left = schedule.plan(expansion.trials, statuses)
    return f"{len(statuses):,} records in {read_s:.1f} s, {len(left):,} trials left to plan"


def write_run(trials: int, folder: Path) -> None:
    """Write records of the first half of the plan, in parts of a few thousand."""
    done = schedule.plan(_expansion(trials).trials)[: trials // 2]
    random = np.random.default_rng(0)
    (folder / "records").mkdir(parents=True)
    for start in range(0, len(done), ROWS_PER_PART):
        rows = done[start : start + ROWS_PER_PART]
        table = part(np.arange(start, start + len(rows)), 30, random)
        ids = pa.array([trial.id for trial in rows])
        place = table.schema.get_field_index("trial_id")
        keep(table.set_column(place, table.schema.field("trial_id"), ids), folder, start + 1)


# progress


def progress(trials: int) -> str:
    """Update the estimate of the remaining time and a display in a log with every trial."""
    cells = {
        f"{number:012x}": Cell(f"{number:012x}", "", _settings(number), {})
        for number in range(max(1, trials // SEEDS))
    }
    estimate = Estimate(catalog.workloads())
    remaining = Remaining(estimate, cells, dict.fromkeys(cells, SEEDS))
    with LineDisplay("scale") as display:
        display.planned(trials, 0, None)
        for seed in range(SEEDS):
            for cell_id, cell in cells.items():
                display.started("cpu")
                estimate.observe(cell_id, cell.settings, 60.0)
                remaining.change(cell_id, -1)
                record = {"device": "cpu", "trial_name": f"{cell_id}/s{seed}", "status": "ok"}
                display.ended(record, remaining.total_s())
    return f"{len(cells):,} cells"


def _settings(cell: int) -> dict[str, Any]:
    return {
        "workload": "core",
        "device": "cpu",
        "framework": f"torch==2.{cell % 14}.0",
        "backend": "default",
    } | {
        "batch_exponent": cell % 8,
        "samples": 30,
    }


# all of it


STAGES: dict[str, Callable[[int, Path], str]] = {
    "plan": lambda trials, _: planning(trials),
    "schedule": lambda trials, _: scheduling(trials, NODES),
    "schedule on nodes that come and go": lambda trials, _: scheduling(
        trials, GROWN, is_growing=True
    ),
    "append": appending,
    "append, ten together": functools.partial(appending, together=10),
    "resume": resuming,
    "progress": lambda trials, _: progress(trials),
}


def stage(name: str, trials: int) -> None:
    """Run one stage in this process and print its cost as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "resume":
            write_run(trials, Path(folder))
        start = time.process_time()
        told = STAGES[name](trials, Path(folder))
        seconds = time.process_time() - start
    print(json.dumps(Cost(seconds, peers.peak_rss_bytes(), told)))


def measured(name: str, trials: int) -> Cost:
    """Run a stage in a process of its own and return its cost."""
    script = "import sys; from benchmarks import scale; scale.stage(sys.argv[1], int(sys.argv[2]))"
    output = peers.run([sys.executable, "-c", script, name, str(trials)], peers.HOUSE).output
    return Cost(*json.loads(output.splitlines()[-1]))
