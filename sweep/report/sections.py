"""What the page says in words, as HTML: every text of a run is escaped here."""

from __future__ import annotations

import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc

from sweep.analysis import verdict_warnings
from sweep.analysis.claims import Judgement
from sweep.analysis.comparisons import Comparison
from sweep.analysis.matching import comparable_axes
from sweep.analysis.published import Agreement, Published
from sweep.analysis.quantities import factor, quantity
from sweep.analysis.run import Run
from sweep.analysis.summary import Summary
from sweep.analysis.warning_signs import WarningSign, group_warnings, run_warnings, warnings_of
from sweep.analysis.wording import circumstances, phrases, ratio_text, value_phrase, varied_axes
from sweep.errors import SweepError
from sweep.records.columns import metadata
from sweep.report import plots
from sweep.report.content import MOST_MISSING
from sweep.report.figures import label, unusable
from sweep.report.measured import Measured
from sweep.selection import natural, shown
from sweep.status import all_ok
from sweep.texts import counted, printable

_NAMED = 3
_WARNINGS = 3
_CODE_VERSIONS = 3


class Section(NamedTuple):
    """A part of the page, left out where its body is empty."""

    id: str
    title: str
    body: str


def sections(run: Run, measured: Measured) -> list[Section]:
    return [
        Section("answers", "What the records say", _claims(run) + _answers(measured)),
        Section("published", "Published against measured here", _published(run)),
        Section("look", "Look", _look()),
        Section("cells", "Cells", _table("cells")),
        Section("comparisons", "Comparisons", _table("ratios") if measured.comparisons else ""),
        Section("warnings", "Warnings and fixes", _warnings(run, measured)),
        Section("failures", "Failures by cause", _table("causes") if _failed(run) else ""),
        Section("missing", "Trials without a record", _missing(run)),
        Section(
            "exclusions", "Left out of the grid", _table("exclusions") if run.exclusions else ""
        ),
        Section("machines", "Machines", _machines(run)),
        Section("environments", "Environments", _environments(run)),
        Section(
            "grid", "The grid", f"<pre>{_escaped(run.facts.grid)}</pre>" if run.facts.grid else ""
        ),
        Section("reading", "How to read this", _READING),
    ]


def facts(run: Run, measured: Measured) -> str:
    """One line: how many trials, on what, when."""
    counts = Counter(run.records["status"].to_pylist())
    told = [
        f"{counted(counts.total(), 'trial')} in {counted(len(measured.cells.rows), 'cell')}: "
        + _counted(counts)
    ]
    if run.missing:
        told.append(f"{len(run.missing)} more planned")
    if run.running:
        told.append("written while the sweep was still running")
    told += _same(run, "cpu_model") + [counted(n, "thread") for n in _same(run, "threads")]
    started = pc.min_max(run.records["started_at"]).as_py()
    if started["min"] is not None:
        told.append(f"{started['min']:%Y-%m-%d %H:%M} to {started['max']:%Y-%m-%d %H:%M} UTC")
    versions = [v for v in pc.unique(run.records["code_version"]).to_pylist() if v]
    told += [f"sweep {', '.join(versions[:_CODE_VERSIONS])}"] if versions else []
    return _escaped(" · ".join(told))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.most_common())


def _same(run: Run, column: str) -> list[Any]:
    """The value of a column where every record that has one has the same."""
    values = [v for v in pc.unique(run.records[column]).to_pylist() if v]
    return values if len(values) == 1 else []


def _claims(run: Run) -> str:
    """Each claim with its verdict; its evidence unfolds."""
    try:
        judgements = run.verify()
    except SweepError as error:
        return f"<p class=note>The grid's claims cannot be judged: {_escaped(error.message)}</p>"
    return _answer_list([_claim(judgement) for judgement in judgements])


def _claim(judgement: Judgement) -> str:
    claim = judgement.claim
    pair = f"{value_phrase(claim.axis, claim.subject)} / {value_phrase(claim.axis, claim.baseline)}"
    varied = varied_axes([evidence.comparison for evidence in judgement.evidence])
    lines = [
        f"{_verdict(e.outcome)}{_escaped(circumstances(e.comparison.axes, varied).strip() or 'everywhere')}: "
        f"{_escaped(ratio_text(e.comparison))}"
        for e in judgement.evidence
    ]
    told = f"{_escaped(claim.metric)}, {_escaped(pair)}: {_escaped(claim.expectation)} expected"
    evidence = (
        f"<details><summary>{told}; {_counted_comparisons(len(lines))}</summary>{_list(lines)}</details>"
        if lines
        else f"<div>{told}</div>"
    )
    warned = _warned([evidence.comparison for evidence in judgement.evidence])
    return f"{_verdict(judgement.outcome)}{_escaped(claim.name)}{evidence}{warned}"


def _published(run: Run) -> str:
    """Figures from elsewhere with what is measured here; what has no records here is said too."""
    try:
        found = run.published()
    except SweepError as error:
        return (
            f"<p class=note>The published figures cannot be compared: {_escaped(error.message)}</p>"
        )
    return _answer_list([_beside(*each) for each in found]) + (_OTHER_MACHINES if found else "")


