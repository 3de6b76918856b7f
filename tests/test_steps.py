"""Steps of one's own: one plain file, as docs/own-step.md tells it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from commands import Sweep

from sweep import catalog, grid, resume, steps
from sweep.cli.plan import expand_grid
from sweep.environments import Specification
from sweep.grid import Trial
from sweep.node import provision
from sweep.node.worker import RunTrial
from sweep.records.columns import OURS
from workloads.runtime import modules

HEADER = """\
# /// script
# [tool.sweep.axes]
# framework = ["reference"]
# ///
"""
STEP = (
    HEADER
    + '''\
"""Adds numbers up."""
import numpy as np

PARAMETERS = {"width": 8}


def setup(width, seed):
    numbers = np.random.RandomState(seed).rand(width)

    def double():
        return 2 * numbers

    def total(doubled):
        return doubled.sum()

    return {"double": double, "total": total}
'''
)

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is kept where the user's own steps are."""
    folder = tmp_path_factory.mktemp("steps")
    monkeypatch.setattr(steps, "_store", lambda: folder)
    return folder


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files into the current folder; returns the path of the last one."""
    monkeypatch.chdir(tmp_path)

    def written(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.write_text(text)
        return path

    return written


def planned(path: Path, *sets: str) -> list[Trial]:
    return list(expand_grid(path, ["seed=0", *sets])[1].trials)


def ran(path: Path, *sets: str) -> dict[str, Any]:
    """The record of the first trial of a step, run in this process's own fork server."""
    return run_trial(planned(path, "samples=3", "warmup=2", *sets)[0])


def run_trial(trial: Trial) -> dict[str, Any]:
    return RunTrial(max_contention=None, steal_most=None, timeout_s=60)(trial)


def body(text: str) -> str:
    """A step whose `setup` does this."""
    return HEADER + "import os\ndef setup():\n" + textwrap.indent(textwrap.dedent(text), "    ")


def test_each_phase_is_timed_by_itself_and_the_step_is_all_of_them(write: Write) -> None:
    record = ran(write(add_up=STEP))

    assert record["status"] == "ok", record["error"]
    parts = [record["double_s"], record["total_s"], record["step_s"]]
    assert [len(samples) for samples in parts] == [3, 3, 3]
    assert all(
        one + other == pytest.approx(whole) for one, other, whole in zip(*parts, strict=True)
    )
    assert len(record["warmup_s"]) == 2
    assert record["first_step_s"] > 0
    assert record["trial_name"] == "reference/add_up.py/cpu/s0"


def test_a_single_function_is_a_step_without_phases(write: Write) -> None:
    record = ran(write(one=body("return lambda: [3.0, 4.0]")))

    assert len(record["step_s"]) == 3
    assert record["result"] == pytest.approx(5.0)
    assert {name for name in record if name.endswith("_s")} >= {"step_s"}
    assert "forward_s" not in record


def test_a_parameter_may_be_set_and_may_be_an_axis(write: Write) -> None:
    path = write(add_up=STEP)

    trials = planned(path, "width=3,4")

    assert [trial.settings["width"] for trial in trials] == [3, 4]
    assert [trial.cell.name for trial in trials] == [
        f"reference/add_up.py/cpu/width={width}" for width in (3, 4)
    ]


def test_a_default_of_setup_is_a_parameter(write: Write) -> None:
    path = write(one=HEADER + "def setup(width=7, fast=False):\n    return lambda: float(width)\n")

    assert ran(path)["result"] == 7.0
    assert ran(path, "width=9")["result"] == 9.0


