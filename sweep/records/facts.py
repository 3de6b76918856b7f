"""Facts of a run: `run.yaml`, what it ran and how, and `plan.parquet`, its planned trials and what is left out."""

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
    """What is kept of a planned trial."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class LeftOut(Protocol):
    """What is kept of a cell or trial that the grid leaves out."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class RunFacts:
    """What `run.yaml` says: the grid as it was read, and what it was run with.

    `noise_floor` is the greatest difference that `sweep calibrate` found between equal cells, where it was run.
    `stopped` says why cells got no more seeds, by name, where the grid says `until`.
    `versions` are those that the grid's ranges of versions stand for, by the text of the range.
    `trials` are the planned ones and `exclusions` what is left out: both kept in `plan.parquet`.
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


def read(place: Storage) -> RunFacts:
    """What `run.yaml` says, without the plan; raises SweepError where there is none or it cannot be read."""
    hint = "name a folder that sweep run has written, see sweep ls"
    try:
        return _checked(yaml.safe_load(place.text(RUN_FILE)))
    except FileNotFoundError:
        raise SweepError(f"{place} holds no run", hint) from None
    except NoFile as error:
        raise SweepError(f"{RUN_FILE} in {place} is {error.reason}", hint) from None
    # YAML's own loader raises all of these at values that it takes for times, numbers or flags
    except (
        yaml.YAMLError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise SweepError(f"{RUN_FILE} in {place} cannot be read: {error}", hint) from None


def _checked(said: Any) -> RunFacts:
    """The facts that a document states; raises TypeError or ValueError where one is not what it has to be."""
    if not isinstance(said, Mapping):
        raise TypeError("it holds no keys")
    known = {key: said[key] for key in _STATED if key in said}
    for key, value in known.items():
        if not _STATED[key](value):
            raise ValueError(f"{key} is {reprlib.repr(value)}")
    return RunFacts(**known)


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
_STATED: Mapping[str, Callable[[Any], bool]] = {  # what a key of run.yaml has to be
    **dict.fromkeys(("name", "grid", "grid_path", "code_version", "started_at"), _is_text),
    "overrides": _are_texts,
    "cluster": _is_mapping,
    "noise_floor": _is_share,
    "stopped": _are_reasons,
    "versions": _are_lists,
}


def read_plan(place: Storage) -> pa.Table:
    """The rows of `plan.parquet`, none where there is no such file; raises ArrowException, OSError, ValueError, NoFile.

    Not by `read_table`: a thread of it may hold our bytes when the process ends, and then takes it down.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(place.read(PLAN_FILE))).read(use_threads=False)
    except FileNotFoundError:
        return NOTHING_PLANNED
    if sorted(table.column_names) != sorted(_PLAN.names):
        raise ValueError(f"it has other columns than {', '.join(_PLAN.names)}")
    plan = table.select(_PLAN.names).cast(_PLAN)
    plan.validate(full=True)
    if plan["trial_name"].null_count:
        raise ValueError("a trial has no name")
    return plan


def write(place: Storage, facts: RunFacts) -> None:
    """Both files anew."""
    said = {
        name: getattr(facts, name) for name, of in RunFacts.__dataclass_fields__.items() if of.repr
    }
    said = {"schema_version": SCHEMA_VERSION, "grid_hash": facts.grid_hash, **said}
    plain = json.loads(json.dumps(said, default=str))
    plain |= {
        "grid": _without_credentials(plain["grid"]),
        "overrides": [redacted_url(redacted(each)) for each in plain["overrides"]],
    }
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    place.write(PLAN_FILE, _plan_file(facts))
    place.write(RUN_FILE, text.encode())


def _without_credentials(grid: str) -> str:
    """A grid's text without credentials: as it was written, or as its values where that form hides some.

    A URL may be folded over lines, escaped or quoted in ways that no search in the text finds.
    """
    text = redacted(grid)
    try:
        values = Source(text).values
    except SweepError:  # not a grid that could run: its text is all there is
        return text
    safe = _each_text(values, redacted_url)
    return text if safe == values else str(yaml.dump(safe, sort_keys=False, allow_unicode=True))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with every text in it changed."""
    if isinstance(value, Mapping):
        return {_each_text(key, change): _each_text(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_each_text(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def _plan_file(facts: RunFacts) -> pa.Buffer:
    planned = {
        "trial_id": _text(each.id for each in facts.trials),
        "trial_name": _text(each.name for each in facts.trials),
    }
    left_out = {
        "trial_name": _text(each.name for each in facts.exclusions),
        "excluded": _text(each.reason for each in facts.exclusions),
    }
    table = pa.concat_tables([pa.table(planned), pa.table(left_out)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _text(values: Iterable[str]) -> pa.Array:
    return pa.array(values, pa.string())


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _literal)
