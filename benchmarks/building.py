"""How long an environment takes to build where the packages are in uv's and pip's caches already."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uv

from benchmarks import peers
from benchmarks.figures import OURS, Figure
from benchmarks.peers import environment, framework_python, version
from sweep.environments import indexes

NOXFILE = "import nox\n@nox.session\ndef build(session):\n    session.install({requires})\n"


def figures(quick: bool) -> Iterator[Figure]:
    for framework in ["chainer==7.8.1"] if quick else ["chainer==7.8.1", "torch==2.13.0"]:
        python = framework_python(framework)
        listed = peers.run([uv.find_uv_bin(), "pip", "freeze", "--python", python]).output.split()
        requires = [each for each in listed if "==" in each]
        said = f"building {framework}, {len(requires)} packages, caches warm"
        ways = {
            f"uv {uv.__version__ if hasattr(uv, '__version__') else ''}, uv venv and uv pip install".replace(
                " ,", ","
            ): _uv,
            "python -m venv and pip install": _pip,
            f"{version(environment('nox'), 'nox')}, a session that installs": _nox,
        }
        yield Figure(said, OURS, min(_ours(framework) for _ in range(1 if quick else 2)))
        for who, way in ways.items():
            try:
                yield Figure(said, who, way(python.resolve(), requires))
            except RuntimeError as error:
                print(f"{who}: {error}", file=sys.stderr)


def _ours(framework: str) -> float:
    with tempfile.TemporaryDirectory(dir=_beside_caches()) as folder:
        more = {"SWEEP_ENV_DIR": str(Path(folder, "environments"))}
        return peers.sweep("env", "build", framework, folder=Path(folder), more=more).seconds


def _uv(python: Path, requires: list[str]) -> float:
    with tempfile.TemporaryDirectory(dir=_beside_caches()) as folder:
        variables, tool, made = dict(indexes.configured().variables), uv.find_uv_bin(), Path(folder, "venv")
        first = peers.run([tool, "venv", "--python", python, made], more=variables).seconds
        install = [tool, "pip", "install", "--python", made / "bin/python", *requires]
        return first + peers.run(install, more=variables).seconds


def _pip(python: Path, requires: list[str]) -> float:
    with tempfile.TemporaryDirectory(dir=_beside_caches()) as folder:
        made = Path(folder, "venv")
        first = peers.run([python, "-m", "venv", made]).seconds
        return first + peers.run([made / "bin/python", "-m", "pip", "install", "--quiet", *requires]).seconds


def _nox(python: Path, requires: list[str]) -> float:
    with tempfile.TemporaryDirectory(dir=_beside_caches()) as folder:
        Path(folder, "noxfile.py").write_text(NOXFILE.format(requires=", ".join(map(repr, requires))))
        command = [environment("nox"), "-m", "nox", "--force-python", python]
        return peers.run(command, Path(folder)).seconds


def _beside_caches() -> str | None:
    """Where environments of sweep lie: a file system that uv can link into from its cache, for all alike."""
    return os.environ.get("SWEEP_ENV_DIR")
