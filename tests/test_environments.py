"""Environments, built for real from wheels of a few lines, without a network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweep import catalog, environments, grid, process
from sweep.environments import (
    EnvironmentFailed,
    Specification,
    indexes,
    interpreters,
    prepare,
    specify,
    store,
)
from sweep.environments.probing import probe, step
from sweep.errors import SweepError, Unavailable
from sweep.node import gpus, provision

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
HEADER = f"""\
# /// script
# dependencies = []
#
# [tool.sweep]
# package = "tiny"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.recipes."*"]
# python = ["{PYTHON}"]
# requires = ["helper"]
# cpu_build = true
# hint = "tiny is made by its test"
# variants.gpu = {{requires = ["companion-cuda102=={{version}}"]}}
# ///
"""


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels, the only place pip is configured to take packages from."""
    folder = tmp_path / "wheels of mine"
    folder.mkdir()
    for key in [k for k in os.environ if k.startswith(("PIP_", "UV_")) and k != "UV_CACHE_DIR"]:
        monkeypatch.delenv(key)
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        f"[global]\nno-index = true\nfind-links = {folder.as_uri()} {tmp_path / 'gone'}\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    _wheel(folder, "tiny", "1.0")
    _wheel(folder, "helper", "1.0")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "environments"
    monkeypatch.setenv("SWEEP_ENV_DIR", str(folder))
    return folder


@pytest.fixture
def tiny(tmp_path, wheels, cache):
    path = tmp_path / "tiny.py"
    path.write_text(HEADER)
    return catalog.read_framework(path, "tiny")


def _wheel(folder: Path, name: str, version: str, code: str = "", needs: str = "") -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"__version__ = {version!r}\n{code}\n")
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


def _hear_commands(monkeypatch, heard: list[str]) -> None:
    """Every command that is run from now on, its words with a space between, is put down in `heard` first."""
    run = process.run
    monkeypatch.setattr(
        process,
        "run",
        lambda command, *how, **more: heard.append(" ".join(command)) or run(command, *how, **more),
    )


def _left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*") if not path.name.startswith("."))


# specifications


def test_what_asks_for_the_same_packages_shares_one_environment():
    torch = catalog.frameworks()["torch"]

    assert specify(torch, "2.13.0").id == specify(torch, "2.13.0", backend="onednn").id
    assert specify(torch, "2.13.0").id != specify(torch, "2.13.0", device="gpu").id
    assert specify(torch, "2.13.0").id != specify(torch, "2.13.0", extra_requires=["six"]).id


def test_an_id_is_the_same_in_every_process():
    spec = Specification("tiny==1.0", "tiny", python=("3.11",), requires=("tiny==1.0",))

    assert spec.id == "89ceef9a0069"


def test_credentials_are_in_no_id_and_no_representation(tiny):
    specs = [
        specify(tiny, "1.0", override={"index_url": f"https://me:{word}@host/simple"})
        for word in ("a1", "b2")
    ]

    assert specs[0].id == specs[1].id
    assert "a1" not in repr(specs[0])


def test_a_requirement_of_the_users_replaces_the_recipes_of_the_same_name():
    torch = catalog.frameworks()["torch"]

    spec = specify(torch, "1.0.1", override={"requires": ["numpy==1.16.0"]})

    assert [r for r in spec.requires if r.startswith("numpy")] == ["numpy==1.16.0"]


def test_a_cuda_build_of_the_users_choice_replaces_the_recipes(tiny):
    spec = specify(tiny, "1.0", "gpu", override={"requires": ["companion-cuda11x==1.0"]})

    assert "companion-cuda11x==1.0" in spec.requires
    assert not any("cuda102" in requirement for requirement in spec.requires)


