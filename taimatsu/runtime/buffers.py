"""Memory for values: aligned, pooled, handed out as flat NumPy arrays.

A third of the time of a small network's step goes into page faults when each value is mapped and
unmapped; here memory that was used is used again. Sizes are rounded up to classes, multiples of 64
bytes and four to each doubling, and freed blocks wait in their class for the next request, up to a
bound, beyond which those freed longest ago are given back to the system.

A block is free again when the array over it is: views of it (also NumPy's own, in anybody's hands)
keep that array, and so the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taimatsu import forks

ALIGNMENT = 64
LARGE = 1 << 20  # from here on, a mapping for each block
HUGE_PAGE = 2 << 20
SLAB = 1 << 20  # smaller blocks are cut from mappings of this size
MIB = 1 << 20

# Garbage is collected at any moment, also under the lock, and finalizers may come back here: the
# lock lets them, and nothing is half-done where an object is made.
_lock = threading.RLock()


@dataclass(frozen=True)
class BufferStatistics:
    """What a pool has done and holds; sizes in bytes, rounded up to classes."""

    requests: int  # arrays handed out
    reused: int  # of these, from memory that was used before
    in_use: int  # now
    peak: int  # the most that was in use at once
    idle: int  # free, kept for later requests
    limit: int  # the most that is kept


def class_size(size: int) -> int:
    """The size of block that serves a request: the next of 64, 128, 192, 256, 320, ... bytes."""
    step = max(ALIGNMENT, 1 << max((size - 1).bit_length() - 3, 0))
    return max(-(-size // step), 1) * step


class Mapping(mmap.mmap):
    """Memory of a pool: blocks are cut from it, and nothing else sees it."""


class _Block:
    """A piece of memory, of one class's size."""

    __slots__ = ("memory", "offset", "size")

    def __init__(self, memory: Mapping, offset: int, size: int) -> None:
        self.memory = memory
        self.offset = offset
        self.size = size


class _Lease(weakref.ref):
    """Tells when the array over a block goes (arrays are no garbage-collected objects, so that is
    after every finalizer that may still use it)."""

    __slots__ = ("block",)
    block: _Block


class BufferPool:
    """Blocks of memory, handed out and taken back. Safe to use from several threads.

    Args:
        limit: how many bytes of free memory are kept for later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._returned: deque[_Lease] = deque()  # freed, not yet sorted in
        self._give_back = self._returned.append
        self._leases: dict[int, _Lease] = {}  # by id
        self._free: dict[int, list[_Block]] = {}  # by size, the last freed at the end
        # The large ones among them, by id, in the order in which they were freed.
        self._large: OrderedDict[int, _Block] = OrderedDict()
        self._slab: Mapping | None = None
        self._slab_used = 0
        self._requests = self._reused = 0
        self._in_use = self._peak = self._idle = 0

    def empty(self, count: int, dtype: Any = np.uint8) -> np.ndarray:
        """A flat array of ``count`` items at a multiple of 64 bytes, with arbitrary content.

        Raises:
            MemoryError: the system has no more.
        """
        dtype = np.dtype(dtype)
        return self.take(class_size(count * dtype.itemsize), count, dtype)

    def array(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """The same in a shape, row by row."""
        return self.empty(math.prod(shape), dtype).reshape(shape)

    def take(self, size: int, count: int, dtype: np.dtype) -> np.ndarray:
        """The same, of a class's size that is known."""
        with _lock:
            if self._returned:
                self._take_back()
            blocks = self._free.get(size)
            if blocks:
                block = blocks.pop()
                if size >= LARGE:
                    self._large.pop(id(block), None)
                self._idle -= size
                self._reused += 1
            else:
                block = self._make(size)
            self._requests += 1
            self._in_use += size
            if self._in_use > self._peak:
                self._peak = self._in_use
            array = np.frombuffer(block.memory, dtype, count or 1, block.offset)
            lease = _Lease(array, self._give_back)
            lease.block = block
            self._leases[id(lease)] = lease
        return array if count else array[:0]

    def zeros(self, count: int, dtype: Any = np.uint8) -> np.ndarray:
        """The same, filled with zeros."""
        array = self.empty(count, dtype)
        array.fill(0)
        return array

    def trim(self, keep: int = 0) -> int:
        """Gives free memory back to the system until at most ``keep`` bytes are left.

        Small blocks share mappings, and stay. Returns how many bytes were given back.
        """
        with _lock:
            self._take_back()
            before = self._idle
            self._bound(keep)
            return before - self._idle

    def statistics(self) -> BufferStatistics:
        """What was done, and what is held."""
        with _lock:
            self._take_back()
            return BufferStatistics(
                self._requests, self._reused, self._in_use, self._peak, self._idle, self.limit
            )

    # Under the lock.

    def _make(self, size: int) -> _Block:
        if size < LARGE:
            if self._slab is None or self._slab_used + size > SLAB:
                self._slab, self._slab_used = self._map(SLAB), 0
            offset = self._slab_used
            self._slab_used += size
            return _Block(self._slab, offset, size)
        return _Block(self._map(size), 0, size)

    def _map(self, size: int) -> Mapping:
        try:
            return _mapped(size)
        except (OSError, ValueError, OverflowError):
            self._bound(0)
        try:
            return _mapped(size)
        except (OSError, ValueError, OverflowError) as error:
            raise MemoryError(f"[buffers] cannot allocate {size} bytes: {error}") from error

    def _take_back(self) -> None:
        """Sorts in what was freed. Arrays die at any moment, also while this lock is held, so
        their end only appends to ``_returned``."""
        while self._returned:
            lease = self._returned.popleft()
            del self._leases[id(lease)]
            block = lease.block
            self._free.setdefault(block.size, []).append(block)
            self._in_use -= block.size
            self._idle += block.size
            if block.size >= LARGE:
                self._large[id(block)] = block
        if self._idle > self.limit:
            self._bound(self.limit)

    def _bound(self, limit: int) -> None:
        """Drops the large blocks freed longest ago: the last reference unmaps."""
        while self._idle > limit and self._large:
            block = self._large.pop(next(iter(self._large)), None)
            if block is not None and block in self._free[block.size]:
                self._free[block.size].remove(block)
                self._idle -= block.size


def _mapped(size: int) -> Mapping:
    """Fresh memory, private to this process, also after a fork; in huge pages where it is large."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return Mapping(-1, size)
    memory = Mapping(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= 2 * HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        begin = -address % HUGE_PAGE
        length = (size - begin) // HUGE_PAGE * HUGE_PAGE
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE, begin, length)
    return memory


def default_limit() -> int:
    """An eighth of the machine's memory, 1 GiB where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
    except (AttributeError, ValueError, OSError):
        return 1024 * MIB


forks.register(_lock.acquire, _lock.release, _lock.release)

pool = BufferPool(default_limit())
