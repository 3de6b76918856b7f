"""Terminals, pipes and paths of every kind: telling is not part of the work, and a path is what was meant."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Sweep
from made_up import keep, record
from tiny import HOUSE

COMMAND = f'exec "{sys.executable}" -m sweep'


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command line run by a shell in a folder, as a user types it."""
    environment = os.environ | {"PYTHONPATH": str(HOUSE), "COLUMNS": "120"} | variables
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=250,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one cell of three trials."""
    keep(tmp_path / "results/run", [record(seed=seed) for seed in range(3)])
    return tmp_path


@pytest.mark.parametrize(
    "streams",
    ["2>&-", "2>&1 | head -1", ">/dev/full 2>/dev/full", "<&- >&-"],
)
@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_runs_to_its_end_whoever_listens(streams: str, tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text(
        "name: smoke\naxes: {framework: [reference], batch_exponent: 0, seed: [0, 1, 2]}\n"
        "parameters: {samples: 1, warmup: 0, data: synthetic}\nresources: {exclusive: false}\n"
    )
    ended = shell(f"set -o pipefail; ( {COMMAND} run smoke.yaml ) {streams}", tmp_path)
    assert ended.returncode == 0, ended.stderr
    status = shell(f"{COMMAND} status smoke", tmp_path)
    assert status.returncode == 0
    assert b"3 of 3 planned trials have a record: 3 ok" in status.stdout


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_data_is_written_whatever_becomes_of_messages(streams: str, run: Path) -> None:
    ended = shell(f"{COMMAND} summarize run {streams}", run)
    assert ended.returncode == 0
    assert b"variance" in ended.stdout


def test_data_that_cannot_be_written_is_an_error(run: Path) -> None:
    ended = shell(f"{COMMAND} summarize run >/dev/full", run)
    assert ended.returncode == 5
    assert b"error: the output cannot be written: No space left on device" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_no_file_takes_the_number_of_a_stream_that_is_closed(run: Path) -> None:
    """A closed stderr is number 2: the report, opened next, would be it."""
    ended = shell(f"{COMMAND} report run -o page.html 2>&- >&-", run)
    assert ended.returncode == 0
    page = (run / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("encoding", "form"),
    [("iso-8859-1", "table"), ("ascii", "table"), ("ascii", "md"), ("cp1252", "csv")],
)
def test_signs_that_an_encoding_lacks_are_written_in_others(
    encoding: str, form: str, run: Path
) -> None:
    ended = shell(f"{COMMAND} summarize run --format {form}", run, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0, ended.stderr
    text = ended.stdout.decode(encoding)
    assert "interval" in text or "high" in text
    assert "\\u25" not in text  # the rule of a table


def watched(command: str, folder: Path, **variables: str) -> bytes:
    """What a command writes on a terminal."""
    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(HOUSE)} | variables
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=slave, stderr=slave
    ) as child:
        os.close(slave)
        told = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the last writer has closed the terminal
                break
            if not piece:
                break
            told += piece
        child.wait()
    os.close(master)
    return told


SHOW = (
    "from sweep.cli.display import display\n"
    "with display('grid') as shown:\n"
    "    shown.planned(2, 1, 5.0)\n"
    "    shown.planned(2, 2, 0.0)\n"
)


@pytest.mark.parametrize(
    ("variables", "redraws"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_that_cannot_redraw_gets_lines(
    variables: dict[str, str], redraws: bool, tmp_path: Path
) -> None:
    told = watched(f'{sys.executable} -c "{SHOW}"', tmp_path, **variables)
    assert (b"\x1b[" in told) == redraws
    assert b"2/2 trials" in told


def test_forced_colours_in_a_log_bring_no_cursor_codes(tmp_path: Path) -> None:
    ended = shell(f'"{sys.executable}" -c "{SHOW}"', tmp_path, FORCE_COLOR="1")
    assert ended.stderr.splitlines() == ["grid: 1/2 trials · ETA 5 s".encode(), b"grid: 2/2 trials"]


def test_home_is_meant_by_a_tilde_that_no_shell_expands(
    sweep: Sweep, tmp_path: Path, monkeypatch
) -> None:
    home = tmp_path / "home"
    keep(home / "results/run", [record(seed=seed) for seed in range(3)])
    (home / "grid.yaml").write_text(
        "name: run\naxes: {framework: [reference], batch_exponent: 0}\n"
    )
    monkeypatch.setenv("HOME", str(home))
    assert sweep("plan", "~/grid.yaml", "--out=~/results").code == 0
    assert sweep("status", "~/results/run").code == 0
    assert sweep("report", "~/results/run", "--output=~/page.html").code == 0
    assert (home / "page.html").exists()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "grid.yaml", "--out", ""],
        ["plan", ""],
        ["status", ""],
        ["report", "run", "-o", ""],
        ["plan", "~nobody-of-this-name/grid.yaml"],
        ["status", "~nobody-of-this-name/run"],
    ],
)
def test_a_path_that_is_none_is_refused(arguments: list[str], sweep: Sweep) -> None:
    Path("grid.yaml").write_text("name: run\naxes: {framework: [reference], batch_exponent: 0}\n")
    told = sweep(*arguments)
    assert told.code == 2
    assert "error: " in told.err
    assert "empty" in told.err or "no such home folder" in told.err
