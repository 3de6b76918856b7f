"""Versions: one normal spelling for all spellings that PEP 440 considers equal."""

from __future__ import annotations

import functools

from packaging.version import InvalidVersion, Version

_PARTS = 3  # as in the frameworks' own versions: 2.13.0


@functools.lru_cache(maxsize=10_000)
def normal(version: str) -> str:
    """Return `2.13`, `v2.13.0` and `2.13.0.0` as `2.13.0`; text that is no version is unchanged."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return version
    release = list(parsed.release)
    while len(release) > _PARTS and release[-1] == 0:
        release.pop()
    release += [0] * (_PARTS - len(release))
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    return epoch + ".".join(map(str, release)) + str(parsed).removeprefix(parsed.base_version)


def normal_requirement(requirement: str) -> str:
    """Return `torch == 2.13` as `torch==2.13.0`; a name alone, a glob and bounds are unchanged."""
    name, equal, version = requirement.partition("==")
    spelled = normal(version.strip())
    return f"{name.strip()}=={spelled}" if equal and _is_normal(spelled) else requirement


def same(one: str, other: str) -> bool:
    """Return whether two texts are the same version, or the same version of one framework."""
    return normal_requirement(one) == normal_requirement(other) or normal(one) == normal(other)


def _is_normal(version: str) -> bool:
    """Return whether a normalised text is a version."""
    try:
        return bool(Version(version))
    except InvalidVersion:
        return False
