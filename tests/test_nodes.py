"""Somebody's cluster of several nodes, here several raylets on one machine: joined, used, and broken under a sweep."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trials
from ray import cloudpickle
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster as Raylets
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from trials import Trial, Wants, most_at_once, overlap, some, until

from sweep.cluster import Cluster
from sweep.errors import Unavailable
from sweep.node.provision import Provided

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HOUSE = Path(__file__).resolve().parent.parent
for module in (trials, sys.modules[__name__]):  # nodes know nothing of this folder
    cloudpickle.register_pickle_by_value(module)
ALONE = Wants(exclusive=True)


@pytest.fixture(scope="module")
def raylets() -> Iterator[Raylets]:
    """A head without cores, two nodes of two cores, one with GPUs; Ray's files in a folder of the test's own."""
    folder = tempfile.mkdtemp(prefix="st-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        started = Raylets(
            head_node_args={"num_cpus": 0, "include_dashboard": False}, initialize_head=True
        )
        for name in ("one", "two"):
            started.add_node(num_cpus=2, node_name=name, wait=False)
        started.add_node(num_cpus=2, num_gpus=4, node_name="dear", wait=False)
        started.wait_for_nodes()
        yield started
        started.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def said() -> list[str]:
    """What the cluster told its user."""
    return []


@pytest.fixture
def cluster(raylets: Raylets, said: list[str]) -> Iterator[Cluster]:
    """The same nodes, joined anew by each test."""
    with Cluster(raylets.address, wait_s=0, notify=said.append) as joined:
        yield joined


def test_trials_spread_over_the_nodes_and_records_name_them(cluster: Cluster) -> None:
    assert sorted(node.name for node in cluster.nodes) == ["dear", "one", "two"]
    records = list(cluster.map(trials.run, [Trial(str(n), nap_s=0.2, block=n) for n in range(18)]))
    assert set(Counter(r["node"] for r in records)) == {"dear", "one", "two"}
    assert most_at_once(records) > 2


def test_this_process_s_own_code_is_sent_to_the_nodes(cluster: Cluster) -> None:
    for record in cluster.map(trials.run, [Trial(str(n), block=n) for n in range(6)]):
        assert "working_dir_files" in record["code"]
        assert str(HOUSE) not in record["code"]


def test_an_exclusive_trial_has_its_node_to_itself_while_others_run_elsewhere(
    cluster: Cluster,
) -> None:
    mixed = [
        Trial(str(n), nap_s=0.15, block=n, resources=ALONE if n % 2 else Wants()) for n in range(24)
    ]
    alone = {each.id for each in mixed if each.resources.exclusive}
    records = list(cluster.map(trials.run, mixed))
    for mine in records:
        company = [
            r for r in records if r is not mine and r["node"] == mine["node"] and overlap(mine, r)
        ]
        assert not company or (
            mine["trial_id"] not in alone and not {r["trial_id"] for r in company} & alone
        )
    assert most_at_once([r for r in records if r["trial_id"] in alone]) > 1


def test_blocks_stay_on_one_node(cluster: Cluster) -> None:
    """Two blocks and two equal nodes."""
    records = list(
        cluster.map(
            trials.run, [Trial(str(n), nap_s=0.1, block=n // 6, resources=ALONE) for n in range(12)]
        )
    )
    nodes = [{r["node"] for r in records if int(r["trial_id"]) // 6 == block} for block in (0, 1)]
    assert [len(each) for each in nodes] == [1, 1]
    assert nodes[0] != nodes[1]


def test_gpu_trials_run_where_gpus_are_each_with_its_own(cluster: Cluster) -> None:
    on_gpu = [Trial(f"gpu{n}", nap_s=0.3, block=n, resources=Wants(gpu=1)) for n in range(6)]
    records = list(
        cluster.map(
            trials.run, [*on_gpu, *(Trial(f"cpu{n}", nap_s=0.3, block=n) for n in range(4))]
        )
    )
    with_gpu = [r for r in records if r["trial_id"].startswith("gpu")]
    assert {r["node"] for r in with_gpu} == {"dear"}
    assert {r["gpus"] for r in with_gpu} <= {"0", "1", "2", "3"}
    assert {r["node"] for r in records if r["trial_id"].startswith("cpu")} == {"one", "two"}
    assert all(
        one["gpus"] != two["gpus"]
        for one in with_gpu
        for two in with_gpu
        if one is not two and overlap(one, two)
    )


def _signed(folder: str) -> None:
    """Leave a file for the node that this runs on; where a file says so, fail or be slow."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    said = Path(folder) / "refuses"
    if said.exists() and node in said.read_text():
        raise RuntimeError("no room for environments")
    time.sleep(0.5)
    (Path(folder) / node).touch()


def _until_seen(node: str, records: list[dict[str, Any]]) -> Iterator[Trial]:
    """Trials until one has run on that node."""
    for number in range(10_000):
        if any(r["node"] == node for r in records):
            return
        yield Trial(str(number), nap_s=0.2, block=number)
    pytest.fail(f"no trial ran on node {node}")


