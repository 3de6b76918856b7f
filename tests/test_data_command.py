"""`sweep data`: what a person types and reads, and downloads from a real server that fails in every way it can."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from sweep.datasets import fetch
from sweep.datasets.dataset import Archive
from sweep.errors import SweepError, Unavailable


def an_archive(examples: int = 3) -> bytes:
    """A small LSPET archive."""
    random = np.random.RandomState(0)
    joints = np.ones((14, 3, examples))
    joints[:, :2] = 60 + random.random_sample((14, 2, examples)) * 100
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        mat = io.BytesIO()
        scipy.io.savemat(mat, {"joints": joints})
        archive.writestr("joints.mat", mat.getvalue())
        for i in range(1, examples + 1):
            image = io.BytesIO()
            Image.fromarray(random.randint(0, 256, (256, 256, 3)).astype(np.uint8)).save(
                image, "JPEG"
            )
            archive.writestr(f"images/im{i:05d}.jpg", image.getvalue())
    return content.getvalue()


CONTENT = an_archive()


class Server:
    """A web server with one file, and what it was asked for; `behave` says how the next answers go wrong."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.ranges = True
        self.break_off_after: list[
            int
        ] = []  # bytes of each answer to come, before the connection is dropped
        self.statuses: list[int] = []  # of each answer to come
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/lspet_dataset.zip"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.asked.append(wanted)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            request.send_error(status)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.ranges else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.break_off_after.pop(0) if self.break_off_after else None])
        request.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def archive(server: Server) -> Archive:
    return Archive("lspet_dataset.zip", (server.url,), members=("joints.mat", "im00001.jpg"))


def quiet(url: str, done: int, of: int | None) -> None:
    pass


# downloads


