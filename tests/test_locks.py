"""Whoever waits for a lock hears who holds it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import catalog, datasets, environments, locks
from sweep.environments import store as environment_store
from sweep.errors import Unavailable
from sweep.node import machine, slots

HOUSE = Path(locks.__file__).resolve().parent.parent
# takes a lock for a run, says so, and holds it until somebody has been told of it
HOLDER = """
import sys
from pathlib import Path
from sweep import locks
from sweep.node import slots
locks.work_for(locks.introduction("other"))
path = Path(sys.argv[1])
with slots.lease(1, True, folder=path) if path.is_dir() else locks.held(path, ""):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, cwd=HOUSE, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


class Ear:
    """Hears what is waited for; the holder then lets go."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self._holder = holder
        self.said: list[str] = []

    def __call__(self, text: str) -> None:
        self.said.append(text)
        if text.startswith(("waiting for ", "core ")):
            assert self._holder.stdin
            self._holder.stdin.close()

    def names_the_holder(self, what: str) -> bool:
        holder = rf"run other \(process {self._holder.pid} on \S+\) since \d\d:\d\d:\d\d"
        told = [text for text in self.said if re.search(holder, text)]
        assert len(told) == 1, self.said
        return what in told[0]


def test_a_data_set_that_another_prepares_is_waited_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path))
    made = datasets.prepare("synthetic", examples=2)
    (made.folder / "meta.json").unlink()
    with holding(tmp_path / "locks" / f"{made.id}.lock") as holder:
        ear = Ear(holder)
        assert datasets.prepare("synthetic", examples=2, say=ear).id == made.id
    assert ear.names_the_holder(f"waiting for data set {made.id}")


def test_an_environment_that_another_builds_is_waited_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path))
    spec = environments.specify(
        catalog.get_framework("torch"), "2.13.0", "cpu", "default", {"python": "2.0"}
    )
    with holding(tmp_path / f".{spec.id}.lock") as holder:
        ear = Ear(holder)
        with pytest.raises(Unavailable, match=r"run other \(process"):
            environment_store.remove(spec.id)
        with environment_store.locked(spec.id, spec.framework, ear):
            pass
    assert ear.names_the_holder("waiting for the environment of torch==2.13.0")


def test_cores_that_another_sweep_holds_are_waited_for_by_name(tmp_path: Path) -> None:
    with holding(tmp_path) as holder:
        ear = Ear(holder)
        with slots.lease(len(machine.usable_cores()), False, folder=tmp_path, say=ear) as lease:
            assert lease.waited_s > locks.PATIENCE_S
    assert ear.names_the_holder("core ")


def test_nothing_is_said_of_a_lock_that_is_free(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with locks.held(tmp_path / "lock", "it", said.append):
            pass
        with slots.lease(1, True, folder=tmp_path, say=said.append):
            pass
    assert said == []


def test_a_holder_that_was_killed_is_not_taken_for_one_that_holds(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path):
        pass
    with holding(path) as holder:
        ear = Ear(holder)
        with locks.held(path, "it", ear):
            assert f"process {os.getpid()} " in locks.holder(path)
    assert ear.names_the_holder("waiting for it, held by")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_a_sweep_says_for_whose_cores_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "t" / f"sweep-slots-{os.getuid()}"
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    (tmp_path / "grid.yaml").write_text(GRID)
    command = [sys.executable, "-m", "sweep", "run", "grid.yaml", "--max-contention", "any"]
    environment = os.environ | {"PYTHONPATH": str(HOUSE)}
    with holding(folder) as holder:
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr
            told = next((line for line in process.stderr if f"process {holder.pid} on" in line), "")
            assert "waiting for core" in told
            assert "held by run other" in told
            holder.kill()
            process.stderr.read()
        assert process.returncode == 0


GRID = """
name: mine
axes: {framework: [reference], batch_exponent: [0], seed: [0]}
parameters: {samples: 1, warmup: 0, threads: 1, parity_examples: 1}
"""
