"""The sections of the report as HTML; this module escapes every text of the run."""

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

# Cells that a warning names.
_MOST_NAMED = 3
# Warnings that are shown without unfolding.
_MOST_WARNINGS = 3
_MOST_CODE_VERSIONS = 3


class Section(NamedTuple):
    """A section of the page, which is left out if its body is empty."""

    id: str
    title: str
    body: str


def sections(run: Run, measured: Measured) -> list[Section]:
    """Return all sections in their order."""
    grid = f"<pre>{_escaped(run.facts.grid)}</pre>" if run.facts.grid else ""
    exclusions = _table("exclusions") if run.exclusions else ""
    return [
        Section("answers", "What the records say", _claims(run) + _answers(measured)),
        Section("published", "Published against measured here", _published(run)),
        Section("look", "Look", _look()),
        Section("cells", "Cells", _table("cells")),
        Section("comparisons", "Comparisons", _table("ratios") if measured.comparisons else ""),
        Section("warnings", "Warnings and fixes", _warnings(run, measured)),
        Section("failures", "Failures by cause", _table("causes") if _failed(run) else ""),
        Section("missing", "Trials without a record", _missing(run)),
        Section("exclusions", "Left out of the grid", exclusions),
        Section("machines", "Machines", _machines(run)),
        Section("environments", "Environments", _environments(run)),
        Section("grid", "The grid", grid),
        Section("reading", "How to read this", _READING),
    ]


def facts(run: Run, measured: Measured) -> str:
    """Return one line: the number of trials, the machine, the time and the version of sweep."""
    counts = Counter(run.records["status"].to_pylist())
    trials, cells = counted(counts.total(), "trial"), counted(len(measured.cells.rows), "cell")
    statuses = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    parts = [f"{trials} in {cells}: {statuses}"]
    if run.missing:
        parts.append(f"{len(run.missing)} more planned")
    if run.running:
        parts.append("written while the sweep was still running")
    parts += _common_value(run, "cpu_model")
    parts += [counted(threads, "thread") for threads in _common_value(run, "threads")]
    started = pc.min_max(run.records["started_at"]).as_py()
    if started["min"] is not None:
        parts.append(f"{started['min']:%Y-%m-%d %H:%M} to {started['max']:%Y-%m-%d %H:%M} UTC")
    versions = [v for v in pc.unique(run.records["code_version"]).to_pylist() if v]
    if versions:
        parts.append(f"sweep {', '.join(versions[:_MOST_CODE_VERSIONS])}")
    return _escaped(" · ".join(parts))


def _common_value(run: Run, column: str) -> list[Any]:
    """Return the value of a column that all records share, as a list; empty if they differ."""
    values = [v for v in pc.unique(run.records[column]).to_pylist() if v]
    return values if len(values) == 1 else []


def _claims(run: Run) -> str:
    """Return each claim with its outcome; its evidence unfolds."""
    try:
        judgements = run.verify()
    except SweepError as error:
        return f"<p class=note>The grid's claims cannot be judged: {_escaped(error.message)}</p>"
    return _answer_list([_claim(judgement) for judgement in judgements])


def _claim(judgement: Judgement) -> str:
    claim = judgement.claim
    pair = f"{value_phrase(claim.axis, claim.subject)} / {value_phrase(claim.axis, claim.baseline)}"
    varied = varied_axes([evidence.comparison for evidence in judgement.evidence])
    lines = []
    for each in judgement.evidence:
        where = circumstances(each.comparison.axes, varied).strip() or "everywhere"
        text = f"{_escaped(where)}: {_escaped(ratio_text(each.comparison))}"
        lines.append(f"{_verdict(each.outcome)}{text}")
    stated = f"{_escaped(claim.metric)}, {_escaped(pair)}: {_escaped(claim.expectation)} expected"
    if lines:
        summary = f"<summary>{stated}; {_counted_comparisons(len(lines))}</summary>"
        evidence = f"<details>{summary}{_list(lines)}</details>"
    else:
        evidence = f"<div>{stated}</div>"
    warnings = _warnings_of([each.comparison for each in judgement.evidence])
    return f"{_verdict(judgement.outcome)}{_escaped(claim.name)}{evidence}{warnings}"


def _published(run: Run) -> str:
    """Return the published figures, each with what this run measured."""
    try:
        published = run.published()
    except SweepError as error:
        return (
            f"<p class=note>The published figures cannot be compared: {_escaped(error.message)}</p>"
        )
    entries = _answer_list([_published_entry(*each) for each in published])
    return entries + (_OTHER_MACHINES if published else "")


