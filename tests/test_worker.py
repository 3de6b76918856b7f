"""A trial on this node, in every way it can end: always a record, never an error, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugged import PLUGINS, alive, runner, there, trial
from test_host import noted
from test_process import eventually

from sweep import catalog, grid
from sweep.node import disturbance, hosts, machine, worker
from sweep.records.columns import SCHEMA
from sweep.records.rows import table_of

HOUSE = Path(__file__).resolve().parent.parent
CORES = len(machine.usable_cores())


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The plug-in is installed, leases are this test's own, and no host outlives it."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    hosts.close_all()


@pytest.fixture
def word(tmp_path: Path) -> str:
    return str(tmp_path / "note")


def run(
    trouble: str = "none", options: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    return runner(**(options or {}))(trial(trouble, **settings))


def the_host() -> hosts.Host:
    (host,) = hosts.idle()
    return host


# what a record says


def test_a_record_says_which_trial_it_is_of_and_how_it_went() -> None:
    record = run("tells", options={"code_version": "1.2"})

    assert (record["status"], record["error"]) == ("ok", "")
    assert record["trial_id"] == "id-tells"
    assert record["trial_name"] == "plain==here/tells/s0"
    assert (record["framework"], record["version"], record["workload"]) == (
        "plain",
        "here",
        "trouble",
    )
    assert (record["run"], record["code_version"], record["attempt"]) == ("made-up", "1.2", 1)
    assert record["trouble"] == "tells"  # an axis of its own
    assert json.loads(record["settings"])["seed"] == 0
    assert record["node"] == machine.node_name()
    assert record["device_name"] == record["cpu_model"] == machine.cpu_model()
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["returncode"] == 0
    assert record["wall_s"] > 0
    assert record["peak_rss_bytes"] > 2**20
    assert record["environment_id"]
    assert record["packages"]


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_trial_runs_on_the_cores_that_it_leased_with_the_threads_that_it_was_given(
    process: str,
) -> None:
    record = run("tells", cpu=1, threads=1, process=process)

    assert record["status"] == "ok"
    assert len(record["cores"]) == 1
    assert record["threads_when_loaded"] == "1"
    assert json.loads(record["variables"])["OPENBLAS_NUM_THREADS"] == "1"


def test_without_a_number_there_are_as_many_threads_as_cores() -> None:
    assert run("tells", cpu=CORES, threads=None)["threads_when_loaded"] == str(CORES)


def test_a_record_is_a_row_that_fits_the_schema() -> None:
    table = table_of({k: v for k, v in run().items() if k not in ("log", "packages")})

    assert table["status"].to_pylist() == ["ok"]
    assert set(SCHEMA.names) <= set(table.column_names)


def test_what_a_workload_says_of_its_columns_goes_with_its_records() -> None:
    field = table_of(
        {k: v for k, v in run("tells").items() if k not in ("log", "packages")}
    ).schema.field("session")

    assert field.metadata[b"meaning"] == b"whether the trial leads a session of its own"
    assert field.metadata[b"per"] == b"trial"


def test_what_runs_trials_can_be_sent_to_another_machine() -> None:
    sent = pickle.loads(pickle.dumps(runner()))

    assert sent(trial())["status"] == "ok"


def test_what_a_trial_says_of_itself_is_heard_meanwhile() -> None:
    heard = []

    runner(progress=lambda name, facts: heard.append((name, facts)))(trial())

    assert heard == [("plain==here/none/s0", {"trouble": "none"})]


# how a trial ends


@pytest.mark.parametrize("process", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("trouble", "status", "error"),
    [
        ("raises", "failed", "ZeroDivisionError: a step of no length"),
        ("crashes", "crashed", "worker killed by SIGSEGV"),
        ("is_killed", "crashed", "worker killed by SIGKILL"),
        ("exits", "crashed", "before the end\nworker ended with exit status 3"),
        ("quits", "failed", "SystemExit: I have had enough"),
        (
            "returns_text",
            "failed",
            "TypeError: the workload returned 'fast' and no dict of columns",
        ),
        ("returns_objects", "failed", "the workload's columns cannot be kept"),
        (
            "returns_others_columns",
            "failed",
            "columns that are not its own to tell: node, status, trial_id",
        ),
        ("asks_for_too_much", "oom", "Unable to allocate"),
        ("fills_the_gpu", "oom", "CUDA out of memory"),
        ("aborts", "oom", "std::bad_alloc"),
        ("has_no_backend", "unsupported", "plain 1 knows no convolution"),
        ("computes_something_else", "not_comparable", "loss is 2, the reference's 3"),
        ("scribbles", "crashed", "worker ended with exit status 4"),
        ("no such trouble", "failed", "KeyError: 'no such trouble'"),
    ],
)
def test_however_a_trial_ends_its_record_says_so(
    trouble: str, status: str, error: str, process: str
) -> None:
    record = run(trouble, process=process)

    assert record["status"] == status
    assert error in record["error"]
    assert record["trial_id"] == f"id-{trouble}"
    assert run()["status"] == "ok"


def test_an_error_comes_with_the_last_lines_and_the_log_with_the_rest() -> None:
    record = run("raises")

    assert "it was going so well" in record["log"]
    assert len(record["error"].splitlines()) <= 20
    assert 'raise ZeroDivisionError("a step of no length")' in record["error"]


def test_the_log_of_a_trial_that_writes_megabytes_is_bounded() -> None:
    record = run("prints")

    assert record["status"] == "failed"
    assert len(record["log"]) < 70_000
    assert "the last line" in record["log"]


def test_columns_that_do_not_fit_make_the_row_failed() -> None:
    record = run("returns_nonsense")
    row = table_of({k: v for k, v in record.items() if k not in ("log", "packages")})

    assert row["status"].to_pylist() == ["failed"]
    assert "step_s is no list" in row["error"].to_pylist()[0]


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_trial_that_eats_more_memory_than_it_may_have_is_oom(process: str) -> None:
    record = run("eats", memory=2**29, process=process)

    assert record["status"] == "oom"
    assert "MemoryError" in record["error"]
    assert record["python"]  # there was memory left to say what it ran on


@pytest.mark.parametrize("process", ["fork", "spawn"])
@pytest.mark.parametrize("trouble", ["hangs", "stops"])
def test_a_trial_that_takes_too_long_is_killed_with_all_that_it_started(
    trouble: str, process: str, word: str
) -> None:
    record = run(trouble, {"timeout_s": 1.5}, note=word, process=process)

    assert record["status"] == "timeout"
    assert record["error"].endswith("killed after the 1.5 s that it was given")
    assert alive(word) == []
    assert not there(noted(word, "trial")[0])
    assert run()["status"] == "ok"


def test_what_a_trial_leaves_behind_ends_with_it(word: str) -> None:
    assert run("leaves", note=word)["status"] == "ok"
    assert alive(word) == []


# environments


def test_a_framework_that_cannot_be_imported_is_env_failed() -> None:
    for process in ("fork", "spawn"):
        record = run(framework="unimportable==here", process=process)
        assert record["status"] == "env_failed"
        assert "ImportError: libmatrix.so.5: cannot open shared object file" in record["error"]


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_a_framework_whose_import_hangs_is_env_failed(process: str) -> None:
    record = run(framework="endless==here", options={"import_timeout_s": 1.0}, process=process)

    assert record["status"] == "env_failed"
    assert record["error"].endswith("the framework's import hangs")


def test_a_version_that_does_not_exist_is_env_failed_with_what_the_resolver_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_ENV_DIR", str(tmp_path / "environments"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))

    record = run(framework="reference==99.9")

    assert record["status"] == "env_failed"
    assert "numpy" in record["error"]
    assert "99.9" in record["error"]
    assert len(record["error"].splitlines()) > 1


def test_an_interpreter_that_is_not_there_is_env_failed(tmp_path: Path) -> None:
    record = run(options={"overrides": {"plain==here": {"interpreter": str(tmp_path / "python")}}})

    assert record["status"] == "env_failed"
    assert "python" in record["error"]


def test_an_interpreter_that_has_gone_meanwhile_is_env_failed(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    options = {"overrides": {"plain==here": {"interpreter": str(link)}}}
    assert run(options=options)["status"] == "ok"
    hosts.close_all()
    link.unlink()

    record = run(options=options)

    assert record["status"] == "env_failed"
    assert f"{link} cannot be started: No such file or directory" in record["error"]


def test_more_cores_than_there_are_is_a_failure_with_a_hint() -> None:
    record = run(cpu=CORES + 1)

    assert record["status"] == "failed"
    assert f"{CORES + 1} cores are wanted and this node has {CORES}" in record["error"]
    assert "lower resources" in record["error"]


def test_trouble_around_a_trial_is_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, or in a folder that is gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    record = run()

    assert record["status"] == "failed"
    assert "FileNotFoundError" in record["error"]


# hosts


def test_a_host_stays_warm_and_has_imported_its_framework_once() -> None:
    first, second = run("tells"), run("tells")

    assert first["host"] == second["host"] == the_host().pid
    assert first["imported_at"] == second["imported_at"]
    assert first["import_s"] == second["import_s"] > 0


def test_a_spawned_trial_tells_its_own_import_and_forked_ones_that_of_their_host() -> None:
    forked = [run() for _ in range(2)]
    spawned = [run(process="spawn") for _ in range(2)]
    assert len(hosts.idle()) == 1  # one fork server has served all of them
    assert len({record["import_s"] for record in forked}) == 1
    assert len({record["host_id"] for record in forked}) == 1
    assert len({record["import_s"] for record in [forked[0], *spawned]}) == 3
    assert len({record["host_id"] for record in [forked[0], *spawned]}) == 3


def test_fork_and_spawn_give_the_same_columns() -> None:
    forked, spawned = run(process="fork"), run(process="spawn")

    assert forked.keys() == spawned.keys()
    assert {name for name, value in forked.items() if value is None} == {
        name for name, value in spawned.items() if value is None
    }
    assert spawned["import_s"] > 0


def test_a_host_that_died_while_it_was_idle_is_replaced() -> None:
    run()
    old = the_host().pid
    os.kill(old, signal.SIGKILL)
    assert eventually(lambda: not there(old))

    assert run()["status"] == "ok"
    assert the_host().pid != old


def test_a_host_that_ends_just_as_it_is_asked_is_replaced() -> None:
    """It has been stopped, so that it seems to live, and is killed while it is spoken to."""
    run()
    old = the_host().pid
    os.kill(old, signal.SIGSTOP)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {old}"])

    assert run()["status"] == "ok"
    killer.wait()


def test_a_host_that_is_killed_under_a_trial_takes_it_along(word: str) -> None:
    run()
    host = the_host().pid
    kill = f"while ! grep -q trial {word}; do sleep 0.02; done; sleep 0.2; kill -KILL {host}"
    killer = subprocess.Popen(["sh", "-c", kill])

    record = run("hangs", note=word)

    killer.wait()
    assert record["status"] == "crashed"
    assert "the fork server ended: killed by SIGKILL" in record["error"]
    assert eventually(lambda: not alive(word) and not there(noted(word, "trial")[0]))
    assert run()["status"] == "ok"


def test_a_host_that_does_not_answer_is_given_up() -> None:
    run()
    old = the_host().pid
    os.kill(old, signal.SIGSTOP)

    record = run(options={"import_timeout_s": 0.5})

    assert record["status"] == "crashed"
    assert "the fork server does not answer" in record["error"]
    assert eventually(lambda: not there(old))
    assert run()["status"] == "ok"


def test_trials_of_other_threads_have_a_host_of_their_own_and_hosts_are_few() -> None:
    for threads in range(1, hosts.MOST + 3):
        run(threads=threads)

    assert len(hosts.idle()) == hosts.MOST
    assert len({host.pid for host in hosts.idle()}) == hosts.MOST


def test_the_hosts_that_idled_longest_end_first_and_when_they_have_idled_too_long() -> None:
    run(threads=1)
    first = the_host()
    run(threads=2)

    hosts.bound(most=1, idle_s=1e9, memory_bytes=2**60)
    assert first.pid not in [host.pid for host in hosts.idle()]
    assert not first.usable

    hosts.bound(most=8, idle_s=0.0, memory_bytes=2**60)
    assert hosts.idle() == []


def test_when_a_run_is_over_its_hosts_end_with_their_folders_and_no_others() -> None:
    for run_id in ("over", "other"):
        run(options={"run_id": run_id})
    over, other = hosts.idle()
    folder = Path(psutil.Process(over.pid).cwd())

    hosts.end_run("over")

    assert (over.usable, other.usable) == (False, True)
    assert not folder.exists()


@pytest.mark.timeout(300)  # one that waited would do so for an hour
def test_nobody_waits_for_the_hosts_of_others_to_end() -> None:
    run(options={"run_id": "other"})
    (other,) = hosts.idle()

    hosts.remove_abandoned("over", patience_s=3600.0)

    assert other.usable


def test_idle_hosts_share_a_bounded_part_of_the_memory_but_one_may_stay() -> None:
    for threads in (1, 2, 3):
        run(threads=threads)

    hosts.bound(most=8, idle_s=1e9, memory_bytes=1)

    assert len(hosts.idle()) == 1


ORCHESTRATOR = f"""
import sys
sys.path[:0] = [{str(PLUGINS)!r}, {str(HOUSE / "tests")!r}]
from plugged import runner, trial
run = runner()
run(trial(threads=2))  # an idle host beside the one that works
run(trial("hangs", note=sys.argv[1], process=sys.argv[2]))
"""


@pytest.mark.parametrize(("process", "mine"), [("fork", 3), ("spawn", 2)])
def test_nothing_is_left_when_the_orchestrator_is_killed(
    word: str, process: str, mine: int
) -> None:
    """Two hosts, one of which is idle, and a trial with four helpers; a fork has its host's command line."""
    command = [sys.executable, "-c", ORCHESTRATOR, word, process]
    with subprocess.Popen(
        command, cwd=HOUSE, env=os.environ | {"TMPDIR": str(Path(word).parent)}
    ) as orchestrator:
        started_by_it = f"--parent\0{orchestrator.pid}"
        try:
            assert eventually(lambda: len(alive(word)) == 1 + 4, 60)
            assert len(alive(started_by_it)) == mine
        finally:
            orchestrator.kill()

    assert eventually(lambda: not alive(word) and not alive(started_by_it))
    assert not there(noted(word, "trial")[0])


