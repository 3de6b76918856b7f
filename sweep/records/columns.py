"""The columns of a record: type, unit, meaning and metadata of each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import pyarrow as pa

from sweep.records.declared import NEVER, Direction, Identity, Per
from sweep.status import Status

SCHEMA_VERSION = 2


class ColumnMetadata(NamedTuple):
    """Metadata of a column, stored in every Parquet file as the metadata of its field.

    `direction` is which of two values is better. `per` is the unit of replication: many values in
    a trial (sample), or one for each trial, host (the process that imports the framework),
    environment or node. A value per host is the same in all trials of that host, so that n is the
    number of hosts. `absent` is "never" where an `ok` trial without a value did not reach its
    target. `identity` is whether the column distinguishes cells or trials.
    """

    unit: str = ""
    meaning: str = ""
    direction: Direction = "none"
    per: Per = "trial"
    absent: str = ""
    identity: Identity = ""

    @classmethod
    def of_field(cls, field: pa.Field) -> Self:
        """Return the metadata of a field, completed by what its name and type suggest."""
        stored = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        own = {key: stored[key] for key in cls._fields if key in stored}
        return cls(**{**_suggested(field.name, pa.types.is_list(field.type)), **own})

    def encoded(self) -> dict[str, str]:
        """Return the metadata for a field; unit and meaning are always there, others if set."""
        always = ("unit", "meaning")
        return {key: value for key, value in self._asdict().items() if value or key in always}


def _suggested(name: str, is_list: bool) -> dict[str, str]:
    """Return what name and type of a column suggest; of times and sizes, less is better."""
    unit = _unit_in_name(name)
    direction = "less" if unit else "none"
    return {"unit": unit, "direction": direction, "per": "sample" if is_list else "trial"}


def _unit_in_name(name: str) -> str:
    units = {"_s": "s", "_bytes": "B"}
    return next((unit for end, unit in units.items() if name.endswith(end)), "")


_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_FLOATS, _INTS, _FLAGS = pa.list_(_FLOAT), pa.list_(_INT), pa.list_(pa.bool_())


def _column(
    name: str,
    kind: pa.DataType,
    unit: str,
    meaning: str,
    direction: Direction = "none",
    per: Per | None = None,
    absent: str = "",
    identity: Identity = "",
) -> pa.Field:
    usual: Per = "sample" if pa.types.is_list(kind) else "trial"
    about = ColumnMetadata(unit, meaning, direction, per or usual, absent, identity)
    return pa.field(name, kind, metadata=about.encoded())


def _of_cell(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return _column(name, kind, unit, meaning, identity="cell")


def _of_trial(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return _column(name, kind, unit, meaning, identity="trial")


_IDENTITY = [
    _column("run", _TEXT, "", "name of the run, which is the name of its grid"),
    _column("schema_version", _INT, "", "version of these columns"),
    _column(
        "code_version",
        _TEXT,
        "",
        "version of sweep that wrote the record, with the commit where it is known",
    ),
    _of_cell("cell_id", _TEXT, "", "content hash of the cell: every setting but the seed"),
    _of_cell(
        "cell_name", _TEXT, "", "readable form of the cell, as torch==2.13.0/core/cpu/autograd/b5"
    ),
    _of_trial(
        "trial_id",
        _TEXT,
        "",
        "content hash of the trial; records are merged and deduplicated by it",
    ),
    _of_trial(
        "trial_name",
        _TEXT,
        "",
        "readable form of the trial, as torch==2.13.0/core/cpu/autograd/b5/s0",
    ),
    _of_trial(
        "settings",
        _TEXT,
        "JSON",
        "every axis and parameter of the trial with its value, seed included",
    ),
    _of_cell(
        "content",
        _TEXT,
        "JSON",
        "what was measured beside the settings, see docs/grid.md; empty: nothing to tell",
    ),
    _of_cell("framework", _TEXT, "", "the framework, without its version"),
    _of_cell("version", _TEXT, "", "version of the framework that the grid asks for"),
    _of_cell("workload", _TEXT, "", "what the trial does: core, train, infer, or a plug-in"),
    _of_cell("backend", _TEXT, "", "which of the framework's implementations computes"),
    _of_cell("backward", _TEXT, "", "how the loss is differentiated: autograd or explicit"),
    _of_cell("device", _TEXT, "", "cpu or gpu"),
    _of_cell("batch_exponent", _INT, "", "n of the batch size 2**n"),
    _of_cell("batch_size", _INT, "examples", "examples in a batch"),
    _of_trial("seed", _INT, "", "seed of weights, batches and order; the replicate's number"),
]

_OUTCOME = [
    _column("status", _TEXT, "", f"how the trial ended: {', '.join(Status)}"),
    _column("error", _TEXT, "", "what went wrong: the last lines of it, empty where nothing did"),
    _column("attempt", _INT, "", "1 for the first time this trial was run, 2 for the next"),
    _column("block", _INT, "", "randomised complete block; comparisons pair trials of one block"),
    _column("position", _INT, "", "place in the planned order of the whole sweep, from 0"),
    _column(
        "started_at", pa.timestamp("us", tz="UTC"), "UTC", "when the trial started on its node"
    ),
    _column("wall_s", _FLOAT, "s", "the whole trial on its node, set-up included", "less"),
    _column(
        "returncode", _INT, "", "how the worker process ended; negative: killed by that signal"
    ),
]

_MACHINE = [
    _column("node", _TEXT, "", "name of the machine", per="node"),
    _column(
        "device_name",
        _TEXT,
        "",
        "model of the device that computed: a CPU's or a GPU's",
        per="node",
    ),
    _column("cpu_model", _TEXT, "", "model of the node's CPU", per="node"),
    _column(
        "host_id",
        _TEXT,
        "",
        "process that imported the framework: a fork server, or the trial's",
        per="host",
    ),
    _column("cores", _INTS, "", "cores the worker was bound to, read back inside it", per="trial"),
    _column(
        "niceness",
        _INT,
        "",
        "how nice the worker was to others, as that of nice; read back inside it",
    ),
    _column(
        "threads",
        _INT,
        "threads",
        "threads the framework computes with, read back inside the worker",
    ),
    _column(
        "environment_id",
        _TEXT,
        "",
        "environment; its packages are in environments/<id>.txt",
        per="environment",
    ),
    _column("python", _TEXT, "", "version of the interpreter, read back", per="environment"),
    _column("numpy", _TEXT, "", "version of NumPy, read back", per="environment"),
    _column(
        "blas",
        _TEXT,
        "",
        "BLAS that NumPy or the framework is linked to, read back",
        per="environment",
    ),
    _column(
        "framework_build",
        _TEXT,
        "",
        "what the framework says of its own build: version, compiler, libraries",
        per="environment",
    ),
    _column(
        "machine",
        _TEXT,
        "JSON",
        "facts about the node: governor, SMT, NUMA, kernel, memory",
        per="node",
    ),
    _column(
        "load_before", _FLOAT, "runnable tasks", "other load on the node just before the trial"
    ),
    _column(
        "steal_ratio", _FLOAT, "share", "CPU time that the hypervisor took away during the trial"
    ),
    _column("waited_s", _FLOAT, "s", "how long the trial waited for cores that other trials held"),
    _column(
        "contention_ratio",
        _FLOAT,
        "share",
        "time of the leased cores that other processes took during the trial",
    ),
    _column(
        "involuntary_switches",
        _INT,
        "switches",
        "times that the kernel took the worker off its core",
    ),
    _column("user_s", _FLOAT, "s", "CPU time of the worker in user mode", "less"),
    _column("system_s", _FLOAT, "s", "CPU time of the worker in the kernel", "less"),
    _column(
        "import_s",
        _FLOAT,
        "s",
        "time it took to import the framework; once per host_id",
        "less",
        "host",
    ),
    _column(
        "compile_s", _FLOAT, "s", "first step of a backend that compiles, before warm-up", "less"
    ),
    _column(
        "peak_rss_bytes",
        _INT,
        "B",
        "most memory resident at once, by the kernel's own count",
        "less",
    ),
    _column("peak_device_bytes", _INT, "B", "most memory of the GPU allocated at once", "less"),
    _column("data_id", _TEXT, "", "prepared data set that the batches were drawn from"),
    _column(
        "variables",
        _TEXT,
        "JSON",
        "the worker's environment variables, read back; it has no others but SWEEP_PROCESS, "
        "a random mark by which processes are found again, and LC_CTYPE, which Python itself "
        "may set",
        per="host",
    ),
]

_GPU = [
    _column("gpu_uuid", _TEXT, "", "the GPU, by the number that no other has"),
    _column("gpu_driver", _TEXT, "", "version of its driver", per="node"),
    _column(
        "gpu_split", pa.bool_(), "", "whether MIG has split it into several that share its clocks"
    ),
    _column("gpu_clock_before_mhz", _INT, "MHz", "clock of its multiprocessors before the trial"),
    _column("gpu_clock_mhz", _INT, "MHz", "the same at the end of the trial's work"),
    _column("gpu_temperature_c", _INT, "°C", "its temperature then"),
    _column("gpu_power_w", _FLOAT, "W", "the power that it drew then"),
    _column(
        "gpu_slowed_by",
        _TEXT,
        "",
        "what held its clocks down then, in NVML's words; empty: nothing",
    ),
    _column(
        "gpu_overheated_ratio",
        _FLOAT,
        "share",
        "time of the trial during which heat held its clocks down",
    ),
    _column(
        "gpu_others",
        _INT,
        "processes",
        "other processes that were on it; not known where it is split",
    ),
]

# Below the tolerance all values are equally good, so these have no direction.
_FAIRNESS = [
    _column(
        "loss_check",
        _FLOAT,
        "relative",
        "difference of the loss from the reference's, before timing",
    ),
    _column(
        "grad_check",
        _FLOAT,
        "relative",
        "difference of the gradient norm from the reference's, before timing",
    ),
    _column(
        "parity_recheck",
        _FLOAT,
        "relative",
        "difference of one example's loss or prediction from the process that passed the check",
    ),
    _column(
        "statistics_check",
        _FLOAT,
        "relative",
        "difference of the running statistics' norm from the reference's, before timing",
    ),
    _column("gradient_norm", _FLOAT, "norm", "Euclidean norm of all gradients, before timing"),
    _column(
        "statistics_norm",
        _FLOAT,
        "norm",
        "Euclidean norm of the running statistics after a batch, where the network has some",
    ),
    _column("parameter_count", _INT, "parameters", "weights and biases that the framework counts"),
]

_SAMPLES = [
    _column(
        "forward_s",
        _FLOATS,
        "s",
        "each sample's forward pass; in core with its loss, in infer without",
        "less",
    ),
    _column("backward_s", _FLOATS, "s", "each sample's backward pass", "less"),
    _column(
        "step_s",
        _FLOATS,
        "s",
        "each sample's step: forward and backward; infer: forward; own step: all",
        "less",
    ),
    _column(
        "device_s",
        _FLOATS,
        "s",
        "each sample's step by the device's own clock (GPU events)",
        "less",
    ),
    _column(
        "data_s",
        _FLOATS,
        "s",
        "each sample's reading of its batch, with include_data; part of step_s",
        "less",
    ),
    _column("warmup_s", _FLOATS, "s", "steps before the samples, set aside", "less"),
    _column(
        "valid",
        _FLAGS,
        "",
        "for each sample: false where it is known to be disturbed; those are left out",
    ),
]

_TRAINING = [
    _column("iteration", _INTS, "iterations", "training: number of each iteration, from 1"),
    _column(
        "elapsed_s",
        _FLOATS,
        "s",
        "training: time in iterations up to the end of each, validation left out",
    ),
    _column(
        "loss",
        _FLOATS,
        "loss",
        "training: loss of each iteration before its update; core: before timing",
        "less",
    ),
    _column(
        "iteration_s",
        _FLOATS,
        "s",
        "training: each iteration, from the end of the last; waiting for data included",
        "less",
    ),
    _column("epoch_s", _FLOATS, "s", "training: duration of each epoch's iterations", "less"),
    _column(
        "data_wait_s",
        _FLOATS,
        "s",
        "training: part of each epoch spent waiting for batches and placing them",
        "less",
    ),
    _column("validation_epoch", _INTS, "epochs", "training: epochs done at each validation"),
    _column("validation_elapsed_s", _FLOATS, "s", "training: elapsed_s at each validation"),
    _column(
        "validation_loss",
        _FLOATS,
        "loss",
        "training: loss on the validation set, each time it was taken",
        "less",
    ),
    _column(
        "validation_pck",
        _FLOATS,
        "share",
        "training: correct keypoints (PCK), each time they were counted",
        "more",
    ),
    _column(
        "validation_pcp",
        _FLOATS,
        "share",
        "training: correct limbs (strict PCP), each time they were counted",
        "more",
    ),
    _column(
        "pck_by_joint",
        _FLOATS,
        "share",
        "training: the last PCK of each joint, in the order of docs/training.md",
        "more",
    ),
    _column(
        "pcp_by_limb",
        _FLOATS,
        "share",
        "training: the last PCP of each limb, in the order of docs/training.md",
        "more",
    ),
    _column(
        "target_epoch",
        _INT,
        "epochs",
        "training: epochs until the validation loss was target_loss or less; none: it never was",
        "less",
        absent=NEVER,
    ),
    _column(
        "target_s",
        _FLOAT,
        "s",
        "training: elapsed_s until the validation loss was target_loss or less; none: it never was",
        "less",
        absent=NEVER,
    ),
    _column("training_examples", _INT, "examples", "training: examples trained on"),
    _column("validation_examples", _INT, "examples", "training: examples validated on"),
    _column(
        "resumed_after",
        _INTS,
        "epochs",
        "training: epochs after which it went on from a checkpoint, having died",
    ),
    _column(
        "repeatable",
        pa.bool_(),
        "",
        "training: whether the same seed gives the same curve to the bit here",
    ),
    _column(
        "pose_example",
        _INTS,
        "",
        "training: validation examples whose predictions are kept, by place in data_id",
    ),
    _column(
        "pose_joints",
        _FLOATS,
        "pixels",
        "training: their predicted joints, x and y, example by example",
    ),
]

_INFERENCE = [
    _column(
        "images_per_s",
        _FLOAT,
        "images/s",
        "infer: images that go through the network in a second",
        "more",
    ),
    _column(
        "prediction_check",
        _FLOAT,
        "relative",
        "infer: largest difference from the reference's predictions",
    ),
]

_OWN_STEP = [
    _column(
        "first_step_s",
        _FLOAT,
        "s",
        "own step: the very first step, in which whatever compiles does so",
        "less",
    ),
    _column(
        "result",
        _FLOAT,
        "",
        "own step: what the last step before the samples returned first, a number or an array's "
        "Euclidean norm; none: it returned neither",
    ),
]

SCHEMA = pa.schema(
    [
        *_IDENTITY,
        *_OUTCOME,
        *_MACHINE,
        *_GPU,
        *_FAIRNESS,
        *_SAMPLES,
        *_TRAINING,
        *_INFERENCE,
        *_OWN_STEP,
    ],
    metadata={"sweep_schema_version": str(SCHEMA_VERSION)},
)


# Columns that sweep itself fills. A workload must not return them.
OURS = frozenset(
    [f.name for f in [*_IDENTITY, *_OUTCOME, *_GPU]]
    + [
        "node",
        "cpu_model",
        "machine",
        "host_id",
        "environment_id",
        "packages",
        "log",
        "columns",
        "data_id",
    ]
    + ["load_before", "waited_s", "steal_ratio", "contention_ratio"]
)


def is_measured(field: pa.Field) -> bool:
    """Return whether a column holds numbers, or lists of floats, that can be averaged."""
    return field.type in (_INT, _FLOAT, _FLOATS)


def holds_numbers(field: pa.Field) -> bool:
    """Return whether a column holds numbers, or lists of them."""
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


METRICS = tuple(
    f.name
    for f in [
        *_OUTCOME,
        *_MACHINE,
        *_GPU,
        *_FAIRNESS,
        *_SAMPLES,
        *_TRAINING,
        *_INFERENCE,
        *_OWN_STEP,
    ]
    if f.metadata[b"unit"] and is_measured(f)
)

_KNOWN = {field.name: ColumnMetadata.of_field(field) for field in SCHEMA}


def metadata_of(field: pa.Field) -> ColumnMetadata:
    """Return the metadata of a column that was read.

    For built-in columns it is that of this version, for others that of the file.
    """
    return _KNOWN.get(field.name) or ColumnMetadata.of_field(field)


@functools.cache
def metadata(name: str) -> ColumnMetadata:
    """Return the metadata of a column, from its name alone."""
    return metadata_of(pa.field(name, _FLOAT))


def is_declared(field: pa.Field) -> bool:
    """Return whether a column is a plug-in's with a declared direction."""
    return field.name not in _KNOWN and b"direction" in (field.metadata or {})


def directions(
    names: Iterable[str], declared: Mapping[str, Mapping[str, str]]
) -> dict[str, Direction]:
    """Return the directions of these columns, and of all that plug-ins declare."""
    fields = [pa.field(name, _FLOAT, metadata=dict(about)) for name, about in declared.items()]
    own = {field.name: ColumnMetadata.of_field(field).direction for field in fields}
    return own | {name: metadata(name).direction for name in names}


def unit(name: str) -> str:
    """Return the unit of a column, which its name may end in; "" where it has none."""
    return metadata(name).unit


def meaning(name: str) -> str:
    """Return the meaning of a column, "" where it is not known."""
    return metadata(name).meaning