def test_a_step_may_wait_for_its_device_itself(write: Write) -> None:
    path = write(
        one=body(
            "waits = []\nreturn {'step': lambda: float(len(waits)), 'synchronize': lambda: waits.append(1)}"
        )
    )

    record = ran(path)

    assert record["status"] == "ok", record["error"]
    assert record["result"] > 2  # before and after each step


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("def setup(:\n", "step.py, line 1: invalid syntax", "cannot be read as Python"),
        (
            "def setpu():\n    pass\n",
            "step.py has no function setup; 'setpu' is there",
            "def setup",
        ),
        (
            "PARAMETERS = {'width': 8}\ndef setup(widht):\n    pass\n",
            "step.py, line 2: setup takes 'widht', which nothing sets",
            "did you mean 'width'?",
        ),
        (
            "def setup(batch_exponent):\n    pass\n",
            "step.py, line 1: setup takes 'batch_exponent', which nothing sets",
            "take 'batch_size'",
        ),
        (
            "PARAMETERS = {'data': 'a.csv'}\ndef setup(data):\n    pass\n",
            "step.py, line 1: the parameter 'data' would be taken for a word of grids",
            "my_data",
        ),
        (
            "def setup(width=1,\n          network='a'):\n    pass\n",
            "step.py, line 2: the parameter 'network' would be taken for a word of grids",
            "my_network",
        ),
        (
            "def setup(**given):\n    pass\n",
            "step.py, line 1: setup takes more than named arguments",
            "by name",
        ),
        (
            "import os\nPARAMETERS = {'a': os.sep}\ndef setup(a):\n    pass\n",
            "PARAMETERS in",
            "literals",
        ),
        (
            "PARAMETERS = {'device': 'cpu'}\ndef setup(device):\n    pass\n",
            "step.py, line 1: the parameter 'device' is there for every step",
            "leave it out",
        ),
        (
            "PARAMETERS = {'a': [1]}\ndef setup(a):\n    pass\n",
            "step.py, line 1: the parameter 'a' is of type list",
            "",
        ),
        ("# /// script\n# [tool\n# ///\n", "step.py, line 2 is not TOML", "function setup"),
        (
            "# /// script\n# a = 1\n",
            "step.py, line 1: the block that begins here is not closed",
            "# ///",
        ),
        (
            "# /// script\n# [tool.sweep]\n# files = ['../model.py']\n# ///\ndef setup():\n    pass\n",
            "step.py, line 3: files names '../model.py', outside the step's folder",
            "stay in it",
        ),
        (
            "# /// script\n# [tool.sweep]\n# files = ['/etc/passwd']\n# ///\ndef setup():\n    pass\n",
            "step.py, line 3: files names '/etc/passwd', outside the step's folder",
            "stay in it",
        ),
        (
            "# /// script\n# [tool.sweep]\n# files = ['model.py']\n# ///\ndef setup():\n    pass\n",
            "step.py, line 3: files names 'model.py', which is not there",
            "put it into",
        ),
        (
            HEADER.replace("]\n# ///\n", "]\n# widht = [1]\n# ///\n")
            + "def setup(width=1):\n    pass\n",
            "step.py, line 4: axes.widht: 'widht' is neither an axis nor a parameter of step.py",
            "did you mean 'width'?",
        ),
        (
            "# /// script\n# [tool.sweep]\n# timeuot = 3\n# ///\ndef setup():\n    pass\n",
            "step.py, line 3: timeuot: unknown key 'timeuot'",
            "did you mean 'timeout'?",
        ),
        (
            "def setup():\n    pass\n",
            "step.py: axes: no framework is given",
            "--set framework=torch==VERSION",
        ),
        (
            HEADER + "def setup():\n    pass\n# ///\n# /// script\n# b = 2\n# ///\n",
            "step.py, line 8: a second block",
            "",
        ),
    ],
)
def test_what_is_wrong_with_a_step_is_said_before_the_sweep_with_its_line(
    write: Write, sweep: Sweep, text: str, said: str, hint: str
) -> None:
    write(step=text)

    answer = sweep("plan", "step.py")

    assert answer.code == 2
    assert answer.err.startswith(f"error: {said}")
    assert hint in answer.err


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("return None", "failed", "one.py, line 6: setup returned nothing: return a function"),
        ("return {}", "failed", "setup returned no phases"),
        ("return {'a': 1}", "failed", "phase 'a' is a value of type int and no function"),
        ("return {'a b': print}", "failed", "'a b' is no name for a phase"),
        (
            "return {'wall': lambda: 1, 'b': lambda: 2}",
            "failed",
            "wall_s is a column of every record",
        ),
        (
            "return {'a': lambda x: 1, 'b': lambda: 2}",
            "failed",
            "phase 'a' takes 1 arguments: it is called with nothing",
        ),
        ("return {'a': lambda: 1, 'b': lambda x, y: 2}", "failed", "phase 'b' takes 2 arguments"),
        (
            "def step():\n    raise OSError('of mine')\nreturn step",
            "failed",
            'one.py", line 8, in step',
        ),
        ("return lambda: os._exit(3)", "crashed", "worker ended with exit status 3"),
        ("return lambda: os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
        ("return lambda: exit(4)", "failed", "SystemExit: 4"),
    ],
)
def test_a_step_that_goes_wrong_is_one_record_that_says_where(
    write: Write, text: str, status: str, said: str
) -> None:
    record = ran(write(one=body(text)))

    assert (record["status"], said in record["error"]) == (status, True), record["error"]


