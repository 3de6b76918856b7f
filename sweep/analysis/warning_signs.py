"""Warnings: signs that a figure may be misleading, each with a fix.

Each sign is a function that takes a summary and yields warnings. `warnings_of` lists these
functions in the order of gravity.
"""

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
from sweep.analysis.samples import Floats, Ints
from sweep.analysis.summary import Summary, is_per_trial, more_units
from sweep.selection import shown
from sweep.status import Status, retry_for
from sweep.texts import counted

# Shares of the time and of the cores of a trial. Every system has some background activity, so
# the limit for other processes is the larger one.
STEAL_MUCH = 0.02
CONTENTION_MUCH = 0.1
LOAD_MUCH = 1.0
# More threads than cores cause tens of thousands of switches, a busy neighbour only hundreds.
SWITCHES_MANY_PER_S = 2000.0
DRIFT_MUCH = 0.02
# Significance level of the test for drift.
DRIFT_UNLIKELY = 0.01
# The core that OpenBLAS falls back to on an x86-64 CPU that it does not know.
_FALLBACK_CORE = "Prescott"
_RUNNING_TOTALS = frozenset({"elapsed_s", "validation_elapsed_s"})
_HEAT_OR_MEMORY = "heat or memory: see sweep doctor, watch clocks and peak_rss_bytes"
_MOST_NAMED = 3
# Processes of a cell whose steady state is analysed. More would take long and add little.
_MOST_ANALYSED = 50
_COLUMNS_THAT_SHOULD_AGREE = {
    "cpu_model": "kinds of CPU",
    "device_name": "kinds of device",
    "python": "versions of Python",
    "code_version": "versions of sweep",
}


@dataclass(frozen=True)
class WarningSign:
    """A warning: its short `kind`, a sentence, and the fix."""

    kind: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


def warnings_of(summary: Summary) -> list[WarningSign]:
    """Return all warnings about a summary, the gravest first."""
    signs = (
        _failed,
        _left_out,
        _few,
        _unit_unknown,
        _pooled,
        _mixed,
        _threads,
        _old_blas,
        _contaminated,
        _switched,
        _unsteady,
        _two_modes,
        _outliers,
    )
    return [warning for sign in signs for warning in sign(summary)]


def run_warnings(summaries: Sequence[Summary]) -> list[WarningSign]:
    """Return the warnings about a run as a whole: differing results, and drift."""
    results = [
        WarningSign(result_checks.KIND, text, fix) for text, fix in result_checks.of_run(summaries)
    ]
    return [*results, *drift_warnings(summaries)]


def drift_warnings(summaries: Sequence[Summary]) -> list[WarningSign]:
    """Return the warning about drift over the order of a run's trials, if there is any."""
    trials = [trial for summary in summaries for trial in _trials_of(summary)]
    _, order = np.unique([trial.started for trial in trials], return_inverse=True)
    drift = statistics.drift([t.mean for t in trials], order, [t.group for t in trials])
    if drift.p >= DRIFT_UNLIKELY or abs(drift.change) <= DRIFT_MUCH:
        return []
    metrics = {summary.metric for summary in summaries}
    what = f"{metrics.pop()} drifts" if len(metrics) == 1 else "times drift"
    text = f"{what} by {drift.change:+.1%} over the run, from its first trial to its last"
    fix = "comparisons within blocks bear it; for absolute times see sweep doctor"
    return [WarningSign("drift", text, fix)]


class _Trial(NamedTuple):
    """A trial's mean, its start, and its group: the trials of one cell on one node."""

    mean: float
    started: float
    group: str


def _trials_of(summary: Summary) -> Iterator[_Trial]:
    facts = [
        summary.column(name) or [None] * summary.processes
        for name in ("started_at", "cell_id", "node")
    ]
    for mean, started, cell, node in zip(summary.trial_means.tolist(), *facts, strict=True):
        # The regression for drift is on the log scale.
        if mean > 0 and started is not None:
            yield _Trial(mean, started.timestamp(), f"{summary.metric} {cell} {node}")


