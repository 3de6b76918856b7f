"""`sweep init` and `sweep try`, and docs/own-step.md as its reader follows it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from commands import Sweep

from sweep.analysis.result_checks import distance
from sweep.cli.plan import expand_grid
from sweep.node.worker import RunTrial

HOUSE = Path(__file__).resolve().parent.parent
PAGE = HOUSE / "docs" / "own-step.md"

STEP = """\
# /// script
# [tool.sweep.axes]
# framework = ["reference"]
# ///
def setup(width=3):
    print("set up with", width)
    return {"double": lambda: 2 * width, "half": lambda doubled: doubled / 2}
"""


def test_a_starter_is_written_once_and_planned_as_it_is(sweep: Sweep, tmp_path: Path) -> None:
    first = sweep("init")
    text = (tmp_path / "train_step.py").read_text()
    planned = sweep("plan", "train_step.py")
    second = sweep("init")

    assert first.code == 0
    assert "sweep try train_step.py" in first.err
    assert planned.code == 0, planned.err
    assert "train_step: 2 cells, 6 trials in 3 blocks" in planned.err
    assert second.code == 2
    assert "train_step.py is there already" in second.err
    assert (tmp_path / "train_step.py").read_text() == text


def test_a_starter_for_a_grid_is_planned_as_it_is(sweep: Sweep, tmp_path: Path) -> None:
    sweep("init", "--grid", "mine.yaml")

    answer = sweep("plan", "mine.yaml")

    assert answer.code == 0, answer.err
    assert "mine: 2 cells, 6 trials in 3 blocks" in answer.err
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["claims"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["step.yaml"], "step.yaml does not end in .py"),
        (["--grid", "grid.py"], "grid.py does not end in .yaml"),
        (["nowhere/step.py"], "nowhere/step.py cannot be written: No such file or directory"),
    ],
)
def test_a_starter_of_no_use_is_not_written(sweep: Sweep, words: list[str], said: str) -> None:
    answer = sweep("init", *words)

    assert answer.code == 2
    assert said in answer.err


@pytest.mark.framework
def test_a_try_shows_what_a_step_writes_and_how_long_its_phases_take(
    sweep: Sweep, tmp_path: Path
) -> None:
    (tmp_path / "step.py").write_text(STEP)

    answer = sweep("try", "step.py", "--set", "width=5")

    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "set up with 5"
    assert lines[1].split() == ["phase", "median", "min", "max"]
    assert [line.split()[0] for line in lines[3:]] == ["double", "half", "step"]
    assert "trying reference/step.py/cpu/s0, the first of 5 trials" in answer.err
    assert "result 10" in answer.err
    assert not (tmp_path / "results").exists()


@pytest.mark.framework
def test_a_try_that_goes_wrong_ends_with_a_traceback_into_the_file(
    sweep: Sweep, tmp_path: Path
) -> None:
    path = tmp_path / "step.py"
    path.write_text(STEP.replace("doubled / 2", "doubled / 0"))

    answer = sweep("try", "step.py")

    assert answer.code == 1
    assert f'File "{path}", line 7, in <lambda>' in answer.out
    assert '"half": lambda doubled: doubled / 0' in answer.out
    assert "failed: ZeroDivisionError: division by zero" in answer.err


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_shows_a_step_of_few_lines_and_few_commands() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]

    assert len(blocks("python")[0].splitlines()) <= 30
    assert len(commands) == 2


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.network
@pytest.mark.framework
def test_the_commands_of_the_page_lead_to_a_verdict(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_MAX_CONTENTION", "any")
    (tmp_path / "train_step.py").write_text(blocks("python")[0])
    run, compare = (shlex.split(line)[1:] for line in blocks("sh")[0].splitlines())

    assert sweep(*run).code == 0
    answer = sweep(*compare)

    assert answer.code in (0, 1, 3), answer.err  # faster, slower, or nothing can be said yet
    assert answer.out.startswith("numpy 2.2.6")
    assert "results" not in answer.out  # which agree


EXAMPLES = HOUSE / "docs" / "examples" / "steps"


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.framework
@pytest.mark.parametrize(
    ("name", "frameworks", "agree"),
    [
        ("transformer", ["torch==2.13.0"], True),
        ("two_frameworks", ["torch==2.13.0", "jax==0.10.2"], True),
        ("many_layers", ["torch==1.0.1", "torch==2.13.0"], False),
    ],
)
def test_the_examples_run_and_those_that_say_so_agree(
    name: str, frameworks: list[str], agree: bool
) -> None:
    """Weights that each version draws for itself differ: then a comparison says so."""
    sets = ["seed=0", "samples=2", "warmup=1", f"framework={','.join(frameworks)}"]
    trials = expand_grid(EXAMPLES / f"{name}.py", sets)[1].trials

    records = [RunTrial(max_contention=None, steal_most=None)(trial) for trial in trials]

    assert [record["status"] for record in records] == ["ok"] * len(frameworks), records[-1][
        "error"
    ]
    results = [record["result"] for record in records]
    assert all(distance(result, results[0]) < 1e-4 for result in results) or not agree