@pytest.mark.parametrize(
    "text",
    [
        "return lambda: os.chdir('/')",
        "return lambda: print('x' * 100_000)",
        "return lambda: os.fork() or os._exit(0)",
        "return lambda: 'a text'",
    ],
)
def test_a_step_may_do_as_it_likes_with_its_process(write: Write, text: str) -> None:
    record = ran(write(one=body(text)))

    assert record["status"] == "ok", record["error"]
    assert len(record["log"]) < 100_000


def test_a_step_that_deletes_itself_harms_no_later_sweep(write: Write) -> None:
    path = write(one=body("return lambda: os.path.exists(__file__) and os.remove(__file__)"))
    trial = planned(path)[0]

    first, second = run_trial(trial), run_trial(trial)

    assert first["status"] == "ok", first["error"]
    assert second["status"] == "failed"
    assert "has lost one.py" in second["error"]
    assert path.exists()
    assert run_trial(planned(path)[0])["status"] == "ok"


def test_modules_beside_a_step_are_part_of_it_and_importable(write: Write) -> None:
    path = write(
        model="import parts\nVALUE = parts.VALUE\n",
        parts="VALUE = 1\n",
        one=HEADER + "from model import VALUE\ndef setup():\n    return lambda: VALUE\n",
    )

    before = planned(path)[0]
    write(parts="VALUE = 2\n")
    after = planned(path)[0]

    assert before.id != after.id
    assert [run_trial(trial)["result"] for trial in (before, after)] == [1.0, 2.0]


def test_files_that_the_header_names_are_part_of_a_step_folders_with_all_in_them(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "numbers.txt").write_text("5")
    header = '# /// script\n# [tool.sweep]\n# files = ["data"]\n# axes = {framework = ["reference"]}\n# ///\n'
    text = "from pathlib import Path\nHERE = Path(__file__).parent\n"
    text += "def setup():\n    return lambda: float((HERE / 'data/deep/numbers.txt').read_text())\n"
    path = write(one=header + text)

    before = planned(path)[0]
    (tmp_path / "data" / "deep" / "numbers.txt").write_text("6")

    assert planned(path)[0].id != before.id
    assert run_trial(before)["result"] == 5.0


def test_an_edit_makes_other_trials_and_never_changes_what_was_planned(write: Write) -> None:
    path = write(one=body("return lambda: 1.0"))
    before = planned(path)[0]
    write(one=body("return lambda: 2.0"))
    after = planned(path)[0]

    assert before.id != after.id
    assert before.settings == after.settings
    assert [run_trial(trial)["result"] for trial in (before, after)] == [1.0, 2.0]


def test_the_id_of_a_trial_does_not_depend_on_where_its_step_lies(
    write: Write, tmp_path: Path
) -> None:
    here = planned(write(one=STEP))[0]
    there = tmp_path / "elsewhere"
    there.mkdir()
    (there / "one.py").write_text(STEP)

    assert planned(there / "one.py")[0].id == here.id


def test_a_grid_names_a_step_by_its_path(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.py").write_text(STEP)
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "workload: mine/one.py\n"
        "axes: {framework: [reference], width: [2, 3], seed: [0]}\n"
        "exclude: [{workload: one.py, width: 3}]\n"
        "resources: {workload: {mine/one.py: {exclusive: false}}}\n"
    )

    trials = planned(grid)

    assert [trial.cell.name for trial in trials] == ["reference/one.py/cpu/width=2"]
    assert trials[0].resources.exclusive is False
    assert trials[0].id == planned(tmp_path / "mine" / "one.py", "width=2,3")[0].id


