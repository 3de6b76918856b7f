"""Reproduction: run a recorded trial again, on this machine, with its environment and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sweep import catalog, measured
from sweep import grid as grids
from sweep.grid import Cell, Trial
from sweep.node.worker import RunTrial
from sweep.records.facts import RunFacts
from sweep.records.results import Record
from sweep.steps import is_step


def reproduce(facts: RunFacts, record: Mapping[str, Any]) -> Record:
    """Run the trial of a record again and return the new record, which is not stored.

    SweepError if the run's grid is not known.
    """
    grid = grids.parse(facts.grid, facts.overrides, facts.grid_path, facts.versions)
    run_trial = RunTrial(
        facts.name, overrides=grid.environments, max_contention=None, steal_most=None
    )
    return run_trial(_trial(grid, record))


def changed(facts: RunFacts, record: Mapping[str, Any]) -> list[str]:
    """Return what this machine has that differs from when the trial was recorded, in words."""
    grid = grids.parse(facts.grid, facts.overrides, facts.grid_path, facts.versions)
    settings = json.loads(record["settings"])
    workloads = catalog.workloads_of([_cell(record)])
    content = measured.contents_of(workloads, grid.environments)
    now = content(
        settings["workload"], settings["framework"], settings.get("data"), settings.get("network")
    )
    return measured.differences(json.loads(record.get("content") or "{}"), now, settings)


def _trial(grid: grids.Grid, record: Mapping[str, Any]) -> Trial:
    cell = _cell(record)
    settings = dict(cell.common)
    seed = settings.pop("seed")
    return Trial(
        id=record["trial_id"],
        cell=replace(cell, common=settings),
        seed=seed,
        resources=grid.file.resources.of(
            settings["device"],
            settings["workload"],
            settings.get("threads"),
            catalog.workload_of(settings["workload"], cell.content).exclusive,
        ),
        block=record["block"] or 0,
        position=record["position"] or 0,
    )


def _cell(record: Mapping[str, Any]) -> Cell:
    """Return the cell of a recorded trial, with the seed still among its settings.

    This machine has every content of a step. Of anything else the present content is used, and
    `changed` shows the difference.
    """
    settings = json.loads(record["settings"])
    content = json.loads(record.get("content") or "{}") if is_step(settings["workload"]) else {}
    return Cell(record["cell_id"], record["cell_name"], {}, settings, content)
