"""How a trial ends: its status, whether it has times, and which `--retry` runs it again."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping


class Retry(enum.StrEnum):
    """Which trials run again that have a record."""

    FAILED = "failed"
    INVALID = "invalid"
    TIMEOUT = "timeout"
    ALL = "all"

    @property
    def statuses(self) -> frozenset[Status]:
        """The statuses whose trials it runs again."""
        return frozenset(each for each in Status if each.retry and self in (each.retry, Retry.ALL))


class Status(enum.StrEnum):
    """How a trial ended, as its record says it. Workers send the same words; a member equals its text."""

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
    def _missing_(cls, value: object) -> Status:  # noqa: ARG003  whatever it is
        """A word that is no status, from a plug-in or a later version: the trial gave no times."""
        return cls.FAILED

    @property
    def is_failure(self) -> bool:
        """Whether the trial itself went wrong: not where it went well, nor where others disturbed it."""
        return self not in (Status.OK, Status.INVALID)

    @property
    def is_of_its_own(self) -> bool:
        """Whether the reason for a failure is the trial's own, and not its environment, its plan or its neighbours."""
        return self.is_failure and self not in (Status.ENV_FAILED, Status.UNSUPPORTED)

    @property
    def retry(self) -> Retry | None:
        """The narrowest `--retry` that runs such a trial again; None where nothing went wrong."""
        if self is Status.OK:
            return None
        return _OWN_RETRY.get(self, Retry.FAILED)


_OWN_RETRY = {Status.TIMEOUT: Retry.TIMEOUT, Status.INVALID: Retry.INVALID}


def retry_for(statuses: Iterable[str]) -> Retry | None:
    """The narrowest `--retry` that runs again all that ended so; None where all went well."""
    wanted = {Status(status).retry for status in statuses} - {None}
    return wanted.pop() if len(wanted) == 1 else Retry.ALL if wanted else None


def without_times(counts: Mapping[str, int]) -> int:
    """Of trials counted by status, how many did not end `ok`."""
    return sum(count for status, count in counts.items() if status != Status.OK)


def failed_of_their_own(counts: Mapping[str, int]) -> dict[str, int]:
    """Of trials counted by status, those that failed for a reason of their own."""
    others = {status for status in Status if not status.is_of_its_own}
    return {status: count for status, count in counts.items() if status not in others}


def all_ok(statuses: Collection[str]) -> bool:
    return not set(statuses) - {Status.OK}