def test_a_wheel_says_for_which_python_it_is(tiny):
    name = "tiny-0.1.12.post2-cp36-cp36m-linux_x86_64.whl"

    spec = specify(tiny, "0.1.12.post2", override={"wheel": f"wheels/{name}"})

    assert spec.python == ("3.6",)
    assert f"tiny @ {Path('wheels', name).absolute().as_uri()}" in spec.requires


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ({"whee": "x"}, "wheel"),
        ({"python": 3.6}, "quotes"),
        ({"requires": [1]}, "quotes"),
        ({"requires": ["<2"]}, "as pip takes it"),
        ({"lock": "nowhere.lock"}, "sweep env lock"),
    ],
)
def test_a_setting_that_is_none_is_refused_before_anything_is_built(tiny, override, hint):
    with pytest.raises(SweepError) as raised:
        specify(tiny, "1.0", override=override)

    assert hint in raised.value.hint


# indexes


def test_pips_configuration_is_told_to_uv(tmp_path, monkeypatch, wheels):
    here = tmp_path / "pip.conf"
    here.write_text(
        "[global]\nindex-url = https://one/simple\nextra_index_url =\n  https://two/simple\n  https://three/simple\n"
        f"find-links = {wheels.as_uri()} {tmp_path / 'gone'}\ncert = /ca.pem\n[install]\nindex-url = https://four/simple\n"
    )
    for key in ("SSL_CERT_FILE", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_TRUSTED_HOST", "two")

    told = indexes.configured().variables

    assert told["UV_INDEX_URL"] == "https://four/simple"
    assert told["UV_EXTRA_INDEX_URL"] == "https://two/simple https://three/simple"
    assert (
        told["UV_FIND_LINKS"] == wheels.as_uri()
    )  # pip passes over a folder that is not there, uv would stop
    assert told["SSL_CERT_FILE"] == "/ca.pem"
    assert told["UV_INSECURE_HOST"] == "two"


def test_what_the_user_tells_uv_itself_wins(monkeypatch, wheels):
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip/simple")
    monkeypatch.setenv("UV_INDEX_URL", "https://uv/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")

    told = indexes.configured().variables

    assert told["UV_INDEX_URL"] == "https://uv/simple"
    assert "VIRTUAL_ENV" not in told
    assert (
        indexes.configured("https://grid/simple").variables["UV_INDEX_URL"] == "https://grid/simple"
    )


# interpreters


def test_pyenvs_folders_are_looked_into_before_its_shims(tmp_path):
    shims = tmp_path / "shims"
    shims.mkdir()
    shim = shims / f"python{PYTHON}"
    shim.write_text(f"#!/bin/sh\necho 'pyenv: python{PYTHON}: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    home = tmp_path / "versions" / "{}.{}.{}".format(*sys.version_info) / "bin"
    home.mkdir(parents=True)
    (home / "python").symlink_to(sys.executable)

    found = interpreters.find((PYTHON,), {"PYENV_ROOT": str(tmp_path), "PATH": str(shims)}, print)

    assert found.path == home / "python"  # the symlink is kept


def test_a_dry_run_says_that_a_python_would_be_installed_and_does_not(
    tiny, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = ("3.3", "3.9", "3.8")
    if interpreters.present(wanted, os.environ):
        pytest.skip("this machine has one of them where it is always looked for")

    planned = environments.plan(specify(tiny, "1.0", override={"python": wanted}))

    assert planned.python == "3.9"
    assert planned.packages == ("helper==1.0", "tiny==1.0")
    assert planned.notes == ("Python 3.9 is not on this machine and would be installed",)
    assert not (tmp_path / "pythons").exists()
    assert _left_in(cache) == []


def test_a_dry_run_with_no_python_to_be_had_says_which(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))

    with pytest.raises(EnvironmentFailed, match=r"no Python 3\.3 on this machine"):
        environments.plan(specify(tiny, "1.0", override={"python": "3.3"}))

    assert not (tmp_path / "pythons").exists()


def test_a_dry_run_for_a_python_of_ones_own_says_what_is_in_it(tiny):
    environment = prepare(specify(tiny, "1.0"))

    planned = environments.plan(
        specify(tiny, "1.0", override={"interpreter": str(environment.python)})
    )

    assert planned.packages == environment.packages
    assert planned.python == environment.python_version


def test_a_missing_interpreter_is_named_with_the_way_to_get_it(tiny):
    with pytest.raises(EnvironmentFailed, match=r"no Python 3\.3 on this machine") as raised:
        prepare(specify(tiny, "1.0", override={"python": "3.3"}))

    assert "pyenv install 3.3" in raised.value.hint


# building


def test_an_environment_holds_its_framework_and_says_what_it_holds(tiny):
    environment = prepare(specify(tiny, "1.0"))

    assert environment.packages == ("helper==1.0", "tiny==1.0")
    assert environment.python_version == "{}.{}.{}".format(*sys.version_info)
    assert environment.python.is_symlink()
    ran = subprocess.run(
        [environment.python, "-c", "import tiny; print(tiny.__version__)"], capture_output=True
    )
    assert ran.stdout == b"1.0\n"
    assert list(environment.python.parent.parent.glob("lib/*/site-packages/__pycache__/tiny.*.pyc"))


def test_an_environment_is_built_once(tiny):
    said: list[str] = []

    first = prepare(specify(tiny, "1.0"), said.append)
    assert said
    said.clear()

    assert prepare(specify(tiny, "1.0"), said.append) == first
    assert not said


def test_a_version_that_does_not_exist_fails_with_the_resolvers_words_and_leaves_nothing(
    tiny, cache
):
    with pytest.raises(EnvironmentFailed, match=r"tiny==9\.0") as raised:
        prepare(specify(tiny, "9.0"))

    assert raised.value.exit_code == 5
    assert raised.value.hint == "tiny is made by its test"
    assert "tiny==9.0" in raised.value.log_tail
    assert _left_in(cache) == []


def test_a_framework_that_cannot_be_imported_is_no_environment(tiny, wheels, cache):
    _wheel(wheels, "tiny", "2.0", "raise ImportError('libfast.so.1 is not there')")

    with pytest.raises(EnvironmentFailed, match=r"libfast\.so\.1 is not there"):
        prepare(specify(tiny, "2.0"))

    assert _left_in(cache) == []


def test_a_failure_is_remembered_for_the_run_and_for_no_other(tiny, wheels):
    with pytest.raises(EnvironmentFailed):
        prepare(specify(tiny, "2.0"), run_id="first")
    _wheel(wheels, "tiny", "2.0")

    with pytest.raises(EnvironmentFailed, match=r"tiny==2\.0"):
        prepare(specify(tiny, "2.0"), run_id="first")
    assert prepare(specify(tiny, "2.0"), run_id="second").packages == ("helper==1.0", "tiny==2.0")


def test_a_cpu_trial_gets_the_cpu_build_and_a_gpu_trial_never(tiny, wheels):
    _wheel(wheels, "tiny", "1.0+cpu")
    _wheel(wheels, "companion_cuda102", "1.0")

    assert "tiny==1.0+cpu" in prepare(specify(tiny, "1.0")).packages
    assert prepare(specify(tiny, "1.0", "gpu")).packages == (
        "companion-cuda102==1.0",
        "helper==1.0",
        "tiny==1.0",
    )


def test_where_a_cpu_build_is_at_hand_uv_is_asked_for_an_environment_its_packages_and_their_list(
    tiny, wheels, monkeypatch
):
    _wheel(wheels, "tiny", "1.0+cpu")
    asked: list[str] = []
    _hear_commands(monkeypatch, asked)

    prepare(specify(tiny, "1.0"))

    words = [
        word
        for command in asked
        for word in command.split()
        if word in ("venv", "compile", "install", "freeze")
    ]
    assert sorted(words) == ["freeze", "install", "venv"]


@pytest.fixture
def closed_index(tmp_path, wheels):
    """An index in a folder, all that pip can reach: every request for another goes to a port where nobody answers."""
    index = tmp_path / "simple"
    for wheel in wheels.glob("*.whl"):
        page = index / wheel.name.partition("-")[0].replace("_", "-") / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = {index.as_uri()}\nproxy = http://127.0.0.1:9\n"
    )


@pytest.fixture
def brings_cuda(tmp_path, wheels, cache):
    """A framework called as one whose CPU builds uv knows where to look for, and whose own build brings CUDA."""
    path = tmp_path / "torch.py"
    path.write_text(HEADER.replace('package = "tiny"', 'package = "torch"'))
    _wheel(wheels, "torch", "5.0", needs="nvidia-tiny")
    _wheel(wheels, "nvidia_tiny", "1.0")
    return catalog.read_framework(path, "torch")


def test_that_a_build_brings_cuda_libraries_is_told_before_it_is_installed(
    brings_cuda, closed_index, monkeypatch
):
    said: list[str] = []
    _hear_commands(monkeypatch, said)

    environment = prepare(specify(brings_cuda, "5.0"), said.append)

    assert any("--torch-backend cpu" in each for each in said)

    (note,) = environment.notes
    last_install = max(place for place, each in enumerate(said) if " install " in each)
    assert "CUDA libraries" in note
    assert said.index(note) < last_install
    assert "nvidia-tiny==1.0" in environment.packages


def test_a_lock_brings_the_very_same_versions_back(tiny, wheels, tmp_path):
    before = prepare(specify(tiny, "1.0"))
    lock = tmp_path / "tiny.lock"
    lock.write_text(environments.lock(before))
    _wheel(wheels, "helper", "2.0")

    after = prepare(specify(tiny, "1.0", override={"lock": str(lock)}))
    unlocked = prepare(replace(specify(tiny, "1.0"), requires=("helper", "tiny")))

    assert (after.id, after.packages) == (before.id, before.packages)
    assert after.python != before.python
    assert "helper==2.0" in unlocked.packages


def test_what_building_would_install_is_known_without_building(tiny, cache):
    planned = environments.plan(specify(tiny, "1.0"))

    assert planned.packages == ("helper==1.0", "tiny==1.0")
    assert _left_in(cache) == []


BUILD = """
import sys
from pathlib import Path
from sweep import catalog, environments, grid
from sweep.node import gpus, provision
said = []
tiny = catalog.read_framework(Path(sys.argv[1]), "tiny")
environments.prepare(environments.specify(tiny, "1.0"), said.append)
print(any("installing" in line for line in said))
"""


def test_builders_at_the_same_time_build_once(tiny):
    command = [sys.executable, "-c", BUILD, str(tiny.path)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]

    said = sorted(builder.communicate()[0] for builder in builders)

    assert said == [b"False\n", b"False\n", b"False\n", b"True\n"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_cut_short_is_never_taken_for_complete(tiny, wheels, cache, how):
    spec = specify(tiny, "1.0")
    # the import that ends a build lasts until the builder is gone
    _wheel(
        wheels,
        "tiny",
        "1.0",
        f"import os, time\nwhile os.path.exists({str(wheels / 'slow')!r}): time.sleep(0.02)",
    )
    (wheels / "slow").touch()
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tiny.path)], stderr=subprocess.DEVNULL
    )
    while not _importing(cache / spec.id):
        time.sleep(0.02)
    while (
        builder.poll() is None
    ):  # an interrupt that falls into a destructor is lost: one presses again
        builder.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            builder.wait(10)
    deadline = time.monotonic() + 20.0
    while _importing(cache / spec.id):
        assert time.monotonic() < deadline, "it goes on without the lock"
        time.sleep(0.02)
    (wheels / "slow").unlink()

    assert store.load(spec.id) is None
    assert environments.environments() == []
    assert prepare(spec).packages == ("helper==1.0", "tiny==1.0")


