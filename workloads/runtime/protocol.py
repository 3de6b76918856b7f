"""The protocol between the orchestrator and a host: JSON, one object per line, over pipes.

The orchestrator sends requests, one at a time: `Request.message()`, or `STOP` to end the running
trial. The host and the trial answer with events, objects with the key `event`:

    ready         the framework is imported: `import_s`, `python`, `executable`, `pid`
    unimportable  it is not: `error`, its last lines; the host ends
    started       the trial's process is bound to its cores, has the framework and begins: `pid`,
                  whether it was `spawned` and so imported the framework itself, and what that
                  took, `import_s`, `cpu_s`
    progress      `facts`: what a long trial reports: `epoch`, `epochs`, `loss`, `eta_s` …
    outcome       how the trial's work ended: `status`, `error`, `columns` of the record
    exit          how its process ended: `returncode` (negative: the signal), `user_s`, `system_s`,
                  `max_rss_bytes`, `involuntary_switches`; `left_behind_s`, the CPU time of the
                  processes it left behind; and `log`, the beginning and end of its output

Numbers that JSON lacks (NaN, Infinity) are written and read in the way of Python's `json`: both
sides are Python, and a loss that is NaN must arrive as NaN. An invalid line is ignored. If a writer
dies within a line, the host ends that line before its next event.

This is the only file of `workloads/` that the orchestrator imports.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional

RUN, PARITY = "run", "parity"
REFERENCE_VALUES, CHECK = "reference_values", "check"
STOP: Dict[str, Any] = {"stop": True}

MOST_BYTES = 256 * 2**20  # of one message

_OUT_OF_MEMORY = (
    "out of memory",  # torch and CuPy, on a GPU
    "outofmemory",
    "out_of_memory",  # CUDA's driver
    "resource_exhausted",  # XLA
    "alloc_failed",  # cuDNN and cuBLAS
    "can't allocate memory",  # torch
    "cannot allocate memory",  # the C library
    "not enough memory",  # torch before 1.0
    "unable to allocate",  # NumPy
    "memory allocation still failed",  # OpenBLAS
    "bad_alloc",  # C++
    "memoryerror",
)


class Request(NamedTuple):
    """One trial, as the host needs to know it."""

    trial: str  # its name, for messages
    task: str  # RUN, PARITY, or REFERENCE_VALUES of the workload for these settings, or a CHECK of them
    workload_file: str
    settings: Dict[str, Any]
    cores: List[int]  # to be bound to; none: wherever the kernel likes
    data: Optional[str] = None  # folder of the prepared data set
    reference: Optional[Dict[str, float]] = None  # what the parity check compares with
    checkpoints: Optional[str] = None  # folder in which a long trial keeps its state
    memory_bytes: Optional[int] = None  # limit of its data segments
    parity: Optional[Dict[str, Any]] = None  # what the workload's `parity` gave, in another process
    weights: Optional[str] = None  # folder of the initial weights that processes share
    network_file: Optional[str] = None  # of the network that the settings name

    def message(self) -> Dict[str, Any]:
        """Return the request as a message."""
        return dict(self._asdict())


def encode(message: Dict[str, Any]) -> bytes:
    """Return a message as one line; NumPy's scalars and arrays become numbers and lists.

    TypeError or ValueError for what JSON lacks, and for a message beyond MOST_BYTES.
    """
    line = (json.dumps(message, default=_plain, ensure_ascii=False) + "\n").encode(
        "utf-8", "replace"
    )
    if len(line) > MOST_BYTES:
        raise ValueError(
            "{:,} bytes are more than the {:,} that can be sent".format(len(line), MOST_BYTES)
        )
    return line


def decode(line: bytes) -> Optional[Dict[str, Any]]:
    """Return the message of a line; None if it is invalid, such as after its writer's death."""
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def tells_of_memory(text: str) -> bool:
    """Return whether an error text of an interpreter, framework or library means out of memory."""
    said = text.lower()
    return any(phrase in said for phrase in _OUT_OF_MEMORY)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError("{!r} of type {} cannot be sent as JSON".format(value, type(value).__name__))
