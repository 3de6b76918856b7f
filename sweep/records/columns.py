"""The columns of a record: type, unit and meaning of each."""

from __future__ import annotations

import functools

import pyarrow as pa

from sweep.status import Status

SCHEMA_VERSION = 1

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_FLOATS, _INTS, _FLAGS = pa.list_(_FLOAT), pa.list_(_INT), pa.list_(pa.bool_())


def _column(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


_IDENTITY = [
    _column("run", _TEXT, "", "name of the run, which is the name of its grid"),
    _column("schema_version", _INT, "", "version of these columns"),
    _column("code_version", _TEXT, "", "version of sweep that wrote the record, with the commit where it is known"),
    _column("cell_id", _TEXT, "", "content hash of the cell: every setting but the seed"),
    _column("cell_name", _TEXT, "", "readable form of the cell, as torch==2.13.0/core/cpu/autograd/b5"),
    _column("trial_id", _TEXT, "", "content hash of the trial; records are merged and deduplicated by it"),
    _column("trial_name", _TEXT, "", "readable form of the trial, as torch==2.13.0/core/cpu/autograd/b5/s0"),
    _column("settings", _TEXT, "JSON", "every axis and parameter of the trial with its value, seed included"),
    _column(
        "content", _TEXT, "JSON", "what was measured beside the settings, see docs/grid.md; empty: nothing to tell"
    ),
    _column("framework", _TEXT, "", "the framework, without its version"),
    _column("version", _TEXT, "", "version of the framework that the grid asks for"),
    _column("workload", _TEXT, "", "what the trial does: core, train, infer, or a plug-in"),
    _column("backend", _TEXT, "", "which of the framework's implementations computes"),
    _column("backward", _TEXT, "", "how the loss is differentiated: autograd or explicit"),
    _column("device", _TEXT, "", "cpu or gpu"),
    _column("batch_exponent", _INT, "", "n of the batch size 2**n"),
    _column("batch_size", _INT, "examples", "examples in a batch"),
    _column("seed", _INT, "", "seed of weights, batches and order; the replicate's number"),
]

_OUTCOME = [
    _column("status", _TEXT, "", f"how the trial ended: {', '.join(Status)}"),
    _column("error", _TEXT, "", "what went wrong: the last lines of it, empty where nothing did"),
    _column("attempt", _INT, "", "1 for the first time this trial was run, 2 for the next"),
    _column("block", _INT, "", "randomised complete block; comparisons pair trials of one block"),
    _column("position", _INT, "", "place in the planned order of the whole sweep, from 0"),
    _column("started_at", pa.timestamp("us", tz="UTC"), "UTC", "when the trial started on its node"),
    _column("wall_s", _FLOAT, "s", "the whole trial on its node, set-up included"),
    _column("returncode", _INT, "", "how the worker process ended; negative: killed by that signal"),
]

_MACHINE = [
    _column("node", _TEXT, "", "name of the machine"),
    _column("device_name", _TEXT, "", "model of the device that computed: a CPU's or a GPU's"),
    _column("cpu_model", _TEXT, "", "model of the node's CPU"),
    _column("cores", _INTS, "", "cores the worker was bound to, read back inside it"),
    _column("niceness", _INT, "", "how nice the worker was to others, as that of nice; read back inside it"),
    _column("threads", _INT, "threads", "threads the framework computes with, read back inside the worker"),
    _column("environment_id", _TEXT, "", "environment; its packages are in environments/<id>.txt"),
    _column("python", _TEXT, "", "version of the interpreter, read back"),
    _column("numpy", _TEXT, "", "version of NumPy, read back"),
    _column("blas", _TEXT, "", "BLAS that NumPy or the framework is linked to, read back"),
    _column("framework_build", _TEXT, "", "what the framework says of its own build: version, compiler, libraries"),
    _column("machine", _TEXT, "JSON", "facts about the node: governor, SMT, NUMA, kernel, memory"),
    _column("load_before", _FLOAT, "runnable tasks", "other load on the node just before the trial"),
    _column("steal_ratio", _FLOAT, "share", "CPU time that the hypervisor took away during the trial"),
    _column("waited_s", _FLOAT, "s", "how long the trial waited for cores that other trials held"),
    _column("foreign_ratio", _FLOAT, "share", "time of the leased cores that other processes took during the trial"),
    _column("involuntary_switches", _INT, "switches", "times that the kernel took the worker off its core"),
    _column("user_s", _FLOAT, "s", "CPU time of the worker in user mode"),
    _column("system_s", _FLOAT, "s", "CPU time of the worker in the kernel"),
    _column("import_s", _FLOAT, "s", "time it took to import the framework; once per fork server"),
    _column("compile_s", _FLOAT, "s", "first step of a backend that compiles, before warm-up"),
    _column("peak_rss_bytes", _INT, "B", "most memory resident at once, by the kernel's own count"),
    _column("peak_device_bytes", _INT, "B", "most memory of the GPU allocated at once"),
    _column("data_id", _TEXT, "", "prepared data set that the batches were drawn from"),
    _column("variables", _TEXT, "JSON", "the worker's environment variables, read back: it has no others"),
]

_GPU = [
    _column("gpu_uuid", _TEXT, "", "the GPU, by the number that no other has"),
    _column("gpu_driver", _TEXT, "", "version of its driver"),
    _column("gpu_split", pa.bool_(), "", "whether MIG has split it into several that share its clocks"),
    _column("gpu_clock_before_mhz", _INT, "MHz", "clock of its multiprocessors before the trial"),
    _column("gpu_clock_mhz", _INT, "MHz", "the same at the end of the trial's work"),
    _column("gpu_temperature_c", _INT, "°C", "its temperature then"),
    _column("gpu_power_w", _FLOAT, "W", "the power that it drew then"),
    _column("gpu_slowed_by", _TEXT, "", "what held its clocks down then, in NVML's words; empty: nothing"),
    _column("gpu_overheated_ratio", _FLOAT, "share", "time of the trial during which heat held its clocks down"),
    _column("gpu_others", _INT, "processes", "other processes that were on it; not known where it is split"),
]

_FAIRNESS = [
    _column("loss_check", _FLOAT, "relative", "difference of the loss from the reference's, before timing"),
    _column("grad_check", _FLOAT, "relative", "difference of the gradient norm from the reference's, before timing"),
    _column("gradient_norm", _FLOAT, "norm", "Euclidean norm of all gradients, before timing"),
    _column("parameter_count", _INT, "parameters", "weights and biases that the framework counts"),
]

_SAMPLES = [
    _column("forward_s", _FLOATS, "s", "each sample's forward pass with its loss"),
    _column("backward_s", _FLOATS, "s", "each sample's backward pass"),
    _column("step_s", _FLOATS, "s", "each sample's step: forward and backward together"),
    _column("device_s", _FLOATS, "s", "each sample's step by the device's own clock (GPU events)"),
    _column("data_s", _FLOATS, "s", "each sample's reading of its batch, with include_data; part of step_s"),
    _column("warmup_s", _FLOATS, "s", "steps before the samples, set aside"),
    _column("valid", _FLAGS, "", "for each sample: false where it is known to be disturbed; those are left out"),
]

_TRAINING = [
    _column("iteration", _INTS, "iterations", "training: number of each iteration, from 1"),
    _column("elapsed_s", _FLOATS, "s", "training: time in iterations up to the end of each, validation left out"),
    _column("loss", _FLOATS, "loss", "training: loss of each iteration before its update; core: before timing"),
    _column(
        "iteration_s", _FLOATS, "s", "training: each iteration, from the end of the last; waiting for data included"
    ),
    _column("epoch_s", _FLOATS, "s", "training: duration of each epoch's iterations"),
    _column("data_wait_s", _FLOATS, "s", "training: part of each epoch spent waiting for batches and placing them"),
    _column("validation_epoch", _INTS, "epochs", "training: epochs done at each validation"),
    _column("validation_elapsed_s", _FLOATS, "s", "training: elapsed_s at each validation"),
    _column("validation_loss", _FLOATS, "loss", "training: loss on the validation set, each time it was taken"),
    _column("validation_pck", _FLOATS, "share", "training: correct keypoints (PCK), each time they were counted"),
    _column("validation_pcp", _FLOATS, "share", "training: correct limbs (strict PCP), each time they were counted"),
    _column("pck_by_joint", _FLOATS, "share", "training: the last PCK of each joint, in the order of docs/training.md"),
    _column("pcp_by_limb", _FLOATS, "share", "training: the last PCP of each limb, in the order of docs/training.md"),
    _column("target_epoch", _INT, "epochs", "training: epochs until the validation loss was target_loss or less"),
    _column("target_s", _FLOAT, "s", "training: elapsed_s until the validation loss was target_loss or less"),
    _column("training_examples", _INT, "examples", "training: examples trained on"),
    _column("validation_examples", _INT, "examples", "training: examples validated on"),
    _column("resumed_after", _INTS, "epochs", "training: epochs after which it went on from a checkpoint, having died"),
    _column("repeatable", pa.bool_(), "", "training: whether the same seed gives the same curve to the bit here"),
    _column("pose_example", _INTS, "", "training: validation examples whose predictions are kept, by place in data_id"),
    _column("pose_joints", _FLOATS, "pixels", "training: their predicted joints, x and y, example by example"),
]

_INFERENCE = [
    _column("images_per_s", _FLOAT, "images/s", "infer: images that go through the network in a second"),
    _column("prediction_check", _FLOAT, "relative", "infer: largest difference from the reference's predictions"),
]

SCHEMA = pa.schema(
    [*_IDENTITY, *_OUTCOME, *_MACHINE, *_GPU, *_FAIRNESS, *_SAMPLES, *_TRAINING, *_INFERENCE],
    metadata={"sweep_schema_version": str(SCHEMA_VERSION)},
)


# what sweep says of a trial, and a workload cannot
OURS = frozenset(
    [f.name for f in [*_IDENTITY, *_OUTCOME, *_GPU]]
    + ["node", "cpu_model", "machine", "environment_id", "packages", "log", "data_id", "load_before", "waited_s"]
    + ["steal_ratio", "foreign_ratio"]
)

METRICS = tuple(
    f.name
    for f in [*_OUTCOME, *_MACHINE, *_GPU, *_FAIRNESS, *_SAMPLES, *_TRAINING, *_INFERENCE]
    if f.metadata[b"unit"] and f.type in (_INT, _FLOAT, _FLOATS)
)


@functools.cache
def unit(name: str) -> str:
    """Unit of a column, empty where it has none or is not known; a name that ends in a unit carries it."""
    if name in SCHEMA.names:
        return str(SCHEMA.field(name).metadata[b"unit"].decode())
    return "s" if name.endswith("_s") else "B" if name.endswith("_bytes") else ""


def meaning(name: str) -> str:
    """What a column holds, empty where it is not known."""
    return str(SCHEMA.field(name).metadata[b"meaning"].decode()) if name in SCHEMA.names else ""
