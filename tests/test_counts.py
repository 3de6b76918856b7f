"""Counts that do not depend on the machine: what makes commands and trials quick, held so that it stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweep.node import hosts
from sweep.records.results import Results, RunFacts
from workloads.runtime import protocol

HOUSE = Path(__file__).resolve().parent.parent
SLOW = ("ray", "pyarrow", "scipy", "altair", "pandas")
WORKLOAD = (
    "import os\nPARAMETERS = {}\ndef run(framework, *_):\n    return {'host': framework.HOST, 'own': os.getpid()}\n"
)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["schema"]])
def test_commands_that_only_tell_something_import_nothing_slow(arguments: list[str]) -> None:
    assert _imported_by(arguments) & set(SLOW) == set()


def test_a_plan_imports_no_ray(tmp_path: Path) -> None:
    imported = _imported_by(["plan", str(HOUSE / "grid.yaml"), "--out", str(tmp_path)])

    assert imported & {"ray", "scipy", "altair", "pandas"} == set()


def test_trials_of_one_environment_share_one_import_and_are_one_process_each(tmp_path: Path) -> None:
    framework, workload = tmp_path / "framework.py", tmp_path / "workload.py"
    framework.write_text("import os\nHOST = os.getpid()\n")
    workload.write_text(WORKLOAD)
    key = hosts.Key(sys.executable, True, str(framework), tuple(sorted(hosts.variables(1).items())))
    request = protocol.Request("trial", protocol.RUN, str(workload), {}, cores=[])

    found = [hosts.run(key, request, 60).columns for _ in range(10)]

    assert len({columns["host"] for columns in found}) == 1
    assert len({columns["own"] for columns in found}) == 10


def test_a_hundred_records_are_a_hundred_parts_and_never_lie_about_as_many(tmp_path: Path) -> None:
    with Results(tmp_path).open(RunFacts("counts", "")) as writer:
        for number in range(100):
            writer.append({"trial_id": f"{number:016x}", "status": "ok"})
        lying = list((tmp_path / "records").iterdir())
    left = list((tmp_path / "records").iterdir())

    assert len(lying) == 1 + (100 - 64)  # the first 64 are folded into one
    assert len(left) == 1


def _imported_by(arguments: list[str]) -> set[str]:
    """The outermost packages that a call of the command line imports."""
    command = [sys.executable, "-X", "importtime", "-m", "sweep", *arguments]
    ended = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    timed = (line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in timed}
