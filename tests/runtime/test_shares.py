"""Shared work: every range once, errors raised, nothing shared twice, forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from taimatsu.runtime import threads
from taimatsu.runtime.shares import share


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n} threads", autouse=True)
def count(request: pytest.FixtureRequest) -> Iterator[int]:
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.mark.parametrize(("size", "grain"), [(0, 3), (1, 3), (3, 3), (10, 3), (1000, 1)])
def test_every_element_is_in_one_range(size: int, grain: int) -> None:
    seen = np.zeros(size, int)

    def work(start: int, stop: int) -> None:
        assert 0 < stop - start <= grain
        seen[start:stop] += 1

    share(work, size, grain)
    assert (seen == 1).all()


def test_as_many_threads_as_a_program_has(count: int) -> None:
    """All of them are at work at once: each waits for the others."""
    together = threading.Barrier(count)
    share(lambda start, stop: together.wait(20), count, 1)
    assert together.n_waiting == 0


def test_an_exception_is_raised_here() -> None:
    def work(start: int, stop: int) -> None:
        if start == 6:
            raise MemoryError("six")

    with pytest.raises(MemoryError, match="six"):
        share(work, 10, 2)
    share(lambda start, stop: None, 10, 2)  # and nothing of it is left


def test_shared_work_is_not_shared_again() -> None:
    workers: dict[int, set[int]] = {}

    def work(start: int, stop: int) -> None:
        mine = workers.setdefault(start, set())
        share(lambda first, last: mine.add(threading.get_ident()), 8, 1)

    share(work, 4, 1)
    assert [len(mine) for mine in workers.values()] == [1] * 4


def test_numpys_settings_hold_in_all_threads() -> None:
    made = np.ones(64, np.float32)

    def work(start: int, stop: int) -> None:
        made[start:stop] /= np.float32(0) * made[start:stop]

    with np.errstate(divide="ignore"):
        share(work, 64, 1)
    assert np.isinf(made).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_shares_work_too() -> None:
    share(lambda start, stop: None, 10, 1)
    child = os.fork()
    if child == 0:
        seen = [0] * 10

        def work(start: int, stop: int) -> None:
            seen[start] += 1

        share(work, 10, 1)
        os._exit(0 if seen == [1] * 10 else 1)
    assert os.waitpid(child, 0)[1] == 0
