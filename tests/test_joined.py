"""`sweep run --address`: the whole command on somebody's cluster, here several raylets on one machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from raylets import HEAD, Raylets
from tiny import Sweep

from sweep.cluster import Cluster
from sweep.errors import Unavailable
from sweep.records.results import Results

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def sweep() -> Iterator[Sweep]:
    made = Sweep(5, nap_s=0.1)
    made.nodes = [HEAD, "one", "two"]
    yield made
    made.remove()


@pytest.fixture
def client_port() -> int:
    with socket.create_server(("", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def raylets(sweep: Sweep, client_port: int) -> Iterator[Raylets]:
    """A head alone; each test adds what it needs."""
    paths = sweep.environment["PYTHONPATH"]
    with Raylets(
        sweep.tmp, sweep.folder / "r", client_port=client_port, PYTHONPATH=paths
    ) as started:
        yield started


def nodes_of(sweep: Sweep) -> set[str]:
    return set(Results(sweep.results).records(["node"])["node"].to_pylist())


@pytest.mark.parametrize("where", ["host:port", "ray://host:port"])
def test_a_sweep_runs_on_the_nodes_of_a_cluster_that_is_joined(
    sweep: Sweep, raylets: Raylets, client_port: int, where: str
) -> None:
    raylets.add("one", "two")
    address = raylets.address if where == "host:port" else f"ray://127.0.0.1:{client_port}"
    code, said = sweep.run("--address", address)
    assert code == 0, said
    assert sweep.complete()
    assert nodes_of(sweep) == {"one", "two"}
    assert not sweep.temporary_files()


def test_a_cluster_that_is_still_coming_up_is_waited_for(sweep: Sweep, raylets: Raylets) -> None:
    """As just after `ray up`, whose workers are being installed while the head is there."""
    process = sweep.start("--address", raylets.address)
    told = "no node that runs trials is there yet: waiting for one, 600 s at most"
    assert any(told in line for line in iter(process.stderr.readline, ""))
    raylets.add("one", "two")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert sweep.complete()


def test_a_cluster_to_which_no_node_comes_is_refused(raylets: Raylets) -> None:
    with (
        pytest.raises(Unavailable, match="has no node that runs trials"),
        Cluster(raylets.address, wait_s=3),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_an_error_with_a_hint_and_nothing_runs(
    sweep: Sweep, address: str
) -> None:
    code, said = sweep.run("--address", address)
    assert code == 5
    assert f"error: no Ray cluster at {address.removesuffix('127.0.0.1:1')}" in said
    assert "hint: check that the head is up" in said
    assert sweep.kept == 0
    assert not sweep.leavings()
