"""Folders outside of a run: where sweep keeps what outlives a command, and the user's own.

Trials, builds and Ray's workers run in other folders than the command. A relative path in a
variable is meant from the command's folder, so it is made absolute once, before anything starts.
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

# Variables that name a folder or file.
_FOLDERS = (
    VARIABLE,
    "SWEEP_ENV_DIR",
    "SWEEP_DATA_DIR",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "PYENV_ROOT",
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "PIP_CONFIG_FILE",
    "PIP_CERT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NETRC",
)
# Variables that hold several paths, with the separator; None means blanks.
_LISTS = {
    "PIP_FIND_LINKS": None,
    "UV_FIND_LINKS": ",",
    "PIP_CONSTRAINT": None,
}


def cache(name: str, variable: str = "") -> Path:
    """Return the folder for one kind of files: that in `variable`, else `name` below `root`."""
    chosen = os.environ.get(variable) if variable else ""
    return Path(chosen).expanduser().absolute() if chosen else root() / name


def root() -> Path:
    """Return `SWEEP_HOME`, else a folder in the user's cache.

    A user without a home folder has it among the temporary files.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    if user_home() is None and not os.environ.get("XDG_CACHE_HOME"):
        return _temporary()
    return platformdirs.user_cache_path("sweep")


def hint(variable: str, error: OSError) -> str:
    """Return the hint for an error in writing to a folder that `variable` names."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "free some disk, as with sweep env rm, "
            f"or set {variable} or {VARIABLE} to a folder with more room"
        )
    if error.errno in (errno.ENOLCK, errno.ENOTSUP):
        return (
            "its file system has no locks: "
            f"set {variable} or {VARIABLE} to a folder on one that has"
        )
    return f"set {variable} or {VARIABLE} to a folder that you can write to"


def user_home() -> Path | None:
    """Return the user's home folder.

    Return None for a user without one, as in a container without a passwd entry.
    """
    home = os.environ.get("HOME") or _passwd_home()
    return Path(home) if home and home != "/" else None


def configuration(program: str, file: str) -> list[Path]:
    """Return the user's configuration file of another program; none without a home folder."""
    if user_home() is None and not os.environ.get("XDG_CONFIG_HOME"):
        return []
    return [Path(platformdirs.user_config_dir(program, appauthor=False)) / file]


def make_absolute() -> None:
    """Make relative paths in this process's environment variables absolute."""
    for name in _FOLDERS:
        if value := os.environ.get(name):
            os.environ[name] = _absolute(value)
    for name, separator in _LISTS.items():
        if value := os.environ.get(name):
            words = value.split(separator)
            os.environ[name] = (separator or " ").join(_absolute(word) for word in words)


def _temporary() -> Path:
    """Return a folder among the temporary files; raise Unavailable where another user made it.

    Programs are started from it, so its owner must be trusted.
    """
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
    """Return a path made absolute; URLs and absolute paths stay as they are."""
    if not path or "://" in path or path.startswith(("/", "~", "file:")):
        return path
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow symlinks
