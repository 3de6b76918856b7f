"""A Ray of our own on this machine: one session for the file, and processes of their own where one must end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import trials
from ray import cloudpickle
from trials import Trial, Wants, most_at_once, overlap, remains, some, until

from sweep.cluster import Cluster, infeasible_error
from sweep.cluster.addresses import heads_of_this_machine
from sweep.cluster.mapping import WINDOW
from sweep.errors import SweepError, Unavailable

pytestmark = pytest.mark.ray

HOUSE = Path(__file__).resolve().parent.parent
for module in (trials, sys.modules[__name__]):  # Ray's workers know nothing of this folder
    cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two cores and four GPUs, as far as Ray knows."""
    with Cluster(cpus=2, gpus=4) as opened:
        yield opened


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def driver(script: str, **environment: str) -> subprocess.Popen[str]:
    """A process that has a cluster of its own; what it writes goes through pipes."""
    start = f"import sys, time, trials\nfrom trials import some, Trial\nfrom sweep.cluster import Cluster\n{script}"
    return subprocess.Popen(
        [sys.executable, "-c", start],
        env={**os.environ, "PYTHONPATH": f"{HOUSE}:{HOUSE / 'tests'}", **environment},
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_trial_has_one_record_that_names_its_node(cluster: Cluster) -> None:
    records = list(cluster.map(trials.run, some(50)))
    assert sorted(r["trial_id"] for r in records) == [each.id for each in some(50)]
    assert {r["node"] for r in records} == {socket.gethostname()}
    assert {r["status"] for r in records} == {"ok"}


def test_no_more_trials_run_than_there_are_cores(cluster: Cluster) -> None:
    assert most_at_once(list(cluster.map(trials.run, some(8, nap_s=0.1)))) == 2


def test_the_next_trial_computes_while_what_has_ended_is_kept(
    cluster: Cluster, tmp_path: Path
) -> None:
    groups = cluster.map_together(
        trials.run, [*some(2), Trial("next", deed="child", mark=f"{tmp_path}/")]
    )
    assert {record["status"] for record in next(groups)} == {"ok"}
    assert until((tmp_path / "next").exists)
    groups.close()


def test_an_exclusive_trial_waits_until_what_has_ended_is_kept(
    cluster: Cluster, tmp_path: Path
) -> None:
    alone = Wants(exclusive=True)
    last = Trial("next", deed="child", mark=f"{tmp_path}/", resources=alone)
    groups = cluster.map_together(trials.run, [Trial("first", resources=alone), last])
    assert [record["trial_id"] for record in next(groups)] == ["first"]
    time.sleep(0.5)
    assert not (tmp_path / "next").exists()
    groups.close()


def test_an_exclusive_trial_has_no_company(cluster: Cluster) -> None:
    alone = Wants(exclusive=True)
    mixed = [Trial(str(n), nap_s=0.1, resources=alone if n % 3 == 0 else Wants()) for n in range(9)]
    records = {r["trial_id"]: r for r in cluster.map(trials.run, mixed)}
    for trial in mixed:
        if trial.resources.exclusive:
            mine = records[trial.id]
            others = [r for r in records.values() if r is not mine]
            assert not any(overlap(mine, r) for r in others)


def test_trials_are_taken_as_they_are_needed(cluster: Cluster) -> None:
    taken = 0

    def endless() -> Iterator[Trial]:
        nonlocal taken
        while True:
            taken += 1
            yield Trial(str(taken))

    records = cluster.map(trials.run, endless())
    for _ in range(20):
        next(records)
    records.close()
    assert taken <= WINDOW + 20 + 2


def test_what_runs_is_ended_when_the_caller_stops_listening(
    cluster: Cluster, tmp_path: Path
) -> None:
    records = cluster.map(
        trials.run, [Trial("quick"), Trial("slow", deed="child", mark=f"{tmp_path}/")]
    )
    next(records)
    assert until((tmp_path / "slow").exists)
    records.close()
    pid = int((tmp_path / "slow").read_text())
    assert until(lambda: not psutil.pid_exists(pid))
    assert [r["status"] for r in cluster.map(trials.run, some(2))] == ["ok", "ok"]


def test_trials_see_the_gpus_that_they_were_given_and_no_others(cluster: Cluster) -> None:
    two = Wants(cpu=0.5, gpu=2)
    records = list(cluster.map(trials.run, [*some(4, nap_s=0.3, resources=two), Trial("none")]))
    seen = {r["trial_id"]: r["gpus"] for r in records}
    assert seen.pop("none") == ""
    assert {len(set(gpus.split(","))) for gpus in seen.values()} == {2}
    for one in records:
        for other in records:
            if one is not other and overlap(one, other):
                assert not set(filter(None, one["gpus"].split(","))) & set(other["gpus"].split(","))


def test_trials_that_no_node_can_hold_are_known_before_any_runs(cluster: Cluster) -> None:
    wanting = [*some(3), Trial("a", resources=Wants(gpu=8)), Trial("b", resources=Wants(gpu=8))]
    infeasible = cluster.find_infeasible(wanting)
    assert [each.trial.id for each in infeasible] == ["a", "b"]
    error = infeasible_error(infeasible, len(wanting))
    assert (
        error.message == "2 of 5 trials want 8 GPUs and the largest node has 4 GPUs, first trial/a"
    )
    assert "GPU" in error.hint


def test_trials_left_without_a_node_are_an_error_and_not_a_silence(cluster: Cluster) -> None:
    with pytest.raises(Unavailable, match=r"1 trials? .*no node can hold.* trial/x"):
        list(
            cluster.map(trials.run, [*some(3), Trial("x", resources=Wants(custom={"quantum": 1}))])
        )


def test_a_function_that_raises_is_a_failed_record_with_what_it_said(cluster: Cluster) -> None:
    bad, good = sorted(
        cluster.map(trials.run, [Trial("bad", deed="raise"), Trial("good")]),
        key=lambda r: r["trial_id"],
    )
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert "trial/bad will not" in bad["error"]


def test_a_trial_whose_ray_worker_dies_once_is_tried_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    trial = Trial("x", deed="die once", mark=str(tmp_path / "died"))
    records = list(cluster.map(trials.run, [trial, *some(3)]))
    assert {r["trial_id"]: r["attempt"] for r in records} == {
        "x": 2,
        "0000": 1,
        "0001": 1,
        "0002": 1,
    }
    assert {r["status"] for r in records} == {"ok"}


def test_a_trial_that_kills_every_ray_worker_is_crashed_and_the_rest_goes_on(
    cluster: Cluster,
) -> None:
    records = {
        r["trial_id"]: r for r in cluster.map(trials.run, [Trial("x", deed="die"), *some(5)])
    }
    assert (
        records.pop("x")["error"]
        == f"the Ray worker on node {socket.gethostname()} was killed, 3 times"
    )
    assert [r["status"] for r in records.values()] == ["ok"] * 5


def test_a_trial_that_does_not_answer_in_time_is_placed_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    trial = Trial("x", deed="hang once", mark=str(tmp_path / "hung"))
    (record,) = cluster.map(trials.run, [trial], limit_s=1.0)
    assert (record["status"], record["attempt"]) == ("ok", 2)


def test_what_trials_say_while_they_run_is_heard(cluster: Cluster) -> None:
    said: list[Any] = []
    list(
        cluster.map(
            trials.telling, some(2), on_progress=lambda trial, facts: said.append((trial.id, facts))
        )
    )
    for trial in some(2):
        heard = [facts for who, facts in said if who == trial.id]
        assert heard == [None, {"step": 0}, {"step": 1}, {"step": 2}]
    (bad,) = cluster.map(trials.telling, [Trial("bad", deed="raise")], on_progress=lambda *_: None)
    assert (bad["status"], "trial/bad will not" in bad["error"]) == ("failed", True)


def test_a_node_is_prepared_on_all_its_cores(cluster: Cluster, tmp_path: Path) -> None:
    cluster.prepare(_cores_to, tmp_path / "cores")
    assert [r["status"] for r in cluster.map(trials.run, some(2))] == ["ok", "ok"]
    cores = os.sched_getaffinity(0) | cluster.session.cores  # type: ignore[operator]
    assert (tmp_path / "cores").read_text() == str(sorted(cores))


def _cores_to(file: Path) -> None:
    file.write_text(str(sorted(os.sched_getaffinity(0))))


@pytest.mark.slow
def test_ten_thousand_trials_take_no_more_memory_than_a_thousand(cluster: Cluster) -> None:
    records = cluster.map(trials.run, some(10_000))
    for _ in range(1_000):
        next(records)
    before = psutil.Process().memory_info().rss
    assert sum(1 for _ in records) == 9_000
    assert psutil.Process().memory_info().rss - before < 20_000_000


@pytest.mark.slow
def test_a_ray_of_our_own_writes_nothing_and_leaves_nothing(own_tmp: Path) -> None:
    """Also where Ray workers die, and where RAY_ADDRESS names another cluster."""
    with driver(
        "said = []\n"
        "with Cluster(cpus=2, notify=said.append) as c:\n"
        "    records = list(c.map(trials.run, [Trial('x', deed='die'), *some(4)]))\n"
        "print(len(records), said)",
        RAY_ADDRESS="192.0.2.1:6379",
    ) as process:
        out, err = process.communicate()
    assert out == "5 ['RAY_ADDRESS is set but not used; --address auto joins that cluster']\n"
    assert err == ""
    assert remains(own_tmp) == []


INTERRUPTED = """
with Cluster(cpus=2) as c:
    try:
        for record in c.map(trials.run, [*some(3), *(Trial(x, deed="child", mark={mark!r}) for x in "ab")]):
            print(record["trial_id"], flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
"""


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_ends_what_runs_and_keeps_what_was_found(
    own_tmp: Path, tmp_path: Path, times: int
) -> None:
    with driver(INTERRUPTED.format(mark=f"{tmp_path}/")) as process:
        assert until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        children = [int((tmp_path / name).read_text()) for name in "ab"]
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        out, err = process.communicate()
    assert sorted(out.split()[:3]) == ["0000", "0001", "0002"]
    assert "interrupted" in out
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert until(lambda: not any(psutil.pid_exists(pid) for pid in children), 5)
    assert until(lambda: remains(own_tmp) == [], 15), remains(own_tmp)


@pytest.mark.slow
def test_what_a_killed_driver_leaves_goes_by_itself_or_with_the_next_start(
    own_tmp: Path, tmp_path: Path
) -> None:
    with driver(INTERRUPTED.format(mark=f"{tmp_path}/")) as process:
        assert until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        process.kill()
    children = [int((tmp_path / name).read_text()) for name in "ab"]
    assert until(lambda: not any(psutil.pid_exists(pid) for pid in children), 20)
    assert until(
        lambda: not [left for left in remains(own_tmp) if left.startswith("process")], 60
    ), remains(own_tmp)
    with driver("with Cluster(cpus=1): pass") as process:
        process.communicate()
    assert remains(own_tmp) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster at"),
        ("ray://127.0.0.1:1", "no Ray cluster at ray://127.0.0.1:1"),
        ("nowhere.invalid:6379", "no Ray cluster at nowhere.invalid:6379"),
        ("ray://nowhere.invalid", "is no address of a Ray cluster"),
        ("http://127.0.0.1:6379", "is no address of a Ray cluster"),
        ("nonsense", "is no address of a Ray cluster"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_refused_and_none_is_started_instead(
    address: str, said: str
) -> None:
    with pytest.raises(SweepError, match=said), Cluster(address):
        pass


def test_what_answers_but_is_no_ray_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unavailable, match="no Ray cluster at"), Cluster(address):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_says_nothing_is_refused_within_seconds_also_where_connections_are_encrypted(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with socket.create_server(
        ("", 0)
    ) as silent:  # Ray calls this machine by another address than 127.0.0.1
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"no Ray cluster at .*timed out"), Cluster(address):
            pass


ASKED = """
import os
from concurrent.futures import ThreadPoolExecutor
import grpc
from sweep.cluster import addresses

def asks_for_a_token(_, context):
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")

class Everything(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(asks_for_a_token)

key, certificate = (open(os.environ[name], "rb").read() for name in ("RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT"))
server = grpc.server(ThreadPoolExecutor(1), handlers=[Everything()])
port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
server.start()
addresses.require_answer(f"localhost:{port}")
addresses.use_token_where_required(f"localhost:{port}")
print(os.environ["RAY_AUTH_MODE"])
server.stop(None)
"""


@pytest.mark.slow
def test_a_token_that_is_asked_for_is_shown_also_where_connections_are_encrypted(
    tmp_path: Path,
) -> None:
    files = tmp_path / "key", tmp_path / "certificate"
    making = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*making.split(), "-keyout", *files[:1], "-out", *files[1:]],
        check=True,
        capture_output=True,
    )
    names = ("RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT", "RAY_TLS_CA_CERT")
    variables = dict(zip(names, map(str, [*files, files[1]]), strict=True))
    with driver(ASKED, RAY_USE_TLS="1", **variables) as process:
        out, err = process.communicate(timeout=100)
    assert (out, process.returncode) == ("token\n", 0), err


