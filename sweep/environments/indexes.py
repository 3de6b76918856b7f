"""Indexes: the places of packages that pip and uv are configured with, passed on to uv.

uv does not read pip's configuration, but a machine's mirror, wheel folder and certificate are often
configured for pip only. They are passed to uv in environment variables rather than arguments: an
index URL may contain a password, and every user of a machine can read arguments. What the user
configures for uv itself takes precedence.
"""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import platformdirs

from sweep import homes
from sweep.credentials import redacted, redacted_url, remember_index
from sweep.environments import sources

# Variables that would change what uv builds, or where.
_MISLEADING = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
# The variables of uv that are respected: places and downloads, but not the choice of versions.
_HONOURED_UV = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_KEYRING_PROVIDER",
    "UV_CREDENTIALS_DIR",
    "UV_CACHE_DIR",
    "UV_NO_CACHE",
    "UV_OFFLINE",
    "UV_HTTP_TIMEOUT",
    "UV_REQUEST_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_HTTP_CONNECT_TIMEOUT",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_CONCURRENT_BUILDS",
    "UV_CONCURRENT_INSTALLS",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
    "UV_LINK_MODE",
    "UV_LOCK_TIMEOUT",
)
_CREDENTIALS = "UV_INDEX_"  # UV_INDEX_<NAME>_USERNAME and _PASSWORD
_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_PLACES_OF_PYTHONS = ("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS_JSON_URL")


@dataclass(frozen=True)
class Indexes:
    """The environment variables for uv. `no_index` is an argument of uv and has no variable."""

    variables: Mapping[str, str] = field(repr=False)
    no_index: bool = False

    @property
    def places(self) -> list[str]:
        """The configured places of packages, without credentials."""
        lists = (self.variables.get(name, "").replace(",", " ").split() for name in _PLACES)
        return [redacted(redacted_url(place)) for places in lists for place in places]

    @property
    def unprotected(self) -> list[str]:
        """The places that are not encrypted, without credentials.

        A host that the user's configuration calls trusted is accepted, as by pip.
        """
        trusted = self.variables.get("UV_INSECURE_HOST", "").lower().replace(",", " ").split()
        lists = (self.variables.get(name, "") for name in (*_PLACES, *_PLACES_OF_PYTHONS))
        return [
            redacted(redacted_url(place))
            for places in lists
            for place in sources.unprotected(places, trusted)
        ]


def configured(index_url: str = "", find_links: Iterable[str] = ()) -> Indexes:
    """Return the configuration for uv.

    It consists of this process's variables, pip's configuration and the given overrides.
    """
    inherited = {key: value for key, value in os.environ.items() if not _misleads(key, value)}
    inherited = uv_configuration() | inherited
    pip = pip_configuration(inherited)
    no_index = pip.get("no-index", "").lower() in {"1", "true", "yes", "on"} and not index_url
    variables = _variables_for_uv(pip, inherited, index_url, tuple(find_links))
    # Credentials in these places must not appear in any output.
    for name in _PLACES:
        remember_index(variables.get(name, ""))
    return Indexes(variables, no_index)


def ignored() -> str:
    """Return a note on what the user has configured and is ignored, or ""."""
    if constraint := pip_configuration(os.environ).get("constraint"):
        return (
            f"pip's constraint {constraint} is not used: "
            "requires: in the grid's environments bounds packages"
        )
    return ""


def uv_configuration() -> dict[str, str]:
    """Return the indexes, links, hosts and certificates in uv's configuration files, as variables.

    uv itself is kept from reading these files, since a constraint or a date in them would change
    the contents behind an id.
    """
    variables: dict[str, str] = {}
    for path in _uv_files():
        variables |= _uv_variables(_toml(path))
    return variables


def pip_configuration(
    environment: Mapping[str, str], files: Iterable[Path] | None = None
) -> dict[str, str]:
    """Return pip's options by their long names, as `extra-index-url`.

    Files are read from general to specific; `PIP_*` variables come last.
    """
    options: dict[str, str] = {}
    for path in _pip_files(environment) if files is None else files:
        options |= _read(path)
    return options | {
        key.removeprefix("PIP_").lower().replace("_", "-"): value
        for key, value in environment.items()
        if key.startswith("PIP_") and value
    }


