"""Whatever breaks under `sweep run`, a second one finishes, each trial has its record, and nothing is left behind."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from plugged import PLUGINS
from small import data_set
from tiny import HOUSE, Sweep
from trials import until

from sweep.records.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def sweep() -> Iterator[Sweep]:
    """Forty trials of a fifth of a second."""
    made = Sweep(10, nap_s=0.2)
    yield made
    made.remove()


def under_way(sweep: Sweep, *options: str) -> subprocess.Popen[str]:
    """Started, and some records are there."""
    process = sweep.start(*options)
    assert until(lambda: sweep.kept >= 4 or process.poll() is not None, 200)
    assert process.poll() is None, process.communicate()
    return process


def struck(sweep: Sweep, part: str, number: int = signal.SIGKILL) -> psutil.Process:
    """One process of that part of the sweep, which has got the signal."""
    hit: list[psutil.Process | None] = []
    assert until(lambda: hit.append(sweep.strike(part, number)) or hit[-1])
    return hit[-1]


def finish(sweep: Sweep, *options: str) -> str:
    """A second run does what is missing."""
    code, said = sweep.run(*options)
    assert code == 0, said
    assert sweep.complete()
    assert sweep.alone()
    return said


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=200)
    assert "Traceback" not in err
    return process.returncode, err


def statuses(sweep: Sweep) -> set[str]:
    return {status for status, _ in Results(sweep.results).statuses().values()}


def test_after_the_driver_is_killed_a_second_run_finishes(sweep: Sweep) -> None:
    process = under_way(sweep)
    process.kill()
    process.communicate()
    kept = sweep.kept
    assert until(lambda: not sweep.family(), 60), sweep.family()
    assert sweep.kept == kept < sweep.count
    finish(sweep)


def test_a_trial_whose_ray_worker_is_killed_runs_again(sweep: Sweep) -> None:
    process = under_way(sweep)
    struck(sweep, "Ray worker")
    assert end(process)[0] == 0
    assert sweep.complete()
    assert max(attempt for _, attempt in Results(sweep.results).statuses().values()) == 2
    assert sweep.alone()


@pytest.mark.parametrize("part", ["fork server", "trial"])
def test_a_killed_process_of_a_trial_is_a_record_that_says_so_and_runs_again_when_asked(
    sweep: Sweep, part: str
) -> None:
    process = under_way(sweep)
    struck(sweep, part)
    code, _ = end(process)
    assert code == 1
    assert statuses(sweep) == {"ok", "crashed"}
    records = Results(sweep.results).records(["status", "error"]).to_pylist()
    assert ["SIGKILL" in r["error"] for r in records if r["status"] == "crashed"] == [True]
    finish(sweep, "--retry", "failed")


TRAINING = """
name: tiny
workload: learning
axes: {{framework: [reference], seed: 0}}
parameters: {{poses: {poses}, epochs: 300}}
"""


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Sweep]:
    """A sweep of one training, which writes a checkpoint after each epoch."""
    made = Sweep(1)
    made.grid.write_text(TRAINING.format(poses=data_set(tmp_path / "poses")))
    made.paths = f"{HOUSE}:{PLUGINS}"
    yield made
    made.remove()


@pytest.mark.timeout(900)  # three times `sweep run`
def test_a_killed_training_goes_on_when_failed_trials_run_again(training: Sweep) -> None:
    """A record says that it was killed: as every trial with a record, it runs again only when that is asked for."""
    process = training.start()
    assert until(lambda: bool(list(training.results.glob("checkpoints/*/last.npz"))), 200)
    struck(training, "trial")
    assert end(process)[0] == 1
    assert statuses(training) == {"crashed"}

    code, _ = training.run()
    assert (code, statuses(training)) == (1, {"crashed"})

    code, said = training.run("--retry", "failed")
    assert code == 0, said
    [record] = Results(training.results).records(["status", "resumed_after", "epoch_s"]).to_pylist()
    assert record["status"] == "ok"
    assert 0 < record["resumed_after"][0] < len(record["epoch_s"]) == 300


def test_a_trial_that_hangs_is_ended_by_its_time_limit(sweep: Sweep) -> None:
    process = under_way(sweep, "--timeout", "5s")
    struck(sweep, "trial", signal.SIGSTOP)
    code, _ = end(process)
    assert code == 1
    assert statuses(sweep) == {"ok", "timeout"}
    finish(sweep, "--retry", "timeout")


def test_a_fork_server_that_hangs_holds_nothing_up(sweep: Sweep) -> None:
    """Its trial has told its outcome by then, or is ended by its time limit."""
    process = under_way(sweep, "--timeout", "5s")
    struck(sweep, "fork server", signal.SIGSTOP)
    end(process)
    assert statuses(sweep) <= {"ok", "timeout", "crashed"}
    finish(sweep, "--retry", "all")


@pytest.fixture
def long_sweep() -> Iterator[Sweep]:
    """Longer than the ten seconds that a head may be silent."""
    made = Sweep(10, nap_s=1.5)
    yield made
    made.remove()


@pytest.mark.parametrize("part", ["raylet", "head"])
def test_where_ray_itself_dies_the_error_is_clear_and_a_second_run_finishes(
    long_sweep: Sweep, part: str
) -> None:
    sweep = long_sweep
    process = under_way(sweep)
    struck(sweep, part)
    code, said = end(process)
    assert code == 5, said
    assert "error: " in said
    assert "the records so far are safe" in said
    finish(sweep)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_ends_the_sweep_and_a_second_run_finishes(sweep: Sweep, times: int) -> None:
    process = under_way(sweep)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    code, _ = end(process)
    assert code == 130
    assert sweep.kept < sweep.count
    assert sweep.alone()
    finish(sweep)


def test_a_machine_that_sleeps_and_wakes_goes_on(sweep: Sweep) -> None:
    """Everything stops, and goes on later, as a lid that is closed and opened."""
    process = under_way(sweep)
    family = sweep.family()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        time.sleep(8)
    assert end(process)[0] == 0
    assert sweep.complete()
    assert sweep.alone()


def test_a_second_sweep_into_the_same_folder_is_refused_and_the_first_goes_on(sweep: Sweep) -> None:
    process = under_way(sweep)
    code, said = sweep.run()
    assert code == 5
    assert "is being written by another sweep run (process" in said
    assert end(process)[0] == 0
    assert sweep.complete()
    assert sweep.alone()


@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_a_damaged_part_is_named_and_its_trials_run_again(sweep: Sweep, harm: str) -> None:
    process = under_way(sweep)
    process.send_signal(signal.SIGINT)
    end(process)
    victim = random.Random(0).choice(sorted((sweep.results / "records").glob("*.parquet")))
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 16
    victim.write_bytes(data if harm == "flipped" else data[: len(data) // 2])
    assert victim.name in finish(sweep)
    assert [path.name for path in (sweep.results / "quarantine").iterdir()] == [victim.name]


@pytest.fixture
def memory_limit() -> Iterator[Path]:
    """The file that bounds the memory of a control group of this test's own, which may be of either version."""
    first = Path("/sys/fs/cgroup/memory")
    group = (first if first.is_dir() else first.parent) / f"sweep-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this container may not make control groups")
    limits = [
        group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists()
    ]
    if limits:
        yield limits[0]
    assert until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()
    if not limits:
        pytest.skip("control groups do not bound memory here")


