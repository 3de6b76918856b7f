"""The store: environments on disk, each complete or absent, in a folder named by its id."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import psutil

from sweep import atomic, homes, locks
from sweep.errors import SweepError, Unavailable

_MARKER = "environment.json"  # written last; a folder without it is incomplete


@dataclass(frozen=True)
class Environment:
    """An isolated Python with one framework, ready for use.

    `id` is a hash of interpreter version and packages: equal ids mean equal contents on any
    machine. `specification` is the id of the specification, "" for a user's own environment.
    """

    id: str
    framework: str
    python: Path
    python_version: str
    packages: tuple[str, ...]  # as `name==version`
    specification: str = ""
    notes: tuple[str, ...] = ()  # for the user, as "no CPU build of … was to be had"
    built_at: str = ""
    size_bytes: int = 0

    @property
    def numpy(self) -> str:
        """The version of NumPy, "" without one."""
        return next((p.partition("==")[2] for p in self.packages if p.startswith("numpy==")), "")


def identify(python_version: str, packages: tuple[str, ...]) -> str:
    """Return 12 hexadecimal digits that identify the contents of an environment."""
    return hashlib.sha256("\n".join([python_version, *packages]).encode()).hexdigest()[:12]


def root() -> Path:
    """Return the folder of all environments: `SWEEP_ENV_DIR`, or one below `SWEEP_HOME`."""
    return homes.cache("environments", "SWEEP_ENV_DIR")


def folder(specification: str) -> Path:
    """Return the folder of an environment, which may not exist."""
    return root() / specification


def load(specification: str) -> Environment | None:
    """Return the complete environment of a specification.

    Return None where it is incomplete, where its interpreter is gone, or where this user may not
    read it.
    """
    try:
        facts = json.loads((folder(specification) / _MARKER).read_text(encoding="utf-8"))
        facts |= {key: tuple(facts[key]) for key in ("packages", "notes")}
        # Relative in the file, so that the store can be moved.
        facts["python"] = folder(facts["specification"]) / facts["python"]
        environment = Environment(**facts)
        return environment if environment.python.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def complete(environment: Environment) -> None:
    """Write the marker that completes an environment, atomically and durably."""
    target = folder(environment.specification)
    facts = asdict(environment) | {"python": str(environment.python.relative_to(target))}
    atomic.write(target / _MARKER, json.dumps(facts, indent=1).encode())


def environments() -> list[Environment]:
    """Return every complete environment, sorted by framework."""
    loaded = [environment for name in _folders() if (environment := load(name))]
    return sorted(loaded, key=lambda environment: (environment.framework, environment.id))


def unfinished() -> list[str]:
    """Return the specifications of incomplete environments: builds interrupted or under way."""
    return sorted(name for name in _folders() if not load(name))


@contextlib.contextmanager
def locked(
    specification: str, framework: str, say: locks.Say = locks.silent, timeout_s: float = -1
) -> Iterator[None]:
    """Hold the lock of a specification; raise Unavailable after `timeout_s`.

    The kernel releases it when the holder dies. A negative time waits without limit.
    """
    lock = root() / f".{specification}.lock"
    try:
        root().mkdir(parents=True, exist_ok=True)
        with locks.held(lock, f"the environment of {framework}", say, timeout_s):
            yield
    except filelock.Timeout:
        message = f"environment {specification} is being built by {locks.holder(lock)}"
        raise Unavailable(message, "wait for the build to end") from None


def wipe(specification: str) -> None:
    """Remove the folder of a specification.

    The marker goes first, so that an interrupted removal leaves an incomplete environment.
    """
    target = folder(specification)
    (target / _MARKER).unlink(missing_ok=True)
    if target.exists():
        shutil.rmtree(target)


def remove(specification: str) -> None:
    """Remove an environment.

    Raises SweepError while a process runs in it, and Unavailable while it is being built.
    """
    with locked(specification, specification, timeout_s=0):
        # A running Python would fail at its next import.
        if users := _users(folder(specification)):
            which = ", ".join(map(str, users))
            raise SweepError(
                f"environment {specification} is in use by process {which}",
                "wait for the run to end",
            )
        wipe(specification)


def size_bytes(folder: str | Path) -> int:
    """Return the size of the installed files in a folder, without links and bytecode."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
            elif entry.name != "__pycache__":
                total += size_bytes(entry.path)
    return total


def _folders() -> list[str]:
    """Return the specifications that have a folder; none where the store cannot be read."""
    try:
        with os.scandir(root()) as entries:
            return [
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            ]
    except OSError:
        return []


def _users(folder: Path) -> list[int]:
    """Return the ids of processes whose command line names a file in a folder."""
    prefix = f"{folder}{os.sep}"
    users = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if any(word.startswith(prefix) for word in words):
            users.append(process.pid)
    return users
