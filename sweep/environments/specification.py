"""Specifications: what an environment contains, decided without a look at the machine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from sweep import catalog, digests
from sweep.catalog import Framework, Variant
from sweep.credentials import redacted, redacted_url, remember, remember_index
from sweep.environments import sources
from sweep.errors import SweepError, nearest

OVERRIDES = (
    "python",
    "requires",
    "build",
    "wheel",
    "interpreter",
    "lock",
    "index_url",
    "find_links",
    "torch_backend",
)
_FILES = ("wheel", "lock", "interpreter")
_LISTS = ("python", "requires", "build", "find_links")
_ANY_PYTHON = ("3.11", "3.12", "3.13", "3.10", "3.9", "3.8")
_EVERY_PYTHON = ("3.13", "3.12", "3.11", "3.10", "3.9", "3.8", "3.7", "3.6")  # newest first


@dataclass(frozen=True)
class Specification:
    """What an environment contains. Equal specifications share one environment.

    `module` must be importable; it is "" where the package itself tells its module. `python` has
    versions in order of preference; with `any_python`, the first one for which all requirements
    have wheels is taken. `pins` are all packages of a lock file, installed instead of `requires`.
    `environment` has variables for building source distributions. `interpreter` is an environment
    of the user's own, used as it is. `cpu_build` prefers a build without CUDA libraries.
    """

    framework: str  # as in the grid: "torch==2.13.0"
    module: str
    python: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    pins: tuple[str, ...] = ()
    interpreter: str = ""
    wheel_sha256: str = ""
    cpu_build: bool = False
    torch_backend: str = ""
    index_url: str = field(default="", repr=False)  # may carry credentials
    find_links: tuple[str, ...] = field(default=(), repr=False)
    hint: str = field(default="", compare=False, repr=False)
    any_python: bool = False

    @functools.cached_property
    def id(self) -> str:
        """12 hexadecimal digits of everything that decides the contents.

        They are the same on every machine, and do not depend on credentials.
        """
        facts = {key: _public(value) for key, value in asdict(self).items() if key != "hint"}
        # The field was added later; without it, older specifications keep their ids.
        if not self.any_python:
            del facts["any_python"]
        return hashlib.sha256(redacted(json.dumps(facts, sort_keys=True)).encode()).hexdigest()[:12]

    @property
    def package(self) -> str:
        """The framework without its version."""
        return self.framework.partition("==")[0]


def specify(
    framework: Framework,
    version: str | None,
    device: str = "cpu",
    backend: str = "default",
    override: Mapping[str, Any] | None = None,
    extra_requires: Iterable[str] = (),
    pythons: str = "",
) -> Specification:
    """Return the specification of a framework's version; None stands for any, for `reference`.

    `override` is an entry of the grid's `environments` (see OVERRIDES); its requirements replace
    the recipe's requirements of the same package. `pythons` bounds the version of Python, as
    `>=3.10`, where the override names none. Raises SweepError for an unknown key, an invalid
    requirement, and a lock that cannot be read.
    """
    given = _checked(override or {})
    recipe = framework.recipe(version)
    variants = [recipe.variants.get(key, Variant()) for key in (backend, device)]
    wheel, hashed = _wheel(given.get("wheel", ""))
    _check_is_of(wheel, framework, version)
    # Whether the index offers a CPU and a GPU build of this version.
    has_builds = (
        recipe.cpu_build
        and catalog.is_version(version)
        and not wheel
        and not given.get("torch_backend")
    )
    name = f"{framework.name}=={version}" if version else framework.name
    names_python = bool(given.get("python") or given.get("interpreter"))
    bounds = "" if names_python else pythons
    usual = _EVERY_PYTHON if framework.is_any_package else recipe.python
    for requirement in extra_requires:
        sources.check_requirement(requirement)
    allowed = _pythons(given.get("python"), wheel, [v.python for v in variants], usual)
    companions = [*framework.dependencies, *recipe.requires]
    companions += [requirement for variant in variants for requirement in variant.requires]
    chosen = [
        _itself(framework, version, wheel, has_builds and device == "gpu") + hashed,
        *_listed(given.get("requires")),
        *extra_requires,
    ]
    spec = Specification(
        framework=name,
        module=framework.module,
        python=_bounded(allowed, bounds, name),
        requires=_merged(_filled(companions, version), chosen),
        build=_merged(recipe.build, _listed(given.get("build"))),
        environment=tuple(sorted(recipe.environment.items())),
        interpreter=_absolute(given.get("interpreter", "")),
        wheel_sha256=_digest(wheel),
        cpu_build=has_builds and device == "cpu",
        torch_backend=given.get("torch_backend", ""),
        index_url=given.get("index_url", ""),
        find_links=tuple(_located(link) for link in _listed(given.get("find_links"))),
        hint=next((v.hint for v in variants if v.hint), recipe.hint),
        any_python=framework.is_any_package and not names_python,
    )
    return _locked(spec, Path(given["lock"]).expanduser()) if given.get("lock") else spec


def _checked(override: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, value in override.items():
        if key not in OVERRIDES:
            raise SweepError(f"an environment has no setting {key!r}", nearest(key, OVERRIDES))
        _check_kind(key, value)
        for text in _listed(value) if value else ():
            if key == "index_url":
                remember_index(text)
            else:
                remember(text)
            sources.check(key, text)
    return {key: value for key, value in override.items() if value}


def _check_kind(key: str, value: Any) -> None:
    is_list = isinstance(value, list | tuple) and key in _LISTS
    texts = value if is_list else [value]
    if value is not None and not all(isinstance(text, str) for text in texts):
        raise SweepError(
            f"an environment's {key} is {value!r}", 'write text in quotes, as in python: "3.10"'
        )


def _wheel(given: str) -> tuple[str, str]:
    """Return the place of a wheel, and its hash as `#sha256=…`, which uv checks, or ""."""
    place, mark, fragment = given.partition("#")
    if mark and not sources.is_whole_hash(fragment):
        raise SweepError(
            f"{redacted_url(given)} ends in no hash",
            "write it as #sha256= and 64 hexadecimal digits",
        )
    return _located(place), mark + fragment


def _public(value: Any) -> Any:
    """Return a field of a specification without credentials."""
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    return redacted_url(value) if isinstance(value, str) else value


def check_there(requirement: str, override: Mapping[str, Any]) -> None:
    """Raise SweepError where this machine lacks a file or interpreter that an override names."""
    for key in _FILES:
        place = override.get(key) or ""
        path = Path(_located(place.partition("#")[0]))
        if place and "://" not in place and not path.exists():
            hint = (
                "paths in a grid start at its folder; "
                "a cluster's nodes need it at the same place as this machine"
            )
            raise SweepError(f"the {key} of {requirement} is not there: {path}", hint)


def _check_is_of(wheel: str, framework: Framework, version: str | None) -> None:
    """Raise SweepError where a wheel is of another project or version than the framework."""
    file = _wheel_file(wheel)
    if not file.endswith(".whl"):
        return
    package = framework.package or "numpy"
    try:
        name, wheel_version, *_ = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        hint = (
            "a wheel keeps the name that it was built with, "
            "as torch-2.13.0-cp311-cp311-linux_x86_64.whl"
        )
        raise SweepError(f"{file} is no name of a wheel: {error}", hint) from None
    if name != canonicalize_name(package):
        raise SweepError(
            f"the wheel {file} is of {name}, and {framework.name} is {package}",
            "name a wheel of that",
        )
    if catalog.is_version(version) and not SpecifierSet(f"=={version}").contains(
        wheel_version, prereleases=True
    ):
        message = (
            f"the wheel {file} is of version {wheel_version}, "
            f"and {framework.name}=={version} is asked for"
        )
        raise SweepError(
            message, f"write {framework.name}=={wheel_version}, or name a wheel of {version}"
        )


def _wheel_file(wheel: str) -> str:
    """Return the file name of a path or URL."""
    path = urlsplit(wheel).path if "://" in wheel else wheel
    return unquote(path.rpartition("/")[2])


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _pythons(
    chosen: Any, wheel: str, variants: list[tuple[str, ...]], recipe: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the Pythons that the user names, else the wheel's tags, the variants or the recipe.

    Of several variants, only the Pythons that all of them allow are taken.
    """
    if chosen:
        return _listed(chosen)
    if tagged := _wheel_pythons(wheel):
        return tagged
    allowed = [pythons for pythons in variants if pythons]
    if not allowed:
        return recipe or _ANY_PYTHON
    return tuple(python for python in allowed[0] if all(python in pythons for pythons in allowed))


