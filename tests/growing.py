"""A cluster on this machine with an autoscaler that launches nodes, as after `ray up`.

Ray's own fake provider starts raylets here, but they share one temporary folder and one port and
end together. The provider below gives each node its own folder and variables. It can also refuse a
launch, or lose a node that it has launched.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import ray._private.node
from ray._private.parameter import RayParams
from ray._private.services import get_node_ip_address
from ray._raylet import GcsClient
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

HEAD = "f" * 51 + "00000"  # the node id that Ray's fake provider gives its head
_MARK = "SWEEP_TEST_CLUSTER"


@dataclass(frozen=True)
class NodeType:
    """A type of nodes. Its first `cursed` launches have the `fate` "refused" or "lost".

    A lost node ends before it has joined.
    """

    most: int
    resources: Mapping[str, float]
    fate: str = ""
    cursed: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)


class Provider(FakeMultiNodeProvider):
    """The node provider, which runs in the autoscaler's process. Each node has its own folder."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._nodes_folder, self._ray_folder = (
            Path(provider_config[name]) for name in ("nodes", "ray")
        )
        self._types = provider_config["types"]
        self._starting = threading.Lock()
        self._cursed = {name: kind["cursed"] for name, kind in self._types.items()}

    def _create_node_with_resources_and_labels(
        self,
        node_config: Any,
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        with self.lock:
            name = tags[TAG_RAY_USER_NODE_TYPE]
            kind = self._types[name]
            fate = kind["fate"] if self._cursed[name] > 0 else ""
            self._cursed[name] -= 1
            if fate == "refused":
                raise NodeLaunchException("QuotaExceeded", f"no quota for {name}", None)
            node_id = self._next_hex_node_id()
            own = {
                TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                TAG_RAY_USER_NODE_TYPE: name,
                TAG_RAY_NODE_NAME: node_id,
            }
            own |= {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
            starting = threading.Thread(
                target=self._start, args=(node_id, name, dict(resources), fate)
            )
            self._nodes[node_id] = {"tags": own | tags, "node": None, "starting": starting}
            starting.start()

    def _start(self, node_id: str, name: str, resources: dict[str, float], fate: str) -> None:
        """Start a raylet, or lose the node.

        This runs in a thread, since the autoscaler does not wait for a machine to come up. Raylets
        start one after the other: on a busy machine, Ray's time limit is too short for several.
        """
        if fate == "lost":
            time.sleep(2)
            self._nodes.pop(node_id)
            return
        try:
            with self._starting:
                self._nodes[node_id]["node"] = self._raylet(node_id, name, resources)
        except Exception:
            # The machine did not come up. The autoscaler launches another.
            self._nodes.pop(node_id)
            raise

    def _raylet(
        self, node_id: str, name: str, resources: dict[str, float]
    ) -> ray._private.node.Node:
        number = int(node_id[-5:])
        folder = self._nodes_folder / f"{name}{number}"
        folder.mkdir()
        amounts = {
            key: amount for key, amount in resources.items() if key not in ("CPU", "GPU", "memory")
        }
        amounts.pop("object_store_memory", None)
        variables = {
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
            "RAY_CLOUD_INSTANCE_ID": node_id,
            "RAY_NODE_TYPE_NAME": name,
            "TMPDIR": str(folder),
            **self._types[name]["variables"],
        }
        parameters = RayParams(
            node_name=f"{name}{number}",
            min_worker_port=0,
            max_worker_port=0,
            dashboard_agent_listen_port=0,
            num_cpus=resources.get("CPU", 0),
            num_gpus=resources.get("GPU", 0),
            memory=resources.get("memory"),
            object_store_memory=100 << 20,
            resources=amounts,
            gcs_address=self._gcs_address,
            redis_address=self._gcs_address,
            temp_dir=str(self._ray_folder / f"{name}{number}"),
            include_log_monitor=False,
            env_vars=variables,
        )
        return ray._private.node.Node(
            parameters, head=False, shutdown_at_exit=False, spawn_reaper=False
        )

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """List the nodes; one whose raylet was killed is gone, as a machine that was taken away."""
        with self.lock:
            for node_id, each in list(self._nodes.items()):
                if each.get("node") is not None and not each["node"].remaining_processes_alive():
                    threading.Thread(target=_end, args=(self._nodes.pop(node_id),)).start()
        return super().non_terminated_nodes(tag_filters)

    def _terminate_node(self, node: dict[str, Any]) -> None:
        threading.Thread(target=_end, args=(node,)).start()


def _end(node: dict[str, Any]) -> None:
    node["starting"].join()
    if node["node"] is not None:
        node["node"].kill_all_processes(check_alive=False, allow_graceful=True)


class Growing:
    """A head without cores, and an autoscaler of either version with nodes of these types.

    All files are below `folder`. The files of trials can be elsewhere, below `nodes`: each node
    has the folder of its name there as TMPDIR. A name is a type and a number.
    """

    def __init__(
        self,
        folder: Path,
        v2: bool,
        idle_s: float = 600.0,
        nodes: Path | None = None,
        **types: NodeType,
    ) -> None:
        self.folder, self.nodes = folder, nodes or folder / "n"
        self.nodes.mkdir(exist_ok=True)
        port, client_port = _free_ports(2)
        self.address = f"{get_node_ip_address()}:{port}"
        config = folder / "config.json"
        config.write_text(json.dumps(_config(self, types, v2, idle_s)))
        start = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--num-cpus=0",
        ]
        start += [f"--port={port}", "--disable-usage-stats", "--include-dashboard=false"]
        start += [
            f"--temp-dir={folder / 'r' / 'head'}",
            "--node-name=head",
            "--dashboard-agent-listen-port=0",
        ]
        start += [f"--autoscaling-config={config}", f"--ray-client-server-port={client_port}"]
        self._log = (folder / "head.log").open("w")
        self._head = subprocess.Popen(
            start, env=self._environment(v2), stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        for line in self._head.stdout:
            self._log.write(line)
            if "--block" in line:  # Ray prints it last, when everything has started
                return
        self.__exit__()
        raise RuntimeError((folder / "head.log").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        mine = list(self.processes())
        for process in mine:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(mine, timeout=10)
        self._head.stdout.close()
        self._head.wait()
        self._log.close()

    @property
    def started(self) -> list[str]:
        """The names of all nodes that were ever launched."""
        return [path.name for path in self.nodes.iterdir()]

    @property
    def names(self) -> list[str]:
        """The nodes that are up."""
        return [name for name in self.started if any(self._processes(name))]

    def kill(self, name: str) -> int:
        """Kill all processes of a node at once, as when it is taken away; return how many."""
        processes = list(self._processes(name))
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return len(processes)

    def add(self, *_: str) -> None:
        """Do nothing: the autoscaler launches nodes."""

    def _processes(self, name: str) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TMPDIR") == str(self.nodes / name):
                    yield process

    def demand(self) -> Counter[str]:
        """Return the resources that pending tasks request from the autoscaler."""
        reply = GetClusterStatusReply()
        reply.ParseFromString(GcsClient(address=self.address).get_cluster_status())
        asked: Counter[str] = Counter()
        for each in reply.cluster_resource_state.pending_resource_requests:
            asked.update(
                {
                    name: each.count * amount
                    for name, amount in each.request.resources_bundle.items()
                }
            )
        return asked

    def processes(self) -> Iterator[psutil.Process]:
        """Yield all processes of the cluster.

        Raylets leave the process tree of their parents, but keep their environment variables.
        """
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == str(self.folder):
                    yield process

    def _environment(self, v2: bool) -> dict[str, str]:
        paths = os.pathsep.join(
            filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        )
        mine = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_worker_niceness": "0",
            "RAY_enable_autoscaler_v2": str(int(v2)),
            "PYTHONPATH": paths,
            _MARK: str(self.folder),
        }
        if v2:
            mine |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
        return {**os.environ, **mine}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as taken:
        servers = [taken.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _config(
    cluster: Growing, types: Mapping[str, NodeType], v2: bool, idle_s: float
) -> dict[str, Any]:
    provider = {
        "type": "external",
        "module": "growing.Provider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "gcs_address": cluster.address,
        "nodes": str(cluster.nodes),
        "ray": str(cluster.folder / "r"),
        "types": {name: asdict(kind) for name, kind in types.items()},
        "launch_multiple": True,
    }
    if v2:
        provider["head_node_id"] = HEAD
    lists = (
        "initialization_commands",
        "setup_commands",
        "head_setup_commands",
        "worker_setup_commands",
    )
    more = (
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "cluster_synced_files",
        "rsync_exclude",
        "rsync_filter",
    )
    kinds = {
        name: {
            "resources": dict(kind.resources),
            "node_config": {},
            "min_workers": 0,
            "max_workers": kind.most,
        }
        for name, kind in types.items()
    }
    return {
        "cluster_name": "here",
        "max_workers": sum(kind.most for kind in types.values()),
        "provider": provider,
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **kinds,
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 4.0,
        "idle_timeout_minutes": idle_s / 60,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{key: [] for key in (*lists, *more)},
    }
