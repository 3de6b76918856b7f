"""Ranges of versions: what they take of a list of releases, how releases are listed, and that a run keeps them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import Sweep
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from sweep import catalog, grid
from sweep.environments import indexes, releases
from sweep.errors import SweepError, Unavailable
from sweep.grid import ranges
from sweep.records.facts import RunFacts
from sweep.records.results import Results

PYTHON = ".".join(map(str, sys.version_info[:2]))
TORCH = ["1.13.1", "2.0.0", "2.0.1", "2.1.0rc2", "2.1.0", "2.1.0.post1", "2.2.0", "2.10.0", "2.9.1"]
GRID = "name: tiny\naxes: {framework: [%s], batch_exponent: 0, seed: [0]}\n"
HEADER = f"""
# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = "tiny"
#
# [tool.sweep.recipes."<2"]
# python = ["3.6"]
#
# [tool.sweep.recipes."*"]
# python = ["{PYTHON}"]
# ///
"""


def taken(text: str, listed: Sequence[str] = TORCH) -> list[str]:
    wanted = ranges.parsed(text)
    assert wanted
    return wanted.chosen(map(Version, listed))


@pytest.mark.parametrize(("text", "versions"), [
    ("torch>=2.0,<=2.10", ["2.0.1", "2.1.0.post1", "2.2.0", "2.9.1", "2.10.0"]),
    ("torch >= 2.0 , < 2.1", ["2.0.1"]),
    ("torch>=2.0,<=2.1 every patch", ["2.0.0", "2.0.1", "2.1.0"]),
    ("torch==2.1.*", ["2.1.0.post1"]),
    ("torch~=2.9", ["2.9.1", "2.10.0"]),
    ("torch>=2.1.0rc1,<2.1.0.post1 every patch", ["2.1.0rc2", "2.1.0"]),
    ("torch!=2.0.1,<2.1 every patch", ["1.13.1", "2.0.0"]),
    ("torch>3", []),
])  # fmt: skip
def test_a_range_takes_the_newest_patch_release_of_each_minor_version_or_all(text, versions):
    assert taken(text) == versions


@pytest.mark.parametrize(
    "text", ["torch==2.0.1", "torch", "reference", "torch==mybuild", "mine", "2.0"]
)
def test_an_exact_version_is_no_range(text):
    assert ranges.parsed(text) is None


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3).map(lambda v: ".".join(map(str, v))), max_size=30)
)
def test_of_each_minor_version_there_is_one_and_every_patch_takes_all(listed):
    by_minor, all_of_them = taken("a>=0", listed), taken("a>=0 every patch", listed)

    assert all_of_them == list(map(str, sorted({*map(Version, listed)})))
    assert len({Version(v).release[:2] for v in by_minor}) == len(by_minor)
    assert set(by_minor) <= set(all_of_them)


def test_what_cannot_be_used_makes_room_for_an_earlier_patch_release_and_few_are_asked_about():
    asked = []

    def is_usable(version: Version) -> bool:
        asked.append(str(version))
        return str(version) != "2.0.1"

    wanted = ranges.parsed("torch>=2.0,<2.2")
    assert wanted.chosen(map(Version, TORCH), is_usable) == ["2.0.0", "2.1.0.post1"]
    assert asked == ["2.1.0.post1", "2.0.1", "2.0.0"]


@pytest.mark.parametrize("spelled", [
    "framework: ['torch>=2.0,<2.2']", "framework: 'torch >= 2, < 2.2'",
    "framework: {range: 'torch>=2.0,<2.2'}", "framework: [{range: 'torch>=2.0,<2.2', every: minor}]",
])  # fmt: skip
def test_a_grid_with_a_range_is_the_grid_with_its_versions(spelled):
    written = grid.parse(f"axes: {{{spelled}, seed: [0]}}\n")
    text = str(written.ranges()[0][1])
    exact = grid.parse("axes: {framework: [torch==2.0.1, torch==2.1.2], seed: [0]}\n")

    found = written.with_versions({text: ["2.0.1", "2.1.2"]})

    ids = [[trial.id for trial in grid.expand(each, catalog.frameworks(), catalog.workloads()).trials]
           for each in (found, exact)]  # fmt: skip
    assert ids[0] == ids[1]


def test_an_include_may_hold_a_range_and_a_zip_counts_the_versions():
    text = """
