"""Versions that PEP 440 holds equal are one version, wherever they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import keep, record
from packaging.version import Version

from sweep import catalog, grid, versions
from sweep.analysis.run import Run
from sweep.errors import SweepError
from sweep.grid.conditions import is_value

SPELLINGS = ["2.13", "2.13.0", "v2.13", " 2.13.0", "2.13.0.0"]
GRID = "axes: {{framework: [{}], seed: [0]}}\n"


def frameworks_of(text: str) -> list[str]:
    expansion = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())
    return [cell.axes["framework"] for cell in expansion.cells]


@pytest.mark.parametrize(("written", "normal"), [
    ("2.13", "2.13.0"), ("v1.0", "1.0.0"), ("1.0.0", "1.0.0"), ("1", "1.0.0"), ("2.13.0.0", "2.13.0"),
    ("0.1.12.post2", "0.1.12.post2"), ("1.0rc1", "1.0.0rc1"), ("2.13+CPU", "2.13.0+cpu"), ("1!2.0", "1!2.0.0"),
    ("1.2.3.4", "1.2.3.4"), ("mybuild", "mybuild"), ("0.1.10_2", "0.1.10_2"),
])  # fmt: skip
def test_a_version_has_one_spelling(written, normal):
    assert versions.normal(written) == normal


@given(
    st.from_regex(
        r"[0-9]{1,3}(\.[0-9]{1,3}){0,4}((a|b|rc)[0-9])?(\.post[0-9])?(\+[a-z0-9]{1,5})?",
        fullmatch=True,
    )
)
def test_the_one_spelling_is_the_same_version_and_stays_as_it_is(text):
    normal = versions.normal(text)

    assert Version(normal) == Version(text)
    assert versions.normal(normal) == normal


def test_every_spelling_of_a_version_is_one_value_and_the_user_is_told():
    text = GRID.format(", ".join(f"'torch=={spelling}'" for spelling in SPELLINGS))

    assert frameworks_of(text) == ["torch==2.13.0"]
    expansion = grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())
    assert "torch==2.13 and torch==2.13.0 and torch==v2.13" in expansion.notes[0]


def test_every_spelling_gives_the_id_that_the_usual_one_has():
    ids = {
        trial.id
        for spelling in SPELLINGS
        for trial in grid.expand(
            grid.parse(GRID.format(f"'torch=={spelling}'")),
            catalog.frameworks(),
            catalog.workloads(),
        ).trials
    }
    settings = {
        **catalog.workloads()["core"].parameters,
        "framework": "torch==2.13.0",
        "workload": "core",
        "backend": "default",
        "backward": "autograd",
        "device": "cpu",
        "batch_exponent": 5,
        "seed": 0,
    }

    assert ids == {grid.identify(settings)}


@pytest.mark.parametrize("rest", [
    "exclude: [{framework: torch==2.13}]", "exclude: [{version: '2.13'}]",
    "exclude: [{framework: torch}]\ninclude: [{framework: torch==2.13.0.0, batch_exponent: 0}]",
])  # fmt: skip
def test_rules_mean_a_version_however_it_is_spelled(rest):
    text = f"axes: {{framework: [torch==2.13.0, torch==1.13.1], seed: [0]}}\n{rest}\n"

    expected = ["torch==2.13.0"] if "include" in rest else ["torch==1.13.1"]
    assert frameworks_of(text) == expected


def test_when_and_claims_and_published_figures_mean_a_version_however_it_is_spelled():
    text = """
axes: {framework: [torch==2.13.0, torch==1.13], threads: [1, 2], seed: [0]}
when: {threads: {framework: torch==2.13}}
claims: [{name: faster, compare: {framework: [torch==2.13, torch==v1.13.0]}, expect: {faster: 0.1}}]
published: [{name: then, compare: {framework: [torch==2.13, torch==1.13]}, values: [1, 2]}]
"""
    assert frameworks_of(text) == ["torch==2.13.0", "torch==2.13.0", "torch==1.13.0"]


def test_only_names_a_version_however_it_is_spelled():
    found = grid.expand(
        grid.parse("axes: {framework: [torch==2.13.0, torch==1.13.1], seed: [0]}"),
        catalog.frameworks(),
        catalog.workloads(),
        only=["torch==2.13/*"],
    )
    assert [cell.axes["framework"] for cell in found.cells] == ["torch==2.13.0"]


def test_environments_are_of_a_version_however_it_is_spelled():
    text = "axes: {framework: [torch==2.13]}\nenvironments: {torch == v2.13: {python: '3.10'}}\n"
    assert grid.parse(text).environments == {"torch==2.13.0": {"python": "3.10"}}


def test_one_version_has_one_environment():
    text = """\
axes: {framework: [torch==2.13]}
environments:
  torch==2.13: {python: '3.10'}
  torch==2.13.0: {python: '3.11'}
"""
    with pytest.raises(
        SweepError, match=r"line 4: .*torch==2\.13 and torch==2\.13\.0 are one version"
    ):
        grid.expand(grid.parse(text), catalog.frameworks(), catalog.workloads())


def test_a_condition_and_a_baseline_mean_a_version_however_it_is_spelled(tmp_path):
    frameworks = ("torch==2.13.0", "torch==1.13.1", "torch==1.12.0")
    keep(tmp_path, [record(seed, framework=each) for each in frameworks for seed in range(3)])
    run = Run(tmp_path)

    (one,) = run.summary(where={"framework": "torch==2.13"})
    assert one.axes["framework"] == "torch==2.13.0"
    assert {c.baseline_value for c in run.compare("framework", baseline="torch==1.12")} == {
        "torch==1.12.0"
    }
    assert is_value("2.13.0", "v2.13")


def test_the_first_value_of_a_grid_is_the_baseline_however_it_is_spelled(tmp_path):
    grid_text = "axes: {framework: [torch==2.13, torch==1.13]}\n"
    records = [record(s, framework=f) for f in ("torch==2.13.0", "torch==1.13.0") for s in range(3)]
    keep(tmp_path, records, grid_text)

    assert {c.baseline_value for c in Run(tmp_path).compare("framework")} == {"torch==2.13.0"}
