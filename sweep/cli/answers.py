"""Answers: the output of summaries, comparisons and claims, and the exit codes for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.cli import output
from sweep.cli.tables import Column, Format, beside, emit, row
from sweep.errors import FAILED, INCONCLUSIVE, MISSING
from sweep.status import all_ok, without_times
from sweep.texts import having

if TYPE_CHECKING:
    from sweep.analysis.claims import Claim, Evidence, Judgement
    from sweep.analysis.comparisons import Comparison
    from sweep.analysis.run import Run
    from sweep.analysis.summary import Summary
    from sweep.analysis.warning_signs import WarningSign

# Warnings name up to this many cells; of more, they state the number.
_FEW_CELLS = 2
# Axes whose value a table's title states if all rows share it.
_TITLE_AXES = (
    "workload",
    "framework",
    "version",
    "device",
    "backward",
    "batch_exponent",
    "threads",
    "data",
)


def write_summaries(summaries: Sequence[Summary], form: Format = Format.TABLE) -> None:
    """Write a row per summary, and for people a table per metric.

    The formats for people show warnings on stderr; those for programs have a column of warnings.
    """
    from sweep.analysis.warning_signs import run_warnings

    for_people = form in (Format.TABLE, Format.MARKDOWN, Format.LATEX)
    of_run = run_warnings(summaries)
    for index, some in enumerate(_by_metric(summaries) if for_people else [summaries]):
        if index:
            output.emit("")
        emit(form, summary_columns(some), [summary_row(s, of_run) for s in some], title(some))
    if for_people:
        for warning in of_run:
            output.warn(str(warning))
        _warn_about_cells(summaries)


def _by_metric(summaries: Sequence[Summary]) -> list[list[Summary]]:
    metrics = dict.fromkeys(summary.metric for summary in summaries)
    return [[summary for summary in summaries if summary.metric == metric] for metric in metrics]


def summary_columns(summaries: Sequence[Summary]) -> list[Column]:
    """Return the columns for people: the axes that vary, and figures in one unit.

    The rank of a column says how early it is left out on a narrow terminal.
    """
    from sweep.analysis.quantities import column_scale

    unit = column_scale(summaries[0].unit, [s.mean for s in summaries])
    sign = f" {unit.sign}" if unit.sign else ""
    square = f"{sign}²" if sign else ""
    columns = [Column("n", [str(s.processes) for s in summaries])]
    if not all(all_ok(s.statuses) for s in summaries):
        columns.append(Column("failed", [str(_failed(s)) for s in summaries]))
    columns += [
        Column(f"mean{sign}", [unit.text(s.mean) for s in summaries]),
        Column(f"variance{square}", [unit.squared(s.variance) for s in summaries]),
        Column("95 % interval", [unit.interval(s.interval) for s in summaries]),
    ]
    others = ("median", "sd", "min", "p95", "p5", "mad")
    for rank, name in enumerate(others, start=1):
        cells = [unit.text(getattr(s, name)) for s in summaries]
        columns.append(Column("MAD" if name == "mad" else name, cells, rank))
    return beside(axis_columns([s.axes for s in summaries]), columns)


def summary_row(summary: Summary, of_run: Sequence[WarningSign] = ()) -> dict[str, Any]:
    """Return all figures of a summary, in plain seconds or bytes.

    A row stands alone in a program, so it has the run's warnings too.
    """
    from sweep.analysis.warning_signs import warnings_of
    from sweep.axes import batch_size

    interval, variances = summary.interval, summary.variances
    batch = batch_size(summary.axes)
    own: dict[str, Any] = {} if batch is None else {"batch_size": batch}
    own |= {
        "metric": summary.metric,
        "unit": summary.unit,
        "direction": summary.metadata.direction,
        "per": summary.metadata.per,
        "processes": summary.processes,
        "failed": _failed(summary),
        "never": summary.never_reached,
        "samples": len(summary.samples),
        "mean": summary.mean,
        "variance": summary.variance,
        "sd": summary.sd,
        "median": summary.median,
        "mad": summary.mad,
        "min": summary.min,
        "p5": summary.p5,
        "p95": summary.p95,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "process_variance": variances.process if variances else None,
        "sample_variance": variances.sample if variances else None,
        "warnings": [str(warning) for warning in [*of_run, *warnings_of(summary)]],
    }
    return row(summary.axes, own)


def title(summaries: Sequence[Summary]) -> str:
    """Return the title of a table: its metric, and the values that all rows share."""
    from sweep.selection import varying

    first, varied = summaries[0], varying([s.axes for s in summaries])
    constant = [
        _setting(axis, first.axes[axis])
        for axis in _TITLE_AXES
        if axis in first.axes and axis not in varied
    ]
    meaning = first.metadata.meaning
    what = f"{first.metric}: {meaning}" if meaning else first.metric
    return "\n".join(filter(None, [what, ", ".join(filter(None, constant))])) + "\n"


def _setting(axis: str, value: Any) -> str:
    from sweep.axes import phrase
    from sweep.selection import shown

    if value is None:
        return ""
    # "torch 2.13.0" and "batch 32" need no name of the axis.
    if axis in ("framework", "batch_exponent"):
        return phrase(axis, value)
    return f"{axis} {shown(value)}"


def _warn_about_cells(summaries: Sequence[Summary]) -> None:
    """Show each distinct warning once, with the cells that it is about."""
    from sweep.analysis.warning_signs import group_warnings, warnings_of
    from sweep.selection import shown, varying

    varied = varying([s.axes for s in summaries])
    named = [
        ("/".join(shown(s.axes.get(axis)) for axis in varied if _is_named_by(axis, s.axes)), s)
        for s in summaries
    ]
    grouped = group_warnings([(name, warning) for name, s in named for warning in warnings_of(s)])
    for warning, cells in grouped:
        about = ", ".join(cells)
        if len(cells) > _FEW_CELLS:
            about = f"{len(cells)} of {len(summaries)} cells"
        output.warn(f"{warning}" if len(summaries) == 1 else f"{about}: {warning}")


def _is_named_by(axis: str, axes: Mapping[str, Any]) -> bool:
    """Return whether the axis is part of a cell's name.

    Axes of contents have a value only where there are several contents.
    """
    from sweep.axes import CONTENT_AXES

    return axis not in CONTENT_AXES.values() or axes.get(axis) is not None


def warn_uncompared(left: Sequence[Summary], over: str) -> None:
    """Warn of the cells that are in no comparison."""
    if left:
        count = "1 cell has" if len(left) == 1 else f"{len(left)} cells have"
        named = ", ".join(_cell_name(summary) for summary in left[:_FEW_CELLS])
        if len(left) > _FEW_CELLS:
            named += " …"
        output.warn(
            f"{count} no counterpart that differs in {over} alone: {named};"
            " compare with another --over or --baseline"
        )


def warn_outdated(left: Sequence[Summary], run: str) -> None:
    """Warn of cells that are not compared, since the run has newer contents of them."""
    from sweep.axes import CONTENT_AXES

    for name in CONTENT_AXES.values():
        contents = {
            str(summary.axes[name]) for summary in left if summary.axes.get(name) is not None
        }
        if not contents:
            continue
        older = sorted(contents)
        output.warn(
            f"{run} has cells of an earlier {name}, which are not compared: {', '.join(older)}; "
            f"compare them with --over {name}, or choose one with --where '{name}={older[0]}'"
        )


def _cell_name(summary: Summary) -> str:
    """Return a cell's name from its usual axes, such as `torch==2.13.0/core/cpu/autograd/b5`."""
    from sweep.selection import shown

    usual = ("framework", "version", "workload", "device", "backend", "backward")
    parts = [shown(summary.axes[axis]) for axis in usual if axis in summary.axes]
    exponent = summary.axes.get("batch_exponent")
    if exponent is not None:
        parts.append(f"b{shown(exponent)}")
    return "/".join(parts)