def _checked(folder: str) -> Callable[[Trial], dict[str, Any]]:
    def run(trial: Trial) -> dict[str, Any]:
        import ray

        ready = (Path(folder) / ray.get_runtime_context().get_node_id()).exists()
        return trials.run(trial) | {"ready": ready}

    return run


def test_every_node_is_prepared_before_it_gets_trials_also_those_that_join_later(
    raylets: Raylets, cluster: Cluster, said: list[str], tmp_path: Path
) -> None:
    cluster.prepare(_signed, str(tmp_path))
    late = None
    heard: list[dict[str, Any]] = []
    for record in cluster.map(_checked(str(tmp_path)), _until_seen("late", heard)):
        late = late or raylets.add_node(num_cpus=2, node_name="late")
        heard.append(record)
    raylets.remove_node(late)
    assert all(r["ready"] for r in heard)
    assert len({r["trial_id"] for r in heard}) == len(heard)
    assert "node late has joined" in said


def test_a_node_that_cannot_be_prepared_gets_no_trials_and_the_rest_goes_on(
    cluster: Cluster, said: list[str], tmp_path: Path
) -> None:
    one = next(node for node in cluster.nodes if node.name == "one")
    (tmp_path / "refuses").write_text(one.id)
    cluster.prepare(_signed, str(tmp_path))
    records = list(cluster.map(trials.run, [Trial(str(n), nap_s=0.1, block=n) for n in range(8)]))
    assert "one" not in {r["node"] for r in records}
    assert said == ["node one is not used: RuntimeError: no room for environments"]


def test_where_no_node_can_be_prepared_the_reason_is_told(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "refuses").write_text(" ".join(node.id for node in cluster.nodes))
    cluster.prepare(_signed, str(tmp_path))
    with pytest.raises(Unavailable, match="no room for environments"):
        list(cluster.map(trials.run, some(3)))


def _held_up_on(argument: tuple[str, str]) -> None:
    """A node whose id this is is prepared once another has run a trial."""
    import ray

    node, mark = argument
    while ray.get_runtime_context().get_node_id() == node and not Path(mark).exists():
        time.sleep(0.05)


def test_nodes_begin_while_another_is_still_being_prepared(
    cluster: Cluster, tmp_path: Path
) -> None:
    slow = next(node for node in cluster.nodes if node.name == "one")
    cluster.prepare(_held_up_on, (slow.id, str(tmp_path / "ran")))
    heard: list[dict[str, Any]] = []
    for record in cluster.map(trials.run, _until_seen("one", heard)):
        heard.append(record)
        (tmp_path / "ran").touch()
    assert heard[0]["node"] != "one"


def _given(lacking: dict[str, list[str]]) -> Provided:
    """What a node has of two environments."""
    import ray

    lacks = lacking.get(ray.get_runtime_context().get_node_id(), [])
    time.sleep(0.0 if lacks else 1.0)  # its answer comes first
    return Provided(
        frozenset({"a", "b"} - set(lacks)), {each: f"{each} cannot be built" for each in lacks}
    )


def test_an_environment_that_fails_on_one_node_is_that_nodes_fault(
    cluster: Cluster, said: list[str]
) -> None:
    ids = {node.name: node.id for node in cluster.nodes}
    cluster.prepare(_given, {ids["one"]: ["b"], ids["two"]: ["a", "b"]})
    records = list(cluster.map(trials.run, [Trial(str(n), nap_s=0.1, block=n) for n in range(8)]))
    assert {r["node"] for r in records} == {"dear"}
    assert sorted(said) == [
        "node one is not used: b cannot be built",
        "node two is not used: a cannot be built",
    ]


def test_an_environment_that_fails_on_every_node_is_no_nodes_fault(
    cluster: Cluster, said: list[str]
) -> None:
    cluster.prepare(_given, {node.id: ["b"] for node in cluster.nodes})
    records = list(cluster.map(trials.run, [Trial(str(n), nap_s=0.3, block=n) for n in range(12)]))
    assert {r["node"] for r in records} == {"one", "two", "dear"}
    assert said == ["no environment: b cannot be built"]


