"""What `tests/cluster/storm.py` does to a sweep on three nodes, in small, and that it would notice a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cluster.storm import Outcome, unleash
from made_up import Planned
from tiny import Account, drawn

from sweep.records.facts import RunFacts
from sweep.records.results import Results

PLANNED = [Planned(f"t{seed}", f"a/s{seed}") for seed in range(3)]


def record(seed: int, **different: Any) -> dict[str, Any]:
    settings = f'{{"seed": {seed}, "letter": "a", "nap_s": 0.1}}'
    told = {
        "trial_id": f"t{seed}",
        "trial_name": f"a/s{seed}",
        "settings": settings,
        "letter": "a",
        "seed": seed,
    }
    found = {
        "status": "ok",
        "attempt": 1,
        "step_s": [0.1],
        "wall_s": 0.2,
        "loss": [drawn(seed, "a")],
    }
    return told | found | different


def account(folder: Path, *records: dict[str, Any]) -> Account:
    with Results(folder).open(RunFacts(name="tiny", grid="name: tiny", trials=PLANNED)) as writer:
        for each in records:
            writer.append(each)
    return Account.of(Results(folder))


def test_an_account_of_what_is_complete_is_clean(tmp_path: Path) -> None:
    killed = record(1, status="crashed", loss=None, step_s=None)
    assert account(tmp_path, record(0), killed, record(1, attempt=2), record(2)).clean


@pytest.mark.parametrize(
    ("what", "records"),
    [
        ("lost", [record(0), record(1)]),
        ("lost", [record(0), record(1), record(2, status="crashed")]),
        ("double", [record(0), record(1), record(2), record(2, attempt=2)]),
        ("wrong", [record(0), record(1), record(2, loss=[drawn(1, "a")])]),
        ("wrong", [record(0), record(1), record(2, step_s=[0.01])]),
        ("unplanned", [record(0), record(1), record(2), record(3)]),
    ],
)
def test_an_account_tells_each_kind_of_loss(
    tmp_path: Path, what: str, records: list[dict[str, Any]]
) -> None:
    found = account(tmp_path, *records)
    assert getattr(found, what) == 1
    assert not found.clean


def storm(**options: Any) -> Outcome:
    return unleash(
        **(
            {"trials": 60, "nodes": 3, "nap_s": 0.2, "every_s": 0.0, "seed": 7, "watch": print}
            | options
        )
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_on_three_nodes_loses_nothing_with_a_node_and_the_driver(tmp_path: Path) -> None:
    outcome = storm()
    assert [fault.part for fault in outcome.faults] == ["node", "driver"]
    assert outcome.runs == 2
    assert outcome.account.planned == 60
    assert outcome.clean, outcome


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_on_three_nodes_loses_nothing_where_something_dies_every_few_seconds(
    tmp_path: Path,
) -> None:
    outcome = storm(trials=120, nap_s=0.1, every_s=2.0)
    assert len(outcome.faults) > 1
    assert outcome.account.planned == 120
    assert outcome.clean, outcome