def test_a_whole_archive_is_fetched_with_progress(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    path = fetch.fetch(archive, tmp_path, lambda *said: seen.append(said))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (server.url, len(CONTENT), len(CONTENT))
    assert not list(tmp_path.glob("*.part"))


def test_a_fetched_archive_is_not_fetched_again(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    assert fetch.fetch(archive, tmp_path, quiet) == fetch.fetch(archive, tmp_path, quiet)
    assert len(server.asked) == 1


def test_a_transfer_that_breaks_off_goes_on_where_it_was(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    server.break_off_after = [5000, 7000]
    assert fetch.fetch(archive, tmp_path, quiet).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=5000-", "bytes=12000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    server.break_off_after = [4000, 1000, 1000]
    with pytest.raises(Unavailable, match=f"ended after 6,000 of {len(CONTENT):,} bytes"):
        fetch.fetch(archive, tmp_path, quiet)
    assert not (tmp_path / archive.file).exists()
    assert fetch.fetch(archive, tmp_path, quiet).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=6000-"


def test_a_server_without_ranges_starts_over(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    server.ranges = False
    server.break_off_after = [5000]
    assert fetch.fetch(archive, tmp_path, quiet).read_bytes() == CONTENT


def test_a_part_longer_than_the_archive_is_thrown_away(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    server.break_off_after = [5000, 0, 0]
    with pytest.raises(Unavailable):
        fetch.fetch(archive, tmp_path, quiet)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(bytes(len(CONTENT) + 10))
    assert fetch.fetch(archive, tmp_path, quiet).read_bytes() == CONTENT


def test_a_mirror_that_is_down_is_tried_again_and_then_left(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    server.statuses = [503, 200]
    assert fetch.fetch(archive, tmp_path, quiet).is_file()
    dead = "http://127.0.0.1:9/lspet_dataset.zip"
    assert fetch.fetch(archive, tmp_path / "b", quiet, mirrors=(dead, server.url)).is_file()


def test_the_wrong_hash_is_refused_and_nothing_is_left(
    archive: Archive, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"its SHA-256 is [0-9a-f]{64} and not 0000"):
        fetch.fetch(archive, tmp_path, quiet, sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    assert fetch.fetch(
        archive, tmp_path, quiet, sha256=hashlib.sha256(CONTENT).hexdigest().upper()
    ).is_file()
    with pytest.raises(SweepError, match="was fetched before, but its SHA-256"):
        fetch.fetch(archive, tmp_path, quiet, sha256="0" * 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda server: setattr(server, "content", b"<html>this page has moved</html>"),
            "no zip archive",
        ),
        (lambda server: setattr(server, "content", _zip_of("other.txt")), "it holds no joints.mat"),
        (lambda server: setattr(server, "statuses", [404]), "HTTP 404 Not Found"),
        (lambda server: setattr(server, "statuses", [500] * 3), "HTTP 500"),
    ],
)
def test_a_mirror_that_gives_something_else_is_named(
    change: Callable[[Server], None], said: str, archive: Archive, server: Server, tmp_path: Path
) -> None:
    change(server)
    with pytest.raises(Unavailable) as caught:
        fetch.fetch(archive, tmp_path, quiet)
    assert said in caught.value.message
    assert server.url in caught.value.message
    assert not (tmp_path / archive.file).exists()


def _zip_of(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    return content.getvalue()


def test_an_address_that_is_none_is_an_error(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="file:///etc/passwd is no web address"):
        fetch.fetch(archive, tmp_path, quiet, mirrors=("file:///etc/passwd",))


# the command


class Sweep:
    """Runs `sweep data …` as a person does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {
            key: value
            for key, value in os.environ.items()
            if not re.fullmatch(r"SWEEP_\w+_DIR", key)
        }
        self.environment = kept | {"SWEEP_DATA_DIR": str(folder / "cache"), "COLUMNS": "150"}

    def __call__(
        self, *arguments: str, code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "sweep", "data", *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_fetch_prepare_list_and_show_are_one_way(
    sweep: Sweep, server: Server, tmp_path: Path
) -> None:
    fetched = Path(sweep("fetch", "lspet", "--url", server.url).stdout.strip())
    assert fetched.read_bytes() == CONTENT
    prepared = sweep("prepare", "lspet")
    folder = Path(prepared.stdout.strip())
    assert (folder / "images.npy").is_file()
    assert "3 examples to train on, 0 to test on" in prepared.stderr
    listed = sweep("list").stdout
    assert re.search(rf"lspet +{folder.name} +3 +3 +0", listed)
    assert re.search(r"synthetic +when needed", listed)
    rows = {row["data_set"]: row for row in json.loads(sweep("list", "--format", "json").stdout)}
    assert (rows["lspet"]["prepared"], rows["lspet"]["examples"]) == (folder.name, 3)
    assert rows["lspet"]["bytes"] > 0
    assert (rows["synthetic"]["prepared"], rows["synthetic"]["generated"]) == (None, True)
    for form in ("csv", "md", "latex"):
        assert "synthetic" in sweep("list", "--format", form).stdout
    sweep("show", "lspet", "-o", "sheet of it.png", "--columns", "2")
    with Image.open(tmp_path / "sheet of it.png") as sheet:
        assert sheet.width == 8 + 2 * 264


def test_fetching_what_no_mirror_has_says_what_to_do_by_hand(sweep: Sweep, server: Server) -> None:
    server.statuses = [404]
    said = sweep("fetch", "lsp", "--url", server.url, code=5).stderr
    assert "error: no mirror has lsp_dataset.zip" in said
    assert f"{server.url}: HTTP 404" in said
    assert "sweep data prepare lsp --path lsp_dataset.zip" in said
    assert "sam.johnson.io/research/lsp.html" in said


def test_fetching_what_has_no_archive_says_where_it_is(sweep: Sweep) -> None:
    assert "human-pose.mpi-inf.mpg.de" in sweep("fetch", "mpii", code=2).stderr
    assert "sweep data prepare synthetic" in sweep("fetch", "synthetic", code=2).stderr


def test_dropped_examples_are_said(sweep: Sweep, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        archive.extractall(tmp_path / "lspet")
    joints = scipy.io.loadmat(tmp_path / "lspet" / "joints.mat")["joints"]
    joints[0, 0, 1] = 900
    scipy.io.savemat(tmp_path / "lspet" / "joints.mat", {"joints": joints})
    assert (
        "dropped 1: visible joints extend over 227 pixels or more"
        in sweep("prepare", "lspet", "--path", "lspet", code=1).stderr
    )
    assert "2 examples" in sweep("prepare", "lspet", code=1, SWEEP_LSPET_DIR="lspet").stderr


def test_synthetic_options_are_taken_and_checked(sweep: Sweep) -> None:
    assert (
        "4 examples to train on, 1 to test on"
        in sweep("prepare", "synthetic", "--set", "examples=5").stderr
    )
    assert (
        "did you mean 'examples'?"
        in sweep("prepare", "synthetic", "--set", "example=5", code=2).stderr
    )
    assert (
        "--set examples=many does not fit"
        in sweep("prepare", "synthetic", "--set", "examples=many", code=2).stderr
    )
    assert (
        "--set examples has no value"
        in sweep("prepare", "synthetic", "--set", "examples", code=2).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "synthetc"], "there is no data set 'synthetc'"),
        (["show", "lsp"], "data set lsp is not prepared on this machine"),
        (["prepare", "lsp", "--path", "no such folder"], "no such folder does not exist"),
        (
            ["show", "synthetic", "--set", "examples=2", "--split", "half"],
            "--split half is none of",
        ),
        (["show", "synthetic", "--set", "examples=2", "--split", "test"], "has no test examples"),
        (
            ["show", "synthetic", "--set", "examples=2", "-o", "none/sheet.png"],
            "sheet.png cannot be written",
        ),
        (
            ["show", "synthetic", "--set", "examples=2", "-o", "sheet.xyz"],
            "sheet.xyz cannot be written",
        ),
    ],
)
def test_a_mistake_is_one_error_with_a_hint(arguments: list[str], said: str, sweep: Sweep) -> None:
    stderr = sweep(*arguments, code=2).stderr
    assert f"error: {said}" in stderr or said in stderr.splitlines()[0]
    assert "hint: " in stderr


def test_help_teaches_with_an_example(sweep: Sweep) -> None:
    for command in ("list", "fetch", "prepare", "show"):
        assert re.search(r"Examples?:", sweep(command, "--help").stdout)
