"""Packages: the differences of two environments, by the lists of packages that a run keeps."""

from __future__ import annotations

from packaging.utils import canonicalize_name


def changed(before: str, after: str) -> dict[str, tuple[str, str]]:
    """Return the packages in which two lists differ, each with its version before and after.

    A version is "" where a list lacks the package.
    """
    old, new = _versions(before), _versions(after)
    names = sorted(old.keys() | new.keys())
    versions = {name: (old.get(name, ""), new.get(name, "")) for name in names}
    return {name: (one, other) for name, (one, other) in versions.items() if one != other}


def change_text(name: str, before: str, after: str) -> str:
    """Return a change as text, as in `numpy 1.26.4 → 2.0.2` or `einops 0.8.0 added`."""
    if before and after:
        return f"{name} {before} → {after}"
    return f"{name} {after} added" if after else f"{name} {before} removed"


def _versions(packages: str) -> dict[str, str]:
    """Return the version of each package of a list; for `tiny @ file:///…` it is the address."""
    versions: dict[str, str] = {}
    for line in packages.splitlines():
        name, equal, version = line.partition("==")
        if not equal:
            name, _, version = line.partition("@")
        versions[canonicalize_name(name.strip())] = version.strip()
    return versions