axes: {framework: ["torch>=2,<2.2"], threads: [1, 2], seed: [0]}
zip: [[framework, threads]]
include: [{framework: "chainer>=7 every patch", threads: [3, 4]}]
"""
    versions = {"torch>=2,<2.2": ["2.0.1", "2.1.2"], "chainer>=7 every patch": ["7.8.0", "7.8.1"]}
    found = grid.expand(
        grid.parse(text, versions=versions), catalog.frameworks(), catalog.workloads()
    )

    assert [(cell.axes["framework"], cell.axes["threads"]) for cell in found.cells] == [
        ("torch==2.0.1", 1), ("torch==2.1.2", 2), ("chainer==7.8.0", 3), ("chainer==7.8.1", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("spelled", [
    "torch>=2.0,<=2.13,!=2.4.0,>2,reference", "'torch>=2.0,<=2.13,!=2.4.0,>2',reference",
    '["torch>=2.0,<=2.13,!=2.4.0,>2", reference]', "torch>=2.0, <=2.13, !=2.4.0, >2, reference",
])  # fmt: skip
def test_on_the_command_line_bounds_go_on_after_a_comma(spelled):
    found = grid.parse(GRID % "reference", [f"framework={spelled}"])
    assert list(found.file.axes["framework"]) == ["torch>=2.0,<=2.13,!=2.4.0,>2", "reference"]


@pytest.mark.parametrize(("value", "message"), [
    ("'torch>=two'", "'torch>=two' is no range of versions: '>=two' is no bound"),
    ("'torch>=2,<='", "is no range of versions: '<=' is no bound"),
    ("'torch>=2 every week'", "takes every week"),
    ("{range: 'torch>=2', every: week}", "takes every week"),
    ("{range: 'torch>=2', step: 2}", "a range of versions has no key 'step'"),
    ("{range: torch}", "'torch' is no range of versions"),
])  # fmt: skip
def test_a_range_that_is_none_is_told_with_its_line_and_a_hint(value, message):
    with pytest.raises(SweepError, match=r"^the grid, line 2: axes\.framework") as raised:
        grid.parse(f"axes:\n  framework: [{value}]\n").ranges()

    assert message in raised.value.message
    assert "torch>=2.0,<=2.13" in raised.value.hint


# lists of releases


def wheel(folder: Path, version: str, tag: str = "py3-none-any") -> Path:
    path = folder / f"tiny-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "")
    return path


@contextlib.contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Json(Quiet):
    """An index that speaks PEP 691, and shows what it was asked."""

    files: Sequence[dict[str, object]] = ()
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        body = json.dumps({"name": "tiny", "files": self.files}).encode()
        self.send_response(200 if self.path == "/simple/tiny/" else 404)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without any configuration of pip or uv, to be configured by variables."""
    for key in [k for k in os.environ if k.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return monkeypatch


def listed() -> releases.Releases:
    return releases.releases("tiny", indexes.configured())


def test_a_flat_folder_of_wheels_is_a_list(machine, tmp_path):
    folder = tmp_path / "wheels of mine"
    folder.mkdir()
    for version in ("1.0", "2.0+cpu"):
        wheel(folder, version)
    (folder / "tiny-1.5.tar.gz").touch()
    (folder / "tinier-3.0.tar.gz").touch()
    (folder / "README").touch()
    machine.setenv("PIP_NO_INDEX", "1")
    machine.setenv("PIP_FIND_LINKS", folder.as_uri())

    assert list(map(str, listed().versions)) == ["1.0", "1.5", "2.0"]


@pytest.mark.parametrize("is_served", [False, True], ids=["folder", "server"])
def test_an_index_of_pages_is_a_list_less_what_is_yanked(machine, tmp_path, is_served):
    page = tmp_path / "simple" / "tiny" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        '<a href="../f/tiny-1.0-py3-none-any.whl#sha256=0">tiny</a>'
        '<a href="../f/tiny-2.0-py3-none-any.whl" data-yanked="broken">tiny</a>'
        '<a href="../f/tiny-3.0%2Bcpu-py3-none-any.whl" data-requires-python="&gt;=3.99">tiny</a>'
    )
    with served(partial(Quiet, directory=str(tmp_path))) as url:
        machine.setenv(
            "UV_DEFAULT_INDEX", f"{url}/simple" if is_served else (tmp_path / "simple").as_uri()
        )
        found = listed()

    assert list(map(str, found.versions)) == ["1.0", "3.0"]
    assert found.suits(Version("1.0"), ["3.6"])
    assert not found.suits(Version("3.0"), ["3.6", PYTHON])


