"""Commands and files that a document shows, and a shell to type them in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent


def commands(document: str) -> list[str]:
    """The lines of all shell blocks of a document, without comments."""
    return [
        line.partition("  #")[0].strip()
        for block in blocks(document, "sh")
        for line in block.splitlines()
        if line.strip()
    ]


def blocks(document: str, language: str) -> list[str]:
    """The texts of a document's blocks in a language."""
    text = (HOUSE / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def typed(command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader would, on a machine that others use."""
    environment = {**os.environ, "SWEEP_MAX_CONTENTION": "any", "COLUMNS": "120", **more}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )


def path_with_sweep(folder: Path) -> str:
    """A PATH on which `sweep` is that of this interpreter."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sweep "$@"\n')
    (folder / "sweep").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
