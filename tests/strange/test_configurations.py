"""Configurations of uv and pip that are there for other purposes, and interpreters that talk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import uv

from sweep import process
from sweep.environments import building, indexes
from sweep.environments.failure import EnvironmentFailed
from sweep.environments.specification import Specification

SPECIFICATION = Specification("reference==1", "json", ("3.11",))


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's uv.toml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in (
        "UV_CONFIG_FILE",
        "UV_NO_CONFIG",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_FIND_LINKS",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "uv").mkdir()
    return tmp_path / "uv" / "uv.toml"


def test_what_bounds_packages_in_uvs_files_does_not_reach_uv(
    configuration: Path, tmp_path: Path
) -> None:
    """A file that every uv refuses: it is not even read."""
    configuration.write_text("this is no TOML")
    (tmp_path / "wanted.txt").touch()
    asked = [
        uv.find_uv_bin(),
        "pip",
        "compile",
        "--offline",
        "--python",
        sys.executable,
        "wanted.txt",
    ]
    ended = process.run(asked, dict(indexes.configured().variables), 60, tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "variable",
    [
        "UV_EXCLUDE_NEWER",
        "UV_CONSTRAINT",
        "UV_CONFIG_FILE",
        "UV_NO_BINARY_PACKAGE",
        "UV_SOMETHING_OF_NEXT_YEAR",
    ],
)
def test_variables_that_choose_other_packages_do_not_reach_uv(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "2020-01-01")
    assert variable not in indexes.configured().variables


def test_environments_are_never_links_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    assert "UV_LINK_MODE" not in indexes.configured().variables
    monkeypatch.setenv("UV_LINK_MODE", "copy")
    assert indexes.configured().variables["UV_LINK_MODE"] == "copy"


def test_indexes_and_credentials_are_still_the_users(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration.write_text("""
native-tls = true
constraint-dependencies = ["numpy<1.26"]
[[index]]
name = "lab"
url = "https://lab.example/simple"
[[index]]
url = "https://mirror.example/simple"
default = true
[pip]
find-links = ["/opt/w"]
require-hashes = true
""")
    monkeypatch.setenv("UV_INDEX_LAB_PASSWORD", "secret")
    told = indexes.configured().variables
    assert told["UV_INDEX"] == "lab=https://lab.example/simple"
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert told["UV_FIND_LINKS"] == "/opt/w"
    assert told["UV_NATIVE_TLS"] == "1"
    assert told["UV_INDEX_LAB_PASSWORD"] == "secret"
    assert not any("numpy" in value for name, value in told.items() if name.startswith("UV_"))


def test_a_constraint_of_pips_is_said_to_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "/opt/bounds.txt")
    assert indexes.ignored().startswith("pip's constraint /opt/bounds.txt is not used")


def test_what_an_interpreter_prints_beside_its_facts_is_passed_over() -> None:
    said = 'hello\n{"python": "2.7"}\nsweep-facts: {"python": "3.11.7", "version": "1"}\ngoodbye\n'
    assert building._facts(SPECIFICATION, said) == {"python": "3.11.7", "version": "1"}


@pytest.mark.parametrize(
    "said", ["", "licence expired\n", "sweep-facts: {broken\nlicence expired\n"]
)
def test_an_interpreter_that_gives_no_facts_fails_alone_with_what_it_said(said: str) -> None:
    last = (said.split("\n")[-2:-1] or ["nothing"])[0]
    with pytest.raises(EnvironmentFailed, match=f"it printed '{last}'"):
        building._facts(SPECIFICATION, said)
