"""Write `docs/results.md`: what a run leaves on disk, with its columns from the schema.

python docs/results_columns.py
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sweep import catalog
from sweep.records import columns

PAGE = Path(__file__).with_name("results.md")

BEFORE = """\
# Results on disk
<!-- written by docs/results_columns.py; the tables come from sweep/records/columns.py -->

    results/<name>/
      run.yaml               the grid as read, its hash, resolved versions of ranges, code version,
                             noise floor, why seeds ended
      plan.parquet           the planned trials, and the exclusions with reasons
      records/*.parquet      one row per trial
      environments/<id>.txt  the packages of each environment
      logs/<trial_id>.log    the output of each worker
      progress/*.json        what long trials report while they run
      driver.json            what the sweep reports while it runs; it stays if the sweep ends early
      checkpoints/<trial_id> the state of long trials that are unfinished
      quarantine/            parts that were found damaged

`--out` takes a folder or the URI of an object store (`s3://bucket/prefix`, `gs://…`, `abfs://…`),
and so does every command that reads:

    sweep run grid.yaml --out s3://lab/results/core-time
    sweep summarize s3://lab/results/core-time

The records alone are enough to analyse a run, and any reader of Parquet can read them:

    duckdb -c "select cell_name, count() from 'results/core-time/records/*.parquet' group by all"
    python -c "import pandas; print(pandas.read_parquet('results/core-time/records').cell_name)"
    python -c "import sweep; print(sweep.load('results/core-time').records)"

In the files, a trial that ran several times has several rows. The one that counts is `ok` if any
is, else the one with the highest `attempt`. `sweep.load(…)` returns one row per trial. If an axis
of your own was added later, its column is not in every part: use `union_by_name=true` in DuckDB.

## How parts are kept
A record is written under another name, synced and renamed, and the folder is synced, before the
next one is taken: a crash loses running trials, never one that had ended. Every 64 parts, or 16
MB of them, are folded into one, piece by piece. The new part is durable before the small ones are
deleted; a reader in between removes duplicates by trial, attempt and start. The last eight
hexadecimal digits of a part's name are the CRC-32 of its bytes. A part that is truncated or has a
flipped bit is named, left out when reading and moved to `quarantine/` by the next `sweep run`,
which runs those trials again.

One `sweep run` at a time writes to a folder. It holds a kernel lock, which ends with its process; a
second one is refused. Object stores have no locks. There, parts never overwrite each other, so that
two writers are safe, and at worst run a trial twice.

Records carry `schema_version`. This version of sweep reads records of schema {version} and older.
Newer ones are named and left out, and such a run is not written to. Schema 2 renamed the column
`foreign_ratio` to `contention_ratio` and the settings `gate_examples` and `tolerance` to
`parity_examples` and `parity_tolerance`. sweep shows older records under the new names; the files
of such a run have the former ones.

## Columns
Lists are marked `[]`. Every axis of a grid that is not named here has a column of its own name,
and every setting is in `settings`. All that the tables say is in the metadata of every file too,
of a single trial as of a folded one
(`pyarrow.parquet.read_schema(part).field("step_s").metadata`).

- **better**: which of two values is better, `less` or `more`. Verdicts follow it: more images per
  second are faster. If neither is better, there is no verdict, and `sweep compare --metric` says
  so and ends with 2.
- **one per**: what has one value of its own, and therefore counts as one replicate. A trial has
  many samples, and counts once, with their mean. A value per host is the same in all trials of a
  host (`host_id`), and the host counts once. Records of versions before `host_id` count once for
  each environment and node.
- **identity**: whether the column is part of what tells cells apart, or of what tells the trials
  of a cell apart. All others are results.

A workload or framework of your own states the same about its columns in its file
([plugins](plugins.md)). Without a statement, a column is better the less it is if its name ends in
`_s` or `_bytes`, and is one per trial, or per sample in a list.
"""

AFTER = """
## What counts
Summaries take trials with status `ok`. Samples whose `valid` is false, and whole trials whose times
are NaN, zero or negative, are left out with a note, never silently. `warmup_s` is kept and set
aside. `docs/statistics.md` describes how figures and verdicts are computed.

Rows that commands write as csv or json have the axes and parameters of their cell, and figures
under fixed names. An axis or parameter with the name of a figure becomes `axis_NAME` there, and
in tables: `samples` is the number of samples, `axis_samples` the parameter.

Text in csv that a spreadsheet would run as a formula, as an axis value `=1+1`, starts with an
apostrophe. `--format csv-raw` writes every cell unchanged. Numbers are numbers in both.

## Exit codes
| code | means |
|---:|---|
| 0 | all is well |
| 1 | some trials failed, a claim is refuted, or something is slower than its baseline |
| 2 | a mistake in the command or the grid |
| 3 | nothing can be said yet: an inconclusive comparison or claim, a step of a search |
| 4 | records are missing |
| 5 | an environment, a cluster, or the storage of the results is not available |
| 130 | ended by Ctrl-C; what was finished is safe |
| 128 + n | the same by signal n: 143 SIGTERM, 129 SIGHUP, 138 SIGUSR1, 140 SIGUSR2, 152 SIGXCPU |

If several apply, the first in the order 1, 4, 3 counts.
"""

SECTIONS = {
    "Which trial": "run",
    "How it went": "status",
    "Where and on what": "node",
    "Where on a GPU, as NVML tells it": "gpu_uuid",
    "Whether it computed the same": "loss_check",
    "Samples": "forward_s",
    "Training": "iteration",
    "Inference": "images_per_s",
    "A step of one's own": "first_step_s",
}

HEAD = (
    "| column | type | unit | better | one per | identity | meaning |",
    "|---|---|---|---|---|---|---|",
)


def page() -> str:
    """Return the whole page."""
    titles = {first: title for title, first in SECTIONS.items()}
    lines = [BEFORE.format(version=columns.SCHEMA_VERSION).rstrip()]
    for field in columns.SCHEMA:
        if field.name in titles:
            lines += ["", f"### {titles[field.name]}", *HEAD]
        about = columns.ColumnMetadata.of_field(field)
        better = "" if about.direction == "none" else about.direction
        cells = [
            f"`{field.name}`",
            kind(field.type),
            about.unit,
            better,
            about.per,
            about.identity,
            about.meaning,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *of_single_files()]) + "\n" + AFTER


def of_single_files() -> list[str]:
    """Return the table of columns that single files of the tree state."""
    every = [*catalog.frameworks().values(), *catalog.workloads().values()]
    files = [each for each in every if each.path.is_relative_to(catalog.WORKLOADS)]
    lines = [
        "",
        "### Of single frameworks and workloads",
        "| column | of | one per | meaning |",
        "|---|---|---|---|",
    ]
    for file in files:
        for name, facts in file.columns.items():
            lines.append(
                f"| `{name}` | {file.name} | {facts.get('per', 'trial')} | {facts['meaning']} |"
            )
    return lines


def kind(type_: pa.DataType) -> str:
    """Return the name of a type for readers."""
    if pa.types.is_list(type_):
        return f"{kind(type_.value_type)}[]"
    if pa.types.is_timestamp(type_):
        return "time"
    return {"string": "text", "int64": "integer", "double": "number", "bool": "flag"}[str(type_)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
