"""Refusals: why a trial is not timed, raised by frameworks and workloads.

Each has the `status` of the trial's record.
"""


class Refusal(Exception):  # noqa: N818
    """A trial that ran correctly and must not be timed."""

    status = "failed"


class Unsupported(Refusal):
    """This version, build or machine lacks what the settings require."""

    status = "unsupported"


class NotComparable(Refusal):
    """The framework computes something else than the reference, so its time means nothing."""

    status = "not_comparable"


class Unusable(Refusal):
    """The data set cannot be used with these settings."""


class Diverged(Refusal):
    """The loss of a training became NaN or infinite."""
