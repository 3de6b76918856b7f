"""Ranges of versions as values of `framework`: what `torch>=2.0,<=2.13` means, and which releases of a list it takes.

A range is one text everywhere: in the grid, in `run.yaml` beside the versions that it stands for, in messages.
`{range: "torch>=2.0", every: patch}` is written `torch>=2.0 every patch`.
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
HINT = 'write bounds with versions, as "torch>=2.0,<=2.13" in quotes, or {range: "torch>=2.0", every: patch}'

_RANGE = re.compile(r"\s*([A-Za-z0-9_.-]+?)\s*((?:[<>=!~]=|===|[<>]).*?)(?:\s+every\s+(\S+))?\s*")
_ORDER = (">", "~", "=", "<", "!")  # of bounds, as people write them


class RangeError(ValueError):
    """A value that looks like a range of versions and is none; the message says why."""


@dataclass(frozen=True)
class Range:
    """The releases of a framework that keep some bounds: of each minor version the newest patch release, or all."""

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
        """The releases that the range takes, in ascending order; of each minor version the newest that is usable.

        Pre-releases are left out unless a bound names one. As few releases as possible are asked about.
        """
        kept = {release for release in releases if self._holds(release)}
        taken: dict[object, str] = {}
        for release in sorted(kept, reverse=True):
            step = (release.epoch, release.release[:2]) if self.every == "minor" else release
            if step not in taken and is_usable(release):
                taken[step] = normal(str(release))
        return list(taken.values())[::-1]

    def _holds(self, release: Version) -> bool:
        return self.bounds.contains(release, prereleases=bool(self.bounds.prereleases))


def parsed(text: object) -> Range | None:
    """The range that a value of `framework` is; None for an exact version and for what is no version at all.

    Raises RangeError where bounds are written that cannot be understood.
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
    """Values that were apart by commas, as on a command line: bounds that follow a range are of that range."""
    found: list[Any] = []
    for value in values:
        is_bound = isinstance(value, str) and value.strip().startswith(tuple("<>=!~"))
        if is_bound and found and isinstance(found[-1], str):
            found[-1] = f"{found[-1]},{value}"
        else:
            found.append(value)
    return found


def written_out(values: Iterable[Any], versions: Mapping[str, Sequence[str]]) -> list[Any]:
    """The values of `framework` with the known `versions` of each range in its place, by the range's text."""
    found: list[Any] = []
    for value in values:
        wanted = parsed(value)
        known = versions.get(str(wanted)) if wanted else None
        found += (
            [value]
            if wanted is None or known is None
            else [f"{wanted.framework}=={each}" for each in known]
        )
    return found


def stated(given: Mapping[str, Any]) -> str:
    """The text of `{range: "torch>=2.0,<=2.13", every: patch}`; RangeError where it says something else."""
    unknown = [key for key in given if key not in ("range", "every")]
    if unknown:
        raise RangeError(f"a range of versions has no key {unknown[0]!r}")
    found = parsed(f"{given['range']} every {given.get('every', 'minor')}")
    if found is None:
        raise RangeError(f"{given['range']!r} is no range of versions")
    return str(found)
