"""The autoscaler of a joined cluster: whether there is one, which nodes it can start, and what it is doing.

Ray has two autoscalers and no public way to ask either for the types of its nodes: the cluster configuration in the
GCS, meant for that, is filled by neither. So the types are read from the file that the autoscaler itself was started
with, on the head. Where it runs elsewhere, as beside a head in Kubernetes, they stay unknown.

What it is doing is read from `get_cluster_status`, behind `ray status`, and for the older autoscaler from the JSON that
it leaves in Ray's key-value store. Both are internal to Ray; its public `ray status` prints them as text. Why a type
could not be launched the newer autoscaler writes into its log alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from sweep.cluster.placement import Node, Shape

_OLDER = b"__autoscaling_status"  # where the older autoscaler leaves what it is doing
_ANSWER_S = 5
_LOG_BYTES = 1 << 18
_FAILED_LAUNCH = re.compile(r"Failed to launch \d+ nodes of type (\S+): (.+)")
NO_REASON = "monitor.log on the head may say why"


class NodeType(NamedTuple):
    """Nodes that an autoscaler can start, `most` of them at a time."""

    name: str
    resources: Mapping[str, float]
    most: int

    @property
    def node(self) -> Node:
        """A node of this type, as long as there is none."""
        return Node(f"type {self.name}", self.name, self.resources)


@dataclass(frozen=True)
class Autoscaler:
    """`types` are the nodes that it can start; None where that is not known."""

    types: tuple[NodeType, ...] | None

    def __str__(self) -> str:
        """What it may become, as in `the cluster can start up to 8 cpu (8 cores), 2 gpu (8 cores and 1 GPU)`."""
        if self.types is None:
            return "the cluster does not say which it can start"
        kinds = ", ".join(f"{kind.most} {kind.name} ({_seen(kind)})" for kind in self.types)
        return f"the cluster can start up to {kinds}" if kinds else "the cluster can start none"


def _seen(kind: NodeType) -> str:
    """What people know a node by."""
    return str(
        Shape(
            tuple(
                (name, kind.resources[name]) for name in ("CPU", "GPU") if kind.resources.get(name)
            ),
            False,
        )
    )


@dataclass(frozen=True)
class Activity:
    """What an autoscaler is doing: how many nodes of each type it launches, and why a type could not be launched.

    `reports` says whether there is an autoscaler, or at least its reporting half, at all. Ray gives no new work to
    `draining` nodes, named by their ids: they are about to end.
    """

    reports: bool = False
    launching: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()


def started_with() -> dict[str, Any] | None:
    """Runs on the head: the configuration of its autoscaler; empty where it has none, None where there is none."""
    options = _monitor()
    if options is None:
        return None
    path = options.get("--autoscaling-config")
    if not path:
        return {}
    try:
        return dict(yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8")))
    except OSError:  # removed since; what can be started stays unknown
        return None


def logged_refusals() -> dict[str, str]:
    """Runs on the head: why types could not be launched, by the log of the autoscaler that is here.

    The newer autoscaler reports that a launch has failed, and writes what the cloud said into its log alone.
    """
    options = _monitor() or {}
    log = Path(options.get("--logs-dir", ""), "monitor.log")
    if not log.is_file():
        return {}
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
        text = stream.read().decode(errors="replace")
    return dict(_FAILED_LAUNCH.findall(text))


def _monitor() -> dict[str, str] | None:
    """The options of this cluster's autoscaler process on this machine."""
    import ray

    gcs_address = ray.get_runtime_context().gcs_address
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        options = dict(
            word.split("=", 1) for word in words if word.startswith("--") and "=" in word
        )
        is_monitor = any(word.endswith("monitor.py") for word in words)
        if is_monitor and options.get("--gcs-address") == gcs_address:
            return options
    return None


def known(config: Mapping[str, Any] | None, reports: bool) -> Autoscaler | None:
    """The autoscaler, from what the head has of it; without a configuration Ray's monitor starts no nodes."""
    if config is None:
        return Autoscaler(None) if reports else None
    return Autoscaler(tuple(_types(config))) if config else None


def _types(config: Mapping[str, Any]) -> Iterator[NodeType]:
    head, most = config.get("head_node_type"), config.get("max_workers", 2)
    for name, kind in config.get("available_node_types", {}).items():
        count = min(most, kind.get("max_workers", most))
        if name != head and count > 0:
            resources = {key: float(amount) for key, amount in kind.get("resources", {}).items()}
            yield NodeType(name, resources, count)


def activity() -> Activity:
    """Runs where a GCS can be asked: in a driver that is a node of the cluster, or in a task."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    status = get_cluster_status(ray.get_runtime_context().gcs_address, timeout=_ANSWER_S)
    draining = frozenset(
        str(node.node_id) for node in status.active_nodes if node.node_status == "DRAINING"
    )
    older = json.loads(_internal_kv_get(_OLDER) or "null")
    if older is not None:
        return _as_the_older_says(older.get("autoscaler_report") or {}, draining)
    launching: Counter[str] = Counter()
    for launch in status.pending_launches:
        launching[launch.ray_node_type_name] += launch.count
    launching.update(node.ray_node_type_name for node in status.pending_nodes)
    refused = {
        launch.ray_node_type_name: launch.details or NO_REASON for launch in status.failed_launches
    }
    return Activity(int(status.stats.autoscaler_version or 0) > 0, launching, refused, draining)


def _as_the_older_says(report: Mapping[str, Any], draining: frozenset[str]) -> Activity:
    launching = Counter(report.get("pending_launches") or {})
    launching.update(kind for _, kind, _ in report.get("pending_nodes") or [])
    availabilities = (report.get("node_availability_summary") or {}).get(
        "node_availabilities"
    ) or {}
    refused = {
        name: _reason(found) for name, found in availabilities.items() if not found["is_available"]
    }
    return Activity(True, launching, refused, draining)


def _reason(availability: Mapping[str, Any]) -> str:
    why = availability.get("unavailable_node_information") or {}
    return why.get("description") or why.get("category") or NO_REASON
