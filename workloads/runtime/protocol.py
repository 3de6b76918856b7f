"""What the orchestrator and a host say to each other: JSON, one object a line, over pipes.

The orchestrator sends requests, one at a time: `Request.message()`, or `STOP` to end the trial that runs.
The host and the trial answer with events, each an object with the key `event`:

    ready         the framework is imported: `import_s`, `python`, `executable`, `pid`
    unimportable  it is not: `error`, the last lines of it; the host ends
    started       the trial's process is bound to its cores, has the framework and begins: `pid`, whether it was
                  `spawned` and so imported the framework itself, and what it took to get there, `import_s`, `cpu_s`
    progress      `facts`: what a long trial says of itself, as it likes: `epoch`, `epochs`, `loss`, `eta_s` …
    outcome       how the trial's work ended: `status`, `error`, `columns` of the record
    exit          how its process ended: `returncode` (negative: the signal), `user_s`, `system_s`,
                  `max_rss_bytes`, `involuntary_switches`; `left_behind_s`, the CPU time of what it had left behind;
                  and `log`, the first and last of what it wrote

Numbers that JSON lacks (NaN, Infinity) are written as Python's `json` writes and reads them: both sides are Python, and
a loss that is NaN shall arrive as what it is. A line that is no message is passed over; a writer that dies within a
line leaves its end to the host, whose next event starts a new one.
This is the one file of `workloads/` that the orchestrator imports.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional

RUN, REFERENCE_VALUES, CHECK = "run", "reference_values", "check"
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
    task: str  # RUN, or REFERENCE_VALUES of the workload for these settings, or a CHECK of them
    workload_file: str
    settings: Dict[str, Any]
    cores: List[int]  # to be bound to; none: wherever the kernel likes
    data: Optional[str] = None  # folder of the prepared data set
    reference: Optional[Dict[str, float]] = None  # what the parity check compares with
    checkpoints: Optional[str] = None  # folder in which a long trial keeps its state
    memory_bytes: Optional[int] = None  # limit of its data segments
    weights: Optional[str] = None  # folder of the initial weights that processes share
    network_file: Optional[str] = None  # of the network that the settings name

    def message(self) -> Dict[str, Any]:
        """What is sent."""
        return dict(self._asdict())


def encode(message: Dict[str, Any]) -> bytes:
    """A message as one line. NumPy's scalars and arrays become numbers and lists.

    Raises TypeError or ValueError for what JSON cannot say, and for a message beyond MOST_BYTES.
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
    """The message of a line; None where the line is none, as when its writer died in the middle."""
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def tells_of_memory(text: str) -> bool:
    """Whether these words of an interpreter, a framework or a library mean that memory has run out."""
    said = text.lower()
    return any(phrase in said for phrase in _OUT_OF_MEMORY)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError("{!r} of type {} cannot be sent as JSON".format(value, type(value).__name__))