def test_trials_that_the_kernel_kills_for_want_of_memory_say_so_and_run_when_there_is_some(
    memory_limit: Path,
) -> None:
    """A quarter of the trials take a gigabyte; with all else, which takes half of one, there is not room for it."""
    sweep = Sweep(5, eats_bytes=10**9)
    try:
        memory_limit.write_text("900000000")
        process = sweep.start()
        (memory_limit.parent / "cgroup.procs").write_text(str(process.pid))
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:2])
        assert end(process)[0] == 1
        rows = sweep.records.records(["letter", "status"]).to_pylist()
        assert {(row["letter"], row["status"]) for row in rows} == {
            ("a", "ok"),
            ("b", "ok"),
            ("c", "ok"),
            ("d", "oom"),
        }
        finish(sweep, "--retry", "all")
    finally:
        sweep.remove()


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The time of day for Python code is wrong by as many seconds as the file TEST_CLOCK says; no other clock is. */
int clock_gettime(clockid_t which, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("TEST_CLOCK"), *name;
    Dl_info caller;
    long seconds = 0;
    FILE *file;
    int failed = real(which, now);
    if (failed || which != CLOCK_REALTIME || !path || !dladdr(__builtin_return_address(0), &caller)) return failed;
    name = strrchr(caller.dli_fname, '/');
    name = name ? name + 1 : caller.dli_fname;
    if (strncmp(name, "python", 6) && strncmp(name, "libpython", 9)) return failed;
    if ((file = fopen(path, "r"))) {
        if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
        fclose(file);
    }
    return 0;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that says by how much the time of day is wrong, and the variables for processes that believe it."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "clock.c", "-ldl"], check=True
    )
    said = tmp_path / "seconds"
    said.write_text("0")
    return said, {"LD_PRELOAD": str(library), "TEST_CLOCK": str(said)}


