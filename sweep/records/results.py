"""Results: the records of a run, one per trial, in Parquet parts that are folded as they grow.

Folding writes many parts into one and then deletes them. In between, a record exists twice; readers
recognise it by its identity. A part that is deleted while a reader reads is found again in the part
that it was folded into.
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
from sweep.records import facts as run_facts
from sweep.records import validation
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
    concatenate,
    decode,
    encode,
    latest_per_trial,
    regroup,
    schema_of,
    unified_schema,
    without_duplicates,
)
from sweep.records.rows import table_of
from sweep.records.storage import Entry, NoFile, Storage
from sweep.status import Status

Record = dict[str, Any]
Transform = Callable[[pa.Table], pa.Table]

# So many parts of a level are folded, or fewer if they have so many bytes.
_FOLD_COUNT = 64
_FOLD_BYTES = 16 * 2**20
_LOCAL_READERS, _STORE_READERS = 8, 16  # threads
_LONGEST_ERROR = 20_000  # characters of an error that are kept; the log has the rest


class Damage(NamedTuple):
    """A part that cannot be read, and the reason."""

    part: str
    reason: str


class Results:
    """The records of one run, in a folder or an object store. Reading never changes files.

    Files that cannot be read are left out and listed in `damaged`.
    """

    def __init__(self, where: str | Path | Storage) -> None:
        self.storage = where if isinstance(where, Storage) else Storage(where)
        self.damaged: list[Damage] = []

    def __str__(self) -> str:
        return str(self.storage)

    def exists(self) -> bool:
        """Return whether there is a run here, or at least one part."""
        return self.storage.exists(RUN_FILE) or bool(self._paths())

    def records(
        self,
        columns: Iterable[str] | None = None,
        null_if_true: Collection[str] = (),
        each: Transform | None = None,
    ) -> pa.Table:
        """Return one row per trial: its latest record, an `ok` one before any other.

        Only `columns` are read. Columns of flags in `null_if_true` are null for parts in which all
        are true, as they then need not be read. `each` is applied to the rows of each part. It may
        return them in another form, for example one that takes less memory.
        """
        wanted = None if columns is None else list(dict.fromkeys([*columns, *IDENTITY]))
        table = latest_per_trial(self.attempts(wanted, null_if_true=null_if_true, each=each))
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def history(self, trial_id: str) -> list[Record]:
        """Return every record of one trial, the one that counts last."""
        rows = [
            row
            for table in without_duplicates([self.attempts(trial_id=trial_id)])
            for row in table.to_pylist()
        ]
        return sorted(rows, key=lambda row: (row["status"] == Status.OK, row["attempt"] or 1))

    def attempts(
        self,
        columns: Iterable[str] | None = None,
        trial_id: str | None = None,
        null_if_true: Collection[str] = (),
        each: Transform | None = None,
    ) -> pa.Table:
        """Return every record of all trials or of one, also superseded ones.

        A record may appear twice while parts are being folded. The arguments are those of
        `records`.
        """
        wanted = None if columns is None else list(dict.fromkeys(columns))
        tables: dict[str, pa.Table] = {}
        self.damaged = [d for d in self.damaged if not d.part.startswith(f"{RECORDS}/")]

        def read(path: str) -> pa.Table | None:
            return self._table(path, wanted, trial_id, null_if_true, each)

        # Parts may be folded while we read. We are done when all parts of one listing were read.
        while True:
            listed = self._paths()
            unread = [path for path in listed if path not in tables]
            with ThreadPoolExecutor(_reader_count(self.storage)) as pool:
                read_tables = list(pool.map(read, unread))
            pairs = zip(unread, read_tables, strict=True)
            tables |= {path: table for path, table in pairs if table is not None}
            if all(path in tables for path in listed):
                return concatenate([tables[path] for path in sorted(tables)], wanted)

    def statuses(self) -> dict[str, tuple[str, int]]:
        """Return status and attempt of each trial that has a record, by trial id."""
        columns = self.records(IDENTITY).to_pydict()
        pairs = zip(columns["status"], columns["attempt"], strict=True)
        return dict(zip(columns["trial_id"], pairs, strict=True))

    def ended(self, trial_ids: Iterable[str]) -> Counter[str]:
        """Return how many of these trials ended with each status."""
        records = self.records(["trial_id", "status"])
        is_wanted = pc.is_in(records["trial_id"], value_set=pa.array(trial_ids, pa.string()))
        counts = pc.value_counts(records["status"].filter(is_wanted)).to_pylist()
        return Counter({row["values"]: row["counts"] for row in counts})

    def facts(self) -> RunFacts:
        """Read `run.yaml`; raise SweepError where it is missing or unreadable."""
        return run_facts.read(self.storage)

    def plan(self) -> pa.Table:
        """Return planned trials and exclusions: trial_id, trial_name, excluded (reason or null)."""
        try:
            return run_facts.read_plan(self.storage)
        except (pa.ArrowException, OSError, ValueError, NoFile) as error:
            # Not fatal: the next run writes the file again.
            self._name_damage(PLAN_FILE, f"cannot be read: {str(error).partition(chr(10))[0]}")
            return run_facts.NOTHING_PLANNED

    def log(self, trial_id: str) -> str:
        """Return the log of a trial, "" where there is none."""
        return self._text(f"{LOGS}/{_file_name(trial_id)}.log")

    def environment(self, environment_id: str) -> str:
        """Return the packages of an environment, "" where they are not known."""
        if not environment_id:
            return ""
        return self._text(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt")

    def progress(self) -> dict[str, dict[str, Any]]:
        """Return the latest progress of running trials, by trial id."""
        progress = {}
        for entry in self.storage.files(PROGRESS):
            try:
                progress[Path(entry.path).stem] = validation.json_object(
                    self.storage.text(entry.path)
                )
            except (FileNotFoundError, NoFile):  # the trial has just ended
                continue
            except ValueError as error:
                self._name_damage(entry.path, f"no progress of a trial: {error}")
        return progress

    def driver(self) -> Driver | None:
        """Return the state of the sweep that runs here, or its last one before it ended badly.

        Return None where there is none, or where it cannot be read (then it is in `damaged`).
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
        """Return the text of a file beside the records, "" where it is missing or unreadable."""
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
        """Open the run for writing, and write `run.yaml`.

        A local folder has one writer at a time. An object store has no locks; two writers are safe
        there, since no part is ever overwritten.
        """
        folder = self.storage.folder
        with Lock(folder / ".lock") if folder else contextlib.nullcontext():
            writer = Writer(self.storage, facts)
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
        each: Transform | None,
    ) -> pa.Table | None:
        """Return the rows of a part, none of a damaged one; None where the part is gone."""
        try:
            table = decode(Part.of(Entry(path, 0)), self.storage.read(path), columns, null_if_true)
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
    """The writer of a run. Records are durable when `append` returns."""

    def __init__(self, storage: Storage, facts: RunFacts) -> None:
        super().__init__(storage)
        self._remove_leftovers()
        self._quarantine()
        started_at = facts.started_at or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._facts = dataclasses.replace(facts, started_at=started_at)
        self.restate()
        parts = self._parts()
        self._sequence = max((part.sequence for part in parts), default=0)
        self._foldable = [part for part in parts if part.foldable]
        # Tables of appended parts by path, so that folding need not read them again.
        self._recent: dict[str, pa.Table] = {}
        self._environments = self._stems(ENVIRONMENTS)

    def _remove_leftovers(self) -> None:
        """Remove partial files and progress of a sweep that was killed."""
        for folder in ("", RECORDS):
            self.storage.remove_partial(folder)
        stems = self._stems(PROGRESS)
        self._reporting = {name for name in stems if re.fullmatch(validation.FILE_NAME, name)}
        for trial_id in list(self._reporting):
            self._remove_progress(trial_id)

    def _stems(self, folder: str) -> set[str]:
        return {Path(entry.path).stem for entry in self.storage.files(folder)}

    def restate(self, **changes: Any) -> None:
        """Write `run.yaml` and the plan again, with these facts changed."""
        self._facts = dataclasses.replace(self._facts, **changes)
        run_facts.write(self.storage, self._facts)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record; see `append_together`."""
        self.append_together([record])

    def append_together(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records as one part. `log` (text) and `packages` (list) become separate files."""
        rows = [self._row(record) for record in records]
        tables = [table_of(row) for row in rows]
        table = tables[0] if len(tables) == 1 else concatenate(tables, None)
        part = self._write(encode(table.schema, [table], fast=True), level=0)
        if part.foldable:
            self._foldable.append(part)
            self._recent[part.path] = table
            self._fold_full_levels()
        # Only now, so that a kill in between loses neither record nor progress.
        for row in rows:
            self._remove_progress(row["trial_id"])

    def _row(self, record: Mapping[str, Any]) -> Record:
        """Return a record as a row, after writing what belongs in separate files."""
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
        """Write the progress of a running trial. Appending its record removes it."""
        self._reporting.add(trial_id)
        path = f"{PROGRESS}/{_file_name(trial_id)}.json"
        self.storage.write(path, json.dumps(facts).encode(), durable=False)

    def keep_environment(self, environment_id: str, packages: Iterable[str]) -> None:
        """Write the package list of an environment, unless it is there."""
        if environment_id not in self._environments:
            text = "".join(f"{package}\n" for package in packages)
            self.storage.write(f"{ENVIRONMENTS}/{_file_name(environment_id)}.txt", text.encode())
            self._environments.add(environment_id)

    def end(self) -> None:
        """Fold the small parts, when no trial runs any more."""
        for trial_id in list(self._reporting):
            self._remove_progress(trial_id)
        # The user may have deleted the folder while the sweep ran.
        if not all(self.storage.exists(path) for path in (RUN_FILE, PLAN_FILE)):
            self.restate()
        self.fold_all()

    def _remove_progress(self, trial_id: str) -> None:
        if trial_id in self._reporting:
            self._reporting.discard(trial_id)
            self.storage.delete(f"{PROGRESS}/{_file_name(trial_id)}.json")

    def fold_all(self) -> None:
        """Fold every small part into one."""
        if len(self._foldable) > 1:
            self._fold(self._foldable, level=1)

    def _fold_full_levels(self) -> None:
        for level in range(LAST_LEVEL):
            parts = [part for part in self._foldable if part.level == level]
            is_large = sum(part.size_bytes for part in parts) >= _FOLD_BYTES
            if is_large or sum(self._weight(part) for part in parts) >= _FOLD_COUNT:
                self._fold(parts, level + 1)

    def _weight(self, part: Part) -> int:
        """Return the number of records of an appended part, which varies; 1 for folded parts."""
        return len(self._recent[part.path]) if part.path in self._recent else 1

    def _fold(self, parts: Sequence[Part], level: int) -> None:
        """Write the rows of many parts as one part, and then delete the parts."""
        paths = {part.path for part in parts}
        # Removed even if the fold fails, so that it is not tried again with every record.
        self._foldable = [part for part in self._foldable if part.path not in paths]
        recent = {path: self._recent.pop(path) for path in paths & self._recent.keys()}
        try:
            schema = unified_schema((self._schema(part, recent) for part in parts), None)
            tables = (
                recent[part.path] if part.path in recent else self._read(part) for part in parts
            )
            data = encode(schema, without_duplicates(regroup(tables, schema)))
        # Another writer has folded them, or the disk has an error. The parts stay as they are.
        except (FileNotFoundError, NoFile, Damaged, pa.ArrowException):
            return
        try:
            folded = self._write(data, level)
        # For example a full disk. All records are stored, so folding can wait.
        except Unavailable:
            return
        # After a kill here, some records exist twice. Readers leave out the duplicates.
        for path in sorted(paths - {folded.path}):
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
        return decode(part, self.storage.read(part.path), None)

    def _schema(self, part: Part, recent: Mapping[str, pa.Table]) -> pa.Schema:
        table = recent.get(part.path)
        return table.schema if table is not None else schema_of(part, self.storage.read(part.path))

    def _write(self, data: pa.Buffer, level: int) -> Part:
        self._sequence += 1
        part = Part.new(RECORDS, self._sequence, level, data)
        self.storage.write(part.path, data)
        return part

    def _quarantine(self) -> None:
        """Move damaged parts away, so that their trials run again."""
        for path in self._paths():
            try:
                decode(Part.of(Entry(path, 0)), self.storage.read(path), IDENTITY)
            except FileNotFoundError:  # another writer of an object store has folded it
                continue
            except NewerSchema as error:
                hint = "install that version to go on with this run"
                raise SweepError(f"{path} in {self} is {error}", hint) from None
            except NoFile as error:
                self._set_aside(path, error.reason)
            except Damaged as damage:
                self._set_aside(path, str(damage))

    def _set_aside(self, path: str, reason: str) -> None:
        self.storage.move(path, f"{QUARANTINE}/{Path(path).name}")
        self.damaged.append(Damage(path, reason))


def _reader_count(storage: Storage) -> int:
    """Return the number of threads that read parts.

    Decoding local files needs cores; reading from a store is mostly waiting.
    """
    if storage.folder is None:
        return _STORE_READERS
    return min(_LOCAL_READERS, len(os.sched_getaffinity(0)))


def _file_name(identity: str) -> str:
    """Return an id that can name a file; raise ValueError for any other."""
    if not re.fullmatch(validation.FILE_NAME, identity):
        raise ValueError(f"{identity!r} cannot name a file")
    return identity