def _failed(summary: Summary) -> Iterator[WarningSign]:
    failed = {status: n for status, n in sorted(summary.statuses.items()) if status != Status.OK}
    if not failed:
        return
    counts = ", ".join(f"{n} {status}" for status, n in failed.items())
    total = sum(summary.statuses.values())
    text = f"{sum(failed.values())} of {total} trials have no times: {counts}"
    # Trials that are not supported here would end in the same way again.
    is_hopeless = set(failed) == {Status.UNSUPPORTED}
    fix = _NO_RETRY if is_hopeless else _retry(str(retry_for(failed)))
    yield WarningSign("failed", text, fix)


def _left_out(summary: Summary) -> Iterator[WarningSign]:
    left_out = summary.left_out
    if left_out["impossible"]:
        yield WarningSign(
            "impossible times",
            f"{_trials(left_out['impossible'])} with times that are NaN, zero or negative left out",
            "look at one with sweep show; that clock or workload is broken",
        )
    if left_out["without"] and summary.is_expected:
        counts = f"{summary.processes} of {summary.trials} trials"
        text = f"{counts} reached it, the mean is of those alone"
        yield WarningSign("not reached", text, "the others count as never in comparisons")
    elif left_out["without"]:
        text = f"{_trials(left_out['without'])} without {summary.metric}"
        yield WarningSign("not measured", text, "choose another with --metric")
    if left_out["disturbed"]:
        yield WarningSign(
            "disturbed samples",
            f"{left_out['disturbed']} samples known to be disturbed are left out",
            "see sweep doctor",
        )


def _few(summary: Summary) -> Iterator[WarningSign]:
    missing = statistics.FEWEST_TRIALS - summary.processes
    if missing > 0 and summary.processes:
        per = summary.metadata.per
        units = counted(summary.processes, "process" if is_per_trial(per) else per)
        yield WarningSign("few processes", f"no interval from {units}", more_units(per, missing))


def _unit_unknown(summary: Summary) -> Iterator[WarningSign]:
    count = summary.left_out["unit unknown"]
    if count:
        text = f"{_trials(count)} of a version that did not record the {summary.metadata.per}"
        fix = "each environment and node counts once; a new run tells them apart"
        yield WarningSign("unit unknown", text, fix)


def _pooled(summary: Summary) -> Iterator[WarningSign]:
    if summary.cells > 1:
        yield WarningSign(
            "pooled",
            f"{summary.cells} different cells pooled",
            "name more axes with --by to tell them apart",
        )


def _mixed(summary: Summary) -> Iterator[WarningSign]:
    """Warn of trials of one cell that come from different machines or versions."""
    if summary.cells > 1:
        return
    for column, what in _COLUMNS_THAT_SHOULD_AGREE.items():
        values = sorted({str(value) for value in summary.column(column) if value is not None})
        if len(values) > 1:
            # --where splits unquoted values at commas.
            first = f'"{values[0]}"' if "," in values[0] else values[0]
            choice = f"choose one with --where '{column}={first}'"
            fix = f"compare only what was measured alike: {choice}"
            yield WarningSign("mixed", f"{len(values)} {what}: {', '.join(values)}", fix)


def _threads(summary: Summary) -> Iterator[WarningSign]:
    """Warn of trials that used another number of threads than their settings ask for."""
    settings = summary.column("settings")
    wanted = {text: json.loads(text).get("threads") for text in set(settings) if text}
    wrong = Counter(
        (threads, wanted[text])
        for threads, text in zip(summary.column("threads"), settings, strict=False)
        if threads and wanted.get(text) and wanted[text] != threads
    )
    fix = "give the trials as many cores as threads, in the grid's resources"
    for (used, asked), count in wrong.items():
        text = f"{_trials(count)} computed with {counted(used, 'thread')}, not {shown(asked)}"
        yield WarningSign("threads", text, fix)


def _old_blas(summary: Summary) -> Iterator[WarningSign]:
    """Warn of an OpenBLAS that is older than the CPU and uses kernels for a CPU of 2004.

    These kernels reach at most a quarter of the speed.
    """
    count = sum(1 for blas in summary.column("blas") if blas and _FALLBACK_CORE in blas)
    if count:
        problem = f"does not know this CPU and computes as for a {_FALLBACK_CORE}"
        example = "OPENBLAS_CORETYPE=Haswell sweep run …"
        yield WarningSign(
            "old BLAS",
            f"the OpenBLAS of {_trials(count)} {problem}",
            f"name a core that it knows, as {example}, or compare it with nothing",
        )


