"""Trials that do as they are told, for tests of what carries trials: no framework, no environment."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Wants:
    """What a trial asks for."""

    cpu: float = 1
    gpu: float = 0
    memory: int | None = None
    exclusive: bool = False
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One that rests for `nap_s`, then does what `deed` says, with the help of the file `mark`."""

    id: str
    nap_s: float = 0.0
    deed: str = ""
    mark: str = ""
    block: int = 0
    attempt: int = 1
    resources: Wants = field(default_factory=Wants)

    @property
    def name(self) -> str:
        return f"trial/{self.id}"


def some(count: int, **like: Any) -> list[Trial]:
    """`count` trials alike, ten to a block."""
    return [Trial(f"{number:04d}", block=number // 10, **like) for number in range(count)]


def run(trial: Trial) -> dict[str, Any]:
    """A record that says when and where it was, and with what in sight."""
    began = time.time()
    if trial.deed:
        _DEEDS[trial.deed](trial)
    time.sleep(trial.nap_s)
    return {
        "trial_id": trial.id,
        "trial_name": trial.name,
        "attempt": trial.attempt,
        "status": "ok",
        "began": began,
        "ended": time.time(),
        "pid": os.getpid(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "cores": sorted(os.sched_getaffinity(0)),
        "code": importlib.util.find_spec("sweep").origin,
    }


def telling(trial: Trial, tell: Any) -> dict[str, Any]:
    """A trial that says how far it is, three times."""
    for step in range(3):
        tell({"step": step})
    return run(trial)


def _die(_: Trial) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(trial: Trial) -> None:
    mark = Path(trial.mark)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _hang_once(trial: Trial) -> None:
    mark = Path(trial.mark)
    if not mark.exists():
        mark.touch()
        time.sleep(600)


def _raise(trial: Trial) -> None:
    raise ValueError(f"{trial.name} will not")


def _have_a_child(trial: Trial) -> None:
    """Leave the process's number in the file `mark` and wait for it, as for a trial's worker."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(f"{trial.mark}{trial.id}").write_text(str(child.pid))
    child.wait()


_DEEDS = {
    "die": _die,
    "die once": _die_once,
    "hang once": _hang_once,
    "raise": _raise,
    "child": _have_a_child,
}


def until(condition: Any, timeout_s: float = 60.0) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + timeout_s
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds)


def most_at_once(records: list[dict[str, Any]]) -> int:
    """How many of these ran at the same time, by their own clocks."""
    events = [(r["began"], 1) for r in records] + [(r["ended"], -1) for r in records]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records are of trials that ran at the same time."""
    return one["began"] < other["ended"] and other["began"] < one["ended"]


def remains(folder: Path) -> list[str]:
    """What a Ray of our own under this temporary folder left: processes that know it, files."""
    left = [str(path) for path in folder.iterdir()]
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        words = [
            *(process.info["cmdline"] or []),
            (process.info["environ"] or {}).get("TMPDIR", ""),
        ]
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            left.append(f"process {process.pid}: {' '.join(process.info['cmdline'] or [])[:80]}")
    return left
