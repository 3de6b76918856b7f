"""Peers: other tools, each in an environment of its own, and commands timed from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs
import uv

from sweep import environments, process
from sweep.environments import indexes
from sweep.node import hosts, machine, slots
from sweep.node.worker import specification

HERE = Path(__file__).resolve().parent
HOUSE = HERE.parent
PLUGINS = HERE / "plugins"


class Ran(NamedTuple):
    """How a command went: seconds from outside, its process's memory at its most, what it said."""

    seconds: float
    peak_rss_bytes: int
    output: str


def run(
    command: Sequence[str | Path], folder: Path | None = None, more: Mapping[str, str] | None = None
) -> Ran:
    """Run a command to its end; RuntimeError with its last words where it fails.

    Every tool may keep the bytecode that it compiles, whatever the shell here says.
    """
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        child = subprocess.Popen(
            words,
            cwd=folder,
            env=known | dict(more or {}),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        with _watched(child.pid) as peaks:
            child.wait()
        seconds = time.perf_counter() - start
        said.seek(0)
        output = said.read()
    if child.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {child.returncode}:\n{output[-2000:]}")
    return Ran(seconds, max(peaks, default=0), output)


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """What the process held at its most, looked at every half second: what the kernel tells of it when it has ended
    counts what its parent held when it was forked."""
    peaks: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(OSError):
                peaks.append(peak_rss_bytes(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peaks
    finally:
        over.set()
        watching.join()


def peak_rss_bytes(pid: int | str = "self") -> int:
    """What a process has held at its most since it is the program that it is; 0 where it has just ended."""
    _, there, after = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
    return int(after.split()[0]) * 1024 if there else 0


def as_a_trial(
    command: Sequence[str | Path],
    folder: Path = Path(os.sep),
    more: Mapping[str, str] | None = None,
) -> str:
    """What a command prints that gets the cores and the variables that a trial would, nobody else's, and `more`."""
    cores = len(machine.usable_cores())
    with slots.lease(cores, exclusive=True):
        ended = process.run(
            [str(word) for word in command], hosts.variables(cores) | dict(more or {}), cwd=folder
        )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return ended.stdout


def sweep(*arguments: str | Path, folder: Path, more: Mapping[str, str] | None = None) -> Ran:
    """`sweep …` of this checkout, which knows the workload of the benchmarks."""
    path = os.pathsep.join([str(HOUSE), str(PLUGINS)])
    return run(
        [sys.executable, "-m", "sweep", *arguments], folder, {"PYTHONPATH": path, **(more or {})}
    )


def framework_python(framework: str) -> Path:
    """The Python of sweep's own environment of a framework, which every tool gets the framework from."""
    return environments.prepare(specification(framework, "cpu", "default", {})).python


def environment(*requirements: str, beside: Path | None = None) -> Path:
    """The Python of an environment with these packages, kept for the next time; `beside`: and with that Python's."""
    name = "-".join(["".join(c if c.isalnum() else "_" for c in each) for each in requirements])
    name += f"-{beside.parent.parent.name}" if beside else ""
    made = platformdirs.user_cache_path("sweep") / "benchmarks" / name
    python = made / "bin" / "python"
    if not (made / "complete").exists():
        told = indexes.configured()
        tool, variables = uv.find_uv_bin(), dict(told.variables)
        run(
            [
                tool,
                "venv",
                "--quiet",
                "--clear",
                "--python",
                (beside or Path(sys.executable)).resolve(),
                made,
            ],
            more=variables,
        )
        flags = ["--no-index"] if told.no_index else []
        run(
            [tool, "pip", "install", "--quiet", "--python", python, *flags, *requirements],
            more=variables,
        )
        if beside:
            (site,) = made.glob("lib/python*/site-packages")
            (borrowed,) = beside.parent.parent.glob("lib/python*/site-packages")
            (site / "framework.pth").write_text(f"{borrowed}\n")
        (made / "complete").touch()
    return python


def version(python: Path, package: str) -> str:
    """`package 1.2`, as installed in the environment of that Python."""
    script = f"import importlib.metadata as m; print(m.version({package!r}))"
    return f"{package} {run([python, '-c', script]).output.strip()}"
