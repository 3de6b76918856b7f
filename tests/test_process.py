"""Child processes: heard line by line, bounded in time, and ended with all that they started."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugged import alive, there
from tiny import HOUSE

from sweep import process

PLAIN = {"PATH": os.environ["PATH"]}
SLEEPER = "import time; time.sleep(3600)"
# a tree: a child, one in a session of its own, one that is stopped, one whose parent has ended
TREE = f"""
import os, signal, subprocess, sys
started = [subprocess.Popen([sys.executable, "-c", {SLEEPER!r}, sys.argv[1]], start_new_session=new) for new in (0, 1)]
started[0].send_signal(signal.SIGSTOP)
if not os.fork():
    os.setsid()
    subprocess.Popen([sys.executable, "-c", {SLEEPER!r}, sys.argv[1]], start_new_session=True)
    os._exit(0)
os.wait()
print("ready", flush=True)
import time
time.sleep(3600)
"""


def eventually(condition: Callable[[], object], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., process.Child]]:
    children: list[process.Child] = []

    def begin(code: str, *arguments: str) -> process.Child:
        command = [sys.executable, "-u", "-c", code, *arguments]
        children.append(process.Child(command, PLAIN, tmp_path, tmp_path / "log"))
        return children[-1]

    yield begin
    for child in children:
        child.end()


def test_a_command_is_run_to_its_end_in_the_environment_that_it_is_given() -> None:
    code = "import os, sys; print(os.environ.get('SECRET'), os.environ['WORD']); sys.exit('no')"
    os.environ["SECRET"] = "a token"
    try:
        ended = process.run([sys.executable, "-c", code], {**PLAIN, "WORD": "given"})
    finally:
        del os.environ["SECRET"]

    assert ended == process.Completed(1, "None given\n", "no\n")


def test_a_command_that_takes_too_long_is_killed_with_its_descendants(tmp_path: Path) -> None:
    word = f"tree-{tmp_path}"

    ended = process.run([sys.executable, "-u", "-c", TREE, word], PLAIN, timeout_s=2.0)

    assert ended.timed_out
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "ready\n"
    assert eventually(lambda: not alive(word))


def test_lines_are_heard_one_by_one_however_they_come(start: Callable[..., process.Child]) -> None:
    child = start(
        "import os, time; os.write(1, b'one\\ntw'); time.sleep(0.05); os.write(1, b'o\\nthree'); os._exit(0)"
    )

    assert [child.line(20.0) for _ in range(3)] == [
        b"one",
        b"two",
        None,
    ]  # the third was never finished


def test_a_line_of_megabytes_is_one_line(start: Callable[..., process.Child]) -> None:
    child = start("print('x' * 5_000_000)")

    assert child.line(60.0) == b"x" * 5_000_000


def test_silence_beyond_the_time_limit_is_a_timeout(start: Callable[..., process.Child]) -> None:
    child = start(SLEEPER)

    with pytest.raises(TimeoutError):
        child.line(0.05)
    assert child.alive


def test_the_end_of_a_child_is_heard_although_its_pipe_is_held_open(
    start: Callable[..., process.Child],
) -> None:
    child = start(
        "import os, time\nif not os.fork(): time.sleep(3600)\nprint('bye', flush=True)\nos._exit(0)"
    )

    assert child.line(20.0) == b"bye"
    assert child.line(20.0) is None


def test_a_child_that_does_not_listen_takes_no_more(start: Callable[..., process.Child]) -> None:
    child = start(SLEEPER)

    assert child.send(b"a little", 1.0)
    assert not child.send(b"x" * 1_000_000, 0.1)


def test_a_child_that_has_ended_takes_nothing(start: Callable[..., process.Child]) -> None:
    child = start("")
    assert eventually(lambda: not child.alive)

    assert not child.send(b"hello\n", 1.0)


def test_ending_a_child_ends_all_that_it_started_wherever_that_has_gone(
    start: Callable[..., process.Child], tmp_path: Path
) -> None:
    word = f"tree-{tmp_path}"
    child = start(TREE, word)
    assert child.line(20.0) == b"ready"
    assert eventually(
        lambda: len(alive(word)) == 4
    )  # the child, and three that it started, one of them orphaned

    assert child.end() == -signal.SIGKILL

    assert eventually(lambda: not alive(word))


def test_ending_a_child_that_has_ended_still_ends_what_it_left_behind(
    start: Callable[..., process.Child], tmp_path: Path
) -> None:
    word = f"tree-{tmp_path}"
    child = start(
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}, sys.argv[1]])",
        word,
    )
    assert child.line(20.0) is None
    assert alive(word)

    assert child.end() == 0

    assert eventually(lambda: not alive(word))


def test_a_stopped_process_is_killed_too(start: Callable[..., process.Child]) -> None:
    child = start(SLEEPER)
    os.kill(child.pid, signal.SIGSTOP)

    process.kill_tree(child.pid)

    assert eventually(lambda: not there(child.pid))


def test_a_child_can_be_talked_to_with_more_files_open_than_select_can_count(
    start: Callable[..., process.Child],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        child = start("print(input())")
        assert child.send(b"hello\n", 20.0)
        assert child.line(20.0) == b"hello"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_how_a_process_ended_is_said_in_words() -> None:
    assert [process.ended(code) for code in (0, 3, -11, -200)] == [
        "exit status 0",
        "exit status 3",
        "killed by SIGSEGV",
        "killed by signal 200",
    ]


def test_the_memory_of_a_process_that_has_ended_is_none(
    start: Callable[..., process.Child],
) -> None:
    child = start(SLEEPER)
    assert process.rss_bytes(child.pid) > 0
    child.end()

    assert process.rss_bytes(child.pid) == 0


def test_what_is_held_is_abandoned_when_its_holder_is_gone_and_its_children(
    tmp_path: Path, start: Callable[..., process.Child]
) -> None:
    log, mine = tmp_path / "log", tmp_path / "mine"
    child = start("import sys; sys.stdin.readline()")
    with process.hold(mine):
        assert list(process.abandoned([log, mine])) == []
    child.end()
    assert eventually(lambda: list(process.abandoned([log, mine])) == [log, mine])


HOLDS = """
import sys
from pathlib import Path
from sweep import process
path = Path(sys.argv[1])
sys.addaudithook(lambda event, _: print(event, path.exists()) if event in ("fcntl.flock", "os.rename") else None)
process.hold(path).close()
"""


def test_nobody_sees_what_is_not_held_yet(tmp_path: Path) -> None:
    """Python tells of each call before it makes it."""
    path = tmp_path / "held"
    told = subprocess.run(
        [sys.executable, "-c", HOLDS, str(path)], cwd=HOUSE, capture_output=True, text=True
    )
    assert (told.stdout.split(), told.stderr) == (
        ["fcntl.flock", "False", "os.rename", "False"],
        "",
    )
    assert [found.name for found in tmp_path.iterdir()] == ["held"]
