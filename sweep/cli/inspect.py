"""The commands `sweep ls` and `show`: the runs that exist, and all that is known of one trial."""

from __future__ import annotations

import datetime as dt
import fnmatch
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli import output, paths, runs
from sweep.cli import poses as pictures
from sweep.cli.tables import Column, Format, emit, plain
from sweep.errors import FAILED, SweepError, nearest
from sweep.status import Status, without_times

if TYPE_CHECKING:
    from sweep.analysis.run import Run

_LOG_LINES = 40
_NAMED = 5  # trials that an error names
_LONGEST_LIST = 16  # values that are shown one by one
# Names that are compared with a misspelt one: comparison takes seconds for a million.
_MOST_COMPARED = 10_000

_Format = Annotated[Format, typer.Option("--format", help="How to write the rows.")]


def ls(
    where: Annotated[
        str, typer.Argument(metavar="[WHERE]", help="A folder or URI that holds runs.")
    ] = runs.RESULTS,
    form: _Format = Format.TABLE,
) -> int:
    """List runs, the newest first.

    Example: `sweep ls s3://lab/results`
    """
    rows = [_run_row(where, name, at) for name, at in runs.list_runs(where)]
    if not rows and form is Format.TABLE:
        output.say(f"no runs under {where}; start one with sweep run")
        return 0
    columns = [
        Column("run", [row["run"] for row in rows], is_text=True),
        Column("trials", [str(row["trials"]) for row in rows]),
        Column("ok", [str(row["ok"]) for row in rows]),
        Column("failed", [str(row["failed"]) for row in rows]),
        Column("missing", [str(row["missing"]) for row in rows]),
        Column("changed", [row["changed"][:16].replace("T", " ") for row in rows], is_text=True),
    ]
    emit(form, columns, rows)
    return 0


_Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A folder, a URI, or a name under results/.")
]
_Trial = Annotated[
    str,
    typer.Argument(metavar="TRIAL", help="Its id, the beginning of its id, its name, or a glob."),
]
_Log = Annotated[bool, typer.Option("--log", help="Print the whole log and nothing else.")]
_Packages = Annotated[
    bool, typer.Option("--packages", help="Print the packages of its environment.")
]
_Poses = Annotated[
    Path | None,
    typer.Option(
        parser=paths.path,
        metavar="FILE",
        help="Write a picture of what a trained network predicts, beside what is true.",
    ),
]
_RecordFormat = Annotated[Format, typer.Option("--format", help="table or json.")]


def show(
    run: _Run,
    trial: _Trial,
    log: _Log = False,
    packages: _Packages = False,
    poses: _Poses = None,
    form: _RecordFormat = Format.TABLE,
) -> int:
    """Show all that is known of a trial, with its log.

    Example: `sweep show core-time 'torch==2.13.0/core/cpu/autograd/b5/s0'`
    """
    loaded = runs.load(run)
    attempts = loaded.results.history(find_trial(loaded, trial))
    runs.warn_damage(loaded)
    if not attempts:
        raise SweepError(
            f"the records of {trial} cannot be read", "sweep run on its grid runs it again"
        )
    # The last attempt counts; earlier ones are listed as superseded.
    record = attempts[-1]
    if log:
        output.emit(loaded.results.log(record["trial_id"]))
    elif packages:
        output.emit(loaded.results.environment(record["environment_id"] or ""))
    elif poses:
        pictures.draw(record, poses)
        output.emit(str(poses))
    elif form is Format.JSON:
        output.emit(json.dumps(plain(record), indent=1, default=str, ensure_ascii=False))
    else:
        lines = _record_lines(record) + _attempt_lines(attempts)
        lines += _log_lines(loaded, record["trial_id"])
        output.emit("\n".join(lines))
    return 0 if record["status"] == Status.OK else FAILED


def _run_row(where: str, name: str, at: float) -> dict[str, Any]:
    from sweep.analysis.run import Run
    from sweep.records.storage import Storage

    run = Run(Storage(where).child(name))
    records = run.results.records(["trial_id", "status"])
    statuses, missing = Counter(records["status"].to_pylist()), len(run.without_record(records))
    runs.warn_damage(run)
    return {
        "run": name,
        "trials": statuses.total() + missing,
        "ok": statuses[Status.OK],
        "failed": without_times(statuses),
        "missing": missing,
        "changed": dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds"),
    }


