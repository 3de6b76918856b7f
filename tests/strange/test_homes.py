"""Users without a home, homes that cannot be read, and relative paths in variables."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweep
from sweep import homes
from sweep.environments import building, interpreters, store
from sweep.environments.failure import EnvironmentFailed
from sweep.environments.specification import Specification

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HOUSE = Path(sweep.__file__).parents[1]
# everything is imported as root, for the interpreter may lie where others cannot read
AS_NOBODY = """
import os, sys
from sweep import homes, calibration, digests, datasets, environments
from sweep.environments import indexes, interpreters, store
os.setgroups([]); os.setgid(54321); os.setuid(54321)
print(homes.root())
print(store.environments(), store.unfinished(), store.load("a"))
print([str(i.path) for i in interpreters.everywhere({**os.environ, "PATH": "/usr/bin:/bin"}, [int(sys.argv[1])])])
print(sorted(indexes.pip_configuration(os.environ)))
"""


def as_nobody(**variables: str) -> list[str]:
    """What a uid without a passwd entry sees, with these variables and no HOME of its own."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SWEEP_", "PIP_", "XDG"))
    }
    environment.pop("HOME", None)
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "11"],
        env=environment | variables,
        cwd=HOUSE,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@ROOT
@pytest.mark.parametrize("home", [None, "/", "/root"])
def test_a_user_without_a_passwd_entry_has_a_home(home: str | None, tmp_path: Path) -> None:
    """`/root` stands for a home that cannot be read."""
    open_to_all = Path("/tmp") / f"{tmp_path.name}-{os.getpid()}"
    open_to_all.mkdir(mode=0o777)
    open_to_all.chmod(0o777)
    try:
        said = as_nobody(TMPDIR=str(open_to_all), **({"HOME": home} if home else {}))
    finally:
        for path in open_to_all.iterdir():
            path.rmdir()
        open_to_all.rmdir()
    assert said[0] == (
        "/root/.cache/sweep" if home == "/root" else str(open_to_all / "sweep-home-54321")
    )
    assert said[1] == "[] [] None"


@ROOT
def test_what_cannot_be_read_of_a_shared_store_is_not_there(tmp_path: Path) -> None:
    """As another user's under umask 077, and a whole store of such."""
    shared = Path("/tmp") / f"shared-{os.getpid()}"
    (shared / "a").mkdir(parents=True)
    shared.chmod(0o755)
    (shared / "a").chmod(0o700)
    try:
        assert as_nobody(SWEEP_ENV_DIR=str(shared), HOME="/root")[1] == "[] ['a'] None"
        shared.chmod(0o700)
        assert as_nobody(SWEEP_ENV_DIR=str(shared), HOME="/root")[1] == "[] [] None"
    finally:
        (shared / "a").rmdir()
        shared.rmdir()


def test_one_variable_moves_all_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.delenv("SWEEP_ENV_DIR", raising=False)
    assert homes.cache("calibrations") == tmp_path / "calibrations"
    assert store.root() == tmp_path / "environments"
    monkeypatch.setenv("SWEEP_ENV_DIR", "/elsewhere")
    assert store.root() == Path("/elsewhere")


def test_a_home_among_temporary_files_that_another_user_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"sweep-home-{os.getuid()}").symlink_to(tmp_path)
    for name in ("SWEEP_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    with pytest.raises(homes.Unavailable, match="is somebody else's"):
        homes.root()


def test_a_folder_that_cannot_be_made_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(EnvironmentFailed, match=str(tmp_path / "file" / "below")) as told:
        building.prepare(Specification("reference==0", "numpy", ("3.11",)))
    assert "SWEEP_ENV_DIR or SWEEP_HOME" in told.value.hint
    assert "disk" not in told.value.hint
    assert "free some disk" in homes.hint("SWEEP_ENV_DIR", OSError(errno.ENOSPC, "full"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_told_as_such(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match=str(tmp_path)) as told:
        building.prepare(Specification("reference==0", "numpy", ("3.11",)))
    assert "has no locks" in told.value.hint


def test_relative_paths_in_variables_are_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels https://example.org/w /opt/w")
    monkeypatch.setenv("UV_FIND_LINKS", "wheels,more")
    monkeypatch.setenv("UV_CACHE_DIR", ".uv-cache")
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    for name in homes._FOLDERS:
        if name != "UV_CACHE_DIR":
            monkeypatch.delenv(name, raising=False)
    homes.make_absolute()
    assert os.environ["PIP_FIND_LINKS"] == f"{tmp_path}/wheels https://example.org/w /opt/w"
    assert os.environ["UV_FIND_LINKS"] == f"{tmp_path}/wheels,{tmp_path}/more"
    assert os.environ["UV_CACHE_DIR"] == f"{tmp_path}/.uv-cache"
    assert "PIP_CONSTRAINT" not in os.environ


def test_an_interpreter_that_prints_is_still_asked_for_its_version(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\necho welcome\n{sys.executable} "$@"\necho goodbye\n')
    wrapper.chmod(0o755)
    found = interpreters.inspect(wrapper)
    assert found
    assert found.version == ".".join(map(str, sys.version_info[:3]))
