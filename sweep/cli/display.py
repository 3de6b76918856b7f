"""Progress of a sweep: a live panel on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from sweep.cli import output
from sweep.status import Status
from sweep.texts import printable

_LINE_EVERY_S = 10.0
_DETAILS = 4
_LONGEST_FACT = 80
_LONGEST_S = 1e10  # three hundred years
_REFRESH_PER_S = 1.0  # the display shares the machine with what is timed

_P = ParamSpec("_P")
_D = TypeVar("_D", bound="Display")


def _never_raising(
    method: Callable[Concatenate[_D, _P], None],
) -> Callable[Concatenate[_D, _P], None]:
    """A method of a display that gives up telling, once and with a warning, instead of ending the sweep."""

    @functools.wraps(method)
    def told(self: _D, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.failed:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  whatever it is: hours of measuring must not end with it
            self.failed = True
            output.warn(
                f"progress is no longer shown ({type(error).__name__}: {error}); the sweep goes on"
            )

    return told


class Display:
    """What the sweep tells while it runs: `planned` once, `started` and `ended` per trial, `note` in between.

    None of these raises: a display that fails is given up, and the sweep goes on.
    """

    failed = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._total = self._done = 0
        self._remaining_s: float | None = None
        self._details: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @_never_raising
    def planned(self, total: int, done: int, remaining_s: float | None) -> None:
        self._total, self._done, self._remaining_s = total, done, remaining_s
        self._changed()

    @_never_raising
    def started(self, device: str) -> None:
        self._running[device] += 1
        self._changed()

    @_never_raising
    def ended(self, record: Mapping[str, Any], remaining_s: float | None) -> None:
        device = str(record.get("device"))
        self._running[device] = max(0, self._running[device] - 1)
        self._done += 1
        self._remaining_s = remaining_s
        self._details.pop(str(record["trial_name"]), None)
        if record["status"] != Status.OK:
            self._failures[record["status"]] += 1
            self.note(_failure_line(record))
        self._changed()

    @_never_raising
    def again(self) -> None:
        """A trial that has ended is to be run once more."""
        self._done -= 1

    @_never_raising
    def detail(self, trial_name: str, facts: Mapping[str, Any]) -> None:
        """What a long trial says of itself: its epoch, its loss; nothing where it has nothing to say any more."""
        if facts:
            self._details[trial_name] = progress(facts)
        else:
            self._details.pop(trial_name, None)
        self._changed()

    @_never_raising
    def note(self, text: str) -> None:
        output.say(text)

    def _changed(self) -> None:
        """Something to show has changed."""

    def _shown_details(self) -> list[str]:
        return [
            printable(f"{name}: {text}") for name, text in sorted(self._details.items())[:_DETAILS]
        ]

    def _status_text(self) -> str:
        parts = [f"{self._done}/{self._total} trials"]
        running = {device: n for device, n in self._running.items() if n}
        if running:
            parts.append(
                "running " + ", ".join(f"{n} on {device}" for device, n in sorted(running.items()))
            )
        if self._failures:
            parts.append(", ".join(f"{n} {status}" for status, n in sorted(self._failures.items())))
        if self._done < self._total:
            seconds = self._remaining_s
            parts.append(
                "ETA once a trial has ended" if seconds is None else f"ETA {duration(seconds)}"
            )
        return " · ".join(parts)


class LineDisplay(Display):
    """For logs and pipes: a line every ten seconds at most, and the last one always."""

    _last_line = -_LINE_EVERY_S
    _last_text = ""

    def __exit__(self, *_: object) -> None:
        if self._total and self._status_text() != self._last_text:
            self._say()

    def _changed(self) -> None:
        if time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._say()

    def _say(self) -> None:
        self._last_line = time.monotonic()
        self._last_text = self._status_text()
        output.say(" · ".join([f"{self._name}: {self._last_text}", *self._shown_details()]))


class LiveDisplay(Display):
    """For terminals: a bar, what runs, what failed, how long it will take."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=output.stderr,
        )
        self._task = self._bar.add_task(printable(name), total=None)
        self._live = Live(
            self,
            console=output.stderr,
            refresh_per_second=_REFRESH_PER_S,
            redirect_stdout=False,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _changed(self) -> None:
        self._bar.update(self._task, completed=self._done, total=self._total or None)

    def __rich__(self) -> RenderableType:
        details = [Text(f"  {detail}", style="dim") for detail in self._shown_details()]
        return Group(self._bar, Text("  " + self._status_text()), *details)


def display(name: str) -> Display:
    return LiveDisplay(name) if output.is_terminal() else LineDisplay(name)


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 10 s`, `5 h 20 min`, `2 d 4 h`; `unknown` where no number is."""
    if not abs(seconds) < _LONGEST_S:  # nor is NaN, or an integer too large for a float
        return "unknown"
    whole = round(seconds)
    for unit, size, below, smaller in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {below}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def progress(facts: Mapping[str, Any]) -> str:
    """What a trial says of itself, as people say it: `epoch 3 of 10, loss 0.02135, 4 min 10 s left`."""
    totals = {f"{name}s" for name in facts}
    return ", ".join(
        _told(name, value, facts) for name, value in facts.items() if name not in totals
    )


def _told(name: str, value: Any, facts: Mapping[str, Any]) -> str:
    if name == "eta_s" and isinstance(value, int | float):
        return f"{duration(value)} left"
    of = f" of {_short(facts[f'{name}s'])}" if f"{name}s" in facts else ""
    return f"{name} {_short(value)}{of}"


def _short(value: Any) -> str:
    """A value on one line: a workload may say anything of itself."""
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST_FACT else f"{text[: _LONGEST_FACT - 1]}…"


def _failure_line(record: Mapping[str, Any]) -> str:
    last = str(record.get("error") or "").strip().splitlines()
    return f"{record['status']}: {record['trial_name']}" + (f": {last[-1]}" if last else "")
