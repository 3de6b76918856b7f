"""Progress of a sweep on stderr: a live panel on a terminal, plain lines elsewhere."""

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
_DETAILS = 4  # trials whose own progress is shown
_LONGEST_FACT = 80  # characters
_LONGEST_S = 1e10  # three hundred years
# The display runs on the machine that is timed, so it is redrawn rarely.
_REFRESH_PER_S = 1.0

_P = ParamSpec("_P")
_D = TypeVar("_D", bound="Display")


def _never_raising(
    method: Callable[Concatenate[_D, _P], None],
) -> Callable[Concatenate[_D, _P], None]:
    """Make a method of a display stop the display, with one warning, if it raises."""

    @functools.wraps(method)
    def guarded(self: _D, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.failed:
            return
        try:
            method(self, *args, **kwargs)
        # Any error: hours of measurement must not end because of the display.
        except Exception as error:  # noqa: BLE001
            self.failed = True
            output.warn(
                f"progress is no longer shown ({type(error).__name__}: {error}); the sweep goes on"
            )

    return guarded


class Display:
    """What a sweep shows while it runs.

    `planned` is called once per round, `started` and `ended` once per trial, `note` at any time.
    None of them raises: a display that fails is given up, and the sweep continues.
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
        """Show the number of trials, of which `done` have a record already."""
        self._total, self._done, self._remaining_s = total, done, remaining_s
        self._changed()

    @_never_raising
    def started(self, device: str) -> None:
        """Count one more running trial."""
        self._running[device] += 1
        self._changed()

    @_never_raising
    def ended(self, record: Mapping[str, Any], remaining_s: float | None) -> None:
        """Count one more record; a failure is shown at once."""
        device = str(record.get("device"))
        # A trial that fails before it starts was never counted as running.
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
        """Discount one trial that has ended and will be run again."""
        self._done -= 1

    @_never_raising
    def detail(self, trial_name: str, facts: Mapping[str, Any]) -> None:
        """Show the progress that a long trial reports, such as epoch and loss; {} clears it."""
        if facts:
            self._details[trial_name] = progress(facts)
        else:
            self._details.pop(trial_name, None)
        self._changed()

    @_never_raising
    def note(self, text: str) -> None:
        """Show a line of text."""
        output.say(text)

    def _changed(self) -> None:
        """Called after any change; subclasses redraw."""

    def _shown_details(self) -> list[str]:
        return [
            printable(f"{name}: {text}") for name, text in sorted(self._details.items())[:_DETAILS]
        ]

    def _status_text(self) -> str:
        parts = [f"{self._done}/{self._total} trials"]
        running = [f"{n} on {device}" for device, n in sorted(self._running.items()) if n]
        if running:
            parts.append(f"running {', '.join(running)}")
        if self._failures:
            parts.append(", ".join(f"{n} {status}" for status, n in sorted(self._failures.items())))
        if self._done < self._total:
            parts.append(eta(self._remaining_s))
        return " · ".join(parts)


class LineDisplay(Display):
    """For logs and pipes: a line at most every ten seconds, and always the last one."""

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
    """For terminals: a bar, running trials, failures and the remaining time."""

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
    """Return the display that suits stderr."""
    return LiveDisplay(name) if output.is_terminal() else LineDisplay(name)


def eta(remaining_s: float | None) -> str:
    """Return the remaining time as text; None if no trial has ended yet."""
    if remaining_s is None:
        return "ETA once a trial has ended"
    return f"ETA {duration(remaining_s)}"


def duration(seconds: float) -> str:
    """Return seconds as text: `42 s`, `3 min 10 s`, `5 h 20 min`, `2 d 4 h`, or `unknown`."""
    # `not <` also covers NaN and integers too large for a float.
    if not abs(seconds) < _LONGEST_S:
        return "unknown"
    whole = round(seconds)
    for unit, size, smaller_unit, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            smaller = f" {rest} {smaller_unit}" if rest else ""
            return f"{whole // size} {unit}{smaller}"
    return f"{whole} s"


def progress(facts: Mapping[str, Any]) -> str:
    """Return the progress that a trial reports: `epoch 3 of 10, loss 0.02135, 4 min 10 s left`.

    A fact called `epochs` is the total of one called `epoch`.
    """
    totals = {f"{name}s" for name in facts}
    return ", ".join(
        _fact_text(name, value, facts) for name, value in facts.items() if name not in totals
    )


def _fact_text(name: str, value: Any, facts: Mapping[str, Any]) -> str:
    if name == "eta_s" and isinstance(value, int | float):
        return f"{duration(value)} left"
    total = f" of {_short(facts[f'{name}s'])}" if f"{name}s" in facts else ""
    return f"{name} {_short(value)}{total}"


def _short(value: Any) -> str:
    """Return a value on one short line: a workload may report anything."""
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST_FACT else f"{text[: _LONGEST_FACT - 1]}…"


def _failure_line(record: Mapping[str, Any]) -> str:
    line = f"{record['status']}: {record['trial_name']}"
    error = str(record.get("error") or "").strip().splitlines()
    return f"{line}: {error[-1]}" if error else line
