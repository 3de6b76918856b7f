"""Each signal that asks a sweep to end, at each phase of it, sent to real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from plugged import alive

from sweep import catalog, environments, locks, signals

HOUSE = Path(signals.__file__).resolve().parent.parent
GRID = """\
name: tiny
axes:
  framework: [reference]
  batch_exponent: [0]
  seed: {range: [0, 1]}
parameters: {samples: 2, warmup: 1, threads: 1, parity_examples: 1}
"""
LONG = ("--set", "samples=500")
PATIENCE_S = 240.0


class Sweep:
    """`sweep run` in a process of its own, with a folder of its own for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Short, for Ray's sockets lie there.
        self.temporary = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
        self.environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "SWEEP_MAX_CONTENTION": "any",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(HOUSE), os.environ.get("PYTHONPATH", "")])
            ),
        }
        self.process: subprocess.Popen[bytes]
        self._reader = -1

    def start(
        self, *arguments: str, before: tuple[str, ...] = (), stdout: int = subprocess.DEVNULL
    ) -> None:
        with (self.folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "sweep", "run", "grid.yaml", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def start_into_a_full_pipe(self) -> None:
        self._reader, writer = os.pipe()
        os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        self.start(stdout=writer)
        os.close(writer)

    def empty_pipe(self) -> None:
        if self._reader >= 0:
            while os.read(self._reader, 1 << 16):
                pass
            os.close(self._reader)

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, (
                f"it ended before with {self.process.returncode}: {self.said}"
            )
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def records(self) -> int:
        return len(list((self.folder / "results/tiny/records").glob("[0-9]*.parquet")))

    def has_child(self, name: str) -> bool:
        with contextlib.suppress(psutil.Error):
            return any(
                name in child.name() for child in psutil.Process(self.process.pid).children()
            )
        return False

    def has_thread(self, name: str) -> bool:
        found = []
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                found.append(file.read_text().strip())
        return name in found

    def left_behind(self) -> list[str]:
        """Processes of the sweep and files of it; Ray's agents notice only after a while that it has gone."""
        deadline = time.monotonic() + 30
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _left(self) -> list[str]:
        files = [
            path.name
            for path in self.temporary.iterdir()
            if not path.name.startswith("sweep-slots-")
        ]
        return [*map(described, alive(str(self.temporary))), *files]


def described(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return f"{pid} of {process.ppid()}, {process.status()}: {' '.join(process.cmdline())}"
    return f"{pid}, just gone"


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Sweep]:
    (tmp_path / "grid.yaml").write_text(GRID)
    swept = Sweep(tmp_path)
    yield swept
    with contextlib.suppress(AttributeError):
        swept.process.kill()
        swept.process.wait()
    shutil.rmtree(swept.temporary, ignore_errors=True)


def building(swept: Sweep) -> None:
    """Until uv is filling an environment."""
    store = swept.folder / "environments"
    swept.environment["SWEEP_ENV_DIR"] = str(store)
    swept.start(*LONG)
    swept.wait_until(lambda: list(store.glob("*/bin/python")))


def starting(swept: Sweep) -> None:
    """Until the first of Ray's daemons is there, which `ray.init` has started."""
    swept.start(*LONG)
    swept.wait_until(lambda: swept.has_child("gcs_server"))


def connecting(swept: Sweep) -> None:
    """Until Ray's library has begun to make threads of its own in the driver, and to install its handlers."""
    swept.start(*LONG)
    swept.wait_until(lambda: swept.has_thread("worker.io"))


def running(swept: Sweep) -> None:
    """Until a trial is being timed."""
    swept.start(*LONG)
    swept.wait_until(lambda: list(swept.folder.glob("results/tiny/progress/*.json")))


def leaving(swept: Sweep) -> None:
    """Until the last record is there: Ray is being ended."""
    swept.start()
    swept.wait_until(lambda: swept.records() == 2)


def summarising(swept: Sweep) -> None:
    """Until the summary is being written into a pipe that is full."""
    swept.start()
    assert swept.process.wait(PATIENCE_S) == 0, swept.said
    swept.start_into_a_full_pipe()
    swept.wait_until(lambda: "2/2 trials" in swept.said)
    swept.wait_until(lambda: is_idle(swept.process.pid))


def is_idle(pid: int) -> bool:
    before = psutil.Process(pid).cpu_times()
    time.sleep(0.5)
    return psutil.Process(pid).cpu_times() == before


def assert_ended_in_good_order(swept: Sweep, number: signal.Signals) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (
        "are safe" not in swept.said
        and swept.process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    swept.empty_pipe()
    assert swept.process.wait(PATIENCE_S) == 128 + number, swept.said
    assert (
        "the records so far are safe in results/tiny; run the same command to go on" in swept.said
    )
    assert "Traceback" not in swept.said
    assert "stack" not in swept.said
    assert swept.left_behind() == []


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reach", [building, starting, connecting, running, leaving, summarising])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name
)
def test_a_signal_ends_a_sweep_in_good_order_at_every_phase(
    swept: Sweep, reach: Callable[[Sweep], None], number: signal.Signals
) -> None:
    reach(swept)
    swept.process.send_signal(number)
    assert_ended_in_good_order(swept, number)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.parametrize(
    "number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU], ids=lambda number: number.name
)
def test_what_slurm_sends_before_a_limit_ends_a_sweep_in_good_order(
    swept: Sweep, number: signal.Signals
) -> None:
    running(swept)
    swept.process.send_signal(number)
    assert_ended_in_good_order(swept, number)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_a_signal_to_every_process_of_a_job_leaves_no_trial_that_seems_to_have_crashed(
    swept: Sweep,
) -> None:
    running(swept)
    own = psutil.Process(swept.process.pid)
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    assert_ended_in_good_order(swept, signal.SIGTERM)
    assert swept.records() == 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
@pytest.mark.parametrize("name", ["HUP", "INT", "USR1"])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(swept: Sweep, name: str) -> None:
    """As `nohup` ignores SIGHUP, and a shell script SIGINT for what it starts in the background."""
    swept.start(before=("sh", "-c", f"trap '' {name}; exec \"$@\"", "sh"))
    swept.wait_until(lambda: swept.has_thread("worker.io"))
    swept.process.send_signal(getattr(signal, f"SIG{name}"))
    assert swept.process.wait(PATIENCE_S) == 0, swept.said
    assert "2/2 trials" in swept.said


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name
)
def test_a_signal_ends_every_command_with_its_own_code(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Here one that waits for an environment that another process builds."""
    spec = environments.specify(catalog.get_framework("torch"), "2.13.0")
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "SWEEP_ENV_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "sweep", "env", "build", "torch==2.13.0"]
    with (
        locks.held(tmp_path / f".{spec.id}.lock", "it"),
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr
        assert process.stderr.readline() == "preparing torch==2.13.0\n"
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == (
        "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    )


OVERRIDDEN = """
import signal, time
from sweep import signals
signals.listen()
for number in signals.ENDING:
    signal.signal(number, signal.SIG_DFL)
try:
    print("there", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print(signals.cause(), flush=True)
    raise SystemExit(signals.exit_code())
"""


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
def test_a_handler_that_a_library_installs_changes_nothing(number: signal.Signals) -> None:
    with script(OVERRIDDEN) as process:
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert said.strip() == f"ended by {number.name}"
    assert process.returncode == 128 + number


POSTPONED = """
import signal, time
from sweep import signals
signals.listen()
try:
    with signals.postponed():
        print("there", flush=True)
        time.sleep(1)
        print("undisturbed", flush=True)
    print("not raised", flush=True)
except KeyboardInterrupt:
    print("raised", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_is_postponed_and_not_forgotten(number: signal.Signals) -> None:
    with script(POSTPONED) as process:
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert said.split() == ["undisturbed", "raised"]


CHILD = """
import subprocess, sys
from sweep import process, signals
signals.listen()
print("there", flush=True)
show = [sys.executable, "-c", "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"]
print(subprocess.run(show, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: None).stdout)
print(process.run([*process.tether(), *show], {}).stdout)
"""


def test_children_hear_the_signals_that_the_command_blocks() -> None:
    """Ray's daemons, which it forks, and what is started on a tether."""
    with script(CHILD) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split() == ["set()", "set()"]


@contextlib.contextmanager
def script(text: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that has said that it is there."""
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    with subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        yield process


DROPPED = """
import os, signal, time
from sweep import signals
signals.listen()

class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(1.0)
        print("the finalizer was not interrupted")

try:
    held = Held()
    del held
    time.sleep(30)
    print("the signal was lost")
except KeyboardInterrupt:
    print(signals.cause())
"""


@pytest.mark.parametrize(
    ("name", "cause"), [("SIGTERM", "ended by SIGTERM"), ("SIGINT", "interrupted")]
)
def test_a_signal_that_arrives_in_a_finalizer_is_not_lost(name: str, cause: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DROPPED.format(name=name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == (f"{cause}\n", "")
