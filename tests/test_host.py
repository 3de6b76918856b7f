"""The host itself, talked to over its pipes as the orchestrator does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugged import PLUGINS, SETTINGS, alive, there
from test_process import eventually

from workloads.runtime import protocol

MAIN = Path(__file__).resolve().parent.parent / "workloads" / "__main__.py"
TROUBLES = PLUGINS / "troubles"
CORE = max(os.sched_getaffinity(0))


class Host:
    """A host that this test has started."""

    def __init__(
        self,
        folder: Path,
        framework: str = "plain",
        idle_s: float = 60,
        launcher: Sequence[str] = (),
    ) -> None:
        file = str(TROUBLES / f"{framework}.py")
        command = [
            *launcher,
            sys.executable,
            "-I",
            "-B",
            "-u",
            str(MAIN),
            "--framework",
            file,
            "--idle",
            str(idle_s),
        ]
        parent = [] if launcher else ["--parent", str(os.getpid())]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, *parent], cwd=folder, env={"OMP_NUM_THREADS": "1"}, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def ask(self, trouble: str = "none", **settings: Any) -> None:
        request = protocol.Request(
            trial=trouble,
            task=protocol.RUN,
            workload_file=str(TROUBLES / "trouble.py"),
            settings=SETTINGS | {"trouble": trouble} | settings,
            cores=[CORE],
        )
        self.send(request.message())

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self, until: str = "exit") -> dict[str, dict[str, Any]]:
        """Events by name, up to the one called `until`; up to the end where there is none."""
        heard: dict[str, dict[str, Any]] = {}
        assert self.process.stdout
        for line in self.process.stdout:
            event = protocol.decode(line.encode()) or {
                "event": "garbage" if line.strip() else "nothing"
            }
            heard[event["event"]] = event
            if event["event"] == until:
                break
        return heard

    def run(self, trouble: str = "none", **settings: Any) -> dict[str, dict[str, Any]]:
        self.ask(trouble, **settings)
        return self.hear()

    def end(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def begin(*arguments: Any, **options: Any) -> Host:
        hosts.append(Host(tmp_path, *arguments, **options))
        return hosts[-1]

    yield begin
    for host in hosts:
        host.end()


@pytest.fixture
def host(start: Callable[..., Host]) -> Host:
    return start()


@pytest.fixture
def word(tmp_path: Path) -> str:
    """A file for process ids, whose name is on the command line of all that a trial starts."""
    return str(tmp_path / "note")


def noted(word: str, what: str) -> list[int]:
    lines = Path(word).read_text().split("\n") if Path(word).exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(what)]


def columns(heard: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = heard["outcome"]["columns"]
    return found


def test_a_trial_is_heard_from_its_start_to_its_exit(host: Host) -> None:
    heard = host.run()

    assert [name for name in heard if name != "nothing"] == [
        "ready",
        "started",
        "progress",
        "outcome",
        "exit",
    ]
    assert heard["progress"]["facts"] == {"trouble": "none"}
    assert heard["outcome"]["status"] == "ok"
    assert columns(heard)["step_s"] == [0.01, 0.02]
    assert heard["exit"]["returncode"] == 0
    assert heard["exit"]["log"] == ""


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_trial_is_a_process_of_its_own_in_a_session_of_its_own(host: Host, process: str) -> None:
    first, second = (host.run("tells", process=process) for _ in range(2))

    assert first["started"]["pid"] != second["started"]["pid"]
    assert columns(first)["host"] == host.process.pid
    assert columns(first)["session"] is True


def test_the_framework_is_imported_once_and_forks_share_it(host: Host) -> None:
    first, second = host.run("tells"), host.run("tells")

    assert "ready" in first
    assert "ready" not in second
    assert columns(first)["imported_at"] == columns(second)["imported_at"]


def test_a_spawned_trial_imports_the_framework_itself(host: Host) -> None:
    first, second = host.run("tells", process="spawn"), host.run("tells", process="spawn")

    assert "ready" not in first
    assert first["started"]["import_s"] > 0
    assert columns(first)["imported_at"] != columns(second)["imported_at"]


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_trial_sees_an_empty_folder_and_no_package_of_the_orchestrator_s(
    host: Host, process: str
) -> None:
    found = columns(host.run("tells", process=process))

    assert set(found["folder"]) <= {"log"}
    assert not [
        entry
        for entry in found["path"]
        if "workloads" in entry or entry in ("", str(MAIN.parent.parent))
    ]
    assert json.loads(found["variables"]) == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_memory_is_kept_from_the_first_sample_on_whatever_was_freed_before(
    host: Host, process: str
) -> None:
    assert columns(host.run("allocates", process=process))["in_heap"]


def test_fork_and_spawn_tell_the_same_columns(host: Host) -> None:
    forked, spawned = (columns(host.run(process=process)) for process in ("fork", "spawn"))

    assert forked.keys() == spawned.keys()
    for name in ("cores", "threads", "python", "variables", "step_s"):
        assert forked.get(name) == spawned.get(name), name


def test_a_trial_is_bound_to_its_cores_and_the_threads_are_set_before_the_framework_is_there(
    host: Host,
) -> None:
    found = columns(host.run("tells"))

    assert found["cores"] == [CORE]
    assert found["threads_when_loaded"] == "1"


@pytest.mark.parametrize("process", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("trouble", "returncode"),
    [
        ("crashes", -signal.SIGSEGV),
        ("is_killed", -signal.SIGKILL),
        ("aborts", -signal.SIGABRT),
        ("exits", 3),
    ],
)
def test_how_a_trial_s_process_ended_is_told_and_the_host_goes_on(
    host: Host, trouble: str, returncode: int, process: str
) -> None:
    heard = host.run(trouble, process=process)

    assert "outcome" not in heard
    assert heard["exit"]["returncode"] == returncode
    assert host.run()["outcome"]["status"] == "ok"


def test_where_a_crash_was_is_in_the_log(host: Host) -> None:
    log = host.run("crashes")["exit"]["log"]

    assert "into the abyss" in log
    assert "Segmentation fault" in log
    assert "trouble.py" in log


def test_an_exit_that_a_workload_asks_for_is_a_failure(host: Host) -> None:
    heard = host.run("quits")

    assert heard["outcome"]["status"] == "failed"
    assert "SystemExit: I have had enough" in heard["outcome"]["error"]


def test_the_log_of_a_talkative_trial_keeps_its_beginning_and_its_end(host: Host) -> None:
    heard = host.run("prints")

    assert heard["outcome"]["error"].endswith("ValueError: after all that")
    log = heard["exit"]["log"]
    assert len(log) < 70_000
    assert log.startswith("the first line\n")
    assert "the last line\n" in log
    assert "bytes left out" in log


def test_an_outcome_that_cannot_be_said_is_a_failure(host: Host) -> None:
    heard = host.run("returns_objects")

    assert heard["outcome"]["status"] == "failed"
    assert "cannot be kept" in heard["outcome"]["error"]


def test_numbers_that_json_lacks_arrive_as_what_they_are(host: Host) -> None:
    found = columns(host.run("returns_odd_numbers"))["step_s"]

    assert str(found) == "[nan, inf, 0.0, -1.0]"


def test_a_line_that_a_dying_trial_leaves_unfinished_hides_nothing(host: Host) -> None:
    host.ask("scribbles")
    heard = host.hear()

    assert "garbage" in heard
    assert heard["exit"]["returncode"] == 4
    assert host.run()["outcome"]["status"] == "ok"


@pytest.mark.parametrize("process", ["fork", "spawn"])
@pytest.mark.parametrize("trouble", ["hangs", "stops"])
def test_a_trial_that_is_told_to_stop_ends_with_all_that_it_has_started(
    host: Host, word: str, trouble: str, process: str
) -> None:
    helpers = 4 if trouble == "hangs" else 0
    host.ask(trouble, note=word, process=process)
    host.hear(until="progress")
    assert eventually(lambda: len(alive(word)) == helpers)

    host.send(protocol.STOP)

    assert host.hear()["exit"]["returncode"] == -signal.SIGKILL
    assert alive(word) == []
    assert not there(noted(word, "trial")[-1])
    assert host.run()["outcome"]["status"] == "ok"


def test_what_a_trial_leaves_behind_ends_with_it(host: Host, word: str) -> None:
    heard = host.run("leaves", note=word)

    assert heard["outcome"]["status"] == "ok"
    assert len(noted(word, "helper")) == 2
    assert alive(word) == []
    assert heard["exit"]["left_behind_s"] > 0


def test_a_stop_that_comes_too_late_stops_nothing(host: Host) -> None:
    host.run()
    host.send(protocol.STOP)

    assert host.run()["outcome"]["status"] == "ok"


def test_a_stop_that_comes_with_its_request_is_heard(host: Host) -> None:
    host.run()
    host.ask("stops")
    host.send(protocol.STOP)

    assert host.hear()["exit"]["returncode"] == -signal.SIGKILL


def test_a_line_that_is_no_request_is_passed_over(host: Host) -> None:
    assert host.process.stdin
    host.process.stdin.write("what?\n\n[1]\n{}\n")

    assert host.run()["outcome"]["status"] == "ok"


def test_a_framework_that_cannot_be_imported_is_told_and_ends_the_host(
    start: Callable[..., Host],
) -> None:
    host = start("unimportable")

    heard = host.run()

    assert list(heard) == ["unimportable"]
    assert heard["unimportable"]["error"].endswith(
        "ImportError: libmatrix.so.5: cannot open shared object file"
    )
    assert host.process.wait(20) == 0


def test_a_spawned_trial_tells_that_its_framework_cannot_be_imported(
    start: Callable[..., Host],
) -> None:
    heard = start("unimportable").run(process="spawn")

    assert heard["outcome"]["status"] == "env_failed"
    assert "libmatrix.so.5" in heard["outcome"]["error"]


def test_a_host_ends_when_there_will_be_no_more_requests(host: Host) -> None:
    host.run()
    assert host.process.stdin
    host.process.stdin.close()

    assert host.process.wait(20) == 0


def test_a_host_ends_when_nothing_is_asked_of_it_for_long(start: Callable[..., Host]) -> None:
    assert start(idle_s=0.1).process.wait(20) == 0


def test_a_trial_ends_when_there_will_be_no_more_requests(host: Host, word: str) -> None:
    host.ask("hangs", note=word)
    host.hear(until="progress")
    assert eventually(lambda: len(alive(word)) == 4)
    assert host.process.stdin

    host.process.stdin.close()

    assert host.process.wait(20) == 0
    assert alive(word) == []
    assert not there(noted(word, "trial")[0])


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_host_and_its_trial_open_no_port(host: Host, word: str, process: str) -> None:
    host.ask("hangs", note=word, process=process)
    host.hear(until="progress")
    own = psutil.Process(host.process.pid)
    members = [own, *own.children(recursive=True)]
    assert len(members) > 1
    assert [connection for member in members for connection in member.net_connections("inet")] == []


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_trial_dies_with_its_host(host: Host, word: str, process: str) -> None:
    host.ask("stops", note=word, process=process)
    host.hear(until="progress")

    host.process.kill()

    assert eventually(lambda: not there(noted(word, "trial")[0]))


PARENT = """
import os, subprocess, sys, threading
def start():
    global host
    command = [*sys.argv[1:], "--parent", str(os.getpid())]
    host = subprocess.Popen(command, start_new_session=True, env=os.environ)  # its pipes are this process's own
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(host.pid, file=sys.stderr, flush=True)
host.wait()
"""


def test_a_host_outlives_the_thread_that_started_it_and_dies_with_the_process(
    start: Callable[..., Host], tmp_path: Path, word: str
) -> None:
    """The kernel tells of the thread's end, too; and the pipe is held open by this test when the parent dies."""
    parent = start(launcher=(sys.executable, "-c", PARENT))
    assert eventually(lambda: (tmp_path / "log").read_text().strip().isdigit())
    pid = int((tmp_path / "log").read_text())
    parent.ask("hangs", note=word)
    parent.hear(until="progress")
    assert eventually(lambda: len(alive(word)) == 4)
    assert there(pid)

    parent.process.kill()

    assert eventually(lambda: not there(pid) and not alive(word))


def test_a_host_whose_framework_s_import_hangs_dies_with_its_parent(
    start: Callable[..., Host], tmp_path: Path
) -> None:
    parent = start("endless", launcher=(sys.executable, "-c", PARENT))
    assert eventually(lambda: (tmp_path / "log").read_text().strip().isdigit())
    pid = int((tmp_path / "log").read_text())
    parent.ask()
    assert eventually(lambda: "license server" in (tmp_path / "log").read_text())

    parent.process.kill()

    assert eventually(lambda: not there(pid))


def test_a_host_starts_no_thread_of_its_own(host: Host) -> None:
    host.run()

    assert len(list(Path(f"/proc/{host.process.pid}/task").iterdir())) == 1


def test_nothing_stays_open_in_a_host_after_many_trials(host: Host) -> None:
    def count() -> int:
        return len(list(Path(f"/proc/{host.process.pid}/fd").iterdir()))

    host.run()
    before = count()
    for trouble in ("none", "exits", "prints", "none"):
        host.run(trouble)
        host.run(trouble, process="spawn")

    assert count() == before