def test_a_step_beside_a_workload_of_sweep_has_no_axis_that_it_does_not_know(
    write: Write, tmp_path: Path
) -> None:
    write(one=STEP)
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "axes: {workload: [core, one.py], framework: [reference], batch_exponent: [0, 1]}\n"
    )

    names = [trial.cell.name for trial in planned(grid)]

    assert sorted(names) == [
        "reference/core/cpu/autograd/b0",
        "reference/core/cpu/autograd/b1",
        "reference/one.py/cpu",
    ]


def test_a_step_that_is_not_there_is_said_with_the_line_of_the_grid(
    sweep: Sweep, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text("axes: {framework: [reference]}\nworkload: one.py\n")

    answer = sweep("plan", "grid.yaml")

    assert answer.code == 2
    assert "grid.yaml, line 2: workload: there is no step file" in answer.err


def test_a_node_is_sent_all_that_a_step_consists_of(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        model="VALUE = 4\n",
        one=HEADER + "import model\ndef setup():\n    return lambda: model.VALUE\n",
    )
    trials = planned(path)
    needs = provision.needs(trials, {})
    monkeypatch.setattr(steps, "_store", lambda: tmp_path / "another node")

    assert "is not on this machine" in run_trial(trials[0])["error"]
    provision.provide(needs)

    assert run_trial(trials[0])["result"] == 4.0


def test_what_a_record_says_of_a_step_tells_it_from_others(write: Write) -> None:
    trial = planned(write(one=STEP))[0]
    record = run_trial(trial)

    digest = steps.read(Path("one.py")).digest
    assert json.loads(record["content"])["workload"].startswith(digest)
    assert record["workload"] == "one.py"
    assert not OURS & {"double_s", "total_s"}


@pytest.mark.parametrize(
    ("distribution", "files", "module"),
    [
        (
            "scikit-learn",
            ["sklearn/__init__.py", "sklearn/svm.py", "scikit_learn.libs/a.so"],
            "sklearn",
        ),
        ("opencv-python", ["cv2/__init__.py", "opencv_python.libs/b.so"], "cv2"),
        ("PyYAML", ["_yaml/__init__.py", "yaml/__init__.py", "yaml/loader.py"], "yaml"),
        ("typing_extensions", ["typing_extensions.py"], "typing_extensions"),
        ("flat", ["flat.cpython-311-x86_64-linux-gnu.so"], "flat"),
        ("Pillow", ["PIL/__init__.py", "PIL/Image.py", "tests/test_a.py"], "PIL"),
        ("not-installed", [], "not_installed"),
    ],
)
def test_the_module_of_a_package_is_found_among_its_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    distribution: str,
    files: list[str],
    module: str,
) -> None:
    facts = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
    facts.mkdir()
    lines = [*files, f"{facts.name}/RECORD", "../../bin/tool"]
    (facts / "RECORD").write_text("".join(f"{name},sha256=x,1\n" for name in lines))
    monkeypatch.syspath_prepend(str(tmp_path))

    assert modules.module_of(distribution) == module


def test_any_package_is_a_framework_of_a_step_and_of_nothing_else(
    write: Write, tmp_path: Path
) -> None:
    write(one=STEP)
    grid = tmp_path / "grid.yaml"
    grid.write_text("axes: {workload: [core, one.py], framework: [numpy==1.26.4], seed: [0]}\n")

    _, expansion = expand_grid(grid)

    assert [trial.cell.name for trial in expansion.trials] == ["numpy==1.26.4/one.py/cpu"]
    [left_out] = expansion.exclusions
    assert (
        left_out.reason
        == "numpy has no framework file, and only a step of one's own can do without"
    )


