"""Timing: samples of a step, forward and backward, on a monotonic clock.

During a sample the batch is on the device, and the garbage collector is off. The device is idle
when a sample begins. Forward ends when the loss is computed, backward when all gradients are: the
device is synchronized at both ends. What `prepare` does, such as clearing gradients, is not timed.
Nothing is allocated between two clock readings that need not be.
"""

import gc
import time
from typing import Any, Callable, Dict, List, Optional

# Relative difference allowed between the wall clock and the device's own clock.
AGREEMENT = 0.05
# What starting and waiting for the device may add to the wall clock.
SLACK_S = 50e-6


def measure(
    forward: Callable[[], Any],
    backward: Callable[[Any], None],
    prepare: Callable[[], None],
    synchronize: Callable[[], None],
    samples: int,
    warmup: int,
    events: Optional[Any] = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[str, List[Any]]:
    """Return the seconds of `samples` steps after `warmup` steps, and whether each is valid.

    The columns are forward_s, backward_s, step_s, device_s, warmup_s and valid. `events` is the
    device's own clock, if it has one: `events.record()` marks a point of the device's work, and
    `events.elapsed_s(a, b)` returns the time between two marks once the device is synchronized. A
    sample is invalid if its step takes another time on that clock than on the wall clock.
    """
    total = warmup + samples
    started, turned, ended = [0.0] * total, [0.0] * total, [0.0] * total
    marks = [(None, None)] * total  # type: List[Any]
    mark = events.record if events is not None else _no_mark
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for i in range(total):
            prepare()
            synchronize()
            first = mark()
            started[i] = clock()
            loss = forward()
            synchronize()
            turned[i] = clock()
            backward(loss)
            last = mark()
            synchronize()
            ended[i] = clock()
            marks[i] = (first, last)
            del loss
    finally:
        if collecting:
            gc.enable()
    on_device = [events.elapsed_s(*pair) for pair in marks[warmup:]] if events is not None else []
    return _columns(started, turned, ended, on_device, warmup)


def _columns(
    started: List[float],
    turned: List[float],
    ended: List[float],
    on_device: List[float],
    warmup: int,
) -> Dict[str, List[Any]]:
    """Return columns from clock readings: begin of forward, begin and end of backward."""
    steps = [end - start for start, end in zip(started, ended)]
    samples = steps[warmup:]
    # Without a device's own clock, nothing contradicts the wall clock.
    valid = [agree(wall, device) for wall, device in zip(samples, on_device)]
    return {
        "forward_s": [turn - start for start, turn in zip(started, turned)][warmup:],
        "backward_s": [end - turn for turn, end in zip(turned, ended)][warmup:],
        "step_s": samples,
        "warmup_s": steps[:warmup],
        "device_s": on_device,
        "valid": valid or [True] * len(samples),
    }


def agree(wall_s: float, device_s: float) -> bool:
    """Return whether two clocks measured the same step, up to AGREEMENT or SLACK_S."""
    return abs(wall_s - device_s) <= max(AGREEMENT * wall_s, SLACK_S)


def _no_mark() -> None:
    return None
