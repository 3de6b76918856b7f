"""What equal cells say of a machine, and how later runs heed it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import keep, record

import sweep
from sweep import calibration, catalog, grid
from sweep.analysis import comparisons
from sweep.analysis.statistics import Interval, Ratio
from sweep.analysis.summary import summarize
from sweep.calibration import Calibration
from sweep.errors import SweepError
from sweep.node import machine

TEXT = """
name: tiny
axes:
  framework: [reference]
  backward: [autograd, explicit]
  batch_exponent: [0, 3]
  seed: {range: [0, 4]}
parameters: {samples: 2, warmup: 1, threads: 1, parity_examples: 1}
"""


def expansion(*only: str) -> grid.Expansion:
    return grid.expand(grid.parse(TEXT), catalog.frameworks(), catalog.workloads(), only)


def found(low: float = 0.99, high: float = 1.02, **changes: object) -> Calibration:
    said: dict[str, object] = {
        "place": machine.node_name(),
        "cpu_model": machine.cpu_model(),
        "device": "cpu",
        "workload": "core",
        "cell": "c",
        "metric": "step_s",
        "pairs": 10,
        "ratio": 1.0,
        "low": low,
        "high": high,
        "spread": 0.01,
        "measured_at": "2026-01-01",
        "machine": machine.identity(),
    }
    return Calibration(**(said | changes))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_cell_of_least_work_is_run_twice_and_nothing_but_the_label_differs() -> None:
    cell, doubled = calibration.paired_plan(expansion(), 4)
    assert cell.axes["batch_exponent"] == 0
    assert len({trial.id for trial in doubled.trials}) == 8
    settings = [
        {k: v for k, v in trial.settings.items() if k not in ("label", "seed")}
        for trial in doubled.trials
    ]
    assert all(each == cell.settings for each in settings)
    assert [(trial.settings["label"], trial.seed) for trial in doubled.trials][:3] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
    ]


def test_the_cells_to_choose_from_can_be_named() -> None:
    assert calibration.paired_plan(expansion("*/explicit/b3/*"), 3)[0].axes["batch_exponent"] == 3
    with pytest.raises(SweepError, match="no cell"):
        calibration.paired_plan(grid.Expansion((), (), ()), 3)


def test_the_floor_is_the_end_of_the_interval_that_lies_farther_from_one() -> None:
    assert found(0.99, 1.02).noise_floor == pytest.approx(0.02)
    assert found(0.96, 1.02).noise_floor == pytest.approx(1 / 0.96 - 1)
    assert not found(0.99, 1.02).biased
    assert found(1.01, 1.02).biased


def test_what_can_be_found_lies_beyond_the_floor_and_needs_three_seeds() -> None:
    assert math.isinf(found().detectable(2))
    assert found().noise_floor < found().detectable(10) < found().detectable(3)


def test_too_few_pairs_are_no_calibration() -> None:
    (comparison,) = comparisons.compare_cells("label", "b", "a", {}, [], [])
    with pytest.raises(SweepError, match="0 pairs"):
        Calibration.of(comparison, expansion().cells[0], None, "run")


def test_a_calibration_is_kept_for_its_kind_of_cell_on_its_machine_alone() -> None:
    cells = expansion().cells
    assert calibration.applicable(cells) == []
    calibration.save(found())
    calibration.save(found(high=1.5, device="gpu"))
    calibration.save(found(high=1.9, place="10.0.0.1:6379", cpu_model="", machine=""))
    assert [each.high for each in calibration.applicable(cells)] == [1.02]
    assert [each.high for each in calibration.applicable(cells, "10.0.0.1:6379")] == [1.9]
    calibration.save(found(high=1.04))
    assert [each.high for each in calibration.applicable(cells)] == [1.04]


def test_a_machine_that_is_renamed_keeps_its_calibration() -> None:
    calibration.save(found(high=1.4, place="its old name"))
    cells = expansion().cells
    assert [each.high for each in calibration.applicable(cells)] == [1.4]
    assert calibration.of_other_machines(cells) == []


def test_calibrations_that_do_not_apply_are_told_apart_from_those_of_clusters() -> None:
    """Of another machine, and of the version before, which knew machines by their names."""
    calibration.save(found(high=1.4, place="other", machine="another machine"))
    calibration.save(found(high=1.5, place="older", machine=""))
    calibration.save(found(high=1.6, place="10.0.0.1:6379", cpu_model="", machine=""))
    cells = expansion().cells
    assert calibration.applicable(cells) == []
    assert sorted(each.high for each in calibration.of_other_machines(cells)) == [1.4, 1.5]
    calibration.save(found())
    assert calibration.of_other_machines(cells) == []


def test_a_damaged_calibration_is_none() -> None:
    calibration.save(found()).write_text("{")
    assert calibration.applicable(expansion().cells) == []


def test_the_ratio_of_the_labels_is_what_is_kept(tmp_path: Path) -> None:
    made = [record(seed, mean_s=0.1) for seed in range(5)]
    summary = summarize(keep(tmp_path / "run", made).records())[0]
    (comparison,) = comparisons.compare_cells("label", "b", "a", {}, [summary], [summary])
    kept = Calibration.of(comparison, expansion().cells[0], None, "run")
    assert isinstance(comparison.ratio, Ratio)
    assert isinstance(comparison.interval, Interval)
    assert (kept.ratio, kept.pairs, kept.metric) == (1.0, 5, "step_s")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.framework
def test_a_calibrated_machine_widens_the_margin_of_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(TEXT)
    variables = {
        **os.environ,
        "SWEEP_MAX_CONTENTION": "any",
        "PYTHONPATH": str(Path(sweep.__file__).parent.parent),
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweep", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=280
        )

    calibrated = call("calibrate", "grid.yaml", "--seeds", "3")
    assert calibrated.returncode == 0, calibrated.stderr
    assert "The noise floor is" in calibrated.stdout
    ran = call("run", "grid.yaml", "--only", "*/autograd/b0/s0")
    assert "noise floor of core on cpu" in ran.stderr
    floor = calibration.applicable(expansion().cells)[0].noise_floor
    assert sweep.load(tmp_path / "results" / "tiny").margin == max(0.01, floor)
