"""A framework `tiny` with many versions, each a wheel of a few lines: how long a step takes depends on the version."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

PYTHON = ".".join(map(str, sys.version_info[:2]))
FRAMEWORK = f'''
# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = "tiny"
#
# [tool.sweep.recipes."*"]
# python = ["{PYTHON}"]
# requires = ["helper"]
# ///
"""Sleeps for as long as its version does."""
import tiny

STEP_S = tiny.STEP_S


def load(settings):
    pass


def facts():
    return {{}}
'''
WORKLOAD = '''
"""A step of the framework."""
import time

PARAMETERS = {"process": "fork", "threads": None, "samples": 3}


def run(framework, settings, data, reference, report):
    times = []
    for _ in range(settings["samples"]):
        start = time.perf_counter()
        time.sleep(framework.STEP_S)
        times.append(time.perf_counter() - start)
    return {"step_s": times}
'''
ENTRY_POINTS = "[sweep.frameworks]\ntiny = tiny_plugin.tiny_framework\n[sweep.workloads]\nstep = tiny_plugin.step\n"


def plugin(site: Path) -> None:
    """A package with the framework and a workload `step` that times its steps."""
    package, information = site / "tiny_plugin", site / "tiny_plugin-1.0.dist-info"
    package.mkdir(parents=True)
    information.mkdir()
    (package / "__init__.py").touch()
    (package / "tiny_framework.py").write_text(FRAMEWORK)
    (package / "step.py").write_text(WORKLOAD)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(ENTRY_POINTS)


def wheels(folder: Path, steps_s: Mapping[str, float | None]) -> None:
    """A wheel of `tiny` for each version; one that takes no time cannot be imported.

    From 1.5 on it needs a newer `helper`.
    """
    folder.mkdir()
    for version, step_s in steps_s.items():
        code = f"STEP_S = {step_s}" if step_s else "raise ImportError('libfast.so.1 is not there')"
        helper = "helper<2" if tuple(map(int, version.split("."))) < (1, 5) else "helper>=2"
        wheel(folder, "tiny", version, code, helper)
    for version in ("1.0", "2.0"):
        wheel(folder, "helper", version)


def wheel(folder: Path, name: str, version: str, code: str = "", needs: str = "") -> None:
    information = f"{name}-{version}.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}.py": f"__version__ = {version!r}\n{code}\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{information}/RECORD": record}.items():
            archive.writestr(path, text)
