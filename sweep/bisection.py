"""Bisection: between which values of an ordered axis a figure changes, found with few trials.

The search is pure: it asks for steps, blocks of trials in which some values stand side by side, and
is told what was measured. It keeps no state. To go on with a search is to replay it from its start:
steps whose trials have records are answered from them, and the first step that lacks some says what
runs next. A search that was killed goes on likewise.

1. The ends are measured until their ratio is decided. Without a difference the search is over.
2. A stretch whose ends differ is halved. Its middle is measured in new blocks beside both ends,
   until each half either differs by more than the margin or does not. Halves that differ are
   searched likewise: several changes are found, and speed-ups among slow-downs. A value that gives
   no figures is left out, and its neighbour is the middle.
3. Where nothing that can be measured lies between the ends of a stretch, these two are measured
   against each other once more, in blocks that the search has not seen. Only these blocks decide
   whether there is a change.

Steps 1 and 2 choose where to look, and may err. Step 3 is the proof. Its blocks are independent of
the choice, and the j-th pair to be proven is tested at 5 % / (j (j + 1)), shared equally among
the looks at its data (Bonferroni). These levels sum to 5 % over any number of pairs (a fixed
sequence of levels, as in alpha-spending: Foster and Stine, J. R. Statist. Soc. B 70, 2008). So the
chance that a search reports any change where none exceeds the margin is at most 5 %.

The alternative is to test each half at a level that sums over the tree (Meinshausen, Biometrika
95, 2008). It needs no further blocks, but the last pair of 60 versions is then tested at 5 % / 59,
which takes more blocks in every step.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from sweep.analysis import statistics
from sweep.analysis.statistics import FEWEST_TRIALS, Ratio

LEVEL = 0.05  # the chance of any false change in a whole search
SEARCH_LEVEL = 0.1  # of the intervals that choose where to search on: two one-sided tests at 5 %
MOST_BLOCKS = 30  # of one step
_LOOKS = (3, 4, 6, 9, 13, 20, 30, 45, 70, 100)  # blocks after which a step is looked at

Finding = Literal["differs", "same", "open"]
T = TypeVar("T")


class Step(NamedTuple):
    """Trials that are asked for: values, by their place on the axis, and their blocks (seeds)."""

    values: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Observed:
    """What records say of one value: its figure by block, and every block that has a record.

    `machines` names the kind of machine that measured it in each block, where that is known.
    """

    figures: Mapping[int, float] = field(default_factory=dict)
    ended: Collection[int] = frozenset()
    machines: Mapping[int, str] = field(default_factory=dict)

    @property
    def fruitless(self) -> bool:
        """Whether its trials end without figures: it cannot be built, or does not run."""
        return len(self.ended) >= FEWEST_TRIALS and not self.figures


@dataclass(frozen=True)
class Pair:
    """Two values that were compared; the ratio is later by earlier, None without figures."""

    before: int
    after: int
    ratio: Ratio | None
    finding: Finding


@dataclass(frozen=True)
class Found:
    """What a search has found.

    `changes`: neighbours that were proven to differ. `same`: stretches whose ends do not differ by
    more than the margin. `open`: stretches that differ or may differ, with the reason why they
    could not be narrowed down. `fruitless`: values that could not be measured.
    """

    ends: Pair
    changes: tuple[Pair, ...] = ()
    same: tuple[Pair, ...] = ()
    open: tuple[tuple[Pair, str], ...] = ()
    fruitless: tuple[int, ...] = ()


Asking = Generator[
    Step, Sequence[Observed], T
]  # what asks for steps, and comes to a result in the end


def advance(
    observed: Sequence[Observed], margin: float, most_blocks: int = MOST_BLOCKS
) -> Step | Found:
    """The next step of a search over values as observed so far, in order; or what it found."""
    search = _Search(len(observed), margin, most_blocks).run()
    step = next(search)
    while _is_complete(step, observed):
        try:
            step = search.send(observed)
        except StopIteration as end:
            found: Found = end.value
            return found
    return step


def _is_complete(step: Step, observed: Sequence[Observed]) -> bool:
    """Whether all that a step asks for has ended, or a value of it gives no figures at all."""
    asked = [observed[value] for value in step.values]
    return any(each.fruitless for each in asked) or all(
        set(step.seeds) <= set(each.ended) for each in asked
    )


class _Search:
    """One search, from its start."""

    def __init__(self, count: int, margin: float, most_blocks: int) -> None:
        self._count, self._margin = count, margin
        self._looks = [look for look in _LOOKS if look < most_blocks] + [most_blocks]
        self._next_seed = 0
        self._proofs = 0
        self._fruitless: set[int] = set()
        self._changes: list[Pair] = []
        self._same: list[Pair] = []
        self._open: list[tuple[Pair, str]] = []

    def run(self) -> Asking[Found]:
        (ends,) = yield from self._compared([(0, self._count - 1)], self._shared(LEVEL))
        if ends.finding == "differs":
            yield from self._search(ends)
        return Found(
            ends,
            tuple(self._changes),
            tuple(self._same),
            tuple(self._open),
            tuple(sorted(self._fruitless)),
        )

    def _search(self, stretch: Pair) -> Asking[None]:
        """Find the changes within a stretch whose ends differ."""
        halves = yield from self._halved(stretch)
        if not halves:
            yield from self._prove(stretch)
            return
        self._same += [half for half in halves if half.finding == "same"]
        self._open += [
            (half, f"not decided after {_blocks(half)}")
            for half in halves
            if half.finding == "open"
        ]
        if all(half.finding == "same" for half in halves):
            self._open.append(
                (stretch, "spread over it: neither half differs by more than the margin")
            )
        for half in halves:
            if half.finding == "differs":
                yield from self._search(half)

    def _halved(self, stretch: Pair) -> Asking[list[Pair]]:
        """Both halves of a stretch, compared; none where nothing within it can be measured."""
        while between := self._between(stretch):
            middle = between[len(between) // 2]
            yield from self._probe(middle)
            if middle in self._fruitless:
                continue
            pairs = [(stretch.before, middle), (middle, stretch.after)]
            halves = yield from self._compared(pairs, SEARCH_LEVEL)
            if middle not in self._fruitless:
                return halves
        return []

    def _probe(self, value: int) -> Asking[None]:
        """Try a value before others are measured beside it: it may not be possible to build it."""
        first = self._next_seed
        observed = yield Step((value,), (first,))
        if first not in observed[value].figures:
            observed = yield Step((value,), tuple(range(first, first + FEWEST_TRIALS)))
        if observed[value].fruitless:
            self._fruitless.add(value)

    def _between(self, stretch: Pair) -> list[int]:
        return [
            value
            for value in range(stretch.before + 1, stretch.after)
            if value not in self._fruitless
        ]

    def _prove(self, stretch: Pair) -> Asking[None]:
        """Decide in blocks of its own whether two neighbours differ."""
        self._proofs += 1
        level = self._shared(LEVEL / (self._proofs * (self._proofs + 1)))
        (pair,) = yield from self._compared([(stretch.before, stretch.after)], level)
        if pair.finding == "differs":
            self._changes.append(pair)
        elif pair.finding == "same":
            self._open.append(
                (pair, "taken for a change by the search, and not confirmed by further trials")
            )
        else:
            self._open.append((pair, f"likely, and not proven after {_blocks(pair)}"))

    def _compared(self, pairs: Sequence[tuple[int, int]], level: float) -> Asking[list[Pair]]:
        """The pairs measured in new blocks, until each is decided or the blocks are used up.

        They are looked at after more and more blocks, since most are decided early. A block in
        which a trial gave no figures, or whose trials ran on different kinds of machine, does not
        count, and another is asked for instead.
        """
        values = tuple(sorted({value for pair in pairs for value in pair}))
        seeds: tuple[int, ...] = ()
        found: list[Pair] = []
        usable: list[int] = []
        for look in self._looks:
            seeds += self._new_seeds(look - len(usable))
            observed = yield Step(values, seeds)
            asked = [observed[value] for value in values]
            self._fruitless |= {value for value in values if observed[value].fruitless}
            usable = [seed for seed in seeds if _is_usable(seed, asked)]
            found = [self._pair(pair, usable, observed, level) for pair in pairs]
            is_decided = all(pair.finding != "open" for pair in found)
            if is_decided or self._fruitless.intersection(values):
                break
        return found

    def _new_seeds(self, count: int) -> tuple[int, ...]:
        first = self._next_seed
        self._next_seed += count
        return tuple(range(first, first + count))

    def _pair(
        self,
        pair: tuple[int, int],
        seeds: Sequence[int],
        observed: Sequence[Observed],
        level: float,
    ) -> Pair:
        before, after = pair
        if not seeds:
            return Pair(before, after, None, "open")
        earlier, later = ([observed[value].figures[seed] for seed in seeds] for value in pair)
        ratio = statistics.paired_ratio(later, earlier)
        return Pair(before, after, ratio, _finding(ratio, self._margin, level))

    def _shared(self, level: float) -> float:
        """The part of a level that each look at the data of one step has."""
        return level / len(self._looks)


def _is_usable(seed: int, values: Sequence[Observed]) -> bool:
    """Whether all values have figures in a block, from one kind of machine."""
    machines = {value.machines.get(seed) for value in values}
    return len(machines) == 1 and all(seed in value.figures for value in values)


def _finding(ratio: Ratio, margin: float, level: float) -> Finding:
    """Where the interval lies, whose chance to miss the truth is `level`."""
    interval, same = ratio.interval(1 - level), statistics.equivalence_range(margin)
    if interval is None:
        return "open"
    if same.low <= interval.low and interval.high <= same.high:
        return "same"
    return "differs" if interval.low > same.high or interval.high < same.low else "open"


def _blocks(pair: Pair) -> str:
    return f"{pair.ratio.pairs if pair.ratio else 0} blocks"
