"""What the orchestrator and a host say to each other: JSON, one object a line, over pipes.

The orchestrator sends requests, one at a time: `Request.message()`, or `STOP` to end the trial that runs.
The host and the trial answer with events, each an object with the key `event`:

    ready       the framework is imported: `import_s`, `python`, `executable`
    unimportable  it is not: `error`, the last lines of it; the host ends
    started     the trial's process runs: `pid`
    progress    what a long trial says of itself, as it likes: `epoch`, `epochs`, `loss`, `eta_s` …
    outcome     how the trial's work ended: `status`, `error`, `columns` of the record
    exit        how its process ended: `returncode` (negative: the signal), `user_s`, `system_s`,
                `max_rss_bytes`, `involuntary_switches`, and `log`, the first and last of what it wrote

Numbers that JSON lacks (NaN, Infinity) are written the way Python's `json` writes and reads them.
This is the one file of `workloads/` that the orchestrator imports.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional

RUN, REFERENCE_VALUES = "run", "reference_values"
STOP: Dict[str, Any] = {"stop": True}


class Request(NamedTuple):
    """One trial, as the host needs to know it."""

    trial: str  # its name, for messages
    task: str  # RUN, or REFERENCE_VALUES of the workload for these settings
    workload_file: str
    settings: Dict[str, Any]
    cores: List[int]  # to be bound to; none: wherever the kernel likes
    data: Optional[str] = None  # folder of the prepared data set
    reference: Optional[Dict[str, float]] = None  # what the fairness gate compares with
    checkpoints: Optional[str] = None  # folder in which a long trial keeps its state
    memory_bytes: Optional[int] = None  # limit of its data segments

    def message(self) -> Dict[str, Any]:
        return dict(self._asdict())


def encode(message: Dict[str, Any]) -> bytes:
    """A message as one line. NumPy's scalars and arrays become numbers and lists; TypeError for what JSON cannot say."""
    return (json.dumps(message, default=_plain) + "\n").encode("utf-8")


def decode(line: bytes) -> Optional[Dict[str, Any]]:
    """The message of a line; None where the line is none, as when its writer died in the middle."""
    try:
        message = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError("{!r} of type {} cannot be sent as JSON".format(value, type(value).__name__))
