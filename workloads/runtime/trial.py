"""A trial's own process: bound to its cores, it runs the workload, sends the outcome and ends."""

import faulthandler
import importlib
import importlib.machinery
import importlib.util
import mmap
import os
import sys
import time
import traceback
import zlib
from typing import Any, Callable, Dict, Optional

from workloads import networks
from workloads.runtime import folders, kernel, probe, protocol
from workloads.runtime.refusals import Refusal

_ERROR_LINES = 20
# Freed when memory has run out, so that the failure can be reported.
_RESERVE_BYTES = 4 * 2**20
_WORKLOADS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Channel:
    """The pipe to which events are written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, event: str, **facts: Any) -> None:
        """Write one event; TypeError or ValueError, and nothing written, for what JSON lacks."""
        self.write(protocol.encode(dict(facts, event=event)))

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]


class Report:
    """Called by a workload to report its progress: `report({"epoch": 3, "loss": 0.1})`.

    `checkpoints` is the folder in which a long trial may keep its state, or None. `parity` is what
    the workload's function of that name gave in another process, or None.
    """

    def __init__(
        self,
        channel: Channel,
        checkpoints: Optional[str],
        parity: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.checkpoints = checkpoints
        self.parity = parity
        self._channel = channel

    def __call__(self, facts: Dict[str, Any]) -> None:
        self._channel.send("progress", facts=facts)


def run(
    request: Dict[str, Any], channel: Channel, framework: Callable[[], Any], spawned: bool
) -> None:
    """Run the trial and end the process.

    `spawned` says whether the process has its own interpreter: `framework` then imports the
    framework; otherwise it returns the module that the host has imported.
    """
    # A crash leaves its traceback in the log.
    faulthandler.enable()
    outcome = _outcome(request, channel, framework, spawned)
    try:
        channel.send("outcome", **outcome)
    except (TypeError, ValueError, RecursionError) as error:
        message = "the workload's columns cannot be kept: {}".format(error)
        channel.send("outcome", status="failed", error=message, columns={})
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


class _Unwritten(importlib.machinery.SourceFileLoader):
    """Loads a file of a user and writes no bytecode into its folder."""

    def set_data(self, *_: Any, **__: Any) -> None:
        """Where Python would write it."""


def load_file(path: str) -> Any:
    """The module of a file: by its name where it lies in `workloads`, else on its own."""
    path = os.path.abspath(path)
    if path.startswith(_WORKLOADS + os.sep):
        relative = os.path.relpath(path, _WORKLOADS)
        return importlib.import_module("workloads." + relative[: -len(".py")].replace(os.sep, "."))
    name = "plugin_{:08x}_{}".format(
        zlib.crc32(os.fsencode(path)), os.path.basename(path)[: -len(".py")]
    )
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, loader=_Unwritten(name, path))
        if spec is None or spec.loader is None:
            raise ImportError("{} is no Python file".format(path))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def last_lines(text: str) -> str:
    """Return the end of a traceback or log, short enough for a record."""
    return "\n".join(text.strip().splitlines()[-_ERROR_LINES:])


def _outcome(
    request: Dict[str, Any], channel: Channel, framework: Callable[[], Any], spawned: bool
) -> Dict[str, Any]:
    """Run the task; return status, error and columns."""
    reserve = mmap.mmap(
        -1, _RESERVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )  # counted, and not touched
    columns = {}  # type: Dict[str, Any]
    status, said = "ok", ""
    try:
        columns = _columns(request, channel, framework, spawned)
    except Refusal as refusal:
        status, said = refusal.status, str(refusal)
    except BaseException as error:  # noqa: BLE001  the one place where a trial ends, whatever its workload or framework raises
        reserve.close()
        kernel.unbound_memory()
        status, said = _failure_status(error), last_lines(traceback.format_exc())
        traceback.print_exc()
    found = probe.facts() if request["task"] in (protocol.RUN, protocol.PARITY) else {}
    found.update(columns)
    return {"status": status, "error": said, "columns": found}


def _columns(
    request: Dict[str, Any], channel: Channel, framework: Callable[[], Any], spawned: bool
) -> Dict[str, Any]:
    """Binds this process before any thread of the framework's starts, then does the work."""
    kernel.be_first_to_go()
    kernel.fix_memory_thresholds()
    folders.weights = request["weights"]
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    if request["memory_bytes"]:
        kernel.bound_memory(request["memory_bytes"])
    start = time.perf_counter()
    module = _imported(framework)
    import_s = time.perf_counter() - start
    channel.send(
        "started", pid=os.getpid(), spawned=spawned, import_s=import_s, cpu_s=time.process_time()
    )
    workload = load_file(request["workload_file"])
    if request["network_file"]:
        networks.add(request["settings"]["network"], load_file(request["network_file"]).NETWORK)
    if request["task"] == protocol.REFERENCE_VALUES:
        return dict(workload.reference_values(request["settings"], request["data"]))
    if request["task"] == protocol.CHECK:
        workload.check(request["settings"], request["data"])
        return {}
    if request["task"] == protocol.PARITY:
        arguments = module, request["settings"], request["data"], request["reference"]
        return {protocol.PARITY: dict(workload.parity(*arguments))}
    report = Report(channel, request["checkpoints"], request["parity"])
    columns = workload.run(
        module, request["settings"], request["data"], request["reference"], report
    )
    if not isinstance(columns, dict):
        raise TypeError("the workload returned {!r} and no dict of columns".format(columns))
    return columns


class Unimportable(Exception):  # noqa: N818  a state of the environment
    """The framework cannot be imported."""


def _imported(framework: Callable[[], Any]) -> Any:
    try:
        return framework()
    except (
        BaseException
    ) as error:  # whatever a framework raises, or exits with, when it is imported
        raise Unimportable("{}: {}".format(type(error).__name__, error)) from error


def _failure_status(error: BaseException) -> str:
    if isinstance(error, Unimportable):
        return "env_failed"
    said = "{} {}".format(type(error).__name__, error)
    return "oom" if isinstance(error, MemoryError) or protocol.tells_of_memory(said) else "failed"
