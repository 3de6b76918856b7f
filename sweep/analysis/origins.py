"""Origins: the machines and environments that trials were measured on, as conditions and groups.

A cell is defined by its settings, and its trials may come from several kinds of machine. A
difference between machines is not a difference between settings. Comparisons are therefore made
within one kind of machine, and `--where cpu_model=…` selects one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweep.analysis.samples import Ints
from sweep.grid.conditions import Conditions
from sweep.selection import Axes, Where

# The columns that name the kind of machine, by the device that computed.
MACHINES = ("cpu_model", "device_name")
# The columns that conditions may name as if they were axes.
ORIGINS = (
    "node",
    *MACHINES,
    "python",
    "numpy",
    "blas",
    "framework_build",
    "environment_id",
    "code_version",
)


class Machines(NamedTuple):
    """Groups of records, split by the kind of machine.

    For each new group, `parents` has the index of the group that was split, and `names` its
    machine. `of_row` has the new group of each record, -1 for none.
    """

    parents: Ints
    names: Sequence[str | None]
    of_row: Ints


def divided(where: Where, cells: Iterable[Axes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the conditions on axes, and those on origins; an axis of that name has priority."""
    axes = {name for cell in cells for name in cell}
    origins = {
        name: wanted for name, wanted in where.items() if name in ORIGINS and name not in axes
    }
    return {name: wanted for name, wanted in where.items() if name not in origins}, origins


def narrowed(table: pa.Table, where: Where) -> pa.Table:
    """Return the records whose origins meet the conditions; an unknown origin meets none."""
    kept = np.ones(len(table), dtype=bool)
    for name, wanted in where.items():
        condition = Conditions({name: wanted})
        codes, texts = _encoded(table, name)
        # The code of an unknown origin is -1, which selects the last element.
        holds = [*(condition.holds({name: text}) for text in texts), False]
        kept &= np.array(holds, dtype=bool)[codes]
    return table if kept.all() else table.filter(pa.array(kept))


def values(table: pa.Table, where: Where) -> list[dict[str, str]]:
    """Return the distinct values of the origins that conditions name, each as a cell's axes."""
    return [{name: text} for name in where for text in _encoded(table, name)[1]]


def by_machine(table: pa.Table, groups: Sequence[Axes], of_row: Ints) -> Machines:
    """Split groups of records by the model of the device that computed.

    A trial that ended before its machine was known is assigned the most frequent machine of its
    group.
    """
    on_gpu = np.array([axes.get("device") == "gpu" for axes in groups], dtype=bool)
    codes, names = _of_device(table, on_gpu, of_row)
    inside = of_row >= 0
    counts = np.zeros((len(groups), len(names) + 1), dtype=np.int64)
    is_known = inside & (codes < len(names))
    np.add.at(counts, (of_row[is_known], codes[is_known]), 1)
    usual = np.where(counts.max(axis=1) > 0, counts.argmax(axis=1), len(names))
    codes = np.where(is_known, codes, usual[of_row])
    # Group and machine are combined into one number, which np.unique can count.
    pairs = of_row[inside] * (len(names) + 1) + codes[inside]
    combined, of_new = np.unique(pairs, return_inverse=True)
    new = np.full(len(of_row), -1, dtype=np.int64)
    new[inside] = of_new
    parents, kinds = np.divmod(combined, len(names) + 1)
    return Machines(parents, [[*names, None][kind] for kind in kinds.tolist()], new)


def _of_device(table: pa.Table, on_gpu: NDArray[np.bool_], of_row: Ints) -> tuple[Ints, list[str]]:
    """Return the code of each record's device model, and the models.

    The code of an unknown model is the number of models.
    """
    cpus, cpu_names = _encoded(table, "cpu_model")
    devices, device_names = _encoded(table, "device_name")
    names = list(dict.fromkeys([*cpu_names, *device_names]))
    index: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    of_cpu, of_device = (
        np.array([*(index[name] for name in each), len(names)], dtype=np.int64)
        for each in (cpu_names, device_names)
    )
    return np.where(on_gpu[of_row], of_device[devices], of_cpu[cpus]), names


def _encoded(table: pa.Table, name: str) -> tuple[Ints, list[str]]:
    """Return the code of each record's text, -1 where it has none, and the distinct texts."""
    if name not in table.column_names or pa.types.is_null(table[name].type):
        return np.full(len(table), -1, dtype=np.int64), []
    column = table[name]
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    piece = column.unify_dictionaries().combine_chunks()
    codes = piece.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [str(text) for text in piece.dictionary.to_pylist()]
