"""Facts of a run: `run.yaml` with grid and options, `plan.parquet` with trials and exclusions."""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sweep.credentials import redacted, redacted_url
from sweep.errors import SweepError
from sweep.grid.source import Source
from sweep.records.columns import SCHEMA_VERSION
from sweep.records.layout import PLAN_FILE, RUN_FILE
from sweep.records.storage import NoFile, Storage

_PLAN = pa.schema(
    [("trial_id", pa.string()), ("trial_name", pa.string()), ("excluded", pa.string())]
)
NOTHING_PLANNED = _PLAN.empty_table()


class Planned(Protocol):
    """What the plan stores of a trial."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class LeftOut(Protocol):
    """What the plan stores of a cell or trial that the grid leaves out."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class RunFacts:
    """The contents of `run.yaml` and `plan.parquet`: the grid, and how it was run.

    `noise_floor` is the largest difference that `sweep calibrate` found between equal cells, 0
    where it was not run. `stopped` has the reason why a cell got no more seeds, by the cell's name,
    for grids with `until`. `versions` are those that the grid's ranges of versions stand for, by
    the text of the range. `trials` and `exclusions` are in `plan.parquet`.
    """

    name: str
    grid: str
    grid_path: str = ""
    overrides: Sequence[str] = ()
    code_version: str = ""
    cluster: Mapping[str, Any] = field(default_factory=dict)
    started_at: str = ""
    noise_floor: float = 0.0
    stopped: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    trials: Sequence[Planned] = field(default=(), repr=False)
    exclusions: Sequence[LeftOut] = field(default=(), repr=False)

    @property
    def grid_hash(self) -> str:
        return hashlib.sha256(self.grid.encode()).hexdigest()[:12]


def read(storage: Storage) -> RunFacts:
    """Read `run.yaml`, without the plan; raise SweepError where it is missing or unreadable."""
    hint = "name a folder that sweep run has written, see sweep ls"
    try:
        return _validated(yaml.safe_load(storage.text(RUN_FILE)))
    except FileNotFoundError:
        raise SweepError(f"{storage} holds no run", hint) from None
    except NoFile as error:
        raise SweepError(f"{RUN_FILE} in {storage} is {error.reason}", hint) from None
    # The YAML loader raises any of these for values that look like times, numbers or flags.
    except (
        yaml.YAMLError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise SweepError(f"{RUN_FILE} in {storage} cannot be read: {error}", hint) from None


def _validated(document: Any) -> RunFacts:
    """Return the facts in a document; raise TypeError or ValueError where a value is wrong.

    Unknown keys are ignored.
    """
    if not isinstance(document, Mapping):
        raise TypeError("it holds no keys")
    values = {key: document[key] for key in _VALIDATORS if key in document}
    for key, value in values.items():
        if not _VALIDATORS[key](value):
            raise ValueError(f"{key} is {reprlib.repr(value)}")
    return RunFacts(**values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _SURROGATE.search(value)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_text, values))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _are_reasons(value: Any) -> bool:
    return _is_mapping(value) and all(map(_is_text, value.values()))


def _are_lists(value: Any) -> bool:
    return _is_mapping(value) and all(map(_are_texts, value.values()))


_SURROGATE = re.compile("[\ud800-\udfff]")
_VALIDATORS: Mapping[str, Callable[[Any], bool]] = {  # by key of run.yaml
    **dict.fromkeys(("name", "grid", "grid_path", "code_version", "started_at"), _is_text),
    "overrides": _are_texts,
    "cluster": _is_mapping,
    "noise_floor": _is_share,
    "stopped": _are_reasons,
    "versions": _are_lists,
}


def read_plan(storage: Storage) -> pa.Table:
    """Return the rows of `plan.parquet`, none where the file is missing.

    Raises ArrowException, OSError, ValueError or NoFile where it cannot be read.
    """
    # Not `read_table`: one of its threads may still hold the bytes when the process exits, and
    # then crashes it.
    try:
        table = pq.ParquetFile(pa.BufferReader(storage.read(PLAN_FILE))).read(use_threads=False)
    except FileNotFoundError:
        return NOTHING_PLANNED
    if sorted(table.column_names) != sorted(_PLAN.names):
        raise ValueError(f"it has other columns than {', '.join(_PLAN.names)}")
    plan = table.select(_PLAN.names).cast(_PLAN)
    plan.validate(full=True)
    if plan["trial_name"].null_count:
        raise ValueError("a trial has no name")
    return plan


def write(storage: Storage, facts: RunFacts) -> None:
    """Write both files, without credentials."""
    # Trials and exclusions are not part of the repr; they go into the plan.
    names = [name for name, field in RunFacts.__dataclass_fields__.items() if field.repr]
    values = {"schema_version": SCHEMA_VERSION, "grid_hash": facts.grid_hash}
    values |= {name: getattr(facts, name) for name in names}
    # By way of JSON, so that YAML gets plain lists and dicts only.
    plain = json.loads(json.dumps(values, default=str))
    plain |= {
        "grid": _without_credentials(plain["grid"]),
        "overrides": [redacted_url(redacted(override)) for override in plain["overrides"]],
    }
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    storage.write(PLAN_FILE, _plan_file(facts))
    storage.write(RUN_FILE, text.encode())


def _without_credentials(grid: str) -> str:
    """Return a grid's text without credentials.

    A URL in YAML may be folded over lines, escaped or quoted, so that a search in the text misses
    it. Where the parsed values still hold credentials, they are written instead of the text.
    """
    text = redacted(grid)
    try:
        values = Source(text).values
    except SweepError:  # not a valid grid, so there are no values
        return text
    safe = _map_texts(values, redacted_url)
    return text if safe == values else str(yaml.dump(safe, sort_keys=False, allow_unicode=True))


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a nested value with `change` applied to every text in it."""
    if isinstance(value, Mapping):
        return {_map_texts(key, change): _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _plan_file(facts: RunFacts) -> pa.Buffer:
    planned = {
        "trial_id": _text(trial.id for trial in facts.trials),
        "trial_name": _text(trial.name for trial in facts.trials),
    }
    left_out = {
        "trial_name": _text(exclusion.name for exclusion in facts.exclusions),
        "excluded": _text(exclusion.reason for exclusion in facts.exclusions),
    }
    table = pa.concat_tables([pa.table(planned), pa.table(left_out)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _text(values: Iterable[str]) -> pa.Array:
    return pa.array(values, pa.string())


class _Dumper(yaml.SafeDumper):
    """A dumper that writes texts of several lines as blocks."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _literal)