class Spoilt:
    """What cannot be loaded on the nodes whose ids it knows, as where a copy of the code is damaged."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes = nodes

    def __reduce__(self) -> tuple[Any, ...]:
        return _unspoilt, (self.nodes,)

    def __call__(self, trial: Trial) -> dict[str, Any]:
        return trials.run(trial)


def _unspoilt(nodes: list[str]) -> Spoilt:
    import ray

    if ray.is_initialized() and ray.get_runtime_context().get_node_id() in nodes:
        raise ModuleNotFoundError("No module named 'sweep.node'")
    return Spoilt(nodes)


def test_a_node_that_cannot_begin_trials_is_refused_and_its_trials_run_elsewhere(
    cluster: Cluster, said: list[str]
) -> None:
    black_holes = [node.id for node in cluster.nodes if node.name in ("one", "two")]

    def until_refused() -> Iterator[Trial]:
        for number in range(10_000):
            if len(said) == 2:
                return
            yield Trial(str(number), nap_s=0.1, block=number)

    records = list(cluster.map(Spoilt(black_holes), until_refused()))
    assert {(r["status"], r["node"], r["attempt"]) for r in records} == {("ok", "dear", 1)}
    why = "it cannot begin trials: ModuleNotFoundError: No module named 'sweep.node'"
    assert sorted(said) == [f"node one is not used: {why}", f"node two is not used: {why}"]


def test_where_no_node_can_begin_a_trial_the_reason_is_told_and_no_trial_has_failed(
    cluster: Cluster,
) -> None:
    heard: list[dict[str, Any]] = []
    with pytest.raises(Unavailable, match="No module named"):
        heard.extend(cluster.map(Spoilt([node.id for node in cluster.nodes]), some(6)))
    assert heard == []


def test_trials_of_a_node_that_dies_run_elsewhere_and_none_is_lost(
    raylets: Raylets, said: list[str]
) -> None:
    doomed = raylets.add_node(num_cpus=2, node_name="doomed")
    heard = []
    with Cluster(raylets.address, notify=said.append) as cluster:
        todo = [Trial(f"{n:02d}", nap_s=0.2 if n % 2 else 3.0, block=n) for n in range(40)]
        slow = {each.name for each in todo if each.nap_s > 1}
        for record in cluster.map(trials.run, todo):
            heard.append(record)
            runs_there = {name for name, node in cluster.running.items() if node == "doomed"}
            if doomed in raylets.worker_nodes and runs_there & slow:
                raylets.remove_node(doomed, allow_graceful=False)
    assert sorted(r["trial_id"] for r in heard) == [f"{n:02d}" for n in range(40)]
    assert {r["status"] for r in heard} == {"ok"}
    moved = [r for r in heard if r["attempt"] > 1]
    assert moved
    assert all(r["node"] != "doomed" for r in moved)
    assert "node doomed is gone" in said


def test_a_node_that_is_about_to_end_gets_no_more_trials_and_those_that_run_there_end(
    raylets: Raylets, said: list[str]
) -> None:
    """As a spot node from its notice on, where Ray has been told of it."""
    leaving = raylets.add_node(num_cpus=2, node_name="leaving")
    later = []
    naps = [
        Trial(f"{n:02d}", nap_s=3.0, block=n) for n in range(24)
    ]  # longer than from look to look
    with Cluster(raylets.address, notify=said.append) as cluster:
        for record in cluster.map(trials.run, naps):
            assert (record["status"], record["attempt"]) == ("ok", 1)
            if record["node"] == "leaving" and not said:
                assert until(lambda: _drained(raylets.address, leaving.node_id))
            later += [record["node"]] * bool(said)
    raylets.remove_node(leaving)
    assert said[0] == "node leaving is about to end: it gets no more trials"
    assert later.count("leaving") <= 2 < len(later)


def _drained(address: str, node_id: str) -> bool:
    """Tell Ray that a node will be taken away in a minute, as `ray drain-node` does."""
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    in_a_minute = int(time.time() * 1000) + 60_000
    client = GcsClient(address=address)
    return bool(client.drain_node(node_id, reason, "taken away", in_a_minute)[0])


def driver(script: str, **environment: str) -> tuple[int, str, str]:
    start = "import trials, sys\nfrom trials import some\nfrom ray import cloudpickle\nfrom sweep.cluster import Cluster\n"
    start += "from sweep.errors import SweepError\ncloudpickle.register_pickle_by_value(trials)\n"
    paths = f"{HOUSE}:{HOUSE / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-c", start + script],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout, done.stderr


MAPPED = """
with Cluster({address!r}) as cluster:
    records = list(cluster.map(trials.run, some(6)))
    print(sorted(r["status"] for r in records).count("ok"), len({{n.name for n in cluster.nodes}}))
"""


def test_auto_joins_the_cluster_that_was_started_here(raylets: Raylets) -> None:
    assert driver(MAPPED.format(address="auto")) == (0, "6 3\n", "")


def test_ray_address_is_what_auto_joins(raylets: Raylets) -> None:
    assert driver(MAPPED.format(address="auto"), RAY_ADDRESS=raylets.address) == (0, "6 3\n", "")


REFUSED = """
try:
    Cluster({address!r}).open()
except SweepError as error:
    print(error.message, "|", error.hint)
"""

PRETENDER = """
import sys, ray
ray.__version__ = "2.40.0"
from ray.scripts.scripts import main
sys.argv = ["ray", "start", "--head", "--block", "--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
main()
"""


def test_a_cluster_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    """A real head that says it is another."""
    folder = tempfile.mkdtemp(prefix="st-", dir="/tmp")
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", PRETENDER.format(port=port)]
    head = subprocess.Popen(
        command, env={**os.environ, "RAY_TMPDIR": folder}, stdout=subprocess.DEVNULL
    )
    try:
        assert until(lambda: _answers(port))
        code, out, err = driver(REFUSED.format(address=f"127.0.0.1:{port}"))
    finally:
        head.terminate()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
    assert (code, err) == (0, "")
    assert "2.40.0" in out
    assert "use the cluster's Python and Ray versions here" in out


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
