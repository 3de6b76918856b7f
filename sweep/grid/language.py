"""The grid language: the keys of a grid file, what each may hold, and what it means.

`docs/grid.md` describes it for users.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sweep.axes import SEED, default
from sweep.errors import SweepError, nearest
from sweep.grid import ranges
from sweep.grid.conditions import Wanted
from sweep.grid.quantities import (
    MOST_VALUES,
    Bytes,
    Excess,
    PositiveShare,
    Scalar,
    Seconds,
    Values,
    problem,
    written,
)
from sweep.grid.source import Keys, Source
from sweep.grid.stepfiles import StepFiles
from sweep.grid.trials import Resources
from sweep.versions import normal_requirement

_MOST_LETTERS = 100  # of a run's name, which becomes a folder
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# The keys of an environment that hold paths.
_PATHS = ("wheel", "interpreter", "lock", "find_links")


class _Table(BaseModel):
    """A mapping with fixed keys; an unknown key is an error with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise problem(
                f"{written(given)} where keys with values belong",
                f"keys: {', '.join(cls.model_fields)}",
            )
        for key in given:
            if key not in cls.model_fields:
                raise problem(
                    f"unknown key {key!r}", nearest(str(key), cls.model_fields), at=str(key)
                )
        return given


class Environment(_Table):
    """What differs in the environment of one framework version; see docs/environments.md."""

    python: str | list[str] | None = Field(
        None, description='Python versions in order of preference, as "3.10"'
    )
    requires: str | list[str] | None = Field(
        None, description="More requirements, as pip takes them"
    )
    build: str | list[str] | None = Field(
        None, description="Bounds on what source distributions are built with"
    )
    wheel: str | None = Field(None, description="File or URL of the framework's wheel")
    interpreter: str | None = Field(None, description="A Python of your own, used as it is")
    lock: str | None = Field(None, description="A file written by sweep env lock")
    index_url: str | None = Field(None, description="Another package index")
    find_links: str | list[str] | None = Field(None, description="More folders or pages of wheels")
    torch_backend: str | None = Field(
        None, description="For uv's --torch-backend: cpu, cu126, auto"
    )


class Amounts(_Table):
    """What a trial requires of its node."""

    cpu: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Cores; as many as threads, or one, unless given"
    )
    gpu: Annotated[float, Field(ge=0)] | None = Field(
        None, description="GPUs of a trial on device gpu, 1 unless given"
    )
    memory: Bytes | None = Field(None, description="Memory, as 4GB; also the limit of the worker")
    exclusive: bool | None = Field(
        None, description="Whether no other trial may run on the node meanwhile"
    )
    custom: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Custom resources of Ray"
    )


class ResourceRules(Amounts):
    """Amounts for every trial, for those on one device, and for those of one workload.

    The most specific amount counts: that of the workload before that of the device.
    """

    device: dict[str, Amounts] = Field(default_factory=dict, description="Amounts per device")
    workload: dict[str, Amounts] = Field(default_factory=dict, description="Amounts per workload")

    def of(self, device: str, workload: str, threads: Any, exclusive: bool) -> Resources:
        """Return what a trial requires.

        By default: a core per thread, a GPU on device `gpu`, and `exclusive` as its workload
        states.
        """
        given: dict[str, Any] = {
            "cpu": threads if isinstance(threads, int) and threads > 0 else 1,
            "exclusive": exclusive,
        }
        general = _given(self)
        # An amount of GPUs for every trial is meant for those on device gpu.
        gpus = general.pop("gpu", 1.0)
        given |= general
        if device == "gpu":
            given["gpu"] = gpus
        for specific in (self.device.get(device), self.workload.get(workload)):
            given |= _given(specific) if specific else {}
        return Resources(**given)


class Until(_Table):
    """When to stop adding seeds to a cell."""

    interval: PositiveShare = Field(description="Half width of the interval, relative, as 1%")
    max_seeds: Annotated[int, Field(ge=1)] | None = Field(
        None, description="At most so many seeds of a cell"
    )
    max_time: Seconds | None = Field(None, description="At most so long, as 30m")