def test_a_framework_that_no_step_asks_for_is_looked_up_as_ever(
    sweep: Sweep, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text("axes: {framework: [numpy==1.26.4]}\n")

    answer = sweep("plan", "grid.yaml")

    assert answer.code == 2
    assert "there is no framework 'numpy'" in answer.err


def test_other_environments_keep_their_ids() -> None:
    """Whoever has built them does not build them again."""
    assert Specification(framework="torch==2.13.0", module="torch").id == "f8b6a39c8ed4"


def test_what_a_step_depends_on_is_in_its_environment(write: Write) -> None:
    header = '# /// script\n# requires-python = ">=3.12"\n# dependencies = ["einops>=0.7", "numpy<2.3"]\n# ///\n'
    path = write(one=header + "def setup():\n    return float\n")
    trials = planned(path, "framework=torch==2.13.0,polars==1.0.0")

    torch, polars = provision.needs(trials, {}).specifications

    assert (torch.requires, torch.python) == (
        ("einops>=0.7", "numpy<2.3", "torch==2.13.0"),
        ("3.12", "3.13"),
    )
    assert polars.requires == ("einops>=0.7", "numpy<2.3", "polars==1.0.0")


def test_a_dependency_that_is_no_requirement_is_refused(write: Write, sweep: Sweep) -> None:
    header = '# /// script\n# dependencies = ["einops >> 3"]\n# ///\n'
    write(one=header + "def setup():\n    return float\n")

    answer = sweep("plan", "one.py", "--set", "framework=reference")

    assert answer.code == 2
    assert "'einops >> 3' is no requirement" in answer.err


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.framework
def test_a_package_runs_on_the_newest_python_that_has_it(write: Write) -> None:
    text = "import numpy\nimport sys\ndef setup():\n    return lambda: numpy.ones(4) * sys.version_info[1]\n"
    path = write(one=text)

    old, new = (
        run_trial(trial)
        for trial in planned(path, "framework=numpy==1.26.4,numpy==2.2.6", "samples=2", "warmup=0")
    )

    assert (old["status"], new["status"]) == ("ok", "ok"), (old["error"], new["error"])
    assert (old["numpy"], new["numpy"]) == ("1.26.4", "2.2.6")
    assert old["python"].startswith("3.12.")
    assert new["python"].startswith("3.13.")
    assert old["framework_build"] == "numpy 1.26.4"


@pytest.mark.slow
@pytest.mark.framework
def test_a_training_step_of_torch_is_timed_and_its_loss_kept(write: Write) -> None:
    text = """
    import torch
    PARAMETERS = {"width": 16}
    def setup(width, batch_size, device, seed, threads):
        torch.manual_seed(seed)
        model = torch.nn.Linear(width, 1).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        inputs = torch.ones(batch_size, width, device=device)
        def forward():
            optimizer.zero_grad()
            return model(inputs).square().mean()
        return {"forward": forward, "backward": lambda loss: loss.backward(), "update": lambda: optimizer.step()}
    """
    record = ran(write(one=textwrap.dedent(text)), "framework=torch==2.13.0", "batch_size=4")

    assert record["status"] == "ok", record["error"]
    assert record["batch_size"] == 4
    assert all(len(record[f"{phase}_s"]) == 3 for phase in ("forward", "backward", "update"))
    assert record["result"] > 0
    assert record["framework_build"].startswith("torch 2.13.0")


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("{workload: one.py, axes: {framework: [polars==1.0.0], width: [1, 2]}}", True),
        ("{workload: steps/one.py, axes: {framework: reference}, parameters: {width: 3}}", True),
        ("{axes: {framework: [torch==2.13.0], batch_size: [8, 16]}}", True),
        ("{workload: core, axes: {framework: [torch==2.13.0], width: [1, 2]}}", False),
        ("{axes: {framework: [torch==2.13.0], bacth_size: [8]}}", False),
        ("{axes: {framework: [polars==1.0.0]}}", False),
        ("{workload: cor, axes: {framework: [torch==2.13.0]}}", False),
    ],
)
def test_editors_accept_grids_of_steps_and_still_find_misspellings(
    text: str, is_valid: bool
) -> None:
    schema = grid.schema(catalog.frameworks(), catalog.workloads())

    valid = jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text))

    assert valid is is_valid


def test_a_package_that_is_nearly_a_framework_is_warned_of(write: Write, sweep: Sweep) -> None:
    write(one=STEP)

    answer = sweep("plan", "one.py", "--set", "framework=troch==2.13.0")

    assert answer.code == 0
    assert "troch is taken for the package of that name" in answer.err
    assert "did you mean 'torch'?" in answer.err


def test_an_edited_step_says_that_its_trials_run_anew(write: Write) -> None:
    path = write(one=STEP)
    trial = planned(path)[0]
    record = run_trial(trial)
    write(one=STEP + "# edited\n")
    again = planned(path)

    [line] = resume.changes(again, again, {name: [record.get(name)] for name in resume.COLUMNS})

    assert line == (
        "workload one.py has changed since 1 trial ran: "
        "they stay in the run as they were, 1 run anew"
    )
