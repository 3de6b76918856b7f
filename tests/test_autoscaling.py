"""Clusters that start and end nodes themselves, under both of Ray's autoscalers: nodes come when trials want them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trials
from growing import Growing, NodeType
from ray import cloudpickle
from tiny import Sweep
from trials import Trial, Wants, until

from sweep.cluster import Cluster
from sweep.errors import Unavailable

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HOUSE = Path(__file__).resolve().parent.parent
for module in (trials, sys.modules[__name__]):  # nodes know nothing of this folder
    cloudpickle.register_pickle_by_value(module)
ALONE, ON_GPU = Wants(exclusive=True), Wants(gpu=1)
START_S = 240.0  # how long a node may take to come up on a machine that others use, too

Grow = Callable[..., Growing]


@pytest.fixture
def grow() -> Iterator[Grow]:
    """Starts a cluster of these types of nodes, in a folder with a short name: Ray's sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="sg-", dir="/tmp"))
    with contextlib.ExitStack() as leaving:
        leaving.callback(shutil.rmtree, folder, ignore_errors=True)

        def start(v2: bool = True, idle_s: float = 600.0, **types: NodeType) -> Growing:
            return leaving.enter_context(Growing(folder, v2, idle_s, **types))

        yield start


both = pytest.mark.parametrize("v2", [True, False], ids=["v2", "v1"])


def some(count: int, wants: Wants, prefix: str = "", nap_s: float = 0.3) -> list[Trial]:
    return [
        Trial(f"{prefix}{number}", nap_s=nap_s, block=number, resources=wants)
        for number in range(count)
    ]


def nodes_of(records: list[dict[str, Any]]) -> Counter[str]:
    """How many trials ended on nodes of each type, which their names begin with."""
    return Counter(record["node"].rstrip("0123456789") for record in records)


@both
def test_nodes_come_for_trials_that_want_them_no_more_than_help_and_go_when_they_idle(
    grow: Grow, v2: bool
) -> None:
    """From no node; more trials than all nodes can hold at once; a type at 0 beside nodes of another."""
    cluster = grow(v2, 15.0, cpu=NodeType(2, {"CPU": 2}), gpu=NodeType(2, {"CPU": 2, "GPU": 1}))
    said: list[str] = []
    with Cluster(cluster.address, wait_s=START_S, notify=said.append) as joined:
        alone = some(6, ALONE)
        assert joined.find_infeasible(alone) == []
        assert nodes_of(list(joined.map(trials.run, alone))) == {"cpu": 6}
        assert sorted(cluster.started) == ["cpu1", "cpu2"]

        on_gpu = some(1, ON_GPU, "g")
        assert joined.find_infeasible(on_gpu) == []
        assert nodes_of(list(joined.map(trials.run, on_gpu))) == {"gpu": 1}
        assert sorted(cluster.started) == ["cpu1", "cpu2", "gpu3"], "one trial takes one node"
        assert [
            each.reason for each in joined.find_infeasible([Trial("x", resources=Wants(cpu=9))])
        ] == ["want 9 cores and the largest node has 2 cores"]
        assert until(lambda: joined.wait([]) or not joined.nodes, START_S), "nodes that idle end"
    can = "the cluster can start up to 2 cpu (2 cores), 2 gpu (2 cores and 1 GPU)"
    assert said[0] == f"asking for nodes for trials that wait, 6 × 1 core, alone on a node; {can}"
    assert "launching 2 cpu" in said
    assert "node gpu3 is gone" in said


DRIVER = """
import trials
from trials import Trial, Wants
from sweep.cluster import Cluster
with Cluster({address!r}) as cluster:
    list(cluster.map(trials.run, [Trial(str(n), resources=Wants(exclusive=True)) for n in range(8)]))
"""


@both
def test_what_a_killed_driver_asked_for_is_asked_for_no_more(grow: Grow, v2: bool) -> None:
    cluster = grow(v2, cpu=NodeType(2, {"CPU": 2}, fate="refused", cursed=99))
    variables = os.environ | {"PYTHONPATH": f"{HOUSE}:{HOUSE / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(address=cluster.address)], env=variables
    ) as driver:
        assert until(lambda: cluster.demand() == {"CPU": 4.0}, START_S), (
            "both nodes that there can be"
        )
        driver.kill()
    assert until(lambda: not cluster.demand(), 60)


