"""Resume: what runs anew although it has records, since what they measured has changed, said in a line each."""

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


def said(
    results: Results, planned: Collection[Trial], todo: Sequence[Trial], recorded: Collection[str]
) -> list[str]:
    """A line for each thing that has changed since trials of this run were `recorded`; read only where need be."""
    if not todo or not {*recorded} - {trial.id for trial in planned}:
        return []
    return changes(planned, todo, results.records(COLUMNS).to_pydict())


def changes(
    planned: Collection[Trial], todo: Sequence[Trial], records: Mapping[str, Sequence[Any]]
) -> list[str]:
    """A line for each thing that has changed since trials with the same settings were last recorded.

    `records` are those of the run, by COLUMNS; they stay as they are, under ids of their own.
    """
    ids = {trial.id for trial in planned}
    anew = {identify(trial.settings): trial for trial in todo}
    last: dict[str, tuple[Any, str]] = {}
    for trial_id, settings, content, started in zip(
        *(records[name] for name in COLUMNS), strict=True
    ):
        key = "" if trial_id in ids else identify(json.loads(settings or "{}"))
        if key in anew:
            told = (started.timestamp() if started else 0.0, content or "{}")
            last[key] = max(told, last.get(key, told))
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
    return f"{trials} of {change.what} do not say what they measured, as an earlier version wrote them: they {stay}"