def summary_code(run: Run, summaries: Sequence[Summary]) -> int:
    """Return the exit code of a summary: of failed trials, else of missing ones."""
    if any(_failed(s) or s.left_out["impossible"] for s in summaries):
        return FAILED
    return missing_code(run)


def missing_code(run: Run) -> int:
    """Warn if planned trials have no record, and return the exit code for that."""
    if run.missing:
        output.warn(
            f"{having(len(run.missing), 'planned trial')} no record yet,"
            f" first {run.missing[0]}; run sweep run again"
        )
        return MISSING
    return 0


def write_comparisons(found: Sequence[Comparison], form: Format | None) -> None:
    """Write a sentence per comparison, or a row in the given format.

    Sentences and tables come with warnings on stderr; other formats have a column of warnings.
    """
    from sweep.analysis.verdict_warnings import verdict_warnings
    from sweep.analysis.wording import sentence, varied_axes

    varied = varied_axes(found)
    if form is None:
        output.emit("\n".join(sentence(comparison, varied) for comparison in found))
    else:
        warnings = [list(map(str, each)) for each in verdict_warnings(found)]
        columns = _comparison_columns(found, varied, _warning_column(form, warnings))
        rows = [comparison_row(c, varied, own) for c, own in zip(found, warnings, strict=True)]
        emit(form, columns, rows)
    if form in (None, Format.TABLE):
        show_warnings(found)


