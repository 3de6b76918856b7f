"""The grid language: what a file may say, what it expands to, and how it is told that it is wrong."""

from __future__ import annotations

from sweep import catalog, grid

CORE_TIME = """
name: core-time
axes:
  framework: [torch==2.13.0, chainer==7.8.1]
  backward: [autograd, explicit]
  batch_exponent: {range: [0, 4]}
  seed: {range: [0, 2]}
parameters: {samples: 20, warmup: 3, threads: 2}
"""


def expanded(text, only=(), sets=()):
    return grid.expand(grid.parse(text, sets), catalog.frameworks(), catalog.workloads(), only)


def test_cells_are_the_product_of_the_axes_and_trials_their_seeds():
    found = expanded(CORE_TIME)

    assert len(found.cells) == 2 * 2 * 5
    assert len(found.trials) == len({trial.id for trial in found.trials}) == 60
    assert found.trials[0].name == "torch==2.13.0/core/cpu/autograd/b0/s0"


def test_whoever_has_the_settings_can_compute_the_id():
    trial = expanded(CORE_TIME).trials[7]

    assert grid.identify(trial.settings) == trial.id
    assert grid.identify(trial.cell.settings) == trial.cell.id