def _importing(folder):
    """Whether an import of `tiny` is under way in the environment there."""
    commands = [each.info["cmdline"] or [""] for each in psutil.process_iter(["cmdline"])]
    return any(command[0].startswith(str(folder)) and "tiny" in command for command in commands)


BACKEND = """
import os, time
def get_requires_for_build_wheel(config_settings=None):
    open({slow!r} + ".reached", "w").close()
    while os.path.exists({slow!r}):
        time.sleep(0.02)
    return []
"""


def test_the_resolver_dies_with_the_builder_whose_lock_it_works_under(
    tiny, wheels, tmp_path, monkeypatch
):
    slow = wheels / "slow"
    slow.touch()
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    _sdist(
        wheels,
        "tiny",
        "1.0.1",
        {"pyproject.toml": project, "backend.py": BACKEND.format(slow=str(slow))},
    )
    (wheels / "tiny-1.0-py3-none-any.whl").unlink()
    monkeypatch.setenv(
        "TMPDIR", str(tmp_path)
    )  # where uv's requirements are written, and uv is run
    code = BUILD.replace('"1.0"', '"1.0.1"')
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny.path)], stderr=subprocess.DEVNULL
    ) as builder:
        while not slow.with_name("slow.reached").exists():
            time.sleep(0.02)
        working = _resolvers(tmp_path)
        builder.kill()

    _, alive = psutil.wait_procs(working, timeout=5)
    slow.unlink()

    assert working
    assert not alive