class Expectation(_Table):
    """What a claim expects: exactly one of these."""

    equivalent: PositiveShare | None = Field(None, description="At most this far apart, as 2%")
    faster: Excess | None = Field(None, description="Faster by at least this, as 5% or 150%")
    slower: Excess | None = Field(None, description="Slower by at least this, as 5% or 150%")
    ratio: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Low and high"
    )

    @property
    def is_ordered(self) -> bool:
        """Whether one of the two is expected to be faster."""
        return self.faster is not None or self.slower is not None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(_given(self)) != 1:
            raise problem(
                "nothing is expected, or two things",
                f"write one of {', '.join(Expectation.model_fields)}",
            )
        if self.ratio and not 0 <= self.ratio[0] < self.ratio[1]:
            raise problem(
                f"the ratio {self.ratio} is no interval",
                "write the smaller number first, as [1.5, 1.8]",
            )
        return self


class _Contrast(_Table):
    """Two values of an axis, or of each of several axes, all else equal."""

    name: Annotated[str, Field(min_length=1)] = Field(description="What it says, in words")
    compare: dict[str, list[Scalar]] = Field(
        description="Axes with two values each; the ratio is first by second"
    )
    where: dict[str, Wanted] = Field(
        default_factory=dict, description="Only cells that meet these conditions"
    )
    metric: str = Field("step_s", description="What to compare, as step_s or forward_s")

    @field_validator("compare")
    @classmethod
    def _is_a_pair(cls, compare: dict[str, list[Scalar]]) -> dict[str, list[Scalar]]:
        if not compare or any(len(pair) != 2 for pair in compare.values()):
            raise problem(
                "no two values of an axis to compare",
                "write compare: {backward: [explicit, autograd]}",
            )
        return compare


class Claim(_Contrast):
    """A hypothesis that the records support, refute or leave open."""

    expect: Expectation = Field(description="What the ratio should be")


class Published(_Contrast):
    """Two published figures, shown beside the measured ones."""

    values: list[Annotated[float, Field(gt=0)]] = Field(
        min_length=2, max_length=2, description="The figures, in the order of compare"
    )
    unit: str = Field("", description="Unit of the figures, as h; that of the metric unless given")


class GridFile(_Table):
    """A grid file: which framework is faster, and how sure that is. See docs/grid.md."""

    name: str = Field(
        "",
        description="Name of the run: results go to results/<name>/; the file's name unless given",
    )
    description: str = Field("", description="What the grid is for")
    workload: Values | None = Field(
        None, description="core, train, infer or a plug-in; may be an axis instead"
    )
    axes: dict[str, Values] = Field(
        default_factory=dict, description="Lists of values; their product is the cells"
    )
    zip: list[list[str]] = Field(
        default_factory=list, description="Groups of axes that move together"
    )
    include: list[dict[str, Values]] = Field(
        default_factory=list, description="Extra cells; axes left out vary"
    )
    exclude: list[dict[str, Wanted]] = Field(
        default_factory=list, description="Cells to leave out; globs allowed"
    )
    when: dict[str, dict[str, Wanted]] = Field(
        default_factory=dict,
        description="Axes that exist only where other axes meet these conditions",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the workloads; until: when to stop adding seeds",
    )
    environments: dict[str, Environment] = Field(
        default_factory=dict, description="Overrides, by framework version"
    )
    resources: ResourceRules = Field(
        default_factory=lambda: ResourceRules(), description="What a trial asks of its node"
    )
    claims: list[Claim] = Field(
        default_factory=list, description="Hypotheses to be held against the records"
    )
    published: list[Published] = Field(
        default_factory=list, description="Figures from elsewhere, for the report"
    )
    timeout: Seconds | None = Field(None, description="Longest that a trial may take, as 30m")
    order: int = Field(0, description="Seed of the order in which trials run")

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        leaves_folder = "/" in name or ".." in name
        is_special = name.startswith((".", "-")) or not name.isprintable()
        if leaves_folder or is_special or len(name) > _MOST_LETTERS:
            raise problem(f"{name!r} is no name for a folder", "use letters, digits, - and _")
        return name


