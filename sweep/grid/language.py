"""The grid language: the keys of a grid file, what each may hold, and what it means. `docs/grid.md` tells it."""

from __future__ import annotations

import dataclasses
import functools
import os
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
from sweep.grid.trials import Resources
from sweep.versions import normal_requirement

_PATHS = ("wheel", "interpreter", "lock", "find_links")  # of an environment


class _Table(BaseModel):
    """A mapping whose keys are all known."""

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
    """What is different in the environment of one framework version; see docs/environments.md."""

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
    """What a trial asks of its node."""

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
    """Amounts for every trial, for those on one device, and for those of one workload; the last word counts."""

    device: dict[str, Amounts] = Field(default_factory=dict, description="Amounts per device")
    workload: dict[str, Amounts] = Field(default_factory=dict, description="Amounts per workload")

    def of(self, device: str, workload: str, threads: Any, exclusive: bool) -> Resources:
        """What a trial asks for: by default a core per thread, a GPU on `gpu`, and `exclusive` as its workload says."""
        given: dict[str, Any] = {
            "cpu": threads if isinstance(threads, int) and threads > 0 else 1,
            "exclusive": exclusive,
        }
        general = _given(self)
        wanted_gpus = general.pop("gpu", 1.0)
        given |= general | ({"gpu": wanted_gpus} if device == "gpu" else {})
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
    """One of these."""

    equivalent: PositiveShare | None = Field(None, description="At most this far apart, as 2%")
    faster: Excess | None = Field(None, description="Faster by at least this, as 5% or 150%")
    slower: Excess | None = Field(None, description="Slower by at least this, as 5% or 150%")
    ratio: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Low and high"
    )

    @property
    def is_ordered(self) -> bool:
        """Whether one of the two shall be faster."""
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
    """Two values of an axis, or of each of several, all else being equal."""

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
    """Two figures that someone has published, to stand beside what is measured."""

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
        if (
            "/" in name
            or ".." in name
            or name.startswith((".", "-"))
            or not name.isprintable()
            or len(name) > 100
        ):
            raise problem(f"{name!r} is no name for a folder", "use letters, digits, - and _")
        return name


@dataclass(frozen=True)
class Grid:
    """A grid: its file, validated, but for words that only the catalog knows.

    `environments` are the overrides of recipes as plain values, by framework version, their paths absolute; `until`
    says when to stop adding seeds; `sets` are the options of the command line that were laid over the file, `text` is
    the file without them; `versions` are those that its ranges of versions stand for, by the text of the range.
    """

    name: str
    text: str = field(repr=False)
    path: str
    sets: tuple[str, ...]
    file: GridFile = field(repr=False)
    source: Source = field(repr=False)
    until: Until | None = None
    versions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def timeout_s(self) -> float | None:
        return self.file.timeout

    @property
    def order(self) -> int:
        """Seed of the order in which trials run."""
        return self.file.order

    @property
    def claims(self) -> list[Claim]:
        return self.file.claims

    @functools.cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        spelled = {name: normal_requirement(name) for name in self.file.environments}
        for name, version in spelled.items():
            first = next(other for other, same in spelled.items() if same == version)
            if first != name:
                message = f"{first} and {name} are one version, {version}"
                raise self.error(
                    ("environments", name), message, "write what differs in its environment once"
                )
        return {spelled[name]: _given(each) for name, each in self.file.environments.items()}

    def is_overridden(self, axis: str) -> bool:
        """Whether the command line has given the values of an axis."""
        return any(place[-1] == axis for place in self.source.replaced)

    def add_seeds(self, count: int) -> Self:
        """This grid with `count` more seeds after its largest, for every cell that takes the grid's seeds."""
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
        """The ranges of versions that it names, each with where it stands; SweepError for one that is none."""
        found = []
        for keys, values in self._frameworks():
            for value in values:
                try:
                    wanted = ranges.parsed(value)
                except ranges.RangeError as error:
                    raise self.error(keys, str(error), ranges.HINT) from None
                if wanted:
                    found.append((keys, wanted))
        return found

    def with_versions(self, versions: Mapping[str, Sequence[str]]) -> Self:
        """This grid with these versions in the place of its ranges."""
        named = {str(wanted) for _, wanted in self.ranges()}
        if not named:
            return self
        used = {text: list(known) for text, known in versions.items() if text in named}
        file = self.file.model_copy(
            update={
                "axes": _with_versions(self.file.axes, used),
                "include": [_with_versions(each, used) for each in self.file.include],
            }
        )
        return dataclasses.replace(self, file=file, versions=used)

    def _frameworks(self) -> list[tuple[Keys, Sequence[Scalar]]]:
        """The values of `framework`, in the axes and in each include, with where they stand."""
        places: list[tuple[Keys, Mapping[str, Sequence[Scalar]]]] = [(("axes",), self.file.axes)]
        places += [(("include", place), each) for place, each in enumerate(self.file.include)]
        return [
            ((*keys, "framework"), axes["framework"])
            for keys, axes in places
            if "framework" in axes
        ]

    def error(self, keys: Keys, message: str, hint: str = "") -> SweepError:
        """What is wrong at a path of keys, with file and line."""
        return self.source.error(keys, message, hint)


