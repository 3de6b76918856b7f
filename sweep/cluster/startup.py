"""Startup: what a Ray of our own needs of this machine, apart from its user's settings, and why it did not come up.

`ray.init` has no time limit. It can wait inside its C++ part, where no exception reaches it. So a thread watches it,
and ends Ray's daemons when the time is over, which the blocked call notices. Should even that not help, the thread
ends the whole process. Some conditions make Ray abort the process at once; these are looked for beforehand.
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

START_S = 180.0  # on a busy machine a Ray takes a minute
_STUCK_S = 15.0  # how long a call may block whose daemons are gone
_LOG_LINES = 5
_LOG_BYTES = 20_000
_LOAD_HINT = (
    "sweep doctor shows what it lacks; on a machine that is only busy, run the same command again"
)

# These are meant for clusters, or for the user's own programs. Ray's daemons and workers do not start with them.
_FOREIGN = (
    *(
        "RAY_USE_TLS",
        "RAY_TLS_SERVER_CERT",
        "RAY_TLS_SERVER_KEY",
        "RAY_TLS_CA_CERT",
        "RAY_REDIS_ADDRESS",
    ),
    # of a cluster that was joined before, or of the user's
    "RAY_AUTH_MODE",
    *(
        "RAY_RUNTIME_ENV_HOOK",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        "RAY_GCS_SERVER_PORT",
        "RAY_NAMESPACE",
    ),
    *(
        "PYTHONOPTIMIZE",
        "PYTHONWARNINGS",
        "PYTHONDEVMODE",
        "PYTHONINSPECT",
        "PYTHONVERBOSE",
        "PYTHONSTARTUP",
    ),
)


def drop_foreign_variables() -> None:
    """Before Ray is imported: its library reads them then."""
    for name in _FOREIGN:
        os.environ.pop(name, None)


def require() -> None:
    """Raises `Unavailable` at the first obstacle: past it Ray hangs or aborts this process."""
    for obstacle in obstacles():
        raise Unavailable(f"no Ray can run on this machine: {obstacle.what}", obstacle.hint)


def code_path() -> list[str]:
    """Where Ray's workers find the code that this process runs; empty where they find it by themselves.

    With `python -m sweep` and under pytest that code lies in a folder which only this process's path names.
    """
    folder = str(Path(__file__).parents[2])
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    here = {str(Path(entry).absolute()) for entry in sys.path}
    return [folder] if folder in here - installed else []


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[None]:
    """What is started meanwhile works in an empty folder below `folder`.

    Ray puts this process's working folder ahead of all else on the path of its workers: a file `sweep.py` or a folder
    `numpy` there would be imported by trials. The way back goes through a descriptor, which a removed folder has, too.
    """
    empty = folder / "empty"
    empty.mkdir()
    back = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    os.chdir(empty)
    try:
        yield
    finally:
        os.chdir(back)
        os.close(back)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """The ways in which a Ray of our own does not start, in one: `Unavailable` with the end of a daemon's log."""
    try:
        yield
    except SweepError:
        raise
    except Exception as error:  # noqa: BLE001  Ray raises bare ones
        raise _not_started(" ".join(str(error).split()) or type(error).__name__, folder) from None


@contextlib.contextmanager
def limited(
    folder: Path, end_daemons: Callable[[], None], limit_s: float = START_S
) -> Iterator[None]:
    """Past `limit_s` the daemons are ended and `Unavailable` raised; where that does not help, the process ends."""
    expired, done = threading.Event(), threading.Event()
    failure: list[Unavailable] = []

    def watch() -> None:
        if done.wait(limit_s):
            return
        failure.append(_not_started(f"it is not up after {limit_s:.0f} s", folder))
        expired.set()
        end_daemons()
        if not done.wait(_STUCK_S):
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
    found = obstacles()
    said = "".join(f"\n  {line}" for line in _last_words(folder))
    reason = found[0].what if found else why
    return Unavailable(
        f"the local Ray does not come up: {reason}{said}", found[0].hint if found else _LOAD_HINT
    )


def _last_words(folder: Path) -> list[str]:
    """The end of what a daemon logged: of the raylet, else of the head, whichever said something."""
    for name in ("raylet.err", "raylet.out", "gcs_server.err", "gcs_server.out"):
        for path in folder.glob(f"session_2*/logs/{name}"):
            with contextlib.suppress(OSError):
                lines = path.read_bytes()[-_LOG_BYTES:].decode(errors="replace").splitlines()
                if told := [line.strip() for line in lines if line.strip()]:
                    return [f"{name}: {line[:200]}" for line in told[-_LOG_LINES:]]
    return []