def _beside(given: Published, found: Sequence[tuple[Comparison, Agreement]]) -> str:
    pair = [value_phrase(given.axis, value) for value in (given.subject, given.baseline)]
    told = " / ".join(f"{value:g} {given.unit}".strip() for value in given.values)
    what = phrases(given.metric, found[0][0].metadata if found else metadata(given.metric)).what
    ratio = f"{factor(given.ratio)}× {what} ({_escaped(' / '.join(pair))})"
    head = f"<b>{_escaped(given.name)}</b>: {_escaped(told)}, {ratio}"
    varied = varied_axes([comparison for comparison, _ in found])
    lines = [
        f"{_verdict(agreement)}{_escaped(_pair(comparison) + circumstances(comparison.axes, varied))}: "
        f"{_escaped(ratio_text(comparison))}"
        for comparison, agreement in found
    ]
    if not lines:
        return head + f"<p>{_verdict('missing')}no cell here is of it</p>"
    return head + _list(lines) + _warned([comparison for comparison, _ in found])


def _pair(comparison: Comparison) -> str:
    return " / ".join(
        value_phrase(comparison.over, v)
        for v in (comparison.subject_value, comparison.baseline_value)
    )


def _answers(measured: Measured) -> str:
    """For each value of the axis that is usually compared: in how many cells it is faster, and by how much.

    Nothing where cells differ in no axis that one would choose along: a larger batch takes longer, which is no answer.
    """
    if not comparable_axes(measured.overs[:1]):
        return ""
    over = measured.overs[0]
    by_subject: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in measured.comparisons[measured.metrics[0].name, over]:
        by_subject[shown(comparison.subject_value)].append(comparison)
    return _answer_list([_answer(found) for found in by_subject.values()])


def _answer(found: Sequence[Comparison]) -> str:
    first, counts = found[0], Counter(comparison.verdict for comparison in found)
    pair = (
        value_phrase(first.over, value) for value in (first.subject_value, first.baseline_value)
    )
    subject, baseline = map(_escaped, pair)
    told = ", ".join(f"{verdict} in {n}" for verdict, n in counts.most_common())
    speedups = sorted(c.speedup.estimate for c in found if c.speedup)
    reach = f": {factor(speedups[0])}× to {factor(speedups[-1])}× as fast" if speedups else ""
    cells = _counted_comparisons(len(found))
    verdict = counts.most_common(1)[0][0] if len(counts) == 1 else "open"
    head = f'<b class="{verdict}">{subject}</b> against {baseline}, {first.metric}, {cells}: {told}{reach}'
    return head + _warned(found)


def _warned(found: Sequence[Comparison]) -> str:
    """What comes with verdicts: the first warnings, the others unfold."""
    lines = [f"<li>{_escaped(text)}</li>" for _, text in verdict_warnings.warning_lines(found)]
    if not lines:
        return ""
    shown_at_once, others = "".join(lines[:_WARNINGS]), "".join(lines[_WARNINGS:])
    more = f"<details><summary>more warnings: {len(lines) - _WARNINGS}</summary><ul>{others}</ul></details>"
    return f'<ul class="warnings">{shown_at_once}</ul>' + (more if others else "")


def _counted_comparisons(count: int) -> str:
    return counted(count, "comparison")


