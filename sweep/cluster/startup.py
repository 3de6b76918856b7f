"""The start of a local Ray: its conditions, its time limit, and why it did not come up.

`ray.init` has no time limit, and it can block inside Ray's C++ library, which no Python exception
interrupts. So a thread watches it. When the time is over, the thread kills Ray's daemons, which
the blocked call notices. If even that does not help, the thread ends the process. Some conditions
make Ray abort the process at once; `require` looks for them before the start.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.errors import UNAVAILABLE, SweepError, Unavailable
from sweep.node.obstacles import obstacles

START_TIMEOUT_S = 180.0  # on a busy machine a start takes a minute
_UNBLOCK_TIMEOUT_S = 15.0  # for a blocked call to return after its daemons were killed
_LOG_LINES = 5
_LOG_BYTES = 20_000
_LINE_CHARACTERS = 200
_LOAD_HINT = (
    "sweep doctor shows what it lacks; on a machine that is only busy, run the same command again"
)

# Variables for clusters, or for the user's own programs. A local Ray starts without them.
_FOREIGN = (
    "RAY_USE_TLS",
    "RAY_TLS_SERVER_CERT",
    "RAY_TLS_SERVER_KEY",
    "RAY_TLS_CA_CERT",
    "RAY_REDIS_ADDRESS",
    # The user's, or of a cluster that this process joined before.
    "RAY_AUTH_MODE",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_GCS_SERVER_PORT",
    "RAY_NAMESPACE",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "PYTHONDEVMODE",
    "PYTHONINSPECT",
    "PYTHONVERBOSE",
    "PYTHONSTARTUP",
)


def drop_foreign_variables() -> None:
    """Remove variables that would change a local Ray. Call before Ray is imported."""
    for name in _FOREIGN:
        os.environ.pop(name, None)


def require() -> None:
    """Raise `Unavailable` where this machine cannot run Ray: it would block or abort."""
    for obstacle in obstacles():
        raise Unavailable(f"no Ray can run on this machine: {obstacle.what}", obstacle.hint)


def code_path() -> list[str]:
    """Return the folders that Ray's workers need on their path to import `sweep`.

    Return none where it is installed. With `python -m sweep` and under pytest, only the path of
    this process has the folder.
    """
    folder = str(Path(__file__).parents[2])
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    here = {str(Path(entry).absolute()) for entry in sys.path}
    return [folder] if folder in here - installed else []


@contextlib.contextmanager
def empty_working_folder(folder: Path) -> Iterator[None]:
    """Work in an empty folder below `folder` for as long as Ray starts.

    Ray puts the working folder first on the path of its workers. A file `sweep.py` or a folder
    `numpy` there would be imported by trials.
    """
    empty = folder / "empty"
    empty.mkdir()
    # A descriptor leads back even to a folder that has been removed.
    back = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    os.chdir(empty)
    try:
        yield
    finally:
        os.chdir(back)
        os.close(back)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise `Unavailable`, with the end of a daemon's log, for any error of Ray's start."""
    try:
        yield
    except SweepError:
        raise
    except Exception as error:  # noqa: BLE001  Ray raises plain ones
        raise _not_started(" ".join(str(error).split()) or type(error).__name__, folder) from None


@contextlib.contextmanager
def limited(
    folder: Path, kill_daemons: Callable[[], None], limit_s: float = START_TIMEOUT_S
) -> Iterator[None]:
    """Kill the daemons after `limit_s` and raise `Unavailable`.

    Where the block does not end even then, print the error and end the process.
    """
    expired, done = threading.Event(), threading.Event()
    failure: list[Unavailable] = []

    def watch() -> None:
        if done.wait(limit_s):
            return
        failure.append(_not_started(f"it is not up after {limit_s:.0f} s", folder))
        expired.set()
        kill_daemons()
        if not done.wait(_UNBLOCK_TIMEOUT_S):
            text = f"error: {failure[0].message}\n\nhint: {failure[0].hint}\n"
            os.write(2, text.encode(errors="replace"))
            os._exit(UNAVAILABLE)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except Exception:
        if expired.is_set():
            raise failure[0] from None
        raise
    finally:
        done.set()


def _not_started(why: str, folder: Path) -> Unavailable:
    """Return the error for a Ray that did not start; a known obstacle replaces the reason."""
    found = next(iter(obstacles()), None)
    reason, hint = (found.what, found.hint) if found else (why, _LOAD_HINT)
    log = "".join(f"\n  {line}" for line in _log_lines(folder))
    return Unavailable(f"the local Ray does not come up: {reason}{log}", hint)


def _log_lines(folder: Path) -> list[str]:
    """Return the last log lines of the first daemon that has logged something."""
    for name in ("raylet.err", "raylet.out", "gcs_server.err", "gcs_server.out"):
        for path in folder.glob(f"session_2*/logs/{name}"):
            # A log that cannot be read must not hide the error itself.
            with contextlib.suppress(OSError):
                text = path.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
                lines = [line.strip() for line in text.splitlines() if line.strip()]
                if lines:
                    return [f"{name}: {line[:_LINE_CHARACTERS]}" for line in lines[-_LOG_LINES:]]
    return []