def _sdist(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in (
            files | {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
        ).items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def _resolvers(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["name", "cwd"])
    return [
        p for p in found if p.info["name"] == "uv" and (p.info["cwd"] or "").startswith(str(folder))
    ]


def test_an_environment_whose_interpreter_is_gone_is_built_again(tiny):
    first = prepare(specify(tiny, "1.0"))
    first.python.unlink()
    first.python.symlink_to("/nowhere/python")

    assert store.load(first.specification) is None
    assert prepare(specify(tiny, "1.0")).python.exists()


def test_a_folder_that_cannot_be_written_is_said(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path / "file"))

    with pytest.raises(EnvironmentFailed, match="no environment for tiny") as raised:
        prepare(specify(tiny, "1.0"))

    assert "SWEEP_ENV_DIR" in raised.value.hint


def test_an_environment_of_ones_own_is_used_as_it_is(tiny, cache):
    site_build = prepare(specify(tiny, "1.0"))
    place = site_build.python.parent.parent
    for bytecode in place.rglob("*.pyc"):
        bytecode.unlink()
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}

    for named in (site_build.python, place):
        mine = prepare(specify(tiny, "mybuild", override={"interpreter": str(named)}))
        assert mine.python == site_build.python
        assert mine.packages == site_build.packages
        assert mine.id != site_build.id

    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before
    assert _left_in(cache) == [site_build.specification]