def show_warnings(found: Sequence[Comparison]) -> None:
    """Show the warnings about verdicts on stderr."""
    from sweep.analysis.verdict_warnings import warning_lines

    for _, text in warning_lines(found):
        output.warn(text)


def _warning_column(form: Format, warnings: Sequence[Sequence[str]]) -> list[Column]:
    """Return a column of warnings, unless a table shows them on stderr or there are none."""
    if form is Format.TABLE or not any(warnings):
        return []
    return [Column("warnings", ["; ".join(own) for own in warnings], is_text=True)]


def comparison_row(
    comparison: Comparison, varied: Sequence[str] = (), warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a comparison as a row for programs."""
    from sweep.analysis.wording import sentence, unfinished_trials

    own = {
        **_facts(comparison),
        "verdict": comparison.verdict,
        "margin": comparison.margin,
        "p": comparison.p,
        "p_adjusted": comparison.p_adjusted,
        "comparisons": comparison.family,
        "uncorrected": comparison.uncorrected_verdict,
        "seeds_needed": comparison.seeds_needed if comparison.verdict == "inconclusive" else None,
        "reason": unfinished_trials(comparison) if comparison.withheld else comparison.reason,
        "sentence": sentence(comparison, varied),
        "warnings": list(warnings),
    }
    return row(comparison.axes, own)


def _facts(comparison: Comparison) -> dict[str, Any]:
    """Return what is compared, and the ratio: everything but the verdict."""
    interval, ratio, about = comparison.interval, comparison.ratio, comparison.metadata
    return {
        "over": comparison.over,
        "subject": _written(comparison.subject_value),
        "baseline": _written(comparison.baseline_value),
        "metric": comparison.metric,
        "direction": about.direction,
        "per": about.per,
        "ratio": ratio.estimate if ratio else None,
        "speedup": comparison.speedup.estimate if comparison.speedup else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "paired": ratio.paired if ratio else None,
        "subject_processes": comparison.processes[0],
        "baseline_processes": comparison.processes[1],
        "subject_never": comparison.subject.never_reached if comparison.subject else 0,
        "baseline_never": comparison.baseline.never_reached if comparison.baseline else 0,
    }


def _written(value: Any) -> Any:
    """Return the value of an axis; a value of several axes is written as for `--baseline`."""
    from sweep.analysis.matching import option_text

    return option_text(value) if isinstance(value, tuple) else value


def comparison_code(found: Sequence[Comparison]) -> int:
    """Return the exit code of comparisons: that of the most serious verdict."""
    verdicts = {comparison.verdict for comparison in found}
    # In order of seriousness: the first verdict present decides.
    codes = {"slower": FAILED, "missing": MISSING, "inconclusive": INCONCLUSIVE}
    return next((code for verdict, code in codes.items() if verdict in verdicts), 0)


def note_correction(found: Sequence[Comparison], has_claims: bool) -> None:
    """Note on stderr how many verdicts the correction for multiple comparisons decided."""
    decided = [each for each in found if each.verdict != each.uncorrected_verdict]
    if decided:
        claims = ""
        if has_claims:
            claims = (
                "; sweep verify may say otherwise: it corrects for the comparisons that the"
                " grid's claims speak of, and a claim that must hold in each of them is"
                " supported without a correction"
            )
        output.say(
            f"note: {_verdicts(len(decided))} inconclusive by the correction for"
            f" {decided[0].family} comparisons made together{claims}"
        )


def note_correction_of_claims(judgements: Sequence[Judgement]) -> None:
    """Note on stderr how many judgements the correction for multiple comparisons decided."""
    evidence = [each for judgement in judgements for each in judgement.evidence]
    decided = [each for each in evidence if each.outcome != each.uncorrected_outcome]
    if decided:
        output.say(
            f"note: {_verdicts(len(decided))} inconclusive by the correction for the"
            f" {decided[0].family} comparisons that the claims speak of; sweep compare may say"
            " otherwise: it corrects for the comparisons that it shows"
        )


def _verdicts(count: int) -> str:
    return "1 verdict is" if count == 1 else f"{count} verdicts are"


def write_judgements(judgements: Sequence[Judgement], form: Format | None) -> None:
    """Write each claim with its evidence; in a given format, a row per comparison of a claim."""
    if form is None:
        output.emit("\n\n".join(_judgement_text(judgement) for judgement in judgements))
    else:
        rows = [row for judgement in judgements for row in _judgement_rows(judgement)]
        columns = _judgement_columns(rows)
        columns += _warning_column(form, [row["warnings"] for row in rows])
        emit(form, columns, rows)
    if form in (None, Format.TABLE):
        show_warnings(
            [evidence.comparison for judgement in judgements for evidence in judgement.evidence]
        )


def judgement_code(judgements: Sequence[Judgement]) -> int:
    """Return the exit code of claims: that of the most serious outcome."""
    outcomes = {judgement.outcome for judgement in judgements}
    # In order of seriousness: the first outcome present decides.
    codes = {"refuted": FAILED, "missing": MISSING, "inconclusive": INCONCLUSIVE}
    return next((code for outcome, code in codes.items() if outcome in outcomes), 0)


def axis_columns(axes: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return a column for each axis in which the rows differ."""
    from sweep.selection import varying

    return [_axis_column(name, [each.get(name) for each in axes]) for name in varying(axes)]


def _axis_column(name: str, values: Sequence[Any]) -> Column:
    from sweep.axes import number
    from sweep.selection import shown

    if name in ("batch_exponent", "batch_size"):
        return Column("batch", [shown(number(name, value)) for value in values])
    is_numeric = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    cells = ["–" if value is None else shown(value) for value in values]
    return Column(name, cells, is_text=not is_numeric)


def _failed(summary: Summary) -> int:
    return without_times(summary.statuses)


def _comparison_columns(
    found: Sequence[Comparison], varied: Sequence[str], more: Sequence[Column] = ()
) -> list[Column]:
    from sweep.analysis.quantities import NOTHING, factor, factors

    axes = [_axis_column(name, [c.axes.get(name) for c in found]) for name in varied]
    intervals = [c.interval for c in found]
    ratios = [factor(c.ratio.estimate) if c.ratio else NOTHING for c in found]
    needed = [str(c.seeds_needed or "") if c.verdict == "inconclusive" else "" for c in found]
    axes += [_side_column(found, [c.subject_value for c in found])]
    columns = [
        _side_column(found, [c.baseline_value for c in found])._replace(title="baseline"),
        Column("n", [f"{c.processes[0]}/{c.processes[1]}" for c in found], rank=2),
        Column("ratio", ratios),
        Column(
            "95 % interval", [factors(i).partition(" ")[2] if i else NOTHING for i in intervals]
        ),
        Column("verdict", [c.verdict for c in found], is_text=True),
        Column("seeds needed", needed, rank=1),
    ]
    return beside(axes, [*columns, *more])


def _side_column(found: Sequence[Comparison], values: Sequence[Any]) -> Column:
    """Return the values on one side of each comparison."""
    from sweep.analysis.matching import axes_of, option_text

    over = found[0].over
    if len(axes_of(over)) == 1:
        return _axis_column(over, values)
    return Column(over, [option_text(value) for value in values], is_text=True)


def _judgement_text(judgement: Judgement) -> str:
    claim = judgement.claim
    counts = Counter(evidence.outcome for evidence in judgement.evidence)
    listed = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "no records"
    lines = [f"{judgement.outcome}: {claim.name}", f"  {_claim_text(claim)}; {listed}"]
    lines += [f"  {evidence.outcome:12}  {text}" for evidence, text in _evidence_texts(judgement)]
    return "\n".join(lines)


def _claim_text(claim: Claim) -> str:
    """Return what a claim compares and expects.

    An example: `torch / chainer, step_s: ratio under 0.9524 expected`.
    """
    from sweep.analysis.wording import value_phrase

    pair = f"{value_phrase(claim.axis, claim.subject)} / {value_phrase(claim.axis, claim.baseline)}"
    return f"{pair}, {claim.metric}: {claim.expectation} expected"


def _evidence_texts(judgement: Judgement) -> list[tuple[Evidence, str]]:
    """Return each comparison of a claim with its text: where it holds, the ratio, what is open."""
    from sweep.analysis.wording import circumstances, correction, ratio_text, varied_axes

    varied = varied_axes([evidence.comparison for evidence in judgement.evidence])
    texts = []
    for each in judgement.evidence:
        where = circumstances(each.comparison.axes, varied).strip() or "everywhere"
        corrected = correction(each.uncorrected_outcome, each.outcome, each.family)
        parts = [ratio_text(each.comparison), corrected, _next_step(each)]
        texts.append((each, f"{where}: {'; '.join(filter(None, parts))}"))
    return texts


def _next_step(evidence: Evidence) -> str:
    """Return what would decide an inconclusive comparison, or ""."""
    if evidence.outcome != "inconclusive":
        return ""
    from sweep.analysis.summary import is_per_trial, more_units
    from sweep.analysis.wording import unfinished_trials

    comparison, needed = evidence.comparison, evidence.units_needed
    ratio, per = comparison.ratio, comparison.metadata.per
    if needed and not is_per_trial(per):
        return more_units(per, needed)
    if not needed and ratio is not None and ratio.is_open:
        return unfinished_trials(comparison)
    return f"--add-seeds {needed} would tell" if needed else "too close to tell"


def _judgement_rows(judgement: Judgement) -> list[dict[str, Any]]:
    """Return a row per comparison of a claim, or one row if there is none.

    Verdicts are those of the claim's own expectation.
    """
    from sweep.analysis.verdict_warnings import verdict_warnings

    claim = judgement.claim
    own = {"claim": claim.name, "outcome": judgement.outcome, "low_expected": claim.expected.low}
    own |= {"high_expected": claim.expected.high}
    warnings = verdict_warnings([evidence.comparison for evidence in judgement.evidence])
    rows = []
    for (evidence, text), about in zip(_evidence_texts(judgement), warnings, strict=True):
        figures = own | _evidence_row(claim, evidence, text) | {"warnings": list(map(str, about))}
        rows.append(row(evidence.comparison.axes, figures))
    return rows or [own | {"evidence": "missing", "warnings": []}]


def _evidence_row(claim: Claim, evidence: Evidence, text: str) -> dict[str, Any]:
    return {
        **_facts(evidence.comparison),
        "evidence": evidence.outcome,
        "p": evidence.p,
        "p_adjusted": evidence.p_adjusted,
        "comparisons": evidence.family,
        "uncorrected": evidence.uncorrected_outcome,
        "seeds_needed": evidence.seeds_needed,
        "reason": evidence.comparison.reason,
        "sentence": f"{_claim_text(claim)}; {evidence.outcome} {text}",
    }


def _judgement_columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    from sweep.analysis.quantities import NOTHING, factor, factors
    from sweep.analysis.statistics import Interval

    def interval(row: dict[str, Any]) -> str:
        """Return the interval of a row without its ratio, which has a column of its own."""
        if row.get("low") is None:
            return NOTHING
        return factors(Interval(row["ratio"], row["low"], row["high"])).partition(" ")[2]

    def ratio(row: dict[str, Any]) -> str:
        return NOTHING if row.get("ratio") is None else factor(row["ratio"])

    return [
        Column("claim", [row["claim"] for row in rows], is_text=True),
        Column("outcome", [row["outcome"] for row in rows], is_text=True),
        Column("evidence", [row["evidence"] for row in rows], is_text=True),
        Column("ratio", [ratio(row) for row in rows]),
        Column("95 % interval", [interval(row) for row in rows]),
        Column("says", [str(row.get("sentence", "")) for row in rows], rank=1, is_text=True),
    ]