def test_a_clock_that_is_set_back_and_forth_loses_no_trial_and_changes_no_time(
    sweep: Sweep, clock: tuple[Path, dict[str, str]]
) -> None:
    """As the driver, Ray's Python and its workers see it: the machine's own clock is not a test's to set."""
    seconds, variables = clock
    process = sweep.start(**variables)
    for kept, step in ((4, -3600), (14, 7200)):
        while sweep.kept < kept and process.poll() is None:
            time.sleep(0.1)
        seconds.write_text(str(step))
    assert end(process)[0] == 0
    assert sweep.complete()
    assert sweep.alone()
    rows = sweep.records.records(["started_at", "wall_s", "step_s"]).to_pylist()
    now = dt.datetime.now(dt.UTC)
    assert {round((row["started_at"] - now).total_seconds() / 3600) for row in rows} == {0, -1, 2}
    assert all(0.2 <= row["step_s"][0] <= row["wall_s"] < 3600 for row in rows)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False
    ).returncode:
        pytest.skip("this container may not mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def resized(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{size}", disk], check=True)


def test_on_a_full_disk_the_sweep_ends_with_an_error_and_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    sweep = Sweep(10, out=str(small_disk))
    try:
        (small_disk / "ballast").write_bytes(bytes(900_000))
        code, said = sweep.run()
        assert code == 5, said
        assert "No space left on device" in said
        assert "the records so far are safe" in said or "what is there is safe" in said
        resized(small_disk, "size=64m")
        finish(sweep)
    finally:
        sweep.remove()


def test_a_results_folder_that_cannot_be_written_is_an_error_before_anything_runs(
    small_disk: Path,
) -> None:
    sweep = Sweep(2, out=str(small_disk))
    try:
        resized(small_disk, "ro")
        code, said = sweep.run()
        assert code == 5
        assert "cannot be written to: Read-only file system" in said
        resized(small_disk, "rw,size=64m")
        finish(sweep)
    finally:
        sweep.remove()


@pytest.mark.network
def test_an_environment_that_does_not_fit_on_the_disk_is_built_when_there_is_room(
    small_disk: Path,
) -> None:
    sweep = Sweep(2)
    try:
        code, said = sweep.run(SWEEP_ENV_DIR=str(small_disk))
        assert code == 5, said
        assert "env_failed: no environment for reference" in said
        resized(small_disk, "size=2g")
        code, said = sweep.run("--retry", "all", SWEEP_ENV_DIR=str(small_disk))
        assert code == 0, said
        assert sweep.complete()
        assert sweep.alone()
    finally:
        sweep.remove()


def test_a_soak_of_random_kills_ends_complete() -> None:
    """SWEEP_SOAK says how many trials; every few seconds some process of the sweep dies."""
    sweep = Sweep(int(os.environ.get("SWEEP_SOAK", "240")) // 4, nap_s=0.02)
    chance = random.Random(7)
    parts = ["trial", "fork server", "Ray worker", "raylet", "head", "driver"]
    try:
        for _ in range(200):
            process = sweep.start("--retry", "all")
            while process.poll() is None:
                time.sleep(chance.uniform(2, 6))
                sweep.strike(chance.choices(parts, [8, 4, 4, 1, 1, 1])[0])
            process.communicate()
            if process.returncode == 0:
                break
        finish(sweep, "--retry", "all")
    finally:
        sweep.remove()
