"""The command `sweep init`: a starter file, which runs without changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import output, paths
from sweep.errors import SweepError

_STEP = '''\
# /// script
# dependencies = []                # beside the framework, as "einops>=0.7"
#
# [tool.sweep]
# files = []                       # what the step reads or imports in ways that sweep cannot see
#
# [tool.sweep.axes]                # every combination of these is measured
# framework = ["numpy==1.26.4", "numpy==2.2.6"]    # or "torch==2.6.0": any package, any version
# width = [256]
# seed = [0, 1, 2]                 # a trial and process each; an interval takes three
#
# [tool.sweep.parameters]
# samples = 30                     # timed steps in each trial
# warmup = 5
# ///
"""Two layers, forward and backward."""

import numpy as np

PARAMETERS = {"width": 256}  # may be set with --set width=512, and may be an axis


def setup(width, batch_size, seed):
    """Called once in each trial, with the settings that it names: those above, device, threads …"""
    random = np.random.RandomState(seed)
    inputs = random.randn(batch_size, width)  # (batch, width)
    weights = random.randn(width, width) / width**0.5

    def forward():
        return np.maximum(inputs @ weights, 0)

    def backward(outputs):  # gets what the phase before it returned
        return inputs.T @ (outputs > 0)

    # Phases are timed in this order, each by itself. The result of the first one is compared
    # between frameworks.
    return {"forward": forward, "backward": backward}
'''

_GRID = """\
# What is measured: every combination of the axes. See sweep schema and docs/grid.md.
name: {name}
workload: core                      # core, train, infer, or a step of your own: train_step.py
axes:
  framework: [torch==2.13.0]        # any version, each in its own environment
  backward: [autograd, explicit]    # how the loss is differentiated
  batch_size: [1]
  seed: [0, 1, 2]                   # a trial and process each; an interval takes three
parameters:
  samples: 5                        # timed steps in each trial
  warmup: 2
claims:
  - name: an explicit backward takes the same time
    compare: {{backward: [explicit, autograd]}}
    expect: {{equivalent: 10%}}
"""


def init(
    name: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", parser=paths.path, help="The file to write.", show_default=False
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Write a grid file instead of a step file.")
    ] = False,
) -> None:
    """Write a commented starter file: a step of your own, or with --grid a grid.

    It runs without changes. An existing file is not overwritten.

    Example: `sweep init train_step.py`
    """
    path = name or Path("grid.yaml" if grid else "train_step.py")
    wanted = (".yaml", ".yml") if grid else (".py",)
    if path.suffix not in wanted:
        raise SweepError(
            f"{path} does not end in {wanted[0]}", f"write sweep init {path.stem}{wanted[0]}"
        )
    text = _GRID.format(name=path.stem) if grid else _STEP
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SweepError(f"{path} is there already", "give another name") from None
    except OSError as error:
        raise SweepError(
            f"{path} cannot be written: {error.strerror}", "name another folder"
        ) from None
    output.say(f"wrote {path}; try it with sweep try {path}, measure with sweep run {path}")
