"""Texts as grids, and arguments of commands, that mean harm or nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = "results/made-up"

KEYS = [
    "name",
    "description",
    "workload",
    "axes",
    "parameters",
    "seeds",
    "resources",
    "exclude",
    "when",
    "claims",
]
KEYS += [
    "published",
    "until",
    "environments",
    "timeout",
    "order",
    "block",
    "nothing",
    "include",
    "parity_tolerance",
]
INNER = [
    "framework",
    "backend",
    "backward",
    "device",
    "batch_exponent",
    "seed",
    "threads",
    "samples",
    "warmup",
    "data",
]
INNER += [
    "compare",
    "baseline",
    "expect",
    "metric",
    "margin",
    "where",
    "interval",
    "seeds",
    "step",
    "range",
    "cpu",
    "gpu",
]
INNER += [
    "memory",
    "python",
    "requires",
    "lock",
    "index_url",
    "variables",
    "torch==2.13.0",
    "torch",
    "torch[gpu]",
    "*",
]
SCALARS = [
    "",
    "~",
    "0",
    "-1",
    "1",
    "5",
    "1e300",
    "1e-300",
    "0.5",
    "9" * 40,
    "true",
    "no",
    "core",
    "train",
    "infer",
]
SCALARS += [
    "autograd",
    "explicit",
    "cpu",
    "gpu",
    "torch==2.13.0",
    "torch==",
    "==1",
    "torch>=2",
    "chainer",
    "reference",
]
SCALARS += [
    "5²",
    "²",
    "٣",
    "/dev/zero",
    "/",
    "..",
    "nowhere.py",
    "http://x/y",
    "2h",
    "0s",
    "-5s",
    "1e9h",
    "faster",
    "1.0",
]
SCALARS += [
    "'\u202e'",
    '"\\0"',
    '"\\x1b[31m"',
    '"\\ud800"',
    "x" * 300,
    "!!python/name:os.system",
    "*a",
    "&a 5",
    "2026-99-99",
]
SCALARS += [
    "at least 5",
    "> 1",
    "1.5x .. 2x",
    "{range: [0, 1e300], step: 1e-300}",
    "{range: [0, 4]}",
    "{range: [5, 0]}",
]
SCALARS += [
    "{range: [0, 10], step: 0}",
    "{range: 5}",
    "{range: [0, 1], step: -1}",
    "{range: [a, b]}",
    "{range: [0, 1e18]}",
]
SCALARS += [
    "{range: [0, 1], step: 1e-9}",
    "{log_range: [1, 10]}",
    "{from: 5}",
    "[]",
    "{}",
    "[[]]",
    "[~]",
    "- 5",
    "|\n  a",
]


def texts(seed: int, count: int) -> Iterator[bytes]:
    """So many texts: half are put together of the language's pieces, half are grids of the project, changed."""
    draw = random.Random(seed)
    known = [
        path.read_bytes()
        for path in sorted(ROOT.glob("**/grids/*.yaml")) + sorted(ROOT.glob("*.yaml"))
    ]
    for _ in range(count):
        if known and draw.random() < 0.5:
            yield _changed(draw, draw.choice(known))
        else:
            yield _composed(draw).encode("utf-8", errors="surrogateescape")


def _composed(draw: random.Random) -> str:
    keys = draw.sample(KEYS, draw.randrange(1, 6))
    lines = ["name: x"] if "name" not in keys and draw.random() < 0.8 else []
    return "\n".join([*lines, *(f"{key}: {_value(draw, 0)}" for key in keys)]) + "\n"


def _value(draw: random.Random, depth: int) -> str:
    kind = draw.random()
    if depth > 2 or kind < 0.4:
        return _flat(draw.choice(SCALARS))
    if kind < 0.65:
        return f"[{', '.join(_value(draw, depth + 1) for _ in range(draw.randrange(4)))}]"
    pairs = (
        f"{draw.choice(INNER)!r}: {_value(draw, depth + 1)}" for _ in range(draw.randrange(1, 4))
    )
    return "{" + ", ".join(pairs) + "}"


def _flat(text: str) -> str:
    return (
        text
        if text[:1] in "'\"[{&*!" or not text
        else f'"{text}"'
        if set(text) & set(":-|*")
        else text
    )


def _changed(draw: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(lines))
        kind = draw.randrange(6)
        if kind == 0:
            del lines[place]
        elif kind == 1:
            lines.insert(place, lines[draw.randrange(len(lines))])
        elif kind == 2:
            key, colon, _ = lines[place].partition(b":")
            lines[place] = key + colon + b" " + draw.choice(SCALARS).encode() + b"\n"
        elif kind == 3:
            at = draw.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:at] + bytes([draw.randrange(256)]) + lines[place][at:]
        elif kind == 4:
            lines[place] = b"  " + lines[place]
        else:
            lines[place] = lines[place].replace(b"[", b"{").replace(b"-", b":")
        lines = lines or [b"\n"]
    return b"".join(lines)