# disturbance


def test_an_exclusive_trial_that_others_disturbed_is_invalid_and_any_other_is_not() -> None:
    with contextlib.ExitStack() as others:
        for core in (
            sorted(os.sched_getaffinity(0)) * 2
        ):  # bound, or the kernel would move them all out of the way
            bound = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", bound]))
            others.callback(other.kill)
        disturbed = run("works", {"max_contention": 0.2}, exclusive=True)
        allowed = run("works", {"max_contention": None, "steal_most": None}, exclusive=True)
        shared = run("works", {"max_contention": 0.2}, exclusive=False)

    assert disturbed["contention_ratio"] > 0.2
    assert disturbed["status"] == "invalid"
    assert "other processes took" in disturbed["error"]
    assert disturbed["step_s"]  # kept
    assert allowed["status"] == "ok"
    assert shared["status"] == "ok"


def test_what_a_trial_does_itself_and_what_its_helpers_do_is_not_foreign() -> None:
    """Compared with the same counters at the same time: other people's work on this machine is in both."""
    record = run("works")

    assert record["contention_ratio"] is not None
    own = record["user_s"] + record["system_s"]
    assert own > 0.4
    assert record["contention_ratio"] <= 1 - 0.4 / record["wall_s"]


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_importing_a_framework_is_not_foreign_to_the_trial_that_comes_first(
    monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    """The counters are read once the trial has started; `heavy` works for half a second when it is imported."""
    read: list[Any] = []
    shares = disturbance.shares
    monkeypatch.setattr(disturbance, "shares", lambda *told: read.append(told) or shares(*told))

    record = run(framework="heavy==here", process=process)

    ((before, after, cores, own_s),) = read
    assert record["status"] == "ok"
    assert cores == 1
    assert after.at_s - before.at_s <= record["wall_s"] - 0.5
    assert own_s <= record["user_s"] + record["system_s"]


# secrets


@pytest.mark.parametrize("process", ["fork", "spawn"])
def test_nothing_of_the_user_s_environment_but_what_is_needed_reaches_a_trial(
    monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    for name in (
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "PIP_INDEX_URL",
        "PYTHONPATH",
        "LD_PRELOAD_OPTIONS",
        "MKL_DEBUG",
    ):
        monkeypatch.setenv(name, "hunter2")

    record = run("tells", process=process)

    assert record["status"] == "ok"
    assert "hunter2" not in json.dumps(record, default=str)
    assert set(json.loads(record["variables"])) <= set(hosts.ALLOWED) | set(hosts.variables(1))


def test_the_gpus_that_ray_has_assigned_reach_a_trial_on_a_gpu_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")

    assert hosts.variables(1, "gpu")["CUDA_VISIBLE_DEVICES"] == "3"
    assert (
        hosts.variables(1, "gpu")["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    )  # as NVML and Ray count them
    assert hosts.variables(1, "cpu")["CUDA_VISIBLE_DEVICES"] == ""


# real Pythons


@pytest.mark.slow
@pytest.mark.framework
@pytest.mark.network
@pytest.mark.parametrize("python", ["3.6", "3.13"])
def test_the_reference_runs_and_agrees_with_itself_on_the_oldest_python_and_the_newest(
    python: str,
) -> None:
    version = {"3.6": "1.19.5", "3.13": "2.2.6"}[python]
    text = f"""
        name: smoke
        axes: {{framework: ["reference=={version}"], process: [fork, spawn], device: [cpu], batch_exponent: [0]}}
        parameters: {{samples: 2, warmup: 1, threads: 1}}
        environments: {{"reference=={version}": {{python: "{python}"}}}}
        resources: {{cpu: 1}}
    """
    smoke = grid.parse(text)
    trials = grid.expand(smoke, catalog.frameworks(), catalog.workloads()).trials
    run = worker.RunTrial(
        overrides=smoke.environments, timeout_s=300.0, max_contention=None, steal_most=None
    )

    records = [run(dataclasses.replace(each, attempt=2)) for each in trials]

    for record in records:
        assert (record["status"], record["error"]) == ("ok", "")
        assert record["python"].startswith(f"{python}.")
        assert (record["numpy"], record["threads"], record["attempt"]) == (version, 1, 2)
        assert record["loss_check"] < 1e-4
        assert record["grad_check"] < 1e-4
        assert record["parameter_count"] == 58_396_060
        assert len(record["step_s"]) == 2
        assert record["framework_build"] == f"NumPy {version}"
        assert "OpenBLAS" in record["blas"]
        assert record["data_id"].startswith("synthetic-")
    assert records[0].keys() == records[1].keys()
