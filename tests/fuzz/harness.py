"""The harness: which inputs are tried, how each ended, and the page that tells the counts."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from fuzz import damages, grids
from fuzz.calls import Call, call, inside

T = TypeVar("T")


class Found(NamedTuple):
    """A call on an input that did not end as it has to."""

    input: str
    call: Call


class Tally(NamedTuple):
    """What a harness tried: inputs, of how many there are (0: any number), calls, and each call that went wrong."""

    inputs: int
    possible: int
    calls: int
    found: list[Found]

    @property
    def troubles(self) -> Counter[str]:
        return Counter(each.call.trouble for each in self.found)


def of_damages(seed: int = 0, few: int = 0, part: tuple[int, int] = (0, 1)) -> Tally:
    """Each damage of a results folder with each command, in a folder of its own; few of them without the slow ones."""
    chosen = _some([*damages.all_damages()], seed, few)[part[0] :: part[1]]
    commands = damages.COMMANDS if few else damages.COMMANDS + damages.SLOW
    with tempfile.TemporaryDirectory() as name:
        pristine, here = Path(name) / "pristine", Path(name) / "here"
        damages.build(pristine)
        found = [each for damage in chosen for each in _damaged(damage, commands, pristine, here)]
    return Tally(len(chosen), len([*damages.all_damages()]), len(chosen) * len(commands), found)


def _damaged(
    damage: damages.Damage, commands: Sequence[Sequence[str]], pristine: Path, here: Path
) -> Iterator[Found]:
    shutil.copytree(pristine, here)
    try:
        damage.do(here / damages.RUN)
        with inside(here):
            for arguments in commands:
                ended = call(arguments)
                if ended.trouble:
                    yield Found(damage.name, ended)
    finally:
        shutil.rmtree(here)


def of_grids(seed: int = 0, few: int = 10_000, part: tuple[int, int] = (0, 1)) -> Tally:
    """Each text as a grid, planned."""
    texts = [*grids.texts(seed, few or 10_000)][part[0] :: part[1]]
    found = []
    with tempfile.TemporaryDirectory() as name, inside(Path(name)):
        for text in texts:
            Path("grid.yaml").write_bytes(text)
            ended = call(["plan", "grid.yaml"])
            if ended.trouble:
                found.append(Found(repr(text), ended))
    return Tally(len(texts), 0, len(texts), found)


def of_arguments(seed: int = 0, few: int = 0, part: tuple[int, int] = (0, 1)) -> Tally:
    """Hostile arguments, on a run and a grid that are intact."""
    chosen = _some([*grids.ARGUMENTS], seed, few)[part[0] :: part[1]]
    found = []
    with tempfile.TemporaryDirectory() as name:
        damages.build(Path(name))
        with inside(Path(name)):
            for arguments in chosen:
                ended = call(arguments)
                if ended.trouble:
                    found.append(Found(" ".join(arguments), ended))
    return Tally(len(chosen), len(grids.ARGUMENTS), len(chosen), found)


HARNESSES: dict[str, Callable[[int, int, tuple[int, int]], Tally]] = {
    "damages": of_damages,
    "grids": of_grids,
    "arguments": of_arguments,
}
MEANINGS = {
    "damages": "damages of a results folder, each with every command that reads one",
    "grids": "texts as grids: pieces of the language put together, and grids of the project changed",
    "arguments": "hostile arguments of commands, on an intact run and grid",
}


def _some(of: Sequence[T], seed: int, few: int) -> list[T]:
    return random.Random(seed).sample(of, few) if few else [*of]


def main() -> int:
    arguments = _arguments()
    names = [arguments.only] if arguments.only else list(HARNESSES)
    os.environ.setdefault("COLUMNS", "120")
    tallies = {
        name: HARNESSES[name](arguments.seed, arguments.few, arguments.part) for name in names
    }
    for tally in tallies.values():
        _tell(tally, arguments.traces)
    print(_table(tallies))
    if arguments.write:
        arguments.write.write_text(_page(tallies), encoding="utf-8")
    return int(any(tally.found for tally in tallies.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python tests/fuzz", description=__doc__)
    parser.add_argument("--only", choices=HARNESSES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--few", type=int, default=0, help="inputs of each harness; 0: as many as there are"
    )
    parser.add_argument(
        "--part", type=_share, default=(0, 1), metavar="I/N", help="the Ith of N parts, from 0"
    )
    parser.add_argument(
        "--traces", type=int, default=10, help="traces to print, one for each place of an error"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of counts there")
    return parser.parse_args()


def _share(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def _tell(tally: Tally, traces: int) -> None:
    """Each kind of trouble once, by where it was raised, with the first input."""
    kinds: dict[tuple[str, str], list[Found]] = {}
    for each in tally.found:
        where = [line.strip() for line in each.call.trace.splitlines() if "/sweep/" in line]
        kinds.setdefault(
            (each.call.trouble, where[-1] if where else each.call.err[:80]), []
        ).append(each)
    for (trouble, where), found in sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:traces]:
        first = found[0]
        last = first.call.trace.strip().splitlines()[-1:] or [first.call.err[-300:]]
        print(ascii(f"{len(found)} x {trouble} {where}"))
        print(
            f"    {ascii(first.input)[:200]}: sweep {ascii(' '.join(first.call.arguments))[:200]}"
        )
        print(f"    {ascii(last[0])[:300]}", flush=True)


def _table(tallies: dict[str, Tally]) -> str:
    lines = [
        "| what is tried | inputs | of | calls | tracebacks | hangs | others |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, tally in tallies.items():
        troubles = tally.troubles
        others = troubles.total() - troubles["traceback"] - troubles["hang"]
        figures = (
            tally.inputs,
            tally.possible or "any",
            tally.calls,
            troubles["traceback"],
            troubles["hang"],
            others,
        )
        lines.append(
            f"| {MEANINGS[name]} | "
            + " | ".join(figure if isinstance(figure, str) else f"{figure:,}" for figure in figures)
            + " |"
        )
    return "\n".join(lines)


def _page(tallies: dict[str, Tally]) -> str:
    return PAGE.format(
        command=f"python tests/fuzz {' '.join(sys.argv[1:])}",
        date=dt.datetime.now(dt.UTC).date(),
        table=_table(tallies),
    )


PAGE = """\
# Reliability: broken and hostile input

What lies in a results folder, in a grid or on a command line may be broken, or written by somebody who means harm. The
aim: no command ends in a traceback, waits for ever, or ends with an exit code that [results.md](results.md) does not
name, and what cannot be read is left out and named, once.

This page is written by `{command}`, on {date}. With `--few` the inputs
are a seeded sample, and damages meet all commands but `report` and `plot`. A call counts as a
hang after 20 seconds of processor time or 120 of the clock. *Others* are calls that
say the same warning twice, end with an undocumented code, or fail without a reason.

{table}

`tests/test_fuzz.py` runs a part of this with every change. The inputs are in `tests/fuzz/`: a new kind of damage is one
line there.
"""