def _contaminated(summary: Summary) -> Iterator[WarningSign]:
    """Warn of trials that lost time to the hypervisor or to other processes."""
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


def _switched(summary: Summary) -> Iterator[WarningSign]:
    """Warn of trials whose threads the kernel interrupted very often."""
    switches, walls = summary.column("involuntary_switches"), summary.column("wall_s")
    rates = [s / w for s, w in zip(switches, walls, strict=False) if s and w]
    count = sum(1 for rate in rates if rate > SWITCHES_MANY_PER_S)
    if count:
        limit = f"{SWITCHES_MANY_PER_S:,.0f} times a second"
        text = f"{_trials(count)} thrown off their cores over {limit}"
        yield WarningSign("contaminated", text, "use no more threads than cores")


def _unsteady(summary: Summary) -> Iterator[WarningSign]:
    """Warn of processes that are not in a steady state."""
    if not _is_duration(summary):
        return
    rows = _analysed_rows(summary)
    screening = steadiness.screen(rows)
    states = _steady_states(rows, screening)
    kinds = Counter(state.kind for state in states)
    start = max((state.start for state in states if state.kind == "warm-up"), default=0)
    messages = _unsteady_messages(_has_sample_count(summary), start)
    for kind, (text, fix) in messages.items():
        if kinds[kind]:
            yield WarningSign(kind, f"{kinds[kind]} of {len(states)} processes {text}", fix)
    if screening.together and not any(kinds[kind] for kind in messages):
        yield from _common_trend(rows)


def _unsteady_messages(
    has_sample_count: bool, start: int
) -> dict[steadiness.Steadiness, tuple[str, str]]:
    """Return the text and the fix for each kind of unsteady process.

    `start` is the first steady sample of the process that warms up the longest.
    """
    if has_sample_count:
        settling = f"set aside {start} more samples: raise parameters: warmup by {start}"
        longer = "take more samples: raise parameters: samples"
    else:
        settling = f"the first {start} count too: the median bears them"
        longer = "take more samples: raise parameters: epochs"
    return {
        "warm-up": ("still warming up", settling),
        "slowdown": ("getting slower as they run", _HEAT_OR_MEMORY),
        "none": ("never steady", longer),
    }


def _common_trend(rows: Sequence[Floats]) -> Iterator[WarningSign]:
    """Warn of a trend that no process shows by itself, but all together do."""
    trend = steadiness.trend_of_all(rows)
    if not trend.is_sure():
        return
    change = f"by {abs(trend.change):.1%} within a process, all together"
    if trend.change > 0:
        yield WarningSign("slowdown", f"samples rise {change}", _HEAT_OR_MEMORY)
    else:
        fix = "set aside more samples: raise parameters: warmup"
        yield WarningSign("warm-up", f"samples fall {change}", fix)


def _is_duration(summary: Summary) -> bool:
    """Whether the values should be equal: a loss should fall, and elapsed time grows."""
    return summary.unit == "s" and summary.metric not in _RUNNING_TOTALS


def _has_sample_count(summary: Summary) -> bool:
    """Whether the settings fix the number of samples, which they do not for a training's epochs."""
    return all("samples" in json.loads(text) for text in set(summary.column("settings")) if text)


def _steady_states(
    rows: Sequence[Floats], screening: steadiness.Screening
) -> list[steadiness.SteadyState]:
    """Return the steady state of each process; those that pass the screening are flat."""
    flat = steadiness.SteadyState("flat", 0)
    return [
        steadiness.steady_state(row) if is_uneven else flat
        for row, is_uneven in zip(rows, screening.uneven, strict=True)
    ]


def _analysed_rows(summary: Summary) -> list[Floats]:
    """Return the samples of at most `_MOST_ANALYSED` processes, evenly spread over all."""
    rows = summary.by_trial()
    return rows[:: max(1, math.ceil(len(rows) / _MOST_ANALYSED))]


