"""The time to summarize a large run, and of other tools for mean and variance alone.

The run is generated and has the files that `sweep run` leaves. Every tool reads the same files
and computes mean and variance of `step_s` for each cell. *Every figure and warning* is all that
`sweep summarize` does. Each tool runs in a process of its own, in turns, without the time of its
imports. The figure is the best of seven.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import environment, version
from sweep.records.columns import SCHEMA
from sweep.records.parts import LAST_LEVEL, Part, encode, regroup

TRIALS, SAMPLES = 100_000, 100
SEEDS = 10
ROWS_PER_PART = 4096


def figures(quick: bool) -> Iterator[Figure]:
    trials = TRIALS // 10 if quick else TRIALS
    what = f"mean and variance of each cell, {trials:,} trials of {SAMPLES} samples"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), trials, SAMPLES)
        rounds = [
            {who: measured(python, tool, folder) for who, (python, tool) in tools().items()}
            for _ in range(1 if quick else 7)
        ]
    found = {who: min(each[who] for each in rounds) for who in rounds[0]}
    for name, (seconds, _, cells) in found.items():
        yield Figure(what, name, seconds, note=f"{cells:,} cells")
    others = [seconds for name, (seconds, _, _) in found.items() if not name.startswith(OURS)]
    yield target(what, 1.5 * min(others), note="half as much again as the quickest")
    for name, (_, peak_rss_bytes, _) in found.items():
        yield Figure("memory of it at its most", name, peak_rss_bytes, "B")


def tools() -> dict[str, tuple[Path, str]]:
    """Return the tools: the Python that has each, and its name in `tools/mean_and_variance.py`."""
    # Sweep gets only what it needs, as do the others: PyArrow imports pandas if it is installed,
    # which takes long.
    ours = environment(
        *tomllib.loads((peers.HOUSE / "pyproject.toml").read_text())["project"]["dependencies"]
    )
    pandas = environment("pandas", "pyarrow")
    duckdb, polars = environment("duckdb"), environment("polars")
    return {
        OURS: (ours, "sweep"),
        version(duckdb, "duckdb"): (duckdb, "duckdb"),
        version(polars, "polars"): (polars, "polars"),
        version(pandas, "pandas"): (pandas, "pandas"),
        f"{OURS}, every figure and warning": (ours, "sweep_in_full"),
    }


def measured(python: Path, tool: str, folder: str) -> tuple[float, int, int]:
    """Return seconds, peak memory in bytes and cells, from a process of its own."""
    command = [python, peers.HERE / "tools" / "mean_and_variance.py", tool, folder]
    more = {"PYTHONPATH": str(peers.HOUSE)} if tool.startswith("sweep") else {}
    seconds, peak_rss_bytes, cells = json.loads(peers.run(command, more=more).output)
    return seconds, peak_rss_bytes, cells


def write(folder: Path, trials: int, samples: int) -> None:
    """Write parts of a few thousand records each, with every list column filled."""
    random = np.random.default_rng(0)
    (folder / "records").mkdir(parents=True)
    for start in range(0, trials, ROWS_PER_PART):
        keep(
            part(np.arange(start, min(trials, start + ROWS_PER_PART)), samples, random),
            folder,
            start,
        )


def keep(table: pa.Table, folder: Path, number: int) -> None:
    """Write a part as folding leaves it, of tables of 64 rows."""
    tables = (table.slice(first, 64) for first in range(0, len(table), 64))
    data = encode(SCHEMA, regroup(tables, SCHEMA))
    (folder / Part.new("records", number, LAST_LEVEL, data).path).write_bytes(data)


def part(trials: np.ndarray, samples: int, random: np.random.Generator) -> pa.Table:
    cells = trials // SEEDS
    steps = np.exp(random.normal(np.log(0.1), 0.02, len(trials) * samples))
    offsets = pa.array(np.arange(len(trials) + 1) * samples, pa.int32())
    known = {
        "cell_id": [f"{cell:012x}" for cell in cells],
        "trial_id": [f"{trial:016x}" for trial in trials],
        "trial_name": [
            f"torch==2.13.0/core/cpu/autograd/width={c}/s{t % SEEDS}"
            for c, t in zip(cells, trials, strict=True)
        ],
        "settings": [
            json.dumps({"framework": "torch==2.13.0", "width": int(c), "seed": int(t % SEEDS)})
            for c, t in zip(cells, trials, strict=True)
        ],
        "status": ["ok"] * len(trials),
        "attempt": np.ones(len(trials), dtype=int),
        "block": trials % SEEDS,
        "seed": trials % SEEDS,
        "step_s": pa.ListArray.from_arrays(offsets, steps),
        "forward_s": pa.ListArray.from_arrays(offsets, steps / 3),
        "backward_s": pa.ListArray.from_arrays(offsets, steps * 2 / 3),
        "valid": pa.ListArray.from_arrays(offsets, np.ones(len(steps), dtype=bool)),
    }
    arrays = [
        pa.array(known[f.name], f.type) if f.name in known else pa.nulls(len(trials), f.type)
        for f in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)
