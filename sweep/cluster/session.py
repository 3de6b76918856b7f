"""A connection to Ray: a local Ray that is started, or a cluster that is joined.

Ray prints nothing on the terminal. The head is watched for as long as the session is open. A local
Ray ends with the session and leaves neither processes nor files behind.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from sweep import signals
from sweep.cluster import addresses, autoscaler, code_copy, ray_folder, ray_internals, startup
from sweep.cluster.autoscaler import Activity, Autoscaler
from sweep.cluster.placement import Node
from sweep.errors import Unavailable
from sweep.node import limits

HEAD_TIMEOUT_S = 10.0  # a head that is silent for longer counts as dead
HEAD_TASK_TIMEOUT_S = 30.0  # for a task on the head, with the start of a Ray worker
OBJECT_STORE_BYTES = 80_000_000  # records are small; Ray's minimum is 75 MB

# Ray makes the folder that it is given writable for every user, whatever the umask. So it gets a
# subfolder of one that others cannot enter.
_RAY_SUBFOLDER = "r"
_FOLDER_VARIABLE = "SWEEP_RAY_FOLDER"  # marks the processes of a local Ray in their environment
_KILL_TIMEOUT_S = 5.0
_KILL_ROUNDS = 3  # a daemon may start another process while the first ones are being killed
_HOUSEKEEPING_CORES = 4  # from so many cores on, the daemons get one of their own

# Set before Ray is imported; its daemons inherit them.
_COMMON_VARIABLES = {
    # Under `uv run`, Ray would send the user's whole project to its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The monitor would kill Ray's workers. Without it the kernel ends the trial itself.
    "RAY_memory_monitor_refresh_ms": "0",
}
# A local Ray listens on 127.0.0.1 only and requires a token that is written nowhere. A joined
# cluster is used as it is.
_LOCAL_VARIABLES = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    # Metrics would be served to every user of this machine, without the token.
    "RAY_enable_metrics_collection": "0",
    # Added to the driver's niceness. The default is 15, which gives way to everybody else.
    "RAY_worker_niceness": "0",
}
_INIT_ARGUMENTS = {"logging_level": "ERROR", "log_to_driver": False}
_RESTART_HINT = "the records so far are safe: run the same command again once the cluster is back"


def load(address: str | None) -> Any:
    """Import and return the module `ray`, set up for a local Ray or for a cluster's address."""
    if not address:
        startup.drop_foreign_variables()
    variables = _COMMON_VARIABLES | ({} if address else _LOCAL_VARIABLES)
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:
        # Exit handlers run in reverse order, so this one runs after Ray's own.
        atexit.register(ray_folder.remove_created)
    import ray

    if not address:
        ray_internals.reload_config()
    ray_internals.silence_worker_output()
    return ray


