"""Addresses of Ray clusters: find, check and probe them before `ray.init` gets them.

`ray.init` tries a wrong address for two minutes and may then end the process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from sweep.cluster import ray_folder, ray_internals
from sweep.errors import SweepError, Unavailable

ANSWER_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
# The preface of an HTTP/2 connection and an empty settings frame, as gRPC clients send them.
_GRPC_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEADER_BYTES = 9
_SETTINGS_FRAME = b"\x04"  # the type of the first frame of every gRPC server


def resolve(address: str) -> str:
    """Return the address that Ray will connect to.

    `auto` becomes RAY_ADDRESS or the cluster of this machine, and localhost this machine's own
    address.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _cluster_of_this_machine()
    if address.startswith("ray://"):
        return address
    host_and_port(address)
    return ray_internals.canonical_address(address)


def _cluster_of_this_machine() -> str:
    """Return the head's address of the cluster that this machine belongs to.

    Of several clusters that is the one that was started last.
    """
    found = set(heads_of_this_machine())
    last = ray_internals.last_started_address()
    if last in found:
        return str(last)
    if not found:
        hint = "give --address host:port, or none at all to start a local Ray"
        raise Unavailable("no Ray runs on this machine and RAY_ADDRESS is not set", hint)
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise Unavailable(f"several Rays run on this machine: {names}", "give one with --address")
    return found.pop()


def heads_of_this_machine() -> Iterator[str]:
    """Yield the head's address of each raylet on this machine.

    The local Rays of other sweeps are left out: they end with their sweeps.
    """
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        is_local = any(ray_folder.PREFIX in word for word in words)
        if process.info["name"] == "raylet" and not is_local:
            for word in words:
                if word.startswith("--gcs-address="):
                    yield word.partition("=")[2]


def host_and_port(address: str) -> tuple[str, int]:
    """Split an address; raises SweepError for what is not the address of a Ray cluster."""
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


def require_answer(address: str) -> None:
    """Raise `Unavailable` within seconds where no gRPC server answers at an address."""
    host, port = host_and_port(address)
    try:
        with _connection(host, port) as connection:
            connection.sendall(_GRPC_GREETING)
            answer = connection.recv(_FRAME_HEADER_BYTES)
            if answer[3:4] != _SETTINGS_FRAME:
                raise ConnectionError("what answers there is not Ray")
    except OSError as error:
        raise Unavailable(
            f"no Ray cluster at {address}: {error or type(error).__name__}",
            "check that the head is up (ray status there), "
            "the port (6379, or 10001 for ray://) and the firewall",
        ) from None


def use_token_where_required(address: str) -> None:
    """Set RAY_AUTH_MODE as the cluster requires it.

    A driver that uses a token on a cluster without tokens gets no answers from its workers.
    """
    import grpc

    is_client = address.startswith("ray://")
    method = ray_internals.CLIENT_FIRST_CALL if is_client else ray_internals.GCS_FIRST_CALL
    with _channel(address.removeprefix("ray://")) as channel:
        try:
            channel.unary_unary(f"/{method}")(b"", timeout=ANSWER_TIMEOUT_S)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
    if _uses_tls() and code is grpc.StatusCode.UNAVAILABLE:
        # For example a certificate for another name. The message of `ray.init` is better.
        return
    requires_token = code is grpc.StatusCode.UNAUTHENTICATED
    os.environ["RAY_AUTH_MODE"] = "token" if requires_token else "disabled"
    ray_internals.reload_config()


@contextlib.contextmanager
def _connection(host: str, port: int) -> Iterator[socket.socket]:
    """Open a connection with a time limit, encrypted where Ray's connections are."""
    with socket.create_connection((host, port), timeout=ANSWER_TIMEOUT_S) as connection:
        if not _uses_tls():
            yield connection
            return
        context = ssl.create_default_context(cafile=os.environ.get("RAY_TLS_CA_CERT"))
        context.check_hostname = False  # Ray checks it
        context.set_alpn_protocols(["h2"])
        if certificate := os.environ.get("RAY_TLS_SERVER_CERT"):
            context.load_cert_chain(certificate, os.environ.get("RAY_TLS_SERVER_KEY"))
        with context.wrap_socket(connection) as encrypted:
            yield encrypted


def _channel(address: str) -> Any:
    """Open a gRPC channel, encrypted where Ray's connections are."""
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if not _uses_tls():
        return grpc.insecure_channel(address, options)
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
    contents = [
        Path(os.environ[name]).read_bytes() if os.environ.get(name) else None for name in names
    ]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*contents), options)


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0") not in ("0", "")


def connects(address: str, port: int) -> bool:
    """Return whether something listens on a TCP port."""
    return connects_to(family(address), (address, port))


def family(host: str) -> socket.AddressFamily:
    """Return the address family of an IP address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def connects_to(family: int, address: Any) -> bool:
    """Return whether something listens at an address of a family, a Unix socket for example."""
    with contextlib.suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        connection.connect(address)
        return True
    return False
