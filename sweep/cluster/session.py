"""A session with Ray: started for ourselves or joined, in silence, watched, and ended without a trace."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import importlib.util
import os
import secrets
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psutil

from sweep import catalog, signals
from sweep.cluster import autoscaler, startup
from sweep.cluster.autoscaler import Activity, Autoscaler
from sweep.cluster.placement import Node
from sweep.errors import SweepError, Unavailable
from sweep.node import limits
from sweep.process import abandoned, hold

REACH_S = 5.0  # how long an address may take to answer
HEAD_S = 10.0  # how long the head may be silent before it counts as dead
HEAD_ANSWER_S = 30.0  # how long a task on it may take, with the start of a Ray worker
OBJECT_STORE_BYTES = 80_000_000  # records are small; Ray's least is 75 MB

_HEAD = "node:__internal_head__"  # the resource by which Ray marks the node of the head
_FOLDER = "sweep-ray-"
_OPEN = "r"  # below a folder of our own: whatever the umask, Ray lets everybody write into the one that it is given
_LONG = 22  # letters of a temporary folder's path that leave room for the names of Ray's sockets
_MARK = "SWEEP_RAY_FOLDER"  # a variable by which the processes of a Ray of our own are known
_OWN_FOLDERS: list[Path] = []  # of this process
_DIE_S = 5.0  # how long a killed process may take to be gone
_FIRST_QUESTION = "ray.rpc.NodeInfoGcsService/GetClusterId"  # what Ray itself asks a head first

# Set before Ray is imported; its daemons inherit them.
_QUIET = {
    # under `uv run` it would send the user's whole project to the workers; the code is at hand or is sent by us
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it would kill Ray's workers; the kernel ends the trial itself
}
# A Ray of our own keeps to 127.0.0.1, and to those who know a token that is written nowhere; a joined one must not.
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_enable_metrics_collection": "0",  # they would be served to everybody on this machine, token or not
    "RAY_worker_niceness": "0",  # added to the driver's; by default 15, and trials lose to everybody
}
_INIT = {"logging_level": "ERROR", "log_to_driver": False}
_RESTART = "the records so far are safe: run the same command again once the cluster is back"


def load(address: str | None) -> Any:
    """The module `ray`, which will not write on the terminal."""
    if not address:
        startup.drop_foreign_variables()
    for name, value in (_QUIET | ({} if address else _PRIVATE)).items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:
        atexit.register(_remove_again)  # before Ray registers, and so run after it
    import ray
    import ray._private.worker as driver

    if not address:
        _read_variables_again()
    # What daemons say of dying workers is printed to stdout whatever `log_to_driver` says; our records say it better.
    driver.print_to_stdstream = lambda *_args, **_kwargs: None
    return ray


class Session:
    """What is open: `cores` is the set that trials may use where this machine's Ray is our own, else None."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.cores: set[int] | None = None
        self.is_client = False
        self.lost = False
        self._head = ""  # the node id of the head
        self._refusals: dict[str, str] = {}  # types that could not be launched, and why
        self._silent_since: float | None = None
        self._endpoints: list[tuple[int, Any]] = []

    def nodes(self) -> list[dict[str, Any]] | None:
        """Ray's nodes that are alive; None while the head does not answer, `Unavailable` once it is taken for dead."""
        if all(_connects(family, address) for family, address in self._endpoints):
            self._silent_since = None
            with self.losing_the_head():
                return [node for node in self.ray.nodes() if node["Alive"]]
        self._silent_since = self._silent_since or time.monotonic()
        if time.monotonic() - self._silent_since > HEAD_S:
            self.lost = True
            raise Unavailable(
                f"the head of the cluster has not answered for {HEAD_S:.0f} s", _RESTART
            )
        return None

    @contextlib.contextmanager
    def losing_the_head(self) -> Iterator[None]:
        """`ray://` says so itself when the head has gone."""
        try:
            yield
        except ConnectionError:
            self.lost = True
            raise Unavailable(
                "the connection to the head of the cluster is lost", _RESTART
            ) from None

    def watch(self) -> None:
        """Remember whom to ask whether the head lives: Ray's own calls hang, and after a minute end this process."""
        if self.is_client:
            return
        context = self.ray.get_runtime_context()
        host, port = _host_and_port(context.gcs_address)
        self._endpoints.append((_family(host), (host, port)))
        mine = [node for node in self.ray.nodes() if node["NodeID"] == context.get_node_id()]
        self._endpoints += [
            (socket.AF_UNIX, node["RayletSocketName"]) for node in mine if node["RayletSocketName"]
        ]

    def find_autoscaler(self, alive: list[dict[str, Any]]) -> Autoscaler | None:
        """What can start nodes of this cluster; None where nothing can."""
        if self.cores is not None:
            return None
        self._head = next((node["NodeID"] for node in alive if _HEAD in node["Resources"]), "")
        config = None
        with contextlib.suppress(self.ray.exceptions.RayError):
            config = self._on_the_head(autoscaler.started_with)
        return autoscaler.known(config, self.activity().reports)

    def activity(self) -> Activity:
        """What the autoscaler is doing, and which nodes are about to end; nothing where nobody says."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            found = (
                self._on_the_head(autoscaler.activity) if self.is_client else autoscaler.activity()
            )
            return dataclasses.replace(found, refused=self._explained_refusals(found.refused))
        return Activity()

    def _explained_refusals(self, refused: Mapping[str, str]) -> dict[str, str]:
        """With what the head's log says of them, which is asked once for each type."""
        if unexplained := refused.keys() - self._refusals.keys():
            logged = self._on_the_head(autoscaler.logged_refusals)
            self._refusals.update({kind: logged.get(kind, refused[kind]) for kind in unexplained})
        return {kind: self._refusals[kind] for kind in refused}

    def _on_the_head(self, function: Callable[[], Any]) -> Any:
        """Call it where the head is: in this process, or in a task there."""
        if not self.is_client and self.ray.get_runtime_context().get_node_id() == self._head:
            return function()
        task = self.ray.remote(num_cpus=0, max_retries=0)(function)
        return self.ray.get(
            self.at(task, Node(self._head, "head", {})).remote(), timeout=HEAD_ANSWER_S
        )

    def at(self, task: Any, node: Node, **demand: Any) -> Any:
        """The remote function bound to a node; it fails rather than run elsewhere."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), **demand
        )

    def close(self) -> None:
        if not self.lost and self.ray.is_initialized():
            self.ray.shutdown()


class Own(Session):
    """A Ray of our own on this machine: on loopback, in a folder of its own, gone when we go."""

    def __init__(self, ray: Any, cpus: int | None, gpus: int | None) -> None:
        super().__init__(ray)
        startup.require()
        self._affinity = os.sched_getaffinity(0)
        self.cores = set(self._affinity)
        self._folder, self._lock = _own_folder()
        os.environ[_MARK] = str(self._folder)
        try:
            os.sched_setaffinity(0, housekeeping(self._affinity))
            with (
                startup.explained(self._folder),
                startup.limited(self._folder, self._kill),
                startup.apart(self._folder),
                _lean(),
                _connecting_whole(),
            ):
                ray.init(
                    job_config=ray.job_config.JobConfig(_py_driver_sys_path=startup.code_path()),
                    address="local",
                    num_cpus=cpus or limits.core_count(),
                    num_gpus=gpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(self._folder / _OPEN),
                    **_INIT,
                )
            self.watch()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End Ray and remove its folder; an interrupt meanwhile kills what is left at once."""
        try:
            super().close()
        finally:
            with signals.postponed():
                self._kill()
                os.environ.pop(_MARK, None)
                os.sched_setaffinity(0, self._affinity)
                _remove(self._folder)
                self._lock.close()

    def _kill(self) -> None:
        """End what was started with our mark; then nobody writes into the folder any more."""
        for _ in range(3):
            mine = [process for process in psutil.process_iter() if self._started(process)]
            for process in mine:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(mine, timeout=_DIE_S)

    def _started(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid():
            return False
        with contextlib.suppress(psutil.Error):
            return process.environ().get(_MARK) == str(self._folder) or self._logs_here(process)
        return False

    def _logs_here(self, process: psutil.Process) -> bool:
        """Ray's agents and workers write their titles over their environments; they keep logs open in our folder."""
        titled = "".join(process.cmdline()[:1]).startswith("ray::")
        return titled and any(
            Path(file.path).is_relative_to(self._folder) for file in process.open_files()
        )


class Joined(Session):
    """Somebody's running cluster; this process's own `sweep` and `workloads` are sent to its nodes."""

    def __init__(self, ray: Any, address: str) -> None:
        super().__init__(ray)
        self.is_client = address.startswith("ray://")
        address = _resolved(address)
        _require_answer(address)
        _show_token_where_asked(address)
        with tempfile.TemporaryDirectory(prefix="sweep-code-") as folder:
            # Inside a Ray job the environment has been chosen by whoever submitted it.
            environment = (
                None
                if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
                else {"working_dir": _code(Path(folder))}
            )
            with _explained(address), _connecting_whole():
                ray.init(address=address, runtime_env=environment, **_INIT)
        self.watch()


def housekeeping(cores: set[int]) -> set[int]:
    """The core that the driver and Ray's daemons keep to; all of them where there are none to spare.

    The lowest: `sweep.node.slots` leases the highest first.
    """
    return {min(cores)} if len(cores) >= 4 else cores


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    """Start neither autoscaler, log monitor nor dashboard: nobody asks them, and they would take the trials' cores.

    Ray has no public switch for these three, whose start is half of its own. The agent of the dashboard is started as
    where its dependencies are missing: else it serves a page over HTTP to everybody on this machine, token or not.
    """
    import ray._private
    import ray._private.utils

    node: Any = ray._private.node
    parameter: Any = ray._private.parameter
    utils: Any = ray._private.utils
    missing = utils.get_dashboard_dependency_error
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    parameters, dashboard = parameter.RayParams, node.Node.start_api_server
    parameter.RayParams = functools.partial(parameters, no_monitor=True, include_log_monitor=False)
    node.Node.start_api_server = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        parameter.RayParams, node.Node.start_api_server = parameters, dashboard
        utils.get_dashboard_dependency_error = missing


@contextlib.contextmanager
def _connecting_whole() -> Iterator[None]:
    """An interrupt waits while Ray makes its library's part of this process.

    Interrupted in the middle of it, Ray does not know that it has one, `ray.shutdown` leaves it alone, and its threads
    end the process by SIGSEGV when that exits. Before it, while the daemons are started, an interrupt does no harm.
    """
    import ray._private.worker

    driver: Any = ray._private.worker
    connect = driver.connect

    def undisturbed(*args: Any, **kwargs: Any) -> Any:
        with signals.postponed():
            return connect(*args, **kwargs)

    driver.connect = undisturbed
    try:
        yield
    finally:
        driver.connect = connect


def _own_folder() -> tuple[Path, IO[bytes]]:
    """A fresh folder with a lock beside it; those of killed processes go. Short: a socket's name has 107 letters."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _LONG:
        parent = Path("/tmp")  # noqa: S108  the folder itself is made by mkdtemp
    for lock in abandoned(parent.glob(f"{_FOLDER}*.lock")):
        _remove(lock.with_suffix(""))
    try:
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=parent))
    except OSError as error:
        hint = (
            f"set TMPDIR to a folder that can be written to, with a path of {_LONG} letters at most"
        )
        raise Unavailable(
            f"no folder for the local Ray in {parent}: {error.strerror}", hint
        ) from None
    _OWN_FOLDERS.append(folder)
    return folder, hold(_lock_of(folder))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove_again() -> None:
    """At its exit Ray makes a folder anew that it was not asked to leave properly."""
    for folder in _OWN_FOLDERS:
        _remove(folder)


def _remove(folder: Path) -> None:
    """The lock goes last: cut short, this is done again by the next start."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        _lock_of(folder).unlink(missing_ok=True)


def _code(folder: Path) -> str:
    """A copy of this process's `sweep` and `workloads`, side by side as they expect to be, and of its plug-ins."""
    for name in ("sweep", "workloads"):
        _copy_package(name, folder)
    points = [point for group in catalog.ENTRY_POINTS for point in entry_points(group=group)]
    for package in {point.module.partition(".")[0] for point in points}:
        _copy_package(package, folder)
    for distribution in {point.dist.name: point.dist for point in points if point.dist}.values():
        _copy_entry_points(distribution, folder)
    return str(folder)


def _copy_package(name: str, folder: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise SweepError(
            f"the package {name} has no folder to send to the nodes", "install it from its checkout"
        )
    for place in map(Path, spec.submodule_search_locations or []):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(place, folder / name, ignore=ignored, dirs_exist_ok=True)
    if not spec.submodule_search_locations and spec.origin:
        shutil.copy(spec.origin, folder)


def _copy_entry_points(distribution: Distribution, folder: Path) -> None:
    """What makes a node see the package as installed; an editable one has little else that could be copied."""
    information = folder / f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info"
    information.mkdir()
    for file in ("METADATA", "entry_points.txt"):
        (information / file).write_text(distribution.read_text(file) or "", encoding="utf-8")


def _resolved(address: str) -> str:
    """The address that Ray will really call: for `auto` what RAY_ADDRESS or this machine has, for localhost its own."""
    from ray._private.services import canonicalize_bootstrap_address

    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _running_here()
    if address.startswith("ray://"):
        return address
    _host_and_port(address)
    return str(canonicalize_bootstrap_address(address))


def _running_here() -> str:
    """The head of the cluster that this machine belongs to: the last one that was started, should there be several."""
    from ray._private.utils import read_ray_address

    found = set(_heads())
    last = read_ray_address()
    if last in found:
        return str(last)
    if not found:
        hint = "give --address host:port, or none at all to start a local Ray"
        raise Unavailable("no Ray runs on this machine and RAY_ADDRESS is not set", hint)
    if len(found) > 1:
        raise Unavailable(
            f"several Rays run on this machine: {', '.join(sorted(found))}",
            "give one with --address",
        )
    return found.pop()


def _heads() -> Iterator[str]:
    """Whose raylets run here, but for those of other sweeps, which will be gone when these end."""
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.info["name"] == "raylet" and not any(_FOLDER in word for word in words):
            yield from (
                word.partition("=")[2] for word in words if word.startswith("--gcs-address=")
            )


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"ray-gcs://{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("ray", "ray-gcs") or not parts.hostname or port is None:
        raise SweepError(
            f"{address!r} is no address of a Ray cluster", "give auto, host:port or ray://host:port"
        )
    return parts.hostname, port


def _require_answer(address: str) -> None:
    """Refuse within seconds what is no Ray: `ray.init` itself tries for two minutes and then ends the process."""
    host, port = _host_and_port(address)
    try:
        with _connection(host, port) as connection:
            connection.sendall(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
            )
            answer = connection.recv(9)
            if answer[3:4] != b"\x04":  # a settings frame opens every answer of gRPC
                raise ConnectionError("what answers there is not Ray")
    except OSError as error:
        hint = "check that the head is up (ray status there), the port (6379, or 10001 for ray://) and the firewall"
        raise Unavailable(
            f"no Ray cluster at {address}: {error or type(error).__name__}", hint
        ) from None


@contextlib.contextmanager
def _connection(host: str, port: int) -> Iterator[socket.socket]:
    """A connection that is silent for a few seconds at the most, encrypted where Ray's are."""
    with socket.create_connection((host, port), timeout=REACH_S) as connection:
        if not _uses_tls():
            yield connection
            return
        context = ssl.create_default_context(cafile=os.environ.get("RAY_TLS_CA_CERT"))
        context.check_hostname = False  # that is left to Ray
        context.set_alpn_protocols(["h2"])
        if certificate := os.environ.get("RAY_TLS_SERVER_CERT"):
            context.load_cert_chain(certificate, os.environ.get("RAY_TLS_SERVER_KEY"))
        with context.wrap_socket(connection) as encrypted:
            yield encrypted


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0") not in ("0", "")


def _show_token_where_asked(address: str) -> None:
    """And nowhere else: a driver that asks its workers for one that they do not have never hears from them."""
    import grpc

    service = (
        "ray.rpc.RayletDriver/ClusterInfo" if address.startswith("ray://") else _FIRST_QUESTION
    )
    with _channel(address.removeprefix("ray://")) as channel:
        try:
            channel.unary_unary(f"/{service}")(b"", timeout=REACH_S)
            answer = grpc.StatusCode.OK
        except grpc.RpcError as error:
            answer = error.code()
    if _uses_tls() and answer is grpc.StatusCode.UNAVAILABLE:
        return  # a certificate, say, that is for another name: Ray says it better
    os.environ["RAY_AUTH_MODE"] = (
        "token" if answer is grpc.StatusCode.UNAUTHENTICATED else "disabled"
    )
    _read_variables_again()


def _read_variables_again() -> None:
    """Have Ray read its variables, which it does by itself only when it is imported."""
    import ray._raylet

    raylet: Any = ray._raylet
    raylet.Config.initialize("")


def _channel(address: str) -> Any:
    """A channel of gRPC, encrypted where Ray's are."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if not _uses_tls():
        return grpc.insecure_channel(address, options)
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
    files = [
        Path(os.environ[name]).read_bytes() if os.environ.get(name) else None for name in names
    ]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """Ray's many ways of not connecting, in one."""
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001  Ray raises bare ones, and SystemExit when the head hangs
        text = " ".join(str(error).split())
        if "ersion mismatch" in text or "ersions" in text:
            raise Unavailable(
                f"{address} runs other versions: {text}",
                "use the cluster's Python and Ray versions here",
            ) from None
        if "uthentication" in text:
            raise Unavailable(
                f"{address} asks for a token",
                "copy the head's ~/.ray/auth_token here and set RAY_AUTH_MODE=token",
            ) from None
        text = (
            "the head does not answer"
            if isinstance(error, SystemExit)
            else text or type(error).__name__
        )
        raise Unavailable(
            f"cannot join {address}: {text}",
            "a host:port is joined from a node of that cluster; from elsewhere use ray://host:10001",
        ) from None


def connects(address: str, port: int) -> bool:
    """Whether anything listens there."""
    return _connects(_family(address), (address, port))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _connects(family: int, address: Any) -> bool:
    with contextlib.suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(2.0)
        connection.connect(address)
        return True
    return False