class Session:
    """A connection to Ray that is open.

    `cores` are the cores that trials may use where Ray is local, else None. `is_client` is true
    for `ray://`, `lost` once the head is dead.
    """

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.cores: set[int] | None = None
        self.is_client = False
        self.lost = False
        self._head_id = ""
        self._launch_failures: dict[str, str] = {}  # node type -> reason
        self._silent_since: float | None = None
        self._endpoints: list[tuple[int, Any]] = []  # families and addresses

    def nodes(self) -> list[dict[str, Any]] | None:
        """Return Ray's description of the nodes that are up, or None while the head is silent.

        Raises `Unavailable` after `HEAD_TIMEOUT_S` of silence.
        """
        if all(addresses.connects_to(family, address) for family, address in self._endpoints):
            self._silent_since = None
            with self.losing_the_head():
                return [node for node in self.ray.nodes() if node["Alive"]]
        self._silent_since = self._silent_since or time.monotonic()
        if time.monotonic() - self._silent_since > HEAD_TIMEOUT_S:
            self.lost = True
            message = f"the head of the cluster has not answered for {HEAD_TIMEOUT_S:.0f} s"
            raise Unavailable(message, _RESTART_HINT)
        return None

    @contextlib.contextmanager
    def losing_the_head(self) -> Iterator[None]:
        """Raise `Unavailable` for the error by which `ray://` reports that the head has gone."""
        try:
            yield
        except ConnectionError:
            self.lost = True
            message = "the connection to the head of the cluster is lost"
            raise Unavailable(message, _RESTART_HINT) from None

    def watch_head(self) -> None:
        """Find the sockets by which `nodes` sees whether the head and the local raylet are up.

        When the head is dead, Ray's own calls block, and after a minute they end this process.
        """
        if self.is_client:
            return
        context = self.ray.get_runtime_context()
        host, port = addresses.host_and_port(context.gcs_address)
        self._endpoints.append((addresses.family(host), (host, port)))
        own_id = context.get_node_id()
        for node in self.ray.nodes():
            if node["NodeID"] == own_id and node["RayletSocketName"]:
                self._endpoints.append((socket.AF_UNIX, node["RayletSocketName"]))

    def find_autoscaler(self, nodes: list[dict[str, Any]]) -> Autoscaler | None:
        """Return what can launch nodes of this cluster, or None without an autoscaler."""
        if self.cores is not None:
            return None
        heads = (node for node in nodes if ray_internals.HEAD_RESOURCE in node["Resources"])
        self._head_id = next((node["NodeID"] for node in heads), "")
        config = None
        # Without an answer of the head the node types stay unknown.
        with contextlib.suppress(self.ray.exceptions.RayError):
            config = self._call_on_head(autoscaler.read_config)
        return autoscaler.from_config(config, self.activity().reports)

    def activity(self) -> Activity:
        """Return what the autoscaler is doing and which nodes drain; nothing where Ray fails."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            call = self._call_on_head if self.is_client else _call_here
            activity: Activity = call(autoscaler.activity)
            return dataclasses.replace(activity, refused=self._explained(activity.refused))
        return Activity()

    def _explained(self, failures: Mapping[str, str]) -> dict[str, str]:
        """Return launch failures with the reasons of the head's log, read once for each type."""
        if unexplained := failures.keys() - self._launch_failures.keys():
            logged = self._call_on_head(autoscaler.logged_launch_failures)
            for kind in unexplained:
                self._launch_failures[kind] = logged.get(kind, failures[kind])
        return {kind: self._launch_failures[kind] for kind in failures}

    def _call_on_head(self, function: Callable[[], Any]) -> Any:
        """Call a function on the head: in this process if it runs there, else in a task."""
        if not self.is_client and self.ray.get_runtime_context().get_node_id() == self._head_id:
            return function()
        task = self.ray.remote(num_cpus=0, max_retries=0)(function)
        call = self.at(task, Node(self._head_id, "head", {})).remote()
        return self.ray.get(call, timeout=HEAD_TASK_TIMEOUT_S)

    def at(self, task: Any, node: Node, **options: Any) -> Any:
        """Return a remote function bound to a node; it fails rather than run elsewhere."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return task.options(scheduling_strategy=strategy, **options)

    def close(self) -> None:
        """Disconnect. With a dead head that would block, so the connection is left alone."""
        if not self.lost and self.ray.is_initialized():
            self.ray.shutdown()


class LocalSession(Session):
    """A Ray for this process alone: on the loopback interface, in a temporary folder."""

    def __init__(self, ray: Any, cpus: int | None, gpus: int | None) -> None:
        super().__init__(ray)
        startup.require()
        self._affinity = os.sched_getaffinity(0)
        self.cores = set(self._affinity)
        self._folder, self._lock = ray_folder.create()
        os.environ[_FOLDER_VARIABLE] = str(self._folder)
        try:
            # The daemons inherit the affinity.
            os.sched_setaffinity(0, housekeeping(self._affinity))
            self._start(cpus, gpus)
            self.watch_head()
        except BaseException:
            self.close()
            raise

    def _start(self, cpus: int | None, gpus: int | None) -> None:
        with (
            startup.explained(self._folder),
            startup.limited(self._folder, self._kill),
            startup.empty_working_folder(self._folder),
            ray_internals.few_daemons(),
            ray_internals.uninterrupted_connect(),
        ):
            job_config = self.ray.job_config.JobConfig(_py_driver_sys_path=startup.code_path())
            self.ray.init(
                job_config=job_config,
                address="local",
                num_cpus=cpus or limits.core_count(),
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._folder / _RAY_SUBFOLDER),
                **_INIT_ARGUMENTS,
            )

    def close(self) -> None:
        """End Ray and remove its folder. An interrupt meanwhile kills its processes at once."""
        try:
            super().close()
        finally:
            # `ray.shutdown` leaves processes behind when the start was interrupted.
            with signals.postponed():
                self._kill()
                os.environ.pop(_FOLDER_VARIABLE, None)
                os.sched_setaffinity(0, self._affinity)
                ray_folder.remove(self._folder)
                self._lock.close()

    def _kill(self) -> None:
        """Kill every process of this Ray, so that nothing writes into the folder any more."""
        for _ in range(_KILL_ROUNDS):
            own = [process for process in psutil.process_iter() if self._is_own(process)]
            for process in own:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(own, timeout=_KILL_TIMEOUT_S)

    def _is_own(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        # A process that has ended, or belongs to another user, is not one to kill.
        with contextlib.suppress(psutil.Error):
            folder = process.environ().get(_FOLDER_VARIABLE)
            return folder == str(self._folder) or self._logs_here(process)
        return False

    def _logs_here(self, process: psutil.Process) -> bool:
        """Return whether a process with a title of Ray's has a file open in our folder.

        Ray's agents and workers write their title over their environment, so that the variable
        cannot be read there any more.
        """
        titled = "".join(process.cmdline()[:1]).startswith("ray::")
        return titled and any(
            Path(file.path).is_relative_to(self._folder) for file in process.open_files()
        )


class JoinedSession(Session):
    """A running cluster; this process's `sweep` and `workloads` are sent to its nodes."""

    def __init__(self, ray: Any, address: str) -> None:
        super().__init__(ray)
        self.is_client = address.startswith("ray://")
        address = addresses.resolve(address)
        addresses.require_answer(address)
        addresses.use_token_where_required(address)
        with tempfile.TemporaryDirectory(prefix="sweep-code-") as folder:
            environment = _runtime_environment(folder)
            with _explained_failure(address), ray_internals.uninterrupted_connect():
                ray.init(address=address, runtime_env=environment, **_INIT_ARGUMENTS)
        self.watch_head()