def _wheel_pythons(wheel: str) -> tuple[str, ...]:
    try:
        tags = parse_wheel_filename(_wheel_file(wheel))[3] if wheel else frozenset()
    except InvalidWheelFilename:
        return ()
    # An abi3 wheel works with later Pythons, too, so its tag does not bound them.
    matches = [re.fullmatch(r"cp(3)(\d+)", tag.interpreter) for tag in tags if tag.abi != "abi3"]
    return tuple(sorted({f"{match[1]}.{match[2]}" for match in matches if match}))


def _bounded(pythons: tuple[str, ...], bounds: str, framework: str) -> tuple[str, ...]:
    """Those of the versions that the bounds of a step admit."""
    if not bounds:
        return pythons
    left = tuple(python for python in pythons if _admits(bounds, python))
    if not left:
        message = f"{framework} runs on Python {', '.join(pythons)}, and the step requires {bounds}"
        raise SweepError(
            message, "widen requires-python in the step's header, or take another version"
        )
    return left


def _admits(bounds: str, python: str) -> bool:
    """Whether some patch release of a Python as `3.10` is within the bounds."""
    specifier = SpecifierSet(bounds)
    return any(specifier.contains(version) for version in (python, f"{python}.99"))


def _filled(requires: Iterable[str], version: str | None) -> list[str]:
    """Fill in the framework's version, for companions as `cupy-cuda101=={version}`."""
    return [
        r.replace("{version}", version) if version else r.replace("=={version}", "")
        for r in requires
    ]


