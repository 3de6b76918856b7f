"""Write `docs/frameworks.md`: which versions and backends work here, found by trying them.

python docs/frameworks_table.py                                  # the page, from docs/frameworks.json
python docs/frameworks_table.py --try torch==1.4.0 chainer==7.8.1/ideep    # build, run one step, discard: those rows
python docs/frameworks_table.py --resolve torch==1.1.0           # only see what would be installed: those rows

A row is named by version and backend. A row once tried is not overwritten by what --resolve finds, unless that fails.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from packaging.version import Version

HERE = Path(__file__).resolve().parent
PAGE, DATA = HERE / "frameworks.md", HERE / "frameworks.json"
STEP, RESOLVE = "step", "resolve"  # how far a row was tried
LONGEST_REASON = 160

Row = dict[str, Any]

BEFORE = """\
# Frameworks that can be had
<!-- written by docs/frameworks_table.py from docs/frameworks.json, which it writes too when it tries versions -->

Each row was found by trying it on an x86-64 Linux machine without a GPU, with the recipe at the head of the framework's
file and nothing else:

- **runs**: the environment was built, the framework imported, and one step of the network gave the loss and the
  gradient norm of the reference;
- **resolves**: only the packages that would be installed were looked up (`sweep env build --dry-run`);
- **no**: it cannot be had or does not work, for the reason given.

