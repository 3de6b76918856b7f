"""What is really in an environment that a grid changes: what tells records of before and after apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from test_environments import _wheel

from sweep import catalog
from sweep.environments import contents

LOCK = "# python: 3.11.7\nnumpy==1.26.4\n"


def content(**override: object) -> str:
    return contents.content(
        catalog.get_framework("reference"), "1.26.4", {k: str(v) for k, v in override.items()}
    )


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run(
        [uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder], check=True
    )
    return folder


def install(venv: Path, *what: object) -> None:
    command = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--reinstall",
        "--python",
        venv,
    ]
    subprocess.run([*command, *map(str, what)], check=True)


def project(folder: Path, code: str) -> Path:
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "__init__.py").write_text(code)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\n[build-system]\nrequires = []\n'
        'build-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    return folder


BACKEND = """
import pathlib, zipfile

def _built(folder, files):
    files.update({
        "mine-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n",
        "mine-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "mine-1.dist-info/RECORD": "",
    })
    with zipfile.ZipFile(pathlib.Path(folder, "mine-1-py3-none-any.whl"), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return "mine-1-py3-none-any.whl"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _built(wheel_directory, {"mine.pth": str(pathlib.Path.cwd())})
"""


def test_a_recipe_s_environment_has_no_content():
    assert content() == ""


def test_a_wheel_is_what_is_in_it_wherever_it_lies(tmp_path):
    (tmp_path / "there").mkdir()
    here = _wheel(tmp_path, "numpy", "1.26.4")
    first = content(wheel=here)
    there = tmp_path / "there" / here.name
    there.write_bytes(here.read_bytes())
    same = content(wheel=there)
    _wheel(tmp_path, "numpy", "1.26.4", "# built again")

    assert first == same
    assert content(wheel=here) != first


def test_a_lock_is_its_packages_whatever_its_comments(tmp_path):
    lock = tmp_path / "numpy.lock"
    lock.write_text(LOCK)
    first = content(lock=lock)
    lock.write_text(f"# another comment\n{LOCK}")
    same = content(lock=lock)
    lock.write_text(LOCK.replace("1.26.4", "1.26.5"))

    assert first == same
    assert content(lock=lock) != first


def test_a_lock_that_names_a_file_is_what_is_in_the_file(tmp_path):
    wheel, lock = _wheel(tmp_path, "numpy", "1.26.4"), tmp_path / "numpy.lock"
    lock.write_text(f"# python: 3.11.7\nnumpy @ {wheel.as_uri()}\n")
    first = content(lock=lock)
    _wheel(tmp_path, "numpy", "1.26.4", "# built again")

    assert content(lock=lock) != first


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("python", "3.10", "3.11"),
        ("requires", "six==1.16", "six==1.17"),
        ("build", "six==1.16", "six==1.17"),
        ("torch_backend", "cu118", "cu126"),
    ],
)
def test_what_is_written_of_an_environment_counts_as_it_is_written(key, one, other):
    assert len({content(), content(**{key: one}), content(**{key: other})}) == 3


def test_where_packages_come_from_does_not_count():
    assert content(index_url="https://mirror.example/simple", find_links="/mnt/wheels") == ""


def test_an_interpreter_is_all_that_it_can_import(venv, tmp_path):
    found = [content(interpreter=venv)]
    for version, code in (("1.0", ""), ("2.0", ""), ("2.0", "# built again")):
        install(venv, _wheel(tmp_path, "six", version, code))
        found.append(content(interpreter=venv / "bin" / "python"))

    assert len(set(found)) == 4
    assert content(interpreter=venv) == found[-1]


def test_a_package_that_is_installed_in_place_is_its_code(venv, tmp_path):
    source = project(tmp_path, "width = 16")
    install(venv, "--editable", source)
    (record,) = venv.glob("lib/*/site-packages/mine-1.dist-info/direct_url.json")
    assert json.loads(record.read_text())["dir_info"]["editable"]
    first = content(interpreter=venv)
    (source / "mine" / "__init__.py").write_text("width = 4")

    assert content(interpreter=venv) != first


def test_code_that_a_path_file_names_counts(venv, tmp_path):
    (site,) = venv.glob("lib/*/site-packages")
    (tmp_path / "loose.py").write_text("width = 16")
    (site / "loose.pth").write_text(f"{tmp_path}\n")
    first = content(interpreter=venv)
    (tmp_path / "loose.py").write_text("width = 4")

    assert content(interpreter=venv) != first
