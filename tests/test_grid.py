"""The grid language: what a file may say, what it expands to, and how its author is told what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep import catalog, datasets, grid
from sweep.environments.specification import OVERRIDES
from sweep.errors import SweepError
from sweep.grid.language import Environment
from sweep.grid.product import Product
from sweep.grid.space import Space
from sweep.grid.words import Words
from sweep.records.columns import METRICS

HOUSE = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class MadeUpFramework:
    """Knows backends `default` and `fast`, the latter not on a GPU; versions before 2 know no GPU at all."""

    package: str = "made-up"
    devices: tuple[str, ...] = ("cpu", "gpu")
    backends: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"default": None, "fast": None}
    )
    is_any_package: bool = False

    def unsupported(self, version, backend, device):
        if device == "gpu" and version == "1.0.0":
            return "version 1 knows no GPU"
        return "fast is for the CPU" if (backend, device) == ("fast", "gpu") else None


@dataclasses.dataclass
class MadeUpWorkload:
    parameters: Mapping[str, Any]
    choices: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"data": ("x", "y", "no", "lsp")}
    )
    least: Mapping[str, int] = dataclasses.field(default_factory=dict)
    exclusive: bool = False
    without: frozenset[str] = frozenset()
    step: object = None


FRAMEWORKS = {"a": MadeUpFramework(), "b": MadeUpFramework(), "plain": MadeUpFramework(package="")}
WORKLOADS = {
    "core": MadeUpWorkload(
        {
            "samples": 100,
            "threads": None,
            "rate": 0.1,
            "flag": False,
            "data": "x",
            "data_path": None,
        },
        least={"samples": 1},
        exclusive=True,
    ),
    "train": MadeUpWorkload(
        {"epochs": 2, "threads": None, "rate": 0.1, "data": "x", "data_path": None}
    ),
}


def expanded(text, only=(), sets=(), frameworks=FRAMEWORKS, workloads=WORKLOADS, **known):
    document = text if isinstance(text, str) else yaml.safe_dump(text)
    return grid.expand(grid.parse(document, sets), frameworks, workloads, only, **known)


def names(expansion):
    return [cell.name for cell in expansion.cells]


def refusal(text, **more):
    with pytest.raises(SweepError) as raised:
        expanded(text, **more)
    assert raised.value.exit_code == 2
    assert raised.value.hint
    return raised.value


# cells and trials


def test_cells_are_the_product_of_the_axes_and_trials_their_seeds():
    found = expanded(
        "axes: {framework: [a==1.0.0, b==2.0.0], backward: [autograd, explicit], seed: [0, 1, 2]}"
    )

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b5",
        "a==1.0.0/core/cpu/explicit/b5",
        "b==2.0.0/core/cpu/autograd/b5",
        "b==2.0.0/core/cpu/explicit/b5",
    ]
    assert [trial.name for trial in found.trials][:4] == [
        "a==1.0.0/core/cpu/autograd/b5/s0",
        "a==1.0.0/core/cpu/autograd/b5/s1",
        "a==1.0.0/core/cpu/autograd/b5/s2",
        "a==1.0.0/core/cpu/explicit/b5/s0",
    ]


def test_an_axis_left_out_has_its_default_and_there_are_five_seeds():
    found = expanded("axes: {framework: a==1.0.0}")

    (cell,) = found.cells
    assert [trial.seed for trial in found.trials] == [0, 1, 2, 3, 4]
    assert cell.axes == {
        "workload": "core",
        "framework": "a==1.0.0",
        "backend": "default",
        "backward": "autograd",
        "device": "cpu",
        "batch_exponent": 5,
    }
    assert cell.settings == {**cell.axes, **WORKLOADS["core"].parameters}
    assert found.trials[3].settings == {**cell.settings, "seed": 3}


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("3", [3]),
        ("[3, 1, 3]", [3, 1]),
        ("{range: [0, 3]}", [0, 1, 2, 3]),
        ("{range: [0, 5], step: 2}", [0, 2, 4]),
        ("{range: [0, 4], step: 2}", [0, 2, 4]),
        ("[7, {range: [0, 1]}, 0]", [7, 0, 1]),
    ],
)
def test_values_are_written_alone_in_a_list_or_as_a_range_with_both_ends(written, values):
    found = expanded(f"axes: {{framework: a==1.0.0, batch_exponent: {written}, seed: 0}}")

    assert [cell.axes["batch_exponent"] for cell in found.cells] == values


def test_a_range_of_fractions_holds_its_last_value_and_no_dust():
    found = expanded("axes: {framework: a==1.0.0, rate: {range: [0, 0.3], step: 0.1}, seed: 0}")

    assert [cell.axes["rate"] for cell in found.cells] == [0.0, 0.1, 0.2, 0.3]


def test_zipped_axes_move_together():
    text = """
        axes: {framework: a==1.0.0, batch_exponent: [0, 1, 2], samples: [30, 20, 10], backward: [autograd, explicit]}
        zip: [[batch_exponent, samples]]
    """
    found = expanded(text)

    assert len(found.cells) == 6
    assert {(c.axes["batch_exponent"], c.axes["samples"]) for c in found.cells} == {
        (0, 30),
        (1, 20),
        (2, 10),
    }


def test_an_include_adds_cells_in_which_an_axis_left_out_takes_all_its_values():
    found = expanded("""
        axes: {framework: [a==1.0.0], batch_exponent: [0, 1], seed: [0, 1]}
        include: [{framework: b==2.0.0, backend: fast}, {framework: b==3.0.0, batch_exponent: 7, seed: [8]}]
    """)

    assert names(found)[2:] == [
        "b==2.0.0/core/cpu/fast/autograd/b0",
        "b==2.0.0/core/cpu/fast/autograd/b1",
        "b==3.0.0/core/cpu/autograd/b7",
    ]
    assert [trial.seed for trial in found.trials] == [0, 1, 0, 1, 0, 1, 0, 1, 8]


def test_an_include_may_add_seeds_to_a_cell_that_is_there():
    found = expanded(
        "{axes: {framework: [a==1, b==1], seed: [0]}, include: [{framework: a==1, seed: [0, 9]}]}"
    )

    assert [trial.name for trial in found.trials] == [
        "a==1.0.0/core/cpu/autograd/b5/s0",
        "a==1.0.0/core/cpu/autograd/b5/s9",
        "b==1.0.0/core/cpu/autograd/b5/s0",
    ]


def test_an_include_takes_the_rows_of_a_zip_that_fit():
    axes = "axes: {framework: a==1.0.0, batch_exponent: [0, 1], samples: [30, 20]}\nzip: [[batch_exponent, samples]]\n"

    fitting = expanded(axes + "include: [{backend: fast, samples: 20}]")
    whole = expanded(axes + "include: [{batch_exponent: 9, samples: 5}]")

    assert names(fitting)[2:] == ["a==1.0.0/core/cpu/fast/autograd/b1/samples=20"]
    assert names(whole)[2:] == ["a==1.0.0/core/cpu/autograd/b9/samples=5"]
    assert "give samples as well" in refusal(axes + "include: [{batch_exponent: 9}]").hint


def test_a_parameter_that_only_an_include_names_keeps_its_value_elsewhere():
    found = expanded(
        "{axes: {framework: a==1.0.0}, parameters: {samples: 7}, include: [{samples: 8}]}"
    )

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b5/samples=7",
        "a==1.0.0/core/cpu/autograd/b5/samples=8",
    ]


def test_an_exclude_leaves_cells_out_and_says_by_which_rule():
    found = expanded("""
        axes: {framework: [a==1.0.0, a==2.0.0, b==1.0.0], backend: [default, fast], batch_exponent: [0, 1, 2], seed: 0}
        exclude:
          - {framework: a, backend: fast}          # every version of a
          - {framework: "b==*", batch_exponent: {range: [1, 9]}}
          - {version: "2", batch_exponent: [0, 2]}
    """)

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b0",
        "a==1.0.0/core/cpu/autograd/b1",
        "a==1.0.0/core/cpu/autograd/b2",
        "a==2.0.0/core/cpu/autograd/b1",
        "b==1.0.0/core/cpu/autograd/b0",
        "b==1.0.0/core/cpu/fast/autograd/b0",
    ]
    assert len(found.exclusions) == 18 - 6
    assert found.exclusions[0] == grid.Exclusion(
        "a==1.0.0/core/cpu/fast/autograd/b0", "excluded by rule 1: framework: a, backend: fast"
    )
    assert not found.notes


def test_an_exclude_may_name_single_seeds():
    found = expanded(
        "{axes: {framework: [a==1, b==1], seed: [0, 1, 2]}, exclude: [{framework: a, seed: [0, 2]}]}"
    )

    assert [trial.name[0] + trial.name[-1] for trial in found.trials] == ["a1", "b0", "b1", "b2"]
    assert [exclusion.name for exclusion in found.exclusions] == [
        "a==1.0.0/core/cpu/autograd/b5/s0",
        "a==1.0.0/core/cpu/autograd/b5/s2",
    ]


def test_what_an_include_names_is_in_whatever_excludes_it():
    found = expanded("""
        axes: {framework: [a==1.0.0, b==1.0.0], batch_exponent: [0, 1], seed: [0, 1]}
        exclude: [{framework: a}, {framework: b, seed: 0}]
        include: [{framework: a==1.0.0, batch_exponent: 1}, {framework: b==1.0.0, batch_exponent: 0, seed: 0}]
    """)

    assert [trial.name for trial in found.trials] == [
        "b==1.0.0/core/cpu/autograd/b0/s0",
        "b==1.0.0/core/cpu/autograd/b0/s1",
        "b==1.0.0/core/cpu/autograd/b1/s1",
        "a==1.0.0/core/cpu/autograd/b1/s0",
        "a==1.0.0/core/cpu/autograd/b1/s1",
    ]
    assert [e.name for e in found.exclusions] == [
        "a==1.0.0/core/cpu/autograd/b0",
        "b==1.0.0/core/cpu/autograd/b1/s0",
    ]


def test_an_impossible_combination_is_an_exclusion_with_its_reason_even_in_an_include():
    found = expanded("""
        axes: {framework: [a==1.0.0, a==2.0.0], device: [cpu, gpu], backend: [default, fast]}
        include: [{framework: b==1.0.0, device: gpu}]
    """)

    assert {(exclusion.name, exclusion.reason) for exclusion in found.exclusions} == {
        ("a==1.0.0/core/gpu/autograd/b5", "version 1 knows no GPU"),
        ("a==1.0.0/core/gpu/fast/autograd/b5", "version 1 knows no GPU"),
        ("a==2.0.0/core/gpu/fast/autograd/b5", "fast is for the CPU"),
        ("b==1.0.0/core/gpu/autograd/b5", "version 1 knows no GPU"),
        ("b==1.0.0/core/gpu/fast/autograd/b5", "version 1 knows no GPU"),
    }
    assert len(found.cells) == 5


def test_a_conditional_axis_exists_only_where_its_condition_holds():
    found = expanded("""
        axes: {framework: [a==1.0.0, b==1.0.0], backend: [default, fast], samples: [1, 2], flag: [true, false]}
        when: {samples: {backend: fast}, backend: {framework: a}, flag: {samples: 2}}
    """)

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b5/samples=100/flag=false",
        "a==1.0.0/core/cpu/fast/autograd/b5/samples=1/flag=false",
        "a==1.0.0/core/cpu/fast/autograd/b5/samples=2/flag=true",
        "a==1.0.0/core/cpu/fast/autograd/b5/samples=2/flag=false",
        "b==1.0.0/core/cpu/autograd/b5/samples=100/flag=false",
    ]


def test_an_axis_that_only_one_workload_knows_is_one_of_that_workload_alone():
    found = expanded("axes: {framework: a==1.0.0, workload: [core, train], epochs: [1, 3]}")

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b5",
        "a==1.0.0/train/cpu/autograd/b5/epochs=1",
        "a==1.0.0/train/cpu/autograd/b5/epochs=3",
    ]
    assert "epochs" not in found.cells[0].settings


def test_axes_that_a_cell_does_not_have_multiply_nothing():
    found = expanded("""
        axes: {framework: a==1, workload: [core, train], samples: {range: [1, 900]}, epochs: {range: [1, 900]}, seed: 0}
    """)

    assert len(found.cells) == 1800


def test_an_axis_that_an_include_names_exists_whatever_its_condition():
    found = expanded("""
        axes: {framework: [a==1.0.0], backend: [default, fast], samples: [1, 2]}
        when: {samples: {backend: fast}}
        include: [{backend: default, samples: 2}, {framework: b==1.0.0, backend: default}]
    """)

    assert names(found)[3:] == [
        "a==1.0.0/core/cpu/autograd/b5/samples=2",
        "b==1.0.0/core/cpu/autograd/b5/samples=100",
    ]


def test_zipped_axes_exist_together():
    axes = "axes: {framework: [a==1.0.0, b==1.0.0], samples: [1, 2], rate: [0.5, 0.6]}\nzip: [[samples, rate]]\n"

    found = expanded(axes + "when: {samples: {framework: a}, rate: {framework: a}}")

    assert names(found) == [
        "a==1.0.0/core/cpu/autograd/b5/samples=1/rate=0.5",
        "a==1.0.0/core/cpu/autograd/b5/samples=2/rate=0.6",
        "b==1.0.0/core/cpu/autograd/b5/samples=100/rate=0.1",
    ]
    assert (
        "samples and rate move together"
        in refusal(axes + "when: {samples: {framework: a}}").message
    )


def test_parameters_are_for_the_workloads_that_know_them_or_for_one_by_name():
    found = expanded("""
        axes: {framework: a==1.0.0, workload: [core, train]}
        parameters: {samples: 7, threads: 2, core: {rate: 1}, train: {threads: 4}}
    """)

    core, train = (cell.settings for cell in found.cells)
    assert (core["samples"], core["threads"], core["rate"]) == (7, 2, 1.0)
    assert (train["threads"], train["rate"]) == (4, 0.1)
    assert "samples" not in train


def test_until_is_kept_and_is_no_setting_of_trials():
    text = "{axes: {framework: a==1.0.0}, parameters: {until: {interval: 0.01, max_seeds: 20, max_time: 30m}}}"

    until = grid.parse(text).until

    assert (until.interval, until.max_seeds, until.max_time) == (0.01, 20, 1800.0)
    assert "until" not in expanded(text).cells[0].settings
    assert expanded(text).cells == expanded("axes: {framework: a==1.0.0}").cells


# resources


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ("", grid.Resources(cpu=1, exclusive=True)),
        ("parameters: {threads: 4}", grid.Resources(cpu=4, exclusive=True)),
        (
            "resources: {cpu: 2, gpu: 2, memory: 4GB, exclusive: false}",
            grid.Resources(2, 0, 4 * 10**9, False),
        ),
        ("resources: {memory: 1.5 GiB}", grid.Resources(memory=3 * 2**29)),
        ("resources: {memory: 1000000000}", grid.Resources(memory=10**9)),
        ("resources: {custom: {a100: 0.5}}", grid.Resources(custom={"a100": 0.5})),
        ("resources: {cpu: 2, device: {cpu: {cpu: 3}, gpu: {cpu: 4}}}", grid.Resources(cpu=3)),
        (
            "resources: {device: {cpu: {cpu: 3}}, workload: {core: {cpu: 5, exclusive: false}}}",
            grid.Resources(5, exclusive=False),
        ),
    ],
)
def test_resources_go_from_the_general_to_the_device_to_the_workload(more, wanted):
    assert expanded(f"axes: {{framework: a==2.0.0}}\n{more}").trials[0].resources == wanted


def test_a_trial_on_a_gpu_takes_one_unless_told_and_training_shares_its_node():
    text = "axes: {framework: a==2.0.0, device: [cpu, gpu], workload: [core, train], seed: 0}\n"

    wanted = {
        (t.cell.axes["workload"], t.cell.axes["device"]): t.resources for t in expanded(text).trials
    }
    several = [t.resources.gpu for t in expanded(text + "resources: {gpu: 0.5}").trials]

    assert wanted["core", "cpu"] == grid.Resources()
    assert wanted["core", "gpu"] == grid.Resources(gpu=1)
    assert wanted["train", "gpu"] == grid.Resources(gpu=1, exclusive=False)
    assert several == [0, 0.5, 0, 0.5]


def test_any_workload_says_whether_its_trials_have_the_node_to_themselves_and_bounds_its_parameters():
    grid_of_mine = grid.parse(
        "workload: mine\naxes: {framework: a==2.0.0, seed: 0}\nparameters: {parts: 0}"
    )
    mine = MadeUpWorkload({"parts": 2}, least={"parts": 1}, exclusive=True)

    with pytest.raises(SweepError, match="0 is no whole number from 1 on"):
        grid.expand(grid_of_mine, FRAMEWORKS, {"mine": mine})
    unbounded = dataclasses.replace(mine, least={}, choices={})
    for exclusive in (True, False):
        workloads = {"mine": dataclasses.replace(unbounded, exclusive=exclusive)}
        found = grid.expand(grid_of_mine, FRAMEWORKS, workloads)
        assert found.trials[0].resources.exclusive is exclusive


# ids and names


def test_the_id_of_a_trial_stays_what_it_was_in_the_first_version():
    trial = expanded("axes: {framework: a==1.0.0, seed: [3]}").trials[0]

    assert (trial.id, trial.cell.id) == ("cc130baaeb35", "c94d236eabce")


def test_whoever_has_the_settings_can_compute_the_id():
    for trial in expanded(
        "axes: {framework: [a==1.0.0, b==2.0.0], flag: [true, false], rate: [1, 0.5]}"
    ).trials:
        assert grid.identify(trial.settings) == trial.id
        assert grid.identify(json.loads(json.dumps(trial.cell.settings))) == trial.cell.id


@pytest.mark.parametrize(
    "same",
    [
        "{axes: {seed: {range: [0, 4]}, framework: [a==1.0.0]}}",
        "{axes: {framework: a==1.0.0}, name: other, description: words, order: 3, timeout: 5}",
        "{axes: {framework: [' a == 1 ']}}",
        "{axes: {framework: a==1.0.0, device: cpu}, workload: core}",
        "{axes: {framework: a==1.0.0, samples: 100}}",
        "{axes: {framework: a==1.0.0}, parameters: {samples: 100.0, threads: null, rate: 0.1, flag: false}}",
        "{axes: {framework: a==1.0.0}, parameters: {rate: 1.0e-1, data_path: /somewhere/else}}",
        "{axes: {framework: a==1.0.0}, resources: {cpu: 2}, environments: {a==1.0.0: {python: '3.9'}}}",
        "{axes: {framework: [a==1.0.0, a==1.0.0], batch_exponent: [5, 5.0]}}",
    ],
)
def test_what_a_trial_does_decides_its_id_and_not_how_it_is_written(same):
    assert [t.id for t in expanded(same).trials] == [
        t.id for t in expanded("axes: {framework: a==1.0.0}").trials
    ]


def test_ids_are_the_same_in_every_process(tmp_path):
    file = tmp_path / "g.yaml"
    file.write_text(
        "axes: {framework: [torch==2.13.0, reference], samples: [3, 5], tf32: [true, false]}"
    )
    code = (
        "import sys; from sweep import catalog, grid\n"
        "found = grid.expand(grid.load(sys.argv[1]), catalog.frameworks(), catalog.workloads())\n"
        "print([(t.id, t.name) for t in found.trials])"
    )

    def told(seed):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(HOUSE)}
        return subprocess.run(
            [sys.executable, "-c", code, str(file)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert told("1") == told("2")


def test_trials_of_one_cell_share_it_and_travel_by_pickle():
    found = expanded("axes: {framework: a==1.0.0}")

    assert len({id(trial.cell) for trial in found.trials}) == 1
    assert pickle.loads(pickle.dumps(found.trials)) == found.trials


def test_only_keeps_trials_by_their_name_or_their_cells():
    text = "axes: {framework: [a==1.0.0, b==2.0.0], batch_exponent: [0, 1, 11], seed: [0, 1, 10]}"

    assert [t.name for t in expanded(text, only=["b*/b1/s1"]).trials] == [
        "b==2.0.0/core/cpu/autograd/b1/s1"
    ]
    assert {
        t.name for t in expanded(text, only=["a*/s0", "b==2.0.0/core/cpu/autograd/b0"]).trials
    } == {
        *(f"a==1.0.0/core/cpu/autograd/b{n}/s0" for n in (0, 1, 11)),
        *(f"b==2.0.0/core/cpu/autograd/b0/s{n}" for n in (0, 1, 10)),
    }
    assert len(expanded(text, only=["a*"]).cells) == 3
    assert "a==1.0.0/core/cpu/autograd/b0/s0" in refusal(text, only=["c*"]).hint


# what the command line lays over the file


@pytest.mark.parametrize(
    ("option", "axis", "values"),
    [
        ("batch_exponent=0,1", "batch_exponent", [0, 1]),
        ("batch_exponent={range: [0, 2]}", "batch_exponent", [0, 1, 2]),
        ("batch_exponent=[0, 1]", "batch_exponent", [0, 1]),
        ("axes.batch_exponent=3", "batch_exponent", [3]),
        ("samples=3,4", "samples", [3, 4]),
        ("framework=b==1.0.0,b==2.0.0", "framework", ["b==1.0.0", "b==2.0.0"]),
        ("device=gpu", "device", ["gpu"]),
        ("workload=train", "workload", ["train"]),
    ],
)
def test_set_puts_values_in_the_place_of_an_axis(option, axis, values):
    text = "{axes: {framework: a==2.0.0, batch_exponent: [7, 8], seed: 0}, workload: core, parameters: {threads: 1}}"

    found = expanded(text, sets=[option])

    assert list(dict.fromkeys(cell.axes[axis] for cell in found.cells)) == values


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("samples=3", "samples", 3),
        ("parameters.rate=1e-3", "rate", 1e-3),
        ("flag=true", "flag", True),
        ("threads=null", "threads", None),
    ],
)
def test_set_gives_a_parameter_its_value(option, name, value):
    found = expanded("{axes: {framework: a==1.0.0}, parameters: {threads: 2}}", sets=[option])

    assert found.cells[0].settings[name] == value


def test_set_reaches_single_keys_and_whole_ones():
    read = grid.parse(
        "axes: {framework: a==1.0.0}", ["resources.cpu=4", "timeout=2m", "name=other", "order=7"]
    )

    assert (read.timeout_s, read.name, read.order) == (120.0, "other", 7)
    assert grid.expand(read, FRAMEWORKS, WORKLOADS).trials[0].resources.cpu == 4
    assert read.sets == ("resources.cpu=4", "timeout=2m", "name=other", "order=7")
    assert read.text == "axes: {framework: a==1.0.0}"


@pytest.mark.parametrize(
    ("option", "message", "hint"),
    [
        (
            "bacth_exponent=1",
            "--set bacth_exponent=1: parameters.bacth_exponent: core has no",
            "batch_exponent",
        ),
        (
            "bacth_exponent=1,2",
            "axes.bacth_exponent: 'bacth_exponent' is neither",
            "batch_exponent",
        ),
        (
            "samples=few",
            "--set samples=few: parameters.samples: 'few' is not a whole number",
            "100",
        ),
        ("framework=c==1.0.0", "there is no framework 'c'", "a"),
        ("resources.cpus=4", "unknown key 'cpus'", "cpu"),
        ("batch_exponent", "sets nothing", "--set"),
        ("batch_exponent=", "sets nothing", "--set"),
        ("=3", "sets nothing", "--set"),
        ("batch_exponent=[", "is not YAML", "YAML"),
        ("zip=a", "is for the file", "--set"),
        ("name=a,b", "2 values where one is wanted", "--set"),
        ("claims.0.x=1", "is for the file", "--set"),
        ("parameters.samples.x=1", "no keys within parameters.samples", "--set"),
    ],
)
def test_a_wrong_set_is_told_as_such(option, message, hint):
    error = refusal("{axes: {framework: a==1.0.0}, parameters: {samples: 3}}", sets=[option])

    assert message in error.message
    assert option.partition("=")[0].partition(".")[0] in error.message
    assert hint in error.hint


def test_more_seeds_come_after_the_largest():
    read = grid.parse("axes: {framework: a==1.0.0, seed: [7, 2]}").add_seeds(2)

    assert [t.seed for t in grid.expand(read, FRAMEWORKS, WORKLOADS).trials] == [7, 2, 8, 9]
    assert (
        len(
            grid.expand(
                grid.parse("axes: {framework: a==1.0.0}").add_seeds(1), FRAMEWORKS, WORKLOADS
            ).trials
        )
        == 6
    )


# what may not have been meant

CLAIM = "claims: [{name: n, compare: {backward: [explicit, autograd]}, expect: {faster: 0.1}}]\n"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "{axes: {framework: a==1.0.0}, exclude: [{framework: tourch}]}",
            "exclude rule 1 (framework: tourch) leaves nothing out",
        ),
        (
            "{axes: {framework: a==1.0.0}, environments: {b==1.0.0: {python: '3.9'}}}",
            "no cell has b==1.0.0",
        ),
        (
            "{axes: {framework: a==1.0.0}, parameters: {threads: 4}, resources: {cpu: 2}}",
            "4 threads on 2 cores",
        ),
        (
            CLAIM + "axes: {framework: a==1.0.0, backward: [autograd, explicit], seed: [0, 1]}",
            "claims need 3 seeds, for an interval, and there are 2: use --add-seeds 1",
        ),
    ],
)
def test_what_may_not_have_been_meant_is_noted(text, note):
    (told,) = expanded(text).notes
    assert note in told


# what is wrong


def write(tmp_path, text, name="grid.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BOMB = "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
FRAMEWORK = "axes: {framework: a==1.0.0, backward: [autograd, explicit]}\n"

WRONG = [
    # not a grid at all
    ("", "is empty", "axes"),
    ("# nothing\n", "is empty", "axes"),
    ("- a\n- b\n", "holds a list", "keys"),
    ("hello\n", "holds one value", "keys"),
    (b"\xff\xfe\x80\x00", "no text in UTF-8", "YAML"),
    ("\x00\x01", "is not YAML", "YAML"),
    ("axes: [a, b\nfoo: {", "line 2 is not YAML", "YAML"),
    ("axes:\n\tframework: a\n", "line 2 is not YAML", "YAML"),
    ("axes: *nothing\n", "undefined alias", "YAML"),
    ("a: 1\n---\nb: 2\n", "expected a single document", "YAML"),
    ("axes: !!python/object/apply:os.system [echo]\n", "line 1: the tag", "tag"),
    ("#" * 2_000_000, "larger than 1,000,000 bytes", "ranges"),
    ("a: &a [x, x]\n" + BOMB, "values with its aliases written out", "range"),
    ("a: &a [*a]\n", "an alias stands for itself", "write"),
    ("a: " + "[" * 100_000, "is not YAML", "YAML"),
    ("".join(" " * n + "a:\n" for n in range(200)), "lists within lists", "no grid"),
    ("name: a\nname: b\n", "line 2: the key 'name' is there twice, first in line 1", "keep one"),
    ("? [a]\n: b\n", "line 1: a key that is no word", "key: value"),
    # keys and types
    (
        FRAMEWORK + "paramaters: {samples: 3}\n",
        "line 2: paramaters: unknown key",
        "did you mean 'parameters'?",
    ),
    ("axes: [a]\n", "line 1: axes: ['a'] is not keys with values", "key: value"),
    (
        FRAMEWORK + "exclude: {framework: a}\n",
        "line 2: exclude: {framework: 'a'} is not a list",
        "[ ]",
    ),
    (FRAMEWORK + "name: 5\n", "line 2: name: 5 is not text", "quotes"),
    (FRAMEWORK + "name: a/b\n", "line 2: name: 'a/b' is no name for a folder", "letters"),
    (FRAMEWORK + "name: ..\n", "no name for a folder", "letters"),
    (FRAMEWORK + 'name: "a\\nb"\n', "no name for a folder", "letters"),
    (
        FRAMEWORK + "order: first\n",
        "line 2: order: 'first' is not a whole number",
        "without quotes",
    ),
    (FRAMEWORK + "timeout: soon\n", "line 2: timeout: 'soon' is no duration", "30m"),
    (FRAMEWORK + "timeout: 0\n", "line 2: timeout: 0 is no time", "30m"),
    # axes
    ("name: a\n", "axes: no framework is given", "framework: [torch==VERSION"),
    (
        "axes: {framework: a==1.0.0, bacth_exponent: 1}\n",
        "axes.bacth_exponent: 'bacth_exponent' is neither",
        "'batch_exponent'",
    ),
    ("axes:\n  framework: []\n", "line 2: axes.framework: no values", "at least one"),
    ("axes:\n  framework:\n", "line 2: axes.framework: no values", "at least one"),
    ("axes: {framework: [[a==1.0.0]]}\n", "a list within a list", "one list"),
    ("axes: {framework: a}\n", "axes.framework: 'a' names no version", "write a==VERSION"),
    ("axes: {framework: a>=2}\n", "axes.framework: 'a>=2' names no version", "write a==VERSION"),
    ("axes: {framework: a==mine}\n", "'mine' is no version", "interpreter"),
    ("axes: {framework: a==1.*}\n", "'1.*' is no version", "interpreter"),
    ("axes: {framework: plian}\n", "there is no framework 'plian'", "'plain'"),
    ("axes: {framework: a==1.0.0, workload: croe}\n", "there is no workload 'croe'", "'core'"),
    (
        "workload: croe\naxes: {framework: a==1.0.0}\n",
        "line 1: workload: there is no workload",
        "'core'",
    ),
    ("workload: core\naxes: {framework: a==1.0.0, workload: core}\n", "given twice", "keep one"),
    ("axes: {framework: a==1.0.0, backend: fats}\n", "there is no backend 'fats'", "'fast'"),
    ("axes: {framework: a==1.0.0, device: gup}\n", "there is no device 'gup'", "'gpu'"),
    (
        "axes: {framework: a==1.0.0, backward: explict}\n",
        "there is no backward 'explict'",
        "'explicit'",
    ),
    ("axes: {framework: a==1.0.0, backend: a/b}\n", "has '/' in it", "names"),
    ("axes: {framework: a==1.0.0, backend: ..}\n", "has '..' in it", "names"),
    ('axes: {framework: "a==1.0.0\\n2"}\n', "cannot be printed", "names"),
    ("axes: {framework: a==1.0.0, backend: ''}\n", "is empty", "names"),
    (f"axes: {{framework: a==1.0.0, data: {'x' * 200}}}\n", "longer than 100", "names"),
    (
        "axes: {framework: a==1.0.0, seed: -1}\n",
        "axes.seed: -1 is no whole number from 0",
        "write one",
    ),
    ("axes: {framework: a==1.0.0, seed: 0.5}\n", "axes.seed: 0.5 is no whole number", "write one"),
    (
        "axes: {framework: a==1.0.0, seed: true}\n",
        "axes.seed: true is no whole number",
        "write one",
    ),
    (
        "axes: {framework: a==1.0.0, batch_exponent: 99}\n",
        "axes.batch_exponent: 99 is no whole number",
        "write one",
    ),
    (
        "axes: {framework: a==1.0.0, seed: {range: 4}}\n",
        "axes.seed: {range: 4} is no range",
        "[0, 4]",
    ),
    ("axes: {framework: a==1.0.0, seed: {ragne: [0, 4]}}\n", "is no range", "[0, 4]"),
    (
        "axes: {framework: a==1.0.0, seed: {range: [4, 0]}}\n",
        "the range from 4 to 0 is empty",
        "smaller number first",
    ),
    (
        "axes: {framework: a==1.0.0, seed: {range: [0, 4], step: 0}}\n",
        "no range of numbers",
        "step",
    ),
    (
        "axes: {framework: a==1.0.0, seed: {range: [0, 1000000000]}}\n",
        "1,000,000,001 values",
        "fewer",
    ),
    (
        "axes: {framework: a==1.0.0, data_path: [x, y]}\n",
        "axes.data_path: says where data lie",
        "parameters",
    ),
    (
        "axes: {framework: a==1.0.0, device: gpu}\n",
        "nothing is left of the grid",
        "version 1 knows no GPU",
    ),
    (
        FRAMEWORK + "exclude: [{framework: a}]\n",
        "nothing is left of the grid",
        "excluded by rule 1: framework: a",
    ),
    # zip, include, exclude, when
    (FRAMEWORK + "zip: [[backward, samples]]\n", "line 2: zip[1]: 'samples' is no axis", "known"),
    (FRAMEWORK + "zip: [[backward]]\n", "zip[1]: one axis has none to move with", "two"),
    (FRAMEWORK + "zip: [[backward, framework]]\n", "backward has 2, framework has 1", "as many"),
    (FRAMEWORK + "zip: [backward]\n", "zip[1]: 'backward' is not a list", "[ ]"),
    (
        "axes: {framework: [a==1.0.0, b==1.0.0], seed: [1, 2]}\nzip: [[framework, seed]]\n",
        "'seed' is no axis that could move",
        "framework",
    ),
    (
        "axes: {framework: [a==1.0.0, b==1.0.0], samples: [1, 2]}\nzip: [[framework, samples], [samples, framework]]\n",
        "named twice",
        "one group",
    ),
    (
        FRAMEWORK + "include: [{framwork: b==1}]\n",
        "line 2: include[1].framwork: 'framwork' is neither",
        "'framework'",
    ),
    (FRAMEWORK + "include: [{}]\n", "include[1]: no axis is named", "at least one"),
    (
        FRAMEWORK + "include: [{workload: train, samples: 3}]\n",
        "include[1].samples: 'samples' is no parameter of train",
        "known",
    ),
    (
        FRAMEWORK + "exclude: [{framwork: b}]\n",
        "line 2: exclude[1].framwork: 'framwork' is no axis",
        "'framework'",
    ),
    (FRAMEWORK + "exclude: [{samples: 3}]\n", "'samples' is no axis of this grid", "known"),
    (FRAMEWORK + "exclude: [{}]\n", "exclude[1]: no axis is named", "name one"),
    (
        FRAMEWORK + "when: {samples: {device: cpu}}\n",
        "when.samples: 'samples' is no axis that could be left out",
        "backward",
    ),
    (
        FRAMEWORK + "when: {framework: {device: cpu}}\n",
        "when.framework: 'framework' is no axis that could",
        "backward",
    ),
    (FRAMEWORK + "when: {backward: {seed: 1}}\n", "when.backward.seed: 'seed' is no axis", "known"),
    (
        FRAMEWORK + "when: {backward: {backward: explicit}}\n",
        "conditions in a circle: backward → backward",
        "take one",
    ),
    (
        "axes: {framework: a==1.0.0, samples: 1, rate: 1}\nwhen: {samples: {rate: 1}, rate: {samples: 1}}\n",
        "circle: samples → rate",
        "take one",
    ),
    # parameters
    (
        FRAMEWORK + "parameters: {sampels: 3}\n",
        "line 2: parameters.sampels: core has no parameter",
        "'samples'",
    ),
    (
        FRAMEWORK + "parameters: {core: {epochs: 3}}\n",
        "parameters.core.epochs: core has no parameter",
        "known",
    ),
    (FRAMEWORK + "parameters: {device: cpu}\n", "parameters.device: this is an axis", "axes"),
    (
        FRAMEWORK + "parameters: {samples: many}\n",
        "parameters.samples: 'many' is not a whole number",
        "100",
    ),
    (
        FRAMEWORK + "parameters: {samples: true}\n",
        "parameters.samples: true is not a whole number",
        "100",
    ),
    (
        FRAMEWORK + "parameters: {samples: 0}\n",
        "parameters.samples: 0 is no whole number from 1 on",
        "write one",
    ),
    (
        FRAMEWORK + "parameters: {threads: two}\n",
        "parameters.threads: 'two' is no whole number",
        "write one",
    ),
    (
        FRAMEWORK + "parameters: {flag: yes}\n",
        "parameters.flag: 'yes' is not true or false",
        "false",
    ),
    (FRAMEWORK + "parameters: {rate: .nan}\n", "parameters.rate: '.nan' is not a number", "0.1"),
    (
        FRAMEWORK + "parameters: {data: y}\n",
        "parameters.data: there is no data set 'y'",
        "known: lsp",
    ),
    (FRAMEWORK + "parameters: {data: lps}\n", "parameters.data: 'lps' is no data", "'lsp'"),
    (
        "axes: {framework: a==1.0.0, samples: 1}\nparameters: {samples: 3}\n",
        "axes.samples: both an axis and a parameter",
        "keep one",
    ),
    (
        FRAMEWORK + "parameters: {until: {intrval: 1}}\n",
        "line 2: parameters.until.intrval: unknown key",
        "'interval'",
    ),
    (
        FRAMEWORK + "parameters: {until: {max_seeds: 3}}\n",
        "parameters.until: interval is missing",
        "docs/grid.md",
    ),
    (
        FRAMEWORK + "parameters: {until: 3}\n",
        "parameters.until: 3 where keys with values belong",
        "interval",
    ),
    (FRAMEWORK + "parameters: {data_path: 5}\n", "parameters.data_path: 5 is no path", "folder"),
    (FRAMEWORK + "parameters: {data: z}\n", "parameters.data: 'z' is no data", "known: lsp"),
    ("axes: {framework: a==1.0.0, data: [x, z]}\n", "axes.data: 'z' is no data", "known: lsp"),
    # environments and resources
    (
        FRAMEWORK + "environments: {a==1: {pyhton: '3.6'}}\n",
        "environments.a==1.pyhton: unknown key",
        "'python'",
    ),
    (
        FRAMEWORK + "environments: {a==1: {python: 3.10}}\n",
        "environments.a==1.python: 3.1 is not text",
        "quotes",
    ),
    (
        FRAMEWORK + "environments: {plian==1.0.0: {python: '3.9'}}\n",
        "there is no framework 'plian'",
        "'plain'",
    ),
    (FRAMEWORK + "resources: 4\n", "resources: 4 where keys with values belong", "cpu"),
    (FRAMEWORK + "resources: {cpus: 2}\n", "resources.cpus: unknown key", "'cpu'"),
    (FRAMEWORK + "resources: {cpu: 0}\n", "resources.cpu: 0: it should be greater", "docs/grid.md"),
    (
        FRAMEWORK + "resources: {memory: lots}\n",
        "resources.memory: 'lots' is no amount of memory",
        "4GB",
    ),
    (
        FRAMEWORK + "resources: {device: {gup: {cpu: 1}}}\n",
        "resources.device.gup: there is no device",
        "'gpu'",
    ),
    (
        FRAMEWORK + "resources: {workload: {croe: {cpu: 1}}}\n",
        "resources.workload.croe: there is no workload",
        "'core'",
    ),
    (
        FRAMEWORK + "resources: {custom: {a100: yes}}\n",
        "resources.custom.a100: 'yes' is not a number",
        "without quotes",
    ),
    # claims
    (
        FRAMEWORK + CLAIM.replace("backward", "backwrad"),
        "claims[1].compare.backwrad: 'backwrad' is no axis",
        "'backward'",
    ),
    (
        FRAMEWORK + CLAIM.replace("explicit", "explict"),
        "claims[1].compare.backward: no cell has backward 'explict'",
        "'explicit'",
    ),
    (
        FRAMEWORK + CLAIM.replace("[explicit, autograd]", "[explicit]"),
        "claims[1].compare: no two values",
        "compare:",
    ),
    (
        FRAMEWORK + CLAIM.replace("faster", "fsater"),
        "claims[1].expect.fsater: unknown key",
        "'faster'",
    ),
    (
        FRAMEWORK + CLAIM.replace("faster: 0.1", "faster: 0.1, slower: 0.1"),
        "claims[1].expect: nothing is expected, or two",
        "one of",
    ),
    (
        FRAMEWORK + CLAIM.replace("faster: 0.1", "ratio: [2, 1]"),
        "claims[1].expect: the ratio [2.0, 1.0] is no interval",
        "smaller",
    ),
    (FRAMEWORK + CLAIM.replace("name: n, ", ""), "claims[1]: name is missing", "docs/grid.md"),
    (
        FRAMEWORK + CLAIM.replace("name: n", "name: n, metric: step"),
        "claims[1].metric: there is no metric 'step'",
        "'step_s'",
    ),
    (
        FRAMEWORK + CLAIM.replace("name: n", "name: n, where: {seed: 0}"),
        "claims[1].where.seed: 'seed' is no axis",
        "known",
    ),
    (
        FRAMEWORK + CLAIM.replace("name: n", "name: n, where: {device: gpu}"),
        "claims[1].where.device: no cell has device 'gpu'",
        "cpu",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_a_wrong_grid_is_told_with_file_line_key_and_the_way_out(tmp_path, text, message, hint):
    path = write(tmp_path, text)

    with pytest.raises(SweepError) as raised:
        grid.expand(grid.load(path), FRAMEWORKS, WORKLOADS, data_sets=["lsp", "x"], metrics=METRICS)

    assert message in raised.value.message
    assert str(path) in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.exit_code == 2


def test_a_billion_trials_are_refused_by_their_number():
    text = "axes: {framework: a==1.0.0, seed: {range: [1, 1000000]}, samples: {range: [1, 1000]}}"

    assert "1,000,000,000 trials, more than the 1,000,000" in refusal(text).message


@pytest.mark.parametrize("name", ["with space.yaml", "with\nline.yaml", "ünïcode.yaml"])
def test_any_file_name_will_do_and_names_the_run_where_the_grid_does_not(tmp_path, name):
    read = grid.load(write(tmp_path, "axes: {framework: a==1.0.0}\n", name))
    wrong = write(tmp_path, "axes: {framework: []}\n", name)

    assert read.name == {"with space.yaml": "with-space", "with\nline.yaml": "with-line"}.get(
        name, "ünïcode"
    )
    with pytest.raises(SweepError, match=r"line 1: axes\.framework: no values") as raised:
        grid.load(wrong)
    assert "\n" not in raised.value.message


def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path):
    for path, reason in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(SweepError, match=reason):
            grid.load(path)


def test_lines_are_told_where_the_wrong_word_stands():
    text = "name: x\naxes:\n  framework: [a==1]\n  device:\n    - cpu\n    - gup\nparameters:\n  threads: 2\n  flag: 3\n"

    assert "line 4: axes.device: there is no device 'gup'" in refusal(text).message
    assert (
        "line 9: parameters.flag: 3 is not true or false"
        in refusal(text.replace("gup", "gpu")).message
    )


# YAML as people mean it


def test_words_are_what_they_look_like():
    found = expanded(
        "{axes: {framework: a==1.0.0}, parameters: {rate: 1e-3, data: no, threads: 0x2, flag: True}}"
    )

    said = found.cells[0].settings
    assert (said["rate"], said["data"], said["threads"], said["flag"]) == (0.001, "no", 2, True)


def test_aliases_and_merge_keys_are_understood():
    found = expanded("""
        axes: {framework: [a==1.0.0, b==1.0.0]}
        resources:
          device:
            cpu: &one {cpu: 1, memory: 1GB}
            gpu: {<<: *one, gpu: 1, memory: 2GB}
          workload: {core: *one}
    """)

    assert found.trials[0].resources == grid.Resources(1, 0, 10**9)


# environments


def test_paths_of_environments_and_data_start_at_the_grid(tmp_path):
    text = """
        axes: {framework: [a==1.0.0, a==mine]}
        workload: [core, train]
        parameters: {data_path: pictures, train: {data_path: ../more}}
        environments:
          a==1.0.0: {wheel: wheels/a.whl, find_links: [more, "https://example.org/wheels"], lock: null}
          a==mine: {interpreter: ../venv/bin/python, python: ["3.9", "3.10"]}
    """
    read = grid.load(write(tmp_path, text))

    assert read.environments == {
        "a==1.0.0": {
            "wheel": f"{tmp_path}/wheels/a.whl",
            "find_links": [f"{tmp_path}/more", "https://example.org/wheels"],
        },
        "a==mine": {"interpreter": f"{tmp_path.parent}/venv/bin/python", "python": ["3.9", "3.10"]},
    }
    folders = {
        c.axes["workload"]: c.settings["data_path"]
        for c in grid.expand(read, FRAMEWORKS, WORKLOADS).cells
    }
    assert folders == {"core": f"{tmp_path}/pictures", "train": f"{tmp_path.parent}/more"}


def test_a_grid_may_override_all_that_an_environment_knows():
    assert tuple(Environment.model_fields) == OVERRIDES


# the files of this repository


@pytest.mark.parametrize(
    "path", [HOUSE / "grid.yaml", *sorted((HOUSE / "grids").glob("*.yaml"))], ids=lambda p: p.name
)
def test_every_grid_of_the_repository_expands(path):
    known = {"data_sets": datasets.datasets(), "metrics": METRICS}

    found = grid.expand(grid.load(path), catalog.frameworks(), catalog.workloads(), **known)

    assert found.trials
    assert not found.notes


# properties

UNHURRIED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

AXES = {
    "framework": ["a==1.0.0", "a==2.0.0", "b==1.0.0", "b==2.0.0"],
    "backend": ["default", "fast"],
    "backward": ["autograd", "explicit"],
    "device": ["cpu"],
    "batch_exponent": [0, 1, 2, 3, 4, 5],
    "samples": [1, 2, 3, 100],
    "rate": [0.1, 0.5, 1.0],
    "flag": [True, False],
    "seed": [0, 1, 2, 3],
}


def some(values):
    return st.lists(st.sampled_from(values), min_size=1, max_size=len(values))


@st.composite
def axes_of(draw):
    chosen = draw(st.sets(st.sampled_from(sorted(set(AXES) - {"framework"}))))
    return {name: draw(some(AXES[name])) for name in ["framework", *sorted(chosen)]}


@st.composite
def rules_over(draw, axes):
    chosen = draw(st.sets(st.sampled_from(sorted(set(axes) - {"seed"})), min_size=1, max_size=2))
    return {name: draw(some(AXES[name])) for name in sorted(chosen)}


def trial_names(expansion):
    return {trial.name for trial in expansion.trials}


def all_but_empty(document, **more):
    """The trials of a grid; none where nothing is left of it."""
    try:
        return trial_names(expanded(document, **more))
    except SweepError as error:
        if "nothing is left" not in error.message:
            raise
        return set()


@UNHURRIED
@given(axes_of())
def test_a_product_has_as_many_trials_as_its_axes_have_different_values_multiplied(axes):
    found = expanded({"axes": axes})

    cells = math.prod(len(set(values)) for name, values in axes.items() if name != "seed")
    assert len(found.cells) == cells
    assert len(found.trials) == cells * len(set(axes.get("seed", range(5))))
    assert (
        len({t.id for t in found.trials})
        == len({t.name for t in found.trials})
        == len(found.trials)
    )
    assert len({c.id for c in found.cells}) == len(found.cells)


@UNHURRIED
@given(axes_of(), st.randoms(use_true_random=False))
def test_order_of_keys_and_values_changes_no_trial(axes, random):
    shuffled = {
        name: random.sample(axes[name], len(axes[name]))
        for name in random.sample(list(axes), len(axes))
    }

    ids = {trial.id for trial in expanded({"axes": axes}).trials}

    assert {trial.id for trial in expanded({"axes": shuffled}).trials} == ids


@UNHURRIED
@given(st.data())
def test_excludes_take_away_what_matches_any_of_them_and_nothing_else(data):
    axes = data.draw(axes_of())
    rules = data.draw(st.lists(rules_over(axes), max_size=3))

    left = all_but_empty({"axes": axes, "exclude": rules})

    whole = expanded({"axes": axes}).trials
    matched = {
        t.name
        for t in whole
        if any(all(t.settings[k] in v for k, v in rule.items()) for rule in rules)
    }
    assert left == {trial.name for trial in whole} - matched


@UNHURRIED
@given(st.data())
def test_including_what_was_excluded_gives_the_whole_back(data):
    axes = data.draw(axes_of())
    rule = data.draw(rules_over(axes))
    whole = expanded({"axes": axes})

    again = expanded(
        {"axes": axes, "exclude": [rule], "include": [{"framework": axes["framework"]}]}
    )

    assert trial_names(again) == trial_names(whole)
    assert not again.exclusions


@UNHURRIED
@given(axes_of(), st.data())
def test_an_include_of_cells_that_are_there_changes_nothing(axes, data):
    names_ = data.draw(st.sets(st.sampled_from(sorted(axes)), min_size=1))
    include = {name: data.draw(some(axes[name])) for name in sorted(names_)}

    assert trial_names(expanded({"axes": axes, "include": [include]})) == trial_names(
        expanded({"axes": axes})
    )


@UNHURRIED
@given(st.integers(1, 4), st.data())
def test_zipped_axes_make_one_cell_a_row(count, data):
    exponents = data.draw(st.permutations(AXES["batch_exponent"]))[:count]
    samples = data.draw(st.permutations(AXES["samples"]))[:count]
    document = {"axes": {"framework": "a==1.0.0", "batch_exponent": exponents, "samples": samples}}

    found = expanded(document | {"zip": [["batch_exponent", "samples"]]})

    assert [(c.axes["batch_exponent"], c.axes["samples"]) for c in found.cells] == list(
        zip(exponents, samples, strict=True)
    )


@UNHURRIED
@given(axes_of(), rules_over({"framework": [], "backward": [], "batch_exponent": []}))
def test_a_conditional_axis_varies_where_it_holds_and_has_its_default_elsewhere(axes, condition):
    axes = axes | {"flag": [True, False]}
    condition = {name: values for name, values in condition.items() if name != "flag"}

    found = expanded({"axes": axes, "when": {"flag": condition}})

    for cell in found.cells:
        holds = all(cell.axes[name] in values for name, values in condition.items())
        twin = cell.name.replace("flag=true", "flag=?").replace("flag=false", "flag=?")
        alike = {
            other
            for other in names(found)
            if other.replace("flag=true", "flag=?").replace("flag=false", "flag=?") == twin
        }
        assert len(alike) == (2 if holds else 1)
        assert holds or cell.axes["flag"] is False


@UNHURRIED
@given(axes_of(), st.data())
def test_combinations_are_as_many_as_were_counted_before_and_each_is_there_once(axes, data):
    axes = axes | {"workload": ["core", "train"], "epochs": [1, 2, 3]}
    free = sorted(set(axes) - {"framework", "workload", "seed"})
    when = {
        name: data.draw(rules_over({"framework": [], "backward": [], "rate": []}))
        for name in data.draw(st.sets(st.sampled_from(free)))
    }
    when = {
        name: {key: values for key, values in rule.items() if key != name and key in axes}
        for name, rule in when.items()
    }
    when = {
        name: rule for name, rule in when.items() if rule and not any(key in when for key in rule)
    }
    read = grid.parse(yaml.safe_dump({"axes": axes, "when": when}))
    space = Space(read, Words(read, FRAMEWORKS, WORKLOADS))

    product = Product(space, space.axes)

    combinations = [tuple(sorted(chosen.items())) for chosen in product]
    assert product.size(10**6) == len(combinations) == len(set(combinations))
    assert len(expanded({"axes": axes, "when": when}).cells) <= len(combinations)


@UNHURRIED
@given(axes_of(), st.data())
def test_every_trial_can_be_chosen_by_its_name_alone(axes, data):
    trial = data.draw(st.sampled_from(expanded({"axes": axes}).trials))

    assert expanded({"axes": axes}, only=[trial.name]).trials == [trial]


@UNHURRIED
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_yaml_holds_is_a_grid_or_is_refused(value):
    with contextlib.suppress(SweepError):
        expanded(yaml.safe_dump(value))


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "axes",
                "zip",
                "include",
                "exclude",
                "when",
                "parameters",
                "claims",
                "resources",
                "environments",
                "workload",
                "timeout",
                "name",
            ]
        ),
        st.recursive(
            st.sampled_from(
                [
                    "a==1",
                    "framework",
                    "seed",
                    "core",
                    "cpu",
                    "range",
                    0,
                    1,
                    -1,
                    0.5,
                    True,
                    None,
                    "samples",
                    "1e9",
                    "",
                ]
            ),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "framework",
                            "seed",
                            "samples",
                            "range",
                            "step",
                            "device",
                            "until",
                            "compare",
                        ]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ),
    )
)
def test_whatever_is_written_under_the_known_keys_is_a_grid_or_is_refused(document):
    document = (
        document | {"axes": {"framework": "a==1.0.0"} | document["axes"]}
        if isinstance(document.get("axes"), dict)
        else document
    )
    with contextlib.suppress(SweepError):
        expanded(document)
