"""How a trial ends: its status, whether it has times, and which `--retry` repeats it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping


class Retry(enum.StrEnum):
    """Which recorded trials run again."""

    FAILED = "failed"
    INVALID = "invalid"
    TIMEOUT = "timeout"
    ALL = "all"

    @property
    def statuses(self) -> frozenset[Status]:
        """The statuses of the trials that run again."""
        return frozenset(each for each in Status if each.retry and self in (each.retry, Retry.ALL))


class Status(enum.StrEnum):
    """How a trial ended, as in its record. A member equals its text, which workers send."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    CRASHED = "crashed"
    ENV_FAILED = "env_failed"
    UNSUPPORTED = "unsupported"
    NOT_COMPARABLE = "not_comparable"
    INVALID = "invalid"

    @classmethod
    def _missing_(cls, value: object) -> Status:  # noqa: ARG003
        """Take an unknown status, of a plug-in or a later version, as `failed`: it has no times."""
        return cls.FAILED

    @property
    def is_failure(self) -> bool:
        """Whether the trial itself went wrong, and was not just disturbed by others."""
        return self not in (Status.OK, Status.INVALID)

    @property
    def is_of_its_own(self) -> bool:
        """Whether the trial failed by itself: not by its environment, plan or neighbours."""
        return self.is_failure and self not in (Status.ENV_FAILED, Status.UNSUPPORTED)

    @property
    def retry(self) -> Retry | None:
        """The narrowest `--retry` that repeats such a trial; None if nothing went wrong."""
        if self is Status.OK:
            return None
        return _OWN_RETRY.get(self, Retry.FAILED)


_OWN_RETRY = {Status.TIMEOUT: Retry.TIMEOUT, Status.INVALID: Retry.INVALID}


def retry_for(statuses: Iterable[str]) -> Retry | None:
    """Return the narrowest `--retry` that repeats all these trials; None if all went well."""
    wanted = {Status(status).retry for status in statuses} - {None}
    if len(wanted) > 1:
        return Retry.ALL
    return wanted.pop() if wanted else None


def without_times(counts: Mapping[str, int]) -> int:
    """Return how many of the trials, counted by status, did not end `ok`."""
    return sum(count for status, count in counts.items() if status != Status.OK)


def failed_of_their_own(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of trials that failed by themselves, by status."""
    # Unknown statuses of plug-ins are not among the others, and so count as the trial's own
    # failure.
    others = {status for status in Status if not status.is_of_its_own}
    return {status: count for status, count in counts.items() if status not in others}


def all_ok(statuses: Collection[str]) -> bool:
    """Return whether every status is `ok`."""
    return not set(statuses) - {Status.OK}