@dataclass(frozen=True)
class Grid:
    """A grid file after validation, except for names that only the catalog knows.

    `text` is the file, and `sets` are the command line's options that overlay it. `until` says when
    to stop adding seeds. `versions` are those that its ranges of versions were resolved to, by the
    text of the range. `steps` are the files of the workloads that are steps, by name.
    """

    name: str
    text: str = field(repr=False)
    path: str
    sets: tuple[str, ...]
    file: GridFile = field(repr=False)
    source: Source = field(repr=False)
    until: Until | None = None
    versions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: Mapping[str, Path] = field(default_factory=dict)

    @property
    def timeout_s(self) -> float | None:
        return self.file.timeout

    @property
    def order(self) -> int:
        """Seed of the random order in which trials run."""
        return self.file.order

    @property
    def claims(self) -> list[Claim]:
        return self.file.claims

    @functools.cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Overrides of environment recipes as plain values, by framework version.

        Paths in them are absolute. SweepError if two keys are spellings of one version.
        """
        spelled = {name: normal_requirement(name) for name in self.file.environments}
        for name, version in spelled.items():
            first = next(other for other, same in spelled.items() if same == version)
            if first != name:
                raise self.error(
                    ("environments", name),
                    f"{first} and {name} are one version, {version}",
                    "write what differs in its environment once",
                )
        return {spelled[name]: _given(each) for name, each in self.file.environments.items()}

    def packages(self) -> list[str]:
        """Return the frameworks that the grid names, without versions."""
        named = [str(value) for _, values in self._frameworks() for value in values]
        matches = [_NAME.match(each.strip()) for each in named]
        return list(dict.fromkeys(match[0] for match in matches if match))

    def is_overridden(self, axis: str) -> bool:
        """Return whether the command line gave the values of an axis."""
        return any(keys[-1] == axis for keys in self.source.replaced)

    def add_seeds(self, count: int) -> Self:
        """Return this grid with `count` more seeds after its largest.

        They apply to every cell that takes the grid's seeds, not to includes with their own.
        """
        if count > MOST_VALUES:
            raise SweepError(
                f"{count:,} more seeds are more than the {MOST_VALUES:,} that a grid can have",
                "add fewer",
            )
        seeds = [seed for seed in self.file.axes.get(SEED, default(SEED)) if isinstance(seed, int)]
        more = range(max(seeds) + 1, max(seeds) + 1 + count) if seeds else []
        given = self.file.axes | {SEED: [*self.file.axes.get(SEED, default(SEED)), *more]}
        return dataclasses.replace(self, file=self.file.model_copy(update={"axes": given}))

    def ranges(self) -> list[tuple[Keys, ranges.Range]]:
        """Return its ranges of versions, each with its keys; SweepError if one is invalid."""
        located = []
        for keys, values in self._frameworks():
            for value in values:
                try:
                    wanted = ranges.parsed(value)
                except ranges.RangeError as error:
                    raise self.error(keys, str(error), ranges.HINT) from None
                if wanted:
                    located.append((keys, wanted))
        return located

    def with_versions(self, versions: Mapping[str, Sequence[str]]) -> Self:
        """Return this grid with its ranges replaced by these versions."""
        known = {text: list(each) for text, each in versions.items()}
        if not self.ranges():
            return dataclasses.replace(self, versions=known)
        file = self.file.model_copy(
            update={
                "axes": _with_versions(self.file.axes, known),
                "include": [_with_versions(each, known) for each in self.file.include],
            }
        )
        return dataclasses.replace(self, file=file, versions=known)

    def _frameworks(self) -> list[tuple[Keys, Sequence[Scalar]]]:
        """Return the values of `framework` with their keys: in the axes and in each include."""
        tables: list[tuple[Keys, Mapping[str, Sequence[Scalar]]]] = [(("axes",), self.file.axes)]
        tables += [(("include", i), include) for i, include in enumerate(self.file.include)]
        return [
            ((*keys, "framework"), axes["framework"])
            for keys, axes in tables
            if "framework" in axes
        ]

    def error_at_workload(self, message: str, hint: str = "") -> SweepError:
        """Return a SweepError about a workload, located where the grid names it."""
        is_axis = self.file.workload is None
        return self.error(("axes", "workload") if is_axis else ("workload",), message, hint)

    def error(self, keys: Keys, message: str, hint: str = "") -> SweepError:
        """Return a SweepError about a path of keys, with file and line."""
        return self.source.error(keys, message, hint)


def build(
    source: Source, document: Mapping[str, Any], path: str | Path, sets: Sequence[str]
) -> Grid:
    """Return the grid of a document: the source's values, overlaid with those of `sets`."""
    step_files = StepFiles(Path(path).parent)
    try:
        # Paths become absolute before validation, while the document is still plain values.
        located = _with_absolute_paths(dict(document), Path(path).parent)
        file = GridFile.model_validate(step_files.taken_out(located))
        until = None
        if "until" in file.parameters:
            until = Until.model_validate(file.parameters["until"])
    except ValidationError as error:
        raise _explained(error, source, document) from None
    name = file.name or _folder_name(Path(path).stem)
    return Grid(
        name, source.text, str(path), tuple(sets), file, source, until, steps=step_files.found
    )


