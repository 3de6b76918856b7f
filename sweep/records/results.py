"""Records: one row per trial, in Parquet parts that are written whole, folded as they grow, and read without doubles.

Folding writes many parts into one and then deletes them: in between a record exists twice, and reading knows it by its
identity; a part that goes away while a reader reads is found again in the part it was folded into.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sweep.credentials import redacted
from sweep.errors import SweepError, Unavailable
from sweep.records import checked
from sweep.records import facts as run_facts
from sweep.records.columns import SCHEMA
from sweep.records.driver import Driver
from sweep.records.facts import RunFacts
from sweep.records.layout import (
    DRIVER_FILE,
    ENVIRONMENTS,
    LOGS,
    PLAN_FILE,
    PROGRESS,
    QUARANTINE,
    RECORDS,
    RUN_FILE,
)
from sweep.records.locks import Lock
from sweep.records.parts import (
    IDENTITY,
    LAST_LEVEL,
    Damaged,
    NewerSchema,
    Part,
    concatenated,
    decoded,
    distinct,
    encoded,
    gathered,
    newest,
    schema_of,
    unified,
)
from sweep.records.rows import table_of
from sweep.records.storage import Entry, NoFile, Storage
from sweep.status import Status

Record = dict[str, Any]
Each = Callable[[pa.Table], pa.Table]

_FOLD_COUNT = 64
_FOLD_BYTES = 16 * 2**20  # of parts that are fewer than that, but large
_READERS_OF_A_STORE = 16
_LONGEST_ERROR = 20_000  # letters of an error that are kept, its end: the log holds the rest


class Damage(NamedTuple):
    """A part that cannot be read, and why."""

    part: str
    reason: str


class Results:
    """The records of one run, in a folder or an object store; reading never changes anything there."""

    def __init__(self, place: str | Path | Storage) -> None:
        self.storage = place if isinstance(place, Storage) else Storage(place)
        self.damaged: list[Damage] = []

    def __str__(self) -> str:
        return str(self.storage)

    def exists(self) -> bool:
        return self.storage.exists(RUN_FILE) or bool(self._paths())

    def records(
        self,
        columns: Iterable[str] | None = None,
        null_if_true: Collection[str] = (),
        each: Each | None = None,
    ) -> pa.Table:
        """One row per trial: its newest record, an `ok` one rather than any other; `columns` are all that is read.

        Parts that cannot be read are left out and named in `damaged`. Columns of flags in `null_if_true` are null
        instead where all of a part are true and it says so: they need not be read. `each` is given the rows of every
        part as they are read, and returns the same rows in the form in which they are to be held.
        """
        wanted = None if columns is None else list(dict.fromkeys([*columns, *IDENTITY]))
        table = newest(self.attempts(wanted, null_if_true=null_if_true, each=each))
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def history(self, trial_id: str) -> list[Record]:
        """Every record of one trial, the one that counts last; empty where it has none."""
        rows = [
            row
            for table in distinct([self.attempts(trial_id=trial_id)])
            for row in table.to_pylist()
        ]
        return sorted(rows, key=lambda row: (row["status"] == Status.OK, row["attempt"] or 1))

    def attempts(
        self,
        columns: Iterable[str] | None = None,
        trial_id: str | None = None,
        null_if_true: Collection[str] = (),
        each: Each | None = None,
    ) -> pa.Table:
        """Every record (of one trial), superseded ones too; one may appear twice while parts are being folded."""
        wanted = None if columns is None else list(dict.fromkeys(columns))
        tables: dict[str, pa.Table] = {}
        self.damaged = [each for each in self.damaged if not each.part.startswith(f"{RECORDS}/")]
        while True:  # until every part that is there at one moment has been read: meanwhile some may be folded
            there = self._paths()
            unread = [path for path in there if path not in tables]
            with ThreadPoolExecutor(_readers(self.storage)) as pool:
                found = list(
                    pool.map(
                        lambda path: self._table(path, wanted, trial_id, null_if_true, each), unread
                    )
                )
            tables |= {
                path: table for path, table in zip(unread, found, strict=True) if table is not None
            }
            if all(path in tables for path in there):
                return concatenated([tables[path] for path in sorted(tables)], wanted)

    def statuses(self) -> dict[str, tuple[str, int]]:
        """For each trial that has a record, its status and attempt."""
        columns = self.records(IDENTITY).to_pydict()
        return dict(
            zip(
                columns["trial_id"],
                zip(columns["status"], columns["attempt"], strict=True),
                strict=True,
            )
        )

    def ended(self, trial_ids: Iterable[str]) -> Counter[str]:
        """How many of these trials ended with each status."""
        known = self.records(["trial_id", "status"])
        wanted = pc.is_in(known["trial_id"], value_set=pa.array(trial_ids, pa.string()))
        counted = pc.value_counts(known["status"].filter(wanted)).to_pylist()
        return Counter({each["values"]: each["counts"] for each in counted})

    def facts(self) -> RunFacts:
        """What `run.yaml` says; raises SweepError where there is none or it cannot be read."""
        return run_facts.read(self.storage)

    def plan(self) -> pa.Table:
        """The planned trials and the exclusions: trial_id, trial_name, excluded (the reason, or null)."""
        try:
            return run_facts.read_plan(self.storage)
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            NoFile,
        ) as error:  # written anew by the next run
            self._name_damage(PLAN_FILE, f"cannot be read: {str(error).partition(chr(10))[0]}")
            return run_facts.NOTHING_PLANNED

    def log(self, trial_id: str) -> str:
        """The log of a trial, empty where there is none."""
        return self._text(f"{LOGS}/{_file_name(trial_id)}.log")

    def environment(self, environment_id: str) -> str:
        """The packages of an environment, empty where they are not known."""
        return (
            self._text(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt") if environment_id else ""
        )

    def progress(self) -> dict[str, dict[str, Any]]:
        """What running trials say of themselves now, by trial id."""
        said = {}
        for entry in self.storage.files(PROGRESS):
            try:
                said[Path(entry.path).stem] = checked.json_object(self.storage.text(entry.path))
            except (FileNotFoundError, NoFile):  # it has just ended
                continue
            except ValueError as error:
                self._name_damage(entry.path, f"no progress of a trial: {error}")
        return said

    def driver(self) -> Driver | None:
        """What the sweep that runs here says of itself, or last said before it ended badly; None where there is none.

        None too, and named in `damaged`, where that cannot be read.
        """
        try:
            return Driver.parsed(self.storage.text(DRIVER_FILE))
        except FileNotFoundError:
            return None
        except NoFile as error:
            self._name_damage(DRIVER_FILE, error.reason)
        except ValueError as error:
            self._name_damage(DRIVER_FILE, str(error))
        return None

    def _text(self, path: str) -> str:
        """The text of a file beside the records; empty where there is none, or none that can be read."""
        try:
            return self.storage.text(path)
        except FileNotFoundError:
            return ""
        except NoFile as error:
            self._name_damage(path, error.reason)
            return ""

    def _name_damage(self, path: str, reason: str) -> None:
        damage = Damage(path, reason)
        if damage not in self.damaged:
            self.damaged.append(damage)

    @contextlib.contextmanager
    def open(self, facts: RunFacts) -> Iterator[Writer]:
        """Take the run for writing: one writer at a time on disk, and `run.yaml` says what it runs.

        On an object store there is no lock: two writers are safe there, since no part is ever overwritten.
        """
        lock = (
            Lock(self.storage.folder / ".lock") if self.storage.folder else contextlib.nullcontext()
        )
        with lock:
            writer = Writer(self.storage)
            writer.begin(facts)
            try:
                yield writer
            finally:
                writer.end()

    def _paths(self) -> list[str]:
        return [path for path in self.storage.names(RECORDS) if path.endswith(".parquet")]

    def _table(
        self,
        path: str,
        columns: list[str] | None,
        trial_id: str | None,
        null_if_true: Collection[str],
        each: Each | None,
    ) -> pa.Table | None:
        """The rows of a part, none of a damaged one; None where it has been folded since it was listed."""
        try:
            table = decoded(Part.of(Entry(path, 0)), self.storage.read(path), columns, null_if_true)
        except FileNotFoundError:
            return None
        except NoFile as error:
            self._name_damage(path, error.reason)
            return SCHEMA.empty_table()
        except Damaged as damage:
            self._name_damage(path, str(damage))
            return SCHEMA.empty_table()
        table = table if trial_id is None else table.filter(pc.field("trial_id") == trial_id)
        return each(table) if each else table


class Writer(Results):
    """Results held for writing: `append` is durable when it returns."""

    def begin(self, facts: RunFacts) -> None:
        for folder in ("", RECORDS):
            self.storage.sweep_out(folder)
        self._telling = {
            name for name in self._stems(PROGRESS) if re.fullmatch(checked.FILE_NAME, name)
        }
        for trial_id in list(self._telling):  # of a sweep that was killed
            self._fall_silent(trial_id)
        self._quarantine()
        started_at = facts.started_at or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._facts = dataclasses.replace(facts, started_at=started_at)
        self.restate()
        parts = self._parts()
        self._sequence = max((part.sequence for part in parts), default=0)
        self._foldable = [part for part in parts if part.foldable]
        self._recent: dict[
            str, pa.Table
        ] = {}  # what was appended, kept so that folding need not read it again
        self._environments = self._stems(ENVIRONMENTS)

    def _stems(self, folder: str) -> set[str]:
        return {Path(entry.path).stem for entry in self.storage.files(folder)}

    def restate(self, **changes: Any) -> None:
        """Write `run.yaml` and the plan anew, with these facts changed."""
        self._facts = dataclasses.replace(self._facts, **changes)
        run_facts.write(self.storage, self._facts)

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record for good, as `append_together`."""
        self.append_together([record])

    def append_together(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep records for good, in one part. Their `log` (text) and `packages` (list) become files of their own."""
        rows = [self._row(record) for record in records]
        tables = [table_of(row) for row in rows]
        table = tables[0] if len(tables) == 1 else concatenated(tables, None)
        part = self._write(encoded(table.schema, [table], fast=True), level=0)
        if part.foldable:
            self._foldable.append(part)
            self._recent[part.path] = table
            self._fold_full_levels()
        for row in rows:
            self._fall_silent(row["trial_id"])

    def _row(self, record: Mapping[str, Any]) -> Record:
        """A record as a row, what becomes a file of its own written."""
        row = dict(record)
        log, packages = row.pop("log", None), row.pop("packages", None)
        if isinstance(row.get("error"), str):
            row["error"] = redacted(row["error"][-_LONGEST_ERROR:])
        if log:
            text = redacted(str(log)).encode("utf-8", errors="replace")
            self.storage.write(f"{LOGS}/{_file_name(row['trial_id'])}.log", text, durable=False)
        if packages:
            self.keep_environment(row["environment_id"], packages)
        return row

    def tell(self, trial_id: str, facts: Mapping[str, Any]) -> None:
        """Say how far a running trial is, for `progress`; forgotten when its record comes."""
        self._telling.add(trial_id)
        self.storage.write(
            f"{PROGRESS}/{_file_name(trial_id)}.json", json.dumps(facts).encode(), durable=False
        )

    def keep_environment(self, environment_id: str, packages: Iterable[str]) -> None:
        """Keep the package list of an environment, once."""
        if environment_id not in self._environments:
            text = "".join(f"{package}\n" for package in packages)
            self.storage.write(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt", text.encode())
            self._environments.add(environment_id)

    def end(self) -> None:
        """Fold what is left to fold, and write again what was deleted meanwhile; nothing runs any more."""
        for trial_id in list(self._telling):
            self._fall_silent(trial_id)
        if not all(
            self.storage.exists(path) for path in (RUN_FILE, PLAN_FILE)
        ):  # deleted while the sweep ran
            self.restate()
        self.fold_all()

    def _fall_silent(self, trial_id: str) -> None:
        if trial_id in self._telling:
            self._telling.discard(trial_id)
            self.storage.delete(f"{PROGRESS}/{_file_name(trial_id)}.json")

    def fold_all(self) -> None:
        """Fold every small part into one."""
        if len(self._foldable) > 1:
            self._fold(self._foldable, level=1)

    def _fold_full_levels(self) -> None:
        for level in range(LAST_LEVEL):
            full = [part for part in self._foldable if part.level == level]
            large = sum(part.size_bytes for part in full) >= _FOLD_BYTES
            if large or sum(self._weight(part) for part in full) >= _FOLD_COUNT:
                self._fold(full, level + 1)

    def _weight(self, part: Part) -> int:
        """Records of a part that was just appended; 1 for parts of any other level, which are then alike in size."""
        return len(self._recent[part.path]) if part.path in self._recent else 1

    def _fold(self, parts: Sequence[Part], level: int) -> None:
        """Many parts into one: the new one is there for good before the old ones go."""
        gone = {part.path for part in parts}
        self._foldable = [part for part in self._foldable if part.path not in gone]
        recent = {path: self._recent.pop(path) for path in gone & self._recent.keys()}
        try:
            schema = unified((self._schema(part, recent) for part in parts), None)
            tables = (
                recent[part.path] if part.path in recent else self._read(part) for part in parts
            )
            data = encoded(schema, distinct(gathered(tables, schema)))
        # another writer has folded them, the disk fails, or something else has been put there: leave all as it is
        except (FileNotFoundError, NoFile, Damaged, pa.ArrowException):
            return
        try:
            folded = self._write(data, level)
        except Unavailable:  # the disk is full, say: what matters is on it, and folding can wait
            return
        for path in sorted(gone - {folded.path}):
            self.storage.delete(path)
        if folded.foldable:
            self._foldable.append(folded)

    def _parts(self) -> list[Part]:
        return [
            Part.of(entry)
            for entry in self.storage.files(RECORDS)
            if entry.path.endswith(".parquet")
        ]

    def _read(self, part: Part) -> pa.Table:
        return decoded(part, self.storage.read(part.path), None)

    def _schema(self, part: Part, recent: Mapping[str, pa.Table]) -> pa.Schema:
        table = recent.get(part.path)
        return table.schema if table is not None else schema_of(part, self.storage.read(part.path))

    def _write(self, data: pa.Buffer, level: int) -> Part:
        self._sequence += 1
        part = Part.made(RECORDS, self._sequence, level, data)
        self.storage.write(part.path, data)
        return part

    def _quarantine(self) -> None:
        """Set damaged parts aside, so that their trials are run again."""
        for path in self._paths():
            try:
                decoded(Part.of(Entry(path, 0)), self.storage.read(path), IDENTITY)
            except FileNotFoundError:  # another writer of a store has folded it
                continue
            except NewerSchema as error:
                raise SweepError(
                    f"{path} in {self} is {error}", "install that version to go on with this run"
                ) from None
            except NoFile as error:
                self._set_aside(path, error.reason)
            except Damaged as damage:
                self._set_aside(path, str(damage))

    def _set_aside(self, path: str, reason: str) -> None:
        self.storage.move(path, f"{QUARANTINE}/{Path(path).name}")
        self.damaged.append(Damage(path, reason))


def _readers(place: Storage) -> int:
    """Threads that read parts: decoding takes cores, waiting for a store does not."""
    return min(8, len(os.sched_getaffinity(0))) if place.folder else _READERS_OF_A_STORE


def _file_name(identity: str) -> str:
    if not re.fullmatch(checked.FILE_NAME, identity):
        raise ValueError(f"{identity!r} cannot name a file")
    return identity
