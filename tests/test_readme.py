"""The README: every command in it does what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
from documents import HOUSE, commands, path_with_sweep, typed

SET_UP = "pip install . && sweep run grid.yaml"
TEST = "pip install -e '.[test]' && pytest"


def checkout(folder: Path) -> Path:
    """What a clone would hold."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to it")
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (HOUSE / name).is_file():
            shutil.copy(HOUSE / name, folder / name)
    return folder


def test_the_readme_shows_both_commands_that_do_all_the_set_up() -> None:
    """The second is the one by which this test is run; `.ci/run` calls it."""
    assert SET_UP in commands("README.md")
    assert TEST in commands("README.md")
    assert TEST in (HOUSE / ".ci/run").read_text(encoding="utf-8")


@pytest.mark.ray
@pytest.mark.framework
def test_every_command_on_the_smoke_grid_does_what_it_says(tmp_path: Path) -> None:
    """In order, as a reader would type them; `sweep` is that of this interpreter."""
    folder = checkout(tmp_path / "sweep")
    path = path_with_sweep(tmp_path / "bin")
    shown = [command for command in commands("README.md") if command not in (SET_UP, TEST)]
    assert len(shown) > 4
    for command in shown:
        ended = typed(command, folder, PATH=path)
        accepted = (
            (0, 3) if " compare " in command else (0,)
        )  # so few samples may well leave it open
        assert ended.returncode in accepted, f"{command}: {ended.stdout}{ended.stderr}"
        assert ended.stdout.strip(), command


@pytest.mark.exhaustive
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.network
@pytest.mark.timeout(2400)
def test_a_fresh_virtual_environment_ends_with_torch_beside_chainer(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "sweep")
    venv.create(tmp_path / "venv", with_pip=True)
    ended = typed(
        SET_UP, folder, PATH=f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}", PYTHONPATH=""
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    query = (
        "SELECT framework, backward, batch_size, count(*) AS trials, max(loss_check) AS loss, max(grad_check) AS grad, "
        f"bool_and(status = 'ok') AS ok FROM read_parquet('{folder}/results/core-time/records/*.parquet') "
        "WHERE status <> 'invalid' GROUP BY ALL"
    )
    import duckdb

    rows = duckdb.sql(query).fetchall()
    assert len(rows) == 2 * 2 * 5
    for framework, backward, batch_size, trials, loss, grad, ok in rows:
        assert (ok, trials) == (True, 3), (framework, backward, batch_size)
        assert loss < 1e-4
        assert grad < 1e-4
    for word in ("mean", "variance", "95 % interval", "torch==2.13.0", "chainer==7.8.1"):
        assert word in ended.stdout
