"""Refusals: why a trial is not timed, raised by frameworks and workloads, told by `status` in the trial's record."""


class Refusal(Exception):  # noqa: N818  what happened, said as records say it
    """A trial that ran as it should and must not be timed."""

    status = "failed"


class Unsupported(Refusal):
    """This version, build or machine has not what the settings ask for."""

    status = "unsupported"


class NotComparable(Refusal):
    """The framework computes something else than the reference does, so that its time would mean nothing."""

    status = "not_comparable"


class Unusable(Refusal):
    """The data set cannot be used with these settings."""


class Diverged(Refusal):
    """Training has come to numbers that are none."""
