"""Metrics: which way each goes, what it is one per, and what trials without it are worth."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Sweep
from made_up import keep, record, training

from sweep.analysis.claims import judge, parsed
from sweep.analysis.comparisons import over_axis
from sweep.analysis.run import Run
from sweep.analysis.statistics import equivalence_range, paired_ratio
from sweep.analysis.warning_signs import warnings_of
from sweep.analysis.wording import sentence
from sweep.errors import SweepError
from sweep.grid.language import Claim
from sweep.records.columns import SCHEMA, ColumnMetadata
from sweep.records.results import Record

ONE, OTHER = "torch==2.13.0", "torch==1.13.1"
RATE = {
    "unit": "tokens/s",
    "direction": "more",
    "per": "trial",
    "meaning": "tokens that are read in a second",
}


def noise(seed: int, salt: int) -> float:
    return float(np.exp(np.random.default_rng([seed, salt]).normal(0, 0.01)))


def pair(column: str, one: float, other: float, trials: int = 5, **changes: Any) -> list[Record]:
    """Trials of ONE and of OTHER with so much of a column."""
    levels = {ONE: one, OTHER: other}
    return [
        record(seed, framework=framework, **{column: level * noise(seed, salt)}, **changes)
        for salt, (framework, level) in enumerate(levels.items())
        for seed in range(trials)
    ]


def times_to_target(reached: int, trials: int = 10) -> list[Record]:
    """Trainings: ONE is faster where it gets there, which only some of its trials do; OTHER always gets there."""
    rows = [
        training(s, framework=ONE, target_s=80.0 * noise(s, 0), target_epoch=8)
        for s in range(trials)
    ]
    for row in rows[reached:]:
        row |= {"target_s": None, "target_epoch": None}
    return rows + [
        training(s, framework=OTHER, target_s=100 * noise(s, 1), target_epoch=10)
        for s in range(trials)
    ]


def failing(failed: int, status: str, one: float, other: float) -> list[Record]:
    """Steps of ONE, of which some trials failed, and of OTHER, of which none did."""
    rows = [
        record(s, framework=ONE, mean_s=one, status=status if s < failed else "ok")
        for s in range(6)
    ]
    return rows + [record(s, framework=OTHER, mean_s=other) for s in range(6)]


# which way is better


def test_every_column_says_what_it_is_one_per_and_every_time_and_size_which_way_is_better() -> None:
    about = {field.name: ColumnMetadata.of_field(field) for field in SCHEMA}
    assert all(b"direction" in field.metadata and b"per" in field.metadata for field in SCHEMA)
    undirected = {
        "waited_s",
        "elapsed_s",
        "validation_elapsed_s",
    }  # of the schedule; points in time
    timed = {name for name, each in about.items() if each.unit in ("s", "B")}
    assert {name for name in timed if about[name].direction != "less"} == undirected
    assert about["images_per_s"].direction == about["validation_pck"].direction == "more"
    assert about["import_s"].per == "host"


def test_more_images_per_second_are_faster(sweep: Sweep) -> None:
    keep("results/infer", pair("images_per_s", 200.0, 100.0))
    said = sweep("compare", "--metric", "images_per_s", "--baseline", OTHER)
    assert said.code == 0
    assert "torch 2.13.0 does 2.0" in said.out
    assert "more images per second than torch 1.13.1" in said.out
    said = sweep("compare", "--metric", "images_per_s", "--baseline", ONE, "--format", "json")
    (row,) = json.loads(said.out)
    assert said.code == 1
    assert (row["verdict"], row["direction"], row["per"]) == ("slower", "more", "trial")
    assert row["ratio"] == pytest.approx(0.5, rel=0.02)
    assert row["speedup"] == pytest.approx(0.5, rel=0.02)
    assert "less images per second" in row["sentence"]


@pytest.mark.parametrize(
    ("expect", "outcome"),
    [
        ({"faster": 0.5}, "supported"),
        ({"slower": 0.5}, "refuted"),
        ({"ratio": [1.9, 2.1]}, "supported"),
        ({"equivalent": 0.1}, "refuted"),
    ],
)
def test_claims_follow_the_direction_of_their_metric(
    tmp_path: Path, expect: dict[str, Any], outcome: str
) -> None:
    run = Run(keep(tmp_path, pair("images_per_s", 200.0, 100.0)).storage)
    claim = {
        "name": "c",
        "compare": {"framework": [ONE, OTHER]},
        "metric": "images_per_s",
        "expect": expect,
    }
    (judgement,) = judge(
        [parsed(Claim.model_validate(claim))], {"images_per_s": run.summary(metric="images_per_s")}
    )
    assert judgement.outcome == outcome


def test_a_plot_of_a_rate_says_times_as_fast_the_right_way_round(tmp_path: Path) -> None:
    from sweep.report import figures

    run = Run(keep(tmp_path, pair("images_per_s", 200.0, 100.0)).storage)
    choice = figures.Choice("images_per_s", over="framework", baseline=OTHER)
    (row,) = figures.picture(run, "speedup", choice)["data"]["values"]
    assert row["speedup"] == pytest.approx(2.0, rel=0.02)
    assert row["verdict"] == "faster"


def test_no_verdict_is_given_where_neither_way_is_better(sweep: Sweep) -> None:
    keep("results/run", pair("contention_ratio", 0.2, 0.1))
    said = sweep("compare", "--metric", "contention_ratio")
    assert said.code == 2
    assert "neither more nor less contention_ratio is better" in said.err
    assert said.out == ""
    assert sweep("summarize", "--metric", "contention_ratio").code == 0


@pytest.mark.parametrize(("kind", "code"), [("faster", 2), ("equivalent", 0)])
def test_a_plan_refuses_a_claim_of_faster_by_what_goes_neither_way(
    sweep: Sweep, kind: str, code: int
) -> None:
    claim = f"{{name: c, compare: {{backward: [explicit, autograd]}}, metric: gradient_norm, expect: {{{kind}: 0.1}}}}"
    grid = f"name: g\naxes: {{framework: [reference], backward: [explicit, autograd]}}\nclaims: [{claim}]\n"
    Path("grid.yaml").write_text(grid)
    said = sweep("plan", "grid.yaml")
    assert said.code == code
    assert ("neither more nor less gradient_norm is better" in said.err) == (kind == "faster")


def test_what_a_plug_in_says_of_its_column_is_known_wherever_the_run_is_read(sweep: Sweep) -> None:
    rows = pair("tokens_per_s", 200.0, 100.0, columns={"tokens_per_s": RATE})
    keep("results/run", rows)
    (row, _) = json.loads(sweep("summarize", "--metric", "tokens_per_s", "--format", "json").out)
    assert (row["unit"], row["direction"], row["per"]) == ("tokens/s", "more", "trial")
    said = sweep("compare", "--metric", "tokens_per_s", "--baseline", OTHER)
    assert "does 2.0" in said.out
    assert "more tokens per second" in said.out


def test_a_column_of_which_nothing_is_said_goes_by_its_name(tmp_path: Path) -> None:
    changes = {"odd_s": 1.0, "odd_bytes": 5, "oddity": 2.0}
    run = Run(keep(tmp_path, [record(s, **changes) for s in range(3)]).storage)
    about = {name: run.summary(metric=name)[0].metadata for name in changes}
    assert [(each.unit, each.direction) for each in about.values()] == [
        ("s", "less"),
        ("B", "less"),
        ("", "none"),
    ]


# missing for a reason


def test_a_side_that_did_not_always_reach_the_target_is_not_faster(tmp_path: Path) -> None:
    run = Run(keep(tmp_path, times_to_target(reached=3)).storage)
    for metric in ("target_s", "target_epoch"):
        (comparison,) = run.compare("framework", OTHER, metric)
        assert comparison.verdict == "inconclusive"
        assert "3 of 10 trials of torch 2.13.0 reached it" in sentence(comparison)
        assert comparison.seeds_needed is None
    (other_way,) = run.compare("framework", ONE, "target_s")
    assert other_way.verdict == "inconclusive"  # nor is the other slower than those few


def test_a_side_that_all_reached_the_target_is_faster_than_one_that_did_not_and_took_longer(
    tmp_path: Path,
) -> None:
    rows = times_to_target(reached=3)
    for row in rows[:3]:
        row["target_s"] *= 2
    (comparison,) = Run(keep(tmp_path, rows).storage).compare("framework", OTHER, "target_s")
    assert comparison.verdict == "slower"
    assert "(3 of 10 and 10 processes)" in sentence(comparison)


def test_a_target_that_no_trial_reached_is_missing_and_not_passed_over(tmp_path: Path) -> None:
    run = Run(keep(tmp_path, times_to_target(reached=0)).storage)
    (comparison,) = run.compare("framework", OTHER, "target_s")
    assert comparison.verdict == "missing"
    assert f"0 of 10 trials of {ONE} reached it" in comparison.reason


def test_a_summary_says_how_many_reached_the_target(tmp_path: Path) -> None:
    summary = Run(keep(tmp_path, times_to_target(reached=3)).storage).summary(metric="target_s")[1]
    assert (summary.processes, summary.trials, summary.never_reached) == (3, 10, 7)
    assert any("3 of 10 trials reached it" in str(warning) for warning in warnings_of(summary))


@pytest.mark.parametrize("status", ["oom", "timeout", "crashed", "failed", "not_comparable"])
def test_a_side_of_which_trials_failed_is_neither_faster_nor_equal(
    tmp_path: Path, status: str
) -> None:
    (faster,) = Run(keep(tmp_path / "faster", failing(2, status, 0.05, 0.1)).storage).compare(
        "framework", OTHER
    )
    (equal,) = Run(keep(tmp_path / "equal", failing(2, status, 0.1, 0.1)).storage).compare(
        "framework", OTHER, margin=0.2
    )
    (slower,) = Run(keep(tmp_path / "slower", failing(2, status, 0.2, 0.1)).storage).compare(
        "framework", OTHER
    )
    assert [each.verdict for each in (faster, equal, slower)] == [
        "inconclusive",
        "inconclusive",
        "slower",
    ]
    assert f"4 of 6 trials of torch 2.13.0 went well (2 {status})" in sentence(faster)
    assert "(4 of 6 and 6 processes)" in sentence(slower)


def test_trials_that_others_kept_from_it_count_for_nothing(tmp_path: Path) -> None:
    for status in ("invalid", "env_failed", "unsupported"):
        run = Run(keep(tmp_path / status, failing(2, status, 0.05, 0.1)).storage)
        assert run.compare("framework", OTHER)[0].verdict == "faster"


def test_failures_keep_a_claim_from_being_supported_and_not_from_being_refuted(
    tmp_path: Path,
) -> None:
    summaries = Run(keep(tmp_path, failing(2, "oom", 0.05, 0.1)).storage).summary()
    outcomes = {}
    for kind in ("faster", "slower"):
        claim = {"name": kind, "compare": {"framework": [ONE, OTHER]}, "expect": {kind: 0.05}}
        outcomes[kind] = judge([parsed(Claim.model_validate(claim))], {"step_s": summaries})[
            0
        ].outcome
    assert outcomes == {"faster": "inconclusive", "slower": "inconclusive"}
    claim = {"name": "c", "compare": {"framework": [OTHER, ONE]}, "expect": {"faster": 0.05}}
    assert (
        judge([parsed(Claim.model_validate(claim))], {"step_s": summaries})[0].outcome
        == "inconclusive"
    )
    slow = Run(keep(tmp_path / "slow", failing(2, "oom", 0.2, 0.1)).storage).summary()
    claim = {"name": "c", "compare": {"framework": [ONE, OTHER]}, "expect": {"faster": 0.05}}
    assert judge([parsed(Claim.model_validate(claim))], {"step_s": slow})[0].outcome == "refuted"


def test_the_inverse_of_a_ratio_is_open_at_the_other_end() -> None:
    from dataclasses import replace

    ratio = replace(paired_ratio([2.0, 2.1, 2.2], [1.0, 1.0, 1.0]), open_above=True)
    assert (ratio.inverse().open_below, ratio.inverse().open_above) == (True, False)
    assert ratio.inverse().estimate == pytest.approx(1 / ratio.estimate)
    assert ratio.speedup("more") == ratio
    assert equivalence_range(0.01)  # the range that both are held against is the same for either


# the unit of replication


def imports(hosts: int, trials: int = 6, **changes: Any) -> list[Record]:
    """Trials of two frameworks, each with so many hosts whose one import all their trials tell."""
    rows = []
    for salt, (framework, level) in enumerate({ONE: 2.0, OTHER: 1.0}.items()):
        for seed in range(trials):
            host = seed % hosts
            told = {
                "import_s": level * noise(host, salt),
                "host_id": f"{framework}-{host}",
                "environment_id": framework,
            }
            rows.append(record(seed, framework=framework, **told, **changes))
    return rows


def test_an_import_that_many_trials_share_is_one_replicate(sweep: Sweep) -> None:
    keep("results/run", imports(hosts=1))
    said = sweep("compare", "--metric", "import_s", "--baseline", OTHER)
    assert said.code == 3
    assert "no interval (1 host each)" in said.out
    assert (
        "it takes 2 more hosts; more seeds share the import, but with --set process=spawn"
        in said.out
    )
    (one, _) = json.loads(sweep("summarize", "--metric", "import_s", "--format", "json").out)
    assert (one["processes"], one["samples"], one["low"], one["per"]) == (1, 1, None, "host")
    assert "no interval from 1 host" in sweep("summarize", "--metric", "import_s").err


def test_the_number_of_replicates_is_that_of_hosts(tmp_path: Path) -> None:
    run = Run(keep(tmp_path, imports(hosts=4, trials=8)).storage)
    one, other = run.summary(metric="import_s")
    assert (one.processes, other.processes) == (4, 4)
    expected = [noise(host, 1) for host in range(4)]
    assert sorted(one.trial_means) == pytest.approx(sorted(expected))
    assert one.mean == pytest.approx(np.mean(expected))
    assert one.samples.tolist() == one.trial_means.tolist()
    (comparison,) = run.compare("framework", OTHER, "import_s")
    assert comparison.verdict == "faster" or comparison.verdict == "slower"
    assert "(4 hosts each)" in sentence(comparison)
    assert comparison.ratio is not None
    assert not comparison.ratio.paired  # a host has trials in many blocks


def test_more_hosts_and_not_more_seeds_are_advised_for_what_is_one_per_host(tmp_path: Path) -> None:
    rows = imports(hosts=3)
    for row in rows:
        row["import_s"] = (
            1.0 + 0.02 * (row["host_id"][-1] == "1") + 0.012 * row["cell_name"].startswith(ONE)
        )
    run = Run(keep(tmp_path, rows).storage)
    (comparison,) = run.compare("framework", OTHER, "import_s")
    assert comparison.verdict == "inconclusive"
    assert comparison.seeds_needed is None
    assert "more hosts; more seeds share the import" in sentence(comparison)
    claim = {
        "name": "c",
        "compare": {"framework": [ONE, OTHER]},
        "metric": "import_s",
        "expect": {"slower": 0.01},
    }
    (judgement,) = judge(
        [parsed(Claim.model_validate(claim))], {"import_s": run.summary(metric="import_s")}
    )
    assert judgement.evidence[0].seeds_needed is None
    assert (judgement.evidence[0].units_needed or 0) > 0


def test_cells_that_share_their_hosts_have_the_same_import(tmp_path: Path) -> None:
    rows = [
        row | {"host_id": f"host-{i % 3}", "import_s": 1.0 + i % 3}
        for i, row in enumerate(pair("x", 1, 1, 6))
    ]
    (comparison,) = Run(keep(tmp_path, rows).storage).compare("framework", OTHER, "import_s")
    assert comparison.verdict == "equivalent"
    assert comparison.processes == (3, 3)


def test_records_from_before_hosts_were_told_apart_count_once_and_it_is_said(
    tmp_path: Path,
) -> None:
    rows = [row | {"host_id": None} for row in imports(hosts=1)]
    (one, _) = Run(keep(tmp_path, rows).storage).summary(metric="import_s")
    assert one.processes == 1
    assert any("did not record the host" in str(warning) for warning in warnings_of(one))


@pytest.mark.parametrize(("per", "column"), [("node", "node"), ("environment", "environment_id")])
def test_what_a_plug_in_measures_once_per_node_or_environment_counts_once_there(
    tmp_path: Path, per: str, column: str
) -> None:
    said = {"columns": {"disk_s": {"per": per}}}
    rows = [record(s, disk_s=1.0 + s, **said, **{column: f"it-{s % 2}"}) for s in range(6)]
    (summary,) = Run(keep(tmp_path, rows).storage).summary(metric="disk_s")
    assert summary.processes == 2
    assert summary.trial_means.tolist() == [3.0, 4.0]  # the means of what was found there
    assert summary.interval is None


# what is looked at unless something is asked for


@pytest.mark.parametrize(("make", "metric"), [(record, "step_s"), (training, "epoch_s")])
def test_a_run_in_which_nothing_went_well_is_told_in_its_own_metric(
    tmp_path: Path, make: Any, metric: str
) -> None:
    rows = [
        make(s) | {"status": "oom", "step_s": None, "epoch_s": None, "forward_s": None}
        for s in range(3)
    ]
    (summary,) = Run(keep(tmp_path, rows).storage).summary()
    assert summary.metric == metric
    assert summary.statuses == {"oom": 3}


# names of columns


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_axis_called_as_one_of_our_columns_stays_apart_from_it(sweep: Sweep, form: str) -> None:
    settings = [{"mean": 7, "axis_mean": 8, "verdict": "x", "samples": count} for count in (2, 4)]
    rows = [
        with_settings(record(s, step_s=[0.1 * noise(s, 0)] * each["samples"]), each)
        for each in settings
        for s in range(3)
    ]
    keep("results/run", rows)
    table = read(sweep("summarize", "--format", form).out, form)
    assert [int(row["axis_samples"]) for row in table] == [2, 4]
    assert [int(row["samples"]) for row in table] == [6, 12]
    assert [(int(row["axis_axis_mean"]), int(row["axis_mean"])) for row in table] == [(7, 8)] * 2
    assert [float(row["mean"]) < 1 for row in table] == [True, True]
    (compared,) = read(sweep("compare", "--over", "samples", "--format", form).out, form)
    assert (compared["axis_verdict"], compared["verdict"]) == ("x", "equivalent")


@pytest.mark.parametrize("form", ["md", "latex", "table"])
def test_no_two_columns_have_one_title(sweep: Sweep, form: str) -> None:
    rows = [
        with_settings(record(s), {"n": n, "median": m, "batch": n, "samples": 30})
        for n in (1, 2)
        for m in (1, 2)
        for s in range(3)
    ]
    rows += [
        with_settings(record(s, batch_exponent=6), {"n": 1, "median": 1, "batch": 1})
        for s in range(3)
    ]
    keep("results/run", rows)
    out = sweep("summarize", "--format", form).out
    titles = next(line for line in out.splitlines() if "variance" in line)
    for name in ("n", "median", "batch"):
        assert f"axis_{name}" in titles.replace("\\_", "_")


def with_settings(row: Record, settings: dict[str, Any]) -> Record:
    """The record of a cell with these parameters of its own."""
    own = dict(row["settings"]) | settings
    cell = json.dumps({key: value for key, value in own.items() if key != "seed"}, sort_keys=True)
    identity = hashlib.sha256(cell.encode()).hexdigest()[:12]
    return row | {"settings": own, "cell_id": identity, "trial_id": f"{identity}-{row['seed']}"}


def read(text: str, form: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)


def test_a_metric_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    run = Run(keep(tmp_path, [record(0)]).storage)
    with pytest.raises(SweepError, match="there is no metric 'imagse_per_s'"):
        run.summary(metric="imagse_per_s")


def test_comparisons_of_summaries_need_a_direction_too(tmp_path: Path) -> None:
    run = Run(keep(tmp_path, pair("load_before", 1.0, 2.0)).storage)
    with pytest.raises(SweepError, match="neither more nor less load_before"):
        over_axis(run.summary(metric="load_before"), "framework")
