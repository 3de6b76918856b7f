"""Frameworks, workloads and data sets from packages of one's own, as docs/plugins.md tells it."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import uv
from commands import Sweep

from sweep import datasets
from sweep.doctor import findings
from sweep.node import hosts, snapshot
from workloads.runtime import protocol

HOUSE = Path(__file__).resolve().parent.parent
Install = Callable[[str, bytes | None], None]
EXAMPLE = HOUSE / "docs" / "examples" / "plugin"

FRAMEWORK = """
import os
IMPORTED_IN = os.getpid()
PROCESS = {process!r}
"""
WORKLOAD = """
import os
PARAMETERS = {}
def run(framework, settings, data, reference, report):
    return {"forked": framework.IMPORTED_IN != os.getpid()}
"""


@pytest.mark.parametrize(("declared", "asked", "forked"), [
    ("fork", "fork", True), ("fork", "spawn", False), ("spawn", "fork", False), ("spawn", "spawn",
    False),
])  # fmt: skip
def test_a_framework_that_cannot_be_forked_gets_an_interpreter_for_every_trial(
    tmp_path: Path, declared: str, asked: str, forked: bool
) -> None:
    framework, workload = tmp_path / "framework.py", tmp_path / "workload.py"
    framework.write_text(FRAMEWORK.format(process=declared))
    workload.write_text(WORKLOAD)
    key = hosts.Key(sys.executable, True, str(framework), tuple(sorted(hosts.variables(1).items())))
    request = protocol.Request("trial", protocol.RUN, str(workload), {"process": asked}, cores=[])

    outcome = hosts.run(key, request, 60)

    assert outcome.columns["forked"] is forked


BROKEN = {
    "syntax": b"def (",
    "null bytes": b"PARAMETERS = {}\0",
    "not UTF-8": b"PARAMETERS = {}  # \xff",
    "empty": b"",
    "no literal": b"PARAMETERS = made()\nimport nothing_of_the_kind\n",
    "gone": None,
}
MINE = """
name: mine
axes: {framework: [reference], batch_exponent: [0], seed: [0]}
"""
USES = {
    "sweep.frameworks": MINE.replace("reference", "broken"),
    "sweep.workloads": f"workload: broken{MINE}",
    "sweep.networks": f"{MINE}parameters: {{network: broken}}",
    "sweep.datasets": f"{MINE}parameters: {{data: broken}}",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package whose entry point, called `broken`, names a file with this text."""

    def install(group: str, text: bytes | None) -> None:
        site = tmp_path / "site"
        information = site / "broken_package-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: broken-package\nVersion: 1.0\n"
        )
        (information / "entry_points.txt").write_text(f"[{group}]\nbroken = broken_file\n")
        if text is not None:
            (site / "broken_file.py").write_bytes(text)
        monkeypatch.delitem(sys.modules, "broken_file", raising=False)
        monkeypatch.syspath_prepend(str(site))

    return install


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("group", USES)
def test_a_broken_plug_in_stops_what_uses_it_and_nothing_else(
    sweep: Sweep, plugin: Install, tmp_path: Path, group: str, text: bytes | None
) -> None:
    plugin(group, text)
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "uses.yaml").write_text(USES[group])

    mine, uses = sweep("plan", "mine.yaml"), sweep("plan", "uses.yaml")

    assert mine.code == 0, mine.err
    assert mine.err.count("broken cannot be used, and this grid does not: ") == 1
    assert uses.code == 2
    assert "error: broken cannot be used: " in uses.err
    assert "hint: " in uses.err
    assert "Traceback" not in mine.err + uses.err


def test_the_doctor_names_a_plug_in_that_is_broken(plugin: Install, tmp_path: Path) -> None:
    plugin("sweep.workloads", BROKEN["syntax"])
    taken = snapshot.take(tmp_path, look_s=0.1)

    (finding,) = [each for each in findings(taken) if each.subject == "plug-ins"]

    assert finding.grade == "warning"
    assert finding.found.startswith("broken cannot be used: ")


def test_no_bytecode_is_left_beside_the_files_of_a_plug_in(tmp_path: Path) -> None:
    framework, workload = tmp_path / "framework.py", tmp_path / "workload.py"
    framework.write_text(FRAMEWORK.format(process="fork"))
    workload.write_text(WORKLOAD)
    key = hosts.Key(sys.executable, True, str(framework), tuple(sorted(hosts.variables(1).items())))
    for process in ("fork", "spawn"):
        request = protocol.Request(
            "trial", protocol.RUN, str(workload), {"process": process}, cores=[]
        )
        assert hosts.run(key, request, 60).verdict(None) == ("ok", "")

    assert sorted(tmp_path.rglob("*")) == [framework, workload]


