"""Timing: samples of a step, forward and backward, on a clock that only goes forward.

A sample, between two readings: the batch lies on the device, the device is idle, the garbage collector is off. Forward
ends when the loss is there, backward when all gradients are: the device is waited for at both ends. Clearing gradients
and whatever else `prepare` does is outside.
"""

import gc
import time
from typing import Any, Callable, Dict, List, Optional

AGREEMENT = 0.05  # relative, between the wall clock and the device's own
SLACK_S = 50e-6  # what starting and waiting may add to the wall clock


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
    """Seconds of `samples` steps after `warmup` ones: forward_s, backward_s, step_s, device_s, warmup_s; and valid.

    `events` is the device's own clock, where it has one: `events.record()` marks a point of the device's work,
    `events.elapsed_s(a, b)` tells what lies between two marks once the device was waited for. A sample whose step takes
    another time on it than on the wall clock is not valid.
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
    steps = [end - start for start, end in zip(started, ended)]
    on_device = [events.elapsed_s(*pair) for pair in marks[warmup:]] if events is not None else []
    return {
        "forward_s": [turn - start for start, turn in zip(started, turned)][warmup:],
        "backward_s": [end - turn for turn, end in zip(turned, ended)][warmup:],
        "step_s": steps[warmup:],
        "warmup_s": steps[:warmup],
        "device_s": on_device,
        "valid": [agree(wall, device) for wall, device in zip(steps[warmup:], on_device)]
        or [True] * samples,
    }


def agree(wall_s: float, device_s: float) -> bool:
    """Whether two clocks saw the same step: apart by at most AGREEMENT, or by what starting and waiting cost."""
    return abs(wall_s - device_s) <= max(AGREEMENT * wall_s, SLACK_S)


def _no_mark() -> None:
    return None