def test_a_type_that_never_comes_ends_the_wait_with_the_reason_and_the_records_so_far(
    grow: Grow,
) -> None:
    cluster = grow(
        cpu=NodeType(1, {"CPU": 2}),
        gpu=NodeType(1, {"CPU": 2, "GPU": 1}, fate="refused", cursed=99),
    )
    said: list[str] = []
    records: list[dict[str, Any]] = []
    with Cluster(cluster.address, wait_s=START_S, notify=said.append) as joined:
        wanting = [*some(2, ON_GPU, "g"), *some(3, Wants())]
        assert joined.find_infeasible(wanting) == []
        with pytest.raises(
            Unavailable, match=r"2 trials are left .* gpu could not be launched: .*no quota for gpu"
        ):
            _kept(records, joined, wanting)
    assert nodes_of(records) == {"cpu": 3}
    assert [text for text in said if "no quota for gpu" in text]


def _kept(records: list[dict[str, Any]], joined: Cluster, wanting: list[Trial]) -> None:
    """Wait for the first node as long as that takes, and then no longer than three seconds."""
    for record in joined.map(trials.run, wanting):
        records.append(record)
        joined._wait_s = 3.0


def test_a_node_that_is_lost_while_it_is_launched_is_replaced(grow: Grow) -> None:
    cluster = grow(cpu=NodeType(1, {"CPU": 2}, fate="lost", cursed=1))
    with Cluster(cluster.address, wait_s=START_S) as joined:
        assert nodes_of(list(joined.map(trials.run, some(3, Wants())))) == {"cpu": 3}


def _damaged(_: None) -> None:
    """On a node whose variables say so, a file of the copy of the code is cut once the node has been found sound."""
    import sweep

    if "SWEEP_TEST_DAMAGED" in os.environ:
        (Path(sweep.__file__).parent / "cluster" / "mapping.py").write_text("")


def test_a_black_hole_is_refused_and_its_trials_run_elsewhere(grow: Grow) -> None:
    """A damaged copy of the code on one of two nodes: what starts there anew cannot be loaded."""
    hole = NodeType(1, {"CPU": 4, "dark": 1}, variables={"SWEEP_TEST_DAMAGED": "1"})
    cluster = grow(sound=NodeType(1, {"CPU": 2, "light": 1}), hole=hole)
    said: list[str] = []
    with Cluster(cluster.address, wait_s=START_S, notify=said.append) as joined:
        both_up = [Trial(name, resources=Wants(custom={name: 1})) for name in ("light", "dark")]
        assert nodes_of(list(joined.map(trials.run, both_up))) == {"sound": 1, "hole": 1}
        joined.prepare(_damaged, None)
        records = list(joined.map(trials.run, _until_refused("hole", said)))
    assert {(record["status"], record["attempt"]) for record in records} == {("ok", 1)}
    assert [text for text in said if "hole" in text and "it cannot begin trials: " in text]


def _until_refused(node: str, said: list[str]) -> Iterator[Trial]:
    """Ray workers that had loaded the code before go on for a while."""
    for number in range(3_000):
        if any(node in text and "is not used" in text for text in said):
            return
        yield Trial(f"{number:04d}", nap_s=0.1, block=number)
    pytest.fail(f"node {node} is still used")


def test_a_sweep_with_a_plug_in_from_no_node_where_one_node_has_no_room_for_environments(
    grow: Grow, tmp_path: Path
) -> None:
    """The whole command; the workload is a package that only the driver knows."""
    (tmp_path / "file").touch()
    full = NodeType(
        1, {"CPU": 2}, variables={"SWEEP_ENV_DIR": str(tmp_path / "file" / "environments")}
    )
    sweep = Sweep(6, nap_s=0.3, exclusive=True)
    try:
        cluster = grow(sound=NodeType(1, {"CPU": 2}), full=full)
        code, said = sweep.run("--address", cluster.address, "--wait", f"{START_S:.0f}")
        assert (code, sweep.complete()) == (0, True), said
        assert nodes_of(sweep.records.records(["node"]).to_pylist()) == {"sound": 24}
    finally:
        sweep.remove()
    assert "asking for nodes for trials that wait, 24 × 1 core, alone on a node" in said
    assert "node full2 is not used" in said or "node full1 is not used" in said
