"""The cost of a trial in sweep and in the tools that a user might choose instead.

Every tool is timed from outside with few and with many trials. The difference, divided by the
number of trials between, is the cost of one more trial, without the start of the tool. With a
small framework asv's fork server is faster: it leases no cores, has no cluster, checks no machine,
and does not write each result to disk before the next trial.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import OURS, Figure, target
from benchmarks.peers import HERE, PLUGINS, Ran, environment, framework_python, version
from sweep.records.results import Results

TOOLS = HERE / "tools"
TRIAL = PLUGINS / "sweep_benchmark" / "trial.py"
GRID = """
name: trials
workload: benchmark
axes: {{framework: [{framework}], backward: [autograd], seed: {{range: [1, {count}]}}}}
resources: {{cpu: 1, exclusive: {exclusive}}}
"""

Run = Callable[[int], Ran]  # so many trials


def figures(quick: bool) -> Iterator[Figure]:
    nothing, small = (
        "a trial that does nothing but import NumPy",
        "a trial that imports torch and takes one small step",
    )
    yield from _costs(
        nothing, "reference", "numpy", (2, 12) if quick else (20, 620), (1, 3) if quick else (2, 42)
    )
    yield target(nothing, 1 / 100, note="a hundred trials a second")
    yield from _costs(
        small, "torch==2.13.0", "torch", (2, 12) if quick else (5, 105), (1, 3) if quick else (1, 6)
    )
    yield from above_its_work(
        f"{small}: above its own work", "torch==2.13.0", (2, 12) if quick else (5, 105)
    )


def _costs(
    said: str, framework: str, module: str, ours: tuple[int, int], theirs: tuple[int, int]
) -> Iterator[Figure]:
    for packed in (True, False):
        how = "trials side by side" if packed else "one trial at a time"
        yield from _cost(said, f"{OURS}, {how}", by_sweep(framework, packed), ours)
    for who, run, counts in others(framework, module, theirs):
        yield from _cost(said, who, run, counts)


def _cost(said: str, who: str, run: Run, counts: tuple[int, int]) -> Iterator[Figure]:
    few, many = counts
    try:
        first, second = run(few).seconds, run(many).seconds
    except (RuntimeError, ValueError) as error:
        print(f"{who}: {error}", file=sys.stderr)
        return
    each = (second - first) / (many - few)
    yield Figure(
        said,
        who,
        each,
        note=f"{many} trials against {few}; {first - few * each:.1f} s to start and end",
    )


def above_its_work(what: str, framework: str, counts: tuple[int, int]) -> Iterator[Figure]:
    """Yield what each trial adds to the time of its own work, one trial at a time."""
    (first, _), (second, work_s) = (swept(framework, False, count) for count in counts)
    each = (second.seconds - first.seconds) / (counts[1] - counts[0])
    yield Figure(what, OURS, each - work_s, note=f"its own work takes {work_s * 1e3:.1f} ms")
    yield target(what, 0.020)


def by_sweep(framework: str, packed: bool) -> Run:
    framework_python(framework)
    return lambda count: swept(framework, packed, count)[0]


def swept(framework: str, packed: bool, count: int) -> tuple[Ran, float]:
    """Return the result of `sweep run`, and the median seconds of the trials' own work."""
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder, "grid.yaml")
        grid.write_text(
            GRID.format(framework=framework, count=count, exclusive=str(not packed).lower())
        )
        ran = peers.sweep("run", grid, "--max-contention", "any", folder=Path(folder))
        steps = Results(Path(folder, "results", "trials")).records(["step_s"])["step_s"].to_pylist()
    if len(steps) != count:
        raise RuntimeError(f"{len(steps)} of {count} trials have a record")
    return ran, statistics.median(step for each in steps for step in each)


def others(
    framework: str, module: str, counts: tuple[int, int]
) -> Iterator[tuple[str, Run, tuple[int, int]]]:
    python = framework_python(framework)
    loop = [python, TRIAL]

    def script(interpreter: Path, name: str) -> Run:
        return lambda count: peers.run(
            [interpreter, TOOLS / f"{name}.py", str(count), module, *loop]
        )

    yield "a loop around subprocess.run", script(python, "loop"), counts
    yield "concurrent.futures, a process each", script(python, "futures"), counts
    tasks = environment("ray[tune]==2.60.0")
    yield (
        f"{version(tasks, 'ray')}, a task that starts a process",
        script(tasks, "ray_tasks"),
        counts,
    )
    yield f"{version(tasks, 'ray')}, Tune, grid search", script(tasks, "ray_tune"), (1, 4)
    joblib = environment("hydra-core", "hydra-joblib-launcher")
    yield (
        f"{version(joblib, 'hydra-core')}, joblib launcher",
        _hydra(joblib, python, module),
        counts,
    )
    runner = environment("pyperf", beside=python)
    yield (
        f"{version(runner, 'pyperf')}, its runner",
        _pyperf(runner, module),
        (max(2, counts[0]), counts[1]),
    )
    served = environment("asv", beside=python)
    yield f"{version(served, 'asv')}, its fork server", _asv(served, module), (1, 201)


def _hydra(interpreter: Path, python: Path, module: str) -> Run:
    def run(count: int) -> Ran:
        with tempfile.TemporaryDirectory() as folder:
            given = [
                "-m",
                "hydra/launcher=joblib",
                "hydra.launcher.n_jobs=1",
                f"hydra.sweep.dir={folder}",
            ]
            axes = [
                f"+seed=range(0,{count})",
                f"+python={python}",
                f"+trial={TRIAL}",
                f"+module={module}",
            ]
            return peers.run([interpreter, TOOLS / "hydra_joblib.py", *given, *axes], Path(folder))

    return run


def _pyperf(interpreter: Path, module: str) -> Run:
    given = ["--quiet", "--module", module, "--trial", TRIAL]
    return lambda count: peers.run(
        [interpreter, TOOLS / "pyperf_runner.py", *given, "--count", str(count)]
    )


def _asv(interpreter: Path, module: str) -> Run:
    def run(count: int) -> Ran:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "asv.conf.json").write_text(
                '{"version": 1, "project": "trials", "repo": ".", "environment_type": "existing", '
                f'"benchmark_dir": "{TOOLS / "asv"}", "results_dir": "results", "env_dir": "env"}}'
            )
            variables = {
                "HOME": folder,
                "TRIAL": str(TRIAL),
                "TRIAL_MODULE": module,
                "TRIAL_COUNT": str(count),
            }
            author = ["-c", "user.name=sweep", "-c", "user.email=sweep@localhost"]
            peers.run(["git", "init", "--quiet", folder], more=variables)
            peers.run(
                ["git", *author, "commit", "--quiet", "--allow-empty", "-m", "trials"],
                Path(folder),
                variables,
            )
            asv = [interpreter, "-m", "asv"]
            peers.run([*asv, "machine", "--yes"], Path(folder), variables)
            command = [*asv, "run", f"--python={interpreter}", "--launch-method=forkserver"]
            return peers.run(command, Path(folder), variables)

    return run