def _look() -> str:
    """Controls, and a place for each plot."""
    places = "".join(
        f'<figure data-kind="{key}" id="plot-{key}"><h3>{kind.title}</h3><figcaption>{_sentence(kind.shows)} '
        f'<span class="note"></span></figcaption><div class="plot"></div></figure>'
        for key, kind in plots.KINDS.items()
    )
    return (
        '<form class="controls" onsubmit="return false"><fieldset id="looks"><legend>Show</legend></fieldset>'
        f'<fieldset id="filters"><legend>Only</legend></fieldset></form><p class="chosen"></p>{places}'
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _warnings(run: Run, measured: Measured) -> str:
    """Every warning once, with its fix and the cells that it is of."""
    axes = measured.cells.axes
    named = [
        (label(s.axes, axes), warning)
        for s in measured.usual
        if _is_meant(s)
        for warning in warnings_of(s)
    ]
    total = len(measured.usual)
    lines = [_warning("the whole run", warning) for warning in run_warnings(measured.usual)]
    if left_out := unusable(run):
        lines.append(
            _warning(
                "learning curves",
                WarningSign("logs", left_out, "see what one trial recorded with sweep show"),
            )
        )
    for warning, of in group_warnings(named):
        cells = ", ".join(of[:_NAMED]) + (
            f" and {counted(len(of) - _NAMED, 'other cell')}" if len(of) > _NAMED else ""
        )
        lines.append(_warning("every cell" if len(of) == total > 1 else cells, warning))
    return (
        f'<ul class="warnings">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'
        if lines
        else ""
    )


def _warning(where: str, warning: WarningSign) -> str:
    fix = f'; <span class="fix">{_escaped(warning.fix)}</span>' if warning.fix else ""
    return f"{_escaped(where)}: {_escaped(warning.text)}{fix}"


def _is_meant(summary: Summary) -> bool:
    """Whether the metric is one that the cell's trials were to give: a training that went well has no steps."""
    return bool(summary.processes or summary.left_out["impossible"] or not all_ok(summary.statuses))


def _failed(run: Run) -> bool:
    return not all_ok(run.records["status"].to_pylist())


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    more = f"<p class=note>The first {MOST_MISSING} of {len(run.missing)}.</p>"
    return (more if len(run.missing) > MOST_MISSING else "") + _table("missing")


def _machines(run: Run) -> str:
    """What the nodes are; alike ones together."""
    columns = ["node", "cpu_model", "device_name", "machine"]
    kinds: dict[str, tuple[dict[str, Any], set[str], int]] = {}
    for row in run.records.group_by(columns).aggregate([([], "count_all")]).to_pylist():
        known = {
            "CPU": row["cpu_model"],
            "device": row["device_name"],
            **json.loads(row["machine"] or "{}"),
        }
        facts = {key: value for key, value in known.items() if value not in (None, "")}
        kind = kinds.setdefault(json.dumps(facts, sort_keys=True), (facts, set(), 0))
        kinds[json.dumps(facts, sort_keys=True)] = (
            facts,
            kind[1] | {str(row["node"])},
            kind[2] + row["count_all"],
        )
    return "".join(_machine(*kind) for kind in kinds.values())


def _machine(facts: Mapping[str, Any], nodes: Iterable[str], trials: int) -> str:
    told = {"nodes": ", ".join(sorted(nodes, key=natural)), "trials": str(trials)}
    for key, value in facts.items():
        is_size = key.endswith("_bytes") and isinstance(value, int)
        told[key.removesuffix("_bytes").replace("_", " ")] = (
            quantity(value, "B") if is_size else shown(value)
        )
    return f"<dl>{''.join(f'<dt>{_escaped(key)}</dt><dd>{_escaped(value)}</dd>' for key, value in told.items())}</dl>"


def _environments(run: Run) -> str:
    """What each environment holds; its packages unfold."""
    columns = [
        "framework",
        "version",
        "environment_id",
        "python",
        "numpy",
        "blas",
        "framework_build",
    ]
    found = run.records.filter(pc.is_valid(run.records["environment_id"])).group_by(columns)
    rows = found.aggregate([([], "count_all")]).to_pylist()
    return "".join(
        _environment(run, row) for row in sorted(rows, key=lambda row: natural(_named(row)))
    )


def _environment(run: Run, row: Mapping[str, Any]) -> str:
    known = {
        "Python": row["python"],
        "NumPy": row["numpy"],
        "BLAS": row["blas"],
        "build": row["framework_build"],
    }
    told = ", ".join(f"{key} {value}" for key, value in known.items() if value)
    packages = run.results.environment(row["environment_id"])
    head = f"<h3>{_escaped(_named(row))}</h3><p>{_escaped(told)} <code>{_escaped(row['environment_id'])}</code></p>"
    return head + (
        f"<details><summary>packages</summary><pre>{_escaped(packages)}</pre></details>"
        if packages
        else ""
    )


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['framework']} {row['version'] or ''}".strip()


def _table(table: str) -> str:
    return f'<p class="chosen"></p><div class="scroll" data-table="{table}"></div>'


def _answer_list(lines: Sequence[str]) -> str:
    return (
        f'<ul class="answers">{"".join(f"<li>{line}</li>" for line in lines)}</ul>' if lines else ""
    )


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _verdict(outcome: str) -> str:
    return f'<span class="verdict {outcome}">{outcome}</span> '


def _escaped(text: object) -> str:
    """Text as HTML can hold it: a control character is not allowed there, not even as a reference."""
    return html.escape(printable(str(text), keep="\n\t"))


_OTHER_MACHINES = """
<p class="note">Only ratios are comparable: the published times are another machine's. A line <i>agrees</i> where the
same of the two is faster here, or neither is; it is <i>opposite</i> where the other one is, and <i>differs</i> where
one of the two says that there is no difference.</p>"""
_READING = """\
<p>A <b>process</b> is one trial: a fresh worker. Means and 95 % intervals are computed over processes, each weighing
the same, and there is no interval from fewer than three. Variance, sd, median, MAD, min, p5 and p95 are those of all
samples together.</p>
<p>A <b>comparison</b> pairs processes that ran in the same block, close together in time. It is <i>faster</i> or
<i>slower</i> where the 95 % interval of the ratio lies beyond the margin and survives the correction for the number of
comparisons, <i>equivalent</i> where the interval lies within the margin, <i>inconclusive</i> otherwise. In maps,
<code>=</code> marks equivalent and <code>?</code> inconclusive.</p>"""