@pytest.mark.parametrize("named", ["/nowhere/python", "/bin/ls", "."])
def test_an_interpreter_that_is_none_is_said(tiny, named):
    with pytest.raises(EnvironmentFailed, match="is no Python that runs"):
        prepare(specify(tiny, "mybuild", override={"interpreter": named}))


def test_an_interpreter_without_the_framework_is_said(tiny):
    with pytest.raises(EnvironmentFailed, match="No module named 'tiny'"):
        prepare(specify(tiny, "mybuild", override={"interpreter": sys.executable}))


def test_a_wheel_of_ones_own_is_installed(tiny, tmp_path):
    wheel = _wheel(tmp_path, "tiny", "0.1.12.post2")

    environment = prepare(specify(tiny, "0.1.12.post2", override={"wheel": str(wheel)}))

    assert any(package.startswith("tiny @ file://") for package in environment.packages)


def _index(folder: Path, *wheels: Path) -> str:
    """A simple index of these wheels, as a folder of pages; its URL."""
    for wheel in wheels:
        page = folder / wheel.name.partition("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            f'<!DOCTYPE html><html><body><a href="{wheel.as_uri()}">{wheel.name}</a></body></html>'
        )
    return folder.as_uri()


def test_an_index_of_ones_own_is_asked_instead_of_the_configured_ones(tiny, tmp_path):
    theirs = _folder(tmp_path / "theirs")
    url = _index(
        tmp_path / "simple", _wheel(theirs, "tiny", "3.0"), _wheel(theirs, "helper", "5.0")
    )

    environment = prepare(specify(tiny, "3.0", override={"index_url": url}))

    assert environment.packages == ("helper==5.0", "tiny==3.0")
    with pytest.raises(EnvironmentFailed, match=r"tiny==3\.0"):
        prepare(specify(tiny, "3.0"))


def test_a_folder_of_wheels_of_ones_own_comes_beside_the_configured_ones(tiny, tmp_path):
    theirs = _folder(tmp_path / "theirs")
    _wheel(theirs, "tiny", "3.0")

    environment = prepare(specify(tiny, "3.0", override={"find_links": [str(theirs)]}))

    assert environment.packages == ("helper==1.0", "tiny==3.0")


