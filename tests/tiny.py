"""`sweep run` on trials that only rest: the whole way, as fast as it goes, for tests of what breaks under it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from trials import remains, until

from sweep.records.results import Results
from sweep.records.storage import Storage

HOUSE = Path(__file__).resolve().parent.parent

WORKLOAD = '''
"""Rest: no data; what a trial does is sleep, and draw a number by which its record is known to be its own."""
import time

import numpy as np

PARAMETERS = {"nap_s": 0.05, "process": "fork", "threads": None, "letter": "a", "eats_bytes": 0}


def run(framework, settings, data, reference, report):
    start = time.perf_counter()
    report({"resting": True})
    eaten = bytearray(settings["eats_bytes"] if settings["letter"] == "d" else 0)
    time.sleep(settings["nap_s"])
    drawn = np.random.RandomState(settings["seed"]).rand() + ord(settings["letter"])
    return {"step_s": [time.perf_counter() - start], "loss": [float(drawn) + sum(eaten[:9])]}
'''

ENTRY_POINTS = "[sweep.workloads]\nrest = tiny_workloads.rest\n"

GRID = """
name: tiny
workload: rest
axes:
  framework: [reference]
  letter: [a, b, c, d]
  seed: {{range: [0, {last}]}}
parameters: {{nap_s: {nap_s}, eats_bytes: {eats_bytes}}}
resources: {{cpu: 1, exclusive: {exclusive}}}
"""


class Account(NamedTuple):
    """What records say of a plan: trials, and parts of records that cannot be read.

    A trial is `lost` that has no `ok` record, `double` with more than one, `wrong` with the figures of another.
    """

    planned: int
    recorded: int
    lost: int
    double: int
    wrong: int
    unplanned: int
    damaged: int

    @property
    def clean(self) -> bool:
        return self.planned == self.recorded and not any(self[2:])

    @classmethod
    def of(cls, results: Results) -> Account:
        planned = {
            row["trial_id"]: row["trial_name"]
            for row in results.plan().to_pylist()
            if row["trial_id"]
        }
        attempts = (
            results.attempts().to_pylist()
        )  # a fold that was cut short leaves some in two parts
        rows = list(
            {(row["trial_id"], row["attempt"], row["started_at"]): row for row in attempts}.values()
        )
        ok = Counter(row["trial_id"] for row in rows if row["status"] == "ok")
        return cls(
            planned=len(planned),
            recorded=len(planned.keys() & {row["trial_id"] for row in rows}),
            lost=len(planned.keys() - ok.keys()),
            double=sum(1 for count in ok.values() if count > 1),
            wrong=sum(
                1
                for row in rows
                if row["status"] == "ok" and not _own(row, planned.get(row["trial_id"]))
            ),
            unplanned=len({row["trial_id"] for row in rows} - planned.keys()),
            damaged=len(results.damaged),
        )


def _own(record: dict[str, Any], name: str | None) -> bool:
    """Whether a record has the name, the settings and the figures of its trial."""
    seed, letter, nap_s = (
        json.loads(record["settings"])[setting] for setting in ("seed", "letter", "nap_s")
    )
    told = record["trial_name"], record["seed"], record["letter"], record["loss"]
    return (
        told == (name, seed, letter, [drawn(seed, letter)])
        and nap_s <= record["step_s"][0] <= record["wall_s"]
    )


def drawn(seed: int, letter: str) -> float:
    """What a trial draws."""
    return float(np.random.RandomState(seed).rand() + ord(letter))


class Sweep:
    """A grid of four cells and `seeds` seeds in a folder of its own, with all that `sweep run` needs to run it.

    Trials of the last cell take `eats_bytes` of memory.
    """

    def __init__(
        self,
        seeds: int,
        nap_s: float = 0.05,
        exclusive: bool = False,
        out: str | None = None,
        eats_bytes: int = 0,
    ) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="st-", dir="/tmp")
        )  # short: sockets of Ray lie below it
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
        self.grid.write_text(
            GRID.format(
                last=seeds - 1, nap_s=nap_s, eats_bytes=eats_bytes, exclusive=str(exclusive).lower()
            )
        )
        self.paths = (
            f"{HOUSE}:{self.folder / 'plugin'}"  # where Python finds this code and plug-ins
        )
        self.tmp = self.folder / "t"
        self.tmp.mkdir()
        self.nodes: list[str] = []  # names of nodes with folders of their own below it
        self.out = out or str(self.folder / "results")
        self.results = Path(self.out) / "tiny"

    def start(
        self, *options: str, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """`sweep run`, in a session of its own, as from a terminal of its own; `before` are words before it."""
        return subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                "sweep",
                "run",
                str(self.grid),
                "--out",
                self.out,
                *options,
            ],
            env=self.environment | environment,
            cwd=HOUSE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *options: str, before: tuple[str, ...] = (), **environment: str
    ) -> tuple[int, str]:
        """To its end; the exit code, and what it said beside data."""
        with self.start(*options, before=before, **environment) as process:
            _, err = process.communicate(timeout=280)
        return process.returncode, err

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": self.paths,
            "TMPDIR": str(self.tmp),
            "SWEEP_MAX_CONTENTION": "any",
        }

    @property
    def kept(self) -> int:
        """How many trials have a record by now."""
        return len(self.recorded)

    @property
    def recorded(self) -> set[str]:
        """The trials that have a record by now."""
        return set(self.records.statuses())

    @property
    def records(self) -> Results:
        return Results(Storage(self.out).child("tiny"))

    def complete(self) -> bool:
        """Whether every trial of the plan has its one `ok` record, and its own: none is lost, none ran twice."""
        account = Account.of(self.records)
        assert account.planned == self.count
        assert account.clean, account
        return True

    def leavings(self) -> list[str]:
        """Processes, locks and temporary files that this sweep left."""
        return [*self.orphans(), *self.locks(), *self.temporary_files()]

    def orphans(self) -> list[str]:
        return [each for each in remains(self.tmp) if each.startswith("process ")]

    def locks(self) -> list[str]:
        """But for those of a node's cores, which stay and are free."""
        return [path for path in _below(self.tmp) + _below(self.results) if path.endswith(".lock")]

    def temporary_files(self) -> list[str]:
        nodes = [str(self.tmp / name) for name in self.nodes]
        files = [
            path for path in _below(self.tmp) if path not in nodes and "sweep-slots-" not in path
        ]
        files += [path for path in _below(self.results) if Path(path).name.startswith(".")]
        return [path for path in files if not path.endswith(".lock")]

    def alone(self) -> bool:
        """Whether nothing is left, after a moment in which what is dying may die."""
        assert until(lambda: not self.leavings(), 30), self.leavings()
        return True

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to this sweep."""
        return [each for each in psutil.process_iter() if self._owns(each)]

    def _owns(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return Path(process.environ().get("TMPDIR", "/")).is_relative_to(self.tmp)
        return False

    def find(self, part: str) -> list[psutil.Process]:
        """The living processes that are one part of the sweep."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                if PARTS[part](process) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def strike(self, part: str, number: int = signal.SIGKILL) -> psutil.Process | None:
        """Send the signal to one process that is that part of the sweep; None where there is none now."""
        for victim in self.find(part):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
                return victim
        return None

    def remove(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _below(folder: Path) -> list[str]:
    """All paths below a folder in which things may come and go."""
    return [
        f"{top}/{name}" for top, folders, files in os.walk(folder) for name in [*folders, *files]
    ]


def _is_host(process: psutil.Process) -> bool:
    """Also where the code was sent to, in a folder of Ray's."""
    return any(word.endswith("/workloads/__main__.py") for word in process.cmdline())


PARTS: dict[str, Callable[[psutil.Process], bool]] = {
    "driver": lambda process: process.cmdline()[1:4] == ["-m", "sweep", "run"],
    "Ray worker": lambda process: (
        process.name().startswith("ray::") and any(c.children() for c in process.children())
    ),
    "raylet": lambda process: process.name() == "raylet",
    "head": lambda process: process.name() == "gcs_server",
    "fork server": lambda process: (
        _is_host(process) and not _is_host(process.parent()) and bool(process.children())
    ),
    "trial": lambda process: _is_host(process) and _is_host(process.parent()),
}
