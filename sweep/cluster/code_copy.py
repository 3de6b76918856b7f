"""The code that nodes of a joined cluster run: a copy of `sweep`, `workloads` and plug-ins."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.metadata import Distribution, entry_points
from pathlib import Path

from sweep import catalog
from sweep.errors import SweepError


def copy_code(folder: Path) -> None:
    """Copy this process's `sweep`, `workloads` and plug-in packages side by side into a folder."""
    for name in ("sweep", "workloads"):
        _copy_package(name, folder)
    points = [point for group in catalog.ENTRY_POINTS for point in entry_points(group=group)]
    for package in {point.module.partition(".")[0] for point in points}:
        _copy_package(package, folder)
    for distribution in {point.dist.name: point.dist for point in points if point.dist}.values():
        _copy_entry_points(distribution, folder)


def _copy_package(name: str, folder: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise SweepError(
            f"the package {name} has no folder to send to the nodes", "install it from its checkout"
        )
    for source in map(Path, spec.submodule_search_locations or []):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignored, dirs_exist_ok=True)
    if not spec.submodule_search_locations and spec.origin:
        shutil.copy(spec.origin, folder)


def _copy_entry_points(distribution: Distribution, folder: Path) -> None:
    """Write the metadata that makes a node see the package as installed.

    An editable distribution has hardly any other files that could be copied.
    """
    information = folder / f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info"
    information.mkdir()
    for file in ("METADATA", "entry_points.txt"):
        (information / file).write_text(distribution.read_text(file) or "", encoding="utf-8")
