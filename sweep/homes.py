"""Homes: where this program keeps what outlives a command, and what the user's variables name, seen from anywhere.

Trials, builds and Ray's workers run in folders of their own. A relative path in a variable is meant from the folder in
which the command was typed, so it is made absolute once, before anything is started.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import tempfile
from pathlib import Path

import platformdirs

from sweep.errors import Unavailable

VARIABLE = "SWEEP_HOME"

_FOLDERS = (
    *(
        VARIABLE,
        "SWEEP_ENV_DIR",
        "SWEEP_DATA_DIR",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "PYENV_ROOT",
    ),
    *(
        "UV_CACHE_DIR",
        "UV_PYTHON_INSTALL_DIR",
        "PIP_CONFIG_FILE",
        "PIP_CERT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NETRC",
    ),
)
_LISTS = {
    "PIP_FIND_LINKS": None,
    "UV_FIND_LINKS": ",",
    "PIP_CONSTRAINT": None,
}  # by what their words are separated


def cache(name: str, variable: str = "") -> Path:
    """The folder of one kind of thing: that of `variable` where it is set, else below the one of all kinds."""
    chosen = os.environ.get(variable) if variable else ""
    return Path(chosen).expanduser().absolute() if chosen else root() / name


def root() -> Path:
    """`SWEEP_HOME`, else in the user's cache; a user without a home has it among the temporary files."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    if user_home() is None and not os.environ.get("XDG_CACHE_HOME"):
        return _temporary()
    return platformdirs.user_cache_path("sweep")


def hint(variable: str, error: OSError) -> str:
    """What helps where a folder of ours cannot be written to, by what went wrong."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some disk, as with sweep env rm, or set {variable} or {VARIABLE} to a folder with more room"
    if error.errno in (errno.ENOLCK, errno.ENOTSUP):
        return f"its file system has no locks: set {variable} or {VARIABLE} to a folder on one that has"
    return f"set {variable} or {VARIABLE} to a folder that you can write to"


def user_home() -> Path | None:
    """The user's folder; None for a user that has none, as one without a passwd entry in a container."""
    home = os.environ.get("HOME") or _passwd_home()
    return Path(home) if home and home != "/" else None


def configuration(program: str, file: str) -> list[Path]:
    """Where the user configures another program; nowhere for a user without a home."""
    if user_home() is None and not os.environ.get("XDG_CONFIG_HOME"):
        return []
    return [Path(platformdirs.user_config_dir(program, appauthor=False)) / file]


def make_absolute() -> None:
    """Make absolute what this process's variables name by relative paths."""
    for name in _FOLDERS:
        if value := os.environ.get(name):
            os.environ[name] = _absolute(value)
    for name, separator in _LISTS.items():
        if value := os.environ.get(name):
            words = value.split(separator)
            os.environ[name] = (separator or " ").join(_absolute(word) for word in words)


def _temporary() -> Path:
    """Programs are started from there: nobody else may have made it."""
    folder = Path(tempfile.gettempdir()) / f"sweep-home-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise Unavailable(f"{folder} is somebody else's", f"set {VARIABLE} to a folder of yours")
    return folder


def _passwd_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _absolute(path: str) -> str:
    """URLs, and devices as os.devnull, stay as they are."""
    if not path or "://" in path or path.startswith(("/", "~", "file:")):
        return path
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow symlinks
