"""The autoscaler of a joined cluster: which nodes it can launch, and what it is doing.

Ray has two autoscalers, and neither can be asked for its node types: the cluster configuration in
the GCS is meant for that, but neither fills it. So the types are read from the file that the
autoscaler was started with, on the head. Where the autoscaler runs elsewhere, for example beside a
head in Kubernetes, the types stay unknown.

What it is doing comes from the source of `ray status`, and for the older autoscaler from JSON in
Ray's key-value store (`sweep.cluster.ray_internals`). Why a type could not be launched is only in
the log of the newer autoscaler.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from sweep.cluster import ray_internals
from sweep.cluster.placement import Node, Shape

_LOG_BYTES = 1 << 18  # read from the end of the log, which may be long
# Ray's default where the configuration does not set `max_workers`.
_DEFAULT_MAX_WORKERS = 2
_FAILED_LAUNCH = re.compile(r"Failed to launch \d+ nodes of type (\S+): (.+)")
NO_REASON = "monitor.log on the head may say why"


class NodeType(NamedTuple):
    """A type of node that an autoscaler can launch, at most `most` of them at a time."""

    name: str
    resources: Mapping[str, float]
    most: int

    @property
    def node(self) -> Node:
        """A node of this type that does not exist yet."""
        return Node(f"type {self.name}", self.name, self.resources)


@dataclass(frozen=True)
class Autoscaler:
    """The node types that can be launched; None where they are not known."""

    types: tuple[NodeType, ...] | None

    def __str__(self) -> str:
        """Return a clause such as `the cluster can start up to 8 cpu (8 cores), 2 gpu (…)`."""
        if self.types is None:
            return "the cluster does not say which it can start"
        kinds = ", ".join(f"{kind.most} {kind.name} ({_size(kind)})" for kind in self.types)
        return f"the cluster can start up to {kinds}" if kinds else "the cluster can start none"


def _size(kind: NodeType) -> str:
    """Return cores and GPUs of a type, as in `8 cores and 1 GPU`."""
    amounts = ((name, kind.resources.get(name)) for name in ("CPU", "GPU"))
    return str(Shape(tuple((name, amount) for name, amount in amounts if amount), False))


@dataclass(frozen=True)
class Activity:
    """What an autoscaler is doing.

    `reports` is whether there is an autoscaler, or at least the part of it that reports.
    `launching` is the number of nodes by type, `refused` the reason for each type that could not
    be launched. `draining` are the ids of nodes that are about to end; Ray gives them no new work.
    """

    reports: bool = False
    launching: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()


def read_config() -> dict[str, Any] | None:
    """Return the configuration of the autoscaler on this machine, the head.

    Return {} where the autoscaler has none, and None where no autoscaler runs here.
    """
    options = _monitor_options()
    if options is None:
        return None
    path = options.get("--autoscaling-config")
    if not path:
        return {}
    try:
        return dict(yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8")))
    except OSError:  # removed since; the types stay unknown
        return None


def logged_launch_failures() -> dict[str, str]:
    """Return why types could not be launched, from the autoscaler's log on the head.

    The newer autoscaler reports that a launch has failed, but writes the cloud's message to its
    log only.
    """
    options = _monitor_options() or {}
    log = Path(options.get("--logs-dir", ""), "monitor.log")
    if not log.is_file():
        return {}
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
        text = stream.read().decode(errors="replace")
    return dict(_FAILED_LAUNCH.findall(text))


def _monitor_options() -> dict[str, str] | None:
    """Return the command-line options of this cluster's autoscaler process on this machine."""
    import ray

    gcs_address = ray.get_runtime_context().gcs_address
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        pairs = (word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        options = dict(pairs)
        is_monitor = any(word.endswith("monitor.py") for word in words)
        if is_monitor and options.get("--gcs-address") == gcs_address:
            return options
    return None


def from_config(config: Mapping[str, Any] | None, reports: bool) -> Autoscaler | None:
    """Return the autoscaler with the configuration from the head.

    Without a configuration Ray's monitor launches no nodes, so {} means no autoscaler. None means
    that the configuration is unknown; then an autoscaler exists if one reports.
    """
    if config is None:
        return Autoscaler(None) if reports else None
    return Autoscaler(tuple(_types(config))) if config else None


def _types(config: Mapping[str, Any]) -> Iterator[NodeType]:
    head = config.get("head_node_type")
    most = config.get("max_workers", _DEFAULT_MAX_WORKERS)
    for name, kind in config.get("available_node_types", {}).items():
        count = min(most, kind.get("max_workers", most))
        if name != head and count > 0:
            resources = {key: float(amount) for key, amount in kind.get("resources", {}).items()}
            yield NodeType(name, resources, count)


def activity() -> Activity:
    """Return what the autoscaler is doing.

    Runs where the GCS can be reached: in a driver on a node of the cluster, or in a task.
    """
    status = ray_internals.cluster_status()
    draining = frozenset(
        str(node.node_id) for node in status.active_nodes if node.node_status == "DRAINING"
    )
    older = ray_internals.older_autoscaler_status()
    if older is not None:
        return _activity_of_older(older.get("autoscaler_report") or {}, draining)
    launching: Counter[str] = Counter()
    for launch in status.pending_launches:
        launching[launch.ray_node_type_name] += launch.count
    launching.update(node.ray_node_type_name for node in status.pending_nodes)
    refused = {
        launch.ray_node_type_name: launch.details or NO_REASON for launch in status.failed_launches
    }
    return Activity(int(status.stats.autoscaler_version or 0) > 0, launching, refused, draining)


def _activity_of_older(report: Mapping[str, Any], draining: frozenset[str]) -> Activity:
    """Return what the older autoscaler is doing, from its own report."""
    launching = Counter(report.get("pending_launches") or {})
    launching.update(kind for _, kind, _ in report.get("pending_nodes") or [])
    summary = report.get("node_availability_summary") or {}
    availabilities = summary.get("node_availabilities") or {}
    refused = {
        name: _reason(availability)
        for name, availability in availabilities.items()
        if not availability["is_available"]
    }
    return Activity(True, launching, refused, draining)


def _reason(availability: Mapping[str, Any]) -> str:
    why = availability.get("unavailable_node_information") or {}
    return why.get("description") or why.get("category") or NO_REASON
