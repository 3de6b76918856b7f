"""How long it takes to summarise a large run, beside other tools doing the plain mean and variance.

The run is made up and written as `sweep run` leaves it. Every tool gets the same files and computes mean and variance
of `step_s` for each cell; *every figure and doubt* is all that `sweep summarize` does. Each is run in a process of its
own, imports apart, the best of three.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from sweep.records.columns import SCHEMA

TRIALS, SAMPLES = 100_000, 100
SEEDS = 10
ROWS_PER_PART = 4096


def figures(quick: bool) -> Iterator[Figure]:
    trials = TRIALS // 10 if quick else TRIALS
    what = f"mean and variance of each cell, {trials:,} trials of {SAMPLES} samples"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), trials, SAMPLES)
        found = {name: measured(name, folder, 1 if quick else 3) for name in TOOLS}
    for name, (seconds, _, cells) in found.items():
        yield Figure(what, name, seconds, note=f"{cells:,} cells")
    others = [seconds for name, (seconds, _, _) in found.items() if not name.startswith(OURS)]
    yield target(what, 1.5 * min(others), note="half as much again as the quickest")
    for name, (_, peak_rss_bytes, _) in found.items():
        yield Figure("memory of it at its most", name, peak_rss_bytes, "B")


def write(folder: Path, trials: int, samples: int) -> None:
    """Parts of a few thousand records each, as folding leaves them; every list column filled."""
    random = np.random.default_rng(0)
    (folder / "records").mkdir(parents=True)
    for start in range(0, trials, ROWS_PER_PART):
        table = part(np.arange(start, min(trials, start + ROWS_PER_PART)), samples, random)
        sink = pa.BufferOutputStream()
        texts = [f.name for f in SCHEMA if pa.types.is_string(f.type)]
        pq.write_table(table, sink, compression="zstd", compression_level=1, use_dictionary=texts)
        data = sink.getvalue()
        (folder / "records" / f"{start:08d}-2-{zlib.crc32(data):08x}.parquet").write_bytes(data)


def part(trials: np.ndarray, samples: int, random: np.random.Generator) -> pa.Table:
    cells = trials // SEEDS
    steps = np.exp(random.normal(np.log(0.1), 0.02, len(trials) * samples))
    offsets = pa.array(np.arange(len(trials) + 1) * samples, pa.int32())
    known = {
        "cell_id": [f"{cell:012x}" for cell in cells],
        "trial_id": [f"{trial:016x}" for trial in trials],
        "trial_name": [
            f"torch==2.13.0/core/cpu/autograd/width={c}/s{t % SEEDS}" for c, t in zip(cells, trials, strict=True)
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
    arrays = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(len(trials), f.type) for f in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)


def with_pandas(folder: Path) -> int:
    import pandas as pd

    table = pd.read_parquet(folder / "records", columns=["cell_id", "step_s"])
    return len(table.explode("step_s").astype({"step_s": float}).groupby("cell_id")["step_s"].agg(["mean", "var"]))


def with_polars(folder: Path) -> int:
    import polars as pl

    rows = pl.scan_parquet(folder / "records" / "*.parquet").select("cell_id", "step_s").explode("step_s")
    step = pl.col("step_s")
    return len(rows.group_by("cell_id").agg(step.mean().alias("mean"), step.var().alias("variance")).collect())


def with_duckdb(folder: Path) -> int:
    import duckdb

    query = (
        "select cell_id, avg(s), var_samp(s) from (select cell_id, unnest(step_s) s from read_parquet(?)) group by all"
    )
    return len(duckdb.sql(query, params=[str(folder / "records" / "*.parquet")]).fetchall())


def with_sweep(folder: Path) -> int:
    import sweep

    return len([(summary.mean, summary.variance) for summary in sweep.load(folder).summary(metric="step_s")])


def with_sweep_in_full(folder: Path) -> int:
    import sweep
    from sweep.cli.answers import summary_row

    return len([summary_row(summary) for summary in sweep.load(folder).summary(metric="step_s")])


TOOLS: dict[str, Callable[[Path], int]] = {
    OURS: with_sweep,
    "DuckDB": with_duckdb,
    "Polars": with_polars,
    "pandas": with_pandas,
    f"{OURS}, every figure and doubt": with_sweep_in_full,
}

MODULES = {
    "DuckDB": ["duckdb"],
    "Polars": ["polars"],
    "pandas": ["pandas", "pyarrow.parquet"],
    OURS: ["sweep.analysis.run"],
    f"{OURS}, every figure and doubt": ["sweep.analysis.run", "sweep.cli.answers", "sweep.analysis.doubts"],
}


def timed(name: str, folder: Path) -> None:
    """Run one tool here, imports apart, and print seconds, memory and cells."""
    for module in MODULES[name]:
        importlib.import_module(module)
    start = time.perf_counter()
    cells = TOOLS[name](folder)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, cells]))


def measured(name: str, folder: str, repetitions: int) -> tuple[float, int, int]:
    """Seconds, peak memory in bytes and cells of the best of several runs, each in its own process."""
    script = (
        "import sys, pathlib; from benchmarks import summarize as s; s.timed(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, name, folder]
    found = [json.loads(peers.run(command, peers.HOUSE).output) for _ in range(repetitions)]
    seconds, peak_rss_bytes, cells = min(found)
    return seconds, peak_rss_bytes, cells