def test_a_torch_backend_is_handed_to_uv_and_ends_the_search_for_a_cpu_build(tiny, wheels):
    _wheel(wheels, "tiny", "1.0+cpu")

    assert not specify(tiny, "1.0", override={"torch_backend": "cu126"}).cpu_build
    with pytest.raises(EnvironmentFailed, match="warp"):
        prepare(specify(tiny, "1.0", override={"torch_backend": "warp"}))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_torch_before_1_0_is_installed_from_a_wheel_that_the_grid_names(tmp_path):
    torch = catalog.frameworks()["torch"]
    wheel = tmp_path / "torch-0.1.12.post2-cp36-cp36m-linux_x86_64.whl"
    path = tmp_path / "grid.yaml"
    path.write_text(f"""
name: old
axes: {{framework: [torch==0.1.12.post2], backend: [default, onednn], seed: [0]}}
environments:
  torch==0.1.12.post2: {{wheel: {wheel}, requires: ["numpy<1.19"]}}
""")
    loaded = grid.load(path, [])
    expansion = grid.expand(loaded, catalog.frameworks(), catalog.workloads())

    spec, numpy_spec = provision.needs(expansion.trials, loaded.environments).specifications
    assert numpy_spec.framework == "reference"

    assert [exclusion.reason for exclusion in expansion.exclusions] == [
        "oneDNN came with torch 1.0, for the CPU"
    ]
    assert (spec.python, spec.cpu_build) == (("3.6",), False)
    assert spec.requires == ("numpy<1.19", "pyyaml<6", f"torch @ {wheel.as_uri()}")
    assert "on no package index" in specify(torch, "0.1.12.post2").hint


def test_a_wheel_whose_content_changed_is_another_environment(tiny, tmp_path):
    override = {"wheel": str(_wheel(tmp_path, "tiny", "1.0"))}
    before = specify(tiny, "1.0", override=override).id
    _wheel(tmp_path, "tiny", "1.0", "# built again")

    assert specify(tiny, "1.0", override=override).id != before


GRID = """
name: both
axes: {framework: [torch==1.0.1, torch==2.13.0], device: [cpu, gpu], seed: [0]}
exclude: [{framework: torch==2.13.0, device: cpu}]
"""


def test_what_trials_on_a_gpu_alone_need_is_told_apart(tmp_path):
    """Wheels up to 1.12 are for both devices."""
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    loaded = grid.load(path, [])
    trials = grid.expand(loaded, catalog.frameworks(), catalog.workloads()).trials

    needs = provision.needs(trials, {})

    assert [spec.framework for spec in needs.specifications] == [
        "torch==1.0.1",
        "reference",
        "torch==2.13.0",
    ]
    assert [spec.framework for spec in needs.gpu_only] == ["torch==2.13.0"]


@pytest.mark.skipif(gpus.has_driver(), reason="this machine has a GPU")
def test_a_node_without_a_gpu_gets_no_environment_for_one(tiny, cache):
    spec = specify(tiny, "9.0", "gpu")  # which cannot be had

    assert provision.provide(provision.Needs((spec,), {}, gpu_only=frozenset([spec]))) == (
        set(),
        {},
        (),
    )
    provided = provision.provide(provision.Needs((spec,), {}))
    assert (provided.ready, list(provided.failed)) == (frozenset(), [spec.id])


# removing and probing


