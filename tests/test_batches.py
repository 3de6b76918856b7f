"""`batch_size` beside `batch_exponent`: either may be written, and the ids agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Sweep
from made_up import keep, record

from sweep import catalog, grid
from sweep.analysis.run import Run
from sweep.cli.plan import expand_grid
from sweep.errors import SweepError
from sweep.grid import Trial

STEP = """\
def setup(batch_size, width=1):
    return lambda: float(batch_size)
"""


def trials_of(text: str, *sets: str, path: str = "") -> list[Trial]:
    parsed = grid.parse(f"axes: {{framework: [reference], seed: [0]{text}}}", sets, path)
    return list(grid.expand(parsed, catalog.frameworks(), catalog.workloads()).trials)


def ids(trials: list[Trial]) -> list[str]:
    return [trial.id for trial in trials]


@pytest.mark.parametrize(
    ("sizes", "exponents"),
    [
        (", batch_size: [1, 8, 32]", ", batch_exponent: [0, 3, 5]"),
        (", batch_size: 16", ", batch_exponent: 4"),
    ],
)
def test_a_grid_of_batch_sizes_is_one_of_exponents(sizes: str, exponents: str) -> None:
    assert trials_of(sizes) == trials_of(exponents)
    assert ids(trials_of(sizes)) == ids(trials_of(exponents))


def test_a_batch_size_on_the_command_line_is_one_of_the_grid() -> None:
    wanted = ids(trials_of(", batch_exponent: 3"))

    assert ids(trials_of("", "batch_size=8")) == wanted
    assert ids(trials_of("", "batch_size=8,16"))[:1] == wanted


def test_a_batch_size_means_the_same_wherever_a_grid_names_axes() -> None:
    def laid_out(axes: str, rest: str) -> list[Trial]:
        text = f"axes: {{framework: [reference], seed: [0], {axes}}}\n{rest}"
        return list(grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads()).trials)

    sizes = laid_out(
        "batch_size: [1, 2, 4], samples: [3, 4, 5]",
        "zip: [[batch_size, samples]]\nexclude: [{batch_size: 2}, {batch_size: '>3'}]\n"
        "include: [{batch_size: 64, samples: 9}]\n",
    )
    exponents = laid_out(
        "batch_exponent: [0, 1, 2], samples: [3, 4, 5]",
        "zip: [[batch_exponent, samples]]\nexclude: [{batch_exponent: 1}, {batch_exponent: 2}]\n"
        "include: [{batch_exponent: 6, samples: 9}]\n",
    )

    assert ids(sizes) == ids(exponents) != []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (", batch_size: [32, 48]", "48 is no power of 2, which batches of this workload are"),
        (", batch_size: [0]", "0 is no power of 2"),
        (", batch_size: ['many']", "'many' is not an integer"),
    ],
)
def test_a_batch_size_that_is_no_power_of_two_is_refused_with_its_line(
    text: str, said: str
) -> None:
    with pytest.raises(SweepError) as error:
        trials_of(text)

    assert f"line 1: axes.batch_size: {said}" in error.value.message


def test_a_step_takes_any_batch_size_and_exponents_too(tmp_path: Path) -> None:
    step = tmp_path / "step.py"
    step.write_text(STEP)

    def planned(*sets: str) -> list[Trial]:
        return list(expand_grid(step, ["framework=reference", "seed=0", *sets])[1].trials)

    assert [trial.settings["batch_size"] for trial in planned("batch_size=8,48")] == [8, 48]
    assert ids(planned("batch_exponent=3")) == ids(planned("batch_size=8"))
    assert "batch_exponent" not in planned("batch_size=8")[0].settings
    assert planned()[0].settings["batch_size"] == 32


def test_a_step_without_batches_has_no_such_axis(tmp_path: Path) -> None:
    step = tmp_path / "step.py"
    step.write_text("def setup():\n    return float\n")

    with pytest.raises(SweepError) as error:
        expand_grid(step, ["framework=reference", "batch_exponent=1,2"])

    assert "'batch_exponent' is neither an axis nor a parameter of step.py" in error.value.message


def test_workloads_and_steps_in_one_grid_each_have_their_own_spelling(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text(STEP)
    path = tmp_path / "grid.yaml"
    path.write_text(
        "axes: {framework: [reference], workload: [core, step.py], batch_size: [1, 2], seed: [0]}\n"
        "exclude: [{batch_size: 1, workload: core}]\n"
    )

    names = sorted(trial.cell.name for trial in expand_grid(path)[1].trials)

    assert names == [
        "reference/core/cpu/autograd/b1",
        "reference/step.py/cpu/batch_size=1",
        "reference/step.py/cpu/batch_size=2",
    ]


def test_where_takes_batch_sizes(tmp_path: Path) -> None:
    keep(tmp_path, [record(0, batch_exponent=exponent) for exponent in (3, 5)])

    run = Run(str(tmp_path))

    assert [each.axes["batch_exponent"] for each in run.summary(where={"batch_size": [32]})] == [5]
    assert [each.axes["batch_exponent"] for each in run.summary(where={"batch_size": ["<9"]})] == [
        3
    ]


def test_the_batch_size_of_a_step_is_told_as_that_of_any_workload(
    sweep: Sweep, tmp_path: Path
) -> None:
    of_step = {"workload": "step.py", "also": {"batch_size": 48}}
    records = [
        record(seed, framework=framework, mean_s=mean_s, **of_step)
        for seed in range(3)
        for framework, mean_s in (("torch==1.13.1", 0.2), ("torch==2.13.0", 0.1))
    ]
    for each in records:
        del each["settings"]["batch_exponent"]
    keep(tmp_path / "results" / "step", records)

    answer = sweep("compare", "step", "--over", "framework", "--baseline", "torch==1.13.1")

    assert "faster than torch 1.13.1" in answer.out
