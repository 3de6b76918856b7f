"""Warnings: signs that a number may not mean what it seems to, each with what to do about it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sweep.analysis import influence, result_checks, statistics, steadiness
from sweep.analysis.quantities import quantity
from sweep.analysis.samples import Floats
from sweep.analysis.summary import Summary, is_per_trial, more_units
from sweep.selection import shown
from sweep.status import Status, retry_for
from sweep.texts import counted

STEAL_MUCH = 0.02
CONTENTION_MUCH = 0.1
LOAD_MUCH = 1.0
SWITCHES_MANY_PER_S = (
    2000.0  # more threads than cores: tens of thousands; a busy neighbour: hundreds
)
DRIFT_MUCH = 0.02
DRIFT_UNLIKELY = 0.01  # how likely as much is by chance
_CPU_NOT_KNOWN = "Prescott"  # what OpenBLAS falls back to on x86-64
_RUNNING_TOTALS = frozenset({"elapsed_s", "validation_elapsed_s"})
_HEAT_OR_MEMORY = "heat or memory: see sweep doctor, watch clocks and peak_rss_bytes"
_NAMED = 3
_LOOKED_AT = 50  # processes of a cell whose course is looked at closely


@dataclass(frozen=True)
class WarningSign:
    """What is doubtful, as a short `kind` and a sentence, and the fix."""

    kind: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


def warnings_of(summary: Summary) -> list[WarningSign]:
    """Everything doubtful about a summary, the gravest first."""
    signs = (
        _missing,
        _left_out,
        _few,
        _unit_unknown,
        _mixed,
        _threads,
        _old_blas,
        _contaminated,
        _unsteady,
        _two_modes,
        _swayed,
    )
    return [warning for sign in signs for warning in sign(summary)]


def run_warnings(summaries: Sequence[Summary]) -> list[WarningSign]:
    """What is doubtful about all cells of a run together, and is said once."""
    results = [
        WarningSign(result_checks.KIND, text, fix) for text, fix in result_checks.of_run(summaries)
    ]
    return [*results, *drift_warnings(summaries)]


def drift_warnings(summaries: Sequence[Summary]) -> list[WarningSign]:
    """Drift from trial to trial of a run."""
    trials = [trial for summary in summaries for trial in _trials_of(summary)]
    _, order = np.unique([trial.started for trial in trials], return_inverse=True)
    found = statistics.drift([t.mean for t in trials], order, [t.like for t in trials])
    if found.p >= DRIFT_UNLIKELY or abs(found.change) <= DRIFT_MUCH:
        return []
    metrics = {summary.metric for summary in summaries}
    what = f"{metrics.pop()} drifts" if len(metrics) == 1 else "times drift"
    text = f"{what} by {found.change:+.1%} over the run, from its first trial to its last"
    return [
        WarningSign(
            "drift", text, "comparisons within blocks bear it; for absolute times see sweep doctor"
        )
    ]


class _Trial(NamedTuple):
    """One trial's mean, when it started, and which others it is like: those of its cell on its node."""

    mean: float
    started: float
    like: str


def _trials_of(summary: Summary) -> Iterator[_Trial]:
    facts = [
        summary.column(name) or [None] * summary.processes
        for name in ("started_at", "cell_id", "node")
    ]
    for mean, started, cell, node in zip(summary.process_means.tolist(), *facts, strict=True):
        if mean > 0 and started is not None:
            yield _Trial(mean, started.timestamp(), f"{summary.metric} {cell} {node}")


def _missing(summary: Summary) -> Iterator[WarningSign]:
    failed = {status: n for status, n in sorted(summary.statuses.items()) if status != Status.OK}
    if failed:
        told = ", ".join(f"{n} {status}" for status, n in failed.items())
        yield WarningSign(
            "failed",
            f"{sum(failed.values())} of {sum(summary.statuses.values())} trials have no times: {told}",
            _NO_RETRY if set(failed) == {Status.UNSUPPORTED} else _retry(str(retry_for(failed))),
        )


def _left_out(summary: Summary) -> Iterator[WarningSign]:
    out = summary.left_out
    if out["impossible"]:
        yield WarningSign(
            "impossible times",
            f"{_trials(out['impossible'])} with times that are NaN, zero or negative left out",
            "look at one with sweep show; that clock or workload is broken",
        )
    if out["without"]:
        if summary.asked_for:
            text = f"{summary.processes} of {summary.trials} trials reached it, the mean is of those alone"
            yield WarningSign("not reached", text, "the others count as never in comparisons")
        else:
            text = f"{_trials(out['without'])} without {summary.metric}"
            yield WarningSign("not measured", text, "choose another with --metric")
    if out["disturbed"]:
        yield WarningSign(
            "disturbed samples",
            f"{out['disturbed']} samples known to be disturbed are left out",
            "see sweep doctor",
        )


def _few(summary: Summary) -> Iterator[WarningSign]:
    missing = statistics.FEWEST_PROCESSES - summary.processes
    if missing > 0 and summary.processes:
        per = summary.metadata.per
        units = counted(summary.processes, "process" if is_per_trial(per) else per)
        yield WarningSign("few processes", f"no interval from {units}", more_units(per, missing))


