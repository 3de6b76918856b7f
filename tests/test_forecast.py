"""Forecasts: how long a plan takes on given nodes, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from commands import Sweep
from made_up import keep, record

from sweep.catalog import frameworks, workloads
from sweep.cluster.forecast import forecast, node_types
from sweep.errors import SweepError
from sweep.grid import Resources, expand, load

CLUSTER = Path(__file__).resolve().parent.parent / "cluster.yaml"
CPU = {"CPU": 8, "memory": 1e12}
GPU = {"CPU": 8, "GPU": 1, "memory": 1e12}


class Trial(NamedTuple):
    """What a forecast needs of a trial."""

    resources: Resources
    block: int = 0
    seconds: float = 10.0


def seconds(trial: Trial) -> float:
    return trial.seconds


def test_exclusive_trials_take_turns_on_each_node() -> None:
    trials = [Trial(Resources(cpu=2, exclusive=True), block) for block in range(6)]
    found = forecast(trials, {"cpu": (2, CPU)}, seconds)
    assert found.wall_s == 30.0
    assert found.types["cpu"].up_s == 60.0
    assert found.types["cpu"].trials == 6


def test_trials_that_share_a_node_run_side_by_side() -> None:
    trials = [Trial(Resources(cpu=2, exclusive=False), block) for block in range(8)]
    assert forecast(trials, {"cpu": (1, CPU)}, seconds).wall_s == 20.0


def test_each_type_counts_until_its_last_trial_has_ended() -> None:
    short = [Trial(Resources(cpu=8), block, 5.0) for block in range(2)]
    long = [Trial(Resources(cpu=8, gpu=1), 9, 100.0)]
    found = forecast([*short, *long], {"cpu": (2, CPU), "gpu": (1, GPU)}, seconds)
    assert (found.types["cpu"].up_s, found.types["gpu"].up_s) == (10.0, 100.0)
    assert found.wall_s == 100.0


def test_trials_that_fit_on_none_of_the_nodes_are_counted() -> None:
    trials = [Trial(Resources(cpu=9)), Trial(Resources(cpu=1, gpu=1)), Trial(Resources(cpu=1))]
    found = forecast(trials, {"cpu": (1, CPU)}, seconds)
    assert (found.infeasible, found.types["cpu"].trials) == (2, 1)


def test_node_types_are_those_of_the_cluster_file() -> None:
    found = node_types(CLUSTER, "cpu=4, gpu-8=1")
    assert {name: count for name, (count, _) in found.items()} == {"cpu": 4, "gpu-8": 1}
    assert found["gpu-8"][1]["GPU"] == 8


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("cpu", "no number of nodes"),
        ("cpu=0", "no number of nodes"),
        ("cpu=x", "no number of nodes"),
        ("cpu=4,", "no number of nodes"),
        ("cpuu=4", "no node type 'cpuu'"),
        ("head=1", "no node type 'head'"),
    ],
)
def test_nodes_that_are_none_are_refused(wanted: str, says: str) -> None:
    with pytest.raises(SweepError, match=says):
        node_types(CLUSTER, wanted)


@pytest.mark.parametrize(
    "text", ["", "a: [", "available_node_types: 3", "available_node_types: {cpu: 3}", "\xff"]
)
def test_a_file_without_node_types_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SweepError, match="describes no types of nodes"):
        node_types(file, "cpu=1")


def test_plan_tells_hours_by_what_trials_of_the_run_took(sweep: Sweep) -> None:
    Path("cluster.yaml").write_text("available_node_types: {big: {resources: {CPU: 4}}}\n")
    Path("grid.yaml").write_text(
        "name: r\naxes: {framework: [reference], seed: {range: [0, 19]}}\n"
    )
    unknown = sweep("plan", "grid.yaml", "--nodes", "big=2")
    assert "not known, as no trial like 20 of these has ended yet" in unknown.err
    planned = expand(load("grid.yaml"), frameworks(), workloads()).trials[:5]
    ended = [
        record(wall_s=1200.0) | {"trial_id": trial.id, "cell_id": trial.cell.id}
        for trial in planned
    ]
    keep("results/r", ended)
    told = sweep("plan", "grid.yaml", "--nodes", "big=2").err
    assert "on 2 big: about 2 h 40 min" in told
    assert "big: 5 node-hours for 15 trials" in told
