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
    """The result of a command: seconds from outside, peak memory of its process, output."""

    seconds: float
    peak_rss_bytes: int
    output: str


def run(
    command: Sequence[str | Path], folder: Path | None = None, more: Mapping[str, str] | None = None
) -> Ran:
    """Run a command to its end. Raises RuntimeError with the end of its output if it fails.

    Every tool may save the bytecode that it compiles, whatever the variables of this shell say.
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
    """Yield a list that collects the peak memory of a process, read every half second.

    The figure that the kernel reports after its end includes the memory that the parent held when
    it forked.
    """
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
    """Return the peak memory of a process since its last exec; 0 if it has just ended."""
    _, there, after = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
    return int(after.split()[0]) * 1024 if there else 0


def as_a_trial(
    command: Sequence[str | Path],
    folder: Path = Path(os.sep),
    more: Mapping[str, str] | None = None,
) -> str:
    """Return the output of a command that runs with the cores and variables of a trial.

    `more` are further variables; no variable of this shell is passed on.
    """
    cores = len(machine.usable_cores())
    with slots.lease(cores, exclusive=True):
        ended = process.run(
            [str(word) for word in command], hosts.variables(cores) | dict(more or {}), cwd=folder
        )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return ended.stdout


def sweep(*arguments: str | Path, folder: Path, more: Mapping[str, str] | None = None) -> Ran:
    """Run `sweep …` of this checkout, with the workload of the benchmarks installed."""
    path = os.pathsep.join([str(HOUSE), str(PLUGINS)])
    return run(
        [sys.executable, "-m", "sweep", *arguments], folder, {"PYTHONPATH": path, **(more or {})}
    )


def framework_python(framework: str) -> Path:
    """Return the Python of sweep's environment of a framework, which every tool uses."""
    return environments.prepare(specification(framework, "cpu", "default", {})).python


def environment(*requirements: str, beside: Path | None = None) -> Path:
    """Return the Python of an environment with these packages, which is kept for later.

    With `beside`, it also sees the packages of that Python.
    """
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
    """Return `package 1.2`, as installed in the environment of that Python."""
    script = f"import importlib.metadata as m; print(m.version({package!r}))"
    return f"{package} {run([python, '-c', script]).output.strip()}"
