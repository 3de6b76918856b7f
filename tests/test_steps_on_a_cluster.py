"""A step of one's own on somebody's cluster, whose nodes have never seen its files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from raylets import Raylets

from sweep.environments import root
from sweep.records.results import Results
from sweep.records.storage import Storage

HOUSE = Path(__file__).resolve().parent.parent
STEP = """\
# /// script
# [tool.sweep]
# files = ["numbers"]
#
# [tool.sweep.axes]
# framework = ["reference"]
# seed = [0, 1, 2, 3]
#
# [tool.sweep.parameters]
# samples = 2
# ///
from pathlib import Path

import model

HERE = Path(__file__).parent


def setup(seed):
    number = float((HERE / "numbers" / "one.txt").read_text())
    return lambda: model.scaled(number, seed)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: Ray's sockets have names of a hundred characters at the most."""
    with tempfile.TemporaryDirectory(prefix="steps-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_a_step_goes_to_the_nodes_of_a_cluster_with_its_files(folder: Path) -> None:
    mine = folder / "mine"
    (mine / "numbers").mkdir(parents=True)
    (mine / "step.py").write_text(STEP)
    (mine / "model.py").write_text("def scaled(number, seed):\n    return number * (seed + 1)\n")
    (mine / "numbers" / "one.txt").write_text("2.5")
    shared = {"SWEEP_ENV_DIR": str(root()), "PYTHONPATH": str(HOUSE)}
    node_home = folder / "home of the nodes"

    with Raylets(folder, folder / "r", SWEEP_HOME=str(node_home), **shared) as raylets:
        raylets.add("one", "two")
        command = [sys.executable, "-m", "sweep", "run", "step.py", "--address", raylets.address]
        ended = subprocess.run(
            [*command, "--max-contention", "any"],
            cwd=mine,
            env={**os.environ, **shared, "SWEEP_HOME": str(folder / "home of the driver")},
            capture_output=True,
            text=True,
            timeout=280,
        )

    assert ended.returncode == 0, ended.stderr
    found = Results(Storage(str(mine / "results")).child("step")).records(
        ["seed", "result", "node"]
    )
    assert dict(zip(found["seed"].to_pylist(), found["result"].to_pylist(), strict=True)) == {
        0: 2.5,
        1: 5.0,
        2: 7.5,
        3: 10.0,
    }
    assert set(found["node"].to_pylist()) <= {"one", "two"}
    assert len(list((node_home / "steps").glob("*/numbers/one.txt"))) == 1