Size is that of the environment on disk. On your own machine, `sweep env build --probe --discard torch==1.4.0` tries a
version and removes it again; `python docs/frameworks_table.py --try torch==1.4.0` refreshes its row here. What goes
into an environment: [environments](environments.md). GPUs have a page of their own: [gpu](gpu.md).
"""

AFTER = """
## What a backend is
An axis value, `backend: [default, …]`, with the framework's own words. One that a version lacks is an *exclusion* with
the reason where the version alone tells, and a record with status `unsupported` where only the build or the machine
does. What was in use is read back into the record: `framework_build`, `blas` and `threads`, and what each framework
tells in [columns of its own](results.md#of-single-frameworks-and-workloads).

| framework | backend | computes with | since |
|---|---|---|---|
| torch | `default` | what torch chooses: oneDNN for convolutions on the CPU, cuDNN on a GPU | |
| | `native` | its own kernels, oneDNN switched off | 1.3 |
| | `onednn` | oneDNN, or `unsupported` where the build has none | 1.0 |
| | `script` | the network through `torch.jit.script` | 1.2 |
| | `inductor` | network and loss through `torch.compile`, anew in every trial; `compile_s` tells how long | 2.0 |
| chainer | `default`, `numpy` | NumPy, whose BLAS is in the record | |
| | `ideep` | Intel's iDeep | 4.0, Python 3.6 and 3.7 |
| | `cupy` | CuPy, on a GPU | 2.0 |
| | `chainerx` | ChainerX, in a build of your own: no index has it, and building fetches sources | 6.0 |
| jax | `default` | two functions compiled as wholes, the loss and its vector-Jacobian product; `compile_s` | |
| | `eager` | operation by operation | |
| reference | `default` | NumPy by hand: the reference, not a contestant | |

`memory_format: channels_last` is a parameter, or an axis: torch from 1.5 on and JAX know it, the others refuse it.

## What to know before comparing
**torch before 0.4** is another dialect: Variables around tensors, losses of shape (1,), nothing broadcasts, no
`no_grad`, old-style functions. The adapter speaks it, and finds out by itself. No package index has these versions, so
a grid names a wheel (`environments: {torch==0.1.12.post2: {wheel: …}}`). Tests speak it to torch 1.0.1, from which
whatever came after 0.1.10 is hidden; what cannot be hidden, broadcasting for one, they do not see.
Its tensors on the CPU are copies of the batch's arrays, where later versions share their memory: shared, its backward
thread frees an array without the interpreter lock, and the process crashes. With `include_data` the copy is timed.

**iDeep's dropout** seeds its generator in every call with the clock's whole seconds: within one second, layers of the
same shape drop the same, and no seed makes it repeat. It costs what it costs, but training with it is another method.

**JAX** starts its threads when the first array is made, not when it is imported, so that trials can be forked. Its pool
on the CPU obeys the cores a trial is bound to, and takes as many threads as `threads` says; newer versions name them,
and there the number is read back.

**NumPy's BLAS is as old as NumPy.** NumPy 1.19.5, the newest that Chainer before 7 takes, brings OpenBLAS 0.3.13, which
takes CPUs that came later for a Prescott of 2004: on a Xeon with AVX-512 a product of matrices took four times what
it takes with the core to choose (0.159 s against 0.038 s of CPU time, 1500 x 1500, float32, 2026-11-25). Column
`blas` tells which core it took, and a summary of such trials says so. `OPENBLAS_CORETYPE=Haswell sweep run …` reaches
the trials, of every framework: choose a core that all of them know, or leave Chainer before 7 out of what you compare.

**The CPU builds of torch** on the index bring CUDA's libraries from 1.13 on. A build without is looked for first, and
used where there is one; the rows above say where there was none. It makes no difference to what runs on the CPU.
"""


def page(rows: Iterable[Row]) -> str:
    """The whole page."""
    rows = sorted(rows, key=_order)
    lines = [BEFORE.rstrip()]
    for name in sorted({_name(row) for row in rows}):
        lines += [
            "",
            f"## {name}",
            "| version | backend | on the CPU | Python | NumPy | size | tried | notes |",
        ]
        lines += ["|---|---|---|---|---|---:|---|---|"]
        lines += [_line(row) for row in rows if _name(row) == name]
    return "\n".join(lines) + "\n" + AFTER


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """`new` rows in place of `old` ones; a step that was run says more than a look at the index does."""
    kept = {_key(row): row for row in old}
    for row in new:
        known = kept.get(_key(row))
        if not (known and known["tried"] == STEP and row["tried"] == RESOLVE and row["works"]):
            kept[_key(row)] = row
    return sorted(kept.values(), key=_order)


def tried(named: str) -> Row:
    """Builds `torch==1.4.0` or `chainer==7.8.1/ideep`, runs a step, discards it."""
    ended = _sweep("--probe", "--discard", "--format", "json", *_asked(named))
    if ended.returncode:
        return _row(named, STEP, works=False, reason=_error(ended.stderr))
    (found,) = json.loads(ended.stdout)
    kept = {key: found[key] for key in ("python", "numpy", "size_bytes", "reason")}
    return _row(named, STEP, works=found["works"] == "yes", **kept)


def resolved(named: str) -> Row:
    """What would be installed for it."""
    ended = _sweep("--dry-run", *_asked(named))
    if ended.returncode:
        return _row(named, RESOLVE, works=False, reason=_error(ended.stderr))
    head, *packages = ended.stdout.splitlines()
    numpy = next((p.partition("==")[2] for p in packages if p.startswith("numpy==")), "")
    return _row(named, RESOLVE, works=True, python=head.rpartition(" ")[2], numpy=numpy)


def _row(named: str, how: str, *, works: bool, **facts: Any) -> Row:
    framework, _, backend = named.partition("/")
    row = {"framework": framework, "backend": backend or "default", "tried": how, "works": works}
    row |= {"python": "", "numpy": "", "size_bytes": 0, "reason": ""} | facts
    return row | {"date": dt.datetime.now(dt.UTC).date().isoformat()}


def _sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep", "env", "build", *arguments]
    print(" ".join(arguments), file=sys.stderr, flush=True)
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)


def _asked(named: str) -> list[str]:
    framework, _, backend = named.partition("/")
    return [framework, "--backend", backend or "default"]


def _error(said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return (errors or said.strip().splitlines() or ["it failed without a word"])[-1].removeprefix(
        "error: "
    )


def _line(row: Row) -> str:
    works = {STEP: "runs", RESOLVE: "resolves"}[row["tried"]] if row["works"] else "no"
    size = f"{row['size_bytes'] / 2**20:,.0f} MiB" if row["size_bytes"] else ""
    note = row["reason"].replace("|", "\\|")
    note = note if len(note) <= LONGEST_REASON else note[:LONGEST_REASON] + " …"
    version = row["framework"].partition("==")[2] or "any"
    cells = [version, row["backend"], works, row["python"], row["numpy"], size, row["date"], note]
    return "| " + " | ".join(cells) + " |"


def _name(row: Row) -> str:
    return str(row["framework"]).partition("==")[0]


def _key(row: Row) -> tuple[str, str]:
    return row["framework"], row["backend"]


def _order(row: Row) -> tuple[str, Version, str]:
    return _name(row), Version(row["framework"].partition("==")[2] or "0"), row["backend"]


def _refresh(named: Iterable[str], find: Callable[[str], Row]) -> None:
    """Row by row, so that what is known stays known when a later one is interrupted."""
    for each in named:
        write_rows(merged(read_rows(), [find(each)]))


def read_rows() -> list[Row]:
    """The rows of the data file."""
    return list(json.loads(DATA.read_text(encoding="utf-8"))) if DATA.exists() else []


def write_rows(rows: Iterable[Row]) -> None:
    """One row a line, so that a change shows as what it is."""
    lines = ",\n ".join(json.dumps(row) for row in rows)
    DATA.write_text(f"[{lines}]\n", encoding="utf-8")


def main() -> None:
    """Try what is asked for, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--try", dest="steps", nargs="+", default=[], metavar="NAME==VERSION[/BACKEND]"
    )
    parser.add_argument(
        "--resolve", dest="lookups", nargs="+", default=[], metavar="NAME==VERSION[/BACKEND]"
    )
    asked = parser.parse_args()
    _refresh(asked.steps, tried)
    _refresh(asked.lookups, resolved)
    PAGE.write_text(page(read_rows()), encoding="utf-8")


if __name__ == "__main__":
    main()
