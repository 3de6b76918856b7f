"""Dependencies: what a file imports from its own package, found without running anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep import catalog, dependencies, digests


def made(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / next(iter(files))


def names(path: Path) -> set[str]:
    return {name for name in dependencies.files_of(path) if not name.startswith("workloads/")}


@pytest.mark.parametrize("line", [
    "from mine import helper", "import mine.helper", "from mine.helper import width", "from . import helper",
    "from .helper import width", "import importlib\nhelper = importlib.import_module('mine.helper')",
    "def run():\n    from mine import helper", "try:\n    import mine.helper as h\nexcept ImportError:\n    h = None",
])  # fmt: skip
def test_a_module_of_the_same_package_is_found_however_it_is_imported(tmp_path, line):
    file = made(
        tmp_path, {"mine/discs.py": line, "mine/__init__.py": "", "mine/helper.py": "width = 4"}
    )

    assert names(file) == {"discs.py", "__init__.py", "helper.py"}


def test_what_is_imported_by_what_is_imported_is_found_in_circles_too(tmp_path):
    file = made(tmp_path, {
        "mine/models/discs.py": "from ..parts import layers",
        "mine/parts/layers.py": "from mine.parts.inner import x\nfrom mine.models import discs",
        "mine/parts/inner.py": "",
        "mine/__init__.py": "", "mine/parts/__init__.py": "", "mine/models/__init__.py": "",
        "mine/unused.py": "",
    })  # fmt: skip

    assert "parts/inner.py" in names(file)
    assert "unused.py" not in names(file)


def test_a_file_beside_one_that_is_in_no_package_is_found(tmp_path):
    file = made(tmp_path, {"step.py": "import model", "model.py": "", "other.py": ""})

    assert names(file) == {"step.py", "model.py"}


def test_what_others_have_installed_beside_it_is_not_of_the_user(tmp_path):
    file = made(tmp_path / "site-packages", {"mine.py": "import numpy", "numpy/__init__.py": ""})

    assert names(file) == {"mine.py"}


def test_modules_that_a_plug_in_installs_side_by_side_are_found(tmp_path):
    file = made(tmp_path / "site-packages", {
        "mine.py": "import mine_parts, numpy", "mine_parts.py": "", "numpy/__init__.py": "",
        "mine-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1\n",
        "mine-1.dist-info/RECORD": "mine.py,,\nmine_parts.py,,\n",
        "mine-1.dist-info/entry_points.txt": "[sweep.workloads]\nmine = mine\n",
    })  # fmt: skip

    assert names(file) == {"mine.py", "mine_parts.py"}


def test_files_of_sweep_that_a_plug_in_imports_are_found_by_their_place_there(tmp_path):
    file = made(tmp_path, {"mine.py": "from workloads import core"})

    assert {"workloads/core.py", "workloads/deeppose.py", "workloads/runtime/layers.py"} <= set(
        dependencies.files_of(file)
    )


def test_a_file_that_is_not_python_counts_as_it_is(tmp_path):
    file = made(tmp_path, {"mine.py": "def (:"})

    assert list(dependencies.files_of(file)) == ["mine.py"]


def test_a_digest_is_of_content_and_not_of_the_place(tmp_path):
    files = {
        "mine/discs.py": "from mine import helper",
        "mine/__init__.py": "",
        "mine/helper.py": "width = 16",
    }
    here, there = (
        dependencies.files_of(made(tmp_path / folder, files)) for folder in ("here", "there")
    )
    same = digests.of_files(here) == digests.of_files(there)
    (tmp_path / "there/mine/helper.py").write_text("width = 4")

    assert same
    assert digests.of_files(here) != digests.of_files(there)


def test_a_large_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_LARGE_BYTES", 10)
    wheel = tmp_path / "large.whl"
    wheel.write_bytes(b"x" * 100)
    first = digests.of_file(wheel)
    (memory,) = (tmp_path / "cache").rglob("*.json")
    memory.write_text(memory.read_text().replace(first, "remembered"))
    digests._of_file.cache_clear()

    assert digests.of_file(wheel) == "remembered"
    wheel.write_bytes(b"y" * 101)
    assert digests.of_file(wheel) not in (first, "remembered")


def test_the_files_of_sweep_say_a_whole_number_as_what_they_measure():
    for path in catalog.WORKLOADS.rglob("*.py"):
        assert dependencies.measures(path) >= 1