def _two_modes(summary: Summary) -> Iterator[WarningSign]:
    """Warn of processes, or else of samples, that form two groups."""
    if summary.cells > 1:
        return
    if modes := statistics.two_modes(summary.trial_means):
        text = f"processes fall into two groups, {modes[1] / modes[0] - 1:.0%} apart"
        fix = "see which with sweep show: node, cores or memory placement may decide it"
        yield WarningSign("bimodal", text, fix)
    elif (modes := statistics.two_modes(summary.samples)) and not _explains_modes(summary):
        text = f"samples fall into two groups, {modes[1] / modes[0] - 1:.0%} apart"
        fix = "the mean lies where no sample is: look at the distribution with sweep plot"
        yield WarningSign("bimodal", text, fix)


def _explains_modes(summary: Summary) -> bool:
    """Whether an outlying trial or an unsteady process accounts for two groups of samples."""
    if len(influence.of_trials(summary.trial_means).places):
        return True
    rows = _analysed_rows(summary)
    states = _steady_states(rows, steadiness.screen(rows))
    return any(state.kind not in ("flat", "unknown") for state in states)


def _outliers(summary: Summary) -> Iterator[WarningSign]:
    """Warn of single samples, and of single trials, that determine the mean."""
    if summary.cells > 1:
        return
    means = summary.trial_means
    if summary.processes and _is_duration(summary):
        sizes = np.array([len(row) for row in summary.by_trial()])
        outliers = influence.of_samples(summary.samples, sizes)
        if len(outliers.places):
            trials = np.searchsorted(np.cumsum(sizes), outliers.places, side="right")
            yield _outlier_warning(summary, outliers, "sample", summary.samples, trials)
            # A trial is an outlier only if it is one without its outlying samples.
            means = influence.without_samples(summary.samples, sizes, outliers.places)
    if not statistics.two_modes(means):
        outliers = influence.of_trials(means)
        if len(outliers.places):
            yield _outlier_warning(summary, outliers, "trial", means, outliers.places)


def _outlier_warning(
    summary: Summary,
    outliers: influence.Influence,
    noun: str,
    values: Floats,
    trials: Ints,
) -> WarningSign:
    """Return the warning about outliers among `values`; `trials` are those that hold them."""
    count = len(outliers.places)
    extreme = values[outliers.places]
    farthest = quantity(float(extreme.max() if outliers.share > 0 else extreme.min()), summary.unit)
    median = quantity(float(np.median(values)), summary.unit)
    subject = f"{count} of {len(values)} {noun}s{_seeds_note(summary, trials)}"
    verb = "makes" if count == 1 else "make"
    effect = f"the mean {_relative_size(outliers.share)}"
    text = f"{subject} {verb} {effect}: {farthest} where the median is {median}"
    fix = "see why with sweep show; the median bears it, and more seeds weigh it less"
    return WarningSign("outlier", text, fix)


def _seeds_note(summary: Summary, trials: Ints) -> str:
    """Return the first seeds of some trials, as in ` (seed 3, 5)`; "" where there are none."""
    seeds = summary.column("seed")
    if not seeds:
        return ""
    named = ", ".join(dict.fromkeys(str(seeds[trial]) for trial in trials[:_MOST_NAMED]))
    more = " …" if len(trials) > _MOST_NAMED else ""
    return f" (seed {named}{more})"


def _relative_size(share: float) -> str:
    if share < 0:
        return f"{-share:.1%} less"
    return f"{share:.1%} greater" if share < 1 else f"{1 + share:.3g} times as great"


_NO_RETRY = (
    "see sweep status for why: "
    "change the grid, or with a machine that can, use sweep run --retry failed"
)


def _retry(what: str) -> str:
    return f"see sweep status for why, then sweep run --retry {what}"


def _trials(count: int) -> str:
    return counted(count, "trial")


def group_warnings(
    warnings: Sequence[tuple[str, WarningSign]],
) -> list[tuple[WarningSign, list[str]]]:
    """Return each distinct warning with the cells that it is about."""
    cells: dict[WarningSign, list[str]] = {}
    for cell, warning in warnings:
        cells.setdefault(warning, []).append(cell)
    return list(cells.items())
