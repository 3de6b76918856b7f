"""Packages: what two environments have otherwise, by the lists that a run keeps of them."""

from __future__ import annotations

from packaging.utils import canonicalize_name


def changed(before: str, after: str) -> dict[str, tuple[str, str]]:
    """The packages in which two lists differ, by name, each with its version before and after.

    A version is empty where a list lacks the package.
    """
    old, new = _versions(before), _versions(after)
    names = sorted(old.keys() | new.keys())
    versions = {name: (old.get(name, ""), new.get(name, "")) for name in names}
    return {name: (one, other) for name, (one, other) in versions.items() if one != other}


def said(name: str, before: str, after: str) -> str:
    """`numpy 1.26.4 → 2.0.2`, `einops 0.8.0 added`, `six 1.17.0 removed`."""
    if before and after:
        return f"{name} {before} → {after}"
    return f"{name} {after} added" if after else f"{name} {before} removed"


def _versions(packages: str) -> dict[str, str]:
    """The version of each package of a list; of `tiny @ file:///…` where it is from."""
    found: dict[str, str] = {}
    for line in packages.splitlines():
        name, equal, version = line.partition("==")
        if not equal:
            name, _, version = line.partition("@")
        found[canonicalize_name(name.strip())] = version.strip()
    return found
