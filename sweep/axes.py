"""The built-in axes: one table of their names, defaults and order, and of how each is written, said and drawn.

Every other axis is a parameter of a workload that a grid gives several values; it is written `threads=2` and said
"with threads 2". Code that needs to know something of an axis asks here, so that an axis is added in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

from sweep.selection import shown

SEED = "seed"
BATCH_SIZE = "batch_size"  # what a step of one's own has in place of batch_exponent
FEWEST_SEEDS = 3  # of a cell: an interval takes as many trials
# where a run holds several contents of a workload or a framework, see sweep.analysis.contents
CONTENT_AXES = MappingProxyType(
    {name: f"{name}_content" for name in ("workload", "framework", "data", "network")}
)
NOT_AXES = (
    "data_path",
    "until",
)  # a path says where, not what; stopping is the sweep's matter and no trial's


@dataclass(frozen=True)
class Axis:
    """A built-in axis.

    `default` holds the values where a grid names none; a framework has no default. `values` are those that it can have
    where the core knows them all, `least` and `most` bound a whole number. `title` heads it in plots. `preposition`
    and `phrase` say a value in a sentence: "on" and "the CPU". `always_said`: in a sentence although all cells share
    it. `is_compared`: whether cells that differ in it alone ask a question.
    """

    name: str
    meaning: str
    default: Sequence[Any] = ()
    values: Sequence[str] = ()
    least: int | None = None
    most: int | None = None
    title: str = ""
    preposition: str = "with"
    phrase: Callable[[str], str] | None = None
    always_said: bool = False
    is_compared: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.least is not None


_TABLE = (
    Axis("workload", "What a trial does", default=("core",)),
    Axis(
        "framework",
        "Framework and exact version, as torch==2.13.0",
        preposition="for",
        phrase=lambda text: text.replace("==", " "),
        is_compared=True,
    ),
    Axis("backend", "Which implementation computes", default=("default",), is_compared=True),
    Axis(
        "device",
        "Where it computes",
        default=("cpu",),
        preposition="on",
        phrase=lambda text: f"the {text.upper()}",
        always_said=True,
    ),
    Axis(
        "backward",
        "How the loss is differentiated",
        default=("autograd",),
        values=("autograd", "explicit"),
        phrase=lambda text: text if text == "autograd" else f"the {text} backward",
        is_compared=True,
    ),
    Axis(
        "batch_exponent",
        "n of the batch size 2**n",
        default=(5,),
        least=0,
        most=30,
        title="batch size (examples)",
        preposition="at",
        always_said=True,
    ),
    # An interval takes three trials, five make a fair one; NumPy's RandomState takes 32 bits.
    Axis(SEED, "Replicates: a fresh process for each", default=range(5), least=0, most=2**32 - 1),
)

AXES: Mapping[str, Axis] = MappingProxyType({axis.name: axis for axis in _TABLE})
CELL_AXES: Mapping[str, Axis] = MappingProxyType(
    {name: axis for name, axis in AXES.items() if name != SEED}
)
COMPARED = tuple(axis.name for axis in _TABLE if axis.is_compared)

_DISPLAYED = [
    name for axis in CELL_AXES for name in ([axis, "version"] if axis == "framework" else [axis])
]


def default(name: str) -> Sequence[Any]:
    """The values of a built-in axis where a grid names none; no values for any other."""
    return AXES[name].default if name in AXES else ()


def ordered(axes: Mapping[str, Any], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Axes as a reader meets them: the built-in ones in the table's order, the others by the alphabet."""
    return {name: axes[name] for name in _order(tuple(axes), without)}


@functools.lru_cache(maxsize=1000)
def _order(names: tuple[str, ...], without: frozenset[str]) -> list[str]:
    wanted = set(names) - without
    return [
        *(name for name in _DISPLAYED if name in wanted),
        *sorted(wanted.difference(_DISPLAYED)),
    ]


def batch_size(settings: Mapping[str, Any]) -> int | None:
    """Examples in a batch of a trial with these settings; None where it has no batches, or no such number."""
    exponent, size = settings.get("batch_exponent"), settings.get(BATCH_SIZE)
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    return int(2**exponent) if _is_exponent(exponent) else None


def name_part(name: str, value: Any) -> str:
    """A value as part of a cell's name: `torch==2.13.0`, `b5`, `threads=2`; empty for the default backend."""
    if name == "batch_exponent":
        return f"b{value}"
    if name == "backend" and value in default("backend"):
        return ""
    return str(value) if name in CELL_AXES else f"{name}={shown(value)}"


def said(name: str, value: Any) -> str:
    """A value as the subject of a sentence: `torch 2.13.0`, `the CPU`, `batch 32`, `threads 2`."""
    if name == "batch_exponent":
        return f"batch {2**value}" if _is_exponent(value) else f"batch 2^{shown(value)}"
    if name == BATCH_SIZE:
        return f"batch {shown(value)}"
    phrase = AXES[name].phrase if name in AXES else None
    return phrase(shown(value)) if phrase else f"{name} {shown(value)}"


def circumstance(name: str, value: Any) -> str:
    """A value as where something holds: `for torch 2.13.0`, `on the CPU`, `with threads 2`."""
    preposition = AXES[_alike(name)].preposition if _alike(name) in AXES else "with"
    return f"{preposition} {said(name, value)}"


def labelled(name: str, value: Any) -> str:
    """A value that says what it is of in as few words as can be: `torch==2.13.0`, `batch 32`, `threads 2`."""
    if name == BATCH_SIZE or (name == "batch_exponent" and _is_exponent(value)):
        return said(name, value)
    return f"{name} {shown(value)}" if isinstance(value, int | float) else shown(value)


def title(name: str) -> str:
    """The heading of an axis in a plot."""
    return (AXES[_alike(name)].title if _alike(name) in AXES else "") or name.replace("_", " ")


def number(name: str, value: Any) -> Any:
    """The number that stands for a value on a scale: the batch size for its exponent, else the value."""
    return 2**value if name == "batch_exponent" and _is_exponent(value) else value


def _alike(name: str) -> str:
    """The built-in axis that an axis is told like."""
    return "batch_exponent" if name == BATCH_SIZE else name


def _is_exponent(value: Any) -> TypeGuard[int]:
    """Whether it can be one of a batch size: a record may hold any number, and its power may take all memory."""
    return isinstance(value, int) and 0 <= value < 64
