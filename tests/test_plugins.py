"""Frameworks, workloads and data sets from packages of one's own, as docs/plugins.md tells it."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import uv

from sweep.node import hosts
from workloads.runtime import protocol

HOUSE = Path(__file__).resolve().parent.parent
EXAMPLE = HOUSE / "docs" / "examples" / "plugin"

FRAMEWORK = """
import os
IMPORTED_IN = os.getpid()
PROCESS = {process!r}
"""
WORKLOAD = """
import os
PARAMETERS = {}
def run(framework, settings, data, reference, report):
    return {"forked": framework.IMPORTED_IN != os.getpid()}
"""


@pytest.mark.parametrize(("declared", "asked", "forked"), [
    ("fork", "fork", True), ("fork", "spawn", False), ("spawn", "fork", False), ("spawn", "spawn", False),
])  # fmt: skip
def test_a_framework_that_cannot_be_forked_gets_an_interpreter_for_every_trial(
    tmp_path: Path, declared: str, asked: str, forked: bool
) -> None:
    framework, workload = tmp_path / "framework.py", tmp_path / "workload.py"
    framework.write_text(FRAMEWORK.format(process=declared))
    workload.write_text(WORKLOAD)
    key = hosts.Key(sys.executable, True, str(framework), tuple(sorted(hosts.variables(1).items())))
    request = protocol.Request("trial", protocol.RUN, str(workload), {"process": asked}, cores=[])

    outcome = hosts.run(key, request, 60)

    assert outcome.columns["forked"] is forked


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with the example installed, which borrows everything else from ours."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")  # building leaves things where it builds
    made = folder / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, made], check=True)
    python = made / "bin" / "python"
    subprocess.run([tool, "pip", "install", "--quiet", "--python", python, "--no-deps", source], check=True)
    borrowed = [path for path in site.getsitepackages() if path != sysconfig.get_path("stdlib")]
    (here,) = made.glob("lib/python*/site-packages")
    (here / "borrowed.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in borrowed))
    return python


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.network
def test_what_a_package_adds_runs_as_what_is_in_the_tree(python: Path, tmp_path: Path) -> None:
    command = [python, "-m", "sweep", "run", EXAMPLE / "grid.yaml", "--out", tmp_path, "--max-foreign", "any"]
    ended = subprocess.run(command, cwd=HOUSE, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]

    records = pq.read_table(tmp_path / "plugin" / "records").to_pylist()

    assert {(r["framework"], r["workload"], r["status"]) for r in records} == {
        (framework, workload, "ok") for framework in ("autograd", "reference") for workload in ("core", "accumulate")
    }
    theirs = [r for r in records if r["framework"] == "autograd"]
    assert all(max(r["loss_check"], r["grad_check"]) < 1e-4 for r in theirs)
    assert {r["parts"] for r in theirs if r["workload"] == "accumulate"} == {2}
    assert all(json.loads(r["settings"])["data"] == "discs" and r["data_id"] for r in records)
