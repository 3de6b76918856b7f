"""Comparisons and claims: what is said of two cells, and when nothing may be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up import keep, record

import sweep
from sweep.analysis.claims import judge, parsed
from sweep.analysis.comparisons import Comparison, between_runs, over_axis, uncompared
from sweep.analysis.quantities import quantity, scale
from sweep.analysis.statistics import adjusted
from sweep.analysis.summary import Summary, summarize
from sweep.analysis.verdict_warnings import verdict_warnings
from sweep.analysis.wording import sentence, varied_axes
from sweep.errors import SweepError
from sweep.grid.language import Claim
from sweep.records.rows import table_of
from sweep.report import figures

TORCH, CHAINER = "torch==2.13.0", "chainer==7.8.1"


def summaries(*records: dict[str, Any], by_machine: bool = True) -> list[Summary]:
    table = pa.concat_tables([table_of(each) for each in records], promote_options="permissive")
    return summarize(table, by_machine=by_machine)


def cell(processes: int = 5, mean_s: float = 0.1, **axes: Any) -> list[dict[str, Any]]:
    return [record(seed=seed, mean_s=mean_s, **axes) for seed in range(processes)]


def exact(*ratios: float, **axes: Any) -> list[dict[str, Any]]:
    """A cell whose processes take exactly these times."""
    return [record(seed=seed, step_s=[ratio] * 5, **axes) for seed, ratio in enumerate(ratios)]


def only(found: list[Comparison]) -> Comparison:
    (comparison,) = found
    return comparison


def test_the_sentence_says_who_is_faster_by_how_much_and_how_sure() -> None:
    subject = exact(1.0, 1.01, 0.99, framework=TORCH)
    baseline = exact(2.31, 2.33, 2.29, framework=CHAINER)
    comparison = only(over_axis(summaries(*subject, *baseline), "framework", CHAINER))
    assert comparison.verdict == "faster"
    assert sentence(comparison) == (
        "torch 2.13.0 is 2.31× [2.30, 2.32] faster than chainer 7.8.1 at batch 32 on the CPU (3 processes each)"
    )


def test_the_other_way_round_it_is_slower() -> None:
    cells = summaries(
        *exact(1.0, 1.0, 1.0, framework=TORCH), *exact(3.0, 3.0, 3.1, framework=CHAINER)
    )
    comparison = only(over_axis(cells, "framework", "torch"))
    assert comparison.verdict == "slower"
    assert sentence(comparison).startswith(
        "chainer 7.8.1 is 3.03× [2.89, 3.18] slower than torch 2.13.0 at batch 32"
    )


def test_without_a_baseline_it_is_the_first_value_of_the_grid() -> None:
    cells = summaries(*cell(framework=TORCH), *cell(framework=CHAINER))
    assert (
        only(over_axis(cells, "framework", order={"framework": [TORCH, CHAINER]})).baseline_value
        == TORCH
    )
    assert (
        only(over_axis(cells, "framework", order={"framework": [CHAINER, TORCH]})).baseline_value
        == CHAINER
    )


def test_cells_are_compared_only_where_all_else_is_equal() -> None:
    rows = [
        r for f in (TORCH, CHAINER) for b in (0, 1, 2) for r in cell(framework=f, batch_exponent=b)
    ]
    found = over_axis(summaries(*rows), "framework", TORCH)
    assert [c.axes["batch_exponent"] for c in found] == [0, 1, 2]
    assert all("framework" not in c.axes for c in found)


def test_three_processes_of_noise_decide_nothing_and_say_what_would() -> None:
    comparison = only(
        over_axis(
            summaries(*exact(1.0, 1.1, 0.9), *exact(1.05, 0.95, 1.1, backward="explicit")),
            "backward",
        )
    )
    assert comparison.verdict == "inconclusive"
    assert "--add-seeds" in sentence(comparison)
    assert comparison.seeds_needed is not None


def test_the_same_time_is_said_to_be_the_same() -> None:
    rows = exact(1.0, 1.0001, 1.0) + exact(1.0, 1.0, 1.0001, backward="explicit")
    comparison = only(over_axis(summaries(*rows), "backward", "autograd"))
    assert comparison.verdict == "equivalent"
    assert sentence(comparison).startswith(
        "the explicit backward takes the same time as autograd to within 1 % at batch"
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_one_or_two_processes_give_no_verdict(processes: int) -> None:
    rows = cell(processes) + cell(processes, 0.5, backward="explicit")
    comparison = only(over_axis(summaries(*rows), "backward", "autograd"))
    assert comparison.verdict == "inconclusive"
    assert comparison.interval is None
    assert f"use --add-seeds {3 - processes} or more" in sentence(comparison)


def test_blocks_pair_processes_even_where_some_are_missing() -> None:
    drift = (1.0, 2.0, 4.0, 8.0)
    rows = exact(*drift) + exact(*(1.5 * d for d in drift), backward="explicit")[1:]
    comparison = only(over_axis(summaries(*rows), "backward", "autograd"))
    assert comparison.ratio is not None
    assert comparison.ratio.pairs == 3
    assert comparison.ratio.estimate == pytest.approx(1.5)
    assert comparison.verdict == "slower"


def test_a_cell_whose_trials_failed_makes_the_comparison_missing_with_the_reason() -> None:
    rows = cell() + [record(seed=s, backward="explicit", status="timeout") for s in range(2)]
    comparison = only(over_axis(summaries(*rows), "backward", "autograd"))
    assert comparison.verdict == "missing"
    assert comparison.reason == "explicit has no times there: 2 timeout"


def test_what_the_grid_leaves_out_is_no_comparison_unless_it_should_be_there() -> None:
    rows = (
        cell(batch_exponent=0)
        + cell(batch_exponent=1)
        + cell(batch_exponent=1, backward="explicit")
    )
    assert len(over_axis(summaries(*rows), "backward", "autograd")) == 1
    both = over_axis(summaries(*rows), "backward", "autograd", absent=True)
    assert [c.verdict for c in both][:1] == ["missing"]


def test_different_machines_are_not_compared_unless_asked() -> None:
    rows = cell(cpu_model="old") + cell(cpu_model="new", backward="explicit")
    refused = only(over_axis(summaries(*rows), "backward", "autograd"))
    assert refused.verdict == "missing"
    assert "measured on different machines: new and old" in refused.reason
    asked = only(over_axis(summaries(*rows, by_machine=False), "backward", "autograd"))
    assert asked.ratio is not None


def on(machine: str, factor: float, seeds: range, **axes: Any) -> list[dict[str, Any]]:
    """Trials on a machine that takes so many times the time of another."""
    return [
        record(seed=s, step_s=[factor * (1 + s / 1000)] * 5, cpu_model=machine, **axes)
        for s in seeds
    ]


def test_machines_that_overlap_in_part_are_compared_within_each_kind() -> None:
    mixed = on("Xeon", 2.0, range(3)) + on("EPYC", 1.0, range(3, 6))
    alike = on("EPYC", 1.0, range(6))
    comparison = only(
        between_runs(summaries(*mixed), summaries(*alike), ("mixed", "alike"), margin=0.02)
    )
    assert comparison.verdict == "equivalent"
    assert comparison.processes == (3, 6)
    assert comparison.axes["cpu_model"] == "EPYC"
    (warning,) = [each for each in verdict_warnings([comparison])[0] if each.kind == "machines"]
    assert str(warning).startswith(
        "left out: 3 trials of mixed on Xeon, where the other side has none; run both on"
    )
    pooled = [summaries(*rows, by_machine=False) for rows in (mixed, alike)]
    assert only(between_runs(*pooled, ("mixed", "alike"))).verdict != "equivalent"


def test_files_that_changed_between_two_runs_are_told() -> None:
    def run(content: str | None) -> list[Summary]:
        return summaries(*[r | {"content": content} for r in cell()])

    def differing(one: str | None, other: str | None) -> list[str]:
        found = between_runs(run(one), run(other), ("after", "before"))
        return [warning.text for warning in verdict_warnings(found)[0] if warning.kind == "differs"]

    edited, before = ('{"workload": "%s"}' % (digest * 8) for digest in ("ab", "cd"))
    assert differing(edited, before) == [
        "after and before differ in more: the files of the workload (ababab, cdcdcd)"
    ]
    assert differing(edited, None) == [
        "after and before differ in more: the files of the workload (ababab, –)"
    ]
    assert differing(edited, edited) == differing(None, None) == []


def test_two_kinds_of_machine_are_two_comparisons() -> None:
    before = on("Xeon", 2.0, range(3)) + on("EPYC", 1.0, range(3, 6))
    after = on("Xeon", 4.0, range(3)) + on("EPYC", 1.0, range(3, 6))
    found = between_runs(summaries(*after), summaries(*before), ("after", "before"))
    assert {c.axes["cpu_model"]: c.verdict for c in found} == {
        "EPYC": "equivalent",
        "Xeon": "slower",
    }
    assert [c.unmatched for c in found] == [(), ()]
    rows = figures.ratios(found, figures.Cells.of(summaries(*after, by_machine=False)))
    assert sorted(row["label"] for row in rows) == ["EPYC", "Xeon"]
    within = over_axis(
        summaries(*before, *on("Xeon", 4.0, range(3), backward="explicit")), "backward", "autograd"
    )
    assert [(c.axes["cpu_model"], c.verdict) for c in within] == [("Xeon", "slower")]


def test_claims_are_judged_within_a_kind_of_machine() -> None:
    autograd = on("Xeon", 2.0, range(3)) + on("EPYC", 1.0, range(3, 6))
    explicit = on("Xeon", 2.0, range(3, 5), backward="explicit") + on(
        "EPYC", 1.0, range(6, 9), backward="explicit"
    )
    (judgement,) = judge(
        [parsed(Claim.model_validate(claim(where={})))], {"step_s": summaries(*autograd, *explicit)}
    )
    outcomes = {e.comparison.axes["cpu_model"]: e.outcome for e in judgement.evidence}
    assert outcomes == {"Xeon": "inconclusive", "EPYC": "supported"}


def test_a_trial_that_failed_before_its_machine_was_known_counts_beside_the_others() -> None:
    (summary,) = summaries(*on("EPYC", 1.0, range(3)), record(seed=3, status="oom", cpu_model=None))
    assert (summary.machine, dict(summary.statuses)) == ("EPYC", {"ok": 3, "oom": 1})


@pytest.mark.parametrize(
    ("over", "baseline", "message"),
    [
        ("device", None, "its values are cpu"),
        ("nothing", None, "its values are none"),
        ("framework", "tensorflow", "no value is 'tensorflow'"),
    ],
)
def test_comparisons_that_make_no_sense_are_errors(
    over: str, baseline: str | None, message: str
) -> None:
    with pytest.raises(SweepError, match=message):
        over_axis(summaries(*cell(framework=TORCH), *cell(framework=CHAINER)), over, baseline)


def test_many_comparisons_are_corrected_for_their_number() -> None:
    rows = [
        r
        for b in range(12)
        for w in ("autograd", "explicit")
        for r in cell(3, batch_exponent=b, backward=w)
    ]
    found = over_axis(summaries(*rows), "backward", "autograd", margin=0.0)
    assert [c.p_adjusted for c in found] == pytest.approx(
        adjusted([c.p for c in found if c.p is not None])
    )
    assert all(
        (c.verdict in ("faster", "slower")) == (c.p_adjusted is not None and c.p_adjusted <= 0.05)
        for c in found
    )


def test_two_runs_are_compared_cell_by_cell_and_missing_cells_reported() -> None:
    before = summaries(*exact(1.0, 1.01, 0.99, batch_exponent=0), *cell(batch_exponent=1))
    after = summaries(*exact(1.2, 1.22, 1.19, batch_exponent=0), *cell(batch_exponent=2))
    found = between_runs(after, before, ("after", "before"))
    verdicts = {c.axes["batch_exponent"]: (c.verdict, c.reason) for c in found}
    assert verdicts[0] == ("slower", "")
    assert verdicts[1] == ("missing", "after has no records there")
    assert verdicts[2] == ("missing", "before has no records there")
    assert sentence(found[0]).startswith(
        "after is 1.20× [1.17, 1.24] slower than before at batch 1 on the CPU"
    )


def test_runs_without_a_common_cell_say_what_keeps_them_apart() -> None:
    with pytest.raises(SweepError) as error:
        between_runs(
            summaries(*cell(batch_exponent=0)), summaries(*cell(batch_exponent=3)), ("a", "b")
        )
    assert error.value.message == "a and b have no cell in common"
    assert error.value.hint.startswith("batch_exponent is 0 in one and 3 in the other")


def threads(*factors: float, name: str = "threads") -> list[dict[str, Any]]:
    """A cell with 1, 2, 4 … threads each, slower by these factors."""
    return [
        each
        for place, factor in enumerate(factors)
        for each in exact(
            *(factor * t / 2**place for t in (1.0, 1.01, 0.99)), also={name: 2**place}
        )
    ]


def test_cells_that_differ_in_an_ignored_axis_alone_are_refused_by_name() -> None:
    before, after = summaries(*threads(1, 1, 1)), summaries(*threads(2, 1, 1))
    assert [
        c.verdict
        for c in between_runs(after, before, ("after", "before"))
        if c.axes["threads"] == 1
    ] == ["slower"]
    with pytest.raises(SweepError) as error:
        between_runs(after, before, ("after", "before"), ["threads"])
    assert (
        error.value.message
        == "3 cells of after differ only in threads (1, 2, 4), which is left out"
    )
    assert "without --ignore threads" in error.value.hint
    assert "--where threads=1" in error.value.hint


def test_cells_that_differ_in_their_samples_alone_are_compared_each_with_its_own() -> None:
    def run(factor: float) -> list[Summary]:
        few, many = (
            exact(factor, 1.01 * factor, also={"samples": 5}),
            exact(1.0, 1.01, 0.99, also={"samples": 50}),
        )
        return summaries(
            *few, *[record(seed=2, step_s=[0.99 * factor] * 5, also={"samples": 5})], *many
        )

    found = between_runs(run(2.0), run(1.0), ("after", "before"))
    assert [c.verdict for c in found] == ["slower", "inconclusive"]
    assert [c.axes["samples"] for c in found] == [5, 50]


def test_how_long_one_measured_is_left_out_where_it_tells_no_cells_apart() -> None:
    before, after = (summaries(*exact(1.0, 1.0, 1.01, also={"samples": n})) for n in (30, 60))
    assert only(between_runs(after, before, ("after", "before"))).ratio is not None


def test_a_renamed_axis_is_matched_by_its_values_and_not_left_out() -> None:
    before, after = (
        summaries(*threads(1, 1, 1, name="intra_op")),
        summaries(*threads(2, 1, 1, name="inner")),
    )
    with pytest.raises(SweepError) as error:
        between_runs(after, before, ("after", "before"))
    assert "--rename intra_op=inner" in error.value.hint
    found = between_runs(after, before, ("after", "before"), rename={"intra_op": "inner"})
    assert [(c.axes["inner"], c.verdict) for c in found] == [
        (1, "slower"),
        (2, "inconclusive"),
        (4, "inconclusive"),
    ]
    with pytest.raises(SweepError, match="a cell has both"):
        between_runs(after, before, ("after", "before"), rename={"intra_op": "threads"})
    for wrong in (
        {"ignore": ["intraop"]},
        {"rename": {"intraop": "inner"}},
        {"rename": {"inner": "intraop"}},
    ):
        with pytest.raises(SweepError, match="no cell has an axis 'intraop'"):
            between_runs(after, before, ("after", "before"), **wrong)


def test_the_hint_for_runs_apart_matches_their_cells_rightly() -> None:
    before, after = summaries(*cell(framework="torch==2.0.0")), summaries(*cell(framework=TORCH))
    with pytest.raises(SweepError) as error:
        between_runs(after, before, ("after", "before"))
    assert error.value.hint.endswith("leave it out with --ignore version")
    both = [*cell(framework=TORCH), *cell(framework=CHAINER)]
    found = between_runs(summaries(*both), before, ("after", "before"), ["version"])
    assert {c.axes["framework"]: bool(c.ratio) for c in found} == {"torch": True, "chainer": False}
    with pytest.raises(SweepError) as error:
        between_runs(
            summaries(*both), summaries(*cell(framework="jax==0.4.30")), ("after", "before")
        )
    assert "--where framework=chainer==7.8.1,jax==0.4.30 --ignore framework" in error.value.hint


def test_two_cells_with_the_same_axes_are_no_cell_to_compare() -> None:
    twice = [*cell(framework=TORCH), *cell(framework=CHAINER)]
    other = [
        {**r, "cell_id": "another", "trial_id": f"another-{r['seed']}"}
        for r in cell(framework=TORCH)
    ]
    with pytest.raises(SweepError, match="two cells have the same axes"):
        over_axis(summaries(*twice, *other), "framework")
    with pytest.raises(SweepError, match="two cells of after have the same axes"):
        between_runs(summaries(*twice, *other), summaries(*twice), ("after", "before"))


def test_every_cell_is_in_a_comparison_or_told() -> None:
    rows = (
        cell(batch_exponent=0)
        + cell(batch_exponent=1)
        + cell(batch_exponent=1, backward="explicit")
    )
    known = summaries(*rows)
    assert [
        s.axes["batch_exponent"]
        for s in uncompared(known, over_axis(known, "backward", "autograd"))
    ] == [0]


def test_versions_are_compared_with_the_first_of_their_framework() -> None:
    names = ("torch==1.13.1", TORCH, "chainer==7.7.0", CHAINER)
    table = pa.concat_tables(
        [table_of(r) for f in names for r in cell(framework=f)], promote_options="permissive"
    )
    axes = ["framework", "version", "workload", "backend", "backward", "device", "batch_exponent"]
    found = over_axis(summarize(table, axes), "version")
    assert " for chainer at batch 32" in sentence(found[0], varied_axes(found[:1]))
    assert {(c.axes["framework"], c.subject_value, c.baseline_value) for c in found} == {
        ("torch", "2.13.0", "1.13.1"),
        ("chainer", "7.8.1", "7.7.0"),
    }


def test_cells_may_be_compared_across_several_axes() -> None:
    old = exact(2.0, 2.01, 1.99, framework="torch==1.12.1") + exact(
        9, 9, 9, framework="torch==1.12.1", backend="new"
    )
    new = exact(1.5, 1.5, 1.51, framework=TORCH) + exact(
        1.0, 1.0, 1.01, framework=TORCH, backend="inductor"
    )
    known = summaries(*old, *new)
    found = over_axis(known, "framework,backend", "torch==1.12.1,default")
    ratios = {c.subject_value: c.ratio.estimate for c in found if c.ratio}
    assert ratios[TORCH, "inductor"] == pytest.approx(0.5, rel=0.01)
    assert len(found) == 3
    said = next(sentence(c) for c in found if c.subject_value == (TORCH, "inductor"))
    assert said.startswith("torch 2.13.0 with backend inductor is 1.99×")
    assert "faster than torch 1.12.1 with backend default at batch 32 on the CPU" in said
    assert {
        c.baseline_value for c in over_axis(known, "framework,backend", ("torch==1.12.1", "new"))
    } == {("torch==1.12.1", "new")}
    with pytest.raises(SweepError, match="no value is 'torch,default'"):
        over_axis(known, "framework,backend", "torch,default")


def test_a_claim_may_speak_of_several_axes() -> None:
    old, new = (
        exact(2.0, 2.01, 1.99, framework="torch==1.12.1"),
        exact(1.0, 1.0, 1.01, framework=TORCH, backend="fast"),
    )
    stated = claim(
        compare={"version": ["2.13.0", "1.12.1"], "backend": ["fast", "default"]}, where={}
    )
    assert outcome(stated | {"expect": {"faster": 0.5}}, *old, *new) == "supported"
    assert (
        outcome(stated | {"expect": {"faster": 0.5}}, *old, *exact(1.0, 1.0, 1.01, framework=TORCH))
        == "missing"
    )


def many(count: int, processes: int = 3) -> list[dict[str, Any]]:
    """A cell whose interval alone lies beyond the margin, beside `count` pairs of cells that are alike."""
    rows = exact(1.0, 1.0, 1.0) + exact(1.02, 1.03, 1.025, backward="explicit")
    for place in range(count):
        like = {"also": {"lane": place}}
        rows += exact(*[1.0, 1.1, 0.9][:processes], **like)
        rows += exact(*[1.1, 1.0, 0.9][:processes], backward="explicit", **like)
    return rows


def first_of(found: list[Comparison]) -> Comparison:
    return only([each for each in found if "lane" not in each.axes])


def test_it_is_said_where_the_correction_decides() -> None:
    assert first_of(over_axis(summaries(*many(0)), "backward", "autograd")).verdict == "slower"
    comparison = first_of(over_axis(summaries(*many(30)), "backward", "autograd"))
    assert (comparison.verdict, comparison.uncorrected_verdict) == ("inconclusive", "slower")
    said = sentence(comparison)
    assert (
        "the interval alone would say slower, but among 31 comparisons it is not sure enough; about "
        in said
    )
    assert comparison.seeds_needed is not None
    assert comparison.seeds_needed > 1


def test_comparisons_without_an_interval_cost_the_others_nothing() -> None:
    found = over_axis(summaries(*many(30, processes=2)), "backward", "autograd")
    assert first_of(found).verdict == "slower"
    assert {c.p for c in found if "lane" in c.axes} == {None}


def test_claims_without_an_interval_cost_the_others_nothing_and_the_correction_is_told() -> None:
    stated = claim(where={}, expect={"equivalent": 0.01})
    for processes, expected in ((2, "refuted"), (3, "inconclusive")):
        (judgement,) = judge(
            [parsed(Claim.model_validate(stated))], {"step_s": summaries(*many(30, processes))}
        )
        evidence = next(e for e in judgement.evidence if "lane" not in e.comparison.axes)
        assert (evidence.outcome, evidence.uncorrected_outcome) == (expected, "refuted")
    assert evidence.seeds_needed is not None
    assert evidence.seeds_needed > 1


def claim(**changes: Any) -> dict[str, Any]:
    return {
        "name": "nothing changes",
        "compare": {"backward": ["explicit", "autograd"]},
        "where": {"framework": "torch", "device": "cpu"},
        "metric": "step_s",
        "expect": {"equivalent": 0.02},
    } | changes


def outcome(stated: dict[str, Any], *records: dict[str, Any]) -> str:
    (judgement,) = judge([parsed(Claim.model_validate(stated))], {"step_s": summaries(*records)})
    return judgement.outcome


@pytest.mark.parametrize(
    ("expect", "ratio", "expected"),
    [
        ({"equivalent": 0.02}, 1.0, "supported"),
        ({"equivalent": 0.02}, 1.1, "refuted"),
        ({"equivalent": 0.02}, 1.02, "inconclusive"),
        ({"faster": 0.05}, 0.8, "supported"),
        ({"faster": 0.05}, 0.97, "refuted"),
        ({"faster": 0.0}, 0.97, "supported"),
        ({"slower": 0.0}, 1.1, "supported"),
        ({"slower": 0.2}, 1.1, "refuted"),
        ({"ratio": [1.5, 1.8]}, 1.65, "supported"),
        ({"ratio": [1.5, 1.8]}, 1.9, "refuted"),
        ({"ratio": [1.5, 1.8]}, 1.801, "inconclusive"),
    ],
)
def test_claims_are_held_against_the_interval(
    expect: dict[str, Any], ratio: float, expected: str
) -> None:
    explicit = [r * ratio for r in (1.0, 1.003, 0.997)]
    assert (
        outcome(claim(expect=expect), *exact(1.0, 1.0, 1.0), *exact(*explicit, backward="explicit"))
        == expected
    )


def test_one_cell_is_enough_to_refute_and_all_are_needed_to_support() -> None:
    good = exact(1.0, 1.0, 1.0) + exact(1.001, 1.0, 1.0, backward="explicit")
    bad = [
        exact(1.0, 1.0, 1.0, batch_exponent=1),
        exact(1.3, 1.31, 1.3, batch_exponent=1, backward="explicit"),
    ]
    assert outcome(claim(), *good) == "supported"
    assert outcome(claim(), *good, *bad[0], *bad[1]) == "refuted"
    assert (
        outcome(
            claim(),
            *good,
            *exact(1.0, 1.0, batch_exponent=1),
            *exact(1.0, 1.0, batch_exponent=1, backward="explicit"),
        )
        == "inconclusive"
    )


def test_a_claim_without_records_is_missing() -> None:
    assert outcome(claim(where={"framework": "mxnet"}), *cell()) == "missing"
    assert outcome(claim(), *cell()) == "missing"
    assert outcome(claim(), *cell(), record(backward="explicit", status="failed")) == "missing"


def test_a_claim_speaks_of_what_it_names_and_of_nothing_else() -> None:
    torch = exact(1.0, 1.0, 1.0, framework=TORCH) + exact(
        1.0, 1.0, 1.0, framework=TORCH, backward="explicit"
    )
    chainer = exact(1.0, 1.0, 1.0, framework=CHAINER) + exact(
        5.0, 5.0, 5.0, framework=CHAINER, backward="explicit"
    )
    assert outcome(claim(), *torch, *chainer) == "supported"
    assert outcome(claim(where={}), *torch, *chainer) == "refuted"


def test_versions_of_a_framework_can_be_claimed_about() -> None:
    rows = exact(1.0, 1.0, 1.01, framework="torch==1.0.1") + exact(0.5, 0.5, 0.51, framework=TORCH)
    stated = claim(compare={"framework": [TORCH, "torch==1.0.1"]}, where={}, expect={"faster": 0.5})
    assert outcome(stated, *rows) == "supported"
    by_version = claim(
        compare={"version": ["2.13.0", "1.0.1"]},
        where={"framework": "torch"},
        expect={"faster": 0.5},
    )
    assert outcome(by_version, *rows) == "supported"


@pytest.mark.parametrize(
    ("expect", "outcome"),
    [
        ("{equivalent: 1e-2}", "supported"),  # a number in YAML 1.2, a text in YAML 1.1
        ("{faster: 5e-1}", "refuted"),
        ("{ratio: [9e-1, 1.1]}", "supported"),
    ],
)
def test_a_claim_is_read_by_verify_as_plan_reads_it(
    tmp_path: Path, expect: str, outcome: str
) -> None:
    claim = f"{{name: n, compare: {{backward: [explicit, autograd]}}, where: {{framework: torch}}, expect: {expect}}}"
    rows = exact(1.0, 1.0, 1.0) + exact(1.0, 1.001, 1.0, backward="explicit")
    keep(tmp_path, rows, f"axes: {{framework: [torch==2.13.0]}}\nclaims: [{claim}]\n")
    assert [judgement.outcome for judgement in sweep.load(tmp_path).verify()] == [outcome]


def with_tolerance(each: dict[str, Any], tolerance: float) -> dict[str, Any]:
    ids = {name: f"{each[name]}-{tolerance}" for name in ("cell_id", "trial_id")}
    return each | ids | {"settings": each["settings"] | {"parity_tolerance": tolerance}}


def test_values_of_an_axis_are_in_the_order_that_the_grids_reader_gives_them(
    tmp_path: Path,
) -> None:
    """As YAML 1.1 has it, `1e-3` is a text, which no record has: the smallest would be the baseline then."""
    rows = [with_tolerance(each, t) for t in (1e-4, 1e-3) for each in cell()]
    keep(tmp_path, rows, "axes: {framework: torch==2.13.0, parity_tolerance: [1e-3, 1e-4]}")
    assert [c.baseline_value for c in sweep.load(tmp_path).compare("parity_tolerance")] == [1e-3]


def test_values_given_on_the_command_line_have_its_order(tmp_path: Path) -> None:
    rows = cell(batch_exponent=1) + cell(batch_exponent=0)
    keep(tmp_path, rows, "axes: {framework: torch==2.13.0}", overrides=["batch_exponent=1,0"])
    assert [c.baseline_value for c in sweep.load(tmp_path).compare("batch_exponent")] == [1]


def test_the_noise_floor_of_a_machine_is_the_margin_where_it_is_greater(tmp_path: Path) -> None:
    rows = exact(1.0, 1.0, 1.0) + exact(1.03, 1.031, 1.03, backward="explicit")
    keep(tmp_path / "quiet", rows)
    keep(tmp_path / "noisy", rows, noise_floor=0.05)
    assert [
        c.verdict
        for c in sweep.load(tmp_path / "quiet").compare(over="backward", baseline="autograd")
    ] == ["slower"]
    noisy = sweep.load(tmp_path / "noisy").compare(over="backward", baseline="autograd")
    assert [c.verdict for c in noisy] == ["equivalent"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.01234, "s", "12.34 ms"),
        (1.4, "s", "1.400 s"),
        (3.2e-6, "s", "3.200 µs"),
        (1234567, "B", "1.177 MiB"),
        (0.05, "share", "5.000 %"),
        (float("nan"), "s", "–"),
        (None, "s", "–"),
        (0.0, "s", "0 s"),
    ],
)
def test_quantities_read_well(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_one_scale_serves_a_whole_column() -> None:
    assert scale("s", [0.05, 6.3]).sign == "ms"
    assert scale("s", [float("nan")]).sign == "s"
