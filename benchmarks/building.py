"""How long it takes to make a framework usable, from nothing to an import.

All tools build an environment with the same packages. *Warm* means that the tool's cache holds
all downloads and builds. *Cold* means that its cache is empty; torch's wheel still comes from a
local disk if this machine has it. All tools build for the same Python, with the versions that
`sweep env build` chooses, and with the same bound on setuptools for packages built from source.
The time of sweep includes the choice of versions. Every time includes an import of the framework,
which compiles bytecode. All tools take turns in an order that changes. A warm time is the least
of four.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import uv

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import environment, framework_python, version
from sweep.environments import indexes
from sweep.node.worker import specification

NOXFILE = """import nox
@nox.session(venv_backend={backend!r})
def build(session):
    session.install(*{requires})
    session.run("python", "-c", "import {module}")
"""
# asv ends with the list of environments as its exit status; whether there is one, the import shows
_SET_UP = """import asv.main, contextlib
with contextlib.suppress(SystemExit):
    asv.main.main()
"""
PLAIN = "uv venv and uv pip install"
FRAMEWORKS = ("chainer==7.8.1", "torch==2.13.0")


class Wanted(NamedTuple):
    """The packages to build for this Python; `variables` are bounds for their builds."""

    framework: str
    module: str
    python: Path
    requires: list[str]
    variables: Mapping[str, str]


Way = Callable[
    [Wanted, Path, Mapping[str, str]], float
]  # in this folder, with these variables: seconds


def figures(quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for framework in FRAMEWORKS[:1] if quick else FRAMEWORKS:
            wanted = _wanted(framework, Path(folder))
            for cold, rounds in ((False, 1 if quick else 4), (True, 1 if quick else 2)):
                yield from _figures(wanted, cold, rounds)


def _figures(wanted: Wanted, cold: bool, rounds: int) -> Iterator[Figure]:
    said = f"building {wanted.framework}, {'cold' if cold else 'warm'}"
    found = _in_turns(ways(), wanted, cold, rounds)
    for who, seconds in found.items():
        yield Figure(
            said, who, seconds, note=f"{len(wanted.requires)} packages" if who == OURS else ""
        )
    plain = next(seconds for who, seconds in found.items() if who.endswith(PLAIN))
    yield target(said, 1.1 * plain, note="a tenth more than uv")


def _in_turns(ways: Mapping[str, Way], wanted: Wanted, cold: bool, rounds: int) -> dict[str, float]:
    """Return the least time of each tool that works."""
    found: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who in random.sample(list(found), len(found)):
            try:
                found[who].append(_built(ways[who], wanted, cold))
            except RuntimeError as error:
                print(f"{who}: {error}", file=sys.stderr)
                del found[who]
    return {who: min(times) for who, times in found.items()}


def ways() -> dict[str, Way]:
    tool = peers.run([uv.find_uv_bin(), "--version"]).output.split()[1]
    nox, asv = environment("nox"), environment("asv", "virtualenv")
    return {
        OURS: _ours,
        f"uv {tool}, {PLAIN}": _uv,
        f"uv {tool}, the same, compiling to bytecode": _uv_compiling,
        "python -m venv and pip install": _pip,
        f"{version(nox, 'nox')}, a session": _nox("virtualenv"),
        f"{version(nox, 'nox')}, a session of its uv backend": _nox("uv"),
        f"{version(asv, 'asv')}, asv setup": _asv,
    }


def _wanted(framework: str, folder: Path) -> Wanted:
    spec, python = specification(framework, "cpu", "default", {}), framework_python(framework)
    listed = peers.run([uv.find_uv_bin(), "pip", "freeze", "--python", python]).output.split()
    bounds = folder / f"{spec.module}-build.txt"
    bounds.write_text("\n".join(spec.build))
    variables = dict.fromkeys(
        ("UV_BUILD_CONSTRAINT", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), str(bounds)
    )
    requires = [each for each in listed if "==" in each]
    return Wanted(
        framework, spec.module, python.resolve(), requires, variables if spec.build else {}
    )


def _built(way: Way, wanted: Wanted, cold: bool) -> float:
    """Build an environment and return the seconds.

    Its folder is on the file system of sweep's environments, where uv can link files from its
    cache.
    """
    with tempfile.TemporaryDirectory(dir=os.environ.get("SWEEP_ENV_DIR")) as folder:
        empty = {"UV_CACHE_DIR": f"{folder}/uv", "PIP_CACHE_DIR": f"{folder}/pip"} if cold else {}
        return way(
            wanted, Path(folder), {**indexes.configured().variables, **wanted.variables, **empty}
        )


def _ours(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
    variables = {**more, "SWEEP_ENV_DIR": str(folder / "environments")}
    return peers.sweep("env", "build", wanted.framework, folder=folder, more=variables).seconds


def _uv(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
    tool, python = uv.find_uv_bin(), folder / "venv" / "bin" / "python"
    return _all(
        ([tool, "venv", "--python", wanted.python, folder / "venv"], more),
        ([tool, "pip", "install", "--python", python, *wanted.requires], more),
        ([python, "-c", f"import {wanted.module}"], {}),
    )


def _uv_compiling(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
    return _uv(wanted, folder, {**more, "UV_COMPILE_BYTECODE": "1"})


def _pip(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
    python = folder / "venv" / "bin" / "python"
    return _all(
        ([wanted.python, "-m", "venv", folder / "venv"], more),
        ([python, "-m", "pip", "install", "--quiet", *wanted.requires], more),
        ([python, "-c", f"import {wanted.module}"], {}),
    )


def _all(*commands: tuple[list[str | Path], Mapping[str, str]]) -> float:
    return sum(peers.run(command, more=variables).seconds for command, variables in commands)


def _nox(backend: str) -> Way:
    def way(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
        session = NOXFILE.format(backend=backend, requires=wanted.requires, module=wanted.module)
        (folder / "noxfile.py").write_text(session)
        command = [environment("nox"), "-m", "nox", "--force-python", wanted.python]
        path = f"{Path(uv.find_uv_bin()).parent}:{os.environ['PATH']}"
        return peers.run(command, folder, {**more, "PATH": path}).seconds

    return way


def _asv(wanted: Wanted, folder: Path, more: Mapping[str, str]) -> float:
    pins = dict(each.split("==") for each in wanted.requires)
    matrix = {"req": {f"pip+{name}": [pin] for name, pin in pins.items()}}
    settings = {
        "version": 1,
        "project": "build",
        "repo": ".",
        "environment_type": "virtualenv",
        "matrix": matrix,
    }
    settings["pythons"] = [wanted.python.name.removeprefix("python")]
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    author = ["-c", "user.name=sweep", "-c", "user.email=sweep@localhost"]
    peers.run(["git", "init", "--quiet"], folder)
    peers.run(["git", *author, "commit", "--quiet", "--allow-empty", "-m", "build"], folder)
    more = {
        **more,
        "PATH": f"{wanted.python.parent}:{os.environ['PATH']}",
    }  # where asv looks for a Python
    seconds = peers.run(
        [environment("asv", "virtualenv"), "-c", _SET_UP, "setup"], folder, more
    ).seconds
    (python,) = folder.glob("env/*/bin/python")
    return seconds + peers.run([python, "-c", f"import {wanted.module}"]).seconds
