"""A cluster of several raylets on one machine: each is a node with its own files and locks."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
from ray.cluster_utils import Cluster
from trials import until

from sweep.cluster.addresses import connects

HEAD = "head"


class Raylets:
    """A head that runs no trials, and nodes that can be added and killed by name.

    All files are below `folder`. A node consists of the processes whose TMPDIR is the folder of
    its name: raylet, Ray workers, fork servers and trials. `variables` are those that trials need,
    as PYTHONPATH. With `client_port` the head also serves `ray://`.
    """

    def __init__(
        self,
        folder: Path,
        ray_folder: Path,
        cores: int = 2,
        client_port: int | None = None,
        **variables: str,
    ) -> None:
        self._folder, self._cores = folder, cores
        self._variables = {**variables, "RAY_TMPDIR": str(ray_folder)}
        self._nodes: dict[str, object] = {}
        ray_folder.mkdir()
        with self._as_node(HEAD), warnings.catch_warnings():
            # Ray does not close the logs of its client server.
            warnings.simplefilter("ignore", ResourceWarning)
            head = {
                "num_cpus": 0,
                "include_dashboard": False,
                "node_name": HEAD,
                "ray_client_server_port": client_port,
            }
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
            gc.collect()
        # The client server comes up last.
        assert client_port is None or until(lambda: connects("127.0.0.1", client_port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._as_node(HEAD):
            self._cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def names(self) -> list[str]:
        """The nodes that are up, without the head."""
        return list(self._nodes)

    def add(self, *names: str) -> None:
        """Start nodes, also again after a kill, and wait for them."""
        for name in names:
            with self._as_node(name):
                self._nodes[name] = self._cluster.add_node(
                    num_cpus=self._cores, node_name=name, wait=False
                )
        self._cluster.wait_for_nodes()

    def kill(self, name: str) -> int:
        """Kill all processes of a node at once, as a power failure does; return how many."""
        processes = list(self._processes(name))
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)
        return len(processes)

    def _processes(self, name: str) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TMPDIR") == str(self._folder / name):
                    yield process

    @contextlib.contextmanager
    def _as_node(self, name: str) -> Iterator[None]:
        """Let processes that are started meanwhile belong to a node."""
        (self._folder / name).mkdir(exist_ok=True)
        before = dict(os.environ)
        os.environ.update(self._variables, TMPDIR=str(self._folder / name))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
