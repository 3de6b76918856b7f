"""Contents: what an environment that the grid changes really contains, without building it.

The environment of a recipe is determined by its version and by sweep. What the grid names can
change while its text stays: a wheel is built again, a lock is written again, a package is installed
into an environment of the user's own.
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
_SYS_PATH = """
import json, sys
print(json.dumps([sys.prefix, sys.base_prefix, sys.version.split()[0], sys.path[1:]]))
"""
# sweep itself runs the trials and is not part of what they measure.
_OWN_FOLDER = Path(__file__).resolve().parent.parent.parent
_OWN_DISTRIBUTION = "sweep_frameworks-"


def content(framework: Framework, version: str | None, override: Mapping[str, Any]) -> str:
    """Return a short digest of what an entry of the grid's `environments` contains.

    Return "" where it changes nothing. The places of packages (`index_url`, `find_links`) do not
    count. Raises SweepError for a missing file, and for one that does not fit, as a wheel of
    another version.
    """
    requirement = f"{framework.name}=={version}" if version else framework.name
    check_there(requirement, override)
    specify(framework, version, override=override)
    facts: dict[str, Any] = {
        key: _packages(override[key]) for key in _AS_WRITTEN if override.get(key)
    }
    if wheel := override.get("wheel"):
        facts["wheel"] = _file_or_url(wheel)
    if lock := override.get("lock"):
        python, pins = read_lock(Path(lock).expanduser())
        facts["lock"] = [python, *map(_package, pins)]
    if interpreter := override.get("interpreter"):
        facts["interpreter"] = _installed(interpreters.program(interpreter), requirement)
    return digests.of_values(facts) if facts else ""


def _packages(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    return [_package(text) for text in texts]


def _package(requirement: str) -> str:
    """Return a requirement; for a file, its path is replaced by its digest."""
    name, at, place = requirement.partition("@")
    return f"{name.strip()} @ {_file_or_url(place.strip())}" if at else requirement


def _file_or_url(place: str) -> str:
    """Return the digest of a file or folder on this machine, or a URL without credentials."""
    path = _path(place)
    if path is None:
        return redacted(place)
    return digests.of_file(path) if path.is_file() else digests.of_code(path)


def _path(place: str) -> Path | None:
    """Return the path of a place on this machine, None for one on the network."""
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place.partition("#")[0]).expanduser()


def _installed(python: Path, requirement: str) -> list[str]:
    """Return everything that an interpreter can import beside its standard library.

    These are packages with versions and digests, and folders of code with their digests.
    """
    if not interpreters.inspect(python):
        hint = "interpreter: names a Python, or the folder of a virtual environment"
        raise SweepError(
            f"the interpreter of {requirement}, {python}, is no Python that runs", hint
        )
    with tempfile.TemporaryDirectory(prefix="sweep-") as empty:
        # PYTHONPATH and the like would add folders that a trial does not see.
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        ended = process.run(
            [str(python), "-B", "-c", _SYS_PATH], env=plain, timeout_s=60, cwd=Path(empty)
        )
    if ended.returncode:
        raise SweepError(
            f"{python} does not say what it can import: {redacted(tail(ended.stderr))}"
        )
    prefix, base, version, folders = json.loads(ended.stdout)
    contents = {version}
    ignored = [_OWN_FOLDER, *_standard_library(prefix, base)]
    for folder in map(Path, folders):
        if folder.name in _INSTALLED:
            contents |= set(_distributions(folder))
        elif folder.is_dir() and not any(folder.is_relative_to(other) for other in ignored):
            contents.add(f"{folder.name} {digests.of_code(folder)}")
    return sorted(contents)


def _standard_library(*prefixes: str) -> Iterator[Path]:
    for prefix in prefixes:
        yield from Path(prefix).glob("lib*/python3*")


def _distributions(folder: Path) -> Iterator[str]:
    """Yield the distributions in a folder, as name and version with a digest of their files."""
    for entry in sorted(folder.iterdir()):
        if entry.suffix in (".dist-info", ".egg-info") and not entry.name.startswith(
            _OWN_DISTRIBUTION
        ):
            yield f"{entry.stem} {_files_of(entry)}"


def _files_of(entry: Path) -> str:
    """Return a digest of a distribution's recorded files, and of the code of an editable one.

    Scripts and pip's own notes are left out, since they differ from machine to machine.
    """
    record, origin = entry / "RECORD", entry / "direct_url.json"
    lines: list[str] = []
    if record.is_file():
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
    files = dict(_recorded(entry.parent, csv.reader(lines)))
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    is_editable = facts.get("dir_info", {}).get("editable")
    source = _path(facts.get("url", "")) if is_editable else None
    code = digests.of_code(source) if source and source.is_dir() else ""
    return digests.of_values([files, code])


def _recorded(folder: Path, rows: Iterable[list[str]]) -> Iterator[tuple[str, str]]:
    """Yield name and digest of a distribution's files; a missing digest is computed."""
    for name, *columns in rows:
        if name.startswith("..") or ".dist-info/" in name or name.endswith(".pyc"):
            continue
        digest = "".join(columns[:1])
        path = folder / name
        if not digest and path.is_file():
            digest = digests.of_file(path)
        yield name, digest
