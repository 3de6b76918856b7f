"""How much time adaptive sampling saves, and whether its verdicts are the same.

The cells are those of grid.yaml, and the sweeps are simulated. Each sweep runs twice on the same
simulated machine: with the full number of seeds for every cell, and with three seeds first and
`until: {interval, max_seeds}` for the rest. The processes of a cell differ by a log-normal
factor. Its spread is 0.3 % to 1.5 %, and 4 % for one cell in twenty. All cells of a block share a
drift of 1 %. The explicit backward changes nothing, 2 % or 10 %, in a third of the cells each.
Verdicts use the margin of the grid's own claims, 5 %, for which an interval of 4 % is suitable.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.figures import OURS, Figure, target
from sweep import adaptive
from sweep.analysis import statistics
from sweep.grid import Cell

PILOT, SEEDS = 3, 20
MARGIN = 0.05
INTERVALS = (0.04, 0.03, 0.02)
Key = tuple[str, str, int]
STEP_S = {"torch": 0.05, "chainer": 0.21}
SETUP_S = 4.0


@dataclass(frozen=True)
class Until:
    interval: float
    max_seeds: int | None
    max_time: float | None = None


def figures(quick: bool) -> Iterator[Figure]:
    sweeps = 20 if quick else 200
    for interval in INTERVALS:
        yield from compared(sweeps, Until(interval, SEEDS))


def compared(sweeps: int, until: Until) -> Iterator[Figure]:
    """Yield the time of these sweeps until each interval is narrow enough, and their verdicts."""
    told = Told()
    for number in range(sweeps):
        told.add(Machine(number, SEEDS), until)
    narrow, fixed = f"until ± {until.interval:.0%}", f"{SEEDS} seeds each"
    low, middle, high = np.quantile(told.shares, [0.05, 0.5, 0.95])
    what = f"time of a sweep, {narrow}"
    yield Figure(
        what,
        OURS,
        float(middle),
        "share",
        note=f"{low:.0%} to {high:.0%} in nine of ten of {sweeps} sweeps",
    )
    yield Figure(what, fixed, 1.0, "share")
    if until.interval == INTERVALS[0]:
        yield target(what, 1 / 3, "share")
    what = f"verdicts that are not those of {fixed}, {narrow}"
    opposite = (
        f"{told.opposite} of {told.total:,} turned into another, "
        "the rest inconclusive in one of them"
    )
    yield Figure(what, OURS, 1 - told.same / told.total, "share", note=opposite)
    yield target(what, 0.05, "share")
    what = f"intervals that miss the truth, {narrow}"
    yield Figure(what, OURS, 1 - told.covered["adaptive"] / told.total, "share")
    yield Figure(what, fixed, 1 - told.covered["fixed"] / told.total, "share")
    yield target(what, 0.05, "share", note="what 95 % intervals promise")


class Told:
    """The verdicts of the sweeps of both designs, pair by pair of cells."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.covered = {"fixed": 0, "adaptive": 0}
        self.pairs: Counter[tuple[str, str]] = Counter()

    def add(self, machine: Machine, until: Until) -> None:
        fixed = {key: tuple(range(SEEDS)) for key in machine.cells}
        chosen = adaptively(machine, until)
        one, other = verdicts(machine, fixed), verdicts(machine, chosen)
        self.shares.append(time_s(machine, chosen) / time_s(machine, fixed))
        self.pairs.update((one[pair][0], other[pair][0]) for pair in one)
        self.covered["fixed"] += sum(holds for _, holds in one.values())
        self.covered["adaptive"] += sum(holds for _, holds in other.values())

    @property
    def total(self) -> int:
        return self.pairs.total()

    @property
    def same(self) -> int:
        return sum(count for (one, other), count in self.pairs.items() if one == other)

    @property
    def opposite(self) -> int:
        return sum(
            n
            for (one, other), n in self.pairs.items()
            if "inconclusive" not in (one, other) and one != other
        )


class Machine:
    """The truth of one sweep and the process means that it gives, the same for both designs."""

    def __init__(self, seed: int, seeds: int) -> None:
        random = np.random.default_rng(seed)
        drift = random.normal(0, 0.01, seeds)
        self.cells = {
            key: _cell(key) for key in itertools.product(STEP_S, ("autograd", "explicit"), range(5))
        }
        self.effect = {key: self._effect(key, random) for key in self.cells}
        spreads = np.where(
            random.random(len(self.cells)) < 0.05,
            0.04,
            np.exp(random.uniform(-5.8, -4.2, len(self.cells))),
        )
        self.means = {
            key: STEP_S[key[0]]
            * 2 ** key[2]
            * math.exp(self.effect[key])
            * np.exp(drift + random.normal(0, spread, seeds))
            for key, spread in zip(self.cells, spreads, strict=True)
        }

    def _effect(self, key: Key, random: np.random.Generator) -> float:
        return float(random.choice([0.0, 0.02, 0.1])) if key[1] == "explicit" else 0.0

    def seconds(self, key: Key) -> float:
        """A trial of thirteen steps and its set-up."""
        return SETUP_S + 13 * STEP_S[key[0]] * 2 ** key[2]


def _cell(key: Key) -> Cell:
    framework, backward, exponent = key
    axes = {"framework": framework, "backward": backward, "batch_exponent": exponent}
    return Cell("/".join(map(str, key)), "/".join(map(str, key)), axes, {})


def adaptively(machine: Machine, until: Until) -> dict[Key, Sequence[int]]:
    """Return the seeds that each cell gets."""
    seeds: dict[Key, list[int]] = {key: list(range(PILOT)) for key in machine.cells}
    by_id = {cell.id: key for key, cell in machine.cells.items()}
    while True:
        sampling_states = [
            adaptive.SamplingState(
                cell,
                {seed: float(machine.means[key][seed]) for seed in seeds[key]},
                frozenset(seeds[key]),
                machine.seconds(key),
            )
            for key, cell in machine.cells.items()
        ]
        decision = adaptive.decide(sampling_states, until)
        if not decision.seeds:
            return {key: tuple(chosen) for key, chosen in seeds.items()}
        for cell_id, more in decision.seeds.items():
            seeds[by_id[cell_id]] += more


def verdicts(
    machine: Machine, seeds: Mapping[Key, Sequence[int]]
) -> dict[tuple[Key, Key], tuple[str, bool]]:
    """Return the verdict on each pair of frameworks and of backwards, and whether it is right."""
    pairs = [
        (("torch", b, e), ("chainer", b, e)) for b in ("autograd", "explicit") for e in range(5)
    ]
    pairs += [((f, "explicit", e), (f, "autograd", e)) for f in STEP_S for e in range(5)]
    ratios = {}
    for one, other in pairs:
        common = sorted(set(seeds[one]) & set(seeds[other]))
        ratios[one, other] = statistics.paired_ratio(
            machine.means[one][common], machine.means[other][common]
        )
    p = statistics.adjusted(
        [statistics.p_value(r, statistics.equivalence_range(MARGIN)) for r in ratios.values()]
    )
    found = {}
    for ((one, other), ratio), adjusted in zip(ratios.items(), p, strict=True):
        truth = (
            STEP_S[one[0]]
            / STEP_S[other[0]]
            * math.exp(machine.effect[one] - machine.effect[other])
        )
        interval = ratio.interval()
        holds = interval is not None and interval.low <= truth <= interval.high
        found[one, other] = (statistics.verdict(ratio, MARGIN, adjusted), holds)
    return found


def time_s(machine: Machine, seeds: Mapping[Key, Sequence[int]]) -> float:
    return sum(machine.seconds(key) * len(chosen) for key, chosen in seeds.items())