def _runtime_environment(folder: str) -> dict[str, str] | None:
    """Return Ray's runtime environment with our code; None where the submitter has chosen one."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # set within a Ray job
        return None
    code_copy.copy_code(Path(folder))
    return {"working_dir": folder}


def _call_here(function: Callable[[], Any]) -> Any:
    return function()


def housekeeping(cores: set[int]) -> set[int]:
    """Return the cores of the driver and Ray's daemons: one of them if there are enough, else all.

    It is the lowest, since `sweep.node.slots` leases the highest cores first.
    """
    return {min(cores)} if len(cores) >= _HOUSEKEEPING_CORES else cores


@contextlib.contextmanager
def _explained_failure(address: str) -> Iterator[None]:
    """Raise `Unavailable` for the many errors by which Ray does not connect."""
    try:
        yield
    # Ray raises plain exceptions, and SystemExit when the head does not answer.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        message, hint = _connection_failure(address, error)
        raise Unavailable(message, hint) from None


def _connection_failure(address: str, error: BaseException) -> tuple[str, str]:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "ersions" in text:
        hint = "use the cluster's Python and Ray versions here"
        return f"{address} runs other versions: {text}", hint
    if "uthentication" in text:
        hint = "copy the head's ~/.ray/auth_token here and set RAY_AUTH_MODE=token"
        return f"{address} asks for a token", hint
    if isinstance(error, SystemExit):
        text = "the head does not answer"
    return (
        f"cannot join {address}: {text or type(error).__name__}",
        "a host:port is joined from a node of that cluster; from elsewhere use ray://host:10001",
    )
