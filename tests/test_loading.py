"""Loading: batches are made ahead, few at a time, and what goes wrong is not lost."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from workloads.runtime.loading import Loader


def test_batches_come_in_order() -> None:
    loader = Loader(lambda n: n * n, range(5))
    assert [loader.next() for _ in range(5)] == [0, 1, 4, 9, 16]
    loader.close()


def test_no_more_than_one_waits_and_one_is_made_while_one_is_in_use() -> None:
    made: list[int] = []
    loader = Loader(lambda n: made.append(n) or n, itertools.count())  # type: ignore[func-returns-value]
    assert loader.next() == 0
    time.sleep(0.2)
    assert len(made) == 3
    loader.close()


def test_what_goes_wrong_is_raised_where_the_batch_is_wanted() -> None:
    loader = Loader(lambda n: 1 // (1 - n), range(3))
    assert loader.next() == 1
    with pytest.raises(ZeroDivisionError):
        loader.next()
    loader.close()


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    loader = Loader(lambda n: n, itertools.count())
    loader.next()
    loader.close()
    assert threading.active_count() == before
