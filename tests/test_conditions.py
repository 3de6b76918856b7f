"""Conditions: which values one means, the same in `exclude`, `when`, a claim's `where` and after `--where`."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_up import record

from sweep import catalog, grid
from sweep.analysis.claims import comparisons_of, parsed
from sweep.analysis.summary import Summary, summarize
from sweep.errors import SweepError
from sweep.grid import conditions
from sweep.grid.conditions import Conditions, is_value
from sweep.grid.language import Claim
from sweep.records.rows import table_of


@pytest.mark.parametrize(
    ("wanted", "value", "is_meant"),
    [
        ("torch", "torch==2.13.0", True),
        ("torch", "torchish==2.13.0", False),
        ("torch==2.*", "torch==2.13.0", True),
        ("torch==2.13.0", "torch==2.13.0", True),
        ("torch==2.13", "torch==2.13.0", True),  # as versions, not as texts
        ("torch==2.1", "torch==2.10", False),
        ("torch>=2", "torch==2.13.0", True),
        ("torch>=2.9", "torch==2.13.0", True),
        ("torch<2", "torch==2.13.0", False),
        ("torch >= 1, < 2", "torch==1.13.1", True),
        ("torch>=1,<2", "torch==2.0.0", False),
        ("torch~=2.1", "torch==2.13.0", True),
        ("torch!=2.13.0", "torch==2.12.0", True),
        ("chainer>=2", "torch==2.13.0", False),
        ("torch>=2", "torch==mybuild", False),
        ("torch==mybuild", "torch==mybuild", True),
        ("torch>=2", "reference", False),
        (">=2", "2.13.0", True),
        (">=2", "torch==2.13.0", False),
        (">=0.1.10,<0.1.13", "0.1.12.post2", True),
        (">3", 4, True),
        (">=3, !=5", 5, False),
        ("<0.1", 0.05, True),
        ("<0.05", 0.1, False),
        (">1e-3", 0.5, True),
        (">1e-3", 0.0001, False),
        ("~=2", 2, False),  # that is for versions
        ("a>3", 4, False),
        ("<3", "native", False),
        ("<3", None, False),
        ("<3", True, False),
        (3, 3, True),
        (3, 3.0, True),
        ("3", 3, True),
        ("3.0", 3, True),
        (3, "3", True),
        ("1e-4", 0.0001, True),
        (1e-4, 0.0001, True),
        (True, True, True),
        ("true", True, True),
        (True, "true", True),
        (1, True, False),
        (True, 1, False),
        (range(2), True, False),
        (range(2), 1, True),
        (range(2), 1.0, True),
        (range(2), 0.5, False),
        (range(2), "1", False),
        (0, False, False),
        ("null", None, True),
        (None, None, True),
        (None, False, False),
    ],
)
def test_a_value_is_meant_by_itself_a_glob_a_bare_framework_or_bounds(wanted, value, is_meant):
    assert is_value(value, wanted) is is_meant


def test_every_condition_must_hold_and_any_value_of_a_list_will_do():
    axes = {"framework": "torch==2.13.0", "batch_exponent": 5}

    assert Conditions({"framework": ["chainer", "torch>=2"], "batch_exponent": ">4"}).holds(axes)
    assert not Conditions({"framework": ["chainer", "torch>=2"], "batch_exponent": "<5"}).holds(
        axes
    )


def test_an_axis_that_a_cell_does_not_have_meets_no_condition():
    assert not Conditions({"tf32": "*"}).holds({"framework": "reference"})
    assert not Conditions({"threads": None}).holds({"framework": "reference"})
    assert Conditions({"threads": None}).holds({"threads": None})


def test_equal_values_of_different_types_are_told_apart():
    """1, 1.0 and true are one key of a dictionary."""
    asked = Conditions({"x": True})

    assert [asked.holds({"x": value}) for value in (1, True, 1.0, True, 1)] == [
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("framework=torch>=1,<2", ["torch>=1,<2"]),
        ("framework=torch>=1, <2, chainer", ["torch>=1,<2", "chainer"]),
        ("framework=chainer,torch>=1,!=1.5,<2", ["chainer", "torch>=1,!=1.5,<2"]),
        ("batch_exponent=>3,<6", [">3,<6"]),
        ("batch_exponent=0,>3,<6", ["0", ">3,<6"]),
        ("batch_exponent='<2','>4'", ["<2", ">4"]),  # in quotes each stands alone
        ('batch_exponent=<2,">4"', ["<2", ">4"]),
        ("batch_exponent=0,{range: [2,3]}", ["0", range(2, 4)]),
        ("batch_exponent={range: [0, 6], step: 3},5", [range(0, 7, 3), "5"]),
        ("batch_exponent=[0, {range: [2, 3]}]", [0, range(2, 4)]),
        ("rate={range: [0.5, 1], step: 0.25}", [(0.5, 0.75, 1.0)]),
        ("framework=torch==2.*", ["torch==2.*"]),
        ("framework=[tc]*", ["[tc]*"]),
        ("framework=[tc]*,reference", ["[tc]*", "reference"]),
        ("version=2.10", ["2.10"]),  # and not the number 2.1
        ("threads=null", ["null"]),
        ("tf32= true ", ["true"]),
        ("cpu_model='Intel(R), 2.40GHz = fast'", ["Intel(R), 2.40GHz = fast"]),
        ('note="a \\"b\\", c"', ['a "b", c']),
        ("note='it''s', x", ["it's", "x"]),
        ("note=a=b", ["a=b"]),
        ("note=a b: c", ["a b: c"]),
    ],
)
def test_conditions_on_the_command_line_keep_bounds_ranges_and_quotes_whole(text, meant):
    ((key, alternatives),) = conditions.parsed([text]).items()

    assert key == text.partition("=")[0]
    assert list(alternatives) == meant


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["framework"], "is no condition"),
        (["=torch"], "is no condition"),
        (["framework="], "is no condition"),
        (["batch_exponent>=3"], "is no condition"),
        (["batch_exponent=0,,1"], "a value is missing between commas"),
        (["batch_exponent=0,"], "a value is missing between commas"),
        (["batch_exponent=0,{rang: [2, 3]}"], "{rang: [2, 3]} is no range"),
        (["batch_exponent=0,{range: [3, 2]}"], "the range from 3 to 2 is empty"),
        (["batch_exponent=0,{range: [2,3]"], "'{range: [2,3]' cannot be read"),
        (["batch_exponent={range: [2,3]}4"], "'{range: [2,3]}4' cannot be read"),
        (["batch_exponent=[0, 1"], "'[0, 1' cannot be read"),
        (["batch_exponent=[[0], 1]"], "a list within a list"),
        (["name='a, b"], "cannot be read"),
        (["batch_exponent=>"], "'>' has bounds that cannot be read"),
        (["batch_exponent=>3 and <5"], "'>3 and <5' has bounds that cannot be read"),
        (["framework=torch>=two"], "'torch>=two' has bounds that cannot be read"),
        (["device=cpu", "device=gpu"], "device has a condition already"),
    ],
)
def test_what_cannot_be_understood_is_an_error_and_never_left_out(texts, error):
    with pytest.raises(SweepError) as raised:
        conditions.parsed(texts)

    assert error in raised.value.message
    assert raised.value.message.startswith(f"--where {texts[-1]}")
    assert raised.value.hint


@pytest.mark.parametrize(
    "place", ["exclude: [{C}]", "when: {warmup: {C}}", "claims: [{CLAIM, where: {C}}]"]
)
@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("batch_exponent: '>3 and <5'", "'>3 and <5' has bounds that cannot be read"),
        ("batch_exponent: {rang: [2, 3]}", "{rang: [2, 3]} is no range"),
        ("batch_exponent: [[1]]", "a list within a list"),
        ("batch_exponent: []", "no values"),
        ("version: 2.10", "2.1 is not text"),
        ("version: [{range: [1, 2]}]", "1 … 2 is not text"),
    ],
)
def test_a_grid_is_told_where_a_condition_cannot_be_understood(place, condition, error):
    claim = "name: n, compare: {backward: [explicit, autograd]}, expect: {faster: 0.1}"
    head = "axes: {framework: [torch==2.13.0], backward: [autograd, explicit], warmup: [1, 2]}\n"

    with pytest.raises(SweepError) as raised:
        expand(head + place.replace("CLAIM", claim).replace("C}", f"{condition}}}"))

    assert error in raised.value.message
    assert ("batch_exponent" if "batch" in condition else "version") in raised.value.message


@pytest.mark.parametrize(
    ("rules", "notes"),
    [
        (
            "exclude: [{batch_exponent: [0, 7]}]",
            ["exclude[1].batch_exponent: no cell has batch_exponent 7; known: 0"],
        ),
        (
            "exclude: [{framework: [torch, trch>=1]}]",
            ["exclude[1].framework: no cell has framework 'trch>=1'; "],
        ),
        (
            "exclude: [{version: ['2.13', '2.31']}]",
            ["exclude[1].version: no cell has version '2.31'; did you mean"],
        ),
        ("exclude: [{batch_exponent: {range: [0, 9]}}]\ninclude: [{batch_exponent: 1}]", []),
        (
            "when: {warmup: {device: gpuu}}",
            ["when.warmup.device: no cell has device 'gpuu'; known: cpu"],
        ),
        (
            "when: {warmup: {batch_exponent: ['>4', 1]}}",
            ["when.warmup.batch_exponent: no cell has"],
        ),
    ],
)
def test_a_value_that_no_cell_has_is_told_with_the_nearest(rules, notes):
    head = "axes: {framework: [torch==2.13.0, reference], batch_exponent: [0, 1], warmup: [1, 2]}\n"

    found = [note for note in expand(head + rules).notes if "no cell has" in note]

    assert len(found) == len(notes)
    assert all(note.startswith(start) for note, start in zip(found, notes, strict=True))


# one meaning in four places

_AXES = {
    "framework": ["torch==1.13.1", "torch==2.13.0", "chainer==7.8.1"],
    "batch_exponent": [0, 1, 2, 3],
    "parity_tolerance": [0.0001, 0.5],
    "tf32": [True, False],
}
_NAMES = "{framework} {batch_exponent} {parity_tolerance} {tf32}"
_WANTED = {
    "framework": [
        "torch",
        "torch==2.*",
        "torch>=1,<2",
        "chainer>=7",
        "torch==2.13",
        "*",
        "mxnet",
        "torch!=1.13.1",
    ],
    "version": ["2.13.0", ">=2", "2.13", "<2,>1", "1.*", ">=8,!=7.8.1"],
    "batch_exponent": [
        0,
        1.0,
        "2",
        True,
        ">1",
        "<3,!=1",
        None,
        "1?",
        "3.0",
        {"range": [0, 3], "step": 2},
    ],
    "parity_tolerance": [
        1e-4,
        "1e-4",
        "0.0001",
        0.5,
        "<1e-3",
        ">1e-3",
        "5e-1",
        {"range": [0.1, 0.5], "step": 0.1},
    ],
    "tf32": [True, "true", 1, 0, False, None, "false", "*e", "<1", {"range": [0, 1]}],
}


def expand(text: str) -> grid.Expansion:
    return grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())


def named(axes: Any) -> str:
    return _NAMES.format(**axes)


@functools.cache
def cells() -> tuple[Summary, ...]:
    """A summary of each cell of the axes, with both backward passes."""
    text = f"axes: {json.dumps(_AXES | {'backward': ['autograd', 'explicit']})}"
    tables = []
    for cell in expand(text).cells:
        made = record(step_s=[1.0])
        made["settings"] = {**cell.settings, "seed": 0}
        made["cell_id"] = hashlib.sha256(cell.name.encode()).hexdigest()
        tables.append(table_of(made))
    return tuple(summarize(pa.concat_tables(tables, promote_options="permissive"), metric="step_s"))


def excluded(condition: dict[str, Any]) -> set[str]:
    """The cells that a rule of `exclude` leaves out; one more is there, so that something is left."""
    text = f"axes: {json.dumps(_AXES)}\nexclude: [{json.dumps(condition)}]\ninclude: [{{framework: reference}}]"
    every = {named(summary.axes) for summary in cells()}
    return every - {named(cell.axes) for cell in expand(text).cells}


def existing(condition: dict[str, Any]) -> set[str]:
    """The cells that have an axis whose `when` is the condition."""
    text = f"axes: {json.dumps(_AXES | {'threads': [7, 8]})}\nwhen: {{threads: {json.dumps(condition)}}}"
    return {named(cell.axes) for cell in expand(text).cells if cell.axes["threads"] == 7}


def claimed(condition: dict[str, Any]) -> set[str]:
    """The cells that a claim with the condition as its `where` speaks of."""
    stated = {
        "name": "n",
        "compare": {"backward": ["explicit", "autograd"]},
        "expect": {"faster": 0.1},
    }
    claim = parsed(Claim.model_validate(stated | {"where": condition}))
    return {named(comparison.axes) for comparison in comparisons_of(claim, cells())}


def chosen(condition: dict[str, Any], bare: bool) -> set[str]:
    """The cells that are left by the same after `--where`."""
    where = conditions.parsed(f"{axis}={typed(wanted, bare)}" for axis, wanted in condition.items())
    asked = Conditions(where)
    return {named(summary.axes) for summary in cells() if asked.holds(summary.axes)}


def typed(wanted: Any, bare: bool) -> str:
    listed = wanted if isinstance(wanted, list) else [wanted]
    return ",".join(
        each if isinstance(each, str) and bare and "," not in each else json.dumps(each)
        for each in listed
    )


@st.composite
def random_conditions(draw: st.DrawFn) -> dict[str, Any]:
    axes = draw(st.lists(st.sampled_from(sorted(_WANTED)), min_size=1, max_size=3, unique=True))
    one = {axis: st.sampled_from(_WANTED[axis]) for axis in axes}
    return {axis: draw(one[axis] | st.lists(one[axis], min_size=1, max_size=3)) for axis in axes}


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(random_conditions(), st.booleans())
@example({"framework": "torch>=1,<2"}, True)
@example({"batch_exponent": [0, {"range": [2, 3]}]}, True)
@example({"tf32": [1, True]}, False)
@example({"parity_tolerance": "<1e-3", "version": "2.13"}, True)
def test_a_condition_means_the_same_wherever_it_stands(condition, bare):
    found = excluded(condition)

    assert existing(condition) == found
    assert claimed(condition) == found
    assert chosen(condition, bare) == found


def test_the_examples_above_tell_cells_apart():
    assert {name.partition(" ")[0] for name in excluded({"framework": "torch>=1,<2"})} == {
        "torch==1.13.1"
    }
    assert {name.split()[1] for name in excluded({"batch_exponent": [0, {"range": [2, 3]}]})} == {
        "0",
        "2",
        "3",
    }
    assert {name.split()[3] for name in excluded({"tf32": [1, True]})} == {"True"}
    assert len(excluded({"parity_tolerance": "<1e-3", "version": "2.13"})) == 4 * 2
