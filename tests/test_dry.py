"""What only looks changes nothing: no file, no folder, no Python, wherever they are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import Sweep

BEFORE = Path(__file__).with_name("runs") / "before"
GRID = """
name: before
axes: {framework: [reference, "torch==2.13.0"], batch_exponent: [0], seed: [0]}
parameters: {data: synthetic}
"""
COMMANDS = [
    "plan grid.yaml",
    "run grid.yaml --dry-run",
    "run grid.yaml --dry-run --out elsewhere/deep",
    "schema",
    "env list",
    "env build --dry-run --python 3.9 --python 3.8 chainer==7.8.1",
    "data list",
    "doctor --out elsewhere",
    "status before",
    "ls before",
    "show before *",
    "summarize before",
    "compare before --over backward",
    "verify before",
    "curves before",
]


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    """All below a folder, with when it was changed and its size."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (status.st_mtime_ns, status.st_size) for path, status in found}


@pytest.mark.network
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_only_looks_changes_nothing(
    sweep: Sweep,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """But for uv's own cache of what indexes say."""
    shutil.copytree(BEFORE, tmp_path / "results/before")
    (tmp_path / "grid.yaml").write_text(GRID)
    home = {"HOME": "home", "PYENV_ROOT": "home/pyenv", "UV_PYTHON_INSTALL_DIR": "home/pythons"}
    for name, folder in home.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "SWEEP_ENV_DIR", "SWEEP_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "home").mkdir()
    before = everything(tmp_path)

    said = sweep(*command.split())

    assert "Traceback" not in said.err
    assert everything(tmp_path) == before
    assert not list(temporary.glob("sweep-*"))
