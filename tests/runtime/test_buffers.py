"""Pooled memory: aligned, used again once nobody can see it, bounded."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

from taimatsu.runtime import buffers
from taimatsu.runtime.buffers import MIB, BufferPool, class_size, default_limit


@pytest.fixture
def pool():
    return BufferPool(64 * MIB)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float16, np.float32, np.complex128])
@pytest.mark.parametrize("count", [0, 1, 7, 16, 1000, 300_000])
def test_arrays_are_flat_aligned_and_writable(pool, dtype, count):
    arrays = [pool.empty(count, dtype) for _ in range(5)]
    for number, array in enumerate(arrays):
        assert array.shape == (count,)
        assert array.dtype == dtype
        assert address(array) % 64 == 0
        array[:] = number % 2
    for number, array in enumerate(arrays):
        assert (array == number % 2).all(), "no two overlap"


def test_arrays_in_a_shape_are_views_of_flat_ones(pool):
    for shape in ((), (0,), (3, 0), (2, 3, 4)):
        array = pool.array(shape, np.int32)
        assert array.shape == shape
        assert array.flags.c_contiguous
        assert array.flags.writeable
    made = pool.array((4, 5), np.int64)
    part = made[1:]
    in_use = pool.statistics().in_use
    del made, array
    gc.collect()
    assert pool.statistics().in_use >= class_size(160), "a view keeps it"
    del part
    assert pool.statistics().in_use < in_use


def test_class_sizes():
    sizes = [class_size(size) for size in range(1, 200_000)]
    assert all(size <= found for size, found in enumerate(sizes, 1))
    assert all(found % 64 == 0 for found in sizes)
    assert all(found <= 1.25 * size for size, found in enumerate(sizes, 1) if size > 256)
    assert sizes == sorted(sizes)
    assert [class_size(size) for size in (0, 1, 64, 65, 512, 513, 641)] == [
        64, 64, 64, 128, 512, 640, 768,
    ]  # fmt: skip
    assert all(class_size(found) == found for found in set(sizes))


def test_memory_is_used_again_once_no_view_is_left(pool):
    array = pool.empty(1000, np.float32)
    where = address(array)
    view = array.reshape(10, 100).T[3:5].view(np.int32)
    memory = memoryview(array)
    del array
    assert address(pool.empty(1000, np.float32)) != where
    del view
    assert address(pool.empty(1000, np.float32)) != where
    del memory
    # The two in between were dropped at once, so three blocks are free; ours is among them.
    others = [pool.empty(1000, np.float32) for _ in range(3)]
    assert where in map(address, others)


def test_arrays_in_garbage_outlive_the_finalizers_that_use_them(pool):
    seen = []

    class User:
        def __init__(self) -> None:
            self.array = pool.zeros(100)
            self.itself = self

        def __del__(self) -> None:
            other = pool.empty(100)
            other.fill(7)
            seen.append(int(self.array.sum()))

    users = [User() for _ in range(5)]
    users[0].all = users
    del users
    gc.collect()
    assert seen == [0] * 5
    assert pool.statistics().in_use == 0


def test_finalizers_may_come_back_while_the_pool_is_at_work(pool):
    class User:
        def __init__(self) -> None:
            self.array = pool.empty(5000)
            self.itself = self

        def __del__(self) -> None:
            pool.empty(5000).fill(1)
            pool.trim()

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(2000):
            User()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert pool.statistics().in_use == 0


def test_zeros_of_used_memory(pool):
    pool.empty(1000, np.int64).fill(-1)
    assert not pool.zeros(1000, np.int64).any()


def test_statistics(pool):
    first = pool.empty(1024)
    second = pool.empty(3 * MIB)
    del second
    third = pool.empty(3 * MIB)
    found = pool.statistics()
    assert (found.requests, found.reused) == (3, 1)
    assert found.in_use == found.peak == 1024 + 3 * MIB
    assert found.idle == 0
    del first, third
    found = pool.statistics()
    assert (found.in_use, found.idle) == (0, 1024 + 3 * MIB)


def test_what_is_kept_is_bounded_the_oldest_goes_first():
    pool = BufferPool(10 * MIB)
    held = [pool.empty(size * MIB) for size in (4, 5, 3, 2)]
    where = [address(array) for array in held]
    for number in range(4):
        held[number] = None
    found = pool.statistics()
    assert found.idle == 10 * MIB
    assert pool.empty(5 * MIB).size
    assert pool.statistics().reused == 1
    assert address(pool.empty(2 * MIB)) == where[3]


def test_trim(pool):
    small, large = pool.empty(100), pool.empty(8 * MIB)
    del small, large
    assert pool.trim() == 8 * MIB
    assert pool.statistics().idle == class_size(100)
    assert pool.trim() == 0
    held = [pool.empty(2 * MIB) for _ in range(4)]
    del held
    assert pool.trim(keep=5 * MIB) == 4 * MIB


def test_freed_memory_goes_back_to_the_system(pool):
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc")
    array = pool.zeros(48 * MIB)
    full = resident()
    del array
    pool.trim()
    assert resident() < full - 40 * MIB


def test_more_than_there_is(pool):
    kept = pool.empty(4 * MIB)
    del kept
    with pytest.raises(MemoryError, match="cannot allocate"):
        pool.empty(1 << 60)
    assert pool.statistics().idle == 0, "what was kept was given up before"
    assert pool.empty(10).size == 10


def test_threads_share_it(pool):
    wrong = []

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        held = []
        for _ in range(500):
            array = pool.empty(int(random.integers(1, 5000)), np.int64)
            array.fill(number)
            held.append(array)
            if len(held) > 20:
                dropped = held.pop(int(random.integers(20)))
                if (dropped != number).any():
                    wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert pool.statistics().in_use == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_writes_to_its_own_memory(pool):
    small, large = pool.zeros(100), pool.zeros(4 * MIB)
    child = os.fork()
    if child == 0:
        small.fill(1)
        large.fill(1)
        more = pool.empty(100)
        os._exit(0 if address(more) != address(small) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not small.any()
    assert not large.any()


def test_the_package_pool():
    assert buffers.pool.limit == default_limit() > 64 * MIB
