"""Slots: who holds which cores, and for how long."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_process import eventually

from sweep.node import machine, slots

HOUSE = Path(__file__).resolve().parent.parent
CORES = len(machine.usable_cores())
# takes a lease, says which cores, and holds it until it is told to let go, or holds it for a while, over and over
HOLDER = """
import sys
from pathlib import Path
from sweep.node import slots
with slots.lease(int(sys.argv[2]), sys.argv[3] == "exclusive", folder=Path(sys.argv[1])) as lease:
    print(*lease.cores, flush=True)
    sys.stdin.read()
"""
CHURN = """
import sys, time
from pathlib import Path
from sweep.node import slots
while True:
    with slots.lease(1, False, folder=Path(sys.argv[1])) as lease:
        print(*lease.cores, flush=True)
        time.sleep(0.02)
"""


@contextlib.contextmanager
def holding(folder: Path, cpu: int, exclusive: bool = False) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(folder), str(cpu), "exclusive" if exclusive else "shared"]
    with started(HOLDER, *arguments) as holder:
        yield holder


@contextlib.contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=HOUSE, **pipes) as child:  # type: ignore[call-overload]
        try:
            yield child
        finally:
            child.kill()


def cores_of(holder: subprocess.Popen[str]) -> set[int]:
    assert holder.stdout
    return {int(core) for core in holder.stdout.readline().split()}


@pytest.mark.skipif(CORES < 2, reason="one core cannot be shared out")
def test_processes_that_lease_at_once_hold_different_cores(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(holding(tmp_path, 1)) for _ in range(CORES)]
        held = [cores_of(holder) for holder in holders]

        assert [len(each) for each in held] == [1] * CORES
        assert set.union(*held) == set(machine.usable_cores())
        with (
            pytest.raises(slots.NoSlot, match="1 free cores in time"),
            slots.lease(1, False, 0.05, tmp_path),
        ):
            pass


def test_cores_are_free_again_when_their_holder_is_killed(tmp_path: Path) -> None:
    with holding(tmp_path, CORES, exclusive=True) as holder:
        assert len(cores_of(holder)) == CORES
        with pytest.raises(slots.NoSlot), slots.lease(1, False, 0.05, tmp_path):
            pass

        holder.send_signal(signal.SIGKILL)

        with slots.lease(CORES, True, 20.0, tmp_path) as lease:
            assert lease.cores == tuple(machine.usable_cores())


def test_a_lease_ends_with_its_block_also_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), slots.lease(CORES, True, folder=tmp_path):
        raise ZeroDivisionError
    with slots.lease(CORES, True, 0.0, tmp_path) as lease:  # with no time to wait
        assert lease.cores == tuple(machine.usable_cores())


def test_an_exclusive_lease_lets_nobody_in_and_waits_until_all_are_out(tmp_path: Path) -> None:
    with holding(tmp_path, 1) as holder:
        cores_of(holder)
        with pytest.raises(slots.NoSlot, match="this node"), slots.lease(1, True, 0.05, tmp_path):
            pass
    with (
        slots.lease(1, True, folder=tmp_path),
        pytest.raises(slots.NoSlot, match="this node"),
        slots.lease(1, False, 0.05, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("cpu", "exclusive"), [(1, True), (CORES, False)], ids=["exclusive", "all cores"]
)
def test_one_that_waits_for_much_is_not_starved_by_those_that_want_little(
    tmp_path: Path, cpu: int, exclusive: bool
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CORES + 1):
            cores_of(stack.enter_context(started(CHURN, str(tmp_path))))
        for _ in range(3):
            with slots.lease(cpu, exclusive, 30.0, tmp_path) as lease:
                assert len(lease.cores) == cpu


def test_more_cores_than_the_node_has_are_refused_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(
            slots.NoSlot, match=f"{CORES + 1} cores are wanted and this node has {CORES}"
        ) as refused,
        slots.lease(CORES + 1, False, folder=tmp_path),
    ):
        pass
    assert "resources" in refused.value.hint


def test_a_lease_says_how_long_it_was_waited_for(tmp_path: Path) -> None:
    with holding(tmp_path, CORES) as holder:
        cores_of(holder)
        began = time.monotonic()
        with contextlib.suppress(slots.NoSlot), slots.lease(1, False, 0.2, tmp_path):
            pass
        assert time.monotonic() - began >= 0.1
        assert holder.stdin
        holder.stdin.close()
        with slots.lease(1, False, 20.0, tmp_path) as lease:
            assert lease.waited_s >= 0.0


def test_what_a_trial_starts_does_not_hold_its_lease(tmp_path: Path) -> None:
    with slots.lease(CORES, True, folder=tmp_path):
        child = subprocess.Popen(["sleep", "60"])
    try:
        with slots.lease(CORES, True, 0.05, tmp_path) as lease:
            assert len(lease.cores) == CORES
    finally:
        child.kill()
        child.wait()


def test_nothing_is_left_open_after_many_leases(tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(20):
        with slots.lease(1, False, folder=tmp_path):
            pass
        with (
            slots.lease(CORES, True, folder=tmp_path),
            contextlib.suppress(slots.NoSlot),
            slots.lease(1, False, 0.0, tmp_path),
        ):
            pass
    assert eventually(lambda: count() == before)


def test_physical_cores_come_before_their_second_threads_and_high_ones_before_low() -> None:
    # two sockets of two cores with two threads each, numbered as Linux does
    cores = [machine.Core(n, (n // 2) % 2, (n // 2) % 2, n % 2) for n in range(8)]

    assert slots.preferred(cores) == [7, 6, 5, 4, 3, 2, 1, 0]
    assert {(cores[n].socket, cores[n].physical) for n in slots.preferred(cores)[:4]} == {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    }
    assert slots.preferred([cores[n] for n in (0, 1, 4, 5)]) == [5, 4, 1, 0]


def test_a_socket_s_cores_stay_together() -> None:
    cores = [
        machine.Core(n, n % 2, n % 2, n // 2) for n in range(4)
    ]  # even ones on one socket, odd ones on the other

    assert slots.preferred(cores) == [3, 1, 2, 0]
