"""Child processes: the one place that starts them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Completed:
    """How a command ended; `returncode` is negative where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


def run(
    args: Sequence[str], env: Mapping[str, str], timeout_s: float | None = None, cwd: Path | None = None
) -> Completed:
    """Run a command to its end, in a session of its own; past `timeout_s` the whole of it is killed."""
    with subprocess.Popen(
        list(args),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            stdout, stderr = child.communicate()
            return Completed(child.returncode, stdout, stderr, timed_out=True)
        except BaseException:  # an interrupt: nothing goes on behind the user's back
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return Completed(child.returncode, stdout, stderr)