def _unit_unknown(summary: Summary) -> Iterator[WarningSign]:
    count = summary.left_out["unit unknown"]
    if count:
        text = f"{_trials(count)} of a version that did not record the {summary.metadata.per}"
        yield WarningSign(
            "unit unknown",
            text,
            "each environment and node counts once; a new run tells them apart",
        )


def _mixed(summary: Summary) -> Iterator[WarningSign]:
    if summary.cells > 1:
        yield WarningSign(
            "pooled",
            f"{summary.cells} different cells pooled",
            "name more axes with --by to tell them apart",
        )
    names = {
        "cpu_model": "kinds of CPU",
        "device_name": "kinds of device",
        "python": "versions of Python",
        "code_version": "versions of sweep",
    }
    if summary.cells == 1:
        for column, what in names.items():
            values = sorted({str(v) for v in summary.column(column) if v is not None})
            if len(values) > 1:
                one = f'"{values[0]}"' if "," in values[0] else values[0]
                fix = f"compare only what was measured alike: choose one with --where '{column}={one}'"
                yield WarningSign("mixed", f"{len(values)} {what}: {', '.join(values)}", fix)


def _threads(summary: Summary) -> Iterator[WarningSign]:
    settings = summary.column("settings")
    asked = {text: json.loads(text).get("threads") for text in set(settings) if text}
    wrong = Counter(
        (threads, asked[text])
        for threads, text in zip(summary.column("threads"), settings, strict=False)
        if threads and asked.get(text) and asked[text] != threads
    )
    for (threads, wanted), count in wrong.items():
        fix = "give the trials as many cores as threads, in the grid's resources"
        yield WarningSign(
            "threads",
            f"{_trials(count)} computed with {counted(threads, 'thread')}, not {shown(wanted)}",
            fix,
        )


def _old_blas(summary: Summary) -> Iterator[WarningSign]:
    """An OpenBLAS older than the CPU computes as for one of 2004, at a quarter of the speed and less."""
    count = sum(1 for told in summary.column("blas") if told and _CPU_NOT_KNOWN in told)
    if count:
        yield WarningSign(
            "old BLAS",
            f"the OpenBLAS of {_trials(count)} does not know this CPU and computes as for a {_CPU_NOT_KNOWN}",
            "name a core that it knows, as OPENBLAS_CORETYPE=Haswell sweep run …, or compare it with nothing",
        )


def _contaminated(summary: Summary) -> Iterator[WarningSign]:
    signs = {
        "steal_ratio": (
            STEAL_MUCH,
            "the hypervisor took over {:.0%} of the time of {}",
            "use a machine of one's own",
        ),
        "contention_ratio": (
            CONTENTION_MUCH,
            "other processes took over {:.0%} of the cores of {}",
            "stop them, see sweep doctor",
        ),
    }
    for column, (limit, text, fix) in signs.items():
        count = sum(1 for value in summary.column(column) if value is not None and value > limit)
        if count:
            yield WarningSign("contaminated", text.format(limit, _trials(count)), fix)
    switches, walls = summary.column("involuntary_switches"), summary.column("wall_s")
    often = sum(
        1 for s, w in zip(switches, walls, strict=False) if s and w and s / w > SWITCHES_MANY_PER_S
    )
    if often:
        text = f"{_trials(often)} thrown off their cores over {SWITCHES_MANY_PER_S:,.0f} times a second"
        yield WarningSign("contaminated", text, "use no more threads than cores")


def _unsteady(summary: Summary) -> Iterator[WarningSign]:
    if not _is_duration(summary):
        return
    kinds: Counter[str] = Counter()
    start = 0
    rows = _looked_at(summary)
    screening = steadiness.screen(rows)
    looked_at = _courses(rows, screening)
    for course in looked_at:
        kinds[course.kind] += 1
        start = max(start, course.start if course.kind == "warm-up" else 0)
    told = _what_settling_means(summary, start)
    for kind, (text, fix) in told.items():
        if kinds[kind]:
            yield WarningSign(kind, f"{kinds[kind]} of {len(looked_at)} processes {text}", fix)
    if screening.together and not any(kinds[kind] for kind in told):
        yield from _changing_together(rows)


def _what_settling_means(summary: Summary, start: int) -> dict[str, tuple[str, str]]:
    sampled = _sampled(summary)
    settling = f"set aside {start} more samples: raise parameters: warmup by {start}"
    return {
        "warm-up": (
            "still warming up",
            settling if sampled else f"the first {start} count too: the median bears them",
        ),
        "slowdown": ("getting slower as they run", _HEAT_OR_MEMORY),
        "none": (
            "never steady",
            f"take more samples: raise parameters: {'samples' if sampled else 'epochs'}",
        ),
    }