def _variables_for_uv(
    pip: Mapping[str, str],
    environment: Mapping[str, str],
    index_url: str,
    find_links: tuple[str, ...],
) -> dict[str, str]:
    """Return uv's variables: the environment's own, completed by pip's options."""
    links = [*find_links, *pip.get("find-links", "").split()]
    # UV_DEFAULT_INDEX and UV_INDEX are uv's newer names for the same settings.
    pip_index = "" if "UV_DEFAULT_INDEX" in environment else pip.get("index-url", "")
    pip_extra_index = "" if "UV_INDEX" in environment else pip.get("extra-index-url", "")
    from_pip = {
        "UV_INDEX_URL": index_url or pip_index,
        "UV_EXTRA_INDEX_URL": pip_extra_index,
        "UV_FIND_LINKS": ",".join(link for link in links if _exists(link)),
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # as pip: the best version of all indexes
        "UV_INSECURE_HOST": pip.get("trusted-host", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    added = {
        key: " ".join(value.split())
        for key, value in from_pip.items()
        if value and key not in environment
    }
    explicit = {"UV_INDEX_URL": index_url} if index_url else {}
    if find_links:
        inherited = environment.get("UV_FIND_LINKS", "")
        explicit["UV_FIND_LINKS"] = ",".join(filter(None, [from_pip["UV_FIND_LINKS"], inherited]))
    kept = {
        key: value
        for key, value in environment.items()
        if not (index_url and key == "UV_DEFAULT_INDEX")
    }
    return kept | added | explicit | {"UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _misleads(key: str, value: str) -> bool:
    # With symlinks, an environment would break when the cache is cleaned.
    if key == "UV_LINK_MODE" and value == "symlink":
        return True
    if key.startswith("UV_"):
        return key not in _HONOURED_UV and not key.startswith(_CREDENTIALS)
    return key.startswith(_MISLEADING)


def _uv_files() -> list[Path]:
    """Return uv's configuration files, from general to specific; a named file is the only one."""
    if chosen := os.environ.get("UV_CONFIG_FILE"):
        return [Path(chosen)]
    if os.environ.get("UV_NO_CONFIG", "0") not in ("0", "", "false"):
        return []
    return [Path("/etc/uv/uv.toml"), *homes.configuration("uv", "uv.toml")]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # uv itself reports what is wrong with its file
        return {}


def _uv_variables(options: Mapping[str, Any]) -> dict[str, str]:
    """Return uv's options as variables. The section `pip` takes precedence, as for `uv pip`."""
    options = {**options, **options.get("pip", {})}
    named = [
        (index.get("name"), index["url"], index.get("default"))
        for index in options.get("index", [])
        if "url" in index
    ]
    spelt = [(f"{name}={url}" if name else url, default) for name, url, default in named]
    variables = {
        "UV_INDEX_URL": options.get("index-url", ""),
        "UV_DEFAULT_INDEX": " ".join(index for index, default in spelt if default),
        "UV_INDEX": " ".join(index for index, default in spelt if not default),
        "UV_EXTRA_INDEX_URL": " ".join(options.get("extra-index-url", [])),
        "UV_FIND_LINKS": ",".join(options.get("find-links", [])),
        "UV_INSECURE_HOST": " ".join(options.get("allow-insecure-host", [])),
        "UV_KEYRING_PROVIDER": options.get("keyring-provider", ""),
        "UV_NATIVE_TLS": "1" if options.get("native-tls") else "",
    }
    return {name: value for name, value in variables.items() if value}


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """Return pip's configuration files, in the order of `pip config debug`."""
    chosen = environment.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    machine = [Path(folder) / "pip.conf" for folder in _machine_folders()]
    home = homes.user_home()
    user = [*([home / ".pip/pip.conf"] if home else []), *homes.configuration("pip", "pip.conf")]
    return [*machine, *user, Path(sys.prefix) / "pip.conf", *([Path(chosen)] if chosen else [])]


def _machine_folders() -> list[str]:
    folders = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
    return [*folders, "/etc"]


def _read(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}  # pip itself reports what is wrong with its file
    sections = [parser[name] for name in ("global", "install") if parser.has_section(name)]
    return {
        key.lower().replace("_", "-"): value
        for section in sections
        for key, value in section.items()
        if value
    }


def _exists(link: str) -> bool:
    """Return whether a link exists; pip skips missing folders, but uv fails."""
    url = urlsplit(link)
    if url.scheme == "file":
        return Path(unquote(url.path)).exists()
    return bool(url.scheme) or Path(link).expanduser().exists()
