"""Indexes: where packages come from, as pip is configured on this machine, told to uv.

uv does not read pip's configuration, and a machine's mirror, wheel folder and certificate are often told to pip alone.
They go to uv as environment variables, not arguments: an index URL may carry a password, and arguments can be read by
everyone on the machine. What the user tells uv itself wins.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs

from sweep.credentials import redacted_url, remember
from sweep.environments import sources

# what would make uv build something else than the specification says, or somewhere else
_MISLEADING = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
_MISLEADING_UV = (
    "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_BUILD_CONSTRAINT", "UV_TARGET",
    "UV_PREFIX", "UV_BREAK_SYSTEM_PACKAGES", "UV_RESOLUTION", "UV_PRERELEASE", "UV_FORK_STRATEGY", "UV_TORCH_BACKEND",
    "UV_REQUIRE_HASHES", "UV_PROJECT", "UV_WORKING_DIR", "UV_NO_BUILD", "UV_NO_BINARY", "UV_COMPILE_BYTECODE",
    "UV_VENV_SEED", "UV_VENV_CLEAR",
)  # fmt: skip
_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_PLACES_OF_PYTHONS = ("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS_JSON_URL")


@dataclass(frozen=True)
class Indexes:
    """What uv is started with, and whether it may ask an index at all, which it takes from its arguments alone."""

    variables: Mapping[str, str] = field(repr=False)
    no_index: bool = False

    @property
    def places(self) -> list[str]:
        """Where packages are looked for beside or instead of uv's own index, as may be shown: without credentials."""
        told = (self.variables.get(name, "").replace(",", " ").split() for name in _PLACES)
        return [redacted_url(place) for places in told for place in places]

    @property
    def unprotected(self) -> list[str]:
        """Where code would come from unencrypted, without credentials.

        A host that the user's own configuration calls trusted is let through, as pip does.
        """
        trusted = self.variables.get("UV_INSECURE_HOST", "").lower().replace(",", " ").split()
        told = (self.variables.get(name, "") for name in (*_PLACES, *_PLACES_OF_PYTHONS))
        return [redacted_url(place) for places in told for place in sources.unprotected(places, trusted)]


def configured(index_url: str = "", find_links: Iterable[str] = ()) -> Indexes:
    """What uv is started with: this process's variables, pip's configuration in uv's words, and overrides."""
    inherited = {key: value for key, value in os.environ.items() if not _misleads(key)}
    pip = pip_configuration(inherited)
    no_index = pip.get("no-index", "").lower() in {"1", "true", "yes", "on"} and not index_url
    told = _told_to_uv(pip, inherited, index_url, tuple(find_links))
    for name in _PLACES:
        remember(told.get(name, ""))
    return Indexes(told, no_index)


def pip_configuration(environment: Mapping[str, str], files: Iterable[Path] | None = None) -> dict[str, str]:
    """pip's options by long name (`extra-index-url`): files from general to special, then `PIP_*` variables."""
    options: dict[str, str] = {}
    for path in _pip_files(environment) if files is None else files:
        options |= _read(path)
    return options | {
        key.removeprefix("PIP_").lower().replace("_", "-"): value
        for key, value in environment.items()
        if key.startswith("PIP_") and value
    }


def _told_to_uv(
    pip: Mapping[str, str], environment: Mapping[str, str], index_url: str, find_links: tuple[str, ...]
) -> dict[str, str]:
    links = [*find_links, *pip.get("find-links", "").split()]
    told = {
        "UV_INDEX_URL": index_url or ("" if "UV_DEFAULT_INDEX" in environment else pip.get("index-url", "")),
        "UV_EXTRA_INDEX_URL": "" if "UV_INDEX" in environment else pip.get("extra-index-url", ""),
        "UV_FIND_LINKS": ",".join(link for link in links if _exists(link)),
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # pip's own: the best version of all indexes
        "UV_INSECURE_HOST": pip.get("trusted-host", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    added = {key: " ".join(value.split()) for key, value in told.items() if value and key not in environment}
    explicit = {"UV_INDEX_URL": index_url} if index_url else {}
    if find_links:
        inherited = environment.get("UV_FIND_LINKS", "")
        explicit["UV_FIND_LINKS"] = ",".join(filter(None, [told["UV_FIND_LINKS"], inherited]))
    kept = {key: value for key, value in environment.items() if not (index_url and key == "UV_DEFAULT_INDEX")}
    return kept | added | explicit | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _misleads(key: str) -> bool:
    return key.startswith(_MISLEADING) or key in _MISLEADING_UV


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """Where pip looks, as `pip config debug` lists it."""
    chosen = environment.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    machine = [Path(folder) / "pip.conf" for folder in _machine_folders()]
    user = [Path.home() / ".pip/pip.conf", Path(platformdirs.user_config_dir("pip", appauthor=False)) / "pip.conf"]
    return [*machine, *user, Path(sys.prefix) / "pip.conf", *([Path(chosen)] if chosen else [])]


def _machine_folders() -> list[str]:
    folders = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
    return [*folders, "/etc"]


def _read(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}  # pip itself says what is wrong with its file
    sections = [parser[name] for name in ("global", "install") if parser.has_section(name)]
    return {key.lower().replace("_", "-"): value for section in sections for key, value in section.items() if value}


def _exists(link: str) -> bool:
    """pip passes over a folder that is not there, uv stops."""
    url = urlsplit(link)
    if url.scheme == "file":
        return Path(unquote(url.path)).exists()
    return bool(url.scheme) or Path(link).expanduser().exists()
