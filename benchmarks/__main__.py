"""Measure groups of figures and write docs/performance.md: `python -m benchmarks [GROUP …] [--quick]`."""

from __future__ import annotations

import argparse
import importlib

from benchmarks import document, figures

GROUPS = ("trials", "startup", "building", "fidelity")  # modules with `figures(quick)`

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
parser.add_argument("--quick", action="store_true", help="fewer trials and repetitions")
options = parser.parse_args()
if unknown := set(options.groups) - set(GROUPS):
    parser.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
for group in options.groups or GROUPS:
    found = []
    for figure in importlib.import_module(f"benchmarks.{group}").figures(options.quick):
        print(f"{figure.what}: {figure.who}: {figure.value:.4g} {figure.unit}  {figure.note}", flush=True)
        found.append(figure)
    figures.keep(group, found)
    document.write()