def _published_entry(given: Published, measured: Sequence[tuple[Comparison, Agreement]]) -> str:
    pair = [value_phrase(given.axis, value) for value in (given.subject, given.baseline)]
    values = " / ".join(f"{value:g} {given.unit}".strip() for value in given.values)
    column = measured[0][0].metadata if measured else metadata(given.metric)
    what = phrases(given.metric, column).what
    ratio = f"{factor(given.ratio)}× {what} ({_escaped(' / '.join(pair))})"
    head = f"<b>{_escaped(given.name)}</b>: {_escaped(values)}, {ratio}"
    comparisons = [comparison for comparison, _ in measured]
    varied = varied_axes(comparisons)
    lines = []
    for comparison, agreement in measured:
        where = _pair(comparison) + circumstances(comparison.axes, varied)
        text = f"{_escaped(where)}: {_escaped(ratio_text(comparison))}"
        lines.append(f"{_verdict(agreement)}{text}")
    if not lines:
        return head + f"<p>{_verdict('missing')}no cell here is of it</p>"
    return head + _list(lines) + _warnings_of(comparisons)


def _pair(comparison: Comparison) -> str:
    return " / ".join(
        value_phrase(comparison.over, v)
        for v in (comparison.subject_value, comparison.baseline_value)
    )


def _answers(measured: Measured) -> str:
    """Return, for each value of the usual axis, in how many cells it is faster and by how much.

    It is empty where the cells differ in no comparable axis: that a larger batch takes longer is
    no answer.
    """
    if not comparable_axes(measured.overs[:1]):
        return ""
    over = measured.overs[0]
    by_subject: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in measured.comparisons[measured.metrics[0].name, over]:
        by_subject[shown(comparison.subject_value)].append(comparison)
    return _answer_list([_answer(comparisons) for comparisons in by_subject.values()])


def _answer(comparisons: Sequence[Comparison]) -> str:
    """Return the line about one value against its baseline."""
    first, counts = comparisons[0], Counter(comparison.verdict for comparison in comparisons)
    values = (first.subject_value, first.baseline_value)
    subject, baseline = (_escaped(value_phrase(first.over, value)) for value in values)
    verdicts = ", ".join(f"{verdict} in {n}" for verdict, n in counts.most_common())
    speedups = sorted(c.speedup.estimate for c in comparisons if c.speedup)
    reach = f": {factor(speedups[0])}× to {factor(speedups[-1])}× as fast" if speedups else ""
    size = _counted_comparisons(len(comparisons))
    colour = first.verdict if len(counts) == 1 else "open"
    head = f'<b class="{colour}">{subject}</b> against {baseline}, {first.metric}, {size}'
    return f"{head}: {verdicts}{reach}" + _warnings_of(comparisons)


def _warnings_of(comparisons: Sequence[Comparison]) -> str:
    """Return the warnings about verdicts, of which all but the first ones unfold."""
    texts = [text for _, text in verdict_warnings.warning_lines(comparisons)]
    if not texts:
        return ""
    lines = [f"<li>{_escaped(text)}</li>" for text in texts]
    first, others = "".join(lines[:_MOST_WARNINGS]), "".join(lines[_MOST_WARNINGS:])
    shown = f'<ul class="warnings">{first}</ul>'
    if not others:
        return shown
    summary = f"<summary>more warnings: {len(lines) - _MOST_WARNINGS}</summary>"
    return f"{shown}<details>{summary}<ul>{others}</ul></details>"


def _counted_comparisons(count: int) -> str:
    return counted(count, "comparison")