def test_an_environment_in_use_is_not_removed(tiny):
    environment = prepare(specify(tiny, "1.0"))
    with subprocess.Popen([environment.python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        with pytest.raises(SweepError, match=f"in use by process {user.pid}"):
            environments.remove(environment.specification)
        user.communicate(b"\n")

    environments.remove(environment.specification)
    assert environments.environments() == []


def test_an_environment_being_built_is_not_removed(tiny):
    spec = specify(tiny, "1.0")

    with store.locked(spec.id, spec.framework), pytest.raises(Unavailable, match="being built"):
        environments.remove(spec.id)


def test_a_probe_says_what_works_and_why_not_and_leaves_nothing(tiny, wheels, cache):
    _wheel(wheels, "tiny", "2.0", "raise ImportError('no')")

    good = probe(specify(tiny, "1.0"), lambda _: "", print, discard=True)
    bad = probe(specify(tiny, "2.0"), lambda _: "", print, discard=True)
    wrong = probe(specify(tiny, "1.0"), lambda _: "loss is nan", print, discard=True)

    assert (good.works, good.size_bytes > 0) == (True, True)
    assert (bad.works, "ImportError: no" in bad.reason) == (False, True)
    assert (wrong.works, wrong.reason) == (False, "loss is nan")
    assert _left_in(cache) == []


@pytest.mark.network
def test_a_probe_does_a_step_of_the_real_network(cache):
    reference = catalog.frameworks()["reference"]
    environment = prepare(specify(reference, None))

    assert step(environment, reference, "default", "cpu") == ""
    assert "wrong" in step(environment, replace(reference, path=_broken(cache)), "default", "cpu")


def _broken(folder: Path) -> Path:
    path = folder / "broken.py"
    path.write_text("raise RuntimeError('wrong')")
    return path


# the command line


def _sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep", "env", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.network
def test_environments_are_built_listed_locked_and_removed_from_the_command_line(cache, tmp_path):
    built = _sweep("build", "reference")
    assert built.returncode == 0, built.stderr
    assert "reference" in built.stdout

    (row,) = json.loads(_sweep("list", "--format", "json").stdout)
    assert (
        _sweep("list", "--format", "csv")
        .stdout.splitlines()[0]
        .startswith("id,framework,python,numpy,size_bytes")
    )
    assert "MiB" in _sweep("list", "--format", "latex").stdout
    assert row["framework"] == "reference"
    assert Path(row["path"]).exists()

    assert _sweep("lock", "reference", "-o", str(tmp_path / "r.lock")).returncode == 0
    assert f"numpy=={row['numpy']}" in (tmp_path / "r.lock").read_text()

    assert _sweep("rm", row["id"][:5]).returncode == 0
    assert json.loads(_sweep("list", "--format", "json").stdout) == []


def test_an_environment_with_a_wheel_of_the_users_own_is_locked_from_the_command_line(
    wheels, cache, tmp_path
):
    wheel = _wheel(tmp_path, "numpy", "9.9.0")

    ended = _sweep("lock", "reference==9.9", "--wheel", str(wheel), "--python", PYTHON)

    assert ended.returncode == 0, ended.stderr
    assert f"numpy @ {wheel.as_uri()}" in ended.stdout


@pytest.mark.parametrize("command", ["build", "lock"])
@pytest.mark.parametrize(("wheel", "said"), [
    ("numpy-1.9.0-py3-none-any.whl", "is of version 1.9.0, and reference==9.9.0 is asked for"),
    ("torch-9.9.0-py3-none-any.whl", "is of torch, and reference is numpy"),
    ("mine.whl", "mine.whl is no name of a wheel"),
])  # fmt: skip
def test_a_wheel_of_something_else_than_is_asked_for_is_an_error(
    cache, tmp_path, command, wheel, said
):
    (tmp_path / wheel).touch()

    ended = _sweep(command, "reference==9.9.0", "--wheel", str(tmp_path / wheel))

    assert (ended.returncode, _left_in(cache)) == (2, [])
    assert said in ended.stderr


@pytest.mark.parametrize(("version", "wheel"), [
    ("2.13.0", "2.13.0+cpu"), ("2.13.0", "2.13"), ("mybuild", "2.13.0"), ("0.1.12.post2", "0.1.12.post2"),
])  # fmt: skip
def test_a_wheel_of_the_version_that_is_asked_for_is_accepted(tmp_path, version, wheel):
    path = f"https://mirror.example/torch-{wheel.replace('+', '%2B')}-cp311-cp311-linux_x86_64.whl"

    assert (
        f"torch @ {path}"
        in specify(catalog.frameworks()["torch"], version, override={"wheel": path}).requires
    )


def test_a_beginning_that_fits_several_environments_removes_none(tiny, wheels):
    _wheel(wheels, "tiny", "2.0")
    built = [prepare(specify(tiny, version)) for version in ("1.0", "2.0")]

    ended = _sweep("rm", "")

    assert ended.returncode == 2
    assert "2 environments begin with" in ended.stderr
    assert environments.environments() == sorted(built, key=lambda e: e.framework)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["build", "torch"], 2, "names no version"),
        (["build", "torhc==1.0"], 2, "did you mean 'torch'?"),
        (["build", "torch==1.0.1", "--backend", "ideep"], 2, "torch has no backend 'ideep'"),
        (
            ["build", "torch==mine", "--interpreter", "/nowhere"],
            2,
            "the interpreter of torch==mine is not there",
        ),
        (["build", "torch==mine", "--interpreter", "/etc/passwd"], 5, "is no Python that runs"),
        (
            ["build", "torch==2.13.0", "--lock", "/nowhere"],
            2,
            "the lock of torch==2.13.0 is not there",
        ),
        (
            ["lock", "torch==2.13.0", "--wheel", "/nowhere.whl"],
            2,
            "the wheel of torch==2.13.0 is not there",
        ),
        (["rm", "nothing"], 2, "there is no environment 'nothing'"),
        (["rm"], 2, "nothing is named"),
        (["list", "--format", "xml"], 2, "xml"),
    ],
)
def test_what_a_user_can_fix_is_an_error_with_a_hint(cache, arguments, code, words):
    ended = _sweep(*arguments)

    assert ended.returncode == code
    assert words in ended.stderr
    assert "error: " in ended.stderr
    assert "hint: " in ended.stderr
    assert "Traceback" not in ended.stderr


