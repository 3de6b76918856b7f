"""Resuming a run: which recorded trials run again because what they measured has changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep import measured
from sweep.grid import Trial, identify

if TYPE_CHECKING:
    from sweep.records.results import Results

COLUMNS = ("trial_id", "settings", "content", "started_at")


class _Change(NamedTuple):
    """What has changed, in words, and whether the records say what they measured."""

    what: str
    is_known: bool


def change_lines(
    results: Results, planned: Collection[Trial], todo: Sequence[Trial], recorded: Collection[str]
) -> list[str]:
    """Return a line per change since trials of this run were `recorded`.

    The records are read only if there may be a change: if some recorded trial is no longer planned.
    """
    if not todo or not {*recorded} - {trial.id for trial in planned}:
        return []
    return changes(planned, todo, results.records(COLUMNS).to_pydict())


def changes(
    planned: Collection[Trial], todo: Sequence[Trial], records: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Return a line per change since trials with the same settings were last recorded.

    `records` are those of the run, by COLUMNS. They remain under their own ids.
    """
    ids = {trial.id for trial in planned}
    anew = {identify(trial.settings): trial for trial in todo}
    last: dict[str, tuple[Any, str]] = {}
    for trial_id, settings, content, started in zip(
        *(records[name] for name in COLUMNS), strict=True
    ):
        key = "" if trial_id in ids else identify(json.loads(settings or "{}"))
        if key in anew:
            recorded = (started.timestamp() if started else 0.0, content or "{}")
            last[key] = max(recorded, last.get(key, recorded))
    counts = Counter(_change(json.loads(content), anew[key]) for key, (_, content) in last.items())
    return [_line(change, count) for change, count in counts.items()]


def _change(content: Mapping[str, str], trial: Trial) -> _Change:
    what = measured.differences(content, trial.cell.content, trial.settings)
    return _Change(" and ".join(what), is_known=bool(content) or not trial.cell.content)


def _line(change: _Change, count: int) -> str:
    trials = "1 trial" if count == 1 else f"{count} trials"
    stay = f"stay in the run as they were, {count} run anew"
    if change.is_known:
        has = "have" if " and " in change.what else "has"
        return f"{change.what} {has} changed since {trials} ran: they {stay}"
    return (
        f"{trials} of {change.what} do not say what they measured,"
        f" as an earlier version wrote them: they {stay}"
    )