def _itself(framework: Framework, version: str | None, wheel: str, no_cpu_build: bool) -> str:
    """Return the requirement of the framework itself: its wheel, its version, or any version.

    `==2.13.0` admits `2.13.0+cpu`, and prefers it where a wheel folder has it, so a GPU build
    excludes that.
    """
    package = framework.package or "numpy"
    if wheel:
        return f"{package} @ {wheel if '://' in wheel else Path(wheel).as_uri()}"
    if no_cpu_build:
        return f"{package}=={version},!={Version(version or '').public}+cpu"
    return f"{package}=={version}" if version else package


def _merged(recipe: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """Return both lists without duplicates; given requirements replace the recipe's by name."""
    given = list(dict.fromkeys(given))
    names = {_name(requirement) for requirement in given}
    kept = [r for r in dict.fromkeys(recipe) if _name(r) not in names]
    # "numpy" adds nothing to "numpy<2".
    bare = {_name(r) for r in kept if r != _name(r)}
    return tuple(sorted([r for r in kept if r not in bare] + given))


def _name(requirement: str) -> str:
    """Return the name of a distribution.

    Builds of one project for several CUDA versions exclude each other and have one name here.
    """
    try:
        name = Requirement(requirement).name
    except InvalidRequirement:
        # For example `torch==mybuild`; the resolver has a better message for it.
        start = re.match(r"[\w.-]+", requirement)
        if not start:
            raise SweepError(
                f"{requirement!r} is no requirement", 'write it as pip takes it: "numpy<2"'
            ) from None
        name = start[0]
    return re.sub(r"-cuda\d+x?$", "", canonicalize_name(name))


def _located(place: str) -> str:
    """Return a URL as it is, and a path made absolute."""
    return place if "://" in place else _absolute(place)


def _absolute(path: str) -> str:
    """Return an absolute path, with symlinks kept: a virtual environment's `python` is one."""
    # `Path.resolve` would follow symlinks.
    return os.path.abspath(Path(path).expanduser()) if path else ""  # noqa: PTH100


def _digest(wheel: str) -> str:
    local = bool(wheel) and "://" not in wheel and Path(wheel).is_file()
    return digests.of_file(Path(wheel)) if local else ""


def _locked(spec: Specification, lock: Path) -> Specification:
    """Return the specification with the exact Python version and packages of a lock file."""
    python, pins = read_lock(lock)
    minor = ".".join(python.split(".")[:2])
    return replace(spec, pins=pins, python=(python, minor), requires=())


def read_lock(lock: Path) -> tuple[str, tuple[str, ...]]:
    """Return the version of Python and the packages in a file of `sweep env lock`.

    Raises SweepError where it is not such a file.
    """
    try:
        if lock.exists() and not lock.is_file():
            raise SweepError(f"the lock {lock} is no regular file", "write one with sweep env lock")
        lines = lock.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(
            f"the lock {lock} cannot be read: {error}", "write one with sweep env lock"
        ) from None
    pins = tuple(
        sorted(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    )
    python = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("# python:")), ""
    )
    if not pins or not python:
        raise SweepError(f"{lock} is no lock of an environment", "write one with sweep env lock")
    sources.check_python(python)
    for pin in pins:
        sources.check_requirement(pin)
    return python, pins
