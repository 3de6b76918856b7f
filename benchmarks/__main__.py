"""Measure groups of figures and write docs/performance.md.

Run `python -m benchmarks [GROUP …] [--quick]`.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks import document, figures
from sweep.analysis.quantities import quantity

GROUPS = (  # modules with `figures(quick)`, in the document's order
    *("trials", "overhead", "fixed", "memory", "startup", "building", "fidelity", "agreement"),
    *("train", "plan", "scale", "summarize", "report", "coverage", "adaptive", "bisect"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="fewer trials and repetitions")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(
            f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}"
        )
    for group in options.groups or GROUPS:
        found, machine = [], figures.told()
        for figure in importlib.import_module(f"benchmarks.{group}").figures(options.quick):
            print(
                f"{figure.what}: {figure.who}: {quantity(figure.value, figure.unit)}"
                f"  {figure.note}",
                flush=True,
            )
            found.append(figure)
        figures.keep(group, found, machine, options.quick)
        document.write(GROUPS)


if __name__ == "__main__":
    main()