def build(
    source: Source, document: Mapping[str, Any], path: str | Path, sets: Sequence[str]
) -> Grid:
    """The grid of a document, which is the source's values with those of `sets` in their place."""
    try:
        file = GridFile.model_validate(_located(dict(document), Path(path).parent))
        until = (
            Until.model_validate(file.parameters["until"]) if "until" in file.parameters else None
        )
    except ValidationError as error:
        raise _explained(error, source, document) from None
    name = file.name or _folder_name(Path(path).stem)
    return Grid(name, source.text, str(path), tuple(sets), file, source, until)


def _with_versions(
    axes: Mapping[str, Sequence[Scalar]], versions: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[Scalar]]:
    """Axes with the versions in the place of the ranges of `framework`."""
    if "framework" not in axes:
        return dict(axes)
    return {**axes, "framework": ranges.written_out(axes["framework"], versions)}


def _folder_name(text: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-_=+@" else "-" for letter in text)
    return safe[:100].lstrip("-") or "grid"


def _located(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a grid are relative to it: trials run on other machines, in other folders."""
    environments, parameters = document.get("environments"), document.get("parameters")
    if isinstance(environments, dict):
        document["environments"] = {
            name: _with_paths(each, _PATHS, folder) for name, each in environments.items()
        }
    return document | (
        {"parameters": _with_paths(parameters, ("data_path",), folder)} if parameters else {}
    )


def _with_paths(table: Any, keys: Sequence[str], folder: Path) -> Any:
    """The table, and tables in it, with the paths under these keys made absolute; what is no table stays as it is."""
    if not isinstance(table, dict):
        return table
    return {
        key: _absolute(folder, value) if key in keys else _with_paths(value, keys, folder)
        for key, value in table.items()
    }


def _absolute(folder: Path, value: Any) -> Any:
    if isinstance(value, list):
        return [_absolute(folder, each) for each in value]
    if not isinstance(value, str) or "://" in value or not value:
        return value
    return os.path.abspath(folder / Path(value).expanduser())  # noqa: PTH100  resolve() would follow symlinks


def _given(table: BaseModel) -> dict[str, Any]:
    """What was written of a table, without tables in it."""
    found = {name: getattr(table, name) for name in table.model_fields_set}
    return {
        name: value
        for name, value in found.items()
        if value is not None and name not in ("device", "workload")
    }


_WANTED = {
    "string": ("text", "put it in quotes"),
    "int": ("a whole number", "write one, without quotes"),
    "float": ("a number", "write one, without quotes"),
    "bool": ("true or false", "write one of them, without quotes"),
    "dict": ("keys with values", "write key: value"),
    "list": ("a list", "put it in [ ]"),
}


def _explained(error: ValidationError, source: Source, document: Mapping[str, Any]) -> SweepError:
    """The first thing that pydantic found wrong, in the words of a grid."""
    first = error.errors()[0]
    place = [*(("parameters", "until") if error.title == "Until" else ()), *first["loc"]]
    context = first.get("ctx", {})
    if first["type"] == "grid":
        return source.error(
            [*place, context["at"]] if context["at"] else place, context["message"], context["hint"]
        )
    if first["type"] == "missing":
        return source.error(place[:-1], f"{place[-1]} is missing", "see docs/grid.md")
    place, given = _there(place, document), written(first["input"])
    if first["type"].endswith(("_type", "_parsing")) and first["type"].partition("_")[0] in _WANTED:
        wanted, hint = _WANTED[first["type"].partition("_")[0]]
        return source.error(place, f"{given} is not {wanted}", hint)
    return source.error(
        place, f"{given}: {first['msg'].replace('Input should', 'it should')}", "see docs/grid.md"
    )


def _there(place: Sequence[str | int], document: Any) -> list[str | int]:
    """The part of a path that is in the document; pydantic adds which of several types it tried."""
    found: list[str | int] = []
    for step in place:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            break
        found.append(step)
    return found
