"""Interpreters: find a CPython of a wanted version on this machine, or let uv install it."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from sweep import homes, process
from sweep.credentials import redacted
from sweep.environments.failure import EnvironmentFailed, tail

_MARK = "sweep-version:"  # wrapper scripts may print other lines
_VERSION_SCRIPT = (
    "import sys; "
    f"print('{_MARK} %s %d.%d.%d' % ((sys.implementation.name,) + sys.version_info[:3]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A working Python: its path, with symlinks kept, and its full version."""

    path: Path
    version: str


def find(
    wanted: tuple[str, ...], environment: Mapping[str, str], progress: Callable[[str], None]
) -> Interpreter:
    """Return the first of the wanted versions (`3.10` or `3.10.13`) that is here or installable.

    Raises EnvironmentFailed where there is none.
    """
    if existing := present(wanted, environment):
        return existing
    failures = []
    for version in wanted:
        progress(f"installing Python {version}, which is not on this machine")
        installed, why = _installed(version, environment)
        if installed:
            return installed
        failures.append(why)
    raise _missing(wanted, failures)


def present(wanted: tuple[str, ...], environment: Mapping[str, str]) -> Interpreter | None:
    """Return the first of the wanted versions on this machine, or None; install nothing.

    pyenv's folders are searched first, because uv's search stops at pyenv's shims for versions
    that are not active.
    """
    matching = (
        _matching(path, version) for version in wanted for path in _candidates(version, environment)
    )
    return next(filter(None, matching), None)


def installable(wanted: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Return the first of the wanted versions that uv can install.

    Raises EnvironmentFailed where there is none.
    """
    for version in wanted:
        command = [
            uv.find_uv_bin(),
            "python",
            "list",
            "--only-downloads",
            "--output-format",
            "json",
            version,
        ]
        ended = process.run(command, env=dict(environment), timeout_s=60)
        if ended.returncode == 0 and any(
            each["implementation"] == "cpython" for each in json.loads(ended.stdout)
        ):
            return version
    raise _missing(wanted, ())


def everywhere(
    environment: Mapping[str, str], minors: Iterable[int] = range(6, 15)
) -> list[Interpreter]:
    """Return the first Python of each version 3.x on this machine."""

    def first(version: str) -> Interpreter | None:
        matching = (_matching(path, version) for path in _candidates(version, environment))
        return next(filter(None, matching), None)

    return list(filter(None, (first(f"3.{minor}") for minor in minors)))


def program(place: str) -> Path:
    """Return the Python at a path, which is a program or the folder of a virtual environment."""
    path = Path(place).expanduser()
    return path / "bin" / "python" if path.is_dir() else path


@functools.lru_cache(maxsize=256)
def inspect(path: Path) -> Interpreter | None:
    """Run an interpreter and return its version; None where it does not run or is not CPython."""
    try:
        ended = process.run(
            [str(path), "-I", "-S", "-B", "-c", _VERSION_SCRIPT], env=dict(os.environ), timeout_s=30
        )
    except OSError:  # not a program of this machine
        return None
    marked = [
        line.split() for line in ended.stdout.splitlines() if line.startswith(f"{_MARK} cpython ")
    ]
    if ended.returncode or not marked:
        return None
    return Interpreter(path, marked[0][-1])


def _candidates(version: str, environment: Mapping[str, str]) -> Iterator[Path]:
    minor = ".".join(version.split(".")[:2])
    yield from _pyenv(version, environment)
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        yield Path(folder) / f"python{minor}"
    yield from (Path(folder) / "python3" for folder in ("/usr/local/bin", "/usr/bin"))
    yield Path(getattr(sys, "_base_executable", sys.executable))
    yield from _uv_managed(version, environment)


def _pyenv(version: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield pyenv's interpreters of a version, the newest patch release first."""
    root = _pyenv_root(environment)
    folders = [root / name for name in _names(root) if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    for folder in sorted(
        folders, key=lambda path: tuple(map(int, path.name.split("."))), reverse=True
    ):
        if _is(folder.name, version):
            yield folder / "bin" / "python"


def _pyenv_root(environment: Mapping[str, str]) -> Path:
    home = homes.user_home() or Path("/")
    return Path(environment.get("PYENV_ROOT") or home / ".pyenv") / "versions"


def _names(folder: Path) -> list[str]:
    """Return the names in a folder; none where it cannot be read, as in another user's home."""
    try:
        return os.listdir(folder)  # noqa: PTH208  the names alone
    except OSError:
        return []


def _uv_managed(version: str, environment: Mapping[str, str]) -> Iterator[Path]:
    command = [
        uv.find_uv_bin(),
        "python",
        "find",
        "--managed-python",
        "--no-python-downloads",
        "--no-project",
        version,
    ]
    ended = process.run(command, env=dict(environment), timeout_s=60)
    if ended.returncode == 0:
        yield Path(ended.stdout.strip())


def _matching(path: Path, version: str) -> Interpreter | None:
    if not shutil.which(path):
        return None
    interpreter = inspect(path)
    if interpreter is None or not _is(interpreter.version, version):
        return None
    return interpreter


def _is(full: str, wanted: str) -> bool:
    """Return whether a full version is the wanted one, which may lack the patch release."""
    return full == wanted or full.startswith(f"{wanted}.")


def _installed(version: str, environment: Mapping[str, str]) -> tuple[Interpreter | None, str]:
    """Let uv install a Python; return it, or None, and the end of uv's output."""
    # Without a network, uv's defaults would retry for minutes.
    quick = {"UV_HTTP_TIMEOUT": "30", "UV_HTTP_RETRIES": "1"}
    command = [uv.find_uv_bin(), "python", "install", "--no-bin", version]
    ended = process.run(command, env=quick | dict(environment), timeout_s=900)
    matching = (_matching(path, version) for path in _uv_managed(version, environment))
    interpreter = next((python for python in matching if python), None)
    return interpreter, redacted(tail(ended.stderr))


def _missing(wanted: tuple[str, ...], failures: Iterable[str]) -> EnvironmentFailed:
    which = " or ".join(wanted)
    return EnvironmentFailed(
        f"no Python {which} on this machine, and uv cannot install one",
        f"install one, as with pyenv install {wanted[0]}, "
        "or name one with interpreter: in the grid's environments",
        "\n".join(failures),
    )