def _changing_together(rows: Sequence[Floats]) -> Iterator[WarningSign]:
    """Where no process shows it by itself, but all together do."""
    found = steadiness.trend_of_all(rows)
    if not found.is_sure():
        return
    text = f"samples {'rise' if found.change > 0 else 'fall'} by {abs(found.change):.1%} within a process, all together"
    if found.change > 0:
        yield WarningSign("slowdown", text, _HEAT_OR_MEMORY)
    else:
        yield WarningSign("warm-up", text, "set aside more samples: raise parameters: warmup")


def _is_duration(summary: Summary) -> bool:
    """Whether its values ought to be alike: a loss is to fall, and a clock goes on."""
    return summary.unit == "s" and summary.metric not in _RUNNING_TOTALS


def _sampled(summary: Summary) -> bool:
    """Whether the grid says how many samples there are, which it does not of a training's epochs."""
    return all("samples" in json.loads(text) for text in set(summary.column("settings")) if text)


def _courses(
    rows: Sequence[Floats], screening: steadiness.Screening
) -> list[steadiness.SteadyState]:
    """How processes settle; those that the screening finds even are flat."""
    flat = steadiness.SteadyState("flat", 0)
    return [
        steadiness.steady_state(row) if look else flat
        for row, look in zip(rows, screening.uneven, strict=True)
    ]


def _looked_at(summary: Summary) -> list[Floats]:
    """The samples of at most `_LOOKED_AT` processes spread over all."""
    rows = summary.by_process()
    return rows[:: max(1, math.ceil(len(rows) / _LOOKED_AT))]


def _two_modes(summary: Summary) -> Iterator[WarningSign]:
    modes = statistics.two_modes(summary.process_means) if summary.cells == 1 else None
    if modes:
        text = f"processes fall into two groups, {modes[1] / modes[0] - 1:.0%} apart"
        yield WarningSign(
            "bimodal",
            text,
            "see which with sweep show: node, cores or memory placement may decide it",
        )
        return
    modes = statistics.two_modes(summary.samples) if summary.cells == 1 else None
    explained = len(influence.of_trials(summary.process_means).places) if modes else 0
    if modes and not explained and _is_steady(_looked_at(summary)):
        text = f"samples fall into two groups, {modes[1] / modes[0] - 1:.0%} apart"
        yield WarningSign(
            "bimodal",
            text,
            "the mean lies where no sample is: look at the distribution with sweep plot",
        )


def _swayed(summary: Summary) -> Iterator[WarningSign]:
    """Single samples, or else trials, that the mean hangs on."""
    means = summary.process_means
    if summary.cells > 1:
        return
    if summary.processes and _is_duration(summary):
        sizes = np.array([len(row) for row in summary.by_process()])
        found = influence.of_samples(summary.samples, sizes)
        if len(found.places):
            yield _hanging(summary, found, "sample", summary.samples)
            means = influence.without_samples(summary.samples, sizes, found.places)
    if not statistics.two_modes(means):
        found = influence.of_trials(means)
        if len(found.places):
            yield _hanging(summary, found, "trial", means)


def _hanging(
    summary: Summary, found: influence.Influence, what: str, values: Floats
) -> WarningSign:
    count, told = len(found.places), f"{len(values)} {what}s"
    trials = found.places
    if what == "sample":
        trials = np.searchsorted(
            np.cumsum([len(row) for row in summary.by_process()]), trials, side="right"
        )
    seeds = summary.column("seed")
    named = (
        ", ".join(dict.fromkeys(str(seeds[trial]) for trial in trials[:_NAMED])) if seeds else ""
    )
    where = f" (seed {named}{' …' if count > _NAMED else ''})" if named else ""
    farthest, usual = _extreme(values[found.places], found.share), float(np.median(values))
    there = (
        f"{quantity(farthest, summary.unit)} where the median is {quantity(usual, summary.unit)}"
    )
    makes = "makes" if count == 1 else "make"
    text = f"{count} of {told}{where} {makes} the mean {_greater(found.share)}: {there}"
    return WarningSign(
        "outlier",
        text,
        "see why with sweep show; the median bears it, and more seeds weigh it less",
    )


def _extreme(values: Floats, share: float) -> float:
    return float(values.max() if share > 0 else values.min())


def _greater(share: float) -> str:
    if share < 0:
        return f"{-share:.1%} less"
    return f"{share:.1%} greater" if share < 1 else f"{1 + share:.3g} times as great"


def _is_steady(rows: Sequence[Floats]) -> bool:
    return all(
        course.kind in ("flat", "unknown") for course in _courses(rows, steadiness.screen(rows))
    )


_NO_RETRY = "see sweep status for why: change the grid, or with a machine that can, use sweep run --retry failed"


def _retry(what: str) -> str:
    return f"see sweep status for why, then sweep run --retry {what}"


def _trials(count: int) -> str:
    return counted(count, "trial")


def group_warnings(found: Sequence[tuple[str, WarningSign]]) -> list[tuple[WarningSign, list[str]]]:
    """Warnings of many cells, alike ones together with the cells they are of."""
    cells: dict[WarningSign, list[str]] = {}
    for cell, warning in found:
        cells.setdefault(warning, []).append(cell)
    return list(cells.items())
