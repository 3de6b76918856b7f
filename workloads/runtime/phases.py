"""Phases: samples of a step that consists of named parts, each part timed by itself.

The rules of `workloads.runtime.timing` hold: the device is idle when a sample begins, the garbage
collector is off, and nothing is allocated between two clock readings that need not be. A phase ends
when the device is idle and the value that it returned is computed.
"""

import gc
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from workloads.runtime import timing


class Phase(NamedTuple):
    """One part of a step.

    `takes_previous` says whether it is called with the result of the phase before it.
    """

    name: str
    call: Callable[..., Any]
    takes_previous: bool


class StepDevice(NamedTuple):
    """Where a user's own step computes, as `step_device` of a framework's file returns it.

    `name` is the framework's name of it. `synchronize(value)` waits until it is idle and `value` is
    computed. `events` is its own clock, as in `timing.measure`, or None. `facts()` returns columns
    of the record.
    """

    name: str
    synchronize: Callable[[Any], None]
    events: Optional[Any]
    facts: Callable[[], Dict[str, Any]]


class Readings(NamedTuple):
    """Clock readings of all steps: the beginning of each, and the end of each of its phases."""

    started: List[float]
    ended: List[List[float]]


def measure(
    phases: Sequence[Phase],
    synchronize: Callable[[Any], None],
    samples: int,
    warmup: int,
    keep_result: Callable[[Any], None],
    events: Optional[Any] = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[str, Any]:
    """Return the seconds of `samples` steps after `warmup` steps, and of the very first: columns.

    `synchronize(value)` waits for the device and for `value`. `keep_result` is called with the
    result of the first phase, in the last step before the samples. `events` is the device's own
    clock, as in `timing.measure`.
    """
    # The very first step is separate: compilation takes place there.
    before = 1 + warmup
    total = before + samples
    readings = Readings([0.0] * total, [[0.0] * total for _ in phases])
    marks = [(None, None)] * total  # type: List[Any]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for i in range(total):
            hear = keep_result if i == before - 1 else _nothing
            marks[i] = _step(phases, synchronize, i, readings, hear, events, clock)
    finally:
        if collecting:
            gc.enable()
    on_device = [events.elapsed_s(*pair) for pair in marks[before:]] if events is not None else []
    return _columns(phases, readings, on_device, before)


def _step(
    phases: Sequence[Phase],
    synchronize: Callable[[Any], None],
    i: int,
    readings: Readings,
    hear_first: Callable[[Any], None],
    events: Optional[Any],
    clock: Callable[[], float],
) -> Any:
    """Run every phase once; return two marks of the device's clock, before and after."""
    ended, last = readings.ended, len(phases) - 1
    mark = events.record if events is not None else _no_mark
    value = first_value = end = None
    synchronize(None)
    start = mark()
    readings.started[i] = clock()
    for number, phase in enumerate(phases):
        value = phase.call(value) if phase.takes_previous else phase.call()
        if number == 0:
            first_value = value
        if number == last:
            end = mark()
        synchronize(value)
        ended[number][i] = clock()
    hear_first(first_value)
    return start, end


def _columns(
    phases: Sequence[Phase], readings: Readings, on_device: List[float], before: int
) -> Dict[str, Any]:
    """Return the columns of a record; several phases have their own columns."""
    started, ended = readings
    steps = [end - start for start, end in zip(started, ended[-1])]
    columns = {
        "first_step_s": steps[0],
        "warmup_s": steps[1:before],
        "step_s": steps[before:],
        "device_s": on_device,
        "valid": [timing.agree(wall, device) for wall, device in zip(steps[before:], on_device)]
        or [True] * len(steps[before:]),
    }  # type: Dict[str, Any]
    begins = [started] + ended[:-1]
    if len(phases) > 1:
        for phase, begin, end in zip(phases, begins, ended):
            columns[phase.name + "_s"] = [b - a for a, b in zip(begin, end)][before:]
    return columns


def _no_mark() -> None:
    return None


def _nothing(_: Any) -> None:
    return None
