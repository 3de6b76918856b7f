"""Write `docs/frameworks.md`: which versions and backends work, found by trying them.

    python docs/frameworks_table.py                         # write the page from frameworks.json
    python docs/frameworks_table.py --try torch==1.4.0 chainer==7.8.1/ideep
                                                # build these, run one step, discard; update rows
    python docs/frameworks_table.py --resolve torch==1.1.0  # only resolve these; update rows

A row is named by version and backend. The result of --resolve does not replace that of --try,
unless resolving fails.
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
# Frameworks that can be used
<!-- written by docs/frameworks_table.py from docs/frameworks.json, which it updates by trying -->

Each row was tried on an x86-64 Linux machine without a GPU, with the recipe at the head of the
framework's file and nothing else:

- **runs**: the environment was built, the framework imported, and one step of the network gave the
  loss and the gradient norm of the reference;
- **resolves**: only the packages that would be installed were looked up
  (`sweep env build --dry-run`);
- **no**: it is not available or does not work, for the given reason.

Size is that of the environment on disk. On your own machine,
`sweep env build --probe --discard torch==1.4.0` tries a version and removes it again;
`python docs/frameworks_table.py --try torch==1.4.0` updates its row here. What goes into an
environment: [environments](environments.md). GPUs have a page of their own: [gpu](gpu.md).
"""

AFTER = """
## What a backend is
A backend is a value of the axis `backend: [default, …]`, in the framework's own words. One that a
version lacks is an *exclusion* with the reason, if the version alone decides. If the build or the
machine decides, the record has the status `unsupported`. What was in use is read back into the
record: `framework_build`, `blas` and `threads`, and each framework's
[own columns](results.md#of-single-frameworks-and-workloads).

| framework | backend | computes with | since |
|---|---|---|---|
| torch | `default` | torch's choice: oneDNN for convolutions on the CPU, cuDNN on a GPU | |
| | `native` | its own kernels, oneDNN switched off | 1.3 |
| | `onednn` | oneDNN, or `unsupported` if the build has none | 1.0 |
| | `script` | the network through `torch.jit.script` | 1.2 |
| | `inductor` | network and loss through `torch.compile` in every trial; see `compile_s` | 2.0 |
| chainer | `default`, `numpy` | NumPy, whose BLAS is in the record | |
| | `ideep` | Intel's iDeep | 4.0, Python 3.6 and 3.7 |
| | `cupy` | CuPy, on a GPU | 2.0 |
| | `chainerx` | ChainerX, in a build of your own: no index has it | 6.0 |
| jax | `default` | two compiled functions: the loss, its vector-Jacobian product; `compile_s` | |
| | `eager` | operation by operation | |
| reference | `default` | NumPy without a framework: the reference, not a competitor | |

`memory_format: channels_last` is a parameter, or an axis: torch from 1.5 on and JAX support it, the
others refuse it.

## What to know before comparing
**torch before 0.4** has another interface: Variables around tensors, losses of shape (1,), no
broadcasting, no `no_grad`, old-style functions. The adapter detects and supports it. No package
index has these versions, so a grid names a wheel
(`environments: {torch==0.1.12.post2: {wheel: …}}`). Tests run it on torch 1.0.1, from which
everything newer than 0.1.10 is hidden, except what cannot be hidden, such as broadcasting.
Its tensors on the CPU are copies of the batch's arrays; later versions share the arrays' memory. If
the memory were shared, its backward thread would free an array without the interpreter lock, and
the process would crash. With `include_data` the copy is timed.

**iDeep's dropout** seeds its generator in every call with the clock's whole seconds. Within one
second, layers of the same shape drop the same units, and no seed makes it repeatable. Its time is
right, but training with it is another method.

**JAX** starts its threads when the first array is made, and not when it is imported, so that trials
can be forked. Its thread pool on the CPU stays on the trial's cores and has the size of the
parameter `threads`. Newer versions name the threads, so that their number is read back.

**NumPy's BLAS is as old as NumPy.** NumPy 1.19.5, the newest for Chainer before 7, contains
OpenBLAS 0.3.13, which takes newer CPUs for a Prescott of 2004. On a Xeon with AVX-512, a matrix
product took four times as long as with the right core (0.159 s against 0.038 s of CPU time, 1500
x 1500, float32, 2026-11-25). The column `blas` names the core, and a summary of such trials
warns. `OPENBLAS_CORETYPE=Haswell sweep run …` reaches the trials of every framework: choose a
core that all of them know, or leave Chainer before 7 out of the comparison.

**The CPU builds of torch** on the index contain CUDA's libraries from 1.13 on. A build without them
is looked for first and used if there is one; the rows above say where there was none. It makes no
difference to what runs on the CPU.
"""


def page(rows: Iterable[Row]) -> str:
    """Return the whole page."""
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
    """Return `old` rows with `new` ones in their place; a step that ran outweighs a look-up."""
    kept = {_key(row): row for row in old}
    for row in new:
        known = kept.get(_key(row))
        if not (known and known["tried"] == STEP and row["tried"] == RESOLVE and row["works"]):
            kept[_key(row)] = row
    return sorted(kept.values(), key=_order)


def tried(named: str) -> Row:
    """Build `torch==1.4.0` or `chainer==7.8.1/ideep`, run a step, discard it; return the row."""
    ended = _sweep("--probe", "--discard", "--format", "json", *_arguments(named))
    if ended.returncode:
        return _row(named, STEP, works=False, reason=_error(ended.stderr))
    (probe,) = json.loads(ended.stdout)
    facts = {key: probe[key] for key in ("python", "numpy", "size_bytes", "reason")}
    return _row(named, STEP, works=probe["works"] == "yes", **facts)


def resolved(named: str) -> Row:
    """Return the row of what would be installed."""
    ended = _sweep("--dry-run", *_arguments(named))
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


def _arguments(named: str) -> list[str]:
    framework, _, backend = named.partition("/")
    return [framework, "--backend", backend or "default"]


def _error(output: str) -> str:
    """Return the last error in a command's output, or its last line."""
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["it failed without a message"])[-1]
    return last.removeprefix("error: ")


def _line(row: Row) -> str:
    works = "no"
    if row["works"]:
        works = {STEP: "runs", RESOLVE: "resolves"}[row["tried"]]
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
    """Update row by row, so that an interruption loses one row at most."""
    for each in named:
        write_rows(merged(read_rows(), [find(each)]))


def read_rows() -> list[Row]:
    """Return the rows of the data file."""
    return list(json.loads(DATA.read_text(encoding="utf-8"))) if DATA.exists() else []


def write_rows(rows: Iterable[Row]) -> None:
    """Write one row per line, so that changes are easy to review."""
    lines = ",\n ".join(json.dumps(row) for row in rows)
    DATA.write_text(f"[{lines}]\n", encoding="utf-8")


def main() -> None:
    """Try what the arguments name, then write the page."""
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
