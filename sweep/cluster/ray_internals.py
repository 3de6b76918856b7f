"""Ray's private interfaces: every use of one, each with its purpose and why no public one serves.

Tried with Ray 2.60. A new version of Ray is checked against this file first. Besides these
functions, `ray.init` gets two private arguments (`_node_ip_address` and `_temp_dir`, in
`sweep.cluster.session`), and `sweep.cluster.startup` sets `_py_driver_sys_path` of a job.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from typing import Any

from sweep import signals

HEAD_RESOURCE = "node:__internal_head__"  # marks the node of the head in `ray.nodes()`
# The gRPC methods that Ray itself calls first, on a GCS and on a `ray://` server. They tell
# whether a token is required.
GCS_FIRST_CALL = "ray.rpc.NodeInfoGcsService/GetClusterId"
CLIENT_FIRST_CALL = "ray.rpc.RayletDriver/ClusterInfo"
_OLDER_AUTOSCALER_KEY = b"__autoscaling_status"
_STATUS_TIMEOUT_S = 5


def silence_worker_output() -> None:
    """Drop what daemons print about dying workers.

    It reaches stdout even with `log_to_driver=False`, and records describe the same failures.
    """
    import ray._private.worker as driver

    driver.print_to_stdstream = lambda *_args, **_kwargs: None


def reload_config() -> None:
    """Make Ray read its environment variables again; it reads them only when it is imported."""
    import ray._raylet

    raylet: Any = ray._raylet
    raylet.Config.initialize("")


@contextlib.contextmanager
def few_daemons() -> Iterator[None]:
    """Start no autoscaler, log monitor and dashboard with `ray.init`.

    A local Ray needs none of them, they take half of its start time, and later they would run on
    the trials' cores. There is no public switch for any of the three. The dashboard's agent must
    start, but as if its dependencies were missing. Otherwise it serves a page over HTTP to every
    user of this machine, without the token.
    """
    import ray._private
    import ray._private.utils

    node: Any = ray._private.node
    parameter: Any = ray._private.parameter
    utils: Any = ray._private.utils
    check_dashboard = utils.get_dashboard_dependency_error
    parameters, start_dashboard = parameter.RayParams, node.Node.start_api_server
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    parameter.RayParams = functools.partial(parameters, no_monitor=True, include_log_monitor=False)
    node.Node.start_api_server = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        parameter.RayParams, node.Node.start_api_server = parameters, start_dashboard
        utils.get_dashboard_dependency_error = check_dashboard


@contextlib.contextmanager
def uninterrupted_connect() -> Iterator[None]:
    """Postpone interrupts while `ray.init` sets up its C++ library in this process.

    If that is interrupted, Ray does not know that the library runs, `ray.shutdown` does not end
    it, and its threads end the process by SIGSEGV at exit. There is no public hook around this
    step. An interrupt before it, while the daemons start, is harmless.
    """
    import ray._private.worker

    driver: Any = ray._private.worker
    connect = driver.connect

    def postponing_connect(*args: Any, **kwargs: Any) -> Any:
        with signals.postponed():
            return connect(*args, **kwargs)

    driver.connect = postponing_connect
    try:
        yield
    finally:
        driver.connect = connect


def canonical_address(address: str) -> str:
    """Return the address that `ray.init` connects to, for example this machine's for localhost.

    The address is probed before `ray.init` gets it, so it has to be the same one.
    """
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address(address))


def last_started_address() -> str | None:
    """Return the address of the cluster that was started last on this machine.

    `ray.init("auto")` reads it, too, but connects although that cluster may have ended.
    """
    from ray._private.utils import read_ray_address

    address = read_ray_address()
    return None if address is None else str(address)


def cluster_status() -> Any:
    """Return the status of the autoscaler and the nodes, the source of `ray status`.

    `ray status` is public, but prints text. Runs in a driver on a node of the cluster or in a task.
    """
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    gcs_address = ray.get_runtime_context().gcs_address
    return get_cluster_status(gcs_address, timeout=_STATUS_TIMEOUT_S)


def older_autoscaler_status() -> dict[str, Any] | None:
    """Return the JSON that the older autoscaler leaves in the GCS; None without one.

    `cluster_status` lacks what the older autoscaler does.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    status: dict[str, Any] | None = json.loads(_internal_kv_get(_OLDER_AUTOSCALER_KEY) or "null")
    return status
