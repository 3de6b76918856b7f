"""Contents: what is really in an environment that a grid changes, without building it.

A recipe's environment follows from the version and from sweep. What a grid says instead can change behind its words:
the wheel at a path is built anew, a lock is written anew, something is installed into an environment of the user's own.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sweep import digests, process
from sweep.catalog import Framework
from sweep.credentials import redacted
from sweep.environments import interpreters
from sweep.environments.failure import tail
from sweep.environments.specification import check_there, read_lock, specify
from sweep.errors import SweepError

_AS_WRITTEN = ("python", "requires", "build", "torch_backend")
_INSTALLED = ("site-packages", "dist-packages")
_SYS_PATH = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.version.split()[0], sys.path[1:]]))"
_HOUSE = (
    Path(__file__).resolve().parent.parent.parent
)  # what carries a trial is not what it measures
_OURS = "sweep_frameworks-"


def content(framework: Framework, version: str | None, override: Mapping[str, Any]) -> str:
    """Short digest of what an entry of the grid's `environments` comes to; empty where it changes nothing.

    Where packages come from (`index_url`, `find_links`) does not count. SweepError for what is not there or does not
    go together, as a wheel of another version.
    """
    requirement = f"{framework.name}=={version}" if version else framework.name
    check_there(requirement, override)
    specify(framework, version, override=override)
    facts: dict[str, Any] = {
        key: _contained(override[key]) for key in _AS_WRITTEN if override.get(key)
    }
    if wheel := override.get("wheel"):
        facts["wheel"] = _place(wheel)
    if lock := override.get("lock"):
        python, pins = read_lock(Path(lock).expanduser())
        facts["lock"] = [python, *map(_package, pins)]
    if interpreter := override.get("interpreter"):
        facts["interpreter"] = _installed(interpreters.program(interpreter), requirement)
    return digests.of_values(facts) if facts else ""


def _contained(value: Any) -> list[str]:
    return [_package(each) for each in ([value] if isinstance(value, str) else value)]


def _package(requirement: str) -> str:
    """A requirement; one that names a file with that file's digest instead of its place."""
    name, at, place = requirement.partition("@")
    return f"{name.strip()} @ {_place(place.strip())}" if at else requirement


def _place(place: str) -> str:
    """What a wheel is, at a path or URL: its digest where it is here."""
    path = _path(place)
    if path is None:
        return redacted(place)
    return digests.of_file(path) if path.is_file() else digests.of_code(path)


def _path(place: str) -> Path | None:
    """The path of a place on this machine; None for one on the network."""
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place.partition("#")[0]).expanduser()


def _installed(python: Path, requirement: str) -> list[str]:
    """All that an interpreter can import beside its standard library: packages with versions, and code in the open."""
    if not interpreters.inspect(python):
        hint = "interpreter: names a Python, or the folder of a virtual environment"
        raise SweepError(
            f"the interpreter of {requirement}, {python}, is no Python that runs", hint
        )
    with tempfile.TemporaryDirectory(prefix="sweep-") as empty:
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        ended = process.run(
            [str(python), "-B", "-c", _SYS_PATH], env=plain, timeout_s=60, cwd=Path(empty)
        )
    if ended.returncode:
        raise SweepError(
            f"{python} does not say what it can import: {redacted(tail(ended.stderr))}"
        )
    prefix, base, version, folders = json.loads(ended.stdout)
    found = {version}
    for folder in map(Path, folders):
        if folder.name in _INSTALLED:
            found |= set(_distributions(folder))
        elif folder.is_dir() and not any(
            folder.is_relative_to(home) for home in [_HOUSE, *_standard(prefix, base)]
        ):
            found.add(f"{folder.name} {digests.of_code(folder)}")
    return sorted(found)


def _standard(*prefixes: str) -> Iterator[Path]:
    """Where the standard library lies."""
    for prefix in prefixes:
        yield from Path(prefix).glob("lib*/python3*")


def _distributions(folder: Path) -> Iterator[str]:
    for entry in sorted(folder.iterdir()):
        if entry.suffix in (".dist-info", ".egg-info") and not entry.name.startswith(_OURS):
            yield f"{entry.stem} {_files_of(entry)}"


def _files_of(entry: Path) -> str:
    """Digest of a distribution's files as it recorded them, and of the code that an editable one is installed from.

    Scripts and what pip notes about the installation differ from machine to machine, and are not looked at.
    """
    record, origin = entry / "RECORD", entry / "direct_url.json"
    lines = (
        record.read_text(encoding="utf-8", errors="replace").splitlines()
        if record.is_file()
        else []
    )
    files = dict(_recorded(entry.parent, csv.reader(lines)))
    told = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    source = _path(told.get("url", "")) if told.get("dir_info", {}).get("editable") else None
    return digests.of_values([files, digests.of_code(source) if source and source.is_dir() else ""])


def _recorded(folder: Path, rows: Iterable[list[str]]) -> Iterator[tuple[str, str]]:
    """Name and digest of a distribution's own files; one that is recorded without digest is read."""
    for name, *digest in rows:
        if not name.startswith("..") and ".dist-info/" not in name and not name.endswith(".pyc"):
            path = folder / name
            yield name, "".join(digest[:1]) or (digests.of_file(path) if path.is_file() else "")
