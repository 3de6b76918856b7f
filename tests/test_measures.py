"""Sweep's own files count in ids by the version of what they measure, raised by whoever changes that."""

from __future__ import annotations

import json

import measures
import pytest

from sweep import catalog, dependencies, grid, measured

TO_DO = """{} has changed.
If trials that run it now compute or time something else, so that their records must not stand beside those of before in
one cell, write MEASURES = {} at its top. If they do not (a new column, a message, an argument with its old default),
leave it. Then keep the decision: python tests/measures.py"""


@pytest.mark.parametrize("name", sorted(measures.found()))
def test_no_file_changes_without_a_decision_whether_it_measures_something_else(name):
    kept, found = json.loads(measures.KEPT.read_text()), measures.found()[name]

    assert kept.get(name) == found, TO_DO.format(name, found[0] + 1)


def test_no_file_that_is_gone_is_kept():
    assert json.loads(measures.KEPT.read_text()).keys() == measures.found().keys()


@pytest.mark.parametrize(("other", "same"), [
    ("x = 1  # one\n", True), ('"""Words."""\nx = 1\n', True), ("x = (1)\n", True), ("MEASURES = 2\nx = 1\n", True),
    ("x = 2\n", False), ("x = 1\ny = 1\n", False), ("x = '1'\n", False),
])  # fmt: skip
def test_a_digest_is_of_code_alone(other, same):
    assert (measures.digest("x = 1\n") == measures.digest(other)) is same


def ids(workload: str, framework: str = "torch==2.13.0") -> list[str]:
    parsed = grid.parse(f"axes: {{framework: [{framework}], workload: [{workload}], seed: [0]}}")
    workloads = catalog.workloads()
    content = measured.contents_of(workloads, parsed.environments)
    return [
        trial.id
        for trial in grid.expand(parsed, catalog.frameworks(), workloads, content=content).trials
    ]


@pytest.fixture
def raised(monkeypatch):
    """Raise the version of what a file measures."""
    real = dependencies.measures

    def raise_(name):
        file = catalog.WORKLOADS / name
        monkeypatch.setattr(
            dependencies, "measures", lambda path: 2 if path == file else real(path)
        )

    return raise_


@pytest.mark.parametrize(("file", "workload", "changes"), [
    ("core.py", "core", True), ("core.py", "train", True), ("train.py", "core", False), ("deeppose.py", "infer", True),
    ("runtime/timing.py", "core", True), ("runtime/optimizers.py", "core", False),
    ("runtime/optimizers.py", "train", True),
    ("runtime/host.py", "core", True), ("frameworks/torch.py", "core", True), ("frameworks/jax.py", "core", False),
    ("frameworks/reference.py", "core", False),
])  # fmt: skip
def test_what_runs_a_file_that_measures_something_else_gets_new_ids(
    raised, file, workload, changes
):
    before = ids(workload)
    raised(file)

    assert (ids(workload) != before) is changes


@pytest.mark.parametrize("workload", ["core", "train", "infer"])
def test_sweep_s_own_files_give_the_ids_that_settings_alone_give(workload):
    parsed = grid.parse(
        f"axes: {{framework: [torch==2.13.0, reference], workload: [{workload}], seed: [0]}}"
    )

    assert ids(workload, "torch==2.13.0, reference") == [
        trial.id for trial in grid.expand(parsed, catalog.frameworks(), catalog.workloads()).trials
    ]
