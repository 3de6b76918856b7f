"""Ranges of versions as values of `framework`: their syntax, and which releases they take.

A range such as `torch>=2.0,<=2.13` is one text everywhere: in the grid, in `run.yaml` beside the
versions it was resolved to, and in messages. `{range: "torch>=2.0", every: patch}` is written
`torch>=2.0 every patch`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from sweep.versions import normal

STEPS = ("minor", "patch")
HINT = (
    'write bounds with versions, as "torch>=2.0,<=2.13" in quotes,'
    ' or {range: "torch>=2.0", every: patch}'
)

_RANGE = re.compile(r"\s*([A-Za-z0-9_.-]+?)\s*((?:[<>=!~]=|===|[<>]).*?)(?:\s+every\s+(\S+))?\s*")
_ORDER = (">", "~", "=", "<", "!")  # the lower bound first, as people write them


class RangeError(ValueError):
    """A value that looks like a range of versions but is not valid; the message says why."""


@dataclass(frozen=True)
class Range:
    """The releases of a framework within bounds.

    `every` is "minor" for the newest patch release of each minor version, or "patch" for all.
    """

    framework: str
    bounds: SpecifierSet
    every: str = "minor"

    def __str__(self) -> str:
        bounds = sorted(map(str, self.bounds), key=lambda bound: (_ORDER.index(bound[0]), bound))
        every = "" if self.every == "minor" else f" every {self.every}"
        return f"{self.framework}{','.join(bounds)}{every}"

    def chosen(
        self, releases: Iterable[Version], is_usable: Callable[[Version], bool] = lambda _: True
    ) -> list[str]:
        """Return the releases that the range takes, in ascending order.

        Of each minor version it takes the newest usable one. Pre-releases are left out unless a
        bound names one. `is_usable` may be slow: it is called for as few releases as possible.
        """
        kept = {release for release in releases if self._holds(release)}
        taken: dict[object, str] = {}
        # From the newest on: the first usable release of a minor version is the one to take.
        for release in sorted(kept, reverse=True):
            step = (release.epoch, release.release[:2]) if self.every == "minor" else release
            if step not in taken and is_usable(release):
                taken[step] = normal(str(release))
        return list(taken.values())[::-1]

    def _holds(self, release: Version) -> bool:
        return self.bounds.contains(release, prereleases=bool(self.bounds.prereleases))


def parsed(text: object) -> Range | None:
    """Return the range in a value of `framework`; None if it is an exact version or no version.

    RangeError if its bounds are invalid.
    """
    match = _RANGE.fullmatch(str(text))
    if match is None:
        return None
    framework, bounds, every = match[1], match[2], match[3]
    is_exact = bounds.startswith("==") and "," not in bounds and not bounds.endswith(".*")
    if is_exact and every is None:
        return None
    if every not in (None, *STEPS):
        raise RangeError(
            f"{text!r} takes every {every}, and a range takes every minor or every patch release"
        )
    try:
        return Range(framework, SpecifierSet(bounds), every or "minor")
    except InvalidSpecifier as error:
        bound = str(error).removeprefix("Invalid specifier: ")
        raise RangeError(f"{text!r} is no range of versions: {bound} is no bound") from None


def joined(values: Iterable[Any]) -> list[Any]:
    """Return values that were separated at commas; bounds are rejoined to the range before them."""
    frameworks: list[Any] = []
    for value in values:
        is_bound = isinstance(value, str) and value.strip().startswith(tuple("<>=!~"))
        if is_bound and frameworks and isinstance(frameworks[-1], str):
            frameworks[-1] = f"{frameworks[-1]},{value}"
        else:
            frameworks.append(value)
    return frameworks


def resolved(values: Iterable[Any], versions: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the values of `framework` with each range replaced by its versions.

    `versions` are by the text of the range. A range that is not among them remains, and so does one
    that is wrong: `parsed` tells of it.
    """
    frameworks: list[Any] = []
    for value in values:
        wanted = _understood(value)
        if wanted and str(wanted) in versions:
            frameworks += [f"{wanted.framework}=={version}" for version in versions[str(wanted)]]
        else:
            frameworks.append(value)
    return frameworks


def _understood(value: object) -> Range | None:
    try:
        return parsed(value)
    except RangeError:
        return None


def stated(given: Mapping[str, Any]) -> str:
    """Return the text of `{range: "torch>=2.0,<=2.13", every: patch}`; RangeError if invalid."""
    unknown = [key for key in given if key not in ("range", "every")]
    if unknown:
        raise RangeError(f"a range of versions has no key {unknown[0]!r}")
    wanted = parsed(f"{given['range']} every {given.get('every', 'minor')}")
    if wanted is None:
        raise RangeError(f"{given['range']!r} is no range of versions")
    return str(wanted)
