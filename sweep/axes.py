"""The built-in axes: one table of names, defaults, order, and how each is written and drawn.

Every other axis is a parameter of a workload to which a grid gives several values. It is written
`threads=2` in names and "with threads 2" in sentences. Code that needs a fact about an axis takes
it from here, so that an axis is added in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

from sweep.selection import shown

SEED = "seed"
# The axis that a step of the user's own has in place of batch_exponent.
BATCH_SIZE = "batch_size"
# An interval takes at least three trials of a cell.
FEWEST_SEEDS = 3
# Axes that tell several contents of one name apart in a run, see sweep.analysis.contents.
CONTENT_AXES = MappingProxyType(
    {name: f"{name}_content" for name in ("workload", "framework", "data", "network")}
)
# Parameters that do not change what a trial measures: where the data is, when a sweep stops.
NOT_AXES = ("data_path", "until")


@dataclass(frozen=True)
class Axis:
    """A built-in axis.

    `default` holds the values if a grid gives none; a framework has no default. `values` are all
    possible ones, if the core knows them. `least` and `most` bound an integer. `title` is its title
    in plots. `preposition` and `phrase` put a value into a sentence: "on" and "the CPU".
    `always_said` axes are in a sentence although all cells share their value. `is_compared` is true
    if a run that varies it asks which of its values is better.
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
        """Whether its values are integers."""
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
    """Return the values of a built-in axis if a grid gives none; () for any other axis."""
    return AXES[name].default if name in AXES else ()


def ordered(axes: Mapping[str, Any], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return axes in display order: the built-in ones as in the table, others alphabetically."""
    return {name: axes[name] for name in _order(tuple(axes), without)}


@functools.lru_cache(maxsize=1000)
def _order(names: tuple[str, ...], without: frozenset[str]) -> list[str]:
    wanted = set(names) - without
    return [
        *(name for name in _DISPLAYED if name in wanted),
        *sorted(wanted.difference(_DISPLAYED)),
    ]


def batch_size(settings: Mapping[str, Any]) -> int | None:
    """Return the examples per batch of a trial; None if it has no batches or no valid number."""
    exponent, size = settings.get("batch_exponent"), settings.get(BATCH_SIZE)
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    return int(2**exponent) if _is_exponent(exponent) else None


def name_part(name: str, value: Any) -> str:
    """Return a value as part of a cell's name; "" for the default backend.

    Examples: `torch==2.13.0`, `b5`, `threads=2`.
    """
    if name == "batch_exponent":
        return f"b{value}"
    if name == "backend" and value in default("backend"):
        return ""
    return str(value) if name in CELL_AXES else f"{name}={shown(value)}"


def phrase(name: str, value: Any) -> str:
    """Return a value as the subject of a sentence: `torch 2.13.0`, `the CPU`, `batch 32`."""
    if name == "batch_exponent":
        return f"batch {2**value}" if _is_exponent(value) else f"batch 2^{shown(value)}"
    if name == BATCH_SIZE:
        return f"batch {shown(value)}"
    of_axis = AXES[name].phrase if name in AXES else None
    return of_axis(shown(value)) if of_axis else f"{name} {shown(value)}"


def circumstance(name: str, value: Any) -> str:
    """Return a value as a circumstance: `for torch 2.13.0`, `on the CPU`, `with threads 2`."""
    preposition = AXES[_model_axis(name)].preposition if _model_axis(name) in AXES else "with"
    return f"{preposition} {phrase(name, value)}"


def labelled(name: str, value: Any) -> str:
    """Return a value with as few words as tell what it is: `torch==2.13.0`, `batch 32`."""
    if name == BATCH_SIZE or (name == "batch_exponent" and _is_exponent(value)):
        return phrase(name, value)
    return f"{name} {shown(value)}" if isinstance(value, int | float) else shown(value)


def title(name: str) -> str:
    """Return the title of an axis in a plot."""
    axis = AXES.get(_model_axis(name))
    return (axis.title if axis else "") or name.replace("_", " ")


def number(name: str, value: Any) -> Any:
    """Return the number of a value on a scale: the batch size for its exponent, else the value."""
    return 2**value if name == "batch_exponent" and _is_exponent(value) else value


def _model_axis(name: str) -> str:
    """Return the built-in axis whose texts an axis shares."""
    return "batch_exponent" if name == BATCH_SIZE else name


def _is_exponent(value: Any) -> TypeGuard[int]:
    """Return whether a value can be the exponent of a batch size.

    A record may hold any number, and its power might take all memory.
    """
    return isinstance(value, int) and 0 <= value < 64
