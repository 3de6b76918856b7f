"""Where further seeds go, and when it is enough."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from made_up import keep, record

import sweep
from sweep import adaptive, catalog, grid
from sweep.adaptive import SamplingState, decide
from sweep.analysis.summary import summarize
from sweep.grid import Cell


@dataclass(frozen=True)
class Until:
    interval: float = 0.02
    max_seeds: int | None = 20
    max_time: float | None = None


def cell(framework: str = "a==1", exponent: int = 0, **axes: object) -> Cell:
    settings = {"framework": framework, "backward": "autograd", "batch_exponent": exponent, **axes}
    name = "/".join(map(str, settings.values()))
    return Cell(name, name, settings, {"samples": 3})


def state(
    of: Cell, spread: float, seeds: int = 3, seconds: float = 1.0, drift: float = 0.0
) -> SamplingState:
    """Process means with that spread around 0.1 s, and what drifts alike in all cells of a block."""
    noise = np.random.default_rng([*of.id.encode()]).normal(0, 1, seeds)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * spread
    common = np.linspace(0, drift, seeds)
    means = {seed: float(0.1 * np.exp(noise[seed] + common[seed])) for seed in range(seeds)}
    return SamplingState(of, means, frozenset(range(seeds)), seconds)


def test_wide_groups_get_seeds_and_narrow_ones_the_reason() -> None:
    wide = [state(cell(f, 5), 0.05) for f in ("a==1", "b==1")]
    narrow = [state(cell(f, 1), 0.0005) for f in ("a==1", "b==1")]
    decision = decide([*wide, *narrow], Until())
    assert decision.seeds.keys() == {each.cell.id for each in wide}
    assert {tuple(seeds) for seeds in decision.seeds.values()} == {
        tuple(range(3, 3 + len(decision.seeds[wide[0].cell.id])))
    }
    assert decision.reasons.keys() == {each.cell.name for each in narrow}
    assert all(reason.startswith("narrow enough") for reason in decision.reasons.values())


def test_a_cell_that_is_compared_gets_its_seeds_with_the_others() -> None:
    """Else the blocks of the wide one would have no partner."""
    decision = decide([state(cell("a==1"), 0.05), state(cell("b==1"), 0.0001)], Until())
    assert len(decision.seeds) == 2


def test_drift_that_all_cells_of_a_block_share_asks_for_no_seeds() -> None:
    group = [state(cell(f), 0.001, seeds=5, drift=0.3) for f in ("a==1", "b==1")]
    assert decide(group, Until()).seeds == {}
    alone = [state(cell("a==1"), 0.001, seeds=5, drift=0.3)]
    assert decide(alone, Until()).seeds


def test_whether_one_is_faster_is_not_asked() -> None:
    """The same noise gets the same seeds, whatever the ratio is."""
    noise = state(cell("b==1"), 0.03)
    twice = SamplingState(
        noise.cell, {seed: 2 * mean for seed, mean in noise.means.items()}, noise.seeds, 1.0
    )
    one = state(cell("a==1"), 0.02)
    assert decide([one, noise], Until()) == decide([one, twice], Until())


def test_seeds_end_at_max_seeds() -> None:
    group = [state(cell(f), 0.3, seeds=18) for f in ("a==1", "b==1")]
    assert decide(group, Until(max_seeds=20)).seeds[group[0].cell.id] == [18, 19]
    decision = decide(group, Until(max_seeds=18))
    assert decision.seeds == {}
    assert all("max_seeds" in reason for reason in decision.reasons.values())


def test_time_that_is_left_goes_to_the_widest_first() -> None:
    wider = [state(cell(f, 5), 0.2, seconds=10) for f in ("a==1", "b==1")]
    wide = [state(cell(f, 1), 0.05, seconds=10) for f in ("a==1", "b==1")]
    decision = decide([*wide, *wider], Until(), left_s=45)
    assert {len(seeds) for seeds in decision.seeds.values()} == {2}
    assert decision.seeds.keys() == {each.cell.id for each in wider}
    assert all("no time is left" in decision.reasons[each.cell.name] for each in wide)
    assert decide([*wide, *wider], Until(), left_s=-1).seeds == {}


def test_cells_without_an_interval_get_one_first() -> None:
    assert math.isinf(adaptive.Group((state(cell(), 0.01, seeds=2),)).width)
    assert decide([state(cell(), 0.01, seeds=2)], Until()).seeds


def test_a_cell_that_gives_no_times_gets_no_more_trials_and_holds_nobody_up() -> None:
    broken = SamplingState(cell("b==1"), {}, frozenset(range(3)))
    decision = decide([state(cell("a==1"), 0.0001), broken], Until())
    assert decision.seeds == {}
    assert decision.reasons[broken.cell.name] == "its trials end without times"


def test_standings_are_those_of_the_records(tmp_path: Path) -> None:
    made = [record(seed) for seed in range(4)] + [record(4, status="crashed")]
    records = keep(tmp_path / "run", made).records()
    of = Cell(records["cell_id"][0].as_py(), "c", {}, {})
    (found,) = adaptive.sampling_states([of], records, summarize(records), lambda _: 2.0)
    assert found.seeds == frozenset(range(5))
    assert found.means.keys() == set(range(4))
    assert found.seconds == 2.0


def test_added_trials_have_the_ids_that_the_grid_would_give_them() -> None:
    text = "axes: {{framework: [reference], seed: {{range: [0, {}]}}}}"
    few, many = (
        grid.expand(grid.parse(text.format(last)), catalog.frameworks(), catalog.workloads()).trials
        for last in (2, 4)
    )
    decision = adaptive.Decision({few[0].cell.id: [3, 4]}, {})
    assert {trial.id for trial in adaptive.added_trials(decision, few)} == {t.id for t in many} - {
        t.id for t in few
    }
    known = [SamplingState(few[0].cell, {}, frozenset(range(5)))]
    assert [trial.id for trial in adaptive.added_before(known, few)] == [
        trial.id for trial in many[3:]
    ]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_a_sweep_adds_seeds_until_it_may_not_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "name: tiny\naxes: {framework: [reference], backward: [autograd, explicit], batch_exponent: [0], "
        "seed: {range: [0, 2]}}\nparameters: {samples: 2, warmup: 1, threads: 1, parity_examples: 1, "
        "until: {interval: 0.000001, max_seeds: 4}}\n"
    )
    variables = {
        **os.environ,
        "SWEEP_MAX_CONTENTION": "any",
        "PYTHONPATH": str(Path(sweep.__file__).parent.parent),
    }
    command = [sys.executable, "-m", "sweep", "run", "grid.yaml"]
    for _ in range(2):
        ran = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=280
        )
        assert ran.returncode == 0, ran.stderr
        run = sweep.load(tmp_path / "results" / "tiny")
        assert sorted(run.records["seed"].to_pylist()) == sorted([0, 1, 2, 3] * 2)
        assert set(run.records["attempt"].to_pylist()) == {1}
        assert run.missing == []
        assert len(run.facts.stopped) == 2
        assert all("max_seeds" in reason for reason in run.facts.stopped.values())
