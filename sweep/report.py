"""The report: a run as one HTML file, which asks nothing of any network and lets its reader choose what to look along.

Figures and rows are embedded as JSON and put into plots and tables by `templates/report.js`; sentences are HTML.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import html
import importlib.resources
import json
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc

from sweep import figures, plots
from sweep.analysis import Run
from sweep.claims import Judgement
from sweep.columns import unit
from sweep.comparisons import Comparison
from sweep.doubts import doubts, together
from sweep.errors import SweepError
from sweep.failures import failures
from sweep.figures import Cells, Metric, Row, label, said
from sweep.plots import Channel
from sweep.published import Agreement, Published
from sweep.quantities import factor, quantity
from sweep.selection import natural, shown
from sweep.summary import Summary
from sweep.wording import circumstances, name, seen, varied_axes

MOST_COMPARISONS = 6000
MOST_PROCESSES = 20_000
_MOST = {"cells": 20, "points": 2000, "panels": 12, "rows": 200}  # that are shown at once
_NAMED = 3
_NAMES = 1000  # of missing trials
_CODE_VERSIONS = 3


class Section(NamedTuple):
    """A part of the page, left out where its body is empty."""

    id: str
    title: str
    body: str


class Column(NamedTuple):
    """A column of a table; the title of `measured` ones carries the unit of the metric that is chosen."""

    key: str
    title: str
    numeric: bool = True
    measured: str = ""  # the power of the unit: "1" or "²"


_COLUMNS = {
    "cells": [
        Column("axes", ""),
        Column("processes", "processes"),
        Column("failed", "failed"),
        Column("mean", "mean", measured="1"),
        Column("interval", "95 % interval"),
        Column("variance", "variance", measured="²"),
        *(Column(name, "MAD" if name == "mad" else name) for name in ("median", "sd", "mad", "min", "p5", "p95")),
    ],
    "ratios": [
        Column("axes", ""),
        Column("baseline", "baseline", numeric=False),
        Column("speedup", "times as fast"),
        Column("interval", "95 % interval"),
        Column("verdict", "verdict", numeric=False),
        Column("sentence", "in words", numeric=False),
    ],
    "causes": [
        Column("status", "status", numeric=False),
        Column("trials", "trials"),
        Column("cause", "cause", numeric=False),
        Column("first", "first of them", numeric=False),
    ],
    "exclusions": [Column("name", "left out", numeric=False), Column("reason", "reason", numeric=False)],
    "missing": [Column("name", "trial without a record", numeric=False)],
}


class _Measured(NamedTuple):
    """All that is drawn: metrics with their summaries, cells, comparisons by metric and axis."""

    metrics: Sequence[Metric]
    summaries: Mapping[str, Sequence[Summary]]
    cells: Cells
    comparisons: Mapping[tuple[str, str], Sequence[Comparison]]

    @property
    def usual(self) -> Sequence[Summary]:
        return self.summaries[self.metrics[0].name]

    @property
    def overs(self) -> list[str]:
        """The axes over which there are comparisons, the usual one first."""
        axes = [axis for metric, axis in self.comparisons if metric == self.metrics[0].name]
        return sorted(axes, key=lambda axis: axis != figures.usual_over(self.cells.axes))


def report(run: Run, at: dt.datetime | None = None) -> str:
    """The report as HTML. Raises SweepError where the run has no records."""
    measured = _measured(run)
    sections = [section for section in _sections(run, measured) if section.body]
    style, script = (_template(f"report.{kind}") for kind in ("css", "js"))
    libraries = plots.javascript().replace("</script", r"<\/script")
    made = (at or dt.datetime.now(dt.UTC)).isoformat(sep=" ", timespec="minutes")
    return string.Template(_template("report.html")).substitute(
        name=_escaped(run.name),
        facts=_facts(run, measured),
        contents=" ".join(f'<a href="#{section.id}">{section.title}</a>' for section in sections),
        sections="\n".join(map(_section, sections)),
        made=_escaped(f"Made {made} from {run.results}"),
        content=_embedded(_content(run, measured)),
        style=style,
        script=script,
        libraries=libraries,
        trusted=f"{_trusted(libraries)} {_trusted(script)}",
    )


def _template(file: str) -> str:
    return (importlib.resources.files("sweep") / "templates" / file).read_text("utf-8")


def _section(section: Section) -> str:
    return f'<section id="{section.id}"><h2>{section.title}</h2>\n{section.body}\n</section>'


def _measured(run: Run) -> _Measured:
    usual = run.summary()
    default = usual[0].metric
    names = dict.fromkeys([default, *figures.metrics_of(run)])
    summaries = {each: usual if each == default else run.summary(metric=each) for each in names}
    cells, metrics = Cells.of(usual), [figures.metric_of(found) for found in summaries.values()]
    return _Measured(metrics, summaries, cells, _comparisons(run, cells, metrics))


def _comparisons(run: Run, cells: Cells, metrics: Sequence[Metric]) -> dict[tuple[str, str], Sequence[Comparison]]:
    """Of every time over every axis; of the usual one alone where that would be too many."""
    times = [m.name for m in metrics if unit(m.name) == "s" and (m.name != "wall_s" or m is metrics[0])]
    many = len(times) * len(cells.axes) * len(cells.rows) > MOST_COMPARISONS
    found = {}
    for metric in times[:1] if many else times:
        for axis in cells.axes:
            with contextlib.suppress(SweepError):  # each cell has a value of its own: nothing to compare
                found[metric, axis] = run.compare(axis, metric=metric)
    return {key: each for key, each in found.items() if each}


def _sections(run: Run, measured: _Measured) -> list[Section]:
    return [
        Section("answers", "What the records say", _claims(run) + _answers(measured)),
        Section("published", "Published against measured here", _published(run)),
        Section("look", "Look", _look()),
        Section("cells", "Cells", _table("cells")),
        Section("comparisons", "Comparisons", _table("ratios") if measured.comparisons else ""),
        Section("doubts", "Doubts and remedies", _doubts(measured)),
        Section("failures", "Failures by cause", _table("causes") if _failed(run) else ""),
        Section("missing", "Trials without a record", _table("missing") if run.missing else ""),
        Section("exclusions", "Left out of the grid", _table("exclusions") if _exclusions(run) else ""),
        Section("machines", "Machines", _machines(run)),
        Section("environments", "Environments", _environments(run)),
        Section("grid", "The grid", f"<pre>{_escaped(run.facts.grid)}</pre>" if run.facts.grid else ""),
        Section("reading", "How to read this", _READING),
    ]


# What the script works with


def _content(run: Run, measured: _Measured) -> dict[str, Any]:
    axes = measured.cells.axes
    view = plots.View(elapsed=f"elapsed time ({figures.elapsed_scale(run).sign})")
    return {
        "name": run.name,
        "axes": [_axis(each, channel, measured) for each, channel in axes.items()],
        "nothing": {"encodings": plots.encodings(plots.NOTHING)},
        "metrics": [{"name": m.name, "title": m.title, "sign": m.scale.sign} for m in measured.metrics],
        "overs": [(axis, axes[axis].title) for axis in measured.overs],
        "chosen": _chosen(measured),
        "most": _MOST,
        "absent": _absent(measured),
        "theme": plots.theme(),
        "plots": {kind: plots.spec(kind, view) for kind in plots.KINDS},
        "rows": {table: _columnwise(rows) for table, rows in _rows(run, measured).items()},
        "columns": {table: [column._asdict() for column in columns] for table, columns in _COLUMNS.items()},
    }


def _axis(axis: str, channel: Channel, measured: _Measured) -> dict[str, Any]:
    values = {repr(v): v for v in (summary.axes.get(axis) for summary in measured.usual)}.values()
    return {
        "name": axis,
        "field": channel.field,
        "title": channel.title,
        "numeric": channel.numeric,
        "values": channel.values,
        "texts": [shown(value) for value in sorted(values, key=natural)],
        "said": {str(figures.placed(axis, value, channel.numeric)): said(axis, value) for value in values},
        "encodings": plots.encodings(channel),
    }


def _chosen(measured: _Measured) -> dict[str, str]:
    """What is looked at at first."""
    roles = {role: channel.field for role, channel in figures.usual_roles(measured.cells.axes).items()}
    over = measured.overs[0] if measured.overs else "none"
    return {"metric": measured.metrics[0].name, **roles, "over": over, "when": "position"}


def _rows(run: Run, measured: _Measured) -> dict[str, list[Row]]:
    found = measured.summaries
    shown_by_process = set(_by_process(measured))
    summaries: list[Row] = []
    processes: list[Row] = []
    for metric in measured.metrics:
        own = {"metric": metric.name}
        summaries += [own | row for row in figures.cells(found[metric.name], metric)]
        if metric.name in shown_by_process:
            processes += [own | row for row in figures.processes(found[metric.name], metric)]
    both = "forward_s" in found and "backward_s" in found
    return {
        "cells": list(measured.cells.rows),
        "summaries": summaries,
        "processes": processes[:: -(-len(processes) // MOST_PROCESSES) or 1],
        "parts": figures.parts(found["forward_s"], found["backward_s"]) if both else [],
        "ratios": [row for each in measured.comparisons.values() for row in figures.ratios(each, measured.cells)],
        "curves": [row for row in figures.curves(run, measured.cells) if figures.drawable(row)],
        "causes": [failure._asdict() for failure in failures(run.records)],
        "exclusions": [{"name": left_out, "reason": reason} for left_out, reason in _exclusions(run)],
        "missing": [{"name": trial} for trial in run.missing[:_NAMES]],
    }


def _by_process(measured: _Measured) -> list[str]:
    """The metrics whose every process is embedded: as many as there is room for, the usual one always."""
    each = sum(summary.processes for summary in measured.usual)
    return [metric.name for metric in measured.metrics[: max(1, MOST_PROCESSES // max(1, each))]]


def _absent(measured: _Measured) -> dict[str, str]:
    """What is to be said where processes are not embedded."""
    there = _by_process(measured)
    told = f"There are too many processes to embed those of every metric: here they are of {', '.join(there)}."
    return {metric.name: told for metric in measured.metrics if metric.name not in there}


def _columnwise(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The same as columns, which repeat no names."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in names}


# Sentences


def _facts(run: Run, measured: _Measured) -> str:
    """One line: how many trials, on what, when."""
    counts = Counter(run.records["status"].to_pylist())
    told = [f"{counts.total()} trials in {len(measured.cells.rows)} cells: " + _counted(counts)]
    if run.missing:
        told.append(f"{len(run.missing)} more planned")
    told += _same(run, "cpu_model") + [f"{n} threads" for n in _same(run, "threads")]
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
    pair = f"{name(claim.axis, claim.subject)} / {name(claim.axis, claim.baseline)}"
    varied = varied_axes([evidence.comparison for evidence in judgement.evidence])
    lines = [
        f"{_verdict(e.outcome)}{_escaped(circumstances(e.comparison.axes, varied).strip() or 'everywhere')}: "
        f"{_escaped(seen(e.comparison))}"
        for e in judgement.evidence
    ]
    told = f"{_escaped(claim.metric)}, {_escaped(pair)}: {_escaped(claim.expectation)} expected"
    evidence = (
        f"<details><summary>{told}; {_counted_comparisons(len(lines))}</summary>{_list(lines)}</details>"
        if lines
        else told
    )
    return f"{_verdict(judgement.outcome)}{_escaped(claim.name)}{evidence}"


def _published(run: Run) -> str:
    """Figures from elsewhere with what is measured here; what has no records here is said too."""
    try:
        found = run.published()
    except SweepError as error:
        return f"<p class=note>The published figures cannot be compared: {_escaped(error.message)}</p>"
    return _answer_list([_beside(*each) for each in found]) + (_OTHER_MACHINES if found else "")


def _beside(given: Published, found: Sequence[tuple[Comparison, Agreement]]) -> str:
    pair = [name(given.axis, value) for value in (given.subject, given.baseline)]
    told = " / ".join(f"{value:g} {given.unit}".strip() for value in given.values)
    head = (
        f"<b>{_escaped(given.name)}</b>: {_escaped(told)}, {given.ratio:.3g}× the time ({_escaped(' / '.join(pair))})"
    )
    varied = varied_axes([comparison for comparison, _ in found])
    lines = [
        f"{_verdict(agreement)}{_escaped(_pair(comparison) + circumstances(comparison.axes, varied))}: "
        f"{_escaped(seen(comparison))}"
        for comparison, agreement in found
    ]
    return head + (_list(lines) if lines else f"<p>{_verdict('missing')}no cell here is of it</p>")


def _pair(comparison: Comparison) -> str:
    return " / ".join(name(comparison.over, v) for v in (comparison.subject_value, comparison.baseline_value))


def _answers(measured: _Measured) -> str:
    """For each value of the axis that is usually compared: in how many cells it is faster, and by how much."""
    if not measured.overs:
        return ""
    over = measured.overs[0]
    by_subject: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in measured.comparisons[measured.metrics[0].name, over]:
        by_subject[shown(comparison.subject_value)].append(comparison)
    return _answer_list([_answer(found) for found in by_subject.values()])


def _answer(found: Sequence[Comparison]) -> str:
    first, counts = found[0], Counter(comparison.verdict for comparison in found)
    pair = (name(first.over, value) for value in (first.subject_value, first.baseline_value))
    subject, baseline = map(_escaped, pair)
    told = ", ".join(f"{verdict} in {n}" for verdict, n in counts.most_common())
    speedups = sorted(1 / c.ratio.estimate for c in found if c.ratio)
    reach = f": {_times(speedups[0])} to {_times(speedups[-1])} as fast" if speedups else ""
    cells = _counted_comparisons(len(found))
    verdict = counts.most_common(1)[0][0] if len(counts) == 1 else "open"
    return f'<b class="{verdict}">{subject}</b> against {baseline}, {first.metric}, {cells}: {told}{reach}'


def _counted_comparisons(count: int) -> str:
    return "1 comparison" if count == 1 else f"{count} comparisons"


def _times(speedup: float) -> str:
    return f"{factor(speedup) if speedup >= 1 else f'{speedup:.3f}'}×"


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


def _doubts(measured: _Measured) -> str:
    """Every doubt once, with its remedy and the cells that it is of."""
    axes = measured.cells.axes
    named = [(label(s.axes, axes), doubt) for s in measured.usual for doubt in doubts(s)]
    total, lines = len(measured.usual), []
    for doubt, of in together(named):
        cells = ", ".join(of[:_NAMED]) + (f" and {len(of) - _NAMED} other cells" if len(of) > _NAMED else "")
        where = "every cell" if len(of) == total > 1 else cells
        remedy = f'; <span class="remedy">{_escaped(doubt.remedy)}</span>' if doubt.remedy else ""
        lines.append(f"{_escaped(where)}: {_escaped(doubt.text)}{remedy}")
    return f'<ul class="doubts">{"".join(f"<li>{line}</li>" for line in lines)}</ul>' if lines else ""


def _failed(run: Run) -> bool:
    return bool(set(run.records["status"].to_pylist()) - {"ok"})


def _exclusions(run: Run) -> list[tuple[str, str]]:
    plan = run.results.plan()
    left_out = plan.filter(pc.is_valid(plan["excluded"]))
    return list(zip(left_out["trial_name"].to_pylist(), left_out["excluded"].to_pylist(), strict=True))


def _machines(run: Run) -> str:
    """What the nodes are; alike ones together."""
    columns = ["node", "cpu_model", "device_name", "machine"]
    kinds: dict[str, tuple[dict[str, Any], set[str], int]] = {}
    for row in run.records.group_by(columns).aggregate([([], "count_all")]).to_pylist():
        known = {"CPU": row["cpu_model"], "device": row["device_name"], **json.loads(row["machine"] or "{}")}
        facts = {key: value for key, value in known.items() if value not in (None, "")}
        kind = kinds.setdefault(json.dumps(facts, sort_keys=True), (facts, set(), 0))
        kinds[json.dumps(facts, sort_keys=True)] = (facts, kind[1] | {str(row["node"])}, kind[2] + row["count_all"])
    return "".join(_machine(*kind) for kind in kinds.values())


def _machine(facts: Mapping[str, Any], nodes: Iterable[str], trials: int) -> str:
    told = {"nodes": ", ".join(sorted(nodes, key=natural)), "trials": str(trials)}
    for key, value in facts.items():
        is_size = key.endswith("_bytes") and isinstance(value, int)
        told[key.removesuffix("_bytes").replace("_", " ")] = quantity(value, "B") if is_size else shown(value)
    return f"<dl>{''.join(f'<dt>{_escaped(key)}</dt><dd>{_escaped(value)}</dd>' for key, value in told.items())}</dl>"


def _environments(run: Run) -> str:
    """What each environment holds; its packages unfold."""
    columns = ["framework", "version", "environment_id", "python", "numpy", "blas", "framework_build"]
    found = run.records.filter(pc.is_valid(run.records["environment_id"])).group_by(columns)
    rows = found.aggregate([([], "count_all")]).to_pylist()
    return "".join(_environment(run, row) for row in sorted(rows, key=lambda row: natural(_named(row))))


def _environment(run: Run, row: Mapping[str, Any]) -> str:
    known = {"Python": row["python"], "NumPy": row["numpy"], "BLAS": row["blas"], "build": row["framework_build"]}
    told = ", ".join(f"{key} {value}" for key, value in known.items() if value)
    packages = run.results.environment(row["environment_id"])
    head = f"<h3>{_escaped(_named(row))}</h3><p>{_escaped(told)} <code>{_escaped(row['environment_id'])}</code></p>"
    return head + (f"<details><summary>packages</summary><pre>{_escaped(packages)}</pre></details>" if packages else "")


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['framework']} {row['version'] or ''}".strip()


def _table(table: str) -> str:
    return f'<p class="chosen"></p><div class="scroll" data-table="{table}"></div>'


def _answer_list(lines: Sequence[str]) -> str:
    return f'<ul class="answers">{"".join(f"<li>{line}</li>" for line in lines)}</ul>' if lines else ""


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def _verdict(outcome: str) -> str:
    return f'<span class="verdict {outcome}">{outcome}</span> '


# Text that is text


def _escaped(text: object) -> str:
    return html.escape(str(text))


def _embedded(content: Mapping[str, Any]) -> str:
    """JSON that no text in it can end: in a script element only `<` could."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _trusted(script: str) -> str:
    """The only scripts that the page may run are these; so says its content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


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