DATA_SET = b"""
from dataclasses import replace
from sweep.datasets.synthetic import DATASET as SYNTHETIC

def read(**options):
    import broken_helper
    return SYNTHETIC.read(**options)

DATASET = replace(SYNTHETIC, name="broken", read=read)
"""


def test_no_bytecode_is_left_beside_the_modules_of_a_data_set(
    plugin: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    plugin("sweep.datasets", DATA_SET)
    (tmp_path / "site/broken_helper.py").write_text("HELPED = True\n")

    assert datasets.prepare("broken", examples=2).examples == 2

    assert "broken_helper" in sys.modules
    assert not list((tmp_path / "site").rglob("*.pyc"))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("layout", ["flat", "src", "elsewhere", "namespace", "module"])
def test_a_package_that_is_installed_in_place_is_found_and_left_as_it_is(
    tmp_path: Path, layout: str, python: Path
) -> None:
    """By a path file, or by a finder of its own, as setuptools chooses."""
    folder, module, tool = IN_PLACE[layout]
    place = tmp_path / "source" / folder
    place.mkdir(parents=True)
    (place / "placed.py").write_text(WORKLOAD)
    if layout not in ("namespace", "module"):
        (place / "__init__.py").touch()
    points = f'[project.entry-points."sweep.workloads"]\nplaced = "{module}"\n'
    (tmp_path / "source/pyproject.toml").write_text(
        f'[project]\nname = "in-place-{layout}"\nversion = "1.0"\n{points}{tool}'
    )
    installing = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        python,
        "-e",
    ]
    subprocess.run([*installing, tmp_path / "source"], check=True)
    built = set((tmp_path / "source").rglob("*"))
    (tmp_path / "grid.yaml").write_text(f"workload: placed{MINE}")
    try:
        command = [python, "-m", "sweep", "plan", tmp_path / "grid.yaml"]
        planned = subprocess.run(
            command, cwd=tmp_path, env=WITH_SWEEP, capture_output=True, text=True
        )
    finally:
        removing = [
            uv.find_uv_bin(),
            "pip",
            "uninstall",
            "--quiet",
            "--python",
            python,
            f"in-place-{layout}",
        ]
        subprocess.run(removing, check=True)
    assert planned.returncode == 0, planned.stderr
    assert "cannot be used" not in planned.stderr
    assert set((tmp_path / "source").rglob("*")) == built


IN_PLACE = {
    "flat": ("in_place", "in_place.placed", ""),
    "src": ("src/in_place", "in_place.placed", ""),
    "elsewhere": (
        "code/here",
        "in_place.inner.placed",
        '[tool.setuptools]\npackages = ["in_place.inner"]\npackage-dir = {"in_place.inner" = "code/here"}\n',
    ),
    "namespace": (
        "code/space/inner",
        "space.inner.placed",
        '[tool.setuptools]\npackages = ["space.inner"]\npackage-dir = {"space" = "code/space"}\n',
    ),
    "module": (
        "code",
        "placed",
        '[tool.setuptools]\npy-modules = ["placed"]\npackage-dir = {"" = "code"}\n',
    ),
}
WITH_SWEEP = os.environ | {"PYTHONPATH": str(HOUSE)}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with the example installed, which borrows everything else from ours."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")  # building leaves things where it builds
    made = folder / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, made], check=True)
    python = made / "bin" / "python"
    subprocess.run(
        [tool, "pip", "install", "--quiet", "--python", python, "--no-deps", source], check=True
    )
    borrowed = [path for path in site.getsitepackages() if path != sysconfig.get_path("stdlib")]
    (here,) = made.glob("lib/python*/site-packages")
    (here / "borrowed.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in borrowed)
    )
    return python


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.network
def test_what_a_package_adds_runs_as_what_is_in_the_tree(python: Path, tmp_path: Path) -> None:
    command = [
        python,
        "-m",
        "sweep",
        "run",
        EXAMPLE / "grid.yaml",
        "--out",
        tmp_path,
        "--max-contention",
        "any",
    ]
    ended = subprocess.run(
        command, cwd=HOUSE, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-3000:]

    records = pq.read_table(tmp_path / "plugin" / "records").to_pylist()

    assert {(r["framework"], r["workload"], r["status"]) for r in records} == {
        (framework, workload, "ok")
        for framework in ("autograd", "reference")
        for workload in ("core", "accumulate")
    }
    theirs = [r for r in records if r["framework"] == "autograd"]
    assert all(max(r["loss_check"], r["grad_check"]) < 1e-4 for r in theirs)
    assert {json.loads(r["settings"])["network"] for r in records} == {"lenet"}
    assert {r["parameter_count"] for r in records} == {63_536}
    assert {r["parts"] for r in theirs if r["workload"] == "accumulate"} == {2}
    assert all(json.loads(r["settings"])["data"] == "discs" and r["data_id"] for r in records)