def find_trial(run: Run, wanted: str) -> str:
    """Return the id of the one trial meant by an id, the beginning of an id, a name, or a glob."""
    table = run.results.records(["trial_id", "trial_name"])
    pairs = list(zip(table["trial_id"].to_pylist(), table["trial_name"].to_pylist(), strict=True))
    # An exact id or name wins: it may also be the beginning of an id, or match others as a glob.
    exact = [pair for pair in pairs if wanted in pair]
    chosen = exact or [pair for pair in pairs if _matches(*pair, wanted)]
    if not chosen:
        if wanted in run.missing:
            raise SweepError(
                f"{wanted} is planned and has no record yet", "sweep run on its grid runs it"
            )
        names = [name for _, name in pairs if name]
        raise SweepError(f"no trial is {wanted!r}", _similar(wanted, names))
    if len(chosen) > 1:
        some = ", ".join(str(name) for _, name in chosen[:_NAMED])
        raise SweepError(f"{wanted!r} may be any of {len(chosen)} trials", f"name one: {some}")
    return str(chosen[0][0])


def _matches(trial_id: str, name: str | None, wanted: str) -> bool:
    return trial_id.startswith(wanted) or bool(name and fnmatch.fnmatchcase(name, wanted))


def _similar(wanted: str, names: Sequence[str]) -> str:
    """Return a hint: the nearest name, or what names of trials look like."""
    hint = nearest(wanted, names[:_MOST_COMPARED])
    # nearest() lists all names if none is similar, which is too long here.
    is_short = len(names) <= _NAMED or not hint.startswith("known")
    return hint if is_short else f"trials are named as {names[0]}, and a glob will do, as '*/s0'"


def _record_lines(record: Mapping[str, Any]) -> list[str]:
    """Return one line per fact of a record, with samples summarised."""
    facts: dict[str, str] = {}
    for name, value in record.items():
        if value is None or value in ("", []) or name in ("settings", "machine"):
            continue
        facts[name] = _samples(name, value) if _is_samples(value) else _fact(name, value)
    # Most settings are columns too: only the others follow.
    for name in ("settings", "machine"):
        for key, value in json.loads(record[name] or "{}").items():
            if key not in facts:
                facts[f"{name}.{key}"] = str(value)
    width = max(map(len, facts))
    return [f"{name.ljust(width)}  {_indented(text, width)}" for name, text in facts.items()]


def _fact(name: str, value: Any) -> str:
    from sweep.analysis.quantities import quantity
    from sweep.records.columns import unit

    if isinstance(value, list) and len(value) == 1:
        return _fact(name, value[0])
    if isinstance(value, float) or (isinstance(value, int) and unit(name) == "B"):
        return quantity(value, unit(name))
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        return f"{len(value)} values, {value[0]} … {value[-1]}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_samples(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and isinstance(value[0], float | bool)


def _samples(name: str, values: Sequence[Any]) -> str:
    """Return a summary of samples.

    An example: `100 values, 12.1 ms … 14.9 ms, median 12.3 ms; flat, worth 84 independent ones`.
    """
    from sweep.analysis import statistics, steadiness
    from sweep.analysis.quantities import quantity
    from sweep.records.columns import unit

    if isinstance(values[0], bool):
        return f"{sum(map(bool, values))} of {len(values)}"
    present = sorted(value for value in values if value is not None)
    low, median, high = (
        quantity(present[index], unit(name)) for index in (0, len(present) // 2, -1)
    )
    summary = f"{len(values)} values, {low} … {high}, median {median}"
    if name != "step_s" or len(present) < len(values):
        return summary
    worth = statistics.effective_sample_size(values)
    kind = steadiness.steady_state(values).kind
    return f"{summary}; {kind}, worth {worth:.0f} independent ones"


def _indented(text: str, width: int) -> str:
    return text.strip().replace("\n", f"\n{' ' * (width + 2)}")


def _attempt_lines(attempts: Sequence[Mapping[str, Any]]) -> list[str]:
    from sweep.analysis.failures import cause

    if len(attempts) < 2:
        return []
    superseded = [
        f"  attempt {row['attempt']}: {row['status']}: {cause(row['error'] or '')}"
        for row in attempts[:-1]
    ]
    return ["", "superseded records:", *superseded]


def _log_lines(run: Run, trial_id: str) -> list[str]:
    lines = run.results.log(trial_id).rstrip().splitlines()
    if not lines:
        return []
    cut = ""
    if len(lines) > _LOG_LINES:
        cut = f", its last {_LOG_LINES} lines of {len(lines)}; all with --log"
    return ["", f"log{cut}:", *(f"  {line}" for line in lines[-_LOG_LINES:])]
