"""Made-up records: trials that nobody ran, for tests of what comes after running."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.records.facts import RunFacts
from sweep.records.results import Record, Results
from sweep.records.rows import table_of

AXES = {
    "framework": "torch==2.13.0",
    "workload": "core",
    "backend": "default",
    "backward": "autograd",
} | {
    "device": "cpu",
    "batch_exponent": 5,
}


def record(
    seed: int = 0,
    *,
    step_s: Any = None,
    mean_s: float = 0.1,
    status: str = "ok",
    also: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A record of an AlexNet step; `changes` are axes, parameters or columns, `also` has more settings."""
    own = {} if changes.get("workload") == "train" else {"samples": 30}
    settings = (
        own
        | {"threads": 2}
        | AXES
        | {k: v for k, v in changes.items() if k in AXES or k == "epochs"}
    )
    settings |= also or {}
    cell_id = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    framework, _, version = settings["framework"].partition("==")
    name = "{framework}/{workload}/{device}/{backward}/b{batch_exponent}".format(**settings)
    step = samples(seed, mean_s, cell_id) if step_s is None else step_s
    columns = {
        "run": "made-up",
        "code_version": "0",
        "cell_id": cell_id,
        "cell_name": name,
        "trial_id": f"{cell_id}-{seed}",
        "trial_name": f"{name}/s{seed}",
        "settings": settings | {"seed": seed},
        **settings,
        "framework": framework,
        "version": version,
        "batch_size": 2 ** settings["batch_exponent"],
        "seed": seed,
        "block": seed,
        "position": seed,
        "status": status,
        "started_at": 1_700_000_000 + seed,
        "wall_s": 5.0,
        "node": "here",
        "cores": [0, 1],
        "attempt": 1,
        "error": "" if status == "ok" else f"it is {status}",
    }
    for name in {"samples", "warmup"} & columns.keys():
        del columns[name]
    if status == "ok":
        columns |= {
            "step_s": step,
            "forward_s": [s / 3 for s in step],
            "backward_s": [s * 2 / 3 for s in step],
        }
        columns |= {"warmup_s": [s * 2 for s in step[:3]], "valid": [True] * len(step)}
    return columns | {k: v for k, v in changes.items() if k not in AXES and k != "epochs"}


def samples(seed: int, mean_s: float, salt: str = "", count: int = 30) -> list[float]:
    """Times with 1 % of noise between processes and 2 % within."""
    generator = np.random.default_rng([seed, *salt.encode()])
    level = mean_s * np.exp(generator.normal(0, 0.01))
    return [float(s) for s in level * np.exp(generator.normal(0, 0.02, count))]


def training(seed: int = 0, epochs: int = 20, **changes: Any) -> Record:
    """A record of a training whose loss falls; an epoch takes a second."""
    elapsed = np.cumsum(samples(seed, 0.25, "training", 4 * epochs))
    falling = np.exp(np.random.default_rng(seed).normal(0, 0.05, len(elapsed))) / np.arange(
        1, len(elapsed) + 1
    )
    columns = {
        "iteration": [10 * (i + 1) for i in range(len(elapsed))],
        "elapsed_s": elapsed.tolist(),
    }
    columns |= {"loss": falling.tolist(), "epoch_s": samples(seed, 1.0, "epochs", epochs)}
    validated = {
        "epoch": list(range(1, epochs + 1)),
        "elapsed_s": elapsed[3::4].tolist(),
        "loss": falling[3::4].tolist(),
    }
    validated["pck"] = [min(1.0, epoch / epochs) for epoch in range(epochs)]
    columns |= {f"validation_{name}": values for name, values in validated.items()}
    of_steps = ("step_s", "forward_s", "backward_s", "warmup_s", "valid")
    return record(seed, workload="train", epochs=epochs, **columns | changes) | dict.fromkeys(
        of_steps
    )


class Planned(NamedTuple):
    """A planned trial, as far as a run keeps it."""

    id: str
    name: str


def keep(
    folder: Any, records: Iterable[Record], grid: str = "name: made-up\n", **facts: Any
) -> Results:
    """A run on disk with these records."""
    with Results(folder).open(RunFacts(name="made-up", grid=grid, **facts)) as results:
        for each in records:
            results.append(each)
    return Results(folder)


def keep_at_once(folder: Path, records: Iterable[Record]) -> None:
    """The same in a single part, without making each record safe before the next."""
    (folder / "records").mkdir(parents=True)
    pq.write_table(
        pa.concat_tables([table_of(each) for each in records]), folder / "records" / "all.parquet"
    )
