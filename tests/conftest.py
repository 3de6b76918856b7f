"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Said, Sweep

from sweep import cli

# Children inherit what is ignored. A shell ignores SIGINT for what it starts in the background, and
# nohup SIGHUP.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture
def sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sweep:
    """The command line, called in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def s3_query(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on loopback that has a bucket `lab`, as the query of URIs there."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        "127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    urllib.request.urlopen(
        urllib.request.Request(f"http://{host}:{port}/lab", method="PUT")
    ).close()
    yield f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.fixture
def bucket(s3_query: str, request: pytest.FixtureRequest) -> str:
    """A URI of a prefix of the test's own on an S3 server."""
    return f"s3://lab/{request.node.name}/core?{s3_query}"