METRICS = [
    "status",
    "valid",
    "settings",
    "started_at",
    "step_s",
    "seed",
    "gpu_split",
    "content",
    "",
    "nothing",
    "cores",
]
METRICS += [
    "error",
    "iteration",
    "repeatable",
    "wall_s",
    "loss",
    "attempt",
    "block",
    "²",
    "\udcff",
    "\x1b",
    "x" * 5000,
]
SETS = [
    "samples=[]",
    "samples={}",
    "samples=",
    "=",
    "samples",
    "samples=[[]]",
    "seed=[]",
    "framework=[]",
    "axes.mine=[]",
]
SETS += [
    "batch_exponent={range: [0, 1e300], step: 1e-300}",
    "batch_exponent=5²",
    "batch_exponent=²",
    "mine=5²",
    "a\x1b=1",
]
SETS += [
    "mine={range: [0, 1e300], step: 1e-300}",
    "name=x/y",
    "name=[]",
    "timeout=1e999",
    "resources.cpu=[]",
    "samples=~",
]
SETS += [
    "batch_exponent=1000000000000",
    "batch_exponent=-1",
    "threads=99999999999999999999",
    "\udcff=1",
    "mine=\udcff",
]
SETS += [
    "samples=1e300",
    "seed={range: [0, 1e18]}",
    "order=[1]",
    "environments.torch.lock=/dev/zero",
    "until.interval=[]",
]
SETS += [
    "resources..cpu=1",
    "..=1",
    "samples=&a [*a]",
    "mine='a\nb'",
    'mine="\\0"',
    'mine="\\x1b"',
    "x" * 5000 + "=1",
]
LONG = "x" * 300
PATHS = [
    LONG,
    f"{LONG}.svg",
    "x/" * 3000 + "a.svg",
    "\udcff.svg",
    "/dev/null/a.svg",
    "nowhere/a.svg",
    "",
    "~nobody-here/a.svg",
]
PATHS += ["grid.yaml/a.svg", ".", "/", "a\nb.svg", "-", "a\x1b.svg"]
CONDITIONS = [
    "",
    "=",
    "framework",
    "framework=",
    "=torch",
    "framework=[",
    "batch_exponent=5²",
    "batch_exponent=1e300",
    "a\x1b=b",
]
CONDITIONS += [
    "\udcff=1",
    "mine=*",
    "framework=\udcff",
    "batch_exponent={}",
    "node=[]",
    "x" * 5000,
    "seed=0",
    "framework=" + "[" * 50,
]


def _arguments() -> Iterator[Sequence[str]]:
    for metric in METRICS:
        for command in (
            ["summarize", RUN],
            ["compare", RUN, "--over", "framework"],
            ["plot", RUN, "time", "-o", "a.svg"],
        ):
            yield [*command, "--metric", metric]
    for text in SETS:
        yield ["plan", "grid.yaml", "--set", text]
    for text in CONDITIONS:
        for command in (
            ["summarize", RUN],
            ["report", RUN, "-o", "a.html"],
            ["plot", RUN, "time", "-o", "a.svg"],
        ):
            yield [*command, "--where", text]
        yield ["plan", "grid.yaml", "--only", text]
    for path in PATHS:
        yield ["report", RUN, "-o", path]
        yield ["plot", RUN, "time", "-o", path]
        yield ["show", RUN, "*/s5", "--poses", path]
        yield ["plan", path]
        yield ["ls", path]
        yield ["status", path]
        yield ["summarize", path]
        yield ["compare", RUN, "--baseline", path]
        yield ["run", "grid.yaml", "--out", path, "--dry-run"]
        yield ["show", RUN, path]
    for place in (
        "abfs://a@b/c",
        "s3://",
        "gs://",
        "file://",
        "file:///nowhere",
        "file://\udcff",
        "hdfs://x",
        "s3://a b",
        "x://y",
    ):
        yield ["plan", place]
        if not place.startswith(("abfs", "gs", "hdfs")):  # those ask the network
            yield ["ls", place]
            yield ["status", place]
    for axis in (
        "",
        "nothing",
        "framework,",
        ",",
        "framework,framework",
        "²",
        "\udcff",
        "settings",
        "status",
        "version",
        "x" * 5000,
    ):
        yield ["compare", RUN, "--over", axis]
        yield ["summarize", RUN, "--by", axis]
        yield ["plot", RUN, "time", "-o", "a.svg", "--x", axis]
        yield ["plot", RUN, "heatmap", "-o", "a.svg", "--over", axis]
        yield ["plot", RUN, axis, "-o", "a.svg"]
    for baseline in ("", "torch", "²", "\udcff", "a,b,c", "5"):
        yield ["compare", RUN, "--over", "framework", "--baseline", baseline]
        yield ["plot", RUN, "speedup", "-o", "a.svg", "--baseline", baseline]
    for margin in ("nan", "inf", "-1", "1e300", "", "²"):
        yield ["compare", RUN, "--over", "framework", "--margin", margin]


ARGUMENTS: tuple[Sequence[str], ...] = tuple(map(tuple, _arguments()))