def _with_versions(
    axes: Mapping[str, Sequence[Scalar]], versions: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[Scalar]]:
    """Return axes with the ranges of `framework` replaced by versions."""
    if "framework" not in axes:
        return dict(axes)
    return {**axes, "framework": ranges.resolved(axes["framework"], versions)}


def _folder_name(text: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-_=+@" else "-" for letter in text)
    return safe[:_MOST_LETTERS].lstrip("-") or "grid"


def _with_absolute_paths(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the document with its relative paths, which are relative to the grid's folder.

    Trials run in other folders, perhaps on other machines.
    """
    environments, parameters = document.get("environments"), document.get("parameters")
    if isinstance(environments, dict):
        document["environments"] = {
            name: _made_absolute(each, _PATHS, folder) for name, each in environments.items()
        }
    if parameters:
        document["parameters"] = _made_absolute(parameters, ("data_path",), folder)
    return document


def _made_absolute(table: Any, keys: Sequence[str], folder: Path) -> Any:
    """Return a table, and the tables in it, with the paths under `keys` made absolute."""
    if not isinstance(table, dict):
        return table
    return {
        key: _absolute(folder, value) if key in keys else _made_absolute(value, keys, folder)
        for key, value in table.items()
    }


def _absolute(folder: Path, value: Any) -> Any:
    if isinstance(value, list):
        return [_absolute(folder, each) for each in value]
    if not isinstance(value, str) or "://" in value or not value:
        return value
    # Path.resolve() would follow links, and so leave the folder that the user named.
    return os.path.abspath(folder / Path(value).expanduser())  # noqa: PTH100


def _given(table: BaseModel) -> dict[str, Any]:
    """Return the values that a table was given, without the tables in it."""
    values = {name: getattr(table, name) for name in table.model_fields_set}
    return {
        name: value
        for name, value in values.items()
        if value is not None and name not in ("device", "workload")
    }


# What pydantic's kinds of errors call a type -> its name for users, and a hint.
_WANTED = {
    "string": ("text", "put it in quotes"),
    "int": ("a whole number", "write one, without quotes"),
    "float": ("a number", "write one, without quotes"),
    "bool": ("true or false", "write one of them, without quotes"),
    "dict": ("keys with values", "write key: value"),
    "list": ("a list", "put it in [ ]"),
}


def _explained(error: ValidationError, source: Source, document: Mapping[str, Any]) -> SweepError:
    """Return the first error of pydantic as a SweepError in terms of the grid."""
    first = error.errors()[0]
    kind, context = first["type"], first.get("ctx", {})
    # `until` is validated by itself, so its errors do not know where it is.
    keys: list[str | int] = ["parameters", "until"] if error.title == "Until" else []
    keys += first["loc"]
    if kind == "grid":
        if context["at"]:
            keys.append(context["at"])
        return source.error(keys, context["message"], context["hint"])
    if kind == "missing":
        return source.error(keys[:-1], f"{keys[-1]} is missing", "see docs/grid.md")
    keys, given = _existing_keys(keys, document), written(first["input"])
    expected_type = kind.partition("_")[0]
    if kind.endswith(("_type", "_parsing")) and expected_type in _WANTED:
        wanted, hint = _WANTED[expected_type]
        return source.error(keys, f"{given} is not {wanted}", hint)
    message = first["msg"].replace("Input should", "it should")
    return source.error(keys, f"{given}: {message}", "see docs/grid.md")


def _existing_keys(keys: Sequence[str | int], document: Any) -> list[str | int]:
    """Return the keys that are in the document: pydantic appends the type that it tried."""
    existing: list[str | int] = []
    for key in keys:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            break
        existing.append(key)
    return existing
