"""Summaries: every trial counted once, every figure as anyone would compute it, every warning said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Planned, keep, record, samples, training
from scipy import stats

import sweep
from sweep.analysis.run import NoRecords
from sweep.analysis.summary import FACTS, Summary, records_for, summarize
from sweep.analysis.warning_signs import run_warnings, warnings_of
from sweep.errors import SweepError
from sweep.records.results import Results
from sweep.records.rows import table_of


def table(*records: dict[str, Any]) -> pa.Table:
    return pa.concat_tables([table_of(each) for each in records], promote_options="permissive")


def only(*records: dict[str, Any], metric: str = "step_s") -> Summary:
    (summary,) = summarize(table(*records), metric=metric)
    return summary


def kinds(summary: Summary) -> set[str]:
    return {warning.kind for warning in warnings_of(summary)}


def test_figures_are_those_that_pandas_computes(tmp_path: Path) -> None:
    rows = [record(seed=s, batch_exponent=b, mean_s=0.1 * 2**b) for b in (0, 1) for s in range(4)]
    results = keep(tmp_path, rows)
    frame = pd.DataFrame(
        [(r["batch_exponent"], s) for r in rows for s in r["step_s"]], columns=["n", "s"]
    )
    for summary in summarize(results.records()):
        expected = frame[frame["n"] == summary.axes["batch_exponent"]]["s"]
        assert summary.mean == pytest.approx(expected.mean())
        assert summary.variance == pytest.approx(expected.var())
        assert summary.sd == pytest.approx(expected.std())
        assert summary.median == pytest.approx(expected.median())
        assert summary.mad == pytest.approx((expected - expected.median()).abs().median())
        assert (summary.min, summary.p5, summary.p95) == pytest.approx(
            (expected.min(), expected.quantile(0.05), expected.quantile(0.95))
        )


def test_the_interval_is_of_process_means_and_not_of_samples() -> None:
    summary = only(*[record(seed=s, step_s=[1.0 + 0.1 * s] * 50) for s in range(3)])
    error = stats.t.ppf(0.975, 2) * stats.sem([1.0, 1.1, 1.2])
    reach = np.exp(error / 1.1)
    assert summary.interval is not None
    assert (summary.interval.low, summary.interval.high) == pytest.approx(
        (1.1 / reach, 1.1 * reach)
    )


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=9), min_size=3, max_size=12))
def test_the_interval_beside_a_mean_is_of_that_mean(trials: list[list[float]]) -> None:
    summary = only(*[record(seed=s, step_s=times) for s, times in enumerate(trials)])
    assert summary.interval is not None
    assert summary.interval.estimate == summary.mean
    assert summary.interval.low <= summary.mean <= summary.interval.high


def test_processes_weigh_alike_however_many_samples_they_have() -> None:
    assert only(record(seed=0, step_s=[1.0] * 10), record(seed=1, step_s=[2.0] * 30)).mean == 1.5


@pytest.mark.parametrize("sizes", [[100_000, 1, 70_000], [1] * 5, [65_536] * 2, [3, 0, 2]])
def test_moments_are_right_however_samples_fall_into_stretches(sizes: list[int]) -> None:
    random = np.random.default_rng(1)
    rows = [random.normal(5, 1, size).tolist() for size in sizes]
    summary = only(*(record(seed=seed, step_s=row) for seed, row in enumerate(rows)))
    held = [row for row in rows if row]
    np.testing.assert_allclose(summary.trial_means, [np.mean(row) for row in held], rtol=1e-12)
    assert summary.variance == pytest.approx(np.var(np.concatenate(held), ddof=1), rel=1e-10)
    assert "step_s" in repr(summary)


def test_records_in_any_order_give_the_same_summary() -> None:
    rows = [
        record(seed=s, batch_exponent=b, mean_s=0.1 * 2**b) for b in (0, 1, 2) for s in range(3)
    ]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    for one, other in zip(summarize(table(*rows)), summarize(table(*shuffled)), strict=True):
        assert one.axes == other.axes
        assert one.mean == pytest.approx(other.mean)
        assert sorted(one.samples) == sorted(other.samples)
        assert [len(samples) for samples in other.by_trial()] == [30] * 3
        assert other.variance == pytest.approx(float(np.var(other.samples, ddof=1)))


def test_each_trial_keeps_its_own_facts() -> None:
    rows = [
        record(seed=s, batch_exponent=s % 2, step_s=[1.0 + s] * 3, node=f"n{s}")
        for s in (3, 0, 2, 1)
    ]
    for summary in summarize(table(*rows)):
        nodes = [f"n{round(mean - 1)}" for mean in summary.trial_means]
        assert summary.column("node") == nodes


def test_what_is_read_for_a_summary_says_the_same_as_all_that_is_recorded(tmp_path: Path) -> None:
    rows = [
        record(s, batch_exponent=b, node=f"n{s}", blas=f"blas {b}")
        for b in (0, 1)
        for s in range(3)
    ]
    again = record(0, attempt=2, batch_exponent=0, node="n9", blas=None)
    results = keep(tmp_path, [rows[0] | {"status": "crashed"}, *rows[1:], again])
    theirs = table(record(3, batch_exponent=0)).drop_columns(["node", "device_name"])
    pq.write_table(theirs, tmp_path / "records" / "theirs.parquet")

    sparing, whole = summarize(records_for(results, None)), summarize(results.records())

    assert [summary.processes for summary in sparing] == [4, 3]
    for one, other in zip(sparing, whole, strict=True):
        assert (one.axes, one.samples.tolist()) == (other.axes, other.samples.tolist())
        assert all(one.column(name) == other.column(name) for name in FACTS)
        cells = [
            json.dumps(json.loads(text) | {"seed": 0})
            for text in one.column("settings") + other.column("settings")
        ]
        assert len(set(cells)) == 1


def test_trials_that_failed_are_counted_and_have_no_times() -> None:
    summary = only(
        record(seed=0), record(seed=1, status="timeout"), record(seed=2, status="crashed")
    )
    assert summary.processes == 1
    assert summary.statuses == {"ok": 1, "timeout": 1, "crashed": 1}
    assert "failed" in kinds(summary)


def test_a_cell_whose_trials_all_failed_is_there_with_no_figures() -> None:
    summary = only(record(seed=0, status="oom"), record(seed=1, status="oom"))
    assert summary.processes == 0
    assert np.isnan(summary.mean)
    assert np.isnan(summary.median)
    assert summary.interval is None
    assert summary.variances is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -0.1])
def test_a_trial_with_an_impossible_time_is_left_out_and_told(bad: float) -> None:
    summary = only(record(seed=0, step_s=[1.0, 1.0]), record(seed=1, step_s=[1.0, bad, 1.0]))
    assert summary.processes == 1
    assert summary.left_out["impossible"] == 1
    assert "impossible times" in kinds(summary)


def test_disturbed_samples_are_set_aside_and_told() -> None:
    summary = only(record(step_s=[1.0, 9.0, 1.0], valid=[True, False, True]))
    assert summary.samples.tolist() == [1.0, 1.0]
    assert summary.left_out["disturbed"] == 1
    assert "disturbed samples" in kinds(summary)


def test_disturbed_samples_are_set_aside_when_parts_are_folded_too(tmp_path: Path) -> None:
    calm = [record(seed=seed, step_s=[1.0, 2.0], valid=[True, True]) for seed in range(2)]
    keep(tmp_path, calm)
    keep(tmp_path, [record(seed=2, step_s=[5.0, 9.0, 7.0], valid=[True, False, True])])
    (summary,) = sweep.load(tmp_path).summary()
    assert summary.left_out["disturbed"] == 1
    assert sorted(summary.samples) == [1.0, 1.0, 2.0, 2.0, 5.0, 7.0]
    assert sorted(summary.trial_means) == [1.5, 1.5, 6.0]
    assert summary.variance == pytest.approx(np.var([1, 2, 1, 2, 5, 7], ddof=1))


def test_flags_of_samples_say_nothing_of_metrics_that_are_not_per_sample() -> None:
    summary = only(
        record(step_s=[1.0, 9.0, 1.0], valid=[True, False, True], warmup_s=[5.0]), metric="warmup_s"
    )
    assert summary.samples.tolist() == [5.0]


def test_one_number_per_trial_is_a_metric_too() -> None:
    summary = only(
        *[record(seed=s, peak_rss_bytes=1000 + s) for s in range(3)], metric="peak_rss_bytes"
    )
    assert summary.unit == "B"
    assert summary.mean == 1001


def test_axes_can_be_chosen_and_the_version_told_from_the_framework() -> None:
    rows = [
        record(framework=f, batch_exponent=b) for f in ("torch==2.9", "torch==2.13") for b in (0, 1)
    ]
    by_framework = summarize(table(*rows), by=["framework", "version"])
    assert [tuple(s.axes.values()) for s in by_framework] == [("torch", "2.9"), ("torch", "2.13")]
    assert "pooled" in kinds(by_framework[0])
    chosen = summarize(table(*rows), where={"framework": "torch", "batch_exponent": [1]})
    assert [s.axes["batch_exponent"] for s in chosen] == [1, 1]
    with pytest.raises(SweepError, match="no cell has an axis 'framewrk'"):
        summarize(table(*rows), by=["framewrk"])


def test_versions_are_in_the_order_of_versions() -> None:
    rows = [record(framework=f"torch=={v}") for v in ("2.13.0", "1.0.1", "2.9.0")]
    assert [s.axes["framework"] for s in summarize(table(*rows))] == [
        "torch==1.0.1",
        "torch==2.9.0",
        "torch==2.13.0",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"threads": 1}, {"threads"}),
        ({"steal_ratio": 0.1}, {"contaminated"}),
        ({"contention_ratio": 0.2}, {"contaminated"}),
        ({"involuntary_switches": 60_000}, {"contaminated"}),
        ({"involuntary_switches": 200}, set()),
        ({"step_s": [0.2] * 20 + samples(0, 0.1, count=60)}, {"warm-up", "outlier"}),
        ({"step_s": samples(0, 0.1, count=60) + [0.2] * 40}, {"slowdown", "outlier"}),
        (
            {
                "step_s": samples(0, 0.1, count=40)
                + samples(1, 0.15, count=3)
                + samples(2, 0.1, count=40)
            },
            set(),
        ),
    ],
)
def test_what_is_doubtful_is_said(changes: dict[str, Any], expected: set[str]) -> None:
    summary = only(*[record(seed=s) for s in range(3)], record(seed=3, **changes))
    assert kinds(summary) == expected


def test_one_sample_and_one_trial_that_the_mean_hangs_on_are_told() -> None:
    calm = [record(seed=s) for s in range(3)]
    times = samples(3, 0.1)
    times[4] *= 1000
    (warning,) = warnings_of(only(*calm, record(seed=3, step_s=times)))
    assert (warning.kind, warning.text.split(":")[0]) == (
        "outlier",
        "1 of 120 samples (seed 3) makes the mean 9.45 times as great",
    )
    (warning,) = warnings_of(only(*calm, record(seed=3, mean_s=100.0)))
    assert (warning.kind, warning.text.split(" makes")[0]) == ("outlier", "1 of 4 trials (seed 3)")
    assert warning.text.endswith("s where the median is 99.63 ms")


def test_every_warning_comes_with_a_fix() -> None:
    summary = only(record(seed=0, threads=1, steal_ratio=0.5), record(seed=1, status="failed"))
    assert len(warnings_of(summary)) == 4
    assert all(warning.fix for warning in warnings_of(summary))


def test_too_few_processes_say_how_many_more() -> None:
    (warning,) = warnings_of(only(record(seed=0), record(seed=1)))
    assert str(warning) == "no interval from 2 processes; use --add-seeds 1 or more"


def test_machines_mixed_in_a_cell_are_told() -> None:
    assert kinds(only(*[record(seed=s, cpu_model=f"cpu {s % 2}") for s in range(4)])) == {"mixed"}


def test_a_blas_that_does_not_know_the_cpu_is_told() -> None:
    cores = [
        f"OpenBLAS 0.3.13 DYNAMIC_ARCH NO_AFFINITY {c} MAX_THREADS=64"
        for c in ("Prescott", "Haswell")
    ]
    assert kinds(only(*[record(seed=s, blas=cores[0]) for s in range(4)])) == {"old BLAS"}
    assert kinds(only(*[record(seed=s, blas=cores[1]) for s in range(4)])) == set()


@pytest.mark.parametrize("count", [20, 50])
@pytest.mark.parametrize("rise", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("metric", ["step_s", "epoch_s", "iteration_s"])
def test_processes_that_get_slower_or_faster_all_along_are_told(
    metric: str, rise: float, count: int
) -> None:
    level = np.linspace(1, 1 + rise, count)
    rows = [level * np.array(samples(seed, 0.1, count=count)) ** 0.5 for seed in range(3)]
    for kind, times in (("slowdown", rows), ("warm-up", [row[::-1] for row in rows])):
        records = [
            record(seed, **{metric: row.tolist()}) | {"valid": None}
            for seed, row in enumerate(times)
        ]
        assert kinds(only(*records, metric=metric)) == {kind}


def test_a_loss_that_falls_and_a_clock_that_goes_on_are_not_doubtful() -> None:
    trained = [training(seed) for seed in range(3)]
    for metric in ("loss", "validation_loss", "elapsed_s", "validation_elapsed_s"):
        assert not {"warm-up", "slowdown", "none"} & kinds(only(*trained, metric=metric))


def falling(cells: int, seeds: int, **changes: Any) -> list[dict[str, Any]]:
    """A run whose times go from 1.4 to 0.6 of the mean of their cell, block by block."""
    shares = np.linspace(1.4, 0.6, cells * seeds)
    return [
        record(
            seed=turn // cells,
            batch_exponent=turn % cells,
            mean_s=0.1 * 2 ** (turn % cells) * share,
            started_at=1_700_000_000 + turn,
            **changes,
        )
        for turn, share in enumerate(shares)
    ]


@pytest.mark.parametrize(("cells", "seeds"), [(1, 8), (4, 3)])
def test_drift_over_the_run_is_told_once_from_all_cells_together(cells: int, seeds: int) -> None:
    summaries = summarize(table(*falling(cells, seeds)))
    (warning,) = run_warnings(summaries)
    assert warning.kind == "drift"
    assert "step_s drifts by -5" in warning.text
    assert not {"drift"} & {kind for summary in summaries for kind in kinds(summary)}


def test_cells_that_are_pooled_drift_as_the_cells_that_they_hold_do() -> None:
    rows = falling(4, 3)
    pooled = summarize(table(*rows), by=["framework"])
    assert run_warnings(pooled) == run_warnings(summarize(table(*rows)))


def test_trials_on_different_machines_do_not_drift() -> None:
    rows = [each | {"node": f"n{each['seed']}"} for each in falling(4, 3)]
    assert run_warnings(summarize(table(*rows))) == []


def test_records_that_say_not_when_they_started_have_no_drift() -> None:
    rows = [each | {"started_at": None} for each in falling(4, 3)]
    assert run_warnings(summarize(table(*rows))) == []


def test_two_kinds_of_processes_are_told() -> None:
    processes = [record(seed=s, step_s=samples(s, 0.1 if s % 2 else 0.15)) for s in range(12)]
    assert "bimodal" in kinds(only(*processes))


def test_a_loaded_run_answers_questions(tmp_path: Path) -> None:
    keep(
        tmp_path,
        [
            record(seed=s, framework=f)
            for f in ("torch==2.13.0", "chainer==7.8.1")
            for s in range(3)
        ],
    )
    run = sweep.load(tmp_path)
    assert len(run.records) == 6
    assert [s.axes["framework"] for s in run.summary(by=["framework"])] == [
        "chainer==7.8.1",
        "torch==2.13.0",
    ]
    (comparison,) = run.compare(over="framework")
    assert comparison.baseline_value == "chainer==7.8.1"
    assert run.missing == []


def test_a_metric_that_nobody_knows_is_answered_with_the_nearest(tmp_path: Path) -> None:
    keep(tmp_path, [record(extra_s=[1.0, 2.0])])
    run = sweep.load(tmp_path)
    with pytest.raises(SweepError) as error:
        run.summary(metric="stepp_s")
    assert error.value.hint == "did you mean 'step_s'?"
    assert run.summary(metric="extra_s")[0].mean == 1.5


def test_a_metric_that_no_trial_holds_is_missing(tmp_path: Path) -> None:
    keep(tmp_path, [record()])
    with pytest.raises(NoRecords, match=r"no trial of .* holds device_s"):
        sweep.load(tmp_path).summary(metric="device_s")


def test_a_folder_without_a_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="holds no run"):
        sweep.load(tmp_path)


def test_planned_trials_without_a_record_are_missing(tmp_path: Path) -> None:
    done = record(seed=0)
    keep(
        tmp_path,
        [done],
        trials=[Planned(done["trial_id"], done["trial_name"]), Planned("abc", "torch/s1")],
    )
    assert sweep.load(tmp_path).missing == ["torch/s1"]
    assert Results(tmp_path).plan().num_rows == 2


def test_records_that_hold_no_settings_are_summarised_and_warned_of_too() -> None:
    drifting = [
        record(seed, step_s=[1.0 + 0.1 * (i > 40) for i in range(80)], settings=None)
        for seed in range(3)
    ]
    summary = only(*drifting)
    assert summary.column("settings") == [None] * 3
    (fix,) = {
        warning.fix
        for warning in warnings_of(summary)
        if warning.kind in ("warm-up", "slowdown", "none")
    }
    assert "epochs" not in fix
    assert "threads" not in kinds(summary)
