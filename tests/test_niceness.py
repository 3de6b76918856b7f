"""Trials run at the niceness of the command, whatever Ray does, and their records say at which."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from raylets import HEAD, Raylets
from tiny import Sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OWN = os.getpriority(os.PRIO_PROCESS, 0)
# without the right to be less nice than one is
UNPRIVILEGED = ("setpriv", "--inh-caps=-sys_nice", "--bounding-set=-sys_nice")


@pytest.fixture
def sweep() -> Iterator[Sweep]:
    made = Sweep(1, nap_s=0.01)
    yield made
    made.remove()


def recorded(sweep: Sweep) -> set[int]:
    return set(sweep.records.records(["niceness"])["niceness"].to_pylist())


@pytest.mark.parametrize("more", [0, 3])
def test_trials_are_as_nice_as_the_command(sweep: Sweep, more: int) -> None:
    code, said = sweep.run(before=("nice", "-n", str(more)))
    assert code == 0, said
    assert recorded(sweep) == {OWN + more}
    assert "niceness" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be less nice than it was made")
def test_trials_on_a_cluster_that_is_joined_are_as_nice_as_the_command(sweep: Sweep) -> None:
    sweep.nodes = [HEAD, "one"]
    with Raylets(
        sweep.tmp, sweep.folder / "r", PYTHONPATH=sweep.environment["PYTHONPATH"]
    ) as raylets:
        raylets.add("one")
        code, said = sweep.run("--address", raylets.address)
    assert code == 0, said
    assert recorded(sweep) == {OWN}
    assert "niceness" not in said


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv, of util-linux")
def test_where_trials_must_stay_nicer_it_is_recorded_and_warned_of_once(sweep: Sweep) -> None:
    unprivileged = UNPRIVILEGED if os.geteuid() == 0 else ()
    code, said = sweep.run(before=unprivileged, RAY_worker_niceness="4")
    assert code == 0, said
    assert recorded(sweep) == {OWN + 4}
    assert said.count(f"runs trials at niceness {OWN + 4}, and this command has {OWN}") == 1
    assert "hint: start Ray there with RAY_worker_niceness=0" in said
