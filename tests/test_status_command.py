"""How a sweep stands, told from elsewhere: it runs, is done, died, or is not heard of; and its counts add up."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Sweep
from made_up import Planned, keep, record
from trials import until

from sweep.analysis.run import Run
from sweep.cluster.placement import Node
from sweep.errors import SweepError
from sweep.heartbeat import Heartbeat
from sweep.records.driver import Driver, Liveness, process_started, this_process
from sweep.records.facts import RunFacts
from sweep.records.layout import DRIVER_FILE
from sweep.records.results import Results
from sweep.records.storage import Storage

NOW = 1_800_000_000.0
FACTS = RunFacts(
    name="core", grid="name: core\n", trials=[Planned(f"t{n}", f"trial/s{n}") for n in range(3)]
)


def driver(**changes: Any) -> Driver:
    """This process as the driver of a sweep, last heard of just now."""
    at = {"started_at": NOW, "heard_at": NOW, "phase_since": NOW}
    return Driver(
        **this_process() | at | {"every_s": 5.0, "phase": "running trials", "planned": 3} | changes
    )


def left(folder: Path, **changes: Any) -> None:
    now = time.time()
    folder.joinpath(DRIVER_FILE).write_text(
        driver(started_at=now, heard_at=now, phase_since=now, **changes).text()
    )


class Silent:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def planned(self, total: int, done: int, remaining_s: float | None) -> None:
        pass

    def started(self, device: str) -> None:
        pass

    def detail(self, trial_name: str, facts: Mapping[str, Any]) -> None:
        pass

    def ended(self, record: Mapping[str, Any], remaining_s: float | None) -> None:
        pass

    def again(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclasses.dataclass
class Two:
    """A cluster of two nodes, of which one runs a trial."""

    running: dict[str, str] = dataclasses.field(default_factory=lambda: {"trial/s1": "one"})
    nodes: list[Node] = dataclasses.field(
        default_factory=lambda: [
            Node(name, name, {"CPU": 8.0, "memory": 2.0**34}) for name in ("one", "two")
        ]
    )
    refusals: list[str] = dataclasses.field(
        default_factory=lambda: ["node three: it did not answer"]
    )
    asked_for: dict[str, int] = dataclasses.field(default_factory=lambda: {"GPU 1": 2})


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_driver_runs_as_long_as_its_process_does(ended_pid: int) -> None:
    assert driver().liveness(NOW) is Liveness.RUNNING
    assert driver().liveness(NOW + 3600) is Liveness.RUNNING  # stopped by Ctrl-Z, say
    assert driver(pid=ended_pid).liveness(NOW) is Liveness.DEAD
    assert (
        driver(process_started=this_process()["process_started"] + 1).liveness(NOW) is Liveness.DEAD
    )
    assert driver(end="interrupted").liveness(NOW) is Liveness.STOPPED


def test_a_driver_that_died_and_is_not_waited_for_yet_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = driver(pid=process.pid, process_started=process_started(process.pid))
        assert found.liveness(NOW) is Liveness.RUNNING
        process.kill()
        assert until(lambda: found.liveness(NOW) is Liveness.DEAD)


def test_a_driver_elsewhere_is_silent_once_three_messages_are_overdue() -> None:
    far = driver(system="another boot")
    assert far.liveness(NOW + 14) is Liveness.RUNNING
    assert far.liveness(NOW + 16) is Liveness.SILENT


def test_what_a_driver_says_comes_back_as_it_went() -> None:
    said = driver(
        trials=[{"trial": "a", "node": "n"}], messages=[{"at": NOW, "text": "é"}], remaining_s=1.5
    )
    assert Driver.parsed(said.text()) == said


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "{}", "[" * 100_000,
        '{"pid": "x"}', '{"pid": -1}', '{"heard_at": NaN}', '{"heard_at": 1e99}',
        '{"planned": true}', '{"trials": [1]}', '{"nodes": [{"name": "a"}]}', '{"messages": [{"text": "a"}]}',
        '{"asked_for": {"a": "b"}}', '{"refused_nodes": "a"}', '{"remaining_s": "soon"}', '{"host": null}',
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named_and_left_out(text: str, sweep: Sweep) -> None:
    keep("results/core", [record()])
    Path("results/core", DRIVER_FILE).write_text(text)
    said = sweep("status")
    assert said.code == 0
    assert said.out == "core is done: 1 of 1 planned trial has a record: 1 ok\n"
    assert f"warning: {DRIVER_FILE} left out" in said.err


def test_the_heartbeat_tells_all_that_the_sweep_knows_and_goes_with_it(tmp_path: Path) -> None:
    observer = Silent()
    with Results(tmp_path).open(FACTS) as writer:
        with Heartbeat(writer.storage, observer, every_s=0.05) as heartbeat:
            assert Results(tmp_path).driver().phase == "planning"
            heartbeat.cluster = Two()
            heartbeat.planned(3, 0, 60.0)
            heartbeat.ended(record(), 40.0)
            heartbeat.note("waiting for data, at https://me:secret@host/")
            heartbeat.phase("running trials")
            assert until(lambda: Results(tmp_path).driver().phase == "running trials")
            said = Results(tmp_path).driver()
            Path(tmp_path, DRIVER_FILE).unlink()
            assert until(lambda: Path(tmp_path, DRIVER_FILE).exists())
        assert Results(tmp_path).driver() is None
    assert (said.planned, said.ended, said.running, said.waiting, said.remaining_s) == (
        3,
        1,
        1,
        1,
        40.0,
    )
    assert said.trials == [{"trial": "trial/s1", "node": "one"}]
    assert [(node["name"], node["running"]) for node in said.nodes] == [("one", 1), ("two", 0)]
    assert said.asked_for == {"GPU 1": 2}
    assert said.messages[0]["text"] == "waiting for data, at https://***@host/"
    assert len(observer.notes) == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [(KeyboardInterrupt(), "interrupted"), (SweepError("no node"), "no node"), (OSError("x"), "x")],
)
def test_a_sweep_that_ends_early_leaves_the_reason(
    error: BaseException, why: str, sweep: Sweep
) -> None:
    def run() -> None:
        with (
            Results("results/core").open(FACTS) as writer,
            Heartbeat(writer.storage, Silent()) as heartbeat,
        ):
            heartbeat.planned(3, 0, None)
            heartbeat.phase("running trials")
            raise error

    with pytest.raises(type(error)):
        run()
    said = sweep("status")
    assert said.code == 4
    assert said.out.startswith("core was stopped: 0 of 3 planned trials have a record")
    assert f"while running trials: {why}" in said.out.replace("OSError: ", "")


def test_a_heartbeat_that_cannot_be_written_ends_no_sweep(tmp_path: Path) -> None:
    observer = Silent()
    with Heartbeat(Storage(tmp_path), observer, every_s=0.02) as heartbeat:
        Path(tmp_path, DRIVER_FILE).unlink()
        Path(tmp_path, DRIVER_FILE, "in the way").mkdir(parents=True)
        assert until(lambda: observer.notes)
        Path(tmp_path, DRIVER_FILE, "in the way").rmdir()
        Path(tmp_path, DRIVER_FILE).rmdir()
        assert until(Path(tmp_path, DRIVER_FILE).exists)
        heartbeat.note("it goes on")
    assert len(observer.notes) == 2
    assert observer.notes[0].startswith("warning: sweep status cannot follow this sweep: ")


@pytest.mark.parametrize(
    "command", [("summarize",), ("compare", "--over", "framework"), ("report",)]
)
def test_who_reads_a_run_that_goes_on_is_told_so(command: tuple[str, ...], sweep: Sweep) -> None:
    keep("results/core", [record(seed=s, framework=f) for s in range(3) for f in ("a==1", "b==1")])
    assert "running" not in sweep(*command[:1], "core", *command[1:]).err
    left(Path("results/core"), planned=9, ended=6)
    told = "warning: core is still running, 6 of 9 trials have ended: this is of the records so far"
    said = sweep(*command[:1], "core", *command[1:])
    assert told in said.err
    if command == ("report",):
        assert "written while the sweep was still running" in Path(said.out.strip()).read_text()


def test_status_tells_of_nodes_queue_and_what_is_waited_for(sweep: Sweep) -> None:
    keep(
        "results/core", [record()], trials=[Planned(record()["trial_id"], "a"), Planned("t1", "b")]
    )
    nodes = [{"name": "one", "resources": {"CPU": 8.0, "GPU": 1.0}, "running": 1}]
    waits = [{"at": time.time(), "text": "waiting for torch\x1b[2J, held by process 7"}]
    left(
        Path("results/core"), planned=9, ended=1, running=1, remaining_s=190.0, nodes=nodes, messages=waits,
        trials=[{"trial": "torch/s1", "node": "one"}], asked_for={"GPU 1": 4}, refused_nodes=["node two: no Python"],
    )  # fmt: skip
    told = sweep("status").out
    for part in (
        "core is running: 1 of 2 planned trials have a record: 1 ok, 1 without a record\n",
        f"process {os.getpid()} on ",
        "1 trial running, 7 waiting, ETA 3 min 10 s\n",
        "node one (CPU 8, GPU 1): 1 trial running\n",
        "running torch/s1 on one\n",
        "nodes are asked for, for 4 trials of GPU 1\n",
        "not used: node two: no Python\n",
        "waiting for torch\\x1b[2J, held by process 7\n",
    ):
        assert part in told
    found = json.loads(sweep("status", "--format", "json").out)
    assert (found["state"], found["driver"]["waiting"], found["driver"]["asked_for"]) == (
        "running",
        7,
        {"GPU 1": 4},
    )


def test_status_of_a_killed_or_silent_sweep_says_when_it_was_last_heard_of(
    sweep: Sweep, ended_pid: int
) -> None:
    keep(
        "results/core", [record()], trials=[Planned(record()["trial_id"], "a"), Planned("t1", "b")]
    )
    left(Path("results/core"), pid=ended_pid)
    assert sweep("status").out.startswith("core is dead: 1 of 2")
    assert "it died while running trials: last heard of at " in sweep("status").out
    left(Path("results/core"), system="elsewhere", every_s=0.0)
    told = sweep("status")
    assert told.out.startswith("core is not heard of: 1 of 2")
    assert "; last heard of at " in told.out


def test_a_run_whose_driver_died_after_its_last_trial_is_done(sweep: Sweep, ended_pid: int) -> None:
    keep("results/core", [record()], trials=[Planned(record()["trial_id"], "a")])
    left(Path("results/core"), pid=ended_pid, planned=1, ended=1)
    assert sweep("status").out.startswith("core is done")
    left(Path("results/core"), pid=ended_pid, planned=1, ended=0)  # it was run again
    assert sweep("status").out.startswith("core is dead")


def test_counts_add_up_to_the_plan_while_trials_end(tmp_path: Path) -> None:
    records = [record(seed=seed) for seed in range(3)]
    facts = dataclasses.replace(
        FACTS, trials=[Planned(each["trial_id"], each["trial_name"]) for each in records]
    )
    with Results(tmp_path).open(facts) as writer:
        writer.append(records[0])
        run = Run(tmp_path)
        table = run.results.records(["trial_id"])
        writer.append(records[1])
        assert len(table) + len(run.without_record(table)) == 3


def test_without_its_plan_a_run_that_goes_on_has_the_one_of_its_driver(sweep: Sweep) -> None:
    keep("results/core", [record()])
    Path("results/core/plan.parquet").unlink()
    left(Path("results/core"), planned=5, ended=1)
    assert "1 of 5 planned trials have a record: 1 ok, 4 without a record" in sweep("status").out


def test_records_that_are_no_longer_planned_are_told_apart(sweep: Sweep) -> None:
    records = [record(seed=seed) for seed in range(3)]
    keep("results/core", records, trials=[Planned(records[0]["trial_id"], "a"), Planned("t", "b")])
    told = (
        "1 of 2 planned trials have a record: 3 ok, 1 without a record, 2 of them no longer planned"
    )
    assert told in sweep("status").out


@pytest.mark.parametrize("name", ["run.yaml", "plan.parquet"])
def test_what_is_deleted_while_a_sweep_runs_is_written_again_at_its_end(
    name: str, tmp_path: Path
) -> None:
    with Results(tmp_path).open(FACTS):
        (tmp_path / name).unlink()
    assert Results(tmp_path).facts().grid == FACTS.grid
    assert len(Results(tmp_path).plan()) == 3


def test_what_a_killed_writer_left_half_written_goes_with_the_next(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "records"):
        folder.mkdir(exist_ok=True)
        (folder / ".driver.json.7.tmp").touch()
    with Results(tmp_path).open(FACTS):
        pass
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_store_tells_it_as_a_folder_does(bucket: str, sweep: Sweep) -> None:
    keep(bucket, [record()], trials=[Planned(record()["trial_id"], "a"), Planned("t1", "b")])
    with Heartbeat(Storage(bucket), Silent()) as heartbeat:
        assert Results(bucket).driver().every_s > 10  # each request is paid for
        assert sweep("status", bucket).out.startswith("core is running: 1 of 2")
        heartbeat.phase("running trials")
    assert sweep("status", bucket).out.startswith("core is not running: 1 of 2")


def test_watch_ends_with_the_sweep(sweep: Sweep) -> None:
    keep("results/core", [record()])
    said = sweep("status", "--watch")
    assert said.code == 0
    assert said.out.endswith(" core is done: 1 of 1 planned trial has a record: 1 ok\n")
    assert json.loads(sweep("status", "--watch", "--format", "json").out)["state"] == "done"
    assert sweep("status", "--watch", "--format", "csv").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("is_terminal", [True, False])
def test_ctrl_c_ends_watching_with_130(is_terminal: bool, tmp_path: Path) -> None:
    keep(tmp_path / "core", [record()])
    left(tmp_path / "core")
    ours, theirs = pty.openpty()
    out = theirs if is_terminal else subprocess.PIPE
    command = [sys.executable, "-m", "sweep", "status", str(tmp_path / "core"), "--watch"]
    variables = os.environ | {"PYTHONPATH": str(tiny.HOUSE), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env=variables) as process:
        told = b""
        while b"1 ok" not in told:
            told += os.read(ours if is_terminal else process.stdout.fileno(), 1000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"no longer watched" in err
    assert b"Traceback" not in err


@pytest.fixture
def real() -> Iterator[tiny.Sweep]:
    made = tiny.Sweep(5, nap_s=0.5)
    yield made
    made.remove()


@pytest.mark.ray
@pytest.mark.slow
def test_from_another_process_a_sweep_runs_then_is_dead_then_done(
    real: tiny.Sweep, sweep: Sweep
) -> None:
    run = str(real.results)

    def told() -> dict[str, Any]:
        return dict(json.loads(sweep("status", run, "--format", "json").out))

    first = real.start()
    assert until(lambda: real.kept >= 2 and told()["driver"]["running"], 200)
    now = told()
    assert now["state"] == "running"
    assert now["driver"]["pid"] == first.pid
    assert now["recorded"] + now["missing"] == now["planned"] == real.count
    assert {each["node"] for each in now["driver"]["trials"]} == {
        node["name"] for node in now["driver"]["nodes"]
    }
    first.kill()
    first.communicate()
    assert told()["state"] == "dead"
    with real.start() as second:
        command = [sys.executable, "-m", "sweep", "status", run, "--watch"]
        assert until(lambda: told()["state"] == "running", 100)
        watched = subprocess.run(
            command, env=real.environment, capture_output=True, text=True, timeout=250
        )
        second.communicate(timeout=200)
    assert watched.returncode == 0
    assert f"tiny is done: {real.count} of {real.count} planned trials" in watched.stdout
    assert not (real.results / DRIVER_FILE).exists()
    assert told()["state"] == "done"
