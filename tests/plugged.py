"""Trials of the plug-in under tests/plugins, on this very Python: for tests of what runs trials."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from sweep.grid import Cell, Resources, Trial
from sweep.node.worker import RunTrial

PLUGINS = Path(__file__).with_name("plugins")
OVERRIDES = {
    f"{name}==here": {"interpreter": sys.executable}
    for name in ("plain", "heavy", "unimportable", "endless")
}
SETTINGS = {
    "workload": "trouble",
    "backend": "default",
    "device": "cpu",
    "note": "",
    "process": "fork",
    "threads": 1,
}


def trial(
    trouble: str = "none",
    framework: str = "plain==here",
    cpu: int = 1,
    exclusive: bool = False,
    memory: int | None = None,
    **settings: Any,
) -> Trial:
    axes = SETTINGS | {"framework": framework, "trouble": trouble} | settings
    resources = Resources(cpu=cpu, memory=memory, exclusive=exclusive)
    return Trial(f"id-{trouble}", Cell("cell", f"{framework}/{trouble}", axes, {}), 0, resources)


def runner(**options: Any) -> RunTrial:
    return RunTrial(
        **{"run": "made-up", "run_id": "1", "overrides": OVERRIDES, "timeout_s": 60.0} | options
    )


def alive(word: str) -> list[int]:
    """Processes that were started with this word, or by one that was; zombies are none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if word.encode() in told and b"State:\tZ" not in (folder / "status").read_bytes():
                found.append(int(folder.name))
    return found


def there(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
