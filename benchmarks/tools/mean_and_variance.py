"""Mean and variance of `step_s` for each cell of a run.

`mean_and_variance.py TOOL FOLDER` prints JSON: the seconds without imports, the peak memory of
the process in bytes, and the number of cells.
"""

import importlib
import json
import sys
import time
from pathlib import Path


def with_pandas(folder: Path) -> int:
    import pandas as pd

    table = pd.read_parquet(folder / "records", columns=["cell_id", "step_s"])
    return len(
        table.explode("step_s")
        .astype({"step_s": float})
        .groupby("cell_id")["step_s"]
        .agg(["mean", "var"])
    )


def with_polars(folder: Path) -> int:
    import polars as pl

    rows = (
        pl.scan_parquet(folder / "records" / "*.parquet")
        .select("cell_id", "step_s")
        .explode("step_s")
    )
    step = pl.col("step_s")
    return len(
        rows.group_by("cell_id")
        .agg(step.mean().alias("mean"), step.var().alias("variance"))
        .collect()
    )


def with_duckdb(folder: Path) -> int:
    import duckdb

    query = (
        "select cell_id, avg(s), var_samp(s) "
        "from (select cell_id, unnest(step_s) s from read_parquet(?)) group by all"
    )
    return len(duckdb.sql(query, params=[str(folder / "records" / "*.parquet")]).fetchall())


def with_sweep(folder: Path) -> int:
    import sweep

    return len(
        [
            (summary.mean, summary.variance)
            for summary in sweep.load(folder).summary(metric="step_s")
        ]
    )


def with_sweep_in_full(folder: Path) -> int:
    import sweep
    from sweep.cli.answers import summary_row

    return len([summary_row(summary) for summary in sweep.load(folder).summary(metric="step_s")])


MODULES = {
    "duckdb": ["duckdb"],
    "polars": ["polars"],
    "pandas": ["pandas", "pyarrow.parquet"],
    "sweep": ["sweep.analysis.run"],
    "sweep_in_full": ["sweep.analysis.run", "sweep.cli.answers", "sweep.analysis.warning_signs"],
}
name, folder = sys.argv[1:]
for module in MODULES[name]:
    importlib.import_module(module)
start = time.perf_counter()
cells = globals()[f"with_{name}"](Path(folder))
seconds = time.perf_counter() - start
peak_kib = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
print(json.dumps([seconds, peak_kib * 1024, cells]))
