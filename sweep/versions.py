"""Versions: one spelling for all those of a version that PEP 440 holds equal."""

from __future__ import annotations

import functools

from packaging.version import InvalidVersion, Version

_PARTS = 3  # as the frameworks write theirs: 2.13.0


@functools.lru_cache(maxsize=10_000)
def normal(version: str) -> str:
    """`2.13`, `v2.13.0` and `2.13.0.0` as `2.13.0`; what is no version, as `mybuild`, stays as it is."""
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
    """`torch == 2.13` as `torch==2.13.0`; a name alone, a glob or bounds stay as they are."""
    name, equal, version = requirement.partition("==")
    spelled = normal(version.strip())
    return f"{name.strip()}=={spelled}" if equal and _is_normal(spelled) else requirement


def same(one: str, other: str) -> bool:
    """Whether two texts are the same version, or the same framework of the same version."""
    return normal_requirement(one) == normal_requirement(other) or normal(one) == normal(other)


def _is_normal(version: str) -> bool:
    """Whether the text is a version, spelled in the one way."""
    try:
        return bool(Version(version))
    except InvalidVersion:
        return False