def test_a_ray_of_our_own_answers_nobody_who_does_not_know_its_token(cluster: Cluster) -> None:
    address = cluster.session.ray.get_runtime_context().gcs_address
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        for token in (None, "0" * 64):
            with pytest.raises(grpc.RpcError) as refused:
                ask(
                    b"",
                    timeout=10,
                    metadata=[("authorization", f"Bearer {token}")] if token else None,
                )
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert ask(
            b"", timeout=10, metadata=[("authorization", f"Bearer {os.environ['RAY_AUTH_TOKEN']}")]
        )


UNASKED = """
import os
os.environ["RAY_AUTH_MODE"] = "disabled"  # as joining a cluster that asks for no token leaves it
import grpc, ray
from sweep.cluster import Cluster

with Cluster() as cluster:
    address = cluster.session.ray.get_runtime_context().gcs_address
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=10)
        except grpc.RpcError as error:
            print(error.code().name)
"""


@pytest.mark.slow
def test_a_ray_of_our_own_asks_for_its_token_whatever_a_joined_cluster_asked_for() -> None:
    with driver(UNASKED) as process:
        out, err = process.communicate(timeout=200)
    assert (out, process.returncode) == ("UNAUTHENTICATED\n", 0), err


def test_auto_does_not_join_the_private_ray_of_another_sweep(cluster: Cluster) -> None:
    assert cluster.session.ray.get_runtime_context().gcs_address not in set(heads_of_this_machine())
