"""What adaptive sampling saves, and whether it says the same: simulated sweeps of the cells of grid.yaml.

    python benchmarks/adaptive.py [--sweeps 200] [--interval 0.04] [--seeds 20]

Each sweep is run twice on the same simulated machine: with the full number of seeds for every cell, and with three
seeds to begin with and `until: {interval, max_seeds}` for the rest. Processes of a cell differ by a log-normal factor,
whose spread differs from cell to cell (0.3 % to 1.5 %, one cell in twenty 4 %); a block shares a drift of 1 %. The
explicit backward changes nothing, 2 % or 10 %, a third of cells each. Verdicts are those at the margin of the grid's
own claims, 5 %, and an interval of 4 % is what such a margin asks for.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep import adaptive
from sweep.analysis import statistics
from sweep.grid import Cell

PILOT = 3
MARGIN = 0.05
Key = tuple[str, str, int]
STEP_S = {"torch": 0.05, "chainer": 0.21}
SETUP_S = 4.0


@dataclass(frozen=True)
class Until:
    interval: float
    max_seeds: int | None
    max_time: float | None = None


class Machine:
    """One sweep's truth, and the process means that it would give: the same for both designs."""

    def __init__(self, seed: int, seeds: int) -> None:
        random = np.random.default_rng(seed)
        drift = random.normal(0, 0.01, seeds)
        self.cells = {key: _cell(key) for key in itertools.product(STEP_S, ("autograd", "explicit"), range(5))}
        self.effect = {key: self._effect(key, random) for key in self.cells}
        spreads = np.where(
            random.random(len(self.cells)) < 0.05, 0.04, np.exp(random.uniform(-5.8, -4.2, len(self.cells)))
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
    """The seeds that each cell gets."""
    seeds: dict[Key, list[int]] = {key: list(range(PILOT)) for key in machine.cells}
    by_id = {cell.id: key for key, cell in machine.cells.items()}
    while True:
        standings = [
            adaptive.Standing(
                cell,
                {seed: float(machine.means[key][seed]) for seed in seeds[key]},
                frozenset(seeds[key]),
                machine.seconds(key),
            )
            for key, cell in machine.cells.items()
        ]
        decision = adaptive.decide(standings, until)
        if not decision.seeds:
            return {key: tuple(chosen) for key, chosen in seeds.items()}
        for cell_id, more in decision.seeds.items():
            seeds[by_id[cell_id]] += more


def verdicts(machine: Machine, seeds: Mapping[Key, Sequence[int]]) -> dict[tuple[Key, Key], tuple[str, bool]]:
    """Each comparison of frameworks and of backwards, and whether its interval holds the truth."""
    pairs = [(("torch", b, e), ("chainer", b, e)) for b in ("autograd", "explicit") for e in range(5)]
    pairs += [((f, "explicit", e), (f, "autograd", e)) for f in STEP_S for e in range(5)]
    ratios = {}
    for one, other in pairs:
        common = sorted(set(seeds[one]) & set(seeds[other]))
        ratios[one, other] = statistics.paired_ratio(machine.means[one][common], machine.means[other][common])
    p = statistics.adjusted([statistics.p_value(r, statistics.within(MARGIN)) for r in ratios.values()])
    found = {}
    for ((one, other), ratio), adjusted in zip(ratios.items(), p, strict=True):
        truth = STEP_S[one[0]] / STEP_S[other[0]] * math.exp(machine.effect[one] - machine.effect[other])
        interval = ratio.interval()
        holds = interval is not None and interval.low <= truth <= interval.high
        found[one, other] = (statistics.verdict(ratio, MARGIN, adjusted), holds)
    return found


def time_s(machine: Machine, seeds: Mapping[Key, Sequence[int]]) -> float:
    return sum(machine.seconds(key) * len(chosen) for key, chosen in seeds.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--interval", type=float, default=0.04)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    until = Until(given.interval, given.seeds)
    pairs: Counter[tuple[str, str]] = Counter()
    covered = {"fixed": 0, "adaptive": 0}
    shares = []
    for number in range(given.sweeps):
        machine = Machine(number, given.seeds)
        fixed = {key: tuple(range(given.seeds)) for key in machine.cells}
        chosen = adaptively(machine, until)
        one, other = verdicts(machine, fixed), verdicts(machine, chosen)
        shares.append(time_s(machine, chosen) / time_s(machine, fixed))
        pairs.update((one[pair][0], other[pair][0]) for pair in one)
        covered["fixed"] += sum(holds for _, holds in one.values())
        covered["adaptive"] += sum(holds for _, holds in other.values())
    tell(pairs, covered, shares)


def tell(pairs: Counter[tuple[str, str]], covered: Mapping[str, int], shares: Sequence[float]) -> None:
    total = pairs.total()
    same = sum(count for (one, other), count in pairs.items() if one == other)
    opposite = sum(n for (one, other), n in pairs.items() if "inconclusive" not in (one, other) and one != other)
    low, middle, high = np.quantile(shares, [0.05, 0.5, 0.95])
    print(f"time, as a share of the fixed design's: median {middle:.0%}, 5 % to 95 % of sweeps {low:.0%} to {high:.0%}")
    print(
        f"verdicts: {same / total:.1%} the same, {opposite} of {total:,} another, the rest inconclusive in one of them"
    )
    print("intervals of ratios hold the truth: " + ", ".join(f"{name} {n / total:.1%}" for name, n in covered.items()))
    for (one, other), count in pairs.most_common():
        print(f"  fixed {one:12}  adaptive {other:12} {count:6,}")


if __name__ == "__main__":
    main()
