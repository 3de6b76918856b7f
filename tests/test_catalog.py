"""The catalog reads frameworks and workloads without running them."""

from __future__ import annotations

import ast
import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from sweep import catalog, grid
from sweep.errors import SweepError
from sweep.records.columns import SCHEMA
from workloads import settings as shared

HEADER = """
    # /// script
    # requires-python = ">=3.6"
    # dependencies = ["numpy"]
    #
    # [tool.sweep]
    # package = "tiny"
    # devices = ["cpu", "gpu"]
    #
    # [tool.sweep.backends]
    # fast = {versions = ">=2", devices = ["cpu"], reason = "fast came with tiny 2, for the CPU"}
    # rare = {}
    #
    # [tool.sweep.recipes."<2"]
    # python = ["3.6"]
    # requires = ["numpy<1.20"]
    # variants.gpu = {reason = "tiny 1 knows no GPU"}
    #
    # [tool.sweep.recipes."*"]
    # python = ["3.11"]
    # variants.rare = {reason = "rare is on no index"}
    # ///
    raise RuntimeError("the catalog must not run this")
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="tiny.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tiny(write):
    return catalog.read_framework(write(HEADER), "tiny")


def test_the_tree_holds_the_reference_and_the_frameworks_of_the_study():
    known = catalog.frameworks()

    assert {"reference", "torch", "chainer", "jax"} <= set(known)
    assert known["reference"].package == ""
    assert known["reference"].module == "numpy"
    assert known["torch"].path.name == "torch.py"


@pytest.mark.parametrize(
    ("version", "python"),
    [("1.9", "3.6"), ("2.0", "3.11"), ("2.0rc1", "3.11"), ("mine", "3.11"), (None, "3.11")],
)
def test_the_first_recipe_that_matches_the_version_counts(tiny, version, python):
    assert tiny.recipe(version).python == (python,)


@pytest.mark.parametrize(
    ("version", "backend", "device", "reason"),
    [
        ("2.0", "default", "cpu", None),
        ("2.0", "default", "gpu", None),
        ("2.0", "fast", "cpu", None),
        ("mine", "fast", "cpu", None),
        ("2.0", "rare", "cpu", "rare is on no index"),
        ("mine", "rare", "cpu", None),
        ("1.0", "fast", "cpu", "fast came with tiny 2, for the CPU"),
        ("2.0", "fast", "gpu", "fast came with tiny 2, for the CPU"),
        ("1.0", "default", "gpu", "tiny 1 knows no GPU"),
        ("2.0", "ideep", "cpu", "tiny has no backend 'ideep'"),
        ("2.0", "default", "tpu", "tiny knows no device 'tpu'"),
    ],
)
def test_an_impossible_combination_has_its_reason(tiny, version, backend, device, reason):
    assert catalog.unsupported(tiny, version, backend, device) == reason


@pytest.mark.parametrize(
    ("requirement", "backend", "device", "words"),
    [
        ("torch==1.0.1", "inductor", "cpu", "torch.compile came with torch 2.0"),
        ("torch==1.2.0", "native", "cpu", "from 1.3 on"),
        ("torch==1.1.0", "script", "cpu", "from 1.2 on"),
        ("torch==2.13.0", "onednn", "gpu", "for the CPU"),
        ("torch==2.13.0", "ideep", "cpu", "no backend"),
        ("chainer==3.5.0", "ideep", "cpu", "iDeep came with Chainer 4"),
        ("chainer==7.8.1", "cupy", "cpu", "CuPy"),
        ("chainer==5.4.0", "chainerx", "cpu", "ChainerX came with Chainer 6"),
        ("chainer==7.8.1", "chainerx", "cpu", "on no package index"),
        ("chainer==1.24.0", "default", "gpu", "CuPy of its own"),
        ("jax==0.4.30", "default", "gpu", "on no package index"),
        ("reference==1.26.4", "default", "gpu", "no device 'gpu'"),
    ],
)
def test_what_a_version_lacks_is_an_exclusion_with_its_reason(requirement, backend, device, words):
    name, _, version = requirement.partition("==")

    assert words in (
        catalog.unsupported(catalog.get_framework(name), version, backend, device) or ""
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\n", "has no recipe blocks"),
        ("# /// script\n# dependencies = [\n# ///\n", "is not TOML"),
        ("# /// script\n# dependencies = []\n# ///\n", "is wrong"),
        ('# /// script\n# [tool.sweep]\n# package = "x"\n# devcies = ["cpu"]\n# ///\n', "devcies"),
        (
            '# /// script\n# [tool.sweep]\n# package = "x"\n# recipes."about 2" = {}\n# ///\n',
            "about 2",
        ),
        (
            '# /// script\n# [tool.sweep]\n# package = "x"\n# recipes."*" = {python = "3.6"}\n# ///\n',
            "python",
        ),
    ],
)
def test_a_broken_recipe_is_named_with_its_file(write, text, message):
    path = write(text)

    with pytest.raises(SweepError, match=message) as raised:
        catalog.read_framework(path, "tiny")

    assert str(path) in raised.value.message
    assert raised.value.hint


def test_a_workload_is_its_parameters_read_without_running_it(write):
    path = write('''
        """Time one step.

        And more.
        """
        PARAMETERS = {"samples": 100, "rate": -1e-3, "loss": None, "sizes": (1, 2)}
        raise RuntimeError("the catalog must not run this")
    ''')

    found = catalog.read_workload(path, "core")

    assert found.parameters == {"samples": 100, "rate": -1e-3, "loss": None, "sizes": (1, 2)}
    assert found.summary == "Time one step."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PARAMETERS = {'samples': 10 ** 2}", "line 1, is no literal"),
        (
            "PARAMETERS = {**COMMON}",
            "PARAMETERS in .*, line 1, is no literal",
        ),  # nothing of that name
        ("COMMON = {'a': 10 ** 2}\nPARAMETERS = {**COMMON}", "COMMON in .*, line 1, is no literal"),
        ("PARAMETERS = {**PARAMETERS}", "is no literal"),
        ("A = {**B}\nB = {**A}\nPARAMETERS = A", "is no literal"),
        ("PARAMETERS = {**(1, 2)}", "is no literal"),
        ("PARAMETERS = {[1]: 2}", "is no literal"),
        ("PARAMETERS = open('x')", "is no literal"),
        ("PARAMETERS = dict(a=1).copy()", "is no literal"),
        ("from os import environ\nPARAMETERS = {**environ}", "line 2, is no literal"),
        ("from .settings import COMMON\nPARAMETERS = {**COMMON}", "line 2, is no literal"),
        ("from workloads.settings import COMON\nPARAMETERS = {**COMON}", "line 2, is no literal"),
        ("from workloads.stetings import COMMON\nPARAMETERS = {**COMMON}", "line 2, is no literal"),
        ("import workloads.settings\nPARAMETERS = {**workloads.settings}", "line 2, is no literal"),
        ("x = 1", "declares no PARAMETERS"),
        ("PARAMETERS = [1]", "declares no PARAMETERS"),
        ("PARAMETERS = {1: 2}", "declares no PARAMETERS"),
        ("def (", "line 1"),
    ],
)
def test_a_broken_workload_is_named_with_its_file(write, text, message):
    path = write(text)

    with pytest.raises(SweepError, match=message) as raised:
        catalog.read_workload(path, "core")

    assert str(path) in raised.value.message


def test_a_parameter_with_few_values_has_them_listed_with_its_default_among_them(write):
    found = catalog.read_workload(
        write("PARAMETERS = {'mode': 'a'}\nCHOICES = {'mode': ('a', 'b')}"), "core"
    )
    wrong = write("PARAMETERS = {'mode': 'a'}\nCHOICES = {'mode': ('b', 'c')}", "wrong.py")

    assert found.choices == {"mode": ("a", "b")}
    with pytest.raises(SweepError, match="is wrong about 'mode'"):
        catalog.read_workload(wrong, "core")


def test_a_workload_says_in_its_file_what_the_grid_and_the_estimate_need_of_it(write):
    text = "PARAMETERS = {'rounds': 3, 'rest': None}\nLEAST = {'rounds': 1, 'rest': 0}\nSTEPS = ('rounds',)\n"

    found = catalog.read_workload(write(f"{text}EXCLUSIVE = True\n"), "core")
    silent = catalog.read_workload(write("PARAMETERS = {}", "silent.py"), "core")

    assert (found.least, found.steps, found.exclusive) == (
        {"rounds": 1, "rest": 0},
        ("rounds",),
        True,
    )
    assert (silent.least, silent.steps, silent.exclusive) == ({}, (), False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LEAST = {'other': 1}", "LEAST in .* is wrong about 'other'"),
        ("LEAST = {'rounds': 0.5}", "LEAST in .* is wrong about 'rounds'"),
        ("LEAST = {'rounds': 4}", "LEAST in .* is wrong about 'rounds'"),
        ("LEAST = {'name': 1}", "LEAST in .* is wrong about 'name'"),
        ("LEAST = ('rounds',)", "LEAST in .* is no dict"),
        ("STEPS = ('name',)", "STEPS in .* is wrong about 'name'"),
        ("STEPS = 'rounds'", "STEPS in .* is no list"),
        ("EXCLUSIVE = 'no'", "EXCLUSIVE in .* is 'no'"),
    ],
)
def test_what_a_workload_says_of_itself_is_checked(write, line, message):
    path = write(f"PARAMETERS = {{'rounds': 3, 'name': 'a'}}\n{line}\n")

    with pytest.raises(SweepError, match=message):
        catalog.read_workload(path, "core")


@pytest.mark.parametrize(
    "head",
    [
        "from workloads.settings import COMMON, COMMON_CHOICES\nPARAMETERS = {**COMMON, 'parts': 2}",
        "from workloads.settings import COMMON as SHARED, COMMON_CHOICES\nPARAMETERS = dict(SHARED, parts=2)",
        (
            "from workloads import settings\nCOMMON_CHOICES = settings.COMMON_CHOICES\n"
            "PARAMETERS = {**settings.COMMON, **{'parts': 2}}"
        ),
        (
            "import workloads.settings as shared\nfrom workloads.settings import COMMON_CHOICES\n"
            "OWN = {'parts': 2}\nPARAMETERS = dict(shared.COMMON, **OWN)"
        ),
        (
            "import workloads.settings\nfrom workloads.settings import COMMON_CHOICES\n"
            "PARAMETERS: dict = dict(workloads.settings.COMMON, parts=2)"
        ),
    ],
)
def test_a_workload_anywhere_takes_settings_from_those_that_all_share(write, head):
    path = write(f"{head}\nCHOICES = {{**COMMON_CHOICES, 'parts': (1,) + (2, 3)}}\n")

    found = catalog.read_workload(path, "mine")

    assert found.parameters == {**shared.COMMON, "parts": 2}
    assert found.choices == {**shared.COMMON_CHOICES, "parts": (1, 2, 3)}
    names: dict[str, Any] = {}
    exec(path.read_text(), names)  # and Python reads the same
    assert (names["PARAMETERS"], names["CHOICES"]) == (found.parameters, found.choices)


def test_a_setting_that_workloads_share_has_one_default_and_one_set_of_choices():
    own = [
        workload
        for workload in catalog.workloads().values()
        if workload.path.is_relative_to(catalog.WORKLOADS)
    ]

    assert len(own) >= 3
    for one, other in itertools.permutations(own, 2):
        for name in one.parameters.keys() & other.parameters.keys():
            assert one.parameters[name] == other.parameters[name], (name, one.name, other.name)
            assert one.choices.get(name) == other.choices.get(name), (name, one.name, other.name)


@pytest.mark.parametrize("workload", ["core", "infer", "train"])
@pytest.mark.parametrize(
    ("name", "wrong"), [("memory_format", "chanels_last"), ("process", "frok")]
)
def test_a_misspelt_choice_is_refused_by_every_workload(workload, name, wrong):
    text = f"axes: {{framework: reference, workload: {workload}}}\nparameters: {{{name}: {wrong}}}"

    with pytest.raises(SweepError, match=f"'{wrong}' is no {name}"):
        grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())


def test_a_file_says_which_way_its_columns_go_without_being_run(write):
    said = {
        "unit": "tokens/s",
        "direction": "more",
        "per": "trial",
        "meaning": "tokens in a second",
    }
    workload = write(f"PARAMETERS = {{}}\nCOLUMNS = {{'tokens_per_s': {said}}}\nraise RuntimeError")
    framework = write(
        HEADER.rstrip() + f"\n    COLUMNS = {{'tokens_per_s': {said}}}\n", "framework.py"
    )

    assert catalog.read_workload(workload, "core").columns == {"tokens_per_s": said}
    assert catalog.read_framework(framework, "tiny").columns == {"tokens_per_s": said}
    assert catalog.read_workload(write("PARAMETERS = {}"), "core").columns == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"rate": {"direction": "up"}},
            "wrong about 'rate': direction is 'up' and none of less, more, none",
        ),
        ({"rate": {"per": "seed"}}, "wrong about 'rate': per is 'seed' and none of sample, trial"),
        ({"rate": {"unit": 3}}, "wrong about 'rate': unit is 3 and no text"),
        ({"rate": {"units": "s"}}, "wrong about 'rate': 'units' is none of unit, meaning"),
        ({"rate": "more"}, "is no dict of dicts"),
        (["rate"], "is no dict of dicts"),
    ],
)
def test_what_cannot_be_said_of_a_column_is_an_error(write, columns, message):
    path = write(f"PARAMETERS = {{}}\nCOLUMNS = {columns!r}")

    with pytest.raises(SweepError, match=message) as raised:
        catalog.read_workload(path, "core")

    assert str(path) in raised.value.message


@pytest.mark.parametrize("name", ["torch", "chainer", "jax", "reference"])
def test_whatever_a_framework_of_the_tree_tells_is_described(name):
    framework = catalog.get_framework(name)
    told = set(facts_in(ast.parse(framework.path.read_text(encoding="utf-8"))))

    assert told
    assert told <= {*SCHEMA.names, *framework.columns}
    assert set(framework.columns) <= told


def facts_in(tree):
    """The keys of what functions called facts give: of dict literals, keywords of dict(), and keys assigned to."""
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "facts" in node.name
    ]
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            yield from (keyword.arg for keyword in node.keywords)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield node.slice.value


def test_an_unknown_framework_gets_the_nearest_name():
    with pytest.raises(SweepError, match="torhc") as raised:
        catalog.get_framework("torhc")

    assert "torch" in raised.value.hint


def test_a_package_of_ones_own_adds_a_framework_and_a_workload(write, tmp_path, monkeypatch):
    _install(tmp_path, "sweep.frameworks", "tiny", "tinypackage.adapters.tiny")
    write(HEADER, _folder(tmp_path / "tinypackage" / "adapters") / "tiny.py")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert catalog.frameworks()["tiny"].path == tmp_path / "tinypackage" / "adapters" / "tiny.py"
    assert "tinypackage" not in sys.modules  # located, not imported


def test_an_entry_point_without_a_file_is_named(tmp_path, monkeypatch):
    _install(tmp_path, "sweep.workloads", "gone", "gonepackage.gone")
    monkeypatch.syspath_prepend(str(tmp_path))

    found = catalog.workloads()

    assert "core" in found
    with pytest.raises(SweepError, match=r"gone cannot be used: .* names gonepackage\.gone"):
        found["gone"]


def _install(site: Path, group: str, name: str, module: str) -> None:
    info = _folder(site / f"{name}_plugin-1.0.dist-info")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    return path