def test_an_index_that_speaks_json_is_a_list_and_gets_the_credentials_of_its_url(machine):
    files = [
        {"filename": "tiny-1.0.tar.gz", "yanked": False, "requires-python": None},
        {"filename": "tiny-2.0.tar.gz", "yanked": "it is broken"},
        {"filename": "tiny-3.0.tar.gz", "requires-python": ">=3.8"},
    ]
    handler = type("Handler", (Json,), {"files": files, "asked": []})
    with served(handler) as url:
        machine.setenv("UV_DEFAULT_INDEX", f"{url.replace('http://', 'http://me:secret@')}/simple")
        found = listed()

    assert list(map(str, found.versions)) == ["1.0", "3.0"]
    assert handler.asked == [("/simple/tiny/", "Basic bWU6c2VjcmV0")]


def test_of_a_place_that_does_not_answer_the_reader_is_told_without_its_password(machine, tmp_path):
    wheel(tmp_path, "1.0")
    machine.setenv("UV_FIND_LINKS", str(tmp_path))
    machine.setenv("UV_DEFAULT_INDEX", "http://me:secret-word@127.0.0.1:9/simple")

    (unanswered,) = listed().unanswered

    assert unanswered.startswith("http://***@127.0.0.1:9/simple: ")
    assert "refused" in unanswered
    assert "secret-word" not in unanswered