def _look() -> str:
    """Return the controls and an empty figure for each plot, which the page's script fills."""
    figures = "".join(
        f'<figure data-kind="{key}" id="plot-{key}"><h3>{kind.title}</h3>'
        f'<figcaption>{_sentence(kind.shows)} <span class="note"></span></figcaption>'
        '<div class="plot"></div></figure>'
        for key, kind in plots.KINDS.items()
    )
    return (
        '<form class="controls" onsubmit="return false">'
        '<fieldset id="looks"><legend>Show</legend></fieldset>'
        '<fieldset id="filters"><legend>Only</legend></fieldset></form>'
        f'<p class="chosen"></p>{figures}'
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _warnings(run: Run, measured: Measured) -> str:
    """Return every warning once, with its fix and the cells that it is about."""
    axes = measured.cells.axes
    of_cells = [
        (label(summary.axes, axes), warning)
        for summary in measured.usual
        if _should_have_metric(summary)
        for warning in warnings_of(summary)
    ]
    lines = [_warning("the whole run", warning) for warning in run_warnings(measured.usual)]
    if left_out := unusable(run):
        fix = "see what one trial recorded with sweep show"
        lines.append(_warning("learning curves", WarningSign("logs", left_out, fix)))
    for warning, cells in group_warnings(of_cells):
        lines.append(_warning(_cells_text(cells, len(measured.usual)), warning))
    if not lines:
        return ""
    return f'<ul class="warnings">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def _cells_text(cells: Sequence[str], total: int) -> str:
    """Return the names of some cells, or `every cell` for all of several."""
    if len(cells) == total > 1:
        return "every cell"
    names, more = ", ".join(cells[:_MOST_NAMED]), len(cells) - _MOST_NAMED
    return f"{names} and {counted(more, 'other cell')}" if more > 0 else names


def _warning(where: str, warning: WarningSign) -> str:
    fix = f'; <span class="fix">{_escaped(warning.fix)}</span>' if warning.fix else ""
    return f"{_escaped(where)}: {_escaped(warning.text)}{fix}"


def _should_have_metric(summary: Summary) -> bool:
    """Whether the cell's trials should record the metric; a training records no steps, say."""
    return bool(summary.processes or summary.left_out["impossible"] or not all_ok(summary.statuses))


def _failed(run: Run) -> bool:
    return not all_ok(run.records["status"].to_pylist())


def _missing(run: Run) -> str:
    if not run.missing:
        return ""
    more = f"<p class=note>The first {MOST_MISSING} of {len(run.missing)}.</p>"
    return (more if len(run.missing) > MOST_MISSING else "") + _table("missing")


def _machines(run: Run) -> str:
    """Return the facts of each kind of machine, with the nodes of that kind."""
    columns = ["node", "cpu_model", "device_name", "machine"]
    facts_of: dict[str, dict[str, Any]] = {}
    nodes: dict[str, set[str]] = defaultdict(set)
    trials: Counter[str] = Counter()
    for row in run.records.group_by(columns).aggregate([([], "count_all")]).to_pylist():
        recorded = {
            "CPU": row["cpu_model"],
            "device": row["device_name"],
            **json.loads(row["machine"] or "{}"),
        }
        facts = {key: value for key, value in recorded.items() if value not in (None, "")}
        kind = json.dumps(facts, sort_keys=True)
        facts_of.setdefault(kind, facts)
        nodes[kind].add(str(row["node"]))
        trials[kind] += row["count_all"]
    return "".join(_machine(facts, nodes[kind], trials[kind]) for kind, facts in facts_of.items())


def _machine(facts: Mapping[str, Any], nodes: Iterable[str], trials: int) -> str:
    texts = {"nodes": ", ".join(sorted(nodes, key=natural)), "trials": str(trials)}
    for key, value in facts.items():
        is_size = key.endswith("_bytes") and isinstance(value, int)
        name = key.removesuffix("_bytes").replace("_", " ")
        texts[name] = quantity(value, "B") if is_size else shown(value)
    entries = (
        f"<dt>{_escaped(name)}</dt><dd>{_escaped(text)}</dd>" for name, text in texts.items()
    )
    return f"<dl>{''.join(entries)}</dl>"


def _environments(run: Run) -> str:
    """Return the contents of each environment; its packages unfold."""
    columns = [
        "framework",
        "version",
        "environment_id",
        "python",
        "numpy",
        "blas",
        "framework_build",
    ]
    groups = run.records.filter(pc.is_valid(run.records["environment_id"])).group_by(columns)
    rows = groups.aggregate([([], "count_all")]).to_pylist()
    ordered = sorted(rows, key=lambda row: natural(_framework_name(row)))
    return "".join(_environment(run, row) for row in ordered)


def _environment(run: Run, row: Mapping[str, Any]) -> str:
    versions = {
        "Python": row["python"],
        "NumPy": row["numpy"],
        "BLAS": row["blas"],
        "build": row["framework_build"],
    }
    text = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    identifier = f"<code>{_escaped(row['environment_id'])}</code>"
    head = f"<h3>{_escaped(_framework_name(row))}</h3><p>{_escaped(text)} {identifier}</p>"
    packages = run.results.environment(row["environment_id"])
    if not packages:
        return head
    return f"{head}<details><summary>packages</summary><pre>{_escaped(packages)}</pre></details>"


def _framework_name(row: Mapping[str, Any]) -> str:
    return f"{row['framework']} {row['version'] or ''}".strip()


def _table(table: str) -> str:
    """Return an empty table, which the page's script fills."""
    return f'<p class="chosen"></p><div class="scroll" data-table="{table}"></div>'


def _answer_list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f'<ul class="answers">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _verdict(outcome: str) -> str:
    return f'<span class="verdict {outcome}">{outcome}</span> '


def _escaped(text: object) -> str:
    """Return a text for HTML; control characters are not allowed there, not even as references."""
    return html.escape(printable(str(text), keep="\n\t"))


_OTHER_MACHINES = """
<p class="note">Only ratios are comparable: the published times are another machine's. A line
<i>agrees</i> where the same of the two is faster here, or neither is; it is <i>opposite</i> where
the other one is, and <i>differs</i> where one of the two says that there is no difference.</p>"""
_READING = """\
<p>A <b>process</b> is one trial: a fresh worker. Means and 95 % intervals are computed over
processes, each weighing the same, and there is no interval from fewer than three. Variance, sd,
median, MAD, min, p5 and p95 are those of all samples together.</p>
<p>A <b>comparison</b> pairs processes that ran in the same block, close together in time. It is
<i>faster</i> or <i>slower</i> where the 95 % interval of the ratio lies beyond the margin and
survives the correction for the number of comparisons, <i>equivalent</i> where the interval lies
within the margin, <i>inconclusive</i> otherwise. In maps, <code>=</code> marks equivalent and
<code>?</code> inconclusive.</p>"""
