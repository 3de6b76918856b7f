"""The store: environments on disk, each complete or absent, in a folder named by its specification."""

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

_MARKER = "environment.json"


@dataclass(frozen=True)
class Environment:
    """An isolated Python that holds one framework, ready to use.

    `id` is made of what is in it, interpreter version and packages: equal ids mean equal content on any machine.
    """

    id: str
    framework: str
    python: Path
    python_version: str
    packages: tuple[str, ...]  # as `name==version`
    specification: str = ""  # id of the specification; empty for an environment of the user's own
    notes: tuple[str, ...] = ()  # what the reader should know, as "no CPU build could be had"
    built_at: str = ""
    size_bytes: int = 0

    @property
    def numpy(self) -> str:
        """Its NumPy's version, or an empty string."""
        return next((p.partition("==")[2] for p in self.packages if p.startswith("numpy==")), "")


def identify(python_version: str, packages: tuple[str, ...]) -> str:
    """12 hex digits of what an environment holds."""
    return hashlib.sha256("\n".join([python_version, *packages]).encode()).hexdigest()[:12]


def root() -> Path:
    """The folder of all environments: `SWEEP_ENV_DIR`, or below the home of all that is kept."""
    return homes.cache("environments", "SWEEP_ENV_DIR")


def folder(specification: str) -> Path:
    return root() / specification


def load(specification: str) -> Environment | None:
    """The complete environment of that specification; None where it is unfinished or its interpreter is gone.

    What this user may not read, as in another's store, is not there.
    """
    try:
        facts = json.loads((folder(specification) / _MARKER).read_text(encoding="utf-8"))
        environment = Environment(
            **facts | {key: tuple(facts[key]) for key in ("packages", "notes")} | _python(facts)
        )
        return environment if environment.python.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def complete(environment: Environment) -> None:
    """Write the marker, the last act of building: durable, and there as a whole or not at all."""
    place = folder(environment.specification)
    facts = asdict(environment) | {"python": str(environment.python.relative_to(place))}
    atomic.write(place / _MARKER, json.dumps(facts, indent=1).encode())


def environments() -> list[Environment]:
    """Every complete environment, by framework."""
    found = [load(name) for name in _folders()]
    return sorted((e for e in found if e), key=lambda e: (e.framework, e.id))


def unfinished() -> list[str]:
    """Specifications whose folder is there and not complete: interrupted builds, and ones going on now."""
    return sorted(name for name in _folders() if not load(name))


@contextlib.contextmanager
def locked(
    specification: str, framework: str, say: locks.Say = locks.silent, timeout_s: float = -1
) -> Iterator[None]:
    """Hold the specification's lock, gone with its holder; Unavailable where another holds it past `timeout_s`."""
    lock = root() / f".{specification}.lock"
    try:
        root().mkdir(parents=True, exist_ok=True)
        with locks.held(lock, f"the environment of {framework}", say, timeout_s):
            yield
    except filelock.Timeout:
        message = f"environment {specification} is being built by {locks.holder(lock)}"
        raise Unavailable(message, "wait for the build to end") from None


def wipe(specification: str) -> None:
    """Remove whatever is in the folder, the marker first: what is left of a removal is never taken for complete."""
    place = folder(specification)
    (place / _MARKER).unlink(missing_ok=True)
    if place.exists():
        shutil.rmtree(place)


def remove(specification: str) -> None:
    """Remove an environment; SweepError while a process runs in it, Unavailable while it is being built."""
    with locked(specification, specification, timeout_s=0):
        if users := _users(folder(specification)):
            which = ", ".join(map(str, users))
            raise SweepError(
                f"environment {specification} is in use by process {which}",
                "wait for the run to end",
            )
        wipe(specification)


def size_bytes(place: str | Path) -> int:
    """What was installed in a folder: links are not followed, and the bytecode that imports leave is not counted."""
    total = 0
    with os.scandir(place) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
            elif entry.name != "__pycache__":
                total += size_bytes(entry.path)
    return total


def _folders() -> list[str]:
    """The specifications that have a folder; none where the store cannot be read."""
    try:
        with os.scandir(root()) as entries:
            return [
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            ]
    except OSError:
        return []


def _python(facts: dict[str, str]) -> dict[str, Path]:
    return {"python": folder(facts["specification"]) / facts["python"]}


def _users(place: Path) -> list[int]:
    mine = f"{place}{os.sep}"
    found = psutil.process_iter(["cmdline"])
    return [p.pid for p in found if any(word.startswith(mine) for word in p.info["cmdline"] or ())]
