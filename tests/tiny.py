"""`sweep run` on trials that only rest: the whole way, as fast as it goes, for tests of what breaks under it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
from trials import remains, until

from sweep.records.results import Results

HOUSE = Path(__file__).resolve().parent.parent

WORKLOAD = '''
"""Rest: no framework, no data; what a trial does is sleep."""
import time

PARAMETERS = {"nap_s": 0.05, "process": "fork", "threads": None, "letter": "a"}


def run(framework, settings, data, reference, report):
    start = time.perf_counter()
    report({"resting": True})
    time.sleep(settings["nap_s"])
    return {"step_s": [time.perf_counter() - start]}
'''

ENTRY_POINTS = "[sweep.workloads]\nrest = tiny_workloads.rest\n"

GRID = """
name: tiny
workload: rest
axes:
  framework: [reference]
  letter: [a, b, c, d]
  seed: {{range: [0, {last}]}}
parameters: {{nap_s: {nap_s}}}
resources: {{cpu: 1, exclusive: {exclusive}}}
"""


class Sweep:
    """A grid of four cells and `seeds` seeds in a folder of its own, with all that `sweep run` needs to run it."""

    def __init__(self, seeds: int, nap_s: float = 0.05, exclusive: bool = False, out: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))  # short: sockets of Ray lie below it
        self.count = 4 * seeds
        package = self.folder / "plugin" / "tiny_workloads"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "rest.py").write_text(WORKLOAD)
        information = self.folder / "plugin" / "tiny-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(ENTRY_POINTS)
        self.grid = self.folder / "grid.yaml"
        self.grid.write_text(GRID.format(last=seeds - 1, nap_s=nap_s, exclusive=str(exclusive).lower()))
        self.tmp = self.folder / "t"
        self.tmp.mkdir()
        self.out = out or str(self.folder / "results")
        self.results = Path(self.out) / "tiny"

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """`sweep run`, in a session of its own, as from a terminal of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "sweep", "run", str(self.grid), "--out", self.out, *options],
            env=self.environment | environment,
            cwd=HOUSE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        """To its end; the exit code, and what it said beside data."""
        with self.start(*options, **environment) as process:
            _, err = process.communicate(timeout=280)
        return process.returncode, err

    @property
    def environment(self) -> dict[str, str]:
        paths = f"{HOUSE}:{self.folder / 'plugin'}"
        return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(self.tmp), "SWEEP_MAX_FOREIGN": "100"}

    @property
    def kept(self) -> int:
        """How many trials have a record by now."""
        return len(Results(self.out + "/tiny").statuses())

    def complete(self) -> bool:
        """Whether every trial of the plan has its one `ok` record: none is lost, none ran twice."""
        results = Results(self.out + "/tiny")
        planned = sorted(row["trial_id"] for row in results.plan().to_pylist() if row["trial_id"])
        attempts = results.attempts(["trial_id", "status"]).to_pylist()
        assert len(set(planned)) == self.count
        assert sorted(r["trial_id"] for r in attempts if r["status"] == "ok") == planned
        assert {r["trial_id"] for r in attempts} == set(planned)
        assert results.damaged == []
        return True

    def leavings(self) -> list[str]:
        """Processes, and temporary files and locks, that this sweep left; but for the node's locks, which stay."""
        left = [each for each in remains(self.tmp) if "sweep-slots-" not in each]
        return left + [str(path) for path in Path(self.results).rglob(".*")]

    def alone(self) -> bool:
        """Whether nothing is left, after a moment in which what is dying may die."""
        assert until(lambda: not self.leavings(), 30), self.leavings()
        return True

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to this sweep."""
        return [each for each in psutil.process_iter() if self._owns(each)]

    def _owns(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.environ().get("TMPDIR") == str(self.tmp)
        return False

    def find(self, part: str) -> list[psutil.Process]:
        """The living processes that are one part of the sweep."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                if PARTS[part](process) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def remove(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_host(process: psutil.Process) -> bool:
    return str(HOUSE / "workloads" / "__main__.py") in process.cmdline()


PARTS: dict[str, Callable[[psutil.Process], bool]] = {
    "driver": lambda process: process.cmdline()[1:4] == ["-m", "sweep", "run"],
    "Ray worker": lambda process: process.name().startswith("ray::") and bool(process.children()),
    "raylet": lambda process: process.name() == "raylet",
    "head": lambda process: process.name() == "gcs_server",
    "fork server": lambda process: _is_host(process) and not _is_host(process.parent()) and bool(process.children()),
    "trial": lambda process: _is_host(process) and _is_host(process.parent()),
}
