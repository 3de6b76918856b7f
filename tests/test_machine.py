"""The machine as the kernel tells it, and what others took of a trial's cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sweep import disturbance, machine
from sweep.disturbance import Limits
from sweep.machine import Usage

BUSY = "while True: pass"


@pytest.fixture
def busy_core() -> Iterator[int]:
    """A core that somebody else keeps busy."""
    core = machine.usable_cores()[-1]
    with subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{core}])\n{BUSY}"]) as other:
        yield core
        other.kill()


def test_the_cpu_has_a_name() -> None:
    assert machine.cpu_model()
    assert machine.cpu_model() == machine.cpu_model().strip()


def test_the_usable_cores_are_those_that_this_process_may_run_on() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [max(before)])
        assert machine.usable_cores() == [max(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_facts_are_json_and_name_what_bears_on_timings() -> None:
    facts = json.loads(machine.facts_json())

    assert {"governor", "smt", "numa_nodes", "kernel", "memory_bytes", "transparent_huge_pages"} <= facts.keys()
    assert facts["usable_cores"] == len(machine.usable_cores())
    assert 2**28 < facts["memory_bytes"] < 2**50


def test_the_kernel_counts_what_others_do_on_a_core(busy_core: int) -> None:
    before = machine.usage([busy_core])
    time.sleep(0.6)
    after = machine.usage([busy_core])

    taken_s = after.busy_s - before.busy_s + after.stolen_s - before.stolen_s
    assert 0.3 * (after.at_s - before.at_s) < taken_s < 1.2 * (after.at_s - before.at_s)


def test_somebody_who_wants_a_core_is_counted_as_load(busy_core: int) -> None:
    deadline = time.monotonic() + 20
    while machine.runnable() < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert machine.runnable() >= 1


def test_kills_for_want_of_memory_are_counted() -> None:
    assert machine.out_of_memory_kills() >= 0


def test_what_is_not_the_trial_s_own_is_others() -> None:
    before, after = Usage(10.0, 1.0, 100.0), Usage(13.0, 1.4, 102.0)

    found = disturbance.shares(before, after, cores=2, own_s=2.0)

    assert found == {"foreign_ratio": pytest.approx(0.25), "steal_ratio": pytest.approx(0.1)}


def test_nobody_took_less_than_nothing() -> None:
    """The kernel counts a core's time in ticks and a process's exactly: the two may disagree by a tick."""
    assert disturbance.shares(Usage(1.0, 0.0, 0.0), Usage(1.9, 0.0, 1.0), 1, own_s=0.91)["foreign_ratio"] == 0.0


def test_a_trial_of_a_few_ticks_is_not_judged() -> None:
    assert disturbance.shares(Usage(1.0, 0.0, 0.0), Usage(1.01, 0.0, 0.005), 1, own_s=0.0) == {
        "foreign_ratio": None,
        "steal_ratio": None,
    }
    assert disturbance.contamination({"foreign_ratio": None, "steal_ratio": None}, Limits()) == ""


@pytest.mark.parametrize(
    ("record", "limits", "reason"),
    [
        ({"foreign_ratio": 0.51}, Limits(), "other processes took 51% of its cores' time"),
        ({"foreign_ratio": 0.49}, Limits(), ""),
        ({"foreign_ratio": 0.2}, Limits(foreign_most=0.1), "other processes took 20% of its cores' time"),
        ({"foreign_ratio": 1.0}, Limits(foreign_most=None), ""),
        ({"steal_ratio": 0.31}, Limits(), "the hypervisor took 31% of its cores' time"),
        ({"steal_ratio": 0.31}, Limits(steal_most=None), ""),
    ],
)
def test_a_trial_is_contaminated_beyond_the_limits_and_not_below(record: object, limits: Limits, reason: str) -> None:
    assert disturbance.contamination(record, limits) == reason  # type: ignore[arg-type]


def test_a_worker_that_ran_elsewhere_or_with_other_threads_says_so() -> None:
    assert disturbance.misplacement({"cores": [0, 1], "threads": 2}, [0, 1], 2) == ""
    assert disturbance.misplacement({"cores": [0, 1], "threads": None}, [0, 1], 2) == ""  # nothing counts threads there
    assert (
        disturbance.misplacement({"cores": [0, 1, 2]}, [0, 1], 2) == "it ran on cores [0, 1, 2] and was bound to [0, 1]"
    )
    assert disturbance.misplacement({"threads": 4}, [0, 1], 2) == "it computed with 4 threads and was given 2"
