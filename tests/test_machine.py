"""The machine as the kernel tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from sweep.node import machine

BUSY = "while True: pass"


@pytest.fixture
def busy_core() -> Iterator[int]:
    """A core that somebody else keeps busy."""
    core = machine.usable_cores()[-1]
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{core}])\n{BUSY}"]
    ) as other:
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

    assert {
        "governor",
        "smt",
        "numa_nodes",
        "kernel",
        "memory_bytes",
        "transparent_huge_pages",
    } <= facts.keys()
    assert facts["usable_cores"] == len(machine.usable_cores())
    assert 2**28 < facts["memory_bytes"] < 2**50


def test_the_kernel_counts_what_others_do_on_a_core() -> None:
    """Of a process that computes for half a second of its own clock, however long it has to wait for the core."""
    core = machine.usable_cores()[-1]
    work = (
        f"import os, time\nos.sched_setaffinity(0, [{core}])\nwhile time.process_time() < 0.5: pass"
    )
    before = machine.usage([core])
    subprocess.run([sys.executable, "-c", work], check=True)
    after = machine.usage([core])

    assert after.busy_s + after.stolen_s - before.busy_s - before.stolen_s > 0.25
    assert after.at_s > before.at_s


def test_the_counters_are_those_that_another_reader_finds() -> None:
    """Guests' time is in that of the user already, and is not counted twice."""
    core = machine.usable_cores()[-1]
    before, found, after = counters(core), machine.usage([core]), counters(core)

    for early, counted, late in zip(before, (found.busy_s, found.stolen_s), after, strict=True):
        assert early - 1e-6 <= counted <= late + 1e-6


def counters(core: int) -> tuple[float, float]:
    """What psutil says of a core: time that it was busy, and time that was stolen from it."""
    times = psutil.cpu_times(percpu=True)[core]
    return times.user + times.nice + times.system + times.irq + times.softirq, times.steal


def test_somebody_who_wants_a_core_is_counted_as_load(busy_core: int) -> None:
    deadline = time.monotonic() + 20
    while machine.runnable() < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert machine.runnable() >= 1


def test_kills_for_want_of_memory_are_counted() -> None:
    assert machine.out_of_memory_kills() >= 0
