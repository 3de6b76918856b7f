"""docs/grid.md: every example is a grid, and every error is told in the words that stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweep import catalog, datasets, grid
from sweep.errors import SweepError
from sweep.records.columns import METRICS

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "grid.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```\n(?:```text\n(.*?)```)?", DOCUMENT, re.DOTALL)
EXAMPLES = [example for example, error in BLOCKS if not error]
ERRORS = [(example, error) for example, error in BLOCKS if error]


def expanded(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(text)
    known = {"data_sets": datasets.datasets(), "metrics": METRICS}
    written = grid.load("grid.yaml")
    versions = {
        str(wanted): ["7.8.0", "7.8.1"] for _, wanted in written.ranges()
    }  # no index is asked here
    return grid.expand(
        written.with_versions(versions), catalog.frameworks(), catalog.workloads(), **known
    )


def test_the_document_has_examples_and_errors():
    assert len(EXAMPLES) > 9
    assert len(ERRORS) > 9


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_grid_about_which_there_is_nothing_to_warn_of(
    example, tmp_path, monkeypatch
):
    found = expanded(example, tmp_path, monkeypatch)

    assert found.trials
    assert list(found.notes) == []


@pytest.mark.parametrize(("example", "told"), ERRORS)
def test_an_error_is_told_as_the_document_says(example, told, tmp_path, monkeypatch):
    with pytest.raises(SweepError) as raised:
        expanded(example, tmp_path, monkeypatch)

    assert f"error: {raised.value.message}\nhint: {raised.value.hint}\n" == told