@pytest.mark.parametrize(("variables", "told"), [
    ({"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}, "no version of tiny is listed anywhere; http://127.0.0.1:9"),
    ({"UV_OFFLINE": "1"}, "not asked, since UV_OFFLINE is set"),
    ({"PIP_NO_INDEX": "1"}, "no version of tiny is listed anywhere"),
    ({"UV_DEFAULT_INDEX": "http://elsewhere.example/simple"}, "could be changed by anyone on the way here"),
])  # fmt: skip
def test_where_nothing_is_listed_the_error_says_why_with_a_hint(machine, variables, told):
    for name, value in variables.items():
        machine.setenv(name, value)

    with pytest.raises(Unavailable, match=told) as raised:
        listed()

    assert raised.value.hint


def test_a_source_distribution_of_what_is_installed_from_wheels_alone_is_no_release(
    machine, tmp_path
):
    (tmp_path / "numpy-1.0.tar.gz").touch()
    machine.setenv("PIP_NO_INDEX", "1")
    machine.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(Unavailable):
        releases.releases("numpy", indexes.configured())


# through the command line


@pytest.fixture
def tiny(machine: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A framework `tiny` of a plug-in, and the folder of its wheels; those below 2 are for a Python 3.6 alone."""
    site, wheels = tmp_path / "site", tmp_path / "wheels"
    information = site / "tiny_plugin-1.0.dist-info"
    information.mkdir(parents=True)
    wheels.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text("[sweep.frameworks]\ntiny = tiny_framework\n")
    (site / "tiny_framework.py").write_text(HEADER)
    machine.syspath_prepend(str(site))
    machine.setenv("PIP_NO_INDEX", "1")
    machine.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def frameworks_of(out: str) -> set[str]:
    return {line.split(",")[3].partition("/")[0] for line in out.splitlines()[1:]}


def test_plan_shows_the_versions_that_can_be_installed_on_the_pythons_of_their_recipe(
    sweep: Sweep, tiny, tmp_path
):
    wheel(tiny, "1.0", "cp36-cp36m-manylinux1_x86_64")
    wheel(tiny, "1.1", "cp37-cp37m-manylinux1_x86_64")  # its recipe names 3.6 alone
    wheel(tiny, "2.0")
    wheel(tiny, "2.1", "cp36-cp36m-manylinux1_x86_64")  # and this one's another
    Path("tiny.yaml").write_text(GRID % "'tiny>=1'")

    said = sweep("plan", "tiny.yaml", "--format", "csv")

    assert said.code == 0, said.err
    assert frameworks_of(said.out) == {"tiny==1.0.0", "tiny==2.0.0"}
    assert "tiny>=1 is 2 versions: 1.0.0, 2.0.0\n" in said.err


def test_a_python_of_the_grid_counts_instead_of_the_recipes(sweep: Sweep, tiny):
    wheel(tiny, "1.1", "cp37-cp37m-manylinux1_x86_64")
    Path("tiny.yaml").write_text(
        GRID % "'tiny>=1'" + "environments: {tiny==1.1: {python: '3.7'}}\n"
    )

    assert frameworks_of(sweep("plan", "tiny.yaml", "--format", "csv").out) == {"tiny==1.1.0"}


def test_a_run_keeps_its_versions_whatever_is_released_later_and_without_an_index(
    sweep: Sweep, tiny, machine
):
    wheel(tiny, "2.0")
    Path("tiny.yaml").write_text(GRID % "'tiny>=1'")
    text = Path("tiny.yaml").read_text()
    with Results("results/tiny").open(RunFacts("tiny", text, versions={"tiny>=1": ["2.0.0"]})):
        pass
    wheel(tiny, "3.0")
    Path("other.yaml").write_text(text.replace("name: tiny", "name: other"))
    other = sweep("plan", "other.yaml", "--format", "csv")
    machine.setenv("PIP_FIND_LINKS", "/nowhere")

    said = sweep("plan", "tiny.yaml", "--format", "csv")

    assert frameworks_of(said.out) == {"tiny==2.0.0"}
    assert "tiny>=1 is 1 version, as tiny has taken them since it began: 2.0.0" in said.err
    assert frameworks_of(other.out) == {"tiny==2.0.0", "tiny==3.0.0"}


@pytest.mark.parametrize(("value", "code", "told"), [
    ("tiny>=9", 2, "line 2: axes.framework: there is no release in tiny>=9\nhint: releases go from 1.1 to 2.0"),
    ("tiny<2", 2, "no release in tiny<2 can be installed here: 1.1.0 has no file for Python 3.6\nhint: python:"),
    ("tinyy>=1", 2, "there is no framework 'tinyy'\nhint: did you mean 'tiny'?"),
])  # fmt: skip
def test_a_range_that_takes_nothing_is_an_error_with_a_hint(sweep: Sweep, tiny, value, code, told):
    wheel(tiny, "1.1", "cp37-cp37m-manylinux1_x86_64")
    wheel(tiny, "2.0")
    Path("tiny.yaml").write_text(GRID % f"'{value}'")

    said = sweep("plan", "tiny.yaml")

    assert said.code == code
    assert told in said.err


def test_without_any_list_the_command_ends_as_unavailable(sweep: Sweep, tiny):
    Path("tiny.yaml").write_text(GRID % "'tiny>=1'")

    said = sweep("plan", "tiny.yaml")

    assert said.code == 5
    assert "error: no version of tiny is listed anywhere" in said.err
    assert "hint: sweep doctor" in said.err