# the real frameworks

CHAINER_STEP = """
import chainer, numpy
x = chainer.Variable(numpy.ones((1, 3, 8, 8), "f"))
y = chainer.links.Convolution2D(3, 2, 3)(x)
chainer.functions.sum(y).backward()
"""
TORCH_STEP = """
import torch, numpy
x = torch.from_numpy(numpy.ones((1, 3, 8, 8), "f"))
torch.nn.Conv2d(3, 2, 3)(torch.autograd.Variable(x)).sum().backward()
"""


def _steps(requirement: str, code: str) -> None:
    name, version = requirement.split("==")
    environment = prepare(specify(catalog.frameworks()[name], version), print)
    ended = subprocess.run(
        [environment.python, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.framework
@pytest.mark.network
@pytest.mark.parametrize(
    "version",
    ["1.24.0", "7.8.1"]
    + [
        pytest.param(v, marks=pytest.mark.exhaustive)
        for v in ("1.19.0", "2.1.0", "3.5.0", "4.5.0", "5.4.0", "6.7.0")
    ],
)
def test_chainer_of_every_generation_does_a_step(version):
    _steps(f"chainer=={version}", CHAINER_STEP)


@pytest.mark.exhaustive
@pytest.mark.framework
@pytest.mark.network
@pytest.mark.parametrize("version", ["1.0.1", "2.13.0"])
def test_torch_of_a_decade_does_a_step(version):
    _steps(f"torch=={version}", TORCH_STEP)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(
    ("requirement", "companion"),
    [
        ("chainer==4.5.0", "cupy-cuda91==4.5.0"),
        ("chainer==5.4.0", "cupy-cuda92==5.4.0"),
        ("chainer==6.7.0", "cupy-cuda101==6.7.0"),
        ("chainer==7.8.1", "cupy-cuda102==7.8.0"),
        ("torch==1.13.1", "nvidia-cudnn-cu11"),
        ("torch==2.6.0", "nvidia-cudnn-cu12"),
        ("torch==2.13.0", "nvidia-cudnn-cu13"),
        ("jax==0.6.2", "jax-cuda12-plugin==0.6.2"),
    ],
)
def test_a_gpu_environment_would_hold_the_matching_cuda_packages(requirement, companion):
    name, version = requirement.split("==")

    planned = environments.plan(specify(catalog.frameworks()[name], version, "gpu"))

    assert any(package.startswith(companion) for package in planned.packages)
    assert f"{requirement}+cpu" not in planned.packages
