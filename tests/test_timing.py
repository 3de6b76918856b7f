"""Timing, with a clock and a device that go as they are told."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import Any

import pytest

from workloads.runtime import timing


class Device:
    """Forward takes 2 s and backward 5 s, done only once it is waited for; the device's clock runs at `rate`."""

    def __init__(self, rate: float = 1.0, takes: tuple[float, ...] = ()) -> None:
        self.now = 100.0
        self.rate = rate
        self.takes = list(takes)
        self.pending = 0.0
        self.asked: list[str] = []

    def clock(self) -> float:
        self.asked.append("clock")
        return self.now

    def forward(self) -> str:
        self.asked.append("forward")
        self.pending += 2.0
        return "loss"

    def backward(self, loss: str) -> None:
        assert loss == "loss"
        self.asked.append("backward")
        self.pending += self.takes.pop(0) if self.takes else 5.0

    def prepare(self) -> None:
        self.asked.append("prepare")
        self.pending += (
            1.0  # left behind by clearing gradients: must be waited for before the clock is read
        )

    def synchronize(self) -> None:
        self.asked.append("synchronize")
        self.now += self.pending
        self.pending = 0.0

    def record(self) -> float:
        self.asked.append("mark")
        return self.now + self.pending

    def elapsed_s(self, first: float, last: float) -> float:
        return (last - first) * self.rate


def measured(
    device: Device, samples: int = 3, warmup: int = 2, events: bool = False
) -> dict[str, list[Any]]:
    return timing.measure(
        device.forward, device.backward, device.prepare, device.synchronize, samples, warmup,
        events=device if events else None, clock=device.clock,
    )  # fmt: skip


def test_a_step_is_forward_and_backward_and_nothing_else() -> None:
    found = measured(Device())

    assert found["forward_s"] == [2.0] * 3
    assert found["backward_s"] == [5.0] * 3
    assert found["step_s"] == [7.0] * 3


def test_the_device_is_waited_for_before_every_reading_of_the_clock() -> None:
    device = Device()
    measured(device, samples=1, warmup=0)

    assert device.asked == [
        *("prepare", "synchronize", "clock"),
        *("forward", "synchronize", "clock"),
        *("backward", "synchronize", "clock"),
    ]


def test_marks_of_the_device_enclose_the_step_alone() -> None:
    device = Device()
    measured(device, samples=1, warmup=0, events=True)

    assert device.asked[2:] == [
        "mark",
        "clock",
        "forward",
        "synchronize",
        "clock",
        "backward",
        "mark",
        *device.asked[-2:],
    ]
    assert device.asked[-2:] == ["synchronize", "clock"]


def test_warm_up_is_kept_apart() -> None:
    found = measured(Device(takes=(50.0, 40.0, 5.0, 6.0, 7.0)))

    assert found["warmup_s"] == [52.0, 42.0]
    assert found["step_s"] == [7.0, 8.0, 9.0]
    assert found["backward_s"] == [5.0, 6.0, 7.0]


def test_without_a_device_s_clock_there_are_no_device_times_and_all_samples_count() -> None:
    found = measured(Device())

    assert found["device_s"] == []
    assert found["valid"] == [True] * 3


def test_with_a_clock_of_its_own_the_device_tells_each_step() -> None:
    found = measured(Device(), events=True)

    assert found["device_s"] == [7.0] * 3
    assert found["valid"] == [True] * 3


@pytest.mark.parametrize("rate", [0.9, 1.1, 0.0])
def test_samples_on_which_the_two_clocks_disagree_are_not_valid(rate: float) -> None:
    found = measured(Device(rate), events=True)

    assert found["valid"] == [False] * 3


def test_clocks_agree_within_a_share_or_within_what_starting_costs() -> None:
    assert timing.agree(1.0, 0.96)
    assert not timing.agree(1.0, 0.94)
    assert timing.agree(100e-6, 60e-6)  # a short kernel, and the time it takes to start it
    assert not timing.agree(100e-6, 40e-6)
    assert not timing.agree(1.0, float("nan"))


def test_no_samples_are_no_samples() -> None:
    found = measured(Device(), samples=0, warmup=0, events=True)

    assert set(map(tuple, found.values())) == {()}


@pytest.mark.parametrize("fails", [False, True])
def test_the_garbage_collector_rests_meanwhile_and_goes_on_afterwards(fails: bool) -> None:
    seen = []

    def forward() -> str:
        seen.append(gc.isenabled())
        if fails:
            raise ZeroDivisionError
        return "loss"

    with contextlib.suppress(ZeroDivisionError):
        timing.measure(forward, lambda loss: None, lambda: None, lambda: None, 1, 1)

    assert set(seen) == {False}
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        measured(Device())
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_clock_only_goes_forward_and_counts_sleep() -> None:
    found = timing.measure(
        lambda: time.sleep(0.01), lambda loss: None, lambda: None, lambda: None, 2, 0
    )

    assert min(found["forward_s"]) >= 0.01
    assert min(found["backward_s"]) >= 0
